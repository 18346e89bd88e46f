"""Debian's Darknet (package darknet: pjreddie's of 2018) as a peer: its library, opened in a process of its own.

A process of its own, because the library prints, ends the process on errors, and was built with -Ofast: opening it changes
how the processor treats denormal numbers.
"""
from __future__ import annotations

import multiprocessing
import os
import re
import subprocess

import numpy as np

HEADER, LIBRARY = "/usr/lib/darknet/include/darknet.h", "/usr/lib/darknet/libdarknet.so"
CFGS = "/usr/share/darknet/cfg"
# Functions that the library exports and its header does not declare (of their family it has normalize_cpu alone).
BATCHNORM_FUNCTIONS = """
void mean_cpu(float *x, int batch, int filters, int spatial, float *mean);
void variance_cpu(float *x, float *mean, int batch, int filters, int spatial, float *variance);
void scale_bias(float *output, float *scales, int batch, int n, int size);
void add_bias(float *output, float *biases, int batch, int n, int size);
void backward_bias(float *bias_updates, float *delta, int batch, int n, int size);
void backward_scale_cpu(float *x_norm, float *delta, int batch, int n, int size, float *scale_updates);
void mean_delta_cpu(float *delta, float *variance, int batch, int filters, int spatial, float *mean_delta);
void variance_delta_cpu(float *x, float *delta, float *mean, float *variance, int batch, int filters, int spatial,
                        float *variance_delta);
void normalize_delta_cpu(float *x, float *mean, float *variance, float *mean_delta, float *variance_delta, int batch,
                         int filters, int spatial, float *delta);
"""
TRUTH_FUNCTIONS = """
void fill_truth_detection(char *path, int num_boxes, float *truth, int classes, int flip, float dx, float dy,
                          float sx, float sy);
void fill_truth_region(char *path, float *truth, int classes, int num_boxes, int flip, float dx, float dy,
                       float sx, float sy);
void place_image(image im, int w, int h, int dx, int dy, image canvas);
"""
MISSING = not os.path.exists(LIBRARY)


class DarknetPeer:
    """Calls Debian's Darknet.  Paths are str; ``weights=None`` means the start values that Darknet draws itself."""

    def __init__(self):
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs,), daemon=True)
        self._process.start()
        theirs.close()

    def alive(self):
        """Whether the other process runs."""
        return self._process.is_alive()

    def close(self):
        self._pipe.close()
        self._process.join(5)

    def outputs(self, cfg, weights, x):
        """Return every layer's output, (rows, outputs) each, for rows of input (rows, inputs)."""
        return self._call("outputs", cfg, weights, x)

    def train(self, cfg, weights, x, truth, save):
        """Train on mini-batches x (steps, batch, inputs), truth (steps, batch, truths); save; return the costs per row."""
        return self._call("train", cfg, weights, x, truth, save)

    def resave(self, cfg, weights, path):
        """Load weights and save them again; return how many images they say they have seen."""
        return self._call("resave", cfg, weights, path)

    def detect(self, cfg, weights, image, thresh, nms):
        """Return what ``detector test`` finds in an image file: rows of class, confidence, x, y, w, h."""
        return self._call("detect", cfg, weights, image, thresh, nms)

    def kernel(self, name, *arguments):
        """Call one function on copies of the arrays; return all arguments as they are afterwards."""
        return self._call("kernel", name, *arguments)

    def placed(self, image, w, h, dx, dy, canvas):
        """Return the canvas (c, h, w) with the image (c, h, w) resized to w x h at (dx, dy)."""
        return self._call("placed", image, w, h, dx, dy, canvas)

    def cropped(self, image, dx, dy, w, h, out_w, out_h):
        """Return the window of w x h pixels from (dx, dy) of an image, resized."""
        return self._call("cropped", image, dx, dy, w, h, out_w, out_h)

    def _call(self, *request):
        self._pipe.send(request)
        try:
            answer = self._pipe.recv()
        except EOFError:
            raise RuntimeError(f"Darknet ended its process in {request[0]}") from None
        if isinstance(answer, Exception):
            raise answer
        return answer


# ---- the other process
def _serve(pipe):
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (1, 2):
        os.dup2(nowhere, stream)
    library = _Library()
    while True:
        try:
            name, *arguments = pipe.recv()
        except EOFError:
            return
        try:
            pipe.send(getattr(library, name)(*arguments))
        except Exception as error:
            pipe.send(RuntimeError(f"{type(error).__name__}: {error}"))


