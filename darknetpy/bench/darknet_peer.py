"""Debian's Darknet (package darknet) as a program of the benchmark: its shared library, opened in process."""
from __future__ import annotations

import json
import os
import re
import subprocess

import cffi
import numpy as np

HEADER, LIBRARY = "/usr/lib/darknet/include/darknet.h", "/usr/lib/darknet/libdarknet.so"
_ARRAYS = ("biases", "scales", "rolling_mean", "rolling_variance", "weights")


def declarations():
    """Return the library's header as cffi's ABI mode takes it."""
    with open(HEADER) as file:
        text = "".join(line for line in file if not re.match(r"\s*#\s*include", line))
    text = subprocess.run(["gcc", "-E", "-P", "-x", "c", "-"], input=text, capture_output=True, text=True, check=True).stdout
    text = text.replace('extern "C" {', "")
    # Functions that take a recursive struct by value are beyond ABI mode; nobody here calls those members.
    text = re.sub(r"void\s*\(\*\s*(\w+)\s*\)\s*\(\s*struct layer[^;]*;", r"void *\1;", text)
    return "typedef struct _IO_FILE FILE; typedef unsigned long pthread_t; typedef long clock_t;" + text


class Program:
    """A network of Darknet's with one mini-batch; `step` trains on it, or predicts."""

    def __init__(self, job, workload):
        self.ffi = cffi.FFI()
        self.ffi.cdef(declarations())
        self.lib = self.ffi.dlopen(LIBRARY)
        self.job = job
        with open(os.path.join(job["folder"], "network.json")) as file:
            self.network = json.load(file)
        self.net = self.lib.load_network(job["cfg"].encode(), self.ffi.NULL, 0)
        if (self.net.n, self.net.batch, self.net.inputs) != (len(self.network["layers"]), self.network["batch"],
                                                             self.network["inputs"]):
            raise RuntimeError(f"Darknet made another network: {self.net.n} layers, batch {self.net.batch}, {self.net.inputs} inputs")
        images, _, truth = workload(self.network["batch"], self.network["inputs"], self.network["truths"])
        self.images = images
        self._copy(self.net.input, images)
        if self.net.truth != self.ffi.NULL:
            self._copy(self.net.truth, truth)
        with np.load(os.path.join(job["folder"], "arrays.npz")) as arrays:
            self._load(arrays)
            self.expected = arrays["output"]
        self.step = self._train if job["train"] else self._predict

    def facts(self):
        """Return what this program is; the package is built without OpenMP."""
        return {"program": "Darknet (Debian)", "threads": 1}

    def _copy(self, target, array):
        array = np.ascontiguousarray(array, np.float32)
        self.ffi.memmove(target, self.ffi.from_buffer(array), array.nbytes)

    def _load(self, arrays):
        for i in range(self.net.n):
            for name in _ARRAYS:
                target = getattr(self.net.layers[i], name)
                if f"{i}.{name}" in arrays and target != self.ffi.NULL:
                    self._copy(target, arrays[f"{i}.{name}"])

    def _train(self):
        self.lib.train_network_datum(self.net)

    def _predict(self):
        return self.lib.network_predict(self.net, self.ffi.cast("float *", self.images.ctypes.data))

    def check(self):
        """Return the largest difference of the outputs."""
        found = self._predict()
        values = np.frombuffer(self.ffi.buffer(found, 4 * self.expected.size), np.float32)
        return {"output": float(np.abs(values - self.expected.ravel()).max())}
