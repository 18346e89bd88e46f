"""Single kernels on numpy arrays, by Darknet's names and in his argument order.

Every array is float32 and C-contiguous and its size is checked; results are written into the arrays that are passed, as in C.
`batch` images have `filters` (or `n`) channels of `spatial` (or `size`) values each, in that order in memory.
"""
from __future__ import annotations

import math
from typing import Optional

import numpy as np

from darknetpy._types import Floats
from darknetpy.arguments import positive_number, require_integers, require_number
from darknetpy.core import core
from darknetpy.errors import ArgumentError
from darknetpy.layer import activation_number

_lib = core.lib


def _floats(name, array, count, out=False):
    return core.address(core.array(name, array, count, writable=out))


def _positive(**sizes):
    for name, value in sizes.items():
        positive_number(name, value)


def _sizes(**sizes):
    """Return the product of positive integers, the number of values of an array."""
    _positive(**sizes)
    total = math.prod(map(int, sizes.values()))
    if total > 2**31 - 1:
        raise ArgumentError(f"{' x '.join(sizes)} = {total}: more than 2147483647 values")
    return total


# ---- batch normalization
def mean_cpu(x: Floats, batch: int, filters: int, spatial: int, mean: Floats) -> None:
    """Mean of every filter over the batch and the image, written into `mean`.

    Parameters
    ----------
    x : ndarray of float32, batch * filters * spatial values
    batch, filters, spatial : int
        Images, channels, and pixels per channel (height * width).
    mean : ndarray of float32, shape (filters,), written

    Raises
    ------
    ArgumentError
        An array is not float32, not C-contiguous, not writable where written, or not of the stated size.

    References
    ----------
    S. Ioffe and C. Szegedy, arXiv:1502.03167, Algorithm 1, line 1.  Darknet: ``mean_cpu``.
    """
    n = _sizes(batch=batch, filters=filters, spatial=spatial)
    _lib.mean_cpu(_floats("x", x, n), batch, filters, spatial, _floats("mean", mean, filters, out=True))


def variance_cpu(x: Floats, mean: Floats, batch: int, filters: int, spatial: int, variance: Floats) -> None:
    """Unbiased variance of every filter, sum of (x - mean)^2 / (m - 1) with m = batch * spatial, written into `variance`.

    This is the value that the moving average takes; normalization uses it times (m - 1) / m.

    Raises
    ------
    ArgumentError
        As for :func:`mean_cpu`; also where m is 1.

    References
    ----------
    arXiv:1502.03167, Algorithm 2, line 10.  Darknet: ``variance_cpu``.
    """
    n = _sizes(batch=batch, filters=filters, spatial=spatial)
    if batch * spatial == 1:
        raise ArgumentError("batch * spatial = 1: the variance of one value per filter is not defined")
    _lib.variance_cpu(_floats("x", x, n), _floats("mean", mean, filters), batch, filters, spatial,
                      _floats("variance", variance, filters, out=True))


def normalize_cpu(x: Floats, mean: Floats, variance: Floats, batch: int, filters: int, spatial: int) -> None:
    """In place: x -> (x - mean) / sqrt(variance + 1e-5).

    References
    ----------
    arXiv:1502.03167, Algorithm 1, line 3.  Darknet: ``normalize_cpu``.
    """
    n = _sizes(batch=batch, filters=filters, spatial=spatial)
    _lib.normalize_cpu(_floats("x", x, n, out=True), _floats("mean", mean, filters), _floats("variance", variance, filters), batch,
                       filters, spatial)


def mean_delta_cpu(delta: Floats, variance: Floats, batch: int, filters: int, spatial: int,
                   mean_delta: Floats) -> None:
    """Gradient at the mean, -sum(delta) / sqrt(variance + 1e-5), written into `mean_delta` (filters,).

    References
    ----------
    arXiv:1502.03167, section 3, the gradient at mu (its term through the variance is zero).  Darknet: ``mean_delta_cpu``.
    """
    n = _sizes(batch=batch, filters=filters, spatial=spatial)
    _lib.mean_delta_cpu(_floats("delta", delta, n), _floats("variance", variance, filters), batch, filters, spatial,
                        _floats("mean_delta", mean_delta, filters, out=True))


