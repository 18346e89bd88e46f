"""The second half of reference.py: pooling, resampling, dropout, losses and the optimizer."""

from __future__ import annotations

import numpy as np


def give(to, value, add):
    to[:] = value.reshape(to.shape) + (to if add else 0)


# ---- pooling and resampling
def _windows(s):
    for oy in range(s.out_h):
        for ox in range(s.out_w):
            y, x = oy * s.stride_y - s.offset, ox * s.stride_x - s.offset
            yield oy, ox, slice(max(y, 0), min(y + s.size, s.h)), slice(max(x, 0), min(x + s.size, s.w))


def _maps(x, s, out=False):
    return x.reshape(s.batch, s.c, *((s.out_h, s.out_w) if out else (s.h, s.w)))


def maxpool_forward_cpu(x, s, y, indexes):
    places = np.arange(s.batch * s.c * s.h * s.w).reshape(s.batch, s.c, s.h, s.w)
    for oy, ox, rows, columns in _windows(s):
        window = _maps(x, s)[:, :, rows, columns].reshape(s.batch, s.c, -1)
        best = window.argmax(axis=2)[:, :, None]
        _maps(y, s, True)[:, :, oy, ox] = np.take_along_axis(window, best, 2)[:, :, 0]
        if indexes is not None:
            where = np.take_along_axis(places[:, :, rows, columns].reshape(s.batch, s.c, -1), best, 2)
            _maps(indexes, s, True)[:, :, oy, ox] = where[:, :, 0]


def maxpool_backward_cpu(delta, indexes, s, add, dx):
    give(dx, np.bincount(indexes.ravel(), delta.ravel(), dx.size), add)


def local_avgpool_forward_cpu(x, s, y):
    for oy, ox, rows, columns in _windows(s):
        _maps(y, s, True)[:, :, oy, ox] = _maps(x, s)[:, :, rows, columns].mean(axis=(2, 3))


def local_avgpool_backward_cpu(delta, s, add, dx):
    result = np.zeros((s.batch, s.c, s.h, s.w))
    for oy, ox, rows, columns in _windows(s):
        area = (rows.stop - rows.start) * (columns.stop - columns.start)
        result[:, :, rows, columns] += _maps(delta, s, True)[:, :, oy : oy + 1, ox : ox + 1] / area
    give(dx, result, add)


def avgpool_forward_cpu(x, rows, spatial, y):
    y[:] = x.reshape(rows, spatial).mean(axis=1)


def avgpool_backward_cpu(delta, rows, spatial, add, dx):
    give(dx, np.repeat(delta / spatial, spatial), add)


def upsample_forward_cpu(x, planes, h, w, stride, scale, add, y):
    give(y, scale * x.reshape(planes, h, w).repeat(stride, axis=1).repeat(stride, axis=2), add)


def upsample_backward_cpu(delta, planes, h, w, stride, scale, add, dx):
    give(dx, scale * delta.reshape(planes, h, stride, w, stride).sum(axis=(2, 4)), add)


