"""darknetpy as a program of the benchmark; also writes down the network for the peers to build."""
from __future__ import annotations

import json
import os
import time

import numpy as np

from darknetpy.bench.graph import Unsupported, compared, record, write
from darknetpy.bench.place import Place
from darknetpy.builder import load_network
from darknetpy.core import core

_STEPS, _TRIPS = 1_000_000, 1_000       # of multiply-adds, of a word: below and above a millisecond
_PARAMETERS = ("parameter", "statistic")
# As after some training: statistics start at 0, which makes inference overflow, and zeros would hide what a
# peer leaves out.
_RANGES = {"biases": (-.3, .3), "scales": (.5, 1.5), "rolling_mean": (-.3, .3), "rolling_variance": (.5, 1.5)}


def _network(job):
    """Return the network of a job with its numbers."""
    net = load_network(job["cfg"], batch=job["batch"], train=job["train"], lenient=True, device=job["device"],
                       keep_activations=job.get("keep_activations", False))
    _fill(net)
    return net


def _write_weights(job, path):
    _network(job).save_weights(path + ".weights")
    return {}


def _write_onnx(job, path):
    from darknetpy.bench.onnx_file import OnnxFile

    target = OnnxFile(job["batch"])
    names = write(_network(job), target)
    target.save(path + ".onnx", [*names["ends"], *names["compared"]])
    return names


def _write_ncnn(job, path):
    from darknetpy.bench.ncnn_file import NcnnFile

    target = NcnnFile()
    names = write(_network(job), target)
    target.save(path)
    return names


_FILES = {"opencv": _write_weights, "onnxruntime": _write_onnx, "ncnn": _write_ncnn}


class Program:
    """A network of darknetpy with one mini-batch; `step` trains on it, or predicts."""

    def __init__(self, job, workload):
        self.job, lib = job, core.lib
        lib.dn_set_num_threads(job["threads"])
        self.place = None if job["device"] == "cpu" else Place(job["device"])
        if self.place:
            self.wait, self.marks = self.place.wait, self.place.marks
        self.net = _network(job)
        self.images, self.labels, self.truth = workload(job["batch"], self.net.inputs, self.net.truths, _box(self.net))
        self.step = self._train if job["train"] else self._predict

    def facts(self):
        """Return what this program is."""
        facts = {"program": "darknetpy", "threads": core.lib.dn_num_threads(),
                 "simd": core.ffi.string(core.lib.dn_simd_level()).decode(), **(self.place.facts() if self.place else {})}
        precision = self.net.sections.net["precision"]
        return {**facts, "device": f"{facts['device']}, products in {precision}"} if self.place and precision != "fp32" else facts

    def device_bytes(self):
        """Return how much of a GPU's memory the arrays took at most; None of the emulator's."""
        return getattr(self.place.device, "peak_bytes", None)

    def _train(self):
        self.net.train_batch(self.images, self.truth)

    def _predict(self):
        self.net.predict(self.images)

    def processor(self, seconds):
        """Return what the processor can do, the best found.

        Returns
        -------
        dict
            ``peak``: operations per second of multiply-adds in registers; ``trip``: seconds that a word takes
            from one thread to another and back, with several threads.
        """
        peak = _best_rate(core.lib.dn_multiply_adds, _STEPS, seconds)
        trips = _best_rate(core.lib.dn_round_trips, _TRIPS, seconds / 2) if self.job["threads"] > 1 else 0
        return {"peak": peak, "trip": 1 / trips if trips else None}

    # ---- what the peers need
    def export(self, folder, peers=()):
        """Write the network, its numbers, what comes of them, and the files of `peers`; return its facts."""
        net = self.net
        arrays = {f"{i}.{name}": array for i, layer in enumerate(net.layers) for name, array in layer.arrays(*_PARAMETERS).items()}
        arrays = {name: array.copy() for name, array in arrays.items()}
        net.predict(self.images)
        results = compared(net)
        arrays.update({f"{i}.output": net.layers[i].output.copy() for i in results})
        facts = {"batch": net.batch, "inputs": net.inputs, "truths": net.truths, "box": _box(net),
                 "flops": sum(l.flops for l in net.layers), "compared": results, "shape": [net.c, net.h, net.w],
                 "layers": [record(layer) for layer in net.layers]}
        facts.update({name: net.option(name) for name in ("learning_rate", "momentum", "decay")}, precision=net.sections.net["precision"])
        if self.job["train"]:
            facts["loss"] = self._gradients(arrays)
        facts["files"] = {peer: self._file(peer, os.path.join(folder, "network")) for peer in peers}
        np.savez(os.path.join(folder, "arrays.npz"), **arrays)
        with open(os.path.join(folder, "network.json"), "w") as file:
            json.dump(facts, file)
        return facts

    def outputs(self):
        """Return what comes of the network's numbers: on a device, to be compared with the CPU's."""
        net = _network({**self.job, "keep_activations": True})
        net.predict(self.images)
        return [net.layers[i].output for i in self.job["network"]["compared"]]

    def _file(self, peer, path):
        """Write what a peer reads; return the names of its outputs, or why it was not written."""
        try:
            return _FILES[peer](self.job, path) if peer in _FILES else {}
        except (Unsupported, ImportError) as error:
            return {"refused": str(error)}

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
        self._images = self.place.put(self.images) if self.place else core.address(self.images)
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
        """Return a call of one layer's pass, with the network pointing at what the layer before it holds.

        On a device the truth is the copy that the whole pass before has left there.
        """
        lib, net, layer = core.lib, self.net, self.net.layers[index]
        previous = net.layers[index - 1] if index else None
        source = self._images if previous is None else _address(previous, "output")
        sink, adds = core.ffi.NULL if previous is None else _address(previous, "delta"), index - 1 in linked
        truth = core.address(self.truth) if self.job["train"] else core.ffi.NULL
        call, staged = getattr(lib, function), self.place is not None

        def part():
            lib.set_network_input(net._handle, source)
            if not staged:
                lib.set_network_truth(net._handle, truth)
            lib.set_network_delta(net._handle, sink, adds)
            core.check(call(layer._handle, net._handle))
        return part


def _address(layer, name):
    """Return where an array of a layer lies, NULL where it keeps none."""
    return core.ffi.cast("float *", layer._row(name).data) if layer._keeps(name) else core.ffi.NULL


def _best_rate(call, argument, seconds):
    """Return the most of what a call says that it made per second."""
    best, end = 0, time.perf_counter() + seconds
    while not best or time.perf_counter() < end:
        start = time.perf_counter()
        made = call(argument)
        best = max(best, made / (time.perf_counter() - start))
        if not made:
            break
    return best


def _fill(net):
    """Give everything but the weights, which are random already, values as after some training."""
    rng = np.random.default_rng(21)
    for layer in net.layers:
        for name, array in layer.arrays(*_PARAMETERS).items():
            if name in _RANGES:
                array[:] = rng.uniform(*_RANGES[name], array.shape)


def _box(net):
    """Return how many values a box of the truth has, and how many classes; None for a network without [yolo]."""
    heads = [record(layer) for layer in net.layers if layer.type == "yolo"]
    return (net.truths // heads[0]["max"], heads[0]["classes"]) if heads else None


def _sources(layer):
    """Return the indices of earlier layers that a layer reads besides the one before it."""
    return [index for name in ("layers", "from") for index in (layer.spec.values.get(name) or ())]
