"""Cases of test_kernels.py for the kernels of heads: (kernel, arguments by name)."""

from __future__ import annotations

import types
import zlib

import numpy as np
import reference_heads
import reference_region
from heads import logistic

ANCHORS = np.array([6, 9, 14, 8, 11, 23, 30, 18], float)
RULES = {
    "batch": 2, "h": 3, "w": 5, "coords": 4, "classes": 3, "slots": 4, "names": 0, "net_w": 40, "net_h": 24, "num": 4, "max": 6,
    "alexeyab": 0, "objectness_smooth": 0, "focal_loss": 0, "iou_loss": 0, "iou_thresh_kind": 1, "new_coords": 0, "yolo_point": 0,
    "ignore_thresh": 0.4, "truth_thresh": 1.0, "iou_thresh": 1.0, "max_delta": 5.0, "label_smooth_eps": 0.0, "scale_x_y": 1.0,
    "iou_normalizer": 0.75, "obj_normalizer": 1.5, "cls_normalizer": 0.5, "uc_normalizer": 1.25,
    "anchors": ANCHORS, "counters_per_class": None, "mask": None, "map": None,
}  # fmt: skip
MASK = {"mask": np.array([3, 1], np.int32), "slots": 2}
MAP = {"map": np.array([2, 0, 2, 1, 1], np.int32), "names": 5}
COUNTS = {"counters_per_class": np.array([9.0, 0.0, 4.0])}
ALEXEYAB = {"alexeyab": 1, "iou_thresh": 0.3, "scale_x_y": 1.1, "label_smooth_eps": 0.1}
GAUSSIAN = {"coords": 8, "alexeyab": 1, "iou_thresh": 0.3}
VARIANTS = [
    {},
    {**MASK, **MAP, "truth_thresh": 0.3},
    {"classes": 1, "h": 1, "w": 1, "max": 1},
    {"h": 9, "w": 31, "max": 40, "batch": 3},
    {**ALEXEYAB, **COUNTS},
    {**ALEXEYAB, **MASK, "iou_loss": 2, "iou_thresh_kind": 3, "truth_thresh": 0.3},
    {**ALEXEYAB, "iou_loss": 4, "objectness_smooth": 1, "truth_thresh": 0.5},
    {**ALEXEYAB, "iou_loss": 1, "new_coords": 1, "scale_x_y": 2.0},
    {**ALEXEYAB, "new_coords": 1, "focal_loss": 1},
    {**ALEXEYAB, "iou_loss": 3, "yolo_point": 2, "max_delta": 0.2},
    {**GAUSSIAN, **COUNTS, "uc_normalizer": 0.5},
    {**GAUSSIAN, **MAP, "objectness_smooth": 1, "yolo_point": 1, "truth_thresh": 0.4},
    {**GAUSSIAN, **MASK, "iou_loss": 4, "yolo_point": 2, "scale_x_y": 1.2},
]


def truth_of(rules, r):
    """Boxes, most of them alike in place, so that some share a cell; fewer than there is room for."""
    size = 6 if rules["alexeyab"] else 5
    rows = np.zeros((rules["batch"], rules["max"], size))
    n = max(1, rules["max"] - 2)
    rows[:, :n, :2] = r.choice([0.13, 0.52, 0.87], (rules["batch"], n, 2)) + r.uniform(0, 0.1, (rules["batch"], n, 2))
    rows[:, :n, 2:4] = r.uniform(0.1, 0.7, (rules["batch"], n, 2))
    rows[:, :n, 4] = r.integers(0, rules["names"] or rules["classes"], (rules["batch"], n))
    return rows.ravel()


