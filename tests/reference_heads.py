"""The kernels of detectors' heads in numpy, float64: who learns what in [yolo] and [Gaussian_yolo], and the losses."""

from __future__ import annotations

import numpy as np
from heads import logistic, overlap

KINDS = ("iou", "iou", "giou", "diou", "ciou")  # of an IOU_KIND; mse has no overlap of its own


def kinds_of_values(r):
    """Return for each value of an anchor whether it is linear, logistic, or a position (stretched by scale_x_y)."""
    box = ["position", "position", "linear", "linear"]
    if r.coords == 8:
        box = [kind for pair in zip(box, ["logistic"] * 4) for kind in pair]
    rest = "linear" if r.new_coords else "logistic"
    return box + [rest] * (1 + r.classes)


def values_of(r, flat):
    """Return a view of a head's values: (batch, slots, values, h, w)."""
    return flat.reshape(r.batch, r.slots, -1, r.h, r.w)


def yolo_activate_cpu(r, z, p):
    z, p = values_of(r, z), values_of(r, p)
    for e, kind in enumerate(kinds_of_values(r)):
        y = z[:, :, e] if kind == "linear" or r.new_coords else logistic(z[:, :, e])
        p[:, :, e] = r.scale_x_y * y - (r.scale_x_y - 1) / 2 if kind == "position" else y


def slope(r, kind, p):
    s = r.scale_x_y if kind == "position" else 1
    sigma = (p + (s - 1) / 2) / s
    return s if kind == "linear" or r.new_coords else s * sigma * (1 - sigma)


def yolo_gradient_cpu(r, p, boxes_only, delta):
    p, delta = values_of(r, p), values_of(r, delta)
    for e, kind in enumerate(kinds_of_values(r)[: r.coords if boxes_only else None]):
        if kind != "linear":
            delta[:, :, e] *= slope(r, kind, p[:, :, e])


def yolo_train_cpu(r, z, p, truth, delta, loss, matches):
    z, p, delta, loss = (values_of(r, a) for a in (z, p, delta, loss))
    for b, rows in enumerate(truth.reshape(r.batch, r.max, -1)):
        count = int(np.argmax(np.append(rows[:, 0], 0) == 0))
        _Image(r, z[b], p[b], delta[b], loss[b], rows[:count]).train(matches.reshape(r.batch, -1)[b])