def _overlap(s, source, own):
    """The elements that meet: every stride-th of the larger map."""
    stride, sample = max(s.w1 // s.w2, 1), max(s.w2 // s.w1, 1)
    h, w, c = min(s.h1, s.h2), min(s.w1, s.w2), min(s.c1, s.c2)
    a = (
        source.reshape(s.batch, s.c1, s.h1, s.w1)[:, :c, : h * stride : stride, : w * stride : stride]
        if source is not None
        else None
    )
    b = own.reshape(s.batch, s.c2, s.h2, s.w2)[:, :c, : h * sample : sample, : w * sample : sample]
    return a, b


def shortcut_overlap_cpu(s, source, alpha, beta, out):
    a, b = _overlap(s, source, out)
    b[:] = alpha * b + beta * a


def shortcut_overlap_from_cpu(s, delta, beta, to):
    a, b = _overlap(s, to, delta)
    a += beta * b


def shortcut_overlap_input_cpu(s, delta, alpha, to):
    _overlap(s, None, to)[1][:] += (alpha - 1) * _overlap(s, None, delta)[1]


def _cropped(x, planes, h, w, out_h, out_w, top, left, flip):
    part = x.reshape(planes, h, w)[:, top : top + out_h, left : left + out_w]
    return part[:, :, ::-1] if flip else part


def crop_forward_cpu(x, planes, h, w, out_h, out_w, top, left, flip, scale, shift, y):
    y[:] = (scale * _cropped(x, planes, h, w, out_h, out_w, top, left, flip) + shift).reshape(y.shape)


def crop_backward_cpu(delta, planes, h, w, out_h, out_w, top, left, flip, scale, add, dx):
    if not add:
        dx[:] = 0
    _cropped(dx, planes, h, w, out_h, out_w, top, left, flip)[:] += scale * delta.reshape(
        planes, out_h, out_w
    )


# ---- dropout, softmax and losses
def philox(counter, key):
    """Philox4x32-10 of arrays of counters (n, 4); Salmon et al., SC 2011."""
    x = [counter[:, i].astype(np.uint64) for i in range(4)]
    low, k = np.uint64(0xFFFFFFFF), [int(key) & 0xFFFFFFFF, int(key) >> 32]
    for _ in range(10):
        a, b = np.uint64(0xD2511F53) * x[0], np.uint64(0xCD9E8D57) * x[2]
        x = [
            (b >> np.uint64(32)) ^ x[1] ^ np.uint64(k[0]),
            b & low,
            (a >> np.uint64(32)) ^ x[3] ^ np.uint64(k[1]),
            a & low,
        ]
        k = [(k[0] + 0x9E3779B9) & 0xFFFFFFFF, (k[1] + 0xBB67AE85) & 0xFFFFFFFF]
    return np.stack(x, axis=1)


def dropout_cpu(x, batch, inputs, probability, seed, purpose, first_row, add, y):
    """Element i of row b takes word i % 4 of block i // 4 of the stream (seed, purpose, first_row + b); its upper 24 bits decide."""
    blocks = (inputs + 3) // 4
    result = np.empty((batch, inputs))
    for b in range(batch):
        row = first_row + b
        counter = np.array(
            [[row & 0xFFFFFFFF, row >> 32, purpose, block] for block in range(blocks)], np.uint64
        )
        uniform = (philox(counter, seed).ravel()[:inputs] >> np.uint64(8)) / 2.0**24
        result[b] = np.where(
            uniform < np.float32(probability), 0, x.reshape(batch, inputs)[b] / (1 - probability)
        )
    give(y, result, add)


def _sets(n, batch, batch_offset, groups, group_offset, stride):
    for b in range(batch):
        for g in range(groups):
            yield b * batch_offset + g * group_offset + stride * np.arange(n)


def softmax_cpu(input, n, batch, batch_offset, groups, group_offset, stride, temp, output):
    for at in _sets(n, batch, batch_offset, groups, group_offset, stride):
        e = np.exp((input[at] - input[at].max()) / temp)
        output[at] = e / e.sum()


def softmax_backward_cpu(output, delta, n, batch, batch_offset, groups, group_offset, stride, temp, dx):
    for at in _sets(n, batch, batch_offset, groups, group_offset, stride):
        p = output[at]
        dx[at] = (np.diag(p) - np.outer(p, p)) @ delta[at] / temp


def softmax_x_ent_cpu(n, pred, truth, delta, error):
    counts = truth != -1234
    delta[:] = np.where(counts, truth - pred, 0)
    error[:] = np.where(counts & (truth != 0), -truth * np.log(pred), 0)


def logistic_x_ent_cpu(n, pred, truth, delta, error):
    delta[:] = truth - pred
    error[:] = -truth * np.log(pred) - (1 - truth) * np.log(1 - pred)


def logistic_loss_cpu(n, x, truth, error):
    error[:] = np.logaddexp(0, x) - truth * x


def l2_cpu(n, pred, truth, delta, error):
    delta[:] = truth - pred
    error[:] = delta**2


def l1_cpu(n, pred, truth, delta, error):
    delta[:] = np.sign(truth - pred)
    error[:] = np.abs(truth - pred)


def smooth_l1_cpu(n, pred, truth, delta, error):
    d = truth - pred
    delta[:] = np.clip(d, -1, 1)
    error[:] = np.where(np.abs(d) < 1, d**2, 2 * np.abs(d) - 1)


def wgan_cpu(n, pred, truth, delta, error):
    delta[:] = np.where(truth > 0, 1, -1)
    error[:] = np.where(truth != 0, -pred, pred)


def mask_loss_cpu(n, truth, value, factor, delta, error):
    at = truth == value
    delta[at] *= factor
    error[at] *= factor


def sum_cpu(n, x, sum):
    sum[0] = x.sum()


# ---- the optimizer
def sum_squares_cpu(n, x, sum):
    sum[0] = (x**2).sum()


def sgd_update_cpu(count, p, rate, momentum):
    for q in p:
        q.updates -= q.decay * q.w
        q.w += rate * q.updates
        q.updates *= momentum


def momentum_update_cpu(count, p, clip, rate, momentum):
    for q in p:
        q.m += clip * q.updates - q.decay * q.w
        q.w += rate * q.m
        q.m *= momentum
        q.updates[:] = 0


def adam_update_cpu(count, p, gradient_scale, rate, b1, b2, eps, t):
    """Algorithm 1 of arXiv:1412.6980; updates are negative gradients, so the step is added."""
    for q in p:
        g = gradient_scale * q.updates - q.decay * q.w
        q.m[:] = b1 * q.m + (1 - b1) * g
        q.v[:] = b2 * q.v + (1 - b2) * g**2
        q.w += rate * (q.m / (1 - b1**t)) / (np.sqrt(q.v / (1 - b2**t)) + eps)
        q.updates[:] = 0


def center_rows_cpu(rows, columns, x):
    table = x.reshape(rows, columns)
    x[:] = (table - table.mean(axis=1, keepdims=True)).ravel()


# ---- numbers of one bit
def binarize_weights(weights, n, size, binary):
    table = weights.reshape(n, size)
    binary[:] = (np.where(table > 0, 1, -1) * np.abs(table).mean(axis=1, keepdims=True)).ravel()


def binarize_cpu(input, planes, h, w, pad, outside, binary):
    signs = np.where(input.reshape(planes, h, w) > 0, 1.0, -1.0)
    binary[:] = np.pad(signs, ((0, 0), (pad, pad), (pad, pad)), constant_values=outside).ravel()


def soft_threshold_cpu(n, threshold, w):
    w[:] = np.sign(w) * np.maximum(np.abs(w) - threshold, 0)