def variance_delta_cpu(x: Floats, delta: Floats, mean: Floats, variance: Floats, batch: int, filters: int,
                       spatial: int, variance_delta: Floats) -> None:
    """Gradient at the variance, -1/2 sum(delta (x - mean)) (variance + 1e-5)^(-3/2), written into `variance_delta` (filters,).

    References
    ----------
    arXiv:1502.03167, section 3, the gradient at sigma^2.  Darknet: ``variance_delta_cpu``.
    """
    n = _sizes(batch=batch, filters=filters, spatial=spatial)
    _lib.variance_delta_cpu(_floats("x", x, n), _floats("delta", delta, n), _floats("mean", mean, filters),
                            _floats("variance", variance, filters), batch, filters, spatial,
                            _floats("variance_delta", variance_delta, filters, out=True))


def normalize_delta_cpu(x: Floats, mean: Floats, variance: Floats, mean_delta: Floats,
                        variance_delta: Floats, batch: int, filters: int, spatial: int,
                        delta: Floats) -> None:
    """In place: delta at the normalized value -> delta at x.

    delta / sqrt(variance + 1e-5) + variance_delta * 2 (x - mean) / m + mean_delta / m, with m = batch * spatial.

    References
    ----------
    arXiv:1502.03167, section 3, the gradient at x.  Darknet: ``normalize_delta_cpu``.
    """
    n = _sizes(batch=batch, filters=filters, spatial=spatial)
    statistics = [_floats(name, array, filters) for name, array in
                  (("mean", mean), ("variance", variance), ("mean_delta", mean_delta), ("variance_delta", variance_delta))]
    _lib.normalize_delta_cpu(_floats("x", x, n), *statistics, batch, filters, spatial, _floats("delta", delta, n, out=True))


# ---- group, layer and instance normalization
def _groups(batch, channels, spatial, groups):
    n = _sizes(batch=batch, channels=channels, spatial=spatial)
    _positive(groups=groups)
    if channels % groups:
        raise ArgumentError(f"groups={groups}: wanted a divisor of channels={channels}")
    return n


def _elementwise(a):
    number = activation_number(a)
    if number >= _lib.NORM_CHAN:
        raise ArgumentError(f"{a}: mixes channels; wanted an activation of single values")
    return number


def groupnorm_forward_cpu(x: Floats, batch: int, channels: int, spatial: int, groups: int, scales: Floats,
                          biases: Floats, a: str, mean: Floats, variance: Floats, y: Floats) -> None:
    """Group normalization with activation: y = f(scales * (x - mean) / sqrt(variance + 1e-5) + biases), all in one call.

    Parameters
    ----------
    x : ndarray of float32, batch * channels * spatial values
    batch, channels, spatial, groups : int
        `groups` divides `channels`; 1 is layer normalization, `channels` instance normalization.
    scales, biases : ndarray of float32, shape (channels,)
    a : str
        Name of the activation, such as ``"linear"``.
    mean, variance : ndarray of float32, shape (batch, groups), written
        Of every group of channels of every sample; the biased variance.
    y : ndarray of float32, like `x`, written
        May be `x` itself.

    Raises
    ------
    ArgumentError
        As for :func:`mean_cpu`; also where `groups` does not divide `channels`.

    References
    ----------
    Y. Wu and K. He, arXiv:1803.08494, equations 1, 2 and 6.
    """
    n, number = _groups(batch, channels, spatial, groups), _elementwise(a)
    _lib.groupnorm_forward_cpu(_floats("x", x, n), batch, channels, spatial, groups, _floats("scales", scales, channels),
                               _floats("biases", biases, channels), number, _floats("mean", mean, batch * groups, out=True),
                               _floats("variance", variance, batch * groups, out=True), _floats("y", y, n, out=True))


