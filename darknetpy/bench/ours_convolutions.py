"""darknetpy's convolutions as a program of the benchmark, by the kernels themselves."""

from __future__ import annotations

from functools import partial

import numpy as np

import darknetpy as dn
from darknetpy.builder import CONVOLUTIONS
from darknetpy.core import core


class Program:
    """The three passes of one convolution as `calls`."""

    def __init__(self, job, workload):
        self.calls = {}
        self.threads, self.convolution = job["threads"], job.get("convolution", "auto")

    def facts(self):
        """Return what this program is."""
        return {"program": f"darknetpy, convolution={self.convolution}"}

    def set_threads(self, n):
        """Let the kernels use `n` threads."""
        dn.set_num_threads(n)

    def make(self, batch, c, h, w, n, size, stride, groups, dilation):
        """Make the arrays of a convolution and run its passes once; return its forms and its results' norms."""
        lib, ffi = core.lib, core.ffi
        out = -(-h // stride), -(-w // stride)
        s = ffi.new(
            "conv_shape *", dict(batch=batch, c=c, h=h, w=w, n=n, groups=groups, size=size, stride_x=stride)
        )
        s.stride_y, s.dilation, s.pad, s.out_h, s.out_w = stride, dilation, size // 2 * dilation, *out
        s.algorithm = CONVOLUTIONS[self.convolution]
        rng = np.random.default_rng(20)
        x, weights, dy = (
            rng.random(shape, np.float32) - 0.5
            for shape in ((batch, c, h, w), (n, c // groups, size, size), (batch, n, *out))
        )
        y, dx, dw = np.empty_like(dy), np.empty_like(x), np.zeros_like(weights)
        work = np.empty(lib.convolution_workspace(s, self.threads), np.float32)
        self._keep = s, x, weights, dy, y, dx, dw, work
        px, pw, pdy, py, pdx, pdw, space = (ffi.cast("float *", a.ctypes.data) for a in self._keep[1:])
        if h == w == size == groups == 1:  # as in [connected]
            self.calls = {
                "forward": partial(lib.gemm, 0, 1, batch, n, c, 1, px, c, pw, c, 0, py, n),
                "data": partial(lib.gemm, 0, 0, batch, c, n, 1, pdy, n, pw, c, 0, pdx, c),
                "weights": partial(lib.gemm, 1, 0, n, c, batch, 1, pdy, n, px, c, 1, pdw, c),
            }
        else:
            self.calls = {
                "forward": partial(lib.convolution_forward_cpu, s, px, pw, ffi.NULL, py, space),
                "data": partial(lib.convolution_backward_data_cpu, s, pdy, pw, 0, pdx, space),
                "weights": partial(lib.convolution_backward_weights_cpu, s, px, pdy, pdw, space),
            }
        for call in self.calls.values():
            call()
        norms = [float(np.linalg.norm(a.ravel().astype(float))) for a in (y, dx, dw)]
        return {"forms": [""], "norms": dict(zip(self.calls, norms))}