def heads():
    for number, variant in enumerate(VARIANTS):
        rules, r = {**RULES, **variant}, np.random.default_rng(zlib.crc32(b"heads%d" % number))
        shape = (rules["batch"], rules["slots"], rules["coords"] + 1 + rules["classes"], rules["h"], rules["w"])
        z = r.uniform(0.1, 0.9, shape) if rules["new_coords"] else r.uniform(-1.5, 1.5, shape)
        z = z.astype(np.float32).astype(float).ravel()
        p, d, told = np.zeros(z.size), r.standard_normal(z.size), ("yolo_rules *", rules)
        yield "yolo_activate_cpu", {"r": told, "z": z, "p": p.copy()}
        reference_heads.yolo_activate_cpu(types.SimpleNamespace(**rules), z, p)
        for boxes_only in (0, 1):
            yield "yolo_gradient_cpu", {"r": told, "p": p, "boxes_only": boxes_only, "delta": d}
        zeros, matches = np.zeros(z.size), np.zeros(6 * rules["batch"])
        case = {"r": told, "z": z, "p": p, "truth": truth_of(rules, r), "delta": zeros, "loss": zeros.copy(), "matches": matches}
        yield "yolo_train_cpu", case


# ---- [region]
TREE = {"parents": np.array([-1, -1, 0, 0, 0, 1, 1, 5], np.int32), "classes": 8}
REGION = {
    "batch": 3, "h": 3, "w": 5, "coords": 4, "classes": 3, "names": 0, "num": 4, "max": 6, "alexeyab": 0, "softmax": 1, "rescore": 0,
    "bias_match": 0, "classfix": 0, "focal_loss": 0, "background": 0, "learns_priors": 0, "coord_scale": 1.25, "object_scale": 5.0,
    "noobject_scale": 0.75, "class_scale": 1.5, "mask_scale": 0.5, "thresh": 0.4,
    "anchors": np.array([0.7, 0.9, 1.6, 1.1, 0.8, 2.1, 2.4, 1.9]), "map": None, "parents": None,
}  # fmt: skip
REGIONS = [
    {},
    {"softmax": 0, "learns_priors": 1, "rescore": 1, **MAP},
    {"softmax": 0, "h": 1, "w": 1, "max": 1, "num": 1, "anchors": np.array([0.5, 0.6]), "classes": 1},
    {"h": 9, "w": 31, "max": 40, "bias_match": 1},
    {"background": 1, "learns_priors": 1},
    {"background": 1, "softmax": 0, "rescore": 1},
    {"coords": 6, "focal_loss": 1},
    {**TREE, "h": 8, "w": 11},
    {**TREE, "alexeyab": 1, "learns_priors": 1},
    {"alexeyab": 1, "rescore": 1, "learns_priors": 1},
    {"alexeyab": 1, "softmax": 0, "classfix": -1, "bias_match": 1, **MAP},
    {"alexeyab": 1, "classfix": 1, "thresh": 0.2, "focal_loss": 1},
    {"alexeyab": 1, "softmax": 0, "classfix": 2, "thresh": 0.2, "focal_loss": 1},
]


def region_truth(rules, r):
    """Boxes as above, none in the last image; with a tree the first image has one truth of which only the class is known."""
    rows = np.zeros((rules["batch"], rules["max"], 6 if rules["alexeyab"] else rules["coords"] + 1))
    boxes = truth_of({**rules, "alexeyab": 0}, r).reshape(rules["batch"], -1, 5)
    rows[..., :4], rows[..., 4 if rules["alexeyab"] else rules["coords"]] = boxes[..., :4], boxes[..., 4]
    if rules["coords"] > 4:
        rows[..., 4:6] = r.uniform(0.1, 0.9, (*rows.shape[:2], 2))
    rows[-1] = 0
    if rules["parents"] is not None:
        rows[0, 1, :2] = 200000
        rows[0, 1, 4] = 7
    return rows.ravel()


