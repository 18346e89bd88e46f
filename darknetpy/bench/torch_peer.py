"""PyTorch as a program of the benchmark: the network that ``ours.py`` wrote down, built from PyTorch's own modules.

Imports torch and nothing of darknetpy.  Mode "best" is channels_last, a fused optimizer and, for inference, normalization
folded into the convolutions; the caller adds an environment in which glibc keeps freed memory.  On a GPU "best" is
pinned images and cuDNN's own choice by trial instead of channels_last; a step begins with images in the host's memory and ends with the
loss or the outputs there, as darknetpy's.
"""
from __future__ import annotations

from functools import partial

import numpy as np
import torch
from torch import nn
from torch.nn import functional
from torch_device import Marks, describe, mixed, scaler, use_gpu
from torch_yolo import YoloLoss, refused

_INPLACE = {"relu": nn.ReLU, "relu6": nn.ReLU6, "elu": nn.ELU, "selu": nn.SELU, "swish": nn.SiLU, "mish": nn.Mish}
_PLAIN = {"logistic": nn.Sigmoid, "tanh": nn.Tanh, "hardtan": nn.Hardtanh, "gelu": partial(nn.GELU, approximate="tanh")}
_LOSSES = ("softmax", "logistic", "cost")
_UPDATES = {"weights": "weight_updates", "biases": "bias_updates", "scales": "scale_updates"}


class Unsupported(Exception):
    """The network has a part that this peer does not build."""


def _distance(found, exact):
    """Return the norm of the difference of two dicts of arrays, relative to the second."""
    difference = sum(float(np.square(found[name].reshape(exact[name].shape) - exact[name], dtype=np.float64).sum()) for name in exact)
    return (difference / sum(float(np.square(a, dtype=np.float64).sum()) for a in exact.values())) ** .5


# ---- layers
def activation(name):
    """Return the module of an activation's name, or None for linear."""
    if name == "linear":
        return None
    if name == "leaky":
        return nn.LeakyReLU(.1, inplace=True)
    if name in _INPLACE:
        return _INPLACE[name](inplace=True)
    if name not in _PLAIN:
        raise Unsupported(f"activation {name}")
    return _PLAIN[name]()


def _sequence(weighted, norm, l):
    parts = [weighted]
    if l["normalize"] > 1 or l["normalize_after_activation"]:
        raise Unsupported("normalization other than batch normalization before the activation")
    if l["normalize"]:
        parts.append(norm(weighted.weight.shape[0], eps=1e-5, momentum=.01))
    last = activation(l["activation"])
    return nn.Sequential(*parts, *([last] if last else []))


def convolutional(l):
    """Convolution, normalization or bias, activation."""
    left, right, top, bottom = l["sides"]
    if (left, top) != (right, bottom):
        raise Unsupported("a convolution with unlike padding before and behind")
    weighted = nn.Conv2d(l["input"][0], l["filters"], l["size"], (l["stride_y"], l["stride_x"]), (top, left),
                         l["dilation"], l["groups"], bias=not l["normalize"])
    return _sequence(weighted, nn.BatchNorm2d, l)


def connected(l):
    """Matrix, normalization or bias, activation, on flattened images."""
    weighted = nn.Linear(l["inputs"], l["outputs"], bias=not l["normalize"])
    return nn.Sequential(nn.Flatten(), *_sequence(weighted, nn.BatchNorm1d, l))


def maxpool(l):
    """Max pooling with Darknet's padding."""
    left, right, top, bottom = l["sides"]
    alike = (left, top) == (right, bottom)
    pool = nn.MaxPool2d(l["size"], (l["stride_y"], l["stride_x"]), (top, left) if alike else 0)
    return pool if alike else nn.Sequential(nn.ConstantPad2d(l["sides"], -torch.inf), pool)


def upsample(l):
    """Nearest-neighbour upsampling."""
    if l["stride"] < 1 or l["scale"] != 1:
        raise Unsupported(f"upsample with stride {l['stride']} and scale {l['scale']}")
    return nn.Upsample(scale_factor=l["stride"])


class Route(nn.Module):
    """Outputs of earlier layers along the channels, or one group of each."""

    def __init__(self, l):
        super().__init__()
        self.sources, self.groups, self.group = l["layers"], l["groups"], l["group_id"]

    def forward(self, _, *parts):
        chosen = [part.chunk(self.groups, 1)[self.group] if self.groups > 1 else part for part in parts]
        return torch.cat(chosen, 1) if len(chosen) > 1 else chosen[0]


