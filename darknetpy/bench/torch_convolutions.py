"""PyTorch's convolutions as a program of the benchmark: what is beneath its modules, without autograd.

Imports torch and nothing of darknetpy. The caller may add an environment in which glibc keeps freed memory.
"""

from __future__ import annotations

import numpy as np
import torch

aten = torch.ops.aten
FORMS = {", NCHW": torch.contiguous_format, ", channels_last": torch.channels_last}


class Program:
    """The three passes of one convolution as `calls`, in both memory formats."""

    def __init__(self, job, workload):
        torch.set_grad_enabled(False)
        self.calls = {}

    def facts(self):
        """Return what this program is."""
        return {"program": f"PyTorch {torch.__version__}"}

    def set_threads(self, n):
        """Let PyTorch use `n` threads."""
        torch.set_num_threads(n)

    def make(self, batch, c, h, w, n, size, stride, groups, dilation):
        """Make the arrays of a convolution and run its passes once; return its forms and its results' norms."""
        out = -(-h // stride), -(-w // stride)
        rng = np.random.default_rng(20)
        arrays = [
            torch.from_numpy(rng.random(shape, np.float32) - 0.5)
            for shape in ((batch, c, h, w), (n, c // groups, size, size), (batch, n, *out))
        ]
        how = [stride] * 2, [size // 2 * dilation] * 2, [dilation] * 2, False, [0, 0], groups
        self.calls = {}
        connected = h == w == size == groups == 1
        for form, memory in ({} if connected else FORMS).items():
            self._add(form, [a.contiguous(memory_format=memory) for a in arrays], how)
        if connected:
            self._connect(*(a.flatten(1) for a in arrays))
        first = next(iter(self.calls)).removeprefix("forward")
        results = {name: self.calls[name + first]() for name in ("forward", "data", "weights")}
        norms = {name: float(torch.linalg.vector_norm(a.double())) for name, a in results.items()}
        return {"forms": [name.removeprefix("forward") for name in self.calls if name.startswith("forward")], "norms": norms}

    def _connect(self, x, weights, dy):
        """Make the calls those of a connected layer."""
        self.calls = {
            "forward": lambda: aten.mm(x, weights.t()),
            "data": lambda: aten.mm(dy, weights),
            "weights": lambda: aten.mm(dy.t(), x),
        }

    def _add(self, form, arrays, how):
        x, weights, dy = arrays
        self.calls["forward" + form] = lambda: aten.convolution(x, weights, None, *how)
        for i, name in enumerate(("data", "weights")):
            mask = [i == 0, i == 1, False]
            self.calls[name + form] = lambda i=i, mask=mask: aten.convolution_backward(
                dy, x, weights, None, *how, mask
            )[i]
