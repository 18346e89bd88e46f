"""Exhaustive gradient checks on the float64 twin: the derivative of the loss by every input value and every parameter.

A case is a small network, one line per layer.  The loss is

* with loss layers: the sum over them of half the printed loss for squared ones ([cost] sse, masked, seg, smooth; Darknet's
  convention), of the printed loss for the others, times [cost] scale;
* without: the sum of random weights times the last output.

Derivatives are central differences of fourth order.  Inputs whose pre-activation, window or difference lies within reach of a
kink (a point without derivative) are drawn again.
"""

from __future__ import annotations

import dataclasses
import re
import zlib

import heads
import numpy as np
from twin import twin

from darknetpy.builder import build_network
from darknetpy.cfg import parse_cfg_text
from darknetpy.sections import resolve

STEP = 3e-4  # of a parameter; of the input see _input_step
LIMIT = 1e-6  # a case fails above
TARGET = 1e-7  # what is aimed at
FLOOR = 1e-2  # errors are relative to the value, or to this share of the array's largest where that is more,
SMALL = 1e-5  # or to this, where all are small: the loss is of order 1, and so is its rounding
SCALES = (1.0, 1e-2)  # of the input; at 1e-2 variances come near epsilon, where a wrong epsilon shows

# Where an activation has no derivative (or a jump in the second one).
KINKS = {
    "relu": (0,),
    "relu6": (0, 6),
    "elu": (0,),
    "selu": (0,),
    "relie": (0,),
    "ramp": (0,),
    "leaky": (0,),
    "revleaky": (0,),
    "plse": (-4, 4),
    "stair": tuple(range(-40, 41)),
    "hardtan": (-1, 1),
    "lhtan": (0, 1),
    "hard_mish": (-2, 0),
    "normalize_channels": (0,),
}
RECURRENT = ("rnn", "crnn", "gru", "lstm", "conv_lstm")
HALF = ("sse", "masked", "seg", "smooth")  # [cost] types whose delta is the gradient of half the printed loss

WEIGHTED = ("convolutional", "deconvolutional", "local", "connected")
ENDING = (*WEIGHTED, "activation", "shortcut", "scale_channels", "sam")  # types that end with an activation

results = []  # (case's name, scale, {layer type: largest relative error}), for the summary at the end of the run