class Shortcut(nn.Module):
    """Sum with outputs of earlier layers; of another shape, what fits of it: every s-th pixel, as many channels as both have."""

    def __init__(self, l, shapes):
        super().__init__()
        self.sources, self.activation = l["from"], activation(l["activation"])
        unlike = [shapes[source] for source in self.sources if shapes[source] != l["output"]]
        _, height, width = l["output"]
        if any(shape[2] % width or shape[1] * width != shape[2] * height for shape in unlike):
            raise Unsupported("shortcut from a smaller map")
        if (unlike and l["prefix"]) or (l["alpha"], l["beta"]) != (1, 1):
            raise Unsupported("shortcut of the first values of a row, or scaled")

    def forward(self, x, *others):
        for other in others:
            stride, more = other.shape[3] // x.shape[3], x.shape[1] - other.shape[1]
            if stride > 1 or more:
                other = functional.pad(other[:, :x.shape[1], ::stride, ::stride], (0, 0, 0, 0, 0, max(more, 0)))
            x = x + other
        return self.activation(x) if self.activation else x


class Yolo(nn.Module):
    """Logistic of positions, objectness and classes of every anchor; sizes, and all that trains, stay as they are."""

    def __init__(self, l):
        super().__init__()
        self.entries, self.scale, self.refused = 5 + l["classes"], l["scale_x_y"], refused(l)
        if l["new_coords"]:
            raise Unsupported("[yolo] with new_coords")

    def forward(self, x):
        if self.training:
            return x
        parts = x.unflatten(1, (-1, self.entries)).split((2, 2, self.entries - 4), 2)
        positions = torch.sigmoid(parts[0]) * self.scale - (self.scale - 1) / 2
        return torch.cat((positions, parts[1], torch.sigmoid(parts[2])), 2).flatten(1, 2)


_MAKERS = {"convolutional": convolutional, "connected": connected, "maxpool": maxpool, "upsample": upsample, "route": Route,
           "avgpool": lambda l: nn.AdaptiveAvgPool2d(1), "dropout": lambda l: nn.Dropout(l["probability"]), "yolo": Yolo,
           "activation": lambda l: activation(l["activation"]) or nn.Identity()}


def _sources(layer):
    """Return the indices of earlier layers that a module reads besides the one before it."""
    return getattr(layer, "sources", ())


class Model(nn.Module):
    """The network without its loss layer: images (batch, c, h, w) -> outputs of some layers, one row each."""

    def __init__(self, layers):
        super().__init__()
        self.loss_layer = layers[-1] if layers[-1]["type"] in _LOSSES else None
        body = layers[:-1] if self.loss_layer else layers
        shapes = [l["output"] for l in body]
        self.layers = nn.ModuleList(self._make(l, shapes) for l in body)
        self.last_reader = {source: i for i, layer in enumerate(self.layers) for source in _sources(layer)}
        heads = [i for i, layer in enumerate(self.layers) if isinstance(layer, Yolo)]
        self.ends = heads or [len(body) - 1]
        _check_loss(self.loss_layer)

    @staticmethod
    def _make(l, shapes):
        if l["type"] == "shortcut":
            return Shortcut(l, shapes)
        if l["type"] not in _MAKERS:
            raise Unsupported(f"[{l['type']}]" + (" before the end" if l["type"] in _LOSSES else ""))
        return _MAKERS[l["type"]](l)

    def forward(self, x, wanted=None):
        """Return the outputs of the layers `wanted`; None: of the heads, or of the last layer."""
        kept, found = {}, {}
        wanted = self.ends if wanted is None else wanted
        for i, layer in enumerate(self.layers):
            x = layer(x, *(kept[source] for source in _sources(layer)))
            for source in _sources(layer):
                if self.last_reader[source] == i:
                    kept.pop(source, None)
            if i in self.last_reader:
                kept[i] = x
            if i in wanted:
                found[i] = x.flatten(1)
        return [found[i] for i in wanted]


# ---- losses, on what the last layer takes in
def _check_loss(l):
    if l is None:
        return
    if l["type"] == "softmax" and (l.get("groups", 1) != 1 or l.get("tree") or l.get("noloss") or l.get("temperature", 1) != 1):
        raise Unsupported("[softmax] with groups, a tree, a temperature or without a loss")
    if l["type"] == "cost" and (l["cost"], l.get("scale", 1)) != ("sse", 1):
        raise Unsupported(f"[cost] type={l['cost']} or with a scale")


def loss_of(kind, x, labels, truth):
    """Return the mean loss per row, whose gradient is Darknet's (of sse, that is half of the sum of squares)."""
    if kind == "softmax":
        return functional.cross_entropy(x, labels)
    if kind == "logistic":
        return functional.binary_cross_entropy_with_logits(x, truth, reduction="sum") / len(x)
    return functional.mse_loss(x, truth, reduction="sum") / (2 * len(x))


