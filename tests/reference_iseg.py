"""The kernel of [iseg] in numpy, float64."""

from __future__ import annotations

import numpy as np


def iseg_train_cpu(r, z, p, truth, means, sizes, delta, loss):
    """With each of its owners an embedding is pulled: towards that one's mean, away from those of all others."""
    z, p, delta, loss = (a.reshape(r.batch, -1, r.h * r.w) for a in (z, p, delta, loss))
    means, sizes = means.reshape(r.batch, 90, r.ids), sizes.reshape(r.batch, 90)
    sizes[:] = -1
    for b, rows in enumerate(truth.reshape(r.batch, 90, -1)):
        rows = rows[: np.argmax(np.append(rows[:, 0], -1) < 0)]
        inside, target, e = rows[:, 1:] != 0, np.zeros((r.classes, r.h * r.w)), p[b, r.classes :]
        for row, own in zip(rows, inside):
            target[int(row[0]), own] = row[1:][own]
        delta[b], loss[b, r.classes :] = -0.001 * p[b], 0.0005 * e**2
        delta[b, : r.classes] = target - p[b, : r.classes]
        loss[b, : r.classes] = np.logaddexp(0, z[b, : r.classes]) - target * z[b, : r.classes]
        for j, own in enumerate(inside):
            sizes[b, j], means[b, j] = own.sum(), e[:, own].mean(axis=1) if own.any() else 0
            d = means[b, j, :, None] - e
            pull = 0.001 * (2.0 * own - inside.sum(axis=0)) * own.any()
            delta[b, r.classes :] += pull * np.where(d < 0, -1, 1)
            loss[b, r.classes :] += pull * np.abs(d)
