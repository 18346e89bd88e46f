"""PyTorch's normalizations as a program of the benchmark: what is beneath its modules, without autograd.

Imports torch and nothing of darknetpy; runs on a GPU where the job names one.
The caller may add an environment in which glibc keeps freed memory.
"""

from __future__ import annotations

import torch
from torch_device import describe, use_gpu

_CHANNELS = (0, 2, 3)
_EPSILON, _MOMENTUM = 1e-5, 0.01
aten = torch.ops.aten


class BatchNorm:
    """Batch normalization with the arrays of one layer, on PyTorch's default device as all here."""

    def __init__(self, shape, groups):
        self.scales, self.biases = torch.ones(shape[1]), torch.zeros(shape[1])
        self.mean, self.variance = torch.zeros(shape[1]), torch.ones(shape[1])

    def forward(self, x, train=True):
        y, *self.saved = torch.native_batch_norm(
            x, self.scales, self.biases, self.mean, self.variance, train, _MOMENTUM, _EPSILON
        )
        return y

    def backward(self, x, delta):
        return aten.native_batch_norm_backward(
            delta, x, self.scales, self.mean, self.variance, *self.saved, True, _EPSILON, [True] * 3
        )


class ChosenBatchNorm(BatchNorm):
    """The same as PyTorch's modules have it: by cuDNN, where that is there and takes the shape."""

    def forward(self, x, train=True):
        y, *self.saved, self.reserve, self.choice = aten._batch_norm_impl_index(
            x, self.scales, self.biases, self.mean, self.variance, train, _MOMENTUM, _EPSILON, True
        )
        return y

    def backward(self, x, delta):
        moving, wanted = (self.mean, self.variance), [True] * 3
        return aten._batch_norm_impl_index_backward(
            self.choice, x, delta, self.scales, *moving, *self.saved, True, _EPSILON, wanted, self.reserve
        )


class GroupNorm:
    """Group normalization; its scales and biases are per channel, as darknetpy's."""

    def __init__(self, shape, groups):
        self.scales, self.biases = torch.ones(shape[1]), torch.zeros(shape[1])
        self.sizes = shape[0], shape[1], shape[2] * shape[3], groups

    def forward(self, x):
        y, *self.saved = torch.native_group_norm(x, self.scales, self.biases, *self.sizes, _EPSILON)
        return y

    def backward(self, x, delta):
        return aten.native_group_norm_backward(delta, x, *self.saved, self.scales, *self.sizes, [True] * 3)


class LayerNorm:
    """Layer normalization over (c, h, w); PyTorch's scales and biases are per value, not per channel."""

    def __init__(self, shape, groups):
        self.shape = list(shape[1:])
        self.scales, self.biases = torch.ones(self.shape), torch.zeros(self.shape)

    def forward(self, x):
        y, *self.saved = torch.native_layer_norm(x, self.shape, self.scales, self.biases, _EPSILON)
        return y

    def backward(self, x, delta):
        arguments = self.shape, *self.saved, self.scales, self.biases, [True] * 3
        return aten.native_layer_norm_backward(delta, x, *arguments)


_LAYERS = {"batchnorm": BatchNorm, "groupnorm": GroupNorm, "layernorm": LayerNorm}


class Program:
    """Layers of one shape, and their passes as `calls`; on a GPU a call begins its work and returns."""

    def __init__(self, job, workload):
        torch.set_grad_enabled(False)
        self.calls, self.layers = {}, _LAYERS
        self.device = use_gpu(job["device"])
        if self.device.type == "cuda":
            self.wait, self.layers = torch.cuda.synchronize, {**_LAYERS, "batchnorm": ChosenBatchNorm}

    def facts(self):
        """Return what this program is, and which layers it has."""
        return {"program": describe(self.device), "layers": list(self.layers)}

    def set_threads(self, n):
        """Let PyTorch use `n` threads; return how many it uses."""
        torch.set_num_threads(n)
        return n

    def prepare(self, x, delta, named, layers, groups):
        """Make the layers for a shape, run them once; return the forms that can be timed."""
        self.calls = {}
        x, delta = (torch.from_numpy(array).to(self.device) for array in (x, delta))
        for name in layers:
            self._add_passes(name, self.layers[name], x, delta, groups)
        if "batchnorm" in layers:
            self._add_kernels(x, delta)
        return list(self.calls)

    def _add_passes(self, name, kind, x, delta, groups):
        layer = kind(x.shape, groups)
        layer.forward(x)
        self.calls[f"{name} forward"] = lambda: layer.forward(x)
        self.calls[f"{name} backward"] = lambda: layer.backward(x, delta)
        if name == "batchnorm":
            other = kind(x.shape, groups)
            self.calls["batchnorm inference"] = lambda: other.forward(x, train=False)

    def _add_kernels(self, x, delta):
        """Add what a user writes for Darknet's functions; in place where those are."""
        zeros, ones, sums = torch.zeros(x.shape[1]), torch.ones(x.shape[1]), torch.zeros(x.shape[1])
        mean, constant, slope = (zeros.view(1, -1, 1, 1) for _ in range(3))
        inverse, work = ones.view(1, -1, 1, 1), delta.clone()
        self.calls.update(
            {
                "mean_cpu": lambda: x.mean(_CHANNELS),
                "variance_cpu": lambda: x.var(_CHANNELS),
                "normalize_cpu": lambda: work.sub_(mean).mul_(inverse),
                "scale_bias": lambda: work.mul_(inverse),
                "add_bias": lambda: work.add_(constant),
                "backward_bias": lambda: sums.add_(delta.sum(_CHANNELS)),
                "backward_scale_cpu": lambda: sums.add_((x * delta).sum(_CHANNELS)),
                "mean_delta_cpu": lambda: delta.sum(_CHANNELS).mul_(ones),
                "variance_delta_cpu": lambda: ((x - mean) * delta).sum(_CHANNELS).mul_(ones),
                "normalize_delta_cpu": lambda: work.mul_(inverse).add_((x - mean) * slope).add_(constant),
            }
        )

    # ---- accuracy
    def numbers(self, layer, groups, given, train=True):
        """Return what one layer computes from given arrays: y, dx and the gradients of scales and biases."""
        given = {name: torch.from_numpy(array).to(self.device) for name, array in given.items()}
        x = given["x"]
        l = self.layers[layer](x.shape, groups)
        for name in ("scales", "biases"):
            getattr(l, name)[...] = given[name].view(-1, 1, 1) if layer == "layernorm" else given[name]
        if not train:
            l.mean, l.variance = given["mean"], given["variance"]
            return {"y": l.forward(x, train=False).numpy(force=True)}
        y = l.forward(x)
        dx, *updates = (tensor.numpy(force=True) for tensor in l.backward(x, given["delta"]))
        names = ("scale_updates", "bias_updates") if layer != "layernorm" else ()  # there they are per value
        return {"y": y.numpy(force=True), "dx": dx, **dict(zip(names, updates))}