class _Library:
    """libdarknet.so through cffi's ABI mode, declared by its own header."""

    def __init__(self):
        import cffi

        with open(HEADER) as file:
            text = "".join(line for line in file if not re.match(r"\s*#\s*include", line))
        text = subprocess.run(["gcc", "-E", "-P", "-x", "c", "-"], input=text, capture_output=True, text=True, check=True).stdout
        text = text.replace('extern "C" {', "")
        # cffi has no structs by value in the arguments of function pointers: those members become void *.
        text = re.sub(r"void\s*\(\*\s*(\w+)\s*\)\s*\(\s*struct layer[^;]*;", r"void *\1;", text)
        self.ffi = cffi.FFI()
        self.ffi.cdef("typedef struct _IO_FILE FILE; typedef unsigned long pthread_t; typedef long clock_t;"
                      + text + BATCHNORM_FUNCTIONS + TRUTH_FUNCTIONS)
        self.lib = self.ffi.dlopen(LIBRARY)

    def _load(self, cfg, weights):
        return self.lib.load_network(cfg.encode(), weights.encode() if weights else self.ffi.NULL, 0)

    def _view(self, pointer, count):
        return np.frombuffer(self.ffi.buffer(pointer, 4 * count), np.float32)

    def outputs(self, cfg, weights, x):
        net = self._load(cfg, weights)
        self.lib.set_batch_network(net, 1)
        rows = []
        for row in np.ascontiguousarray(x.reshape(-1, net.inputs), np.float32):
            self.lib.network_predict(net, self.ffi.cast("float *", row.ctypes.data))
            rows.append([self._view(net.layers[i].output, net.layers[i].outputs).copy() for i in range(net.n)])
        self.lib.free_network(net)
        return [np.stack(layer) for layer in zip(*rows)]

    def train(self, cfg, weights, x, truth, save):
        net = self._load(cfg, weights)
        costs = []
        for inputs, truths in zip(x, truth):
            self._view(net.input, inputs.size)[:] = inputs.ravel()
            self._view(net.truth, truths.size)[:] = truths.ravel()
            costs.append(self.lib.train_network_datum(net) / net.batch)
        self.lib.save_weights(net, save.encode())
        self.lib.free_network(net)
        return costs

    def resave(self, cfg, weights, path):
        net = self._load(cfg, weights)
        self.lib.save_weights(net, path.encode())
        seen = net.seen[0]
        self.lib.free_network(net)
        return seen

    def detect(self, cfg, weights, image, thresh, nms):
        lib, net = self.lib, self._load(cfg, weights)
        lib.set_batch_network(net, 1)
        picture = lib.load_image_color(image.encode(), 0, 0)
        fitted = lib.letterbox_image(picture, net.w, net.h)
        lib.network_predict(net, fitted.data)
        count = self.ffi.new("int *")
        boxes = lib.get_network_boxes(net, picture.w, picture.h, thresh, .5, self.ffi.NULL, 0, count)
        classes = net.layers[net.n - 1].classes     # box.classes is 0 behind [region]
        if nms:
            lib.do_nms_sort(boxes, count[0], classes, nms)
        rows = [(c, box.prob[c], box.bbox.x, box.bbox.y, box.bbox.w, box.bbox.h) for box in boxes[0:count[0]]
                for c in range(classes) if box.prob[c] > thresh]
        lib.free_network(net)
        return np.array(rows).reshape(-1, 6)

    def kernel(self, name, *arguments):
        pointers = [self.ffi.cast("float *", a.ctypes.data) if isinstance(a, np.ndarray) else a for a in arguments]
        getattr(self.lib, name)(*pointers)
        return arguments

    def _image(self, array):
        c, h, w = array.shape
        return self.ffi.new("image *", (w, h, c, self.ffi.cast("float *", array.ctypes.data)))[0]

    def placed(self, image, w, h, dx, dy, canvas):
        canvas = canvas.copy()
        self.lib.place_image(self._image(image), w, h, dx, dy, self._image(canvas))
        return canvas

    def cropped(self, image, dx, dy, w, h, out_w, out_h):
        window = self.lib.crop_image(self._image(image), dx, dy, w, h)
        sized = self.lib.resize_image(window, out_w, out_h)
        return self._view(sized.data, sized.c * out_h * out_w).reshape(sized.c, out_h, out_w).copy()