def groupnorm_backward_cpu(x: Floats, y: Floats, delta: Floats, batch: int, channels: int, spatial: int,
                           groups: int, scales: Floats, biases: Floats, a: str, mean: Floats,
                           variance: Floats, scale_updates: Floats, bias_updates: Floats, add: int,
                           dx: Optional[Floats], workspace: Optional[Floats] = None) -> None:
    """The backward pass of :func:`groupnorm_forward_cpu`: delta at y -> dx; the updates are added to.

    Parameters
    ----------
    x, y, mean, variance : ndarray of float32
        What the forward pass read and wrote.
    delta : ndarray of float32, like `x`
    batch, channels, spatial, groups, scales, biases, a
        As in the forward pass.
    scale_updates, bias_updates : ndarray of float32, shape (channels,), added to
    add : bool
        Whether `dx` is added to, not written.
    dx : ndarray of float32, like `x`, or None
        None: not wanted.  With an activation it must be `delta` itself, which then holds the result.
    workspace : ndarray of float32, 2 * batch * channels values, optional

    Raises
    ------
    ArgumentError
        As for the forward pass; also where `dx` is `delta` and `add`, or is not `delta` with an activation.
    """
    n, number = _groups(batch, channels, spatial, groups), _elementwise(a)
    given, result = _floats("delta", delta, n), core.ffi.NULL if dx is None else _floats("dx", dx, n, out=True)
    if number != _lib.LINEAR and result != given:
        raise ArgumentError(f"dx: wanted delta itself, since a={a!r}")
    if result == given and add:
        raise ArgumentError("add: wanted 0, since dx is delta itself")
    if workspace is None:
        workspace = np.empty(2 * batch * channels, np.float32)
    _lib.groupnorm_backward_cpu(
        _floats("x", x, n), _floats("y", y, n), given, batch, channels, spatial, groups, _floats("scales", scales, channels),
        _floats("biases", biases, channels), number, _floats("mean", mean, batch * groups),
        _floats("variance", variance, batch * groups), _floats("scale_updates", scale_updates, channels, out=True),
        _floats("bias_updates", bias_updates, channels, out=True), bool(add), result,
        _floats("workspace", workspace, 2 * batch * channels, out=True))


# ---- biases and scales
def add_bias(output: Floats, biases: Floats, batch: int, n: int, size: int) -> None:
    """In place: output[b, f, i] += biases[f].  Darknet: ``add_bias``."""
    _lib.add_bias(_floats("output", output, _sizes(batch=batch, n=n, size=size), out=True), _floats("biases", biases, n), batch, n, size)


def scale_bias(output: Floats, scales: Floats, batch: int, n: int, size: int) -> None:
    """In place: output[b, f, i] *= scales[f].  Darknet: ``scale_bias``."""
    _lib.scale_bias(_floats("output", output, _sizes(batch=batch, n=n, size=size), out=True), _floats("scales", scales, n), batch, n, size)


def backward_bias(bias_updates: Floats, delta: Floats, batch: int, n: int, size: int) -> None:
    """bias_updates[f] += sum of delta[b, f, i].  Darknet: ``backward_bias``."""
    count = _sizes(batch=batch, n=n, size=size)
    _lib.backward_bias(_floats("bias_updates", bias_updates, n, out=True), _floats("delta", delta, count), batch, n, size)


def backward_scale_cpu(x_norm: Floats, delta: Floats, batch: int, n: int, size: int,
                       scale_updates: Floats) -> None:
    """scale_updates[f] += sum of delta[b, f, i] * x_norm[b, f, i].  Darknet: ``backward_scale_cpu``."""
    count = _sizes(batch=batch, n=n, size=size)
    _lib.backward_scale_cpu(_floats("x_norm", x_norm, count), _floats("delta", delta, count), batch, n, size,
                            _floats("scale_updates", scale_updates, n, out=True))


# ---- vectors
def _strided(name, array, n, inc, out=False):
    _positive(**{f"INC{name}": inc})
    wanted = (n - 1) * inc + 1
    core.array(name, array, None, writable=out)
    if array.size < wanted:
        raise ArgumentError(f"{name}: wanted at least {wanted} values, got {array.size}")
    return core.address(array)


def axpy_cpu(N: int, ALPHA: float, X: Floats, INCX: int, Y: Floats, INCY: int) -> None:
    """Y += ALPHA * X over N elements, INCX and INCY apart.  Darknet: ``axpy_cpu``."""
    _positive(N=N)
    _lib.axpy_cpu(N, require_number("ALPHA", ALPHA), _strided("X", X, N, INCX), INCX, _strided("Y", Y, N, INCY, out=True), INCY)


def copy_cpu(N: int, X: Floats, INCX: int, Y: Floats, INCY: int) -> None:
    """Y = X over N elements.  Darknet: ``copy_cpu``."""
    _positive(N=N)
    _lib.copy_cpu(N, _strided("X", X, N, INCX), INCX, _strided("Y", Y, N, INCY, out=True), INCY)


