"""Gradient checks of whole networks: what the backward pass says, beside differences of the loss, in float64.

The loss is what the loss layers state (half of it for squared ones, as their deltas are); without a loss layer it is a
random weighted sum of the last output.  A few values of every array are moved by steps h and h / 2; where the two
difference quotients disagree, the value lies at a kink (of a relu or a maximum, say) and says nothing.
"""
from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple, Optional

import numpy as np

from darknetpy._types import Array
from darknetpy.builder import file_values
from darknetpy.errors import ArgumentError
from darknetpy.layer import Layer
from darknetpy.network import Network
from darknetpy.sections import format_value

STEPS = (3e-4, 3e-5, 3e-6)      # times the size of the array's values; smaller ones for a kink nearby
KINK = 1e-6         # quotients of two steps agree better than this where the loss is smooth
FLOOR = 1e-2        # errors are relative to the value, or to this share of the array's largest
TINY = 1e-9         # or to this, where all are small, or to what rounding of the loss lets differences say
DIGITS = 1e-5       # share of a value that rounding may make up
LIMIT = 1e-5
_HALF = ("sse", "masked", "seg", "smooth")      # [cost] types whose delta is the gradient of half the loss
_BOXES = ("yolo", "Gaussian_yolo", "region")    # truth: rows of x, y, w, h, class, ...
_UNLIMITED = 3.4e38          # max_delta= of a head that does not clip
# Options with which a delta is no derivative, on purpose; what is checked in their place, and why.
_CONSTANTS = {"rescore": (0, "its target, an IoU, counts as a constant"),
              "objectness_smooth": (0, "its target, an IoU, counts as a constant"),
              "classfix": (0, "it picks targets by the output"),
              "focal_loss": (0, "its weight counts as a constant"),
              "max_delta": (_UNLIMITED, "it clips deltas")}
_INEXACT = {"onlyforward": "cuts the backward pass", "truth": "makes an output the truth, which gets no gradient",
            "xnor": "has straight-through gradients, not derivatives"}


class ArrayCheck(NamedTuple):
    """What came of one array.

    Attributes
    ----------
    layer : int
        Its layer's index; -1 for the network's input.
    type, array : str
    values, checked, kinks : int
        Values that it has, that were compared, and that were left out because they lie at a kink.
    error : float
        The largest relative error; 0 if nothing was compared.
    place : tuple of int or None
        Where that is.
    backward, differences : float
        What the two say there.
    """

    layer: int
    type: str
    array: str
    values: int
    checked: int
    kinks: int
    error: float
    place: Optional[tuple[int, ...]]
    backward: float
    differences: float

    @property
    def name(self) -> str:
        """The array in words."""
        return "the network's input" if self.layer < 0 else f"layer {self.layer} [{self.type}] {self.array}"


def randomize(net: Network, rng: np.random.Generator) -> None:
    """Move parameters off their start values: biases around 0, scales and the weights of sums around 1."""
    for layer in net.layers:
        for name, array in layer.arrays("parameter").items():
            if name.endswith("scales") or layer.type == "shortcut":     # equal weights are a kink of their softmax
                array[...] = rng.uniform(.5, 1.5, array.shape)
            elif name.endswith("biases"):
                array[...] = .1 * rng.standard_normal(array.shape)


def replace_constants(net: Network) -> list[str]:
    """Set options that make a delta other than the derivative of a loss, on purpose, to what can be checked; say which.

    Parameters
    ----------
    net : Network
        Changed in place: a target that is an IoU becomes 1, say.

    Returns
    -------
    list of str
        One line per option and layer that was changed.
    """
    notes = []
    for layer in net.layers:
        options, found = layer.cfg_options, {}
        for key, (value, why) in _CONSTANTS.items():
            if options.get(key) and not options[key] >= value > 0:
                found[key] = value, why
        if layer.type == "Gaussian_yolo":
            found.update(_gaussian_constants(options))
        layer._set_options({key: value for key, (value, _) in found.items()})
        for key, (value, why) in found.items():
            text = f"{key}= is checked as {'unlimited' if value == _UNLIMITED else format_value(value)}: {why}"
            place = f"layer {layer.index} [{layer.type}]"
            notes.append(str(layer.spec.error(text, key)) if hasattr(layer, "spec") else f"{place} {text}")
    return notes