def output_of(kind, x):
    """Return what the network's last layer gives."""
    return torch.softmax(x, 1) if kind == "softmax" else torch.sigmoid(x) if kind == "logistic" else x


class Program:
    """The PyTorch model of a job with one mini-batch; `step` trains on it, or predicts."""

    def __init__(self, job, workload):
        torch.set_num_threads(job["threads"])
        self.precision = job["network"]["precision"]
        self.device = use_gpu(job["device"], self.precision)
        if self.device.type == "cuda":
            self.wait, self.marks, torch.backends.cudnn.benchmark = torch.cuda.synchronize, Marks, job["best"]
        self.job, network = job, job["network"]
        self.network = network
        images, labels, truth = workload(network["batch"], network["inputs"], network["truths"], network["box"])
        shape = network["shape"] if network["shape"][1] else [network["inputs"]]
        self.images = torch.from_numpy(images).reshape(len(images), *shape)
        if job["best"] and self.device.type == "cuda":
            self.images = self.images.pin_memory()
        self.labels, self.truth = torch.from_numpy(labels), torch.from_numpy(truth)
        self.model = Model(network["layers"])
        self.kind = self.model.loss_layer["type"] if self.model.loss_layer else None
        self.losses = self._losses() if job["train"] else []
        self._load()
        self._prepare(job["best"])

    def facts(self):
        """Return what this program is."""
        return {"program": describe(self.device, self.precision), "threads": torch.get_num_threads()}

    def device_bytes(self):
        """Return how much of the GPU's memory PyTorch has taken at most."""
        return torch.cuda.max_memory_reserved(self.device)

    def _losses(self):
        """Return the loss of each end of the model, as functions of its output and the truth's type of numbers."""
        if self.kind:
            return [lambda x, dtype: loss_of(self.kind, x, self.labels.to(x.device), self.truth.to(x.device, dtype))]
        found = []
        for i in self.model.ends:
            layer, (_, height, width) = self.network["layers"][i], self.network["shape"]
            reason = self.model.layers[i].refused if isinstance(self.model.layers[i], Yolo) else "no loss at the end"
            if reason:
                raise Unsupported(f"training with {reason}")
            truth = self.truth.reshape(len(self.truth), -1, self.network["box"][0])
            loss = YoloLoss(layer, width, height)
            found.append(lambda z, dtype, loss=loss, truth=truth: loss(z, truth.to(z.device, dtype)))
        return found

    def _total_loss(self, ends, dtype=torch.float32):
        return sum(loss(x, dtype) for loss, x in zip(self.losses, ends))

    # ---- parameters
    def _load(self):
        """Copy the parameters that darknetpy started from."""
        with torch.no_grad():
            for name, tensor in self._parameters():
                tensor.copy_(torch.from_numpy(self.job["arrays"][name]).reshape(tensor.shape))

    def _parameters(self):
        """Yield (name in darknetpy's arrays, tensor) for parameters and moving averages."""
        for i, layer in enumerate(self.model.layers):
            for part in layer if isinstance(layer, nn.Sequential) else ():
                if isinstance(part, (nn.Conv2d, nn.Linear)):
                    yield f"{i}.weights", part.weight
                    if part.bias is not None:
                        yield f"{i}.biases", part.bias
                elif isinstance(part, (nn.BatchNorm1d, nn.BatchNorm2d)):
                    yield from ((f"{i}.scales", part.weight), (f"{i}.biases", part.bias),
                                (f"{i}.rolling_mean", part.running_mean), (f"{i}.rolling_variance", part.running_var))

    def _prepare(self, best):
        if best and self.device.type == "cpu":
            self.model = self.model.to(memory_format=torch.channels_last)
            if self.images.ndim == 4:
                self.images = self.images.contiguous(memory_format=torch.channels_last)
        if not self.job["train"]:
            self.model.eval()
            if best:
                self._fold()
            self.step = self._predict
            return
        self.model.train()
        decayed = [p for name, p in self._parameters() if name.endswith(".weights")]
        others = [p for name, p in self._parameters() if name.endswith((".biases", ".scales"))]
        groups = [{"params": decayed, "weight_decay": self.network["decay"]}, {"params": others, "weight_decay": 0}]
        self.optimizer = torch.optim.SGD(groups, lr=self.network["learning_rate"], momentum=self.network["momentum"],
                                         fused=best or None)
        self.scaler, self.step = scaler(self.device, self.precision), self._train

    def _fold(self):
        """Fold normalization into the convolutions, which only inference can."""
        for i, layer in enumerate(self.model.layers):
            if isinstance(layer, nn.Sequential) and len(layer) > 1 and isinstance(layer[1], nn.BatchNorm2d):
                folded = nn.utils.fusion.fuse_conv_bn_eval(layer[0], layer[1])
                self.model.layers[i] = nn.Sequential(folded, *layer[2:])

    # ---- steps
    def _train(self):
        self.optimizer.zero_grad(set_to_none=True)
        with mixed(self.device, self.precision):
            ends = self.model(self.images.to(self.device))
        loss = self._total_loss([x.float() for x in ends])
        self.scaler.scale(loss).backward()
        self.scaler.step(self.optimizer)
        self.scaler.update()
        loss.item()

    def _predict(self, wanted=None):
        with torch.inference_mode(), mixed(self.device, self.precision):
            return [output_of(self.kind, x.float()).cpu() for x in self.model(self.images.to(self.device), wanted)]

    # ---- the same work?
    def outputs(self):
        """Return the outputs of the layers that programs are compared by; the model has no loss layer."""
        last = len(self.model.layers) - 1
        self.model.eval()
        return [x.numpy() for x in self._predict([min(i, last) for i in self.network["compared"]])]

    def gradients(self):
        """Return how far the gradients lie from float64's.

        Returns
        -------
        dict
            ``gradient`` and ``peer_gradient``: darknetpy's and PyTorch's gradient of all parameters against
            one in float64, as norm of the difference over the norm. In float32 a rounding decides here and
            there which side of a kink or which maximum counts, so neither is near 1e-7.
        """
        arrays = self.job["arrays"]
        names = [name for name in arrays.files if name.endswith("_updates")]
        ours = {name: -arrays[name] / self.network["batch"] for name in names}
        theirs, exact = self._gradients(torch.float32), self._gradients(torch.float64)
        return {"gradient": _distance(ours, exact), "peer_gradient": _distance(theirs, exact)}

    def _gradients(self, dtype):
        """Return name -> gradient of the loss without dropout, worked out in `dtype`."""
        model = self.model.to(dtype).train()
        for module in model.modules():
            if isinstance(module, nn.Dropout):
                module.p = 0.
        model.zero_grad()
        self._total_loss(model(self.images.to(self.device, dtype)), dtype).backward()
        found = {}
        for name, tensor in self._parameters():
            index, _, array = name.partition(".")
            if array in _UPDATES:
                found[f"{index}.{_UPDATES[array]}"] = tensor.grad.numpy(force=True).copy()
        return found

    # ---- layer by layer
    def layers(self, time_parts, rounds):
        """Return the least seconds of every layer's forward and backward pass alone, and of the optimizer's step."""
        train, self.kept = self.job["train"], {}
        self.step()
        forward, backward, x = [], [], self.images.to(self.device)
        for i, layer in enumerate([*self.model.layers, *([self._loss] if self.kind else [])]):
            inputs = [t.detach().clone().requires_grad_(train and i > 0)
                      for t in (x, *(self.kept[source][0] for source in _sources(layer)))]
            x = self._run_layer(i, layer, inputs)
            gradient = torch.randn_like(x) * 1e-3 if x.ndim else torch.ones(())
            forward.append(partial(self._run_layer, i, layer, inputs))
            backward.append(partial(self._run_backward, i, gradient))
        update = [self.optimizer.step] if train else []
        before = partial(self.optimizer.zero_grad, set_to_none=True) if train else lambda: None
        times = time_parts(forward + (backward[::-1] + update if train else []), rounds, before)
        n = len(forward)
        return {"forward": times[:n].tolist(), "backward": times[n:2 * n][::-1].tolist(), "update": times[-1] if train else 0}

    def _loss(self, x):
        x = x.flatten(1).float()
        return self.losses[0](x, x.dtype) if self.job["train"] else output_of(self.kind, x)

    def _run_layer(self, i, layer, inputs):
        with torch.set_grad_enabled(self.job["train"]), mixed(self.device, self.precision):
            output = layer(*inputs)
            if self.job["train"] and isinstance(layer, Yolo):
                output = self.losses[self.model.ends.index(i)](output.flatten(1).float(), torch.float32)
            self.kept[i] = (output, inputs)
        return output

    def _run_backward(self, i, gradient):
        output, inputs = self.kept[i]
        for leaf in inputs:
            if leaf.is_leaf:
                leaf.grad = None
        if output.requires_grad:
            output.backward(gradient, retain_graph=False)
