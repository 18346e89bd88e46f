"""Overlaps of boxes, boxes out of heads, and what removes doubles: against recordings of the real programs."""

from __future__ import annotations

import os

import numpy as np
import pytest

import darknetpy as dn
from darknetpy.core import core
from darknetpy.detection import decode, suppress, to_image

MICRO = os.path.join(os.path.dirname(os.path.abspath(__file__)), "golden", "micro")
HEADS = [name for name in sorted(os.listdir(MICRO)) if "yolo" in name or "region" in name or "detection" in name]


def recorded(name):
    with np.load(os.path.join(MICRO, name, "ref.npz")) as file:
        return {key: file[key] for key in file.files}


def box(values):
    return core.ffi.new("box *", [float(v) for v in values])[0]


# ---- overlaps
@pytest.mark.parametrize("name", ["box_iou", "box_intersection", "box_union", "box_rmse", "box_giou", "box_diou", "box_ciou"])
def test_overlaps(name):
    file = recorded("ab-_kernels")
    pairs = zip(file["boxes/in/a"], file["boxes/in/b"])
    ours = [getattr(core.lib, name)(box(a), box(b)) for a, b in pairs]
    wanted = file[f"boxes/out/{name}"]
    if name == "box_intersection":
        wanted = np.maximum(wanted, 0)
    np.testing.assert_allclose(ours, wanted, rtol=1e-5, atol=1e-6)


def test_diounms_overlap():
    file = recorded("ab-_kernels")
    ours = [core.lib.box_diounms(box(a), box(b), 0.6) for a, b in zip(file["boxes/in/a"], file["boxes/in/b"])]
    np.testing.assert_allclose(ours, file["boxes/out/box_diounms_beta0.6"], rtol=1e-5, atol=1e-6)


# ---- heads
def network(name, monkeypatch):
    monkeypatch.chdir(os.path.join(MICRO, name))
    fork = {"pj": "pjreddie", "ab": "alexeyab"}[name[:2]]
    net = dn.load_network("net.cfg", weights="net.weights", dialect=fork, batchnorm="darknet", batch=4)
    net.forward(np.ascontiguousarray(recorded(name)["input"], np.float32), train=False)
    return net


def same_rows(ours, wanted):
    """The rows that have some probability, in any order."""
    wanted = wanted[(wanted[:, 5:] > 0).any(axis=1)].copy()
    ours = ours[(ours[:, 5:] > 0).any(axis=1)].copy()
    if (wanted[:, 4] == 1).all():  # AlexeyAB's [region] does not say how sure it is of an object
        ours[:, 4] = 1
    assert len(ours) == len(wanted) > 0
    order = [rows[np.lexsort(np.round(rows[:, ::-1], 4).T)] for rows in (ours, wanted)]
    np.testing.assert_allclose(order[0], order[1], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", HEADS)
def test_boxes_of_heads(name, monkeypatch):
    net, file = network(name, monkeypatch), recorded(name)
    rows = decode(net, 0, 0.2)
    letterbox = name.startswith("pj") and "detection" not in name
    same_rows(rows, file["boxes/raw"])
    same_rows(suppress(rows.copy(), 0.45), file["boxes/nms45"])
    if "boxes/diounms45" in file:
        same_rows(suppress(rows.copy(), 0.45, "greedynms"), file["boxes/diounms45"])
    same_rows(to_image(rows.copy(), net, 100, 60, letterbox or name.startswith("ab")), file["boxes/img_abs"])
