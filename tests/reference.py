"""Every kernel again in numpy, float64, from its formula: the paper's, or what Darknet documents.  Never from our C.

Names and arguments are the kernel's; arrays are written in place, shapes as the kernel's comment has them.
"""

from __future__ import annotations

import numpy as np
from reference_contrastive import *  # noqa: F403
from reference_detection import *  # noqa: F403
from reference_heads import *  # noqa: F403
from reference_iseg import *  # noqa: F403
from reference_maps import *  # noqa: F403
from reference_maps import give
from reference_products import *  # noqa: F403
from reference_region import *  # noqa: F403

BN_EPSILON = 1e-5


# ---- vectors
def copy_cpu(n, x, incx, y, incy):
    y[: n * incy : incy] = x[: n * incx : incx]


def fill_cpu(n, alpha, x, incx):
    x[: n * incx : incx] = alpha


def scal_cpu(n, alpha, x, incx):
    x[: n * incx : incx] *= alpha


def axpy_cpu(n, alpha, x, incx, y, incy):
    y[: n * incy : incy] += alpha * x[: n * incx : incx]


def pass_delta_cpu(n, alpha, delta, add, to):
    give(to, alpha * delta, add)


def copy_rows_cpu(rows, columns, alpha, x, ldx, add, y, ldy):
    for r in range(rows):
        give(y[r * ldy : r * ldy + columns], alpha * x[r * ldx : r * ldx + columns], add)


# ---- gates
def weighted_sum_cpu(a, b, s, n, c):
    c[:] = s * a + (0 if b is None else (1 - s) * b)


def weighted_delta_cpu(a, b, s, da, db, ds, n, dc):
    if da is not None:
        da += dc * s
    db += dc * (1 - s)
    ds += dc * (a - b)


def constrain_cpu(n, limit, x):
    x[:] = np.clip(x, -limit, limit)


def constrain_delta_cpu(n, limit, x, delta):
    delta[np.abs(x) > limit] = 0


# ---- matrices and convolutions
def _matrix(x, rows, columns, ld):
    return np.lib.stride_tricks.as_strided(x, (rows, columns), (ld * x.itemsize, x.itemsize))


def gemm(TA, TB, M, N, K, ALPHA, A, lda, B, ldb, BETA, C, ldc):
    a = _matrix(A, K, M, lda).T if TA else _matrix(A, M, K, lda)
    b = _matrix(B, N, K, ldb).T if TB else _matrix(B, K, N, ldb)
    c = _matrix(C, M, N, ldc)
    c[:] = ALPHA * (a @ b) + (BETA * c if BETA else 0)


def _taps(s):
    """Yield ky, kx and, for each axis, the input position of every output, with which of them lie inside the image."""
    for ky in range(s.size):
        for kx in range(s.size):
            y = np.arange(s.out_h) * s.stride_y - s.pad + ky * s.dilation
            x = np.arange(s.out_w) * s.stride_x - s.pad + kx * s.dilation
            yield ky, kx, y, x, (y >= 0) & (y < s.h), (x >= 0) & (x < s.w)


def _parts(s):
    """Yield the channels and the filters of each group."""
    c, n = s.c // s.groups, s.n // s.groups
    for g in range(s.groups):
        yield slice(g * c, (g + 1) * c), slice(g * n, (g + 1) * n)