def mult_add_into_cpu(N: int, X: Floats, Y: Floats, Z: Floats) -> None:
    """Z += X * Y, element by element.  Darknet: ``mult_add_into_cpu``."""
    count = _sizes(N=N)
    _lib.multiply_cpu(N, _floats("X", X, count), _floats("Y", Y, count), True, _floats("Z", Z, count, out=True))


def weighted_sum_cpu(a: Floats, b: Optional[Floats], s: Floats, n: int, c: Floats) -> None:
    """c = s * a + (1 - s) * b over n values; b None: zeros.  Darknet: ``weighted_sum_cpu``."""
    count = _sizes(n=n)
    inputs = [_floats(name, array, count) for name, array in (("a", a), ("s", s))]
    second = core.address(None) if b is None else _floats("b", b, count)
    _lib.weighted_sum_cpu(inputs[0], second, inputs[1], n, _floats("c", c, count, out=True))


def weighted_delta_cpu(a: Floats, b: Floats, s: Floats, da: Optional[Floats], db: Floats, ds: Floats, n: int,
                       dc: Floats) -> None:
    """Add the deltas at a, b and s that follow from dc at :func:`weighted_sum_cpu`'s c; da None: not wanted.

    Darknet: ``weighted_delta_cpu``.
    """
    count = _sizes(n=n)
    inputs = [_floats(name, array, count) for name, array in (("a", a), ("b", b), ("s", s))]
    outputs = [core.address(None) if array is None else _floats(name, array, count, out=True)
               for name, array in (("da", da), ("db", db), ("ds", ds))]
    _lib.weighted_delta_cpu(*inputs, *outputs, n, _floats("dc", dc, count))


def constrain_cpu(size: int, ALPHA: float, X: Floats) -> None:
    """In place: X -> X within +-ALPHA.  Darknet: ``constrain_cpu``."""
    _lib.constrain_cpu(_sizes(size=size), require_number("ALPHA", ALPHA), _floats("X", X, size, out=True))


def fill_cpu(N: int, ALPHA: float, X: Floats, INCX: int) -> None:
    """X = ALPHA over N elements.  Darknet: ``fill_cpu``."""
    _positive(N=N)
    _lib.fill_cpu(N, require_number("ALPHA", ALPHA), _strided("X", X, N, INCX, out=True), INCX)


def scal_cpu(N: int, ALPHA: float, X: Floats, INCX: int) -> None:
    """X *= ALPHA over N elements.  Darknet: ``scal_cpu``."""
    _positive(N=N)
    _lib.scal_cpu(N, require_number("ALPHA", ALPHA), _strided("X", X, N, INCX, out=True), INCX)


# ---- matrices and columns
def gemm(TA: int, TB: int, M: int, N: int, K: int, ALPHA: float, A: Floats, lda: int, B: Floats, ldb: int,
         BETA: float, C: Floats, ldc: int) -> None:
    """C = ALPHA * A B + BETA * C, with A (M, K) or its transpose if TA, B (K, N) or its transpose if TB.

    `lda`, `ldb`, `ldc` are the row lengths of the arrays in memory.  Darknet: ``gemm``.
    """
    _positive(M=M, N=N, K=K)
    require_integers(lda=lda, ldb=ldb, ldc=ldc)
    ALPHA, BETA = require_number("ALPHA", ALPHA), require_number("BETA", BETA)
    matrices = []
    for name, array, rows, columns, ld, out in (("A", A, K if TA else M, M if TA else K, lda, False),
                                                ("B", B, N if TB else K, K if TB else N, ldb, False), ("C", C, M, N, ldc, True)):
        if ld < columns:
            raise ArgumentError(f"ld{name.lower()}={ld}: wanted at least the {columns} columns of {name}")
        core.array(name, array, None, writable=out)
        if array.size < (rows - 1) * ld + columns:
            raise ArgumentError(f"{name}: wanted at least {(rows - 1) * ld + columns} values, got {array.size}")
        matrices.append(core.address(array))
    _lib.gemm(bool(TA), bool(TB), M, N, K, ALPHA, matrices[0], lda, matrices[1], ldb, BETA, matrices[2], ldc)