def regions():
    for number, variant in enumerate(REGIONS):
        rules, r = {**REGION, **variant}, np.random.default_rng(zlib.crc32(b"region%d" % number))
        shape = (rules["batch"], rules["num"], rules["coords"] + 1 + rules["classes"], rules["h"], rules["w"])
        linear = rules["alexeyab"] and not rules["softmax"]  # classes, whose logarithms the focal loss takes
        z = r.uniform(0.1 if linear else -1.5, 1.5, shape).astype(np.float32).astype(float).ravel()
        p, d, told = np.zeros(z.size), r.standard_normal(z.size), ("region_rules *", rules)
        yield "region_activate_cpu", {"r": told, "z": z, "p": p.copy()}
        reference_region.region_activate_cpu(types.SimpleNamespace(**rules), z, p)
        if rules["softmax"] or rules["parents"] is not None:
            classes = p.reshape(shape)[:, :, rules["coords"] + 1 - rules["background"] :]
            classes[:] = r.choice([0.1, 0.25, 0.4], classes.shape)  # many places are equally probable
        for more in (0, 1):
            yield "region_gradient_cpu", {"r": told, "p": p, "loss": more, "delta": d}
            yield "region_reorder_cpu", {"r": told, "x": p, "positions": None if more else d[::-1].copy(), "back": more, "y": d}
        if rules["parents"] is not None:
            p.reshape(shape)[0, :, rules["coords"]] = 0.5
        zeros, matches = np.zeros(z.size), np.zeros(4 * rules["batch"])
        case = {"r": told, "z": z, "p": p, "truth": region_truth(rules, r), "delta": zeros, "loss": zeros.copy(), "matches": matches}
        yield "region_train_cpu", case


# ---- [detection]
DETECTION = {
    "batch": 3, "side": 4, "classes": 3, "num": 3, "softmax": 0, "rescore": 1, "root": 0, "forced": 0, "draws": 0, "purpose": 8, "seed": 7,
    "first_row": 2**40, "coord_scale": 5.0, "object_scale": 1.5, "noobject_scale": 0.5, "class_scale": 0.75,
}  # fmt: skip
DETECTIONS = [
    {},
    {"softmax": 1, "root": 1, "side": 9},
    {"forced": 1, "rescore": 0},
    {"forced": 1, "num": 1, "classes": 1, "side": 1, "batch": 1},
    {"side": 17, "batch": 2},
    {"draws": 1},
]


def detections():
    for number, variant in enumerate(DETECTIONS):
        rules, r = {**DETECTION, **variant}, np.random.default_rng(zlib.crc32(b"detection%d" % number))
        batch, cells, classes, num = (rules["batch"], rules["side"] ** 2, rules["classes"], rules["num"])
        rows = np.zeros((batch, cells, 5 + classes))
        rows[..., 0] = r.random((batch, cells)) < 0.6
        rows[..., 1:-4] = np.eye(classes)[r.integers(0, classes, (batch, cells))]
        rows[..., -4:] = r.uniform(0.1, 0.9, (batch, cells, 4))
        rows[-1:, ..., :1] *= batch == 1  # the last image has no object
        p = r.uniform(0.05, 0.95, (batch, cells * (classes + 5 * num)))
        boxes = p[:, cells * (classes + num) :].reshape(batch, cells, num, 4)
        boxes[:, ::3, :, :2] += 20  # meet nothing
        boxes[:, 1::4, 1:] = boxes[:, 1::4, :1]  # fit alike
        zeros = np.zeros(p.size)
        truth = (rows * rows[..., :1]).ravel()
        case = {"r": ("detection_rules *", rules), "p": p.ravel(), "truth": truth, "delta": zeros, "loss": zeros.copy()}
        yield "detection_train_cpu", case


# ---- [contrastive]
CONTRASTIVE = {
    "batch": 3, "anchors": 2, "cells": 6, "size": 5, "most": 3, "temperature": 0.75, "cls_normalizer": 1.5, "max_delta": 9.0
}  # fmt: skip
CONTRASTIVES = [
    {},
    {"most": 0},
    {"most": 1, "max_delta": 0.125},
    {"batch": 1, "anchors": 1, "cells": 1, "size": 1, "most": 2**31 - 1},
    {"batch": 9, "anchors": 1, "cells": 1, "size": 300, "most": 2**31 - 1, "temperature": 0.0625},
    {"batch": 2, "anchors": 3, "cells": 110, "size": 3, "most": 40},
    {"batch": 2, "anchors": 3, "cells": 110, "size": 2, "most": 270, "cls_normalizer": 9.0},
]