def _views(s, x, w, y):
    return (
        x.reshape(s.batch, s.c, s.h, s.w),
        w.reshape(s.n, s.c // s.groups, s.size, s.size),
        y.reshape(s.batch, s.n, s.out_h, s.out_w),
    )


def convolution_forward_cpu(s, x, w, ep, y, workspace=None):
    pool = getattr(ep, "pool", 0)
    x, w, out = _views(s, x, w, np.zeros(4 * y.size) if pool else y)
    out[:] = 0
    for ky, kx, iy, ix, in_y, in_x in _taps(s):
        patch = x[:, :, iy[in_y]][:, :, :, ix[in_x]]
        for channels, filters in _parts(s):
            part = np.einsum("bchw,nc->bnhw", patch[:, channels], w[filters, :, ky, kx])
            out[:, filters, np.flatnonzero(in_y)[:, None], np.flatnonzero(in_x)] += part
    if ep is not None:
        scale = 1 if ep.scale is None else ep.scale[:, None, None]
        shift = 0 if ep.shift is None else ep.shift[:, None, None]
        out[:] = activate(ep.activation, scale * out + shift)
        if getattr(ep, "mean", None) is not None:
            ep.mean[:], ep.variance[:] = out.mean((0, 2, 3)), out.var((0, 2, 3))
    if pool:
        y[:] = out.reshape(s.batch, s.n, s.out_h // 2, 2, s.out_w // 2, 2).max((3, 5)).ravel()


def convolution_backward_data_cpu(s, dy, w, add, dx, workspace=None):
    dx, w, dy = _views(s, dx, w, dy)
    if not add:
        dx[:] = 0
    for ky, kx, iy, ix, in_y, in_x in _taps(s):
        patch = dy[:, :, in_y][:, :, :, in_x]
        for channels, filters in _parts(s):
            part = np.einsum("bnhw,nc->bchw", patch[:, filters], w[filters, :, ky, kx])
            dx[:, channels, iy[in_y][:, None], ix[in_x]] += part


def convolution_backward_weights_cpu(s, x, dy, dw, workspace=None):
    x, dw, dy = _views(s, x, dw, dy)
    for ky, kx, iy, ix, in_y, in_x in _taps(s):
        patch, delta = x[:, :, iy[in_y]][:, :, :, ix[in_x]], dy[:, :, in_y][:, :, :, in_x]
        for channels, filters in _parts(s):
            dw[filters, :, ky, kx] += np.einsum("bchw,bnhw->nc", patch[:, channels], delta[:, filters])


def im2col_cpu(image, channels, height, width, ksize, stride, pad, col):
    padded = np.pad(image.reshape(channels, height, width), ((0, 0), (pad, pad), (pad, pad)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (ksize, ksize), axis=(1, 2))[
        :, ::stride, ::stride
    ]
    col[:] = windows.transpose(0, 3, 4, 1, 2).reshape(col.shape)


# ---- biases, scales and batch normalization; x (batch, filters, spatial)
_C = (slice(None), None)


def _planes(x, batch, filters, spatial):
    return x.reshape(batch, filters, spatial)


def add_bias(output, biases, batch, n, size):
    _planes(output, batch, n, size)[:] += biases[_C]


def scale_bias(output, scales, batch, n, size):
    _planes(output, batch, n, size)[:] *= scales[_C]


def backward_bias(bias_updates, delta, batch, n, size):
    bias_updates += _planes(delta, batch, n, size).sum(axis=(0, 2))


def backward_scale_cpu(x_norm, delta, batch, n, size, scale_updates):
    scale_updates += (_planes(x_norm, batch, n, size) * _planes(delta, batch, n, size)).sum(axis=(0, 2))


def mean_cpu(x, batch, filters, spatial, mean):
    mean[:] = _planes(x, batch, filters, spatial).mean(axis=(0, 2))


def variance_cpu(x, mean, batch, filters, spatial, variance):
    d = _planes(x, batch, filters, spatial) - mean[_C]
    variance[:] = (d**2).sum(axis=(0, 2)) / (batch * spatial - 1)


def _normalize(x, mean, deviation, batch, filters, spatial):
    planes = _planes(x, batch, filters, spatial)
    planes[:] = (planes - mean[_C]) / deviation[_C]


def normalize_cpu(x, mean, variance, batch, filters, spatial):
    _normalize(x, mean, np.sqrt(variance + BN_EPSILON), batch, filters, spatial)


def normalize_pjreddie_cpu(x, mean, variance, batch, filters, spatial):
    _normalize(x, mean, np.sqrt(variance) + 1e-6, batch, filters, spatial)


def mean_delta_cpu(delta, variance, batch, filters, spatial, mean_delta):
    mean_delta[:] = -_planes(delta, batch, filters, spatial).sum(axis=(0, 2)) / np.sqrt(variance + BN_EPSILON)


def variance_delta_cpu(x, delta, mean, variance, batch, filters, spatial, variance_delta):
    dot = (_planes(delta, batch, filters, spatial) * (_planes(x, batch, filters, spatial) - mean[_C])).sum(
        axis=(0, 2)
    )
    variance_delta[:] = -0.5 * dot * (variance + BN_EPSILON) ** -1.5


def _normalize_delta(x, mean, deviation, mean_delta, variance_delta, batch, filters, spatial, delta):
    planes, m = _planes(delta, batch, filters, spatial), batch * spatial
    centred = _planes(x, batch, filters, spatial) - mean[_C]
    planes[:] = planes / deviation[_C] + variance_delta[_C] * 2 * centred / m + mean_delta[_C] / m


def normalize_delta_cpu(x, mean, variance, mean_delta, variance_delta, batch, filters, spatial, delta):
    _normalize_delta(
        x, mean, np.sqrt(variance + BN_EPSILON), mean_delta, variance_delta, batch, filters, spatial, delta
    )


def normalize_delta_alexeyab_cpu(
    x, mean, variance, mean_delta, variance_delta, batch, filters, spatial, delta
):
    _normalize_delta(
        x, mean, np.sqrt(variance) + 1e-5, mean_delta, variance_delta, batch, filters, spatial, delta
    )


def batchnorm_statistics_cpu(x, batch, filters, spatial, p):
    planes = _planes(x, batch, filters, spatial)
    p.mean[:], p.variance[:] = planes.mean(axis=(0, 2)), planes.var(axis=(0, 2))


def batchnorm_forward_cpu(x, batch, filters, spatial, p, a, y):
    planes = _planes(x, batch, filters, spatial)
    z = p.scales[_C] * (planes - p.mean[_C]) / np.sqrt(p.variance[_C] + BN_EPSILON) + p.biases[_C]
    _planes(y, batch, filters, spatial)[:] = activate(a, z)


def batchnorm_fold_cpu(p, filters, scale, shift):
    scale[:] = p.scales / np.sqrt(p.variance + BN_EPSILON)
    shift[:] = p.biases - p.mean * scale


def batchnorm_forward_train_cpu(x, batch, filters, spatial, p, a, y):
    batchnorm_statistics_cpu(x, batch, filters, spatial, p)
    batchnorm_forward_cpu(x, batch, filters, spatial, p, a, y)


def batchnorm_backward_cpu(x, y, delta, batch, filters, spatial, p, a, frozen, add, dx):
    """Section 3 of the paper, with the activation's derivative taken at z = gamma x_hat + beta."""
    planes, m = _planes(x, batch, filters, spatial), batch * spatial
    inverse = 1 / np.sqrt(p.variance[_C] + BN_EPSILON)
    x_hat = (planes - p.mean[_C]) * inverse
    d = _planes(delta, batch, filters, spatial) * slope(a, p.scales[_C] * x_hat + p.biases[_C])
    p.bias_updates += d.sum(axis=(0, 2))
    p.scale_updates += (d * x_hat).sum(axis=(0, 2))
    d_hat = d * p.scales[_C]
    p.variance_delta[:] = (
        0 if frozen else -0.5 * (d_hat * (planes - p.mean[_C])).sum(axis=(0, 2)) * inverse[:, 0] ** 3
    )
    p.mean_delta[:] = 0 if frozen else -(d_hat.sum(axis=(0, 2)) * inverse[:, 0])
    result = d_hat * inverse + p.variance_delta[_C] * 2 * (planes - p.mean[_C]) / m + p.mean_delta[_C] / m
    give(_planes(dx, batch, filters, spatial), result, add)


def batchnorm_layer(x, scales, biases, delta):
    """Return everything that a training pass of [batchnorm] makes; x and delta (batch, c, h, w)."""
    c = (slice(None), None, None)
    m = x.size // x.shape[1]
    mean, variance = x.mean(axis=(0, 2, 3)), x.var(axis=(0, 2, 3))
    inverse = 1 / np.sqrt(variance + BN_EPSILON)
    x_norm = (x - mean[c]) * inverse[c]
    d_hat = delta * scales[c]
    variance_delta = -0.5 * (d_hat * (x - mean[c])).sum(axis=(0, 2, 3)) * inverse**3
    mean_delta = -d_hat.sum(axis=(0, 2, 3)) * inverse
    dx = d_hat * inverse[c] + variance_delta[c] * 2 * (x - mean[c]) / m + mean_delta[c] / m
    return {
        "mean": mean,
        "variance": variance,
        "x_norm": x_norm,
        "output": x_norm * scales[c] + biases[c],
        "mean_delta": mean_delta,
        "variance_delta": variance_delta,
        "scale_updates": (delta * x_norm).sum(axis=(0, 2, 3)),
        "bias_updates": delta.sum(axis=(0, 2, 3)),
        "dx": dx,
    }


# ---- group, layer and instance normalization: a slice is one group of one sample
def _slices(x, mean, variance, groups):
    """The normalized values and 1 / deviation, as (batch, groups, channels of a group, spatial)."""
    batch, channels, spatial = x.shape
    statistic = (batch, groups, 1, 1)
    inverse = 1 / np.sqrt(variance.reshape(statistic) + BN_EPSILON)
    return (x.reshape(batch, groups, channels // groups, spatial) - mean.reshape(statistic)) * inverse, inverse


def groupnorm_forward_cpu(x, batch, channels, spatial, groups, scales, biases, a, mean, variance, y):
    planes = _planes(x, batch, channels, spatial)
    slices = planes.reshape(batch * groups, -1)
    mean[:], variance[:] = slices.mean(axis=1), slices.var(axis=1)
    x_hat = _slices(planes, mean, variance, groups)[0].reshape(planes.shape)
    _planes(y, batch, channels, spatial)[:] = activate(a, scales[_C] * x_hat + biases[_C])


def groupnorm_backward_cpu(
    x,
    y,
    delta,
    batch,
    channels,
    spatial,
    groups,
    scales,
    biases,
    a,
    mean,
    variance,
    scale_updates,
    bias_updates,
    add,
    dx,
    workspace=None,
):
    """The Jacobian of the normalization, 1/deviation (I - 1/M - x_hat x_hat' / M), applied to the delta at x_hat."""
    planes = _planes(x, batch, channels, spatial)
    x_hat, inverse = _slices(planes, mean, variance, groups)
    z = scales[_C] * x_hat.reshape(planes.shape) + biases[_C]
    d = _planes(delta, batch, channels, spatial) * slope(a, z)
    bias_updates += d.sum(axis=(0, 2))
    scale_updates += (d * x_hat.reshape(planes.shape)).sum(axis=(0, 2))
    d_hat, inner = (d * scales[_C]).reshape(x_hat.shape), (2, 3)
    result = inverse * (
        d_hat
        - d_hat.mean(axis=inner, keepdims=True)
        - x_hat * (d_hat * x_hat).mean(axis=inner, keepdims=True)
    )
    if dx is not None:
        give(_planes(dx, batch, channels, spatial), result.reshape(planes.shape), add)


# ---- activations
def _sigmoid(x):
    return 1 / (1 + np.exp(-x))


def _softplus(x):
    return np.logaddexp(0, x)


def _piecewise(x, *pieces):
    """Pieces (upper end, slope, value at 0), the last without an end: the value of the piece that x lies in, and its slope."""
    y, dy = np.empty_like(x), np.empty_like(x)
    left = np.ones(x.shape, bool)
    for end, gradient, offset in pieces:
        here = left & (x < end) if end is not None else left
        y[here], dy[here] = gradient * x[here] + offset, gradient
        left &= ~here
    return y, dy


def _stair(x):
    """Darknet's: flat at n/2 over even steps n, rising by 1 over odd ones."""
    n = np.floor(x)
    even = n % 2 == 0
    return np.where(even, np.floor(x / 2), (x - n) + np.floor(x / 2)), np.where(even, 0.0, 1.0)


def _gelu(x):
    a, b = 0.797885, 0.035677  # sqrt(2/pi) and .044715 times it, in Darknet's digits
    t = np.tanh(a * x + b * x**3)
    return 0.5 * x * (1 + t), 0.5 * (1 + t) + 0.5 * x * (1 - t**2) * (a + 3 * b * x**2)


def _mish(x):
    t = np.tanh(_softplus(x))
    return x * t, t + x * (1 - t**2) * _sigmoid(x)


SELU_SCALE, SELU_ALPHA = 1.0507, 1.6732
FORMULAS = {  # name: x -> (f(x), f'(x))
    "linear": lambda x: (x, np.ones_like(x)),
    "logistic": lambda x: (_sigmoid(x), _sigmoid(x) * _sigmoid(-x)),
    "loggy": lambda x: (2 * _sigmoid(x) - 1, 2 * _sigmoid(x) * _sigmoid(-x)),
    "relu": lambda x: _piecewise(x, (0, 0, 0), (None, 1, 0)),
    "relu6": lambda x: _piecewise(x, (0, 0, 0), (6, 1, 0), (None, 0, 6)),
    "elu": lambda x: (np.where(x >= 0, x, np.expm1(x)), np.where(x >= 0, 1, np.exp(x))),
    "selu": lambda x: (
        SELU_SCALE * np.where(x >= 0, x, SELU_ALPHA * np.expm1(x)),
        SELU_SCALE * np.where(x >= 0, 1, SELU_ALPHA * np.exp(x)),
    ),
    "relie": lambda x: _piecewise(x, (0, 0.01, 0), (None, 1, 0)),
    "ramp": lambda x: _piecewise(x, (0, 0.1, 0), (None, 1.1, 0)),
    "leaky": lambda x: _piecewise(x, (0, 0.1, 0), (None, 1, 0)),
    "revleaky": lambda x: _piecewise(x, (0, 0.1, 0), (None, 1, 0)),
    "tanh": lambda x: (np.tanh(x), 1 - np.tanh(x) ** 2),
    "plse": lambda x: _piecewise(x, (-4, 0.01, 0.04), (4, 0.125, 0.5), (None, 0.01, 0.96)),
    "stair": _stair,
    "hardtan": lambda x: _piecewise(x, (-1, 0, -1), (1, 1, 0), (None, 0, 1)),
    "lhtan": lambda x: _piecewise(x, (0, 0.001, 0), (1, 1, 0), (None, 0.001, 0.999)),
    "gelu": _gelu,
    "swish": lambda x: (x * _sigmoid(x), _sigmoid(x) + x * _sigmoid(x) * _sigmoid(-x)),
    "mish": _mish,
    "hard_mish": lambda x: (
        np.where(x > 0, x, np.where(x > -2, x**2 / 2 + x, 0)),
        np.where(x > 0, 1, np.where(x > -2, x + 1, 0)),
    ),
}


def activate(a, x):
    return FORMULAS[a](x)[0]


def slope(a, x):
    return FORMULAS[a](x)[1]


def activate_array(x, n, a):
    x[:] = activate(a, x)


def gradient_input_array(x, n, a, delta):
    delta *= slope(a, x)


def _inverse(a, y):
    """An x with f(x) = y, found by bisection on an increasing f; where f is flat any will do."""
    low, high = np.full_like(y, -60), np.full_like(y, 60)
    for _ in range(200):
        middle = (low + high) / 2
        below = activate(a, middle) < y
        low, high = np.where(below, middle, low), np.where(below, high, middle)
    return (low + high) / 2


def gradient_array(y, n, a, delta):
    """From the output; flat pieces (relu, relu6, hardtan, stair) end at outputs whose slope is taken from the flat side."""
    flat = {
        "relu": y <= 0,
        "relu6": (y <= 0) | (y >= 6),
        "hardtan": np.abs(y) >= 1,
        "stair": y == np.floor(y),
    }.get(a, np.zeros(y.shape, bool))
    delta *= np.where(
        flat, 0, slope(a, np.where(flat, 0.0, _inverse(a, np.where(flat, 0.5, y)))) if a != "stair" else 1
    )


def _channels(x, batch, channels, spatial):
    return x.reshape(batch, channels, spatial)


def _terms(x, a):
    if a == "normalize_channels":
        return np.maximum(x, 0)
    return np.exp(x - (x.max(axis=1, keepdims=True) if a.endswith("maxval") else 0))


def activate_channels_cpu(x, batch, channels, spatial, a, y):
    terms = _terms(_channels(x, batch, channels, spatial), a)
    _channels(y, batch, channels, spatial)[:] = terms / (terms.sum(axis=1, keepdims=True) + 1e-4)


def gradient_channels_cpu(x, y, batch, channels, spatial, a, delta):
    """The Jacobian of r(x) / (sum r + 1e-4) pixel by pixel, written out."""
    xs, ds = _channels(x, batch, channels, spatial), _channels(delta, batch, channels, spatial)
    for b in range(batch):
        for i in range(spatial):
            column = xs[b, :, i]
            r = _terms(column[None, :, None], a)[0, :, 0]
            total = r.sum() + 1e-4
            dr = np.diag((column > 0).astype(float) if a == "normalize_channels" else r)
            if a.endswith("maxval"):
                dr[:, column.argmax()] -= r
            jacobian = dr / total - np.outer(r, dr.sum(axis=0)) / total**2
            ds[b, :, i] = ds[b, :, i] @ jacobian