class _Image:
    def __init__(self, r, z, p, delta, loss, rows):
        self.r, self.z, self.p, self.delta, self.loss, self.rows = r, z, p, delta, loss, rows
        self.anchors = np.reshape(r.anchors, (-1, 2)) / (r.net_w, r.net_h)
        self.mask = range(r.num) if r.mask is None else r.mask
        self.shift = {1: 0.5, 2: -0.5}.get(r.yolo_point, 0) if r.coords == 8 else 0
        self.step = r.coords // 4

    def train(self, matches):
        r = self.r
        places = [(s, j, i) for s in range(r.slots) for j in range(r.h) for i in range(r.w)]
        for place in places:
            self.anchor(place)
        for row in self.rows:
            point = row[:2] + {1: -0.5, 2: 0.5}.get(r.yolo_point, 0) * row[2:4]
            i, j = np.clip((point * (r.w, r.h)).astype(int), 0, (r.w - 1, r.h - 1))
            for s in range(r.slots):
                if self.learns(row, s):
                    self.match((s, j, i), row, matches)
        for place in places if r.alexeyab and (r.coords == 8 or r.iou_thresh < 1) else ():
            self.average(place)

    def box(self, place):
        s, j, i = place
        x, y, w, h = self.p[s, : self.r.coords : self.step, j, i]
        size = (4 * np.square([w, h]) if self.r.new_coords else np.exp([w, h])) * self.anchors[self.mask[s]]
        return np.array([*(np.array([i + x, j + y]) / (self.r.w, self.r.h) + self.shift * size), *size])

    def weight(self, label):
        counts = self.r.counters_per_class
        return 1 if counts is None else min(max(1, counts.max()) / max(1, counts[label]), self.r.max_delta)

    def label(self, row):
        return int(row[4]) if self.r.map is None else self.r.map[int(row[4])]

    def learns(self, row, s):
        r, shape = self.r, np.array([0, 0, *row[2:4]])
        boxes = np.pad(self.anchors, ((0, 0), (2, 0)))
        if np.argmax(overlap(boxes, shape)) == self.mask[s]:
            return True
        fit = overlap(boxes[self.mask[s]], shape, KINDS[r.iou_thresh_kind], 0.6 if r.iou_thresh_kind == 3 else 1)
        return r.iou_thresh < 1 and fit > r.iou_thresh

    # ---- single values
    def pull(self, e, place, target, weight):
        s, j, i = place
        z, d = self.z[s, e, j, i], target - self.p[s, e, j, i]
        self.delta[s, e, j, i] = weight * d
        self.loss[s, e, j, i] = weight * (d * d / 2 if self.r.new_coords else np.logaddexp(0, z) - target * z)

    def pull_class(self, place, label):
        r, (s, j, i), first = self.r, place, self.r.coords + 1
        yes, weight = 1 - r.label_smooth_eps / 2, self.weight(label)
        if self.delta[s, first + (label if r.alexeyab and r.coords == 4 else 0), j, i] != 0:
            self.pull(first + label, place, yes, weight)
            return
        q = self.p[s, first + label, j, i]
        share = (1 - q) * (1 - q - 2 * q * np.log(q)) / 2 if r.focal_loss else 1
        eps = 0 if r.focal_loss else r.label_smooth_eps
        for c in range(r.classes):
            self.pull(first + c, place, 1 - eps / 2 if c == label else eps / 2, share)
        if r.counters_per_class is not None and not r.focal_loss:
            self.pull(first + label, place, yes, weight * r.cls_normalizer)

    # ---- anchors and truths
    def anchor(self, place):
        r, (s, j, i), o = self.r, place, self.r.coords
        fits = overlap(self.box(place), self.rows[:, :4]) if len(self.rows) else np.zeros(1)
        best, iou, smooth = int(np.argmax(fits)), fits.max(), r.objectness_smooth
        matches = iou > r.ignore_thresh and (not r.alexeyab or (self.p[s, o + 1 :, j, i] > 0.25).any())
        target, weight = 0, r.obj_normalizer
        if matches and smooth:
            target = iou**2 if o == 8 else iou
            if o == 8:
                self.pull_class(place, self.label(self.rows[best]))
        elif matches:
            weight = 0
        self.pull(o, place, target, weight)
        if iou <= r.truth_thresh:
            return
        label, level = self.label(self.rows[best]), iou**2 if smooth else 1
        self.pull(o, place, level, r.obj_normalizer)
        self.pull_class(place, label)
        if smooth:
            self.pull(o + 1 + label, place, level, self.weight(label))
        self.pull_box(place, self.rows[best], label)

    def match(self, place, row, matches):
        r, (s, j, i), o, label = self.r, place, self.r.coords, self.label(row)
        iou, giou = (overlap(self.box(place), row[:4], kind) for kind in ("iou", "giou"))
        matches += [1, iou, self.p[s, o, j, i], iou > 0.5, iou > 0.75, giou]
        self.pull_box(place, row, label)
        if not r.objectness_smooth or o == 8 or self.delta[s, o, j, i] == 0:
            self.pull(o, place, 1, r.obj_normalizer * self.weight(label))
        self.pull_class(place, label)

    def average(self, place):
        (s, j, i), o = place, self.r.coords
        positive = (self.delta[s, o + 1 :, j, i] > 0).sum()
        if positive > 1 and (o == 8 or self.delta[s, o, j, i] != 0):
            self.delta[s, :o, j, i] /= positive
            self.loss[s, :o, j, i] /= positive

    # ---- boxes
    def pull_box(self, place, row, label):
        r, (s, j, i) = self.r, place
        if not r.alexeyab:
            self.delta[s, : r.coords, j, i] = self.loss[s, : r.coords, j, i] = 0
        weight, anchor = self.weight(label) * r.iou_normalizer, self.anchors[self.mask[s]]
        spot = (row[:2] - self.shift * row[2:4]) * (r.w, r.h) - (i, j)
        size = np.sqrt(row[2:4] / (4 * anchor)) if r.new_coords else np.log(row[2:4] / anchor)
        scale = 2 - row[2] * row[3]
        for k, target in enumerate([*spot, *size]):
            if r.coords == 8:
                self.likelihood(2 * k, place, target, scale, weight)
            elif r.iou_loss == 0:
                self.square(k, place, target, weight * scale)
        if r.iou_loss:
            self.pull_overlap(place, row, weight / np.sqrt(anchor.prod()))

    def square(self, k, place, target, weight):
        r, (s, j, i) = self.r, place
        z, d, stretch = self.z[s, k, j, i], target - self.p[s, k, j, i], r.scale_x_y
        self.delta[s, k, j, i] += weight * d
        if k > 1 or r.new_coords:
            self.loss[s, k, j, i] += weight * d * d / 2 / (stretch if k < 2 else 1)
        else:
            self.loss[s, k, j, i] += weight * stretch * (np.logaddexp(0, z) - (target + (stretch - 1) / 2) / stretch * z)

    def likelihood(self, e, place, target, scale, weight):
        r, (s, j, i) = self.r, place
        p, sigma = self.p[s, e : e + 2, j, i]
        d, both = (target - p) / sigma, 0 if r.iou_loss else weight
        n = np.exp(-d * d / 2) / (np.sqrt(2 * np.pi) * (sigma + 0.3))
        size, slope = -scale / 2 * np.log(n + 1e-9), scale / 2 * n / (n + 1e-9)
        found = [both * slope * d / sigma, r.uc_normalizer * slope * (d * d / sigma - 1 / (sigma + 0.3))]
        self.delta[s, e : e + 2, j, i] += np.clip(found, -r.max_delta, r.max_delta)
        self.loss[s, e : e + 2, j, i] += [both * size, (r.uc_normalizer - both) * size]

    def pull_overlap(self, place, row, weight):
        """The slope by differences: of the overlap, by each of the four numbers that make the box."""
        r, (s, j, i), h = self.r, place, 1e-6
        kind = KINDS[r.iou_loss]
        for k in range(4):
            e, found = k * self.step, []
            kept = self.p[s, e, j, i]
            for sign in (1, -1):
                self.p[s, e, j, i] = kept + sign * h
                found.append(overlap(self.box(place), row[:4], kind))
            self.p[s, e, j, i] = kept
            by = slope(r, "position", kept) if k < 2 and r.coords == 4 else 1
            self.delta[s, e, j, i] += np.clip(weight * by * (found[0] - found[1]) / (2 * h), -r.max_delta, r.max_delta)
        self.loss[s, 0, j, i] += weight * (1 - overlap(self.box(place), row[:4], kind))