def embeddings():
    for number, variant in enumerate(CONTRASTIVES):
        rules, r = {**CONTRASTIVE, **variant}, np.random.default_rng(zlib.crc32(b"contrastive%d" % number))
        shape = (rules["batch"] * rules["anchors"], rules["size"], rules["cells"])
        places, z = shape[0] * shape[2], r.standard_normal(shape)
        z *= r.uniform(0.7, 1.4, (shape[0], 1, shape[2])) / np.linalg.norm(z, axis=1, keepdims=True)  # far from 0
        if number != 3:
            z[1, :, 0], z[2, :, 0] = 0, z[0, :, 0]  # one points nowhere, two are alike
        labels, kinds = r.integers(-1, 3, places).astype(float), r.integers(0, 2, places).astype(float)
        if number in (4, 6):
            labels, kinds = np.arange(places) % 3.0, np.zeros(places)
        room = np.zeros(places, np.int32)
        yield "contrastive_train_cpu", {
            "r": ("contrastive_rules *", rules), "z": z.ravel(), "labels": labels, "kinds": kinds, "samples": room,
            "partners": room.copy(), "delta": np.zeros(z.size), "loss": np.zeros(z.size),
            "workspace": np.zeros(places * (rules["size"] + 2)),
        }  # fmt: skip
        case = {"batch": places, "classes": 5, "truth": r.integers(0, 2, places * 5) * r.uniform(0, 1, places * 5)}
        case["truth"][: 5 * (places // 2)] *= number % 2
        yield "contrastive_label_images_cpu", {**case, "labels": np.full(places, -1.0)}
    for number, variant in enumerate(VARIANTS):
        rules, r = {**RULES, **variant}, np.random.default_rng(zlib.crc32(b"labels%d" % number))
        if not rules["alexeyab"] or rules["coords"] == 8 or rules["yolo_point"]:
            continue
        truth = truth_of(rules, r).reshape(rules["batch"], -1, 6)
        truth[..., 5], truth[-1] = r.integers(-1, 4, truth.shape[:2]), 0
        room = np.full(rules["batch"] * rules["slots"] * rules["h"] * rules["w"], -1.0)
        case = {"r": ("yolo_rules *", rules), "truth": truth.ravel(), "labels": room, "kinds": room.copy()}
        yield "contrastive_label_boxes_cpu", case


# ---- [iseg]
ISEG = {"batch": 3, "h": 3, "w": 5, "classes": 2, "ids": 3}
ISEGS = [{}, {"batch": 1, "h": 1, "w": 1, "classes": 1, "ids": 1}, {"batch": 1, "h": 9, "w": 14, "classes": 3}]


def iseg_truth(shape, classes, r):
    """Rows of a class and a mask, (batch, 90, 1 + pixels): overlapping instances and an empty one, before an end behind which
    others stand; where there are several images, the second has no instance and the last one 90.
    """
    rows = np.zeros(shape)
    rows[..., 0] = r.integers(0, classes, shape[:2])
    rows[..., 1:] = (r.random((*shape[:2], shape[2] - 1)) < 0.1) * r.uniform(0.5, 1.5, (*shape[:2], 1))
    rows[0, :8, 1::3], rows[0, 3, 1:], rows[0, 8, 0] = 0.75, 0, -0.5
    rows[1:-1, 0, 0] = -1
    return rows


def masks(variants=ISEGS):
    for number, variant in enumerate(variants):
        rules, r = {**ISEG, **variant}, np.random.default_rng(zlib.crc32(b"iseg%d" % number))
        batch, pixels = rules["batch"], rules["h"] * rules["w"]
        z = r.standard_normal((batch, rules["classes"] + rules["ids"], pixels)).astype(np.float32).astype(float)
        p = z.copy()
        p[:, : rules["classes"]] = logistic(z[:, : rules["classes"]])
        yield "iseg_train_cpu", {
            "r": ("iseg_rules *", rules), "z": z.ravel(), "p": p.ravel(),
            "truth": iseg_truth((batch, 90, 1 + pixels), rules["classes"], r).ravel(),
            "means": np.full(batch * 90 * rules["ids"], 7.0), "sizes": np.full(batch * 90, 7, np.int32),
            "delta": np.full(z.size, 7.0), "loss": np.full(z.size, 7.0),
        }  # fmt: skip


FAMILIES = (heads, regions, detections, embeddings, masks)
