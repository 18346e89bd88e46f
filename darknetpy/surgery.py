"""Changing trained networks: averages of files, batch normalization put in or taken out, another input.

Darknet's commands of the same names; where those change a network's output by mistake, these do not.
"""
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from darknetpy._types import Array, Path
from darknetpy.builder import build_network
from darknetpy.cfg import Option, parse_cfg_text
from darknetpy.errors import ArgumentError, WeightsError
from darknetpy.fusion import multiply, scale_and_shift, weighted_parts
from darknetpy.layer import Layer
from darknetpy.network import Network
from darknetpy.sections import Resolved, resolve
from darknetpy.weights import load_weights

_UNIT_SCALE = float(np.sqrt(1 + 1e-5))      # with it, a mean of 0 and a variance of 1, normalization changes nothing


def average(net: Network, files: Sequence[Path]) -> Network:
    """Load the mean of several .weights files, parameters and statistics alike; return the network.

    What counts as seen is the first file's.
    """
    if not files:
        raise ArgumentError("average needs at least one .weights file")
    sums: dict[tuple[int, str], Array] = {}
    for path in reversed(files):
        load_weights(net, path)
        for key, array in _stored(net):
            sums[key] = sums.get(key, 0) + array.astype(float)
    for key, array in _stored(net):
        array[...] = sums[key] / len(files)
    return net


def _stored(net):
    for layer in net.layers:
        for name, array in layer.arrays("parameter", "statistic").items():
            yield (layer.index, name), array


def first_convolution(net: Network) -> Layer:
    """Return the first convolution, which must read the network's input."""
    if net.layers and net.layers[0].type in ("crop", "dropout"):
        return _require_convolution(net.layers[1] if len(net.layers) > 1 else None)
    return _require_convolution(net.layers[0] if net.layers else None)


def _require_convolution(layer):
    if layer is None or layer.type != "convolutional":
        raise ArgumentError("the first layer is no convolution: there are no weights of colour channels")
    return layer


def swap_colours(net: Network) -> Network:
    """Make a network for RGB images one for BGR images, or back; return it."""
    layer = first_convolution(net)
    if layer.weights.shape[1] != 3:
        raise ArgumentError(f"layer {layer.index} [convolutional] sees {layer.weights.shape[1]} channels: wanted 3 colours")
    layer.weights[...] = layer.weights[:, ::-1]
    return net


def rescale(net: Network) -> Network:
    """Make a network for inputs in [-1, 1] one for [0, 1]: it sees 2 x - 1; return it.

    Exact but at the image's border, where padding was the middle of the old range and is the lower end of the new one.
    Behind batch normalization the shift belongs in the moving mean (Darknet puts it into the bias).
    """
    layer = first_convolution(net)
    sums = layer.weights.sum(axis=(1, 2, 3), dtype=float)
    layer.weights[...] = 2 * layer.weights
    if layer.cfg_options["normalize"] == "none":
        layer.biases[...] = layer.biases - sums
    elif layer.cfg_options["normalize"] == "batch" and not layer.option("normalize_after_activation"):
        layer.rolling_mean[...] = layer.rolling_mean + sums
    else:
        raise ArgumentError(f"layer {layer.index} [convolutional] has no bias before its normalization")
    return net


def reset(net: Network) -> Network:
    """Fold batch normalization into weights and biases, and leave one behind that changes nothing; return the network."""
    for layer in _batch_normalized(net):
        multiply(layer, *scale_and_shift(layer))
        _make_neutral(layer)
    return net


def _batch_normalized(net):
    return [part for layer in net.layers for part in weighted_parts(layer) if part.cfg_options["normalize"] == "batch"
            and not part.option("normalize_after_activation") and "weights" in part.arrays("parameter")]


def _make_neutral(layer):
    layer.scales[...], layer.rolling_mean[...], layer.rolling_variance[...] = _UNIT_SCALE, 0, 1


def normalize(net: Network) -> Network:
    """Return a network with batch normalization behind all weighted sums, those of recurrent layers too: the same outputs.

    Those that have none get one that changes nothing: scale and variance 1, mean 0 (Darknet's variance is 0, and its
    outputs are not numbers).
    """
    text = net.to_cfg()
    sections = parse_cfg_text(text, "<normalized>")
    for layer, section in zip(net.layers, sections[1:]):
        if weighted_parts(layer) and layer.cfg_options["normalize"] == "none":
            section.options["batch_normalize"] = Option("batch_normalize", "1", section.line)
    result = build_network(resolve(sections, dialect=net.dialect, batchnorm=net.batchnorm), batch=net.batch)
    for layer, old in zip(result.layers, net.layers):
        before = old.arrays("parameter", "statistic")
        for name, array in layer.arrays("parameter", "statistic").items():
            if name in before:
                array[...] = before[name]
        for part, old_part in zip(weighted_parts(layer), weighted_parts(old)):
            if "scales" in part.arrays("parameter") and "scales" not in old_part.arrays("parameter"):
                _make_neutral(part)
    result.seen = net.seen
    return result


