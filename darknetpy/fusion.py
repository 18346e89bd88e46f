"""Folding batch normalization into the weights before it: the same outputs, less to compute and to store.

In inference batch normalization is y = s x + t per channel, with s = scale / sqrt(variance + epsilon) and
t = bias - mean s.  Behind weighted sums it disappears: weights become s weights, the bias becomes s bias + t.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Optional

import numpy as np

from darknetpy.errors import ArgumentError

if TYPE_CHECKING:
    from darknetpy.layer import Layer
    from darknetpy.network import Network

_EPSILON = 1e-5  # BN_EPSILON of csrc/scalar.h
WEIGHTED = ("convolutional", "deconvolutional", "connected")
# Keys that name layers.
_LINKS = {"route": "layers", "shortcut": "from", "scale_channels": "from", "sam": "from",
          "contrastive": "yolo_layer"}
_FILE_SWITCHES = {"dontload": False, "dontloadscales": False, "dontsave": False, "numload": 0}


def fuse(net: Network) -> Network:
    """Fold batch normalization into weights, in place; see :meth:`darknetpy.Network.fuse`."""
    if net._built_for_training:
        raise ArgumentError(
            "a network made for training cannot be fused: training needs the normalization; load it with "
            "train=False"
        )
    for layer in net.layers:
        for part in weighted_parts(layer):
            if part.option("normalize"):
                _fold_own(net, part, layer)
    index = 0
    while index < len(net.layers):
        reason = _why_it_stays(net, index)
        if reason is None:
            _fold_next(net, index)
            continue
        if reason:
            net.notes.append(
                f"layer {index} [{net.layers[index].type}] keeps its batch normalization: {reason}"
            )
        index += 1
    for layer in net.layers:  # they were about the file that was read; the one to come holds every array
        layer.cfg_options.update(
            {key: value for key, value in _FILE_SWITCHES.items() if key in layer.cfg_options}
        )
    return net


def weighted_parts(layer):
    """The layers of weighted sums that a layer is made of: itself, the parts of a recurrent one, or none."""
    return [part for part in layer.parts.values() or (layer,) if part.type in WEIGHTED]


def scale_and_shift(layer):
    """What inference does to each channel, in float64."""
    values = {
        name: array.astype(float)
        for name, array in layer.arrays("parameter", "statistic").items()
        if name != "weights"
    }
    variance = values["rolling_variance"]
    pjreddie = layer.option("batchnorm_mode") == layer._core.lib.BATCHNORM_PJREDDIE
    deviation = np.sqrt(variance) + 1e-6 if pjreddie else np.sqrt(variance + _EPSILON)
    scale = values["scales"] / deviation
    return scale, values["biases"] - values["rolling_mean"] * scale


def multiply(layer, scale, bias):
    """Multiply the weights of each output channel, and set its bias."""
    shape = [1] * layer.weights.ndim
    shape[layer.type == "deconvolutional"] = -1     # its first axis is the input's channels
    layer.weights[...] = layer.weights * scale.reshape(shape)
    layer.biases[...] = bias


def _fold_own(net, layer, owner):
    """Fold the normalization that a convolutional or connected layer contains, or note why it stays.

    `owner`: the layer itself, or the recurrent one that it is a part of.
    """
    kind = layer.cfg_options["normalize"]
    if layer.option("normalize") != layer._core.lib.NORMALIZE_BATCH or layer.option("normalize_after_activation"):
        reason = (
            "it comes after the activation" if kind == "batch" else "its statistics are each sample's own"
        )
        note = f"layer {owner.index} [{owner.type}] keeps normalize={kind}: {reason}"
        if note not in net.notes:
            net.notes.append(note)
        return
    if layer._lender is None:  # else the layer whose weights it shares has been folded before
        scale, shift = scale_and_shift(layer)
        multiply(layer, scale, shift)
    layer._set_options({"normalize": 0})
    layer.cfg_options.update(batch_normalize=False, normalize="none", statistics=None, rolling_momentum=None)
    layer._list_arrays()


def _why_it_stays(net: Network, index: int) -> Optional[str]:
    """Return why layer `index` is not folded into the one before; "": no [batchnorm]; None: it can be."""
    layer, before = net.layers[index], net.layers[index - 1]
    if layer.type != "batchnorm":
        return ""
    if index == 0:
        return "it is the first layer"
    if before.type not in WEIGHTED:
        return f"layer {index - 1} before it is [{before.type}], which has no weights to take it"
    if before.type == "convolutional" and (before.option("antialiasing") or before.option("coordconv")):
        return f"layer {index - 1} before it has antialiasing or coordconv in between"
    if before.option("normalize"):
        return f"layer {index - 1} before it normalizes in between"
    activation = before.cfg_options["activation"]
    if activation != "linear":
        return f"layer {index - 1} before it has activation={activation} in between"
    if before._lender is not None or any(other._lender is before for other in net.layers):
        return f"layer {index - 1} before it shares its weights"
    readers = [
        other.index for other in net.layers if index - 1 in (other.cfg_options.get(_LINKS.get(other.type)) or ())
    ]
    if readers:
        return f"layer {readers[0]} reads the output of layer {index - 1} without it"
    if layer.option("truth") or before.option("truth"):
        return "its input or output is the truth of later layers"
    return None


def _fold_next(net, index):
    """Fold a [batchnorm] into the layer before it, and take it out of the network."""
    layer, before = net.layers[index], net.layers[index - 1]
    scale, shift = scale_and_shift(layer)
    multiply(before, scale, before.biases * scale + shift)
    net._core.check(net._core.lib.remove_layer(net._handle, index))
    net.layers.remove(layer)
    for other in net.layers:
        _renumber(other, index)


def _renumber(layer: Layer, removed: int) -> None:
    """Let a layer's options follow when the layer `removed` has gone, as the core's links have: its readers read the one before."""
    key = _LINKS.get(layer.type)
    if key is not None and layer.cfg_options[key] is not None:
        layer.cfg_options[key] = [link - (link >= removed) for link in layer.cfg_options[key]]
    shared = layer.cfg_options.get("share_index")
    if shared is not None:
        layer.cfg_options["share_index"] = shared - (shared >= removed)
        layer._set_options({"share_index": [layer.cfg_options["share_index"]]})
