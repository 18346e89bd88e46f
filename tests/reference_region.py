"""The kernels of [region] in numpy, float64: the output, its other order, and who learns what."""

from __future__ import annotations

import numpy as np
from heads import logistic, overlap


def _values(r, flat):
    return flat.reshape(r.batch, r.num, -1, r.h, r.w)


def _logistics(r):
    """Return which of an anchor's values go through the logistic in the forward pass."""
    found = [0, 1] + [r.coords] * (not r.background)
    classes = r.softmax or r.parents is not None or r.alexeyab
    return found + ([] if classes else list(range(r.coords + 1, r.coords + 1 + r.classes)))


def region_activate_cpu(r, z, p):
    p[:] = z
    _values(r, p)[:, :, _logistics(r)] = logistic(_values(r, z)[:, :, _logistics(r)])


def region_gradient_cpu(r, p, loss, delta):
    values = _logistics(r)
    if loss:
        values = [] if r.alexeyab else [e for e in values if e <= r.coords]
    elif r.alexeyab:
        values = [e for e in values if e > 1]
    p = _values(r, p)[:, :, values]
    _values(r, delta)[:, :, values] *= p * (1 - p)


def region_reorder_cpu(r, x, positions, back, y):
    shape = (r.batch, r.num, -1, r.h * r.w)
    if back:
        moved = x.reshape(shape)
        if r.alexeyab:
            moved = x.reshape(r.batch, r.h * r.w, r.num, -1).transpose(0, 2, 3, 1)
        y[:] = moved.ravel()
        return
    x = x.reshape(shape).copy()
    if positions is not None:
        x[:, :, :2] = positions.reshape(shape)[:, :, :2]
    y[:] = (x.transpose(0, 3, 1, 2) if r.alexeyab else x).ravel()


def region_train_cpu(r, z, p, truth, delta, loss, matches):
    arrays = [_values(r, a) for a in (z, p, delta, loss)]
    for b, rows in enumerate(truth.reshape(r.batch, r.max, -1)):
        count = int(np.argmax(np.append(rows[:, 0], 0) == 0))
        _Image(r, *(a[b] for a in arrays), rows[:count]).train(matches.reshape(r.batch, -1)[b])


