"""A network written down for other programs: its layers as plain dicts, or as calls that write another format."""

from __future__ import annotations

import numpy as np

from darknetpy.core import core

_NUMBERS = (
    "filters", "groups", "size", "stride", "stride_x", "stride_y", "dilation", "padding", "normalize",
    "normalize_after_activation", "probability", "temperature", "alpha", "beta", "prefix", "scale", "group_id",
    "noloss", "learning_rate", "classes", "scale_x_y", "new_coords", "num", "alexeyab", "iou_loss", "yolo_point", "max",
    "ignore_thresh", "truth_thresh", "iou_thresh", "iou_normalizer", "obj_normalizer", "objectness_smooth",
    "focal_loss", "label_smooth_eps",
)  # fmt: skip
_LISTS = ("layers", "from", "tree", "mask", "anchors", "counters_per_class")


class Unsupported(Exception):
    """The network has a part that a format does not have, or that its writer does not write."""


def record(layer):
    """Return a layer's type, shapes and options as a dict for JSON."""
    info, values = layer._info, layer.spec.values
    found = {"type": layer.type, "input": [info.c, info.h, info.w], "inputs": info.inputs, "flops": info.flops,
             "output": [info.out_c, info.out_h, info.out_w], "outputs": info.outputs}  # fmt: skip
    for name in _NUMBERS:
        value = core.lib.get_layer_option(layer._handle, name.encode())
        if not np.isnan(value):
            found[name] = value if value != int(value) else int(value)
    found.update({name: values[name] for name in _LISTS if values.get(name) is not None})
    if layer.type == "cost":
        found["cost"] = values["type"]
    if "activation" in values:
        found["activation"] = values["activation"]
    if layer.type == "maxpool":
        found["sides"] = _sides(found, found["padding"] // 2, found["size"])
    if layer.type == "convolutional":
        reach = (found["size"] - 1) * found["dilation"] + 1
        found["sides"] = _sides(found, found["padding"] * found["dilation"], reach)
    return found


def _sides(l, before, size):
    """Return the padding (left, right, top, bottom): as much behind as before where that gives the output's size."""
    sides = []
    for axis, stride in ((2, l["stride_x"]), (1, l["stride_y"])):
        needed = (l["output"][axis] - 1) * stride + size - before - l["input"][axis]
        sides += [before, before if before - stride < needed <= before else max(needed, 0)]
    return sides


def ends(net):
    """Return the indices of the layers that give a network's results: its [yolo] heads, else the last one."""
    heads = [layer.index for layer in net.layers if layer.type == "yolo"]
    return heads or [net._output_layer().index]


def compared(net):
    """Return the indices of the layers that programs are compared by: what [yolo] heads take in, else the last."""
    return [i - (net.layers[i].type == "yolo") for i in ends(net)]


def write(net, target):
    """Write a network made for inference in another format; batch normalization is folded into its weights.

    Parameters
    ----------
    net : Network
    target : Target

    Returns
    -------
    dict
        Names of the outputs: ``compared`` and ``ends``, as the functions of these names.

    Raises
    ------
    Unsupported
    """
    net.fuse()
    writer = _Writer(net, target)
    x = target.images(net.c, net.h, net.w)
    for layer in net.layers:
        if not hasattr(writer, layer.type):
            raise Unsupported(f"[{layer.type}]")
        x = getattr(writer, layer.type)(record(layer), layer, x)
        writer.names.append(x)
    return {what.__name__: [writer.names[i] for i in what(net)] for what in (compared, ends)}


class Target:
    """What a format derives from; besides `activation` it has the operations that :class:`_Writer` calls.

    They take and return names of arrays; those with weights include the activation.
    """

    activations: dict = {}

    def activated(self, x, name):
        """Return what an activation makes of x."""
        if name == "linear":
            return x
        if name not in self.activations:
            raise Unsupported(f"activation {name}")
        return self.activation(x, name)


class _Writer:
    """A method per type of layer, which takes its record, the layer and its input's name; `names` are the outputs'."""

    def __init__(self, net, target):
        self.net, self.target, self.names = net, target, []

    def _weighted(self, operation, l, layer, x):
        if l["normalize"]:
            raise Unsupported("normalization that cannot be folded")
        return operation(x, l, layer.weights, layer.biases)

    def convolutional(self, l, layer, x):
        left, right, top, bottom = l["sides"]
        if (left, top) != (right, bottom):
            raise Unsupported("a convolution with unlike padding before and behind")
        return self._weighted(self.target.convolution, l, layer, x)

    def connected(self, l, layer, x):
        return self._weighted(self.target.product, l, layer, self.target.flat(x))

    def maxpool(self, l, layer, x):
        return self.target.maximum(x, l["size"], (l["stride_x"], l["stride_y"]), l["sides"])

    def avgpool(self, l, layer, x):
        return self.target.average(x)

    def upsample(self, l, layer, x):
        if l["stride"] < 1 or l["scale"] != 1:
            raise Unsupported(f"upsample with stride {l['stride']} and scale {l['scale']}")
        return self.target.nearest(x, l["stride"])

    def route(self, l, layer, x):
        parts = [self.names[i] for i in l["layers"]]
        if l["groups"] > 1:
            widths = [self.net.layers[i].out_c // l["groups"] for i in l["layers"]]
            parts = [self.target.part(*pair, l["groups"], l["group_id"]) for pair in zip(parts, widths)]
        return self.target.concatenated(parts) if len(parts) > 1 else parts[0]

    def shortcut(self, l, layer, x):
        sources = [self.net.layers[i] for i in (layer.index - 1, *l["from"])]
        shapes = {(source.out_c, source.out_h, source.out_w) for source in sources}
        if len(shapes) > 1 or (l["alpha"], l["beta"]) != (1, 1):
            raise Unsupported("shortcut of unlike shapes, or scaled")
        for i in l["from"]:
            x = self.target.sum(x, self.names[i])
        return self.target.activated(x, l["activation"])

    def activation(self, l, layer, x):
        return self.target.activated(x, l["activation"])

    def dropout(self, l, layer, x):
        return x

    cost = dropout

    def softmax(self, l, layer, x):
        if l.get("groups", 1) != 1 or l.get("tree") or l.get("temperature", 1) != 1:
            raise Unsupported("[softmax] with groups, a tree or a temperature")
        return self.target.softmax(self.target.flat(x))

    def logistic(self, l, layer, x):
        return self.target.activated(x, "logistic")

    def yolo(self, l, layer, x):
        if l["new_coords"]:
            raise Unsupported("[yolo] with new_coords")
        return self.logistic(l, layer, x)   # of all values: those of the sizes are too few to leave out
