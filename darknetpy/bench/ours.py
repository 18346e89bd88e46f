"""darknetpy as a program of the benchmark; also writes down the network for the peers to build."""
from __future__ import annotations

import json
import os

import numpy as np

from darknetpy.builder import load_network
from darknetpy.core import blas_version, core

_NUMBERS = ("filters", "groups", "size", "stride", "stride_x", "stride_y", "dilation", "padding", "normalize",
            "normalize_after_activation", "probability", "temperature", "alpha", "beta", "prefix", "scale", "group_id", "noloss",
            "learning_rate", "classes", "scale_x_y", "new_coords")
_LISTS = ("layers", "from", "tree")
_PARAMETERS = ("parameter", "statistic")
# As after some training: statistics start at 0, which makes inference overflow, and zeros would hide what a
# peer leaves out.
_RANGES = {"biases": (-.3, .3), "scales": (.5, 1.5), "rolling_mean": (-.3, .3), "rolling_variance": (.5, 1.5)}


class Program:
    """A network of darknetpy with one mini-batch; `step` trains on it, or predicts."""

    def __init__(self, job, workload):
        self.job, lib = job, core.lib
        lib.dn_set_num_threads(job["threads"])
        self.net = load_network(job["cfg"], batch=job["batch"], train=job["train"], lenient=True)
        self.images, self.labels, self.truth = workload(job["batch"], self.net.inputs, self.net.truths)
        _fill(self.net)
        self.step = self._train if job["train"] else self._predict

    def facts(self):
        """Return what this program is."""
        return {"program": "darknetpy", "threads": core.lib.dn_num_threads(), "blas": blas_version,
                "simd": core.ffi.string(core.lib.dn_simd_level()).decode()}

    def _train(self):
        self.net.train_batch(self.images, self.truth)

    def _predict(self):
        self.net.predict(self.images)

    # ---- what the peers need
    def export(self, folder, weights=False):
        """Write the network, its numbers and what it computes from them into `folder`; return its facts.

        With `weights` also a .weights file, for programs that read one.
        """
        net = self.net
        arrays = {f"{i}.{name}": array for i, layer in enumerate(net.layers) for name, array in layer.arrays(*_PARAMETERS).items()}
        arrays = {name: array.copy() for name, array in arrays.items()}
        net.predict(self.images)
        results = _results(net)
        arrays.update({f"{i}.output": net.layers[i].output.copy() for i in results})
        if weights:
            net.save_weights(os.path.join(folder, "network.weights"))
        facts = {"batch": net.batch, "inputs": net.inputs, "truths": net.truths, "flops": sum(l.flops for l in net.layers),
                 "results": results, "shape": [net.c, net.h, net.w],
                 "layers": [_record(layer) for layer in net.layers]}
        facts.update({name: net.option(name) for name in ("learning_rate", "momentum", "decay")})
        if self.job["train"]:
            facts["loss"] = self._gradients(arrays)
        np.savez(os.path.join(folder, "arrays.npz"), **arrays)
        with open(os.path.join(folder, "network.json"), "w") as file:
            json.dump(facts, file)
        return facts

    def _gradients(self, arrays):
        """Add the gradients of one pass without dropout to `arrays`; return its loss."""
        net, lib = self.net, core.lib
        for layer in net.layers:
            if layer.type == "dropout":
                core.check(lib.set_layer_option(layer._handle, b"probability", 0))
        loss = net.forward(self.images, self.truth, train=True)
        net.backward()
        for i, layer in enumerate(net.layers):
            arrays.update({f"{i}.{name}": array.copy() for name, array in layer.arrays("update").items()})
        return loss

    # ---- layer by layer
    def layers(self, time_parts, rounds):
        """Return the least seconds of every layer's forward and backward call, and of the update."""
        net, train = self.net, self.job["train"]
        self.step()
        order = range(len(net.layers))
        linked = {source for layer in net.layers for source in _sources(layer)}
        forward = [self._part("forward_layer", i, linked) for i in order]
        backward = [self._part("backward_layer", i, linked) for i in reversed(order)] if train else []
        update = [net.update] if train else []
        times = time_parts(forward + backward + update, rounds, self._forward)
        back = times[len(forward):len(forward) + len(backward)][::-1]
        return {"forward": times[:len(forward)].tolist(), "backward": back.tolist(), "update": times[-1] if train else 0}

    def _forward(self):
        """A whole forward pass, after which losses and links know that a backward pass comes."""
        self.net.forward(self.images, self.truth if self.job["train"] else None)

    def _part(self, function, index, linked):
        """Return a call of one layer's pass, with the network pointing at what the layer before it holds."""
        lib, net, layer = core.lib, self.net, self.net.layers[index]
        previous = net.layers[index - 1] if index else None
        source = core.address(self.images if previous is None else previous.output)
        delta = previous._array("delta") if previous is not None else None
        sink, adds = core.address(delta), index - 1 in linked
        truth = core.address(self.truth) if self.job["train"] else core.ffi.NULL
        call = getattr(lib, function)

        def part():
            lib.set_network_input(net._handle, source)
            lib.set_network_truth(net._handle, truth)
            lib.set_network_delta(net._handle, sink, adds)
            core.check(call(layer._handle, net._handle))
        return part


def _fill(net):
    """Give everything but the weights, which are random already, values as after some training."""
    rng = np.random.default_rng(21)
    for layer in net.layers:
        for name, array in layer.arrays(*_PARAMETERS).items():
            if name in _RANGES:
                array[:] = rng.uniform(*_RANGES[name], array.shape)


def _results(net):
    """Return the layers to compare programs by: those before [yolo] heads, else the last with an output."""
    heads = [layer.index for layer in net.layers if layer.type == "yolo"]
    return [head - 1 for head in heads] or [net._output_layer().index]


def _sources(layer):
    """Return the indices of earlier layers that a layer reads besides the one before it."""
    return [index for name in ("layers", "from") for index in (layer.spec.values.get(name) or ())]


def _record(layer):
    """Return a layer's type, shapes and options as a dict for JSON."""
    info, values = layer._info, layer.spec.values
    record = {"type": layer.type, "input": [info.c, info.h, info.w], "inputs": info.inputs, "flops": info.flops,
              "output": [info.out_c, info.out_h, info.out_w], "outputs": info.outputs}
    for name in _NUMBERS:
        value = core.lib.get_layer_option(layer._handle, name.encode())
        if not np.isnan(value):
            record[name] = value if value != int(value) else int(value)
    record.update({name: values[name] for name in _LISTS if values.get(name) is not None})
    if layer.type == "cost":
        record["cost"] = values["type"]
    if "activation" in values:
        record["activation"] = values["activation"]
    return record
