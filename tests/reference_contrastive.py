"""The kernels of [contrastive] in numpy, float64."""

from __future__ import annotations

import numpy as np
from heads import logistic
from reference_heads import _Image


def contrastive_label_boxes_cpu(r, truth, labels, kinds):
    labels, kinds = (a.reshape(r.batch, r.slots, r.h, r.w) for a in (labels, kinds))
    for b, rows in enumerate(truth.reshape(r.batch, r.max, -1)):
        rows = rows[: np.argmax(np.append(rows[:, 0], 0) == 0)]
        image = _Image(r, None, None, None, None, rows)
        for row in rows:
            i, j = np.clip((row[:2] * (r.w, r.h)).astype(int), 0, (r.w - 1, r.h - 1))
            for s in range(r.slots):
                if image.learns(row, s):
                    labels[b, s, j, i], kinds[b, s, j, i] = row[5], image.label(row)


def contrastive_label_images_cpu(batch, classes, truth, labels):
    rows = truth.reshape(batch, classes)
    labels[:] = np.where(rows.max(axis=1) > 0, rows.argmax(axis=1), classes + np.arange(batch) // 2)


def contrastive_train_cpu(r, z, labels, kinds, samples, partners, delta, loss, workspace):
    """P[i, j]: what i's loss gains when its cosine with j grows; each cosine moves both of its ends."""
    shape = (r.batch * r.anchors, r.size, r.cells)
    z, delta, loss = (np.moveaxis(a.reshape(shape), 1, 2) for a in (z, delta, loss))
    at = np.nonzero(labels.reshape(-1, r.cells) >= 0)
    own, kind, x = labels.reshape(-1, r.cells)[at], kinds.reshape(-1, r.cells)[at], z[at]
    length = np.linalg.norm(x, axis=1)
    inverse = np.divide(1, length, out=np.zeros(len(x)), where=length > 0)
    unit = x * inverse[:, None]
    cosines, n, pulls = unit @ unit.T, len(x), np.zeros((len(x), len(x)))
    for i in range(n):
        near = (kind == kind[i]) & (np.arange(n) != i)
        alike, others = np.nonzero(near & (own == own[i]))[0], np.nonzero(near & (own != own[i]))[0][: r.most]
        if len(alike) and len(others):
            excess = np.logaddexp.reduce(cosines[i, others] / r.temperature) - cosines[i, alike] / r.temperature
            weight = r.cls_normalizer / len(alike)
            loss[at[0][i], at[1][i], 0] = weight * np.logaddexp(0, excess).sum()
            pulls[i, alike] = weight * logistic(excess) / r.temperature
            share = np.exp((cosines[i, others] - cosines[i, others].max()) / r.temperature)
            pulls[i, others] = -pulls[i, alike].sum() * share / share.sum()
    pulls += pulls.T
    slopes = pulls @ unit - (pulls * cosines).sum(axis=1)[:, None] * unit
    delta[at] = np.clip(slopes * inverse[:, None], -r.max_delta, r.max_delta)