def oneoff(plan: Resolved, weights: Path) -> Network:
    """Make a detector of a classifier, whose last filters become the class filters of every anchor.

    Parameters
    ----------
    plan : Resolved
        The detector's .cfg.  Its last convolution, before [region] or [yolo], has for each anchor the filters
        of the box (coords and objectness), then one per class.
    weights : str or path
        The classifier's .weights file: the same layers up to the last convolution, with one filter per class.

    Returns
    -------
    Network
        Every anchor's class filters are the classifier's, its box filters the first anchor's start values
        divided by 10, with biases of 0.  No images count as seen.

    Raises
    ------
    CfgError
        The .cfg does not end in such layers.
    WeightsError
        The file is not such a classifier's.
    """
    spec, classes = _head_convolution(plan)
    net = build_network(plan)
    classifier_spec = replace(spec, values={**spec.values, "filters": classes})
    try:
        classifier = build_network(replace(plan, layers=[*plan.layers[:-2], classifier_spec]), weights=weights)
    except WeightsError as error:
        raise WeightsError(
            f"{error} (of a classifier of {classes} classes: layers 0 to {spec.index}, the last with "
            f"{classes} filters)"
        ) from None
    for layer, source in zip(net.layers[:-2], classifier.layers):
        for name, array in source.arrays("parameter", "statistic").items():
            layer.arrays("parameter", "statistic")[name][...] = array
    box = int(plan.layers[-1].values.get("coords", 4)) + 1
    last, source = net.layers[-2], classifier.layers[-1]
    for array, values in ((last.weights, source.weights), (last.biases, source.biases)):
        anchors = array.reshape(-1, box + classes, *array.shape[1:])
        anchors[:, :box] = anchors[0, :box] / 10  # of the biases 0
        anchors[:, box:] = values
    return net


def _head_convolution(plan):
    """Return the layer that a [region] or [yolo] at the end reads, and the number of classes."""
    head, spec = plan.layers[-1], plan.layers[-2] if len(plan.layers) > 1 else None
    if head.type not in ("region", "yolo"):
        raise head.error(
            f"the last layer is [{head.type}]: wanted a detector, which ends in [region] or [yolo]"
        )
    if spec is None or spec.type != "convolutional":
        raise head.error(f"wanted a [convolutional] before the [{head.type}] at the end")
    if spec.values["normalize"] != "none":
        raise spec.error(
            "the convolution before the head has a normalization: wanted one without", "batch_normalize"
        )
    if spec.values["groups"] != 1:
        raise spec.error(
            f"groups={spec.values['groups']}: wanted 1 in the convolution before the head", "groups"
        )
    return spec, head.values["classes"]


class ArrayStatistics(NamedTuple):
    """What :func:`statistics` says of one array."""

    layer: int
    type: str
    array: str
    values: int
    mean: float
    deviation: float
    smallest: float
    largest: float
    zeros: int


def statistics(net: Network) -> list[ArrayStatistics]:
    """Describe every parameter and statistic of a network."""
    found = []
    for layer in net.layers:
        for name, array in layer.arrays("parameter", "statistic").items():
            values = array.astype(float)
            found.append(ArrayStatistics(layer.index, layer.type, name, array.size, float(values.mean()), float(values.std()),
                                         float(values.min()), float(values.max()), int((values == 0).sum())))
    return found


def operations(net: Network) -> dict[str, float]:
    """Return the floating-point operations of a forward pass of one row, by layer type; those without any left out."""
    totals: dict[str, float] = {}
    for layer in net.layers:
        totals[layer.type] = totals.get(layer.type, 0) + layer.flops
    return {name: flops for name, flops in totals.items() if flops}


def filter_picture(layer: Layer, zoom: int = 8) -> Array:
    """Return a picture of a convolution's filters, (height, width, 3) uint8, each scaled to its own range.

    Filters of three channels are shown in colour, side by side; of others every channel in grey, a row per filter.
    """
    if layer.type != "convolutional":
        raise ArgumentError(f"layer {layer.index} is [{layer.type}]: wanted a convolutional layer")
    weights = layer.weights.astype(float)
    low, high = (f(weights, axis=(1, 2, 3), keepdims=True) for f in (np.min, np.max))
    grey = np.where(high > low, (weights - low) / np.where(high > low, high - low, 1), .5)
    if weights.shape[1] == 3:
        tiles, columns = grey.transpose(0, 2, 3, 1), int(np.ceil(np.sqrt(len(grey))))
    else:
        tiles = np.repeat(grey.reshape(-1, *grey.shape[2:])[..., None], 3, axis=3)
        columns = weights.shape[1] if weights.shape[1] > 1 else int(np.ceil(np.sqrt(len(grey))))
    return _tile(tiles, columns, zoom)


def _tile(tiles, columns, zoom):
    """Put (n, h, w, 3) tiles with values in [0, 1] in rows, enlarged, with a border of one pixel."""
    n, h, w, _ = tiles.shape
    rows = -(-n // columns)
    picture = np.full((rows * (h * zoom + 1) + 1, columns * (w * zoom + 1) + 1, 3), 32, np.uint8)
    for i, tile in enumerate(tiles):
        y, x = 1 + i // columns * (h * zoom + 1), 1 + i % columns * (w * zoom + 1)
        large = tile.repeat(zoom, axis=0).repeat(zoom, axis=1)
        picture[y:y + h * zoom, x:x + w * zoom] = np.round(255 * large)
    return picture
