"""Inference in AlexeyAB's dialect, in numpy and float64: a .cfg's text, a .weights file, input rows in; all outputs out.

Written from what that program's layers compute, and sharing nothing with the package: neither its reading of .cfg
and .weights files nor its arithmetic.  Where AlexeyAB's CPU code lacks what its GPU code has (swish outside
convolutions, relu6, coordconv, bottleneck of [conv_lstm]), this is the GPU's.  Maps are arrays (rows, channels,
height, width); plain values are maps of 1x1.
"""

from __future__ import annotations

import os
import re

import numpy as np

EPSILON = 1e-5  # of batch normalization, inside the root


# ---- text and file
class Options(dict):
    """The lines of one section: the first of a key counts, numbers end where C's atoi and atof end them."""

    def int(self, key, default=0):
        return int(re.match(r"[+-]?\d+|", self[key])[0] or 0) if key in self else default

    def float(self, key, default=0.0):
        return _number(self[key]) if key in self else default

    def list(self, key):
        return [_number(part) for part in self[key].partition("#")[0].split(",") if part]


def _number(text):
    return float(re.match(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?|", text)[0] or 0)


def sections_of(text):
    """Return [(name, Options)]."""
    sections = []
    for line in text.splitlines():
        line = re.sub(r"\s", "", line)
        if line.startswith("["):
            sections.append((line.partition("#")[0].strip("[]"), Options()))
        elif line and line[0] not in "#;":
            key, _, value = line.partition("=")
            sections[-1][1].setdefault(key, value)
    return sections


class Reader:
    """The numbers of a .weights file, one array after the other."""

    def __init__(self, path):
        self.values, self.at = np.fromfile(path, np.float32, offset=20), 0

    def __call__(self, *shape):
        start, self.at = self.at, self.at + int(np.prod(shape))
        return self.values[start : self.at].astype(np.float64).reshape(shape)


# ---- activations
def logistic(x):
    return np.exp(-np.logaddexp(0, -x))


def _steps(x):
    """stair: flat between even and odd numbers, rising between odd and even ones."""
    floor = np.floor(x)
    return np.floor(x / 2) + np.where(floor % 2 == 0, 0, x - floor)


def _shares(x):
    return x / (x.sum(axis=1, keepdims=True) + 1e-4)


ACTIVATIONS = {
    "linear": lambda x: x,
    "logistic": logistic,
    "loggy": lambda x: 2 * logistic(x) - 1,
    "relu": lambda x: np.maximum(x, 0),
    "relu6": lambda x: np.clip(x, 0, 6),
    "elu": lambda x: np.where(x >= 0, x, np.expm1(np.minimum(x, 0))),
    "selu": lambda x: 1.0507 * np.where(x >= 0, x, 1.6732 * np.expm1(np.minimum(x, 0))),
    "relie": lambda x: np.where(x > 0, x, 0.01 * x),
    "ramp": lambda x: np.maximum(x, 0) + 0.1 * x,
    "leaky": lambda x: np.where(x > 0, x, 0.1 * x),
    "revleaky": lambda x: np.where(x > 0, x, 0.1 * x),
    "tanh": np.tanh,
    "plse": lambda x: np.where(x < -4, 0.01 * (x + 4), np.where(x > 4, 0.01 * (x - 4) + 1, 0.125 * x + 0.5)),
    "stair": _steps,
    "hardtan": lambda x: np.clip(x, -1, 1),
    "lhtan": lambda x: np.where(x < 0, 0.001 * x, np.where(x > 1, 0.001 * (x - 1) + 1, x)),
    "gelu": lambda x: x / 2 * (1 + np.tanh(0.797885 * x + 0.035677 * x**3)),
    "swish": lambda x: x * logistic(x),
    "mish": lambda x: x * np.tanh(np.logaddexp(0, x)),
    "hard_mish": lambda x: np.where(x > 0, x, np.where(x > -2, x * x / 2 + x, 0)),
    "normalize_channels": lambda x: _shares(np.maximum(x, 0)),
    "normalize_channels_softmax": lambda x: _shares(np.exp(x)),
    "normalize_channels_softmax_maxval": lambda x: _shares(np.exp(x - x.max(axis=1, keepdims=True))),
}


def activate(x, o, default):
    return ACTIVATIONS[o.get("activation", default)](x)


# ---- weighted layers
def columns(x, size, stride_y, stride_x, out_h, out_w, pad, dilation=1, outside=0.0):
    """Return what each tap of a kernel sees: (rows, channels, size * size, out_h, out_w)."""
    rows, c, h, w = x.shape
    reach = (size - 1) * dilation + 1
    low, wide = pad * dilation, max((out_h - 1) * stride_y + reach, (out_w - 1) * stride_x + reach, h, w)
    padded = np.full((rows, c, low + wide, low + wide), outside)
    padded[:, :, low : low + h, low : low + w] = x
    taps = [(i * dilation, j * dilation) for i in range(size) for j in range(size)]
    return np.stack([padded[:, :, i::stride_y, j::stride_x][:, :, :out_h, :out_w] for i, j in taps], axis=2)


class Batchnorm:
    """y = scale (x - mean) / sqrt(variance + epsilon) + bias, with the moving statistics."""

    def __init__(self, read, n, biases=None):
        self.biases = read(n) if biases is None else biases
        self.scales, self.mean, self.variance = read(n), read(n), read(n)

    def __call__(self, x):
        factor = self.scales / np.sqrt(self.variance + EPSILON)
        return x * factor[:, None, None] + (self.biases - self.mean * factor)[:, None, None]


def normalized_or_biased(read, biases, normalized):
    """Return what follows a layer's sums: batch normalization and a bias, or a bias."""
    return Batchnorm(read, len(biases), biases) if normalized else lambda x: x + biases[:, None, None]


class Convolution:
    def __init__(self, o, read, c, n, stride=1, shared=None, activation="logistic"):
        self.o, self.n, self.size = o, n, o.int("size", 1)
        self.xnor = o.int("xnor")
        self.groups = 1 if self.xnor else o.int("groups", 1)
        self.stride_y, self.stride_x = (max(o.int(key, -1), 0) or stride for key in ("stride_y", "stride_x"))
        self.pad = self.size // 2 if o.int("pad") else o.int("padding")
        self.dilation = o.int("dilation", 1) if self.size > 1 else 1
        self.activation = activation
        if shared:
            self.after, self.weights = shared.after, shared.weights
            return
        self.after = normalized_or_biased(read, read(n), o.int("batch_normalize") or o.int("cbn"))
        shape = (n, c // self.groups, self.size, self.size)
        self.weights = read(int(np.prod(shape[1:])), n).T.reshape(shape) if o.int("flipped") else read(*shape)

    def __call__(self, x):
        rows, c, h, w = x.shape
        weights, outside = self.weights, 0.0
        blur = self.o.int("antialiasing")
        step_y, step_x = (1, 1) if blur else (self.stride_y, self.stride_x)
        if self.xnor:
            x, outside = np.where(x > 0, 1.0, -1.0), -1.0
            weights = np.where(weights > 0, 1.0, -1.0) * np.abs(weights).mean(axis=(1, 2, 3), keepdims=True)
        out_h = (h + 2 * self.pad - self.size) // step_y + 1
        out_w = (w + 2 * self.pad - self.size) // step_x + 1
        taps = columns(x, self.size, step_y, step_x, out_h, out_w, self.pad, self.dilation, outside)
        taps = taps.reshape(rows, self.groups, -1, out_h * out_w)
        y = np.matmul(weights.reshape(self.groups, self.n // self.groups, -1), taps)
        y = activate(self.after(y.reshape(rows, self.n, out_h, out_w)), self.o, self.activation)
        if blur:
            y = blurred(y, blur, self.stride_y, self.stride_x)
        if self.o.int("coordconv"):
            across, down = np.meshgrid(*(2 * np.arange(side) / side - 1 for side in (y.shape[3], y.shape[2])))
            y[:, :3] = np.stack([across, down, np.hypot(across, down)])[: self.n]
        return y


def blurred(x, kind, stride_y, stride_x):
    """The low-pass filter of antialiasing=1 (3x3) or 2 (2x2)."""
    line, pad = (np.array([1, 2, 1]) / 4, 1) if kind == 1 else (np.array([1, 1]) / 2, 0)
    out_h = (x.shape[2] + 2 * pad - len(line)) // stride_y + 1
    out_w = (x.shape[3] + 2 * pad - len(line)) // stride_x + 1
    taps = columns(x, len(line), stride_y, stride_x, out_h, out_w, pad)
    return np.einsum("rcthw,t->rchw", taps, np.outer(line, line).ravel())


class Connected:
    def __init__(self, o, read, n, outputs, activation="logistic"):
        biases, self.weights = read(outputs), read(outputs, n)
        self.after = normalized_or_biased(read, biases, o.int("batch_normalize"))
        self.activation = ACTIVATIONS[activation]

    def __call__(self, x):
        return self.activation(self.after((x.reshape(len(x), -1) @ self.weights.T)[:, :, None, None]))


def convolutional(net, o, x):
    here, link = len(net.outputs), o.int("share_index", -(10**9))
    shared = net.parts[link if link >= 0 else here + link] if link > -(10**9) else None
    net.parts[here] = Convolution(o, net.read, x.shape[1], o.int("filters", 1), o.int("stride", 1), shared)
    return net.parts[here](x)


def connected(net, o, x):
    return Connected(o, net.read, x[0].size, o.int("output", 1), o.get("activation", "logistic"))(x)


def local(net, o, x):
    rows, c, h, w = x.shape
    n, size, stride, pad = o.int("filters", 1), o.int("size", 1), o.int("stride", 1), o.int("pad")
    out_h, out_w = ((side - (1 if pad else size)) // stride + 1 for side in (h, w))
    biases, weights = net.read(n, out_h, out_w), net.read(out_h, out_w, n, c * size * size)
    taps = columns(x, size, stride, stride, out_h, out_w, pad).reshape(rows, -1, out_h, out_w)
    return activate(np.einsum("hwnk,rkhw->rnhw", weights, taps) + biases, o, "logistic")


def batchnorm(net, o, x):
    return Batchnorm(net.read, x.shape[1])(x)


# ---- pooling
def pooling(o, x, empty):
    stride = o.int("stride", 1)
    size = o.int("size", stride)
    padding = o.int("padding", size - 1)
    step_y, step_x = (o.int(key, stride) for key in ("stride_y", "stride_x"))
    if o.int("antialiasing"):
        step_y = step_x = 1
    rows, c, h, w = x.shape
    out_h, out_w = (h + padding - size) // step_y + 1, (w + padding - size) // step_x + 1
    return columns(x, size, step_y, step_x, out_h, out_w, padding // 2, 1, empty)


def maxpool(net, o, x):
    if o.int("maxpool_depth"):
        n = o.int("out_channels", 1)
        return np.stack([x[:, k::n].max(axis=1) for k in range(n)], axis=1)
    y = pooling(o, x, -np.inf).max(axis=2)
    stride, blur = o.int("stride", 1), o.int("antialiasing")
    return blurred(y, blur, o.int("stride_y", stride), o.int("stride_x", stride)) if blur else y


def local_avgpool(net, o, x):
    return np.nanmean(pooling(o, x, np.nan), axis=2)


def avgpool(net, o, x):
    return x.mean(axis=(2, 3), keepdims=True)


def upsample(net, o, x):
    stride, scale = o.int("stride", 2), o.float("scale", 1)
    if stride > 0:
        return scale * x.repeat(stride, axis=2).repeat(stride, axis=3)
    rows, c, h, w = x.shape
    h, w, s = h // -stride, w // -stride, -stride
    return scale * x[:, :, : h * s, : w * s].reshape(rows, c, h, s, w, s).sum(axis=(3, 5))


def crop(net, o, x):
    h, w = o.int("crop_height", 1), o.int("crop_width", 1)
    top, left = (x.shape[2] - h) // 2, (x.shape[3] - w) // 2
    x = x[:, :, top : top + h, left : left + w]
    return x if o.int("noadjust") else 2 * x - 1


def moved(x, stride, down):
    """Darknet's reorg_cpu on one map (c, h, w): squares of pixels become channels, or channels squares."""
    c, h, w = x.shape
    k, j, i = np.meshgrid(*map(np.arange, (c, h, w)), indexing="ij")
    narrow = c // stride**2
    offset = k // narrow
    at = i * stride + offset % stride + w * stride * (j * stride + offset // stride + h * stride * (k % narrow))
    if down:
        return x.reshape(-1)[at]
    y = np.empty(x.size)
    y[at] = x
    return y


def reorg(net, o, x):
    """Moves made as if the map had the channels and sides of before: a scramble that trained weights rely on."""
    rows, c, h, w = x.shape
    s = o.int("stride", 1)
    shape = (c // s**2, h * s, w * s) if o.int("reverse") else (c * s**2, h // s, w // s)
    return np.stack([moved(row, s, not o.int("reverse")).reshape(shape) for row in x])


def reorg3d(net, o, x):
    rows, c, h, w = x.shape
    s = o.int("stride", 1)
    if o.int("reverse"):
        return np.stack([moved(row, s, False).reshape(c // s**2, h * s, w * s) for row in x])
    return np.stack([moved(row.reshape(c * s**2, h // s, w // s), s, True) for row in x])


# ---- links
def route(net, o, x):
    groups, group = o.int("groups", 1), o.int("group_id")
    parts = [net.layer(link) for link in o.list("layers")]
    parts = [part[:, part.shape[1] // groups * group :][:, : part.shape[1] // groups] for part in parts]
    if len({part.shape[2:] for part in parts}) > 1:
        parts = [part.reshape(len(x), -1, 1, 1) for part in parts]
    return np.concatenate(parts, axis=1)


def normalized(weights, kind):
    if kind in ("relu", "avg_relu"):
        weights = np.maximum(weights, 0)
        return weights / (weights.sum(axis=0) + 1e-4)
    if kind == "softmax":
        weights = np.exp(weights - weights.max(axis=0))
        return weights / (weights.sum(axis=0) + 1e-4)
    return weights


def shortcut(net, o, x):
    terms = [x, *(net.layer(link) for link in o.list("from"))]
    kind = o.get("weights_type", "none")
    weights = np.ones((len(terms), 1))
    if kind != "none":
        each = x.shape[1] if kind == "per_channel" else 1
        weights = normalized(net.read(len(terms), each), o.get("weights_normalization"))
    y = np.zeros((len(x), x[0].size))
    for term, weight in zip(terms, weights):
        factors = np.broadcast_to(weight[:, None], (len(weight), x[0].size // len(weight))).ravel()
        flat = term.reshape(len(x), -1)[:, : x[0].size]
        y[:, : flat.shape[1]] += flat * factors[: flat.shape[1]]
    return activate(y.reshape(x.shape), o, "linear")


def scale_channels(net, o, x):
    scaled = net.layer(o.int("from"))
    scales = x.reshape(len(x), 1, *scaled.shape[2:]) if o.int("scale_wh") else x.reshape(len(x), -1, 1, 1)
    return activate(scaled * scales, o, "linear")


def sam(net, o, x):
    return activate(x * net.layer(o.int("from")), o, "linear")


def implicit(net, o, x):
    n, atoms = o.int("filters", 128), o.int("atoms", 1)
    return np.tile(net.read(1, n, atoms, 1), (len(x), 1, 1, 1))


# ---- normalizations and losses
def activation(net, o, x):
    return activate(x, o, "linear")


def lrn(net, o, x):
    """Each window is the one before, a square more and a square less; the first lacks its last square."""
    size, squares = o.int("size", 5), o.float("alpha", 0.0001) * x * x
    norm = o.float("kappa", 1) + squares[:, : size // 2].sum(axis=1)
    norms = [norm]
    for k in range(1, x.shape[1]):
        gone, come = k - (size - 1) // 2 - 1, k + size // 2
        norm = norm - (squares[:, gone] if gone >= 0 else 0) + (squares[:, come] if come < x.shape[1] else 0)
        norms.append(norm)
    return x * np.stack(norms, axis=1) ** -o.float("beta", 0.75)


def _softmax(x):
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def softmax(net, o, x):
    flat = x.reshape(len(x), -1) / o.float("temperature", 1)
    sizes = net.tree(o["tree"]) if "tree" in o else [flat.shape[1] // o.int("groups", 1)] * o.int("groups", 1)
    parts = np.split(flat, np.cumsum(sizes)[:-1], axis=1)
    return np.concatenate([_softmax(part) for part in parts], axis=1).reshape(x.shape)


def unchanged(net, o, x):
    return x


def nothing(net, o, x):
    return np.zeros_like(x)


# ---- recurrent layers
def rows_of_steps(net, x):
    return x.reshape(net.steps, -1, *x.shape[1:])


def three(net, make, o, x, hidden):
    """[rnn] and [crnn]: state = (shortcut: state +) input part + own part; what is shown is the third part of it."""
    name = o.get("activation", "logistic")
    own = {1: "logistic", 2: "loggy"}.get(o.int("logistic"), name)
    sizes = ((0, hidden, name), (hidden, hidden, own), (hidden, o.int("output", 1), name))
    parts = [make(net, o, *size) for size in sizes]
    state, shown = None, []
    for step in rows_of_steps(net, x):
        new = parts[0](step)
        state = np.zeros_like(new) if state is None else state
        state = new + parts[1](state) + (state if o.int("shortcut") else 0)
        shown.append(parts[2](state))
    return np.concatenate(shown)


def _crnn_part(net, o, c, n, name):
    return Convolution(Options({"size": "3", **o}), net.read, c or net.x.shape[1], n, 1 if c else o.int("stride", 1))


def _rnn_part(net, o, n, outputs, name):
    return Connected(o, net.read, n or net.x[0].size, outputs, name)


def rnn(net, o, x):
    return three(net, _rnn_part, o, x, o.int("hidden", 1))


def crnn(net, o, x):
    return three(net, _crnn_part, o, x, o.int("hidden", 1))


def gru(net, o, x):
    n, outputs = x[0].size, o.int("output", 1)
    uz, ur, uh = (Connected(o, net.read, n, outputs, "linear") for _ in range(3))
    wz, wr, wh = (Connected(o, net.read, outputs, outputs, "linear") for _ in range(3))
    h, shown = np.zeros((len(x) // net.steps, outputs, 1, 1)), []
    for step in rows_of_steps(net, x):
        z, r = logistic(uz(step) + wz(h)), logistic(ur(step) + wr(h))
        h = z * h + (1 - z) * logistic(uh(step) + wh(r * h))
        shown.append(h)
    return np.concatenate(shown)


def lstm(net, o, x):
    n, outputs = x[0].size, o.int("output", 1)
    wf, wi, wg, wo = (Connected(o, net.read, outputs, outputs, "linear") for _ in range(4))
    uf, ui, ug, uo = (Connected(o, net.read, n, outputs, "linear") for _ in range(4))
    h = c = np.zeros((len(x) // net.steps, outputs, 1, 1))
    shown = []
    for s in rows_of_steps(net, x):
        c = logistic(wf(h) + uf(s)) * c + logistic(wi(h) + ui(s)) * np.tanh(wg(h) + ug(s))
        h = logistic(wo(h) + uo(s)) * np.tanh(c)
        shown.append(h)
    return np.concatenate(shown)


def conv_lstm(net, o, x):
    n, narrow, peephole = o.int("output", 1), o.int("bottleneck"), o.int("peephole")
    part, act = Options({"size": "3", **o}), ACTIVATIONS[o.get("lstm_activation", "tanh")]

    def make(c, stride=1):
        return Convolution(part, net.read, c, n, stride, activation="linear")

    vf, vi, vo = ((make(n) for _ in range(3)) if peephole else (lambda c: 0,) * 3)
    wf = make(2 * n if narrow else n)
    wi, wg, wo = ((lambda h: 0,) * 3 if narrow else (make(n) for _ in range(3)))
    uf, ui, ug, uo = (make(n if narrow else x.shape[1], 1 if narrow else o.int("stride", 1)) for _ in range(4))
    limit = o.int("state_constrain", 32 * net.steps)
    h = c = None
    shown = []
    for s in rows_of_steps(net, x):
        if h is None:
            size = (s if narrow else uf(s)).shape
            h = c = np.zeros((size[0], n, *size[2:]))
        if narrow:
            s, old = act(wf(np.concatenate([h, s], axis=1))), 0
        else:
            old = wf(h)
        f, i = logistic(uf(s) + old + vf(c)), logistic(ui(s) + wi(h) + vi(c))
        c = f * c + i * act(ug(s) + wg(h))
        h = logistic(uo(s) + wo(h) + vo(c)) * act(c)
        y = h.copy()
        if narrow and o.int("shortcut"):
            y[:, : n // 2] += s[:, : n // 2]
        shown.append(y)
        c = np.clip(c, -limit, limit) if limit else c
    return np.concatenate(shown)


def history(net, o, x):
    steps, frames = rows_of_steps(net, x), o.int("history_size", 4)
    blank = np.zeros_like(steps[0])
    seen = [[steps[t - k] if t >= k else blank for k in range(frames)] for t in range(net.steps)]
    return np.concatenate([np.concatenate(step, axis=1) for step in seen])


# ---- heads
def anchored(x, o, coords=4):
    """The values of one anchor: (rows, anchors, values, h, w), a copy."""
    values = coords + 1 + o.int("classes", 20)
    return x.reshape(len(x), -1, values, *x.shape[2:]).copy()


def yolo(net, o, x):
    y, s = anchored(x, o), o.float("scale_x_y", 1)
    if not o.int("new_coords"):
        y[:, :, :2], y[:, :, 4:] = logistic(y[:, :, :2]), logistic(y[:, :, 4:])
    y[:, :, :2] = s * y[:, :, :2] - (s - 1) / 2
    return y.reshape(x.shape)


def gaussian_yolo(net, o, x):
    y, s = anchored(x, o, 8), o.float("scale_x_y", 1)
    linear = y[:, :, [4, 6]]
    y = logistic(y)
    y[:, :, [4, 6]] = linear
    y[:, :, [0, 2]] = s * y[:, :, [0, 2]] - (s - 1) / 2
    return y.reshape(x.shape)


def region(net, o, x):
    coords = o.int("coords", 4)
    y = anchored(x, o, coords).transpose(0, 3, 4, 1, 2)
    y[..., coords] = logistic(y[..., coords])
    if "tree" in o:
        parts = np.split(y[..., coords + 1 :], np.cumsum(net.tree(o["tree"]))[:-1], axis=-1)
        y[..., coords + 1 :] = np.concatenate([_softmax(part) for part in parts], axis=-1)
    elif o.int("softmax"):
        y[..., coords + 1 :] = _softmax(y[..., coords + 1 :])
    return y.reshape(x.shape)


def detection(net, o, x):
    if not o.int("softmax"):
        return x
    flat, classes = x.reshape(len(x), -1).copy(), o.int("classes", 1)
    end = classes * o.int("side", 7) ** 2
    flat[:, :end] = _softmax(flat[:, :end].reshape(len(x), -1, classes)).reshape(len(x), -1)
    return flat.reshape(x.shape)


TYPES = {name: value for name, value in globals().items() if callable(value) and name.islower()}
TYPES.update(
    conv=convolutional, conn=connected, max=maxpool, local_avg=local_avgpool, avg=avgpool, soft=softmax,
    normalization=lrn, Gaussian_yolo=gaussian_yolo, empty=unchanged, silence=unchanged, dropout=unchanged,
    cost=nothing, contrastive=nothing,
)


class Interpreter:
    """One forward pass; `outputs` holds what each layer showed."""

    def __init__(self, text, weights, x, folders=(".",)):
        (_, net), *layers = sections_of(text)
        self.read, self.steps, self.folders = Reader(weights), net.int("time_steps", 1), folders
        shape = (net.int("channels"), net.int("height"), net.int("width"))
        self.x = x.astype(np.float64).reshape(len(x), *(shape if all(shape) else (-1, 1, 1)))
        self.outputs, self.parts = [], {}
        for name, options in layers:
            self.x = TYPES[name](self, options, self.x)
            self.outputs.append(self.x)
        if self.read.at != self.read.values.size:
            raise ValueError(f"{self.read.values.size} numbers in the file, {self.read.at} read")

    def layer(self, link):
        return self.outputs[int(link) if link >= 0 else len(self.outputs) + int(link)]

    def tree(self, name):
        """Return the sizes of the sibling groups of a class tree."""
        path = next(path for path in (os.path.join(folder, name) for folder in self.folders) if os.path.exists(path))
        with open(path) as file:
            parents = [int(line.split()[1]) for line in file if line.strip()]
        return np.diff([0, *(i for i in range(1, len(parents)) if parents[i] != parents[i - 1]), len(parents)])
