"""The kernel of [detection] in numpy, float64."""

from __future__ import annotations

import numpy as np
from heads import overlap
from reference_maps import philox


def detection_train_cpu(r, p, truth, delta, loss):
    cells = r.side**2
    rows = truth.reshape(r.batch, cells, -1)
    split = [cells * r.classes, cells * (r.classes + r.num)]
    for b in range(r.batch):
        p_b, delta_b, loss_b = (
            [part.reshape(cells, *shape) for part, shape in zip(np.split(a.reshape(r.batch, -1)[b], split), ([-1], [-1], [r.num, 4]))]
            for a in (p, delta, loss)
        )
        for cell, row in enumerate(rows[b]):
            counter = [(r.first_row + b) & 0xFFFFFFFF, (r.first_row + b) >> 32, r.purpose, cell]
            word = int(philox(np.array([counter], np.uint64), r.seed).ravel()[0]) if r.draws else None
            _cell(r, word, row, *([part[cell] for part in parts] for parts in (p_b, delta_b, loss_b)))


def _pull(p, delta, loss, at, target, weight):
    d = target - p[at]
    delta[at], loss[at] = weight * d, weight * d**2 / 2


def _cell(r, word, row, p, delta, loss):
    """p, delta and loss of one cell: classes, objectness, boxes; word: the random one, or None."""
    classes, objectness, boxes = zip(p, delta, loss)
    _pull(*objectness, slice(None), 0, r.noobject_scale)
    if row[0] == 0:
        return
    _pull(*classes, slice(None), row[1:-4], r.class_scale)
    if r.softmax:
        loss[0][:] = -r.class_scale * row[1:-4] * np.log(np.maximum(p[0], 1e-37))
    truth, found = row[-4:] / [r.side, r.side, 1, 1], p[2] / [r.side, r.side, 1, 1]
    if r.root:
        found[:, 2:] **= 2
    fits = overlap(found, truth)
    best = np.argmax(fits) if fits.max() > 0 else np.argmin(np.square(found - truth).sum(axis=1))
    if r.forced:
        best = int(truth[2] * truth[3] < 0.1 and r.num > 1)
    if word is not None:
        best = word * r.num >> 32
    _pull(*objectness, best, fits[best] if r.rescore else 1, r.object_scale)
    _pull(*boxes, best, np.append(row[-4:-2], np.sqrt(row[-2:]) if r.root else row[-2:]), r.coord_scale)
