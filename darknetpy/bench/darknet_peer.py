"""Debian's Darknet (package darknet) as a program of the benchmark: its shared library, opened in process."""
from __future__ import annotations

import re
import subprocess
from functools import partial

import cffi
import numpy as np

HEADER, LIBRARY = "/usr/lib/darknet/include/darknet.h", "/usr/lib/darknet/libdarknet.so"
_FUNCTIONS = """
void forward_batchnorm_layer(layer l, network net);
void backward_batchnorm_layer(layer l, network net);
void mean_cpu(float *x, int batch, int filters, int spatial, float *mean);
void variance_cpu(float *x, float *mean, int batch, int filters, int spatial, float *variance);
void add_bias(float *output, float *biases, int batch, int n, int size);
void scale_bias(float *output, float *scales, int batch, int n, int size);
void backward_bias(float *bias_updates, float *delta, int batch, int n, int size);
void backward_scale_cpu(float *x_norm, float *delta, int batch, int n, int size, float *scale_updates);
void mean_delta_cpu(float *delta, float *variance, int batch, int filters, int spatial, float *mean_delta);
void variance_delta_cpu(float *x, float *delta, float *mean, float *variance, int batch, int filters, int spatial,
                        float *variance_delta);
void normalize_delta_cpu(float *x, float *mean, float *variance, float *mean_delta, float *variance_delta, int batch,
                         int filters, int spatial, float *delta);
"""
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
        self.network = job["network"]
        self.net = self.lib.load_network(job["cfg"].encode(), self.ffi.NULL, 0)
        if (self.net.n, self.net.batch, self.net.inputs) != (len(self.network["layers"]), self.network["batch"],
                                                             self.network["inputs"]):
            raise RuntimeError(f"Darknet made another network: {self.net.n} layers, batch {self.net.batch}, {self.net.inputs} inputs")
        images, _, truth = workload(self.network["batch"], self.network["inputs"], self.network["truths"], self.network["box"])
        self.images = images
        self._copy(self.net.input, images)
        if self.net.truth != self.ffi.NULL:
            self._copy(self.net.truth, truth)
        self._load(job["arrays"])
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

    def outputs(self):
        """Return the outputs of the layers that programs are compared by."""
        self._predict()
        layers = [self.net.layers[i] for i in self.network["compared"]]
        return [np.frombuffer(self.ffi.buffer(l.output, 4 * l.batch * l.outputs), np.float32) for l in layers]


class Kernels:
    """Debian's functions of batch normalization, on a layer and a network made by hand; its passes as `calls`."""

    def __init__(self, job, workload):
        self.ffi, self.calls = cffi.FFI(), {}
        self.ffi.cdef(declarations() + _FUNCTIONS)
        self.lib = self.ffi.dlopen(LIBRARY)

    def facts(self):
        """Return what this program is, and which layers it has."""
        return {"program": "Darknet (Debian)", "layers": ["batchnorm"]}

    def set_threads(self, n):
        """Return the number of threads: the package is built without OpenMP."""
        return 1

    def prepare(self, x, delta, named, layers, groups):
        """Make a layer for a shape; return the forms that can be timed. `named`: arguments of each of Darknet's functions."""
        self.calls, self._arrays = {}, []
        if "batchnorm" in layers:
            self._add_passes(x, delta)
            self._add_kernels(named)
        return list(self.calls)

    def _pointer(self, array):
        """Return an array's address; the array lives as long as the calls."""
        self._arrays.append(array)
        return self.ffi.cast("float *", array.ctypes.data)

    def _add_passes(self, x, delta):
        layer, net = self.ffi.new("layer *"), self.ffi.new("network *")
        layer.type, layer.batch = self.lib.BATCHNORM, x.shape[0]
        layer.c, layer.h, layer.w = layer.out_c, layer.out_h, layer.out_w = x.shape[1:]
        layer.inputs = layer.outputs = x[0].size
        for name in ("output", "x", "x_norm"):
            setattr(layer, name, self._pointer(np.zeros_like(x)))
        for name in ("mean", "variance", "mean_delta", "variance_delta", "rolling_mean", "biases", "bias_updates", "scale_updates"):
            setattr(layer, name, self._pointer(np.zeros(x.shape[1], np.float32)))
        layer.scales, layer.rolling_variance = (self._pointer(np.ones(x.shape[1], np.float32)) for _ in range(2))
        layer.delta, net.delta, net.input = self._pointer(delta.copy()), self._pointer(np.zeros_like(x)), self._pointer(x)
        self.lib.forward_batchnorm_layer(layer[0], net[0])
        training = self.ffi.new("network *", net[0])
        training.train = 1
        forward, backward = self.lib.forward_batchnorm_layer, self.lib.backward_batchnorm_layer
        self.calls["batchnorm forward"] = lambda: forward(layer[0], training[0])
        self.calls["batchnorm backward"] = lambda: backward(layer[0], training[0])
        self.calls["batchnorm inference"] = lambda: forward(layer[0], net[0])

    def _add_kernels(self, named):
        """Add the functions that belong to batch normalization; arrays go as pointers."""
        for name, arguments in named.items():
            arguments = [self._pointer(a) if isinstance(a, np.ndarray) else a for a in arguments]
            self.calls[name] = partial(getattr(self.lib, name), *arguments)