def _gaussian_constants(options):
    """A box's number and how sure it is have a loss in common, where each may count differently."""
    why = "a box's numbers and how sure they are count as constants for each other"
    squared = options["iou_loss"] == "mse"
    value = options["iou_normalizer"] if squared else 0
    if options["uc_normalizer"] != value:
        yield "uc_normalizer", (value, why)
    if squared and options["counters_per_class"]:
        yield "counters_per_class", ([1.] * options["classes"], why)


def check_gradients(net: Network, samples: int = 5, seed: int = 0) -> Iterator[ArrayCheck]:
    """Compare the gradients of every parameter and of the input with differences of the loss.

    Parameters
    ----------
    net : Network
        Of the double core, built with train=True.
    samples : int
        Values of each array to look at.
    seed : int
        Of input, truth and which values.

    Yields
    ------
    ArrayCheck
        One per array, as each is done.

    Raises
    ------
    ArgumentError, CfgError
        The network was made for inference, or holds something whose gradient is no derivative by design.
    """
    _refuse_inexact(net)
    rng = np.random.default_rng(seed)
    loss = _Loss(net, rng)
    gradients = loss.gradients()
    below = _layers_without_gradient(net)
    for layer, name, values, gradient in _subjects(net, gradients, below):
        yield _check(loss, layer, name, values, gradient, min(samples, values.size), rng)


def _refuse_inexact(net):
    if not net._built_for_training or net._core.dtype != np.float64:
        raise ArgumentError("gradients are checked on a network of the double core made with train=True")
    for layer in net.layers:
        for key, why in _INEXACT.items():
            if layer.cfg_options.get(key):
                raise (layer.spec.error(f"{key}=1 {why}: there is nothing to compare with", key) if hasattr(layer, "spec")
                       else ArgumentError(f"layer {layer.index} [{layer.type}] {key}=1 {why}"))


def _layers_without_gradient(net):
    """The first so many layers: stopbackward=1 and train_only_bn=1 end the backward pass."""
    ends = [layer.index + 1 for layer in net.layers
            if layer.option("train_only_bn") or layer.option("stopbackward")]
    return max(ends, default=0)


def _subjects(net, gradients, below):
    """Yield (layer or None, array's name, its values, -dLoss/dvalue as the backward pass has it)."""
    if not below:
        yield None, "input", net.input, gradients["input"]
    for layer in net.layers[below:]:
        for name, values in layer.arrays("parameter").items():
            yield layer, name, values, gradients[layer.index, name]


class _Loss:
    """The loss of a network as a function of its parameters and its input."""

    def __init__(self, net: Network, rng: np.random.Generator) -> None:
        self.net = net
        net.seen = net.batch * net.subdivisions * (1 + max(int(layer.option("stopbackward")) for layer in net.layers)) + 1
        net.input = rng.standard_normal((net.batch, net.inputs))
        net.truth = _truth(net, rng)
        net.train = True
        self.weights = None
        self.forward()
        if not any(layer._info.has_cost for layer in net.layers):
            self.weights = rng.standard_normal(net.layers[-1].output.shape)

    def forward(self) -> list[Array]:
        """Run forward; return the terms whose sum is the loss (a copy)."""
        self.net.reset_state()          # of recurrent layers
        core = self.net._core
        core.check(core.lib.forward_network(self.net._handle))
        return self._terms()

    def _terms(self):
        last = self.net.layers[-1]
        if not any(layer._info.has_cost for layer in self.net.layers):
            return [] if self.weights is None else [self.weights * last.output]
        return [_stated_loss(layer) for layer in self.net.layers if layer._info.has_cost]

    def gradients(self) -> dict:
        """Return -dLoss/dvalue of the input and of every parameter, from one backward pass."""
        net = self.net
        self.forward()
        if self.weights is not None:
            net.layers[-1].delta[...] = -self.weights
        for layer in net.layers:
            for update in layer.arrays("update").values():
                update[...] = 0
        net.delta = None
        net.backward()
        found: dict = {"input": net.delta.reshape(net.input.shape).copy()}
        for layer in net.layers:
            for (name, _), update in zip(layer.arrays("parameter").items(), layer.arrays("update").values()):
                found[layer.index, name] = update.copy()
        return found

    def rounding(self, step: float) -> float:
        """Return what rounding of the loss may add to a quotient of differences."""
        return float(np.finfo(np.float64).eps * sum(np.abs(term).sum() for term in self._terms()) / step)

    def slope(self, flat: Array, i: int, step: float) -> float:
        """Return the central difference quotient of fourth order by one value."""
        at, states = flat[i], {}
        for k in (-2, -1, 1, 2):
            flat[i] = at + k * step
            states[k] = self.forward()
        flat[i] = at
        # differences of terms first: what does not change then costs no digits
        total = sum(float(np.sum(8 * (b - a) - (d - c))) for a, b, c, d in zip(*(states[k] for k in (-1, 1, -2, 2))))
        return total / (12 * step)


