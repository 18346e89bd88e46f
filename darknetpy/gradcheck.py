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
from darknetpy.errors import ArgumentError
from darknetpy.layer import Layer
from darknetpy.network import Network

STEPS = (3e-4, 3e-5, 3e-6)      # times the size of the array's values; smaller ones for a kink nearby
KINK = 1e-6         # quotients of two steps agree better than this where the loss is smooth
FLOOR = 1e-2        # errors are relative to the value, or to this share of the array's largest
TINY = 1e-9         # or to this, where all are small
LIMIT = 1e-5
_HALF = ("sse", "masked", "seg", "smooth")      # [cost] types whose delta is the gradient of half the loss
_BOXES = ("yolo", "Gaussian_yolo", "region")    # truth: rows of x, y, w, h, class, ...
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
    """Move parameters off their start values: biases around 0, scales around 1."""
    for layer in net.layers:
        for name, array in layer.arrays("parameter").items():
            if name.endswith("scales"):
                array[...] = rng.uniform(.5, 1.5, array.shape)
            elif name.endswith("biases"):
                array[...] = .1 * rng.standard_normal(array.shape)


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
        self.forward()
        self.weights = None
        if not any(layer._info.has_cost for layer in net.layers):
            self.weights = rng.standard_normal(net.layers[-1].output.shape)

    def forward(self) -> list[Array]:
        """Run forward; return the terms whose sum is the loss (a copy)."""
        if hasattr(self.net, "reset_state"):        # of recurrent layers
            self.net.reset_state()
        core = self.net._core
        core.check(core.lib.forward_network(self.net._handle))
        return self._terms()

    def _terms(self):
        last = self.net.layers[-1]
        if not any(layer._info.has_cost for layer in self.net.layers):
            return [] if not hasattr(self, "weights") or self.weights is None else [self.weights * last.output]
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
    """A truth that suits the loss layers; None where none is known or wanted."""
    losses = [layer for layer in net.layers if layer.truths]
    if not losses:
        return None
    layer, shape = losses[-1], (net.batch, net.truths)
    if layer.type == "cost":
        return rng.standard_normal(shape)
    if layer.type == "logistic":
        return rng.integers(0, 2, shape).astype(float)
    if layer.type == "softmax":
        rows = rng.uniform(.1, 1, shape)
        return rows / rows.sum(axis=1, keepdims=True)
    return _boxes(layer, shape, rng) if layer.type in _BOXES else None


def _boxes(layer, shape, rng):
    """Three boxes per image."""
    most, classes = int(layer.cfg_options["max"]), int(layer.cfg_options["classes"])
    rows = np.zeros((shape[0], most, shape[1] // most))
    some = min(3, most)
    rows[:, :some, :2] = rng.uniform(.1, .9, (shape[0], some, 2))
    rows[:, :some, 2:4] = rng.uniform(.1, .6, (shape[0], some, 2))
    rows[:, :some, 4] = rng.integers(0, classes, (shape[0], some))
    return rows.reshape(shape)


def _check(loss, layer, name, values, gradient, samples, rng):
    flat, slopes = values.reshape(-1), gradient.reshape(-1)
    size = float(np.sqrt(np.mean(flat**2))) or 1.
    scale = FLOOR * float(np.abs(slopes).max())
    worst, checked, kinks = (0.0, None, 0.0, 0.0), 0, 0
    for i in rng.choice(flat.size, samples, replace=False):
        slope = _smooth_slope(loss, flat, i, size, scale)
        if slope is None:
            kinks += 1
            continue
        checked += 1
        error = float(abs(-slopes[i] - slope) / max(abs(slope), scale, TINY))
        if not error <= worst[0]:
            worst = error, tuple(int(k) for k in np.unravel_index(i, values.shape)), -float(slopes[i]), slope
    return ArrayCheck(layer.index if layer else -1, layer.type if layer else "", name, values.size, checked, kinks, *worst)


def _smooth_slope(loss, flat, i, size, scale):
    """The derivative by one value; None where quotients of all steps disagree: at a kink."""
    for step in STEPS:
        wide, near = loss.slope(flat, i, step * size), loss.slope(flat, i, step * size / 2)
        if abs(wide - near) <= KINK * max(abs(near), scale, TINY):
            return near
    return None
