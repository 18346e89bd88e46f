"""Cases of test_kernels.py for the kernels of reference_heads.py: (kernel, arguments by name)."""

from __future__ import annotations

import types
import zlib

import numpy as np
import reference_heads as reference

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
        reference.yolo_activate_cpu(types.SimpleNamespace(**rules), z, p)
        for boxes_only in (0, 1):
            yield "yolo_gradient_cpu", {"r": told, "p": p, "boxes_only": boxes_only, "delta": d}
        zeros, matches = np.zeros(z.size), np.zeros(6 * rules["batch"])
        case = {"r": told, "z": z, "p": p, "truth": truth_of(rules, r), "delta": zeros, "loss": zeros.copy(), "matches": matches}
        yield "yolo_train_cpu", case


FAMILIES = (heads,)