@dataclasses.dataclass
class Boxes:
    """Truth of a detector: three boxes per image, in rows of `size` values with the class in column `class_at`."""

    size: int
    classes: int
    class_at: int = 4

    def draw(self, batch, count, rng):
        rows = np.zeros((batch, count // self.size, self.size))
        rows[:, :3, :2] = rng.uniform(0.05, 0.95, (batch, 3, 2))
        rows[:, :3, 2:4] = rng.uniform(0.15, 0.6, (batch, 3, 2))
        rows[:, :3, 4:] = rng.uniform(-1, 1, (batch, 3, self.size - 4))
        rows[:, :3, self.class_at] = rng.integers(0, self.classes, (batch, 3))
        return rows.reshape(batch, count)


@dataclasses.dataclass
class Case:
    """One network to check.

    Attributes
    ----------
    name : str
    layers : list of str
        One per layer: the type and its options, ``"convolutional filters=3 size=3 activation=leaky"``.
    shape : tuple of int
        (c, h, w) of the input, or (inputs,).
    batch : int
    net : str
        Options of [net].
    train : bool
        False: the forward pass runs as inference (rolling statistics, no dropout).
    spread : float
        Factor of the input, to reach all branches of an activation.
    truth : str or list of int
        How a truth looks: "random", "probabilities", "labels", "bits", "masked", "holes"; a list: the sizes of sets of outputs
        that each sum to 1; Boxes; None: none is given.
    keep_x_norm : bool
        Normalizations store the normalized values.
    limit : float
        Largest relative error allowed; above LIMIT only with a reason.
    seen : int
        Rows that the network has seen before.
    """

    name: str
    layers: list
    shape: tuple
    batch: int = 2
    net: str = ""
    train: bool = True
    spread: float = 1.0
    truth: object = "random"
    keep_x_norm: bool = False
    limit: float = LIMIT
    seen: int = 0

    def __str__(self):
        return self.name


def cfg_text(layers, shape, batch, net=""):
    """Return the text of a .cfg from lines of ``type option=value ...``."""
    size = (
        f"channels={shape[0]}\nheight={shape[1]}\nwidth={shape[2]}"
        if len(shape) == 3
        else f"inputs={shape[0]}"
    )
    sections = [f"[net]\nbatch={batch}\nsubdivisions=1\n{size}\n" + "\n".join(net.split())]
    for line in layers:
        kind, *options = line.split()
        sections.append(f"[{kind}]\n" + "\n".join(options))
    return "\n".join(sections) + "\n"


def build(layers, shape, batch=2, net="", train=True, core=None, dialect=None, **how):
    """Return a network from lines of layers, on the twin unless told otherwise; `how`: see build_network."""
    plan = resolve(parse_cfg_text(cfg_text(layers, shape, batch, net)), dialect=dialect)
    return build_network(plan, batch=batch, train=train, core=core or twin(), **how)


def randomize(net, rng):
    """Give every parameter a value of its own: biases around 0, scales and variances around 1."""
    for layer in net.layers:
        for state in layer.arrays("state").values():
            state[:] = rng.standard_normal(state.shape)
        for name, array in layer.arrays("parameter", "statistic").items():
            name = name.rpartition(".")[2]  # a part's
            if name in ("scales", "rolling_variance"):
                array[:] = rng.uniform(0.5, 1.5, array.shape) * np.where(
                    name == "scales", rng.choice([-1, 1], array.shape), 1
                )
            elif name == "weights":
                array[:] = rng.standard_normal(array.shape) / np.sqrt(array[0].size)
            else:
                array[:] = 0.3 * rng.standard_normal(array.shape)


def run(net):
    """One forward pass, after which recurrent layers stand where they stood before."""
    states = [(state, state.copy()) for layer in net.layers for state in layer.arrays("state").values()]
    status = net._core.lib.forward_network(net._handle)
    for state, values in states:
        state[:] = values
    net._core.check(status)


# ---- the loss
def _loss_terms(net, weights):
    """Pairs of (array of loss terms, factor): their sum of products is the loss."""
    terms = []
    for layer in net.layers:
        if not layer._info.has_cost:
            continue
        if layer.type == "cost":
            values = layer.spec.values
            terms.append((layer.output, values["scale"] * (0.5 if values["type"] in HALF else 1)))
        else:
            terms.append((layer.loss, 1.0))
    return terms or [(net.layers[-1].output, weights)]


class _Loss:
    """The change of the loss between two states: summed over differences of terms, so that the unchanged ones cost no digits."""

    def __init__(self, net, weights):
        self.net = net
        run(net)
        self.terms = _loss_terms(net, weights)

    def _run(self):
        run(self.net)
        return [array.copy() for array, _ in self.terms]

    def derivative(self, values, i, step):
        """Fourth-order central difference of the loss by values[i]."""
        at, states = values[i], {}
        for k in (-2, -1, 1, 2):
            values[i] = at + k * step
            states[k] = self._run()
        values[i] = at
        total = 0.0
        for t, (_, factor) in enumerate(self.terms):
            slope = 8 * (states[1][t] - states[-1][t]) - (states[2][t] - states[-2][t])
            total += np.sum(slope * factor)
        return total / (12 * step)


def _input_step(case, scale):
    """In units of the input's scale, since batch normalization enlarges; behind weights and a bias of order 1 rounding matters more."""
    kind, *options = case.layers[0].split()
    own_statistics = any(f"normalize={name}" in options for name in ("group", "layer", "instance")) or (
        case.train and ("batch_normalize=1" in options or "normalize=batch" in options)
    )
    weighted = kind in (*WEIGHTED, *RECURRENT) and not own_statistics
    return STEP * (scale**0.5 if weighted else scale)


# ---- staying away from kinks
def _distance(case, net, x, truth):
    """The distance of the case from its nearest kink, in units of what a step moves."""
    reach = case.spread * _input_step(case, x.scale)
    worst = np.inf
    for i, line in enumerate(case.layers):
        kind, options = line.split()[0], dict(option.split("=") for option in line.split()[1:])
        activation = options.get("activation", "logistic" if kind in WEIGHTED else "linear")
        if kind in ENDING and (
            activation in KINKS or activation == "normalize_channels_softmax_maxval"
        ):
            worst = min(worst, _activation_distance(case, net, i, activation) / _slope(case, kind, reach))
        elif kind == "maxpool":
            worst = min(worst, _pool_distance(net, i, options) / (4 * reach))
        elif kind in heads.KINDS:
            worst = min(worst, heads.distance(net, i) / (8 * max(STEP, reach)))
        elif kind == "cost" and options.get("type") in ("L1", "smooth"):
            d = np.abs((truth - net.layers[i - 1].output.ravel()) if i else truth - x.values.ravel())
            worst = min(
                worst, np.min(d if options["type"] == "L1" else np.abs(d - 1)) / _slope(case, "cost", reach)
            )
    return worst


def _slope(case, kind, reach):
    """The largest move of what meets the kink: parameters of order 1 move it by up to 2 STEP times the largest input."""
    return 8 * reach if kind == "activation" and len(case.layers) == 1 else 8 * max(STEP, reach)


def _activation_distance(case, net, i, activation):
    """What goes into the activation, from the same network with that activation taken out."""
    plain = list(case.layers)
    plain[i] = re.sub(r" activation=\w+", "", plain[i]) + " activation=linear"
    other = build(plain, case.shape, case.batch, case.net)
    for layer, copy in zip(net.layers, other.layers):
        for name, array in copy.arrays("parameter", "statistic").items():
            array[:] = getattr(layer, name)
    other.seen = net.seen
    other.forward(net.input, net.truth, train=case.train)
    layer = other.layers[i]
    z = layer.arrays().get("map", layer.output)  # before antialiasing and the like
    if activation == "normalize_channels_softmax_maxval":
        top = np.sort(z, axis=1)
        return np.min(top[:, -1] - top[:, -2])
    distance = min(np.min(np.abs(z - kink)) for kink in KINKS[activation])
    return (
        distance / 30 if activation == "normalize_channels" else distance
    )  # steep where all channels are near 0


def _pool_distance(net, i, options):
    """The least gap between the two largest values of any window."""
    x = net.layers[i - 1].output if i else net.input.reshape(net.layers[0].input_shape)
    layer = net.layers[i]
    if "maxpool_depth" in options:
        top = np.sort(x.reshape(len(x), -1, layer.out_c, layer.h, layer.w), axis=1)
        return np.min(top[:, -1] - top[:, -2])
    size, offset = int(layer.option("size")), int(layer.option("padding")) // 2
    gap = np.inf
    blurred = "antialiasing" in options
    out_h, out_w = layer.map.shape[2:] if blurred else (layer.out_h, layer.out_w)
    stride_y, stride_x = (1 if blurred else int(layer.option(name)) for name in ("stride_y", "stride_x"))
    for oy in range(out_h):
        for ox in range(out_w):
            y0, x0 = oy * stride_y - offset, ox * stride_x - offset
            window = x[:, :, max(y0, 0) : y0 + size, max(x0, 0) : x0 + size].reshape(
                x.shape[0] * x.shape[1], -1
            )
            if window.shape[1] > 1:
                top = np.sort(window, axis=1)
                gap = min(gap, np.min(top[:, -1] - top[:, -2]))
    return gap


class _Input:
    def __init__(self, case, scale, rng):
        self.scale = scale
        self.values = scale * case.spread * rng.standard_normal((case.batch, *case.shape))


def _distribution(rng, shape):
    rows = rng.uniform(0.1, 1, shape)
    return rows / rows.sum(axis=1, keepdims=True)


def _truth(case, count, rng):
    shape = (case.batch, count)
    if case.truth == "probabilities":
        return _distribution(rng, shape)
    if isinstance(case.truth, Boxes):
        return case.truth.draw(case.batch, count, rng)
    if isinstance(case.truth, list):
        return np.concatenate([_distribution(rng, (case.batch, size)) for size in case.truth], axis=1)
    if case.truth == "labels":
        return np.eye(count)[rng.integers(0, count, case.batch)]
    if case.truth == "bits":
        return rng.integers(0, 2, shape).astype(float)
    if case.truth == "masked":
        return np.where(rng.random(shape) < 0.4, -1234.0, rng.standard_normal(shape))
    if case.truth == "holes":
        return np.where(rng.random(shape) < 0.4, 0.0, rng.standard_normal(shape))
    return 1.5 * rng.standard_normal(shape)


def prepared(case, scale, core=None):
    """Return a network with parameters, input and truth at a safe distance from every kink."""
    rng = np.random.default_rng(zlib.crc32(case.name.encode()))
    net = build(case.layers, case.shape, case.batch, case.net, core=core)
    for layer in net.layers if case.keep_x_norm else ():
        layer.keep_x_norm = True
    for _ in range(400):
        randomize(net, rng)
        x = _Input(case, scale, rng)
        truth = _truth(case, net.truths, rng) if net.truths and case.truth is not None else None
        net.seen = case.seen
        net.forward(x.values, truth, train=case.train)
        if _distance(case, net, x, truth.ravel() if truth is not None else None) > 1:
            return net
    raise AssertionError(f"{case}: no input away from the kinks found in 400 draws")


# ---- the check
def relative_error(ours, wanted):
    """Largest |ours - wanted|, each relative to its value, to FLOOR times the array's largest or to SMALL."""
    largest = np.max(np.abs(wanted))
    if largest == 0:
        return float(np.max(np.abs(ours)) > 0)
    return float(np.max(np.abs(ours - wanted) / np.maximum(np.abs(wanted), max(FLOOR * largest, SMALL))))


def parameters(net):
    """Yield (name, parameter, its updates) of all layers."""
    for i, layer in enumerate(net.layers):
        values, updates = layer.arrays("parameter"), layer.arrays("update")
        for (name, array), update in zip(values.items(), updates.values()):
            yield f"{i}.{name}", array, update


def numeric_gradients(net, weights, input_step):
    """Return {name: derivative of the loss by every value}, the input's under "input"."""
    loss, gradients = _Loss(net, weights), {}
    arrays = [("input", net.input, input_step), *((name, array, STEP) for name, array, _ in parameters(net))]
    for name, array, step in arrays:
        flat = array.reshape(-1)
        gradients[name] = np.array([loss.derivative(flat, i, step) for i in range(flat.size)]).reshape(
            array.shape
        )
    return gradients


def analytic_gradients(net, weights, delta=None):
    """Return {name: the same from one backward pass}; `delta`: an array that the input's delta is added to."""
    net.delta = delta
    run(net)
    if not any(layer._info.has_cost for layer in net.layers):
        net.layers[-1].delta[:] = -weights
    net.backward()
    return {
        "input": -net.delta.reshape(net.input.shape),
        **{name: -updates for name, _, updates in parameters(net)},
    }


def check(case, scale):
    """Check a case: written deltas, and deltas and updates added to what is there; return the largest relative error."""
    net = prepared(case, scale)
    rng = np.random.default_rng(1)
    weights = rng.standard_normal(net.layers[-1].output.shape)
    wanted = numeric_gradients(net, weights, _input_step(case, scale))
    ours = analytic_gradients(net, weights)
    errors = {name: relative_error(ours[name], wanted[name]) for name in wanted}
    worst = max(errors.values())
    results.append((case.name, scale, _by_type(net, errors)))
    assert worst <= case.limit, f"{case} at scale {scale}: relative errors {errors}"
    _check_added(net, weights, ours, rng)
    if not case.keep_x_norm:
        _check_shared(case, net, weights)
    return worst


def _by_type(net, errors):
    """The largest error of each layer type: in its parameters, and in the input's delta, which has passed all layers."""
    found = {layer.type: errors["input"] for layer in net.layers}
    for name, error in errors.items():
        if name != "input":
            kind = net.layers[int(name.partition(".")[0])].type
            found[kind] = max(found[kind], error)
    return found


def _check_added(net, weights, once, rng):
    """A second backward pass doubles the updates, and adds to the delta that the user gave."""
    before = rng.standard_normal(net.input.shape)
    again = analytic_gradients(net, weights, before.copy())
    for name, value in again.items():
        wanted = once[name] - before if name == "input" else 2 * once[name]
        np.testing.assert_allclose(
            value,
            wanted,
            rtol=1e-11,
            atol=1e-13 + 1e-13 * np.abs(once[name]).max(),
            err_msg=f"{name} is not added to",
        )


_LINKS = re.compile(r"\b(layers|from|share_index|yolo_layer)=(\S+)")


def _one_later(line):
    """A layer's line for a network with one layer more before it."""

    def later(match):
        numbers = (int(number) for number in match[2].split(","))
        return f"{match[1]}={','.join(str(n + 1 if n >= 0 else n) for n in numbers)}"

    return _LINKS.sub(later, line)


def _check_shared(case, net, weights):
    """Activations that share memory change no bit, after passes that have left NaN in it.

    The case's layers stand between two that change nothing, so that their inputs and outputs are in shared memory as well.
    """
    ends = any(layer.is_loss for layer in net.layers)
    layers = ["empty", *map(_one_later, case.layers), *(() if ends else ("empty",))]
    kept, shared = (
        build(layers, case.shape, case.batch, case.net, dialect=net.dialect, keep_activations=keep)
        for keep in (True, False)
    )
    wanted = _gradients_of_copy(case, kept, net, net.input, weights)
    _gradients_of_copy(case, shared, net, np.full_like(net.input, np.nan), weights)
    for name, value in _gradients_of_copy(case, shared, net, net.input, weights).items():
        np.testing.assert_array_equal(value, wanted[name], f"{name} with keep_activations=False")


def _gradients_of_copy(case, copy, net, x, weights):
    """The gradients of a network that has one layer more before the case's, with the same numbers in them."""
    roles = "parameter", "statistic", "counter", "state"
    for layer, to in zip(net.layers, copy.layers[1:]):
        for name, array in to.arrays(*roles).items():
            array[...] = layer.arrays()[name]
        for update in to.arrays("update").values():
            update[...] = 0
    copy.seen, copy.train, copy.truth, copy.input = net.seen, case.train, net.truth, x
    return analytic_gradients(copy, weights)


def subjects(cases):
    """Return the (layer type, activation or None, batch-normalized) triples that some case has."""
    found = set()
    for case in cases:
        for line in case.layers:
            kind, *options = line.split()
            values = dict(option.split("=") for option in options)
            found.add((kind, values.get("activation"), values.get("batch_normalize") == "1"))
    return found
