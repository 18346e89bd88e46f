"""darknetpy's CUDA kernels and normalizations as a program of the benchmark, on arrays in a device's memory."""

from __future__ import annotations

import os
import tempfile
from functools import partial

import numpy as np

from darknetpy.bench.forms import LAYERS, TWINS
from darknetpy.bench.place import Place
from darknetpy.builder import load_network
from darknetpy.core import core

_COPIED = 1 << 30  # bytes: beyond any GPU's cache, and long beside the wait for it
_COPIED_BY_EMULATOR = 1 << 26


class Program:
    """Networks of one layer, their passes and the functions of Darknet as `calls`; a call begins its work and returns."""

    def __init__(self, job, workload):
        self.place, self.calls, self._nets = Place(job["device"]), {}, []
        self.wait = self.place.wait
        free = self.place.device.free_bytes()
        self._copied = _COPIED_BY_EMULATOR if free is None else min(_COPIED, free // 8 // 256 * 256)

    def facts(self):
        """Return what this program is, which layers it has, and on what it runs."""
        return {"program": "darknetpy", "layers": LAYERS, **self.place.facts()}

    def bandwidth(self, threads, seconds, time_call):
        """Return the bytes per second of a copy by the driver, read and written."""
        x, y = (self.place.take(self._copied // 4) for _ in range(2))
        try:
            took = time_call(partial(self.place.lib.dn_gpu_push, y, x, self._copied), seconds)
        finally:
            self.place.release(2)
        return {"copy": 2 * self._copied / took}

    def prepare(self, x, delta, named, layers, groups):
        """Make the layers for a shape, run them once; return the forms that can be timed.

        Parameters
        ----------
        x, delta : ndarray of float32, shape (batch, c, h, w)
        named : dict
            Name of the CPU's function -> arguments of each of Darknet's functions.
        layers : list of str
        groups : int
            Of group normalization.
        """
        self.calls, self._nets = {}, []
        self.place.release()
        at = {id(x): self.place.put(x), id(delta): self.place.put(delta)}
        dx = self.place.take(x.size)
        for name in layers:
            self._add_passes(name, x.shape, groups, at[id(x)], delta, dx)
        for form, twin in TWINS.items() if "batchnorm" in layers else ():
            arrays = [argument for argument in named[twin] if isinstance(argument, np.ndarray)]
            at.update({id(array): self.place.put(array) for array in arrays if id(array) not in at})
            given = [at.get(id(argument), argument) for argument in named[twin]]
            self.calls[form] = partial(getattr(self.place.lib, form), *given)
        for call in self.calls.values():
            call()
        self.wait()
        return list(self.calls)

    def _network(self, name, shape, groups, train):
        """Return a network of one layer on the device."""
        batch, c, h, w = shape
        lines = f"[net]\nbatch={batch}\nheight={h}\nwidth={w}\nchannels={c}\n[{name}]\n"
        if name == "groupnorm":
            lines += f"groups={groups}\n"
        with tempfile.TemporaryDirectory(prefix="darknetpy-bench-") as folder:
            path = os.path.join(folder, "one.cfg")
            with open(path, "w") as file:
                file.write(lines)
            return load_network(path, batch=batch, train=train, device=self.place.device.name)

    def _add_passes(self, name, shape, groups, x, delta, dx):
        net = self._network(name, shape, groups, True)
        net[0].delta = delta
        self.calls[f"{name} forward"] = _pass(core.lib.forward_layer, net, x)
        self.calls[f"{name} backward"] = _pass(core.lib.backward_layer, net, x, dx)
        self._nets.append(net)
        if name == "batchnorm":
            infer = self._network(name, shape, groups, False)
            infer[0].rolling_variance[...] = 1
            self.calls["batchnorm inference"] = _pass(core.lib.forward_layer, infer, x)
            self._nets.append(infer)

    # ---- accuracy
    def numbers(self, layer, groups, given, train=True):
        """Return what one layer computes from given arrays: y, dx and the gradients of scales and biases."""
        net = self._network(layer, given["x"].shape, groups, train)
        l = net[0]
        l.scales, l.biases = given["scales"], given["biases"]
        if not train:
            l.rolling_mean, l.rolling_variance = given["mean"], given["variance"]
        net.forward(given["x"], train=train)
        if not train:
            return {"y": l.output}
        found = {"y": np.array(l.output)}
        l.delta = given["delta"]
        net.backward()
        return {**found, "dx": net.delta, "scale_updates": l.scale_updates, "bias_updates": l.bias_updates}


def _pass(function, net, x, dx=None):
    """Return a call of one pass of a network's only layer, on arrays of the device."""
    lib, handle, layer = core.lib, net._handle, net[0]._handle
    sink = core.ffi.NULL if dx is None else dx

    def run():
        lib.set_network_input(handle, x)
        lib.set_network_delta(handle, sink, 0)
        core.check(function(layer, handle))

    return run