def _columns(channels, height, width, ksize, stride, pad):
    image = _sizes(channels=channels, height=height, width=width)
    _positive(ksize=ksize, stride=stride)
    require_integers(pad=pad)
    out = [(side + 2 * pad - ksize) // stride + 1 for side in (height, width)]
    if pad < 0 or max(height, width) + 2 * pad >= 2**31 or min(out) < 1:
        raise ArgumentError(f"ksize={ksize} stride={stride} pad={pad}: no window fits {height}x{width}")
    return image, _sizes(channels=channels, **{"ksize^2": ksize * ksize}, out_h=out[0], out_w=out[1])


def im2col_cpu(im: Floats, channels: int, height: int, width: int, ksize: int, stride: int, pad: int,
               col: Floats) -> None:
    """Lay out the windows of an image (channels, height, width) as columns (channels * ksize^2, out_h * out_w).

    Darknet: ``im2col_cpu``.
    """
    image, columns = _columns(channels, height, width, ksize, stride, pad)
    _lib.im2col_cpu(_floats("im", im, image), channels, height, width, ksize, stride, pad, _floats("col", col, columns, out=True))


def col2im_cpu(col: Floats, channels: int, height: int, width: int, ksize: int, stride: int, pad: int,
               im: Floats) -> None:
    """Add columns back to the pixels they came from: im += ...; the transpose of :func:`im2col_cpu`.  Darknet: ``col2im_cpu``."""
    image, columns = _columns(channels, height, width, ksize, stride, pad)
    _lib.col2im_cpu(_floats("col", col, columns), channels, height, width, ksize, stride, pad, _floats("im", im, image, out=True))


# ---- activations, softmax, losses
def activate_array(x: Floats, n: int, a: str) -> None:
    """In place: x -> f(x) for n values; `a` is a name such as ``"leaky"``.  Darknet: ``activate_array``."""
    number = activation_number(a)
    if number >= _lib.NORM_CHAN:
        raise ArgumentError(f"{a}: mixes channels; use an [activation] layer")
    _lib.activate_array(_floats("x", x, _sizes(n=n), out=True), n, number)


def gradient_array(x: Floats, n: int, a: str, delta: Floats) -> None:
    """In place: delta *= f'.  `x` is the activation's OUTPUT, as in Darknet; for gelu, swish, mish and hard_mish, whose output does
    not tell the slope, it is the INPUT.  Darknet: ``gradient_array``, ``gradient_array_swish``, ``gradient_array_mish``."""
    number = activation_number(a)
    if number >= _lib.NORM_CHAN:
        raise ArgumentError(f"{a}: mixes channels; use an [activation] layer")
    function = _lib.gradient_input_array if number >= _lib.GELU else _lib.gradient_array
    count = _sizes(n=n)
    function(_floats("x", x, count), n, number, _floats("delta", delta, count, out=True))


def softmax_cpu(input: Floats, n: int, batch: int, batch_offset: int, groups: int, group_offset: int,
                stride: int, temp: float, output: Floats) -> None:
    """Softmax of input / temp over sets of n values `stride` apart, `groups` sets per image.  Darknet: ``softmax_cpu``."""
    _positive(n=n, batch=batch, groups=groups, stride=stride)
    require_integers(batch_offset=batch_offset, group_offset=group_offset)
    if not require_number("temp", temp) > 0:
        raise ArgumentError(f"temp={temp}: wanted more than 0")
    last = (batch - 1) * batch_offset + (groups - 1) * group_offset + (n - 1) * stride + 1
    for name, array in (("input", input), ("output", output)):
        core.array(name, array, None, writable=name == "output")
        if batch_offset < 0 or group_offset < 0 or array.size < last:
            raise ArgumentError(f"{name}: wanted at least {last} values, got {array.size}")
    _lib.softmax_cpu(core.address(input), n, batch, batch_offset, groups, group_offset, stride, temp, core.address(output))


def _loss(name, n, pred, truth, delta, error):
    count = _sizes(n=n)
    getattr(_lib, name)(n, _floats("pred", pred, count), _floats("truth", truth, count), _floats("delta", delta, count, out=True),
                        _floats("error", error, count, out=True))


def softmax_x_ent_cpu(n: int, pred: Floats, truth: Floats, delta: Floats, error: Floats) -> None:
    """Cross-entropy of probabilities: delta = truth - pred, error = -truth log(pred).  Darknet: ``softmax_x_ent_cpu``."""
    _loss("softmax_x_ent_cpu", n, pred, truth, delta, error)


def logistic_x_ent_cpu(n: int, pred: Floats, truth: Floats, delta: Floats, error: Floats) -> None:
    """Binary cross-entropy: delta = truth - pred, error = -truth log(pred) - (1 - truth) log(1 - pred).

    Darknet: ``logistic_x_ent_cpu``.
    """
    _loss("logistic_x_ent_cpu", n, pred, truth, delta, error)


def l2_cpu(n: int, pred: Floats, truth: Floats, delta: Floats, error: Floats) -> None:
    """delta = truth - pred, error = delta^2.  Darknet: ``l2_cpu``."""
    _loss("l2_cpu", n, pred, truth, delta, error)


def l1_cpu(n: int, pred: Floats, truth: Floats, delta: Floats, error: Floats) -> None:
    """delta = sign(truth - pred), error = |truth - pred|.  Darknet: ``l1_cpu``."""
    _loss("l1_cpu", n, pred, truth, delta, error)


def smooth_l1_cpu(n: int, pred: Floats, truth: Floats, delta: Floats, error: Floats) -> None:
    """With d = truth - pred: d and d^2 where |d| < 1, else sign(d) and 2 |d| - 1.  Darknet: ``smooth_l1_cpu`` with its sign mended."""
    _loss("smooth_l1_cpu", n, pred, truth, delta, error)


# ---- maps
def upsample_cpu(x: Floats, w: int, h: int, c: int, batch: int, stride: int, forward: int, scale: float,
                 out: Floats) -> None:
    """forward=1: out (stride times as large) = scale * x, nearest; forward=0: x += scale * the sums of out's squares.

    Darknet: ``upsample_cpu``.
    """
    small = _sizes(batch=batch, c=c, h=h, w=w)
    large = _sizes(batch=batch, c=c, h=h, w=w, stride=stride, stride_=stride)
    small_address, large_address = _floats("x", x, small, out=not forward), _floats("out", out, large, out=bool(forward))
    if forward:
        _lib.upsample_forward_cpu(small_address, batch * c, h, w, stride, scale, False, large_address)
    else:
        _lib.upsample_backward_cpu(large_address, batch * c, h, w, stride, scale, True, small_address)


def reorg_cpu(x: Floats, w: int, h: int, c: int, batch: int, stride: int, forward: int, out: Floats) -> None:
    """Give values other places: forward=1 from a map (c, h, w) to (c / stride^2, h * stride, w * stride), else back.

    Channels k, k + c / stride^2, k + 2 c / stride^2, ... become the pixels of each square of channel k.  Darknet: ``reorg_cpu``.
    """
    count = _sizes(batch=batch, c=c, h=h, w=w)
    _sizes(stride=stride)
    if c % stride**2:
        raise ArgumentError(f"stride={stride}: wanted its square to divide c={c}")
    _lib.reorg_cpu(_floats("x", x, count), w, h, c, batch, stride, bool(forward), False,
                   _floats("out", out, count, out=True))


def shortcut_cpu(batch: int, w1: int, h1: int, c1: int, add: Floats, w2: int, h2: int, c2: int, s1: float,
                 s2: float, out: Floats) -> None:
    """out = s1 * out + s2 * add where both have an element; pjreddie's rule for unlike shapes.  Darknet: ``shortcut_cpu``."""
    addresses = (_floats("add", add, _sizes(batch=batch, c1=c1, h1=h1, w1=w1)),
                 _floats("out", out, _sizes(batch=batch, c2=c2, h2=h2, w2=w2), out=True))
    if max(w1 // w2, 1) != max(h1 // h2, 1) or max(w2 // w1, 1) != max(h2 // h1, 1):
        raise ArgumentError(f"{w1}x{h1} and {w2}x{h2}: wanted the same ratio of widths and heights")
    shape = core.ffi.new("overlap_shape *", {"batch": batch, "w1": w1, "h1": h1, "c1": c1, "w2": w2, "h2": h2, "c2": c2})
    _lib.shortcut_overlap_cpu(shape, addresses[0], s1, s2, addresses[1])


__all__ = [name for name, value in list(globals().items()) if callable(value) and not name.startswith("_")
           and getattr(value, "__module__", "") == __name__]
