"""The third part of reference.py: products and mixtures, other places, norms across channels, local convolution, tails of maps."""

from __future__ import annotations

import numpy as np
from reference_maps import give, philox


# ---- products and mixtures
def multiply_cpu(n, a, b, add, y):
    give(y, a * b, add)


def scale_maps_cpu(x, scales, batch, channels, spatial, per_pixel, add, y):
    shape = (batch, 1, spatial) if per_pixel else (batch, channels, 1)
    give(y, x.reshape(batch, channels, spatial) * scales.reshape(shape), add)


def scale_maps_backward_cpu(x, delta, batch, channels, spatial, per_pixel, add, scales_delta):
    give(scales_delta, (x * delta).reshape(batch, channels, spatial).sum(axis=1 if per_pixel else 2), add)


def _rows(x, rows, columns, ld):
    return np.lib.stride_tricks.as_strided(x, (rows, columns), (ld * x.itemsize, x.itemsize))


def mix_rows_cpu(x, rows, columns, ldx, weights, step, add, y, ldy):
    to = _rows(y, rows, columns, ldy)
    to[:] = (to if add else 0) + weights[np.arange(columns) // step] * _rows(x, rows, columns, ldx)


def mix_rows_backward_cpu(x, ldx, delta, ldd, rows, columns, step, weights_delta):
    products = (_rows(x, rows, columns, ldx) * _rows(delta, rows, columns, ldd)).sum(axis=0)
    weights_delta[: (columns - 1) // step + 1] += np.add.reduceat(products, np.arange(0, columns, step))


def _terms_and_slopes(w, kind):
    """e (n, length) and de_i / dw_j (n, n, length)."""
    eye = np.eye(len(w))[:, :, None]
    if kind == 1:
        return np.maximum(w, 0), eye * (w > 0)
    e, top = np.exp(w - w.max(axis=0)), np.eye(len(w))[:, w.argmax(axis=0)][None]
    return e, e[:, None] * (eye - top)


def mix_weights_cpu(weights, n, length, kind, mixed):
    w = weights.reshape(n, length)
    e = _terms_and_slopes(w, kind)[0]
    give(mixed, e / (e.sum(axis=0) + 1e-4) if kind else w, 0)


def mix_weights_backward_cpu(weights, mixed, delta, n, length, kind, updates):
    w, d = weights.reshape(n, length), delta.reshape(n, length)
    if not kind:
        updates += delta
        return
    e, slopes = _terms_and_slopes(w, kind)
    total = e.sum(axis=0) + 1e-4
    jacobian = slopes / total - e[:, None] * slopes.sum(axis=0)[None] / total**2
    updates += np.einsum("il,ijl->jl", d, jacobian).ravel()


# ---- other places
def reorg_cpu(x, w, h, c, batch, stride, forward, add, out):
    wide_c = c // stride**2
    deep, wide = (batch, stride, stride, wide_c, h, w), (batch, wide_c, h, stride, w, stride)
    if forward:
        give(out, x.reshape(deep).transpose(0, 3, 4, 1, 5, 2), add)
    else:
        give(out, x.reshape(wide).transpose(0, 3, 5, 1, 2, 4), add)


def transpose_cpu(x, batch, rows, columns, add, y):
    give(y, x.reshape(batch, rows, columns).swapaxes(1, 2), add)


# ---- norms across channels
def _lrn_members(channels, size):
    """members[k, j] = how often norm k counts the square of channel j."""
    k, j = np.indices((channels, channels))
    members = ((j >= k - (size - 1) // 2) & (j <= k + size // 2)).astype(float)
    members[:, size // 2 : size // 2 + 1] -= 1
    return members


def _lrn_norms(x, size, alpha, kappa):
    return kappa + alpha * np.einsum("kj,bji->bki", _lrn_members(x.shape[1], size), x**2)


def lrn_forward_cpu(x, batch, channels, spatial, size, alpha, beta, kappa, norms, y):
    x = x.reshape(batch, channels, spatial)
    n = _lrn_norms(x, size, alpha, kappa)
    if norms is not None:
        give(norms, n, 0)
    give(y, x * n**-beta, 0)


def lrn_backward_cpu(x, y, norms, delta, batch, channels, spatial, size, alpha, beta, add, dx, workspace):
    x, d, n = (array.reshape(batch, channels, spatial) for array in (x, delta, norms))
    inner = np.einsum("kj,bki->bji", _lrn_members(channels, size), d * x * n ** (-beta - 1))
    give(dx, d * n**-beta - 2 * alpha * beta * x * inner, add)


def _length(x):
    length = np.sqrt((x**2).sum(axis=1, keepdims=True))
    return np.where(length > 0, length, 1)


def l2norm_forward_cpu(x, batch, channels, spatial, y):
    x = x.reshape(batch, channels, spatial)
    give(y, x / _length(x), 0)


def l2norm_backward_cpu(x, y, delta, batch, channels, spatial, add, dx):
    x, d = x.reshape(batch, channels, spatial), delta.reshape(batch, channels, spatial)
    unit = x / _length(x)
    give(dx, (d - unit * (unit * d).sum(axis=1, keepdims=True)) / _length(x), add)


# ---- a filter for each place
def _local_windows(s):
    """Yield (place, y, x, rows, columns) of the padded image."""
    for place in range(s.out_h * s.out_w):
        i, j = divmod(place, s.out_w)
        top, left = i * s.stride_y, j * s.stride_x
        yield place, i, j, slice(top, top + s.size), slice(left, left + s.size)


def _padded(s, x):
    return np.pad(x.reshape(s.batch, s.c, s.h, s.w), ((0, 0), (0, 0), (s.pad, s.pad), (s.pad, s.pad)))


def _local_weights(s, w):
    return w.reshape(s.out_h * s.out_w, s.n, s.c, s.size, s.size)


def local_forward_cpu(s, x, w, y, workspace):
    image, out = _padded(s, x), y.reshape(s.batch, s.n, s.out_h, s.out_w)
    for place, i, j, rows, columns in _local_windows(s):
        out[:, :, i, j] = np.einsum("bcyx,ncyx->bn", image[:, :, rows, columns], _local_weights(s, w)[place])


def local_backward_weights_cpu(s, x, dy, dw, workspace):
    image, d = _padded(s, x), dy.reshape(s.batch, s.n, s.out_h, s.out_w)
    for place, i, j, rows, columns in _local_windows(s):
        _local_weights(s, dw)[place] += np.einsum("bcyx,bn->ncyx", image[:, :, rows, columns], d[:, :, i, j])


def local_backward_data_cpu(s, dy, w, add, dx, workspace):
    image, d = np.zeros_like(_padded(s, dx)), dy.reshape(s.batch, s.n, s.out_h, s.out_w)
    for place, i, j, rows, columns in _local_windows(s):
        image[:, :, rows, columns] += np.einsum("bn,ncyx->bcyx", d[:, :, i, j], _local_weights(s, w)[place])
    give(dx, image[:, :, s.pad : s.pad + s.h, s.pad : s.pad + s.w], add)


# ---- tails of maps
def maxpool_depth_cpu(x, batch, channels, spatial, groups, y, indexes):
    x = x.reshape(batch, channels, spatial)
    places = np.arange(x.size).reshape(x.shape)
    for g in range(groups):
        best = x[:, g::groups].argmax(axis=1)[:, None]
        y.reshape(batch, groups, spatial)[:, g] = np.take_along_axis(x[:, g::groups], best, 1)[:, 0]
        if indexes is not None:
            where = np.take_along_axis(places[:, g::groups], best, 1)[:, 0]
            indexes.reshape(batch, groups, spatial)[:, g] = where


def maxpool_depth_backward_cpu(delta, indexes, batch, channels, spatial, groups, add, dx):
    sums = np.zeros(batch * channels * spatial)
    sums[indexes] = delta
    give(dx, sums, add)


def mark_boxes_cpu(truth, batch, truths, size, h, w, value, plane):
    """A cell is touched where the inside of a box and that of the cell meet."""
    plane = plane.reshape(batch, h, w)
    plane[:] = 0
    for image, rows in zip(plane, truth.reshape(batch, truths // size, size)):
        for x, y, bw, bh in rows[: next((n for n, row in enumerate(rows) if row[0] == 0), len(rows)), :4]:
            i, j = np.arange(h)[:, None], np.arange(w)
            image[
                (j + 1 > (x - bw / 2) * w) & (j < (x + bw / 2) * w) & (i + 1 > (y - bh / 2) * h) & (i < (y + bh / 2) * h)
            ] = value


def _blur_matrix(s, axis):
    """(out, in): one axis of the blur, whose window is a product."""
    taps = {2: (0.5, 0.5), 3: (0.25, 0.5, 0.25)}[s.size]
    matrix = np.zeros(((s.out_h, s.h), (s.out_w, s.w))[axis])
    for o in range(len(matrix)):
        for k, tap in enumerate(taps):
            i = o * (s.stride_y, s.stride_x)[axis] - s.offset + k
            if 0 <= i < matrix.shape[1]:
                matrix[o, i] = tap
    return matrix


def blur_forward_cpu(x, s, y):
    give(y, _blur_matrix(s, 0) @ x.reshape(-1, s.h, s.w) @ _blur_matrix(s, 1).T, 0)


def blur_backward_cpu(delta, s, add, dx):
    give(dx, _blur_matrix(s, 0).T @ delta.reshape(-1, s.out_h, s.out_w) @ _blur_matrix(s, 1), add)


def coordinates_cpu(batch, channels, h, w, zero, y):
    u, v = np.meshgrid(2 * np.arange(w) / w - 1, 2 * np.arange(h) / h - 1)
    for c, value in enumerate((u, v, np.hypot(u, v))[:channels]):
        y.reshape(batch, channels, h, w)[:, c] = 0 if zero else value


def excite_cpu(x, batch, channels, spatial, weights):
    maps = x.reshape(batch, channels, spatial)
    maps += weights.reshape(batch, 1, spatial) * maps.mean(axis=1, keepdims=True)


def dropblock_mask_cpu(batch, channels, h, w, size, probability, seed, purpose, first_row, mask):
    """Element i of row b takes word i % 4 of block i // 4 of the stream (seed, purpose, first_row + b)."""
    values = channels * h * w
    for b in range(batch):
        row = first_row + b
        counter = [[row & 0xFFFFFFFF, row >> 32, purpose, block] for block in range((values + 3) // 4)]
        bits = philox(np.array(counter, np.uint64), seed).ravel()[:values]
        begins = ((bits >> np.uint64(8)) / 2.0**24 < np.float32(probability)).reshape(channels, h, w)
        kept = np.ones((channels, h, w))
        for c, i, j in zip(*np.nonzero(begins)):
            kept[c, i : i + size, j : j + size] = 0
        mask.reshape(batch, channels, h, w)[b] = kept * (values / kept.sum() if kept.any() else 0)
