"""Heads of detectors in float64 numpy: boxes and their overlaps, written from the papers, and how far a case is from a point
where its loss has no derivative.
"""

from __future__ import annotations

import numpy as np

KINDS = ("yolo", "region", "Gaussian_yolo")


def logistic(z):
    return 1 / (1 + np.exp(-np.asarray(z, float)))


def edges(boxes):
    """Return left, top, right, bottom of boxes (..., 4) given as centre and size."""
    centre, half = boxes[..., :2], boxes[..., 2:4] / 2
    return np.concatenate([centre - half, centre + half], axis=-1)


def areas(a, b):
    """Return intersection, union and the area and squared diagonal of the hull."""
    one, two = edges(a), edges(b)
    inside = np.minimum(one[..., 2:], two[..., 2:]) - np.maximum(one[..., :2], two[..., :2])
    hull = np.maximum(one[..., 2:], two[..., 2:]) - np.minimum(one[..., :2], two[..., :2])
    shared = np.prod(np.maximum(inside, 0), axis=-1)
    union = np.prod(a[..., 2:4], axis=-1) + np.prod(b[..., 2:4], axis=-1) - shared
    return shared, union, np.prod(hull, axis=-1), np.sum(hull**2, axis=-1)


def overlap(a, b, kind="iou", power=1.0):
    shared, union, hull, diagonal = areas(a, b)
    iou = shared / union
    if kind == "iou":
        return iou
    if kind == "giou":
        return iou - (hull - union) / hull
    diou = iou - (np.sum((a[..., :2] - b[..., :2]) ** 2, axis=-1) / diagonal) ** power
    if kind == "diou":
        return diou
    angle = np.arctan(b[..., 2] / b[..., 3]) - np.arctan(a[..., 2] / a[..., 3])
    v = 4 / np.pi**2 * angle**2
    return diou - v**2 / (1 - iou + v + 1e-6)


def anchors_of(net, i):
    """Return the anchors (slots, 2) of head i in shares of the image."""
    layer = net.layers[i]
    values = layer.cfg_options
    pairs = np.reshape(values["anchors"], (-1, 2))
    if layer.type == "region":
        return pairs / (layer.w, layer.h)
    return pairs[values["mask"] or slice(None)] / (net.w, net.h)


def inputs_of(net, i):
    """Return what goes into head i as (batch, slots, values, h, w)."""
    layer = net.layers[i]
    z = net.layers[i - 1].output if i else net.input
    return np.asarray(z, float).reshape(layer.batch, len(anchors_of(net, i)), -1, layer.h, layer.w)


def decode(net, i):
    """Return the boxes (batch, slots, h, w, 4) of head i."""
    layer, anchors, z = net.layers[i], anchors_of(net, i), inputs_of(net, i)
    values = layer.cfg_options
    gaussian, new = layer.type == "Gaussian_yolo", values.get("new_coords")
    x, y, w, h = (z[:, :, k] for k in ((0, 2, 4, 6) if gaussian else range(4)))
    s = values.get("scale_x_y", 1)
    x, y = (s * (p if new else logistic(p)) - (s - 1) / 2 for p in (x, y))
    column, row = np.arange(layer.w), np.arange(layer.h)[:, None]
    size = [(4 * p**2 if new else np.exp(p)) * anchors[:, k, None, None] for k, p in enumerate((w, h))]
    centre = [(column + x) / layer.w, (row + y) / layer.h]
    shift = {"left_top": 0.5, "right_bottom": -0.5}.get(values.get("yolo_point"), 0)
    return np.stack([c + shift * p for c, p in zip(centre, size)] + size, axis=-1)


def truth_boxes(net, i):
    """Return [(boxes (n, 4), rows)] of each image."""
    layer = net.layers[i]
    size = layer.truths // int(layer.option("max"))
    rows = np.asarray(net.truth, float).reshape(layer.batch, -1, size)
    return [image[: np.argmax(np.append(image[:, 0], 0) == 0)] for image in rows]


def distance(net, i):
    """The least distance of an IoU from a threshold, of a class from 0.25, and for losses of overlaps of an edge from another."""
    layer, values = net.layers[i], net.layers[i].cfg_options
    if net.truth is None:
        return np.inf
    least, boxes = np.inf, decode(net, i)
    for b, truth in enumerate(truth_boxes(net, i)):
        mine, theirs = boxes[b][..., None, :], truth[:, :4]
        best = overlap(mine, theirs).max(axis=-1)
        for key in ("thresh", "ignore_thresh", "truth_thresh"):
            if key in values:
                least = min(least, np.min(np.abs(best - values[key])))
        if layer.type != "region":
            at = 9 if layer.type == "Gaussian_yolo" else 5
            top = inputs_of(net, i)[b][:, at:].max(axis=1)
            least = min(least, np.min(np.abs((top if values.get("new_coords") else logistic(top)) - 0.25)))
        if values.get("iou_loss", "mse") != "mse":
            for low in (0, 1):
                gaps = edges(mine)[..., low::2, None] - edges(theirs)[..., None, low::2]
                least = min(least, np.min(np.abs(gaps)))
    if layer.type == "region" and not values["bias_match"]:
        least = min(least, _anchor_margin(net, i, boxes))
    return least


def _anchor_margin(net, i, boxes):
    """How much better the chosen anchor fits than the next one, at the cells of the truths."""
    layer, least = net.layers[i], np.inf
    for b, truth in enumerate(truth_boxes(net, i)):
        for row in truth:
            cell = boxes[b][:, int(row[1] * layer.h), int(row[0] * layer.w)].copy()
            cell[:, :2] = 0
            fits = np.sort(overlap(cell, np.array([0, 0, *row[2:4]])))
            least = min(least, fits[-1] - fits[-2] if len(fits) > 1 else np.inf)
    return least