class _Image:
    def __init__(self, r, z, p, delta, loss, rows):
        self.r, self.z, self.p, self.delta, self.loss, self.rows = r, z, p, delta, loss, rows
        self.anchors = np.reshape(r.anchors, (-1, 2)) / (r.w, r.h)
        self.places = list(np.ndindex(r.num, r.h, r.w))

    def train(self, matches):
        only = [row for row in self.rows if self.r.parents is not None and min(row[:2]) > 100000]
        if only:
            self.only_class(self.label(only[0]))
            return
        for place in self.places:
            self.anchor(place)
        for row in self.rows:
            self.match(row, matches)

    def label(self, row):
        name = int(row[4 if self.r.alexeyab else self.r.coords])
        return name if self.r.map is None else self.r.map[name]

    def box(self, place, prior=False):
        s, j, i = place
        x, y, w, h = [0.5, 0.5, 0, 0] if prior else self.p[s, :4, j, i]
        return np.array([(i + x) / self.r.w, (j + y) / self.r.h, *(np.exp([w, h]) * self.anchors[s])])

    # ---- single values
    def pull(self, e, place, target, weight, square=True, slope=False):
        """Towards the target by a square or by the cross-entropy of a logistic."""
        s, j, i = place
        z, p = self.z[s, e, j, i], self.p[s, e, j, i]
        d = target - p
        self.delta[s, e, j, i] = weight * d * (p * (1 - p) if slope and self.r.alexeyab else 1)
        self.loss[s, e, j, i] = weight * (d * d / 2 if square else np.logaddexp(0, z) - target * z)

    def focal(self, q):
        return (1 - q) * (1 - q - 2 * q * np.log(q)) / 2 if self.r.focal_loss and self.r.parents is None else 1

    def cross_entropy(self, place, entries, target, weight):
        s, j, i = place
        q = self.p[s, target, j, i]
        share = (1 - q) ** 2 / 2 if self.r.focal_loss and self.r.parents is None else 1
        for e in entries:
            self.delta[s, e, j, i] = weight * self.focal(q) * ((e == target) - self.p[s, e, j, i])
            self.loss[s, e, j, i] = -weight * share * np.log(q) if e == target else 0

    def pull_class(self, place, label, weight):
        r, (s, j, i), first = self.r, place, self.r.coords + 1
        if r.parents is not None:
            while label >= 0:
                alike = [first + c for c in range(r.classes) if r.parents[c] == r.parents[label]]
                self.cross_entropy(place, alike, first + label, weight)
                label = r.parents[label]
        elif r.softmax:
            self.cross_entropy(place, range(first - r.background, first + r.classes), first + label, weight)
        elif not r.alexeyab and self.delta[s, first, j, i] != 0:
            self.pull(first + label, place, 1, weight, square=False)
        else:
            weight *= self.focal(self.p[s, first + label, j, i])
            for c in range(r.classes):
                self.pull(first + c, place, c == label, weight, square=r.alexeyab)

    def objectness(self, place, target, weight):
        r, o = self.r, self.r.coords
        if not r.background:
            self.pull(o, place, target, weight, slope=True)
        elif not r.softmax:
            self.pull(o, place, target == 0, weight)
        elif target == 0:
            self.cross_entropy(place, range(o, o + 1 + r.classes), o, weight)

    def pull_box(self, place, box, weight):
        s, j, i = place
        spot = [*(box[:2] * (self.r.w, self.r.h) - (i, j)), *np.log(box[2:4] / self.anchors[s])]
        for e, target in enumerate(spot):
            self.pull(e, place, target, weight, slope=e < 2)

    # ---- anchors and truths
    def anchor(self, place):
        r, fix = self.r, self.r.classfix * self.r.alexeyab
        fits = overlap(self.box(place), self.rows[:, :4]) if len(self.rows) else np.zeros(1)
        if fix == -1 or fits.max() <= r.thresh:
            self.objectness(place, fits.max() if fix == -1 else 0, r.noobject_scale)
        elif fix:
            sure = self.p[(place[0], r.coords, *place[1:])] if fix == 2 else 1
            self.pull_class(place, self.label(self.rows[np.argmax(fits)]), r.class_scale * sure)
        if r.learns_priors:
            self.pull_box(place, self.box(place, prior=True), 0.01)

    def match(self, row, matches):
        r = self.r
        i, j = np.clip((row[:2] * (r.w, r.h)).astype(int), 0, (r.w - 1, r.h - 1))
        boxes = np.array([self.box((s, j, i), prior=r.bias_match) for s in range(r.num)])
        boxes[:, :2] = 0
        place = (int(np.argmax(overlap(boxes, np.array([0, 0, *row[2:4]])))), j, i)
        iou = overlap(self.box(place), row[:4])
        matches += [1, iou, self.p[(place[0], r.coords, j, i)], iou > 0.5]
        self.pull_box(place, row[:4], r.coord_scale * (1 if r.alexeyab else 2 - row[2] * row[3]))
        for e in range(4, r.coords):
            self.pull(e, place, row[e], r.mask_scale)
        self.objectness(place, iou if r.rescore and not r.background else 1, r.object_scale)
        self.pull_class(place, self.label(row), r.class_scale)

    def only_class(self, label):
        r, found, node = self.r, self.p[:, self.r.coords].copy(), label
        while node >= 0:
            found *= self.p[:, r.coords + 1 + node]
            node = r.parents[node]
        for place in self.places if not r.alexeyab else ():
            self.objectness(place, 0, r.noobject_scale)
        s, j, i = np.unravel_index(np.argmax(found), found.shape)
        self.delta[s, r.coords, j, i] = self.loss[s, r.coords, j, i] = 0
        self.pull_class((s, j, i), label, r.class_scale)