def _stated_loss(layer: Layer) -> Array:
    if layer.type == "cost":
        options = layer.cfg_options
        return layer.output * (options["scale"] * (.5 if options["type"] in _HALF else 1))
    return layer.loss.copy()


def _truth(net, rng):
    """A truth that suits all loss layers; None where they want none."""
    wanting = {layer.type: layer for layer in net.layers if layer.truths}
    shape = (net.batch, net.truths)
    for kind, draw in _TRUTHS.items():
        if kind in wanting:
            return draw(wanting[kind], shape, rng)
    return None


def _shares(layer, shape, rng):
    """What sums to one in every group of a softmax."""
    rows = rng.uniform(.1, 1, shape)
    for part in np.split(rows, _group_ends(layer)[:-1], axis=1):
        part /= part.sum(axis=1, keepdims=True)
    return rows


def _group_ends(layer):
    tree, groups = layer.cfg_options.get("tree"), int(layer.option("groups"))
    sizes = file_values(layer.spec, "tree", tree) if tree else [layer.outputs // groups] * groups
    return np.cumsum(sizes)


def _boxes(layer, shape, rng):
    """Three boxes per image, of few classes and tracks."""
    most, classes = int(layer.cfg_options["max"]), int(layer.cfg_options["classes"])
    rows = np.zeros((shape[0], most, shape[1] // most))
    some = min(3, most)
    rows[:, :some, :2] = rng.uniform(.1, .9, (shape[0], some, 2))
    rows[:, :some, 2:4] = rng.uniform(.1, .6, (shape[0], some, 2))
    rows[:, :some, 4] = rng.integers(0, classes, (shape[0], some))
    rows[:, :some, 5:6] = rng.integers(0, 2, (shape[0], some, 1))
    return rows.reshape(shape)


def _cells(layer, shape, rng):
    """About every other cell of [detection] has an object."""
    cells = int(layer.option("side"))**2
    rows = np.zeros((shape[0], cells, shape[1] // cells))
    rows[..., 0] = rng.random(rows.shape[:2]) < .6
    rows[..., 1:-4] = np.eye(rows.shape[2] - 5)[rng.integers(0, rows.shape[2] - 5, rows.shape[:2])]
    rows[..., -4:] = rng.uniform(.1, .9, (*rows.shape[:2], 4))
    return (rows * rows[..., :1]).reshape(shape)


def _one_hot(layer, shape, rng):
    return np.eye(shape[1])[np.arange(shape[0]) // 2 % shape[1]]


# Where several kinds want a truth, the first of these draws it.
_TRUTHS = {**dict.fromkeys(_BOXES, _boxes), "detection": _cells, "softmax": _shares,
           "logistic": lambda layer, shape, rng: rng.integers(0, 2, shape).astype(float), "contrastive": _one_hot,
           "iseg": lambda layer, shape, rng: np.full(shape, -1.),     # no instances: their means count as constants
           "cost": lambda layer, shape, rng: rng.standard_normal(shape)}


def _check(loss, layer, name, values, gradient, samples, rng):
    flat, slopes = values.reshape(-1), gradient.reshape(-1)
    size = float(np.sqrt(np.mean(flat**2))) or 1.
    scale = max(FLOOR * float(np.abs(slopes).max()), TINY, loss.rounding(STEPS[0] * size) / DIGITS)
    worst, checked, kinks = (0.0, None, 0.0, 0.0), 0, 0
    for i in rng.choice(flat.size, samples, replace=False):
        slope = _smooth_slope(loss, flat, i, size, scale)
        if slope is None:
            kinks += 1
            continue
        checked += 1
        error = float(abs(-slopes[i] - slope) / max(abs(slope), scale))
        if not error <= worst[0]:
            worst = error, tuple(int(k) for k in np.unravel_index(i, values.shape)), -float(slopes[i]), slope
    return ArrayCheck(layer.index if layer else -1, layer.type if layer else "", name, values.size, checked, kinks, *worst)


def _smooth_slope(loss, flat, i, size, scale):
    """The derivative by one value; None where quotients of all steps disagree: at a kink."""
    for step in STEPS:
        wide, near = loss.slope(flat, i, step * size), loss.slope(flat, i, step * size / 2)
        if abs(wide - near) <= KINK * max(abs(near), scale):
            return near
    return None
