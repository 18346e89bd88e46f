"""darknetpy's kernels and normalizations as a program of the benchmark, through the Python face."""

from __future__ import annotations

from functools import partial

import numpy as np

import darknetpy as dn
from darknetpy.core import core

_COPIED = 1 << 26  # bytes: beyond the cache


class Program:
    """Layers of one shape, and their passes as `calls`."""

    def __init__(self, job, workload):
        self.calls = {}
        lib, ffi = core.lib, core.ffi
        source, target = np.ones(_COPIED, np.uint8), np.ones(_COPIED, np.uint8)
        self._memory = source, target  # alive as long as the calls
        x, y = (ffi.cast("void *", array.ctypes.data) for array in self._memory)
        self.memory = {
            "copy": (2, partial(lib.dn_stream, x, y, _COPIED)),
            "read": (1, partial(lib.dn_stream, x, ffi.NULL, _COPIED)),
            "write": (1, partial(lib.dn_stream, ffi.NULL, y, _COPIED)),
        }

    def facts(self):
        """Return what this program is, and which layers it has."""
        layers = [name[5:-6] for name in dir(dn) if name.startswith("make_") and name.endswith("norm_layer")]
        return {"program": "darknetpy", "layers": layers}

    def set_threads(self, n):
        """Let the kernels use `n` threads; return how many they use."""
        dn.set_num_threads(n)
        return n

    def bandwidth(self, threads, seconds, time_call):
        """Return the bytes per second of streaming copy, read and write."""
        self.set_threads(threads)
        return {
            name: passes * _COPIED / time_call(call, seconds) for name, (passes, call) in self.memory.items()
        }

    def prepare(self, x, delta, named, layers, groups):
        """Make the layers for a shape, run them once; return the forms that can be timed.

        Parameters
        ----------
        x, delta : ndarray of float32, shape (batch, c, h, w)
        named : dict
            Name -> arguments of each of Darknet's functions.
        layers : list of str
        groups : int
            Of group normalization.
        """
        self.calls = {}
        for name in layers:
            layer = self._make(name, x.shape, groups)
            self._add_passes(name, layer, x, delta)
        if "batchnorm" in layers:
            self.calls.update(
                {key: partial(getattr(dn.kernels, key), *given) for key, given in named.items()}
            )
        return list(self.calls)

    def _make(self, name, shape, groups):
        batch, c, h, w = shape
        return getattr(dn, f"make_{name}_layer")(batch, w, h, c, *([groups] if name == "groupnorm" else []))

    def _add_passes(self, name, layer, x, delta):
        forward, backward = (getattr(dn, f"{verb}_{name}_layer") for verb in ("forward", "backward"))
        net = dn.Network(train=True)
        net.input = x
        forward(layer, net)
        layer.delta[:] = delta
        self.calls[f"{name} forward"] = partial(forward, layer, net)
        self.calls[f"{name} backward"] = partial(backward, layer, net)
        if name == "batchnorm":
            other, infer = self._make(name, x.shape, None), dn.Network()
            infer.input = x
            other.rolling_variance[:] = 1
            self.calls["batchnorm inference"] = partial(forward, other, infer)

    # ---- accuracy
    def numbers(self, layer, groups, given, train=True):
        """Return what one layer computes from given arrays: y, dx and the gradients of scales and biases."""
        x, net = given["x"], dn.Network(train=train)
        l, net.input = self._make(layer, x.shape, groups), x
        l.scales, l.biases = given["scales"], given["biases"]
        if not train:
            l.rolling_mean, l.rolling_variance = given["mean"], given["variance"]
        forward, backward = (getattr(dn, f"{verb}_{layer}_layer") for verb in ("forward", "backward"))
        forward(l, net)
        if not train:
            return {"y": l.output}
        l.delta[:] = given["delta"]
        backward(l, net)
        return {
            "y": l.output,
            "dx": net.delta,
            "scale_updates": l.scale_updates,
            "bias_updates": l.bias_updates,
        }
