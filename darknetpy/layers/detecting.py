"""Constructors of the heads of detectors: [yolo], [region]."""
from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Optional

from darknetpy.arguments import require_integers
from darknetpy.dialects import check_dialect
from darknetpy.errors import ArgumentError
from darknetpy.layer import Layer
from darknetpy.layers.making import make
from darknetpy.sections import SECTIONS


def make_yolo_layer(batch: int, w: int, h: int, n: int, total: int, mask: Optional[Sequence[int]] = None,
                    classes: int = 20, *, anchors: Sequence[float], dialect: str = "pjreddie",
                    **options: Any) -> Layer:
    """Boxes from a grid of cells with anchors, YOLOv3 and later; with a truth, its losses.

    Parameters
    ----------
    batch, w, h : int
        Rows, and cells along each axis; the input has n * (5 + classes) channels.
    n, total : int
        Anchors of this head, and of all heads of the network.
    mask : sequence of n int, optional
        Which of the `total` anchors are this head's; None: all.
    classes : int
    anchors : sequence of 2 * total float
        Width and height of each, in pixels of the network's input: run it in a ``Network(w=, h=, c=)``.
    dialect : str
        Whose rules match anchors and boxes.
    **options
        Other keys of [yolo]: ``ignore_thresh``, ``iou_loss``, ...; see ``darknetpy explain yolo``.

    Returns
    -------
    Layer
        output, delta, loss (batch, n * (5 + classes), h, w); matches (batch, 6): boxes matched and the sums over them
        of IoU, objectness, IoU > .5, IoU > .75, GIoU.  A truth has `max` rows of x, y, w, h (relative), class; alexeyab,
        hankai: and a track number; x = 0 ends them.
    """
    require_integers(batch=batch, w=w, h=h, n=n, total=total, classes=classes)
    slots = total if mask is None else len(mask)
    if n != slots:
        raise ArgumentError(f"n={n}: wanted {slots}, as many as the mask has")
    values = {"classes": classes, "num": total, "mask": mask, "anchors": list(anchors)}
    return make("yolo", batch, h, w, n * (5 + classes), _values("yolo", dialect, values, options), dialect=dialect)


def make_region_layer(batch: int, w: int, h: int, n: int, classes: int, coords: int = 4, *,
                      anchors: Sequence[float], dialect: str = "pjreddie", **options: Any) -> Layer:
    """Boxes from a grid of cells with anchors, YOLOv2; with a truth, its losses.

    Parameters
    ----------
    batch, w, h : int
        Rows, and cells along each axis; the input has n * (coords + 1 + classes) channels.
    n, classes, coords : int
        Anchors; classes; numbers of each box, of which those after the fourth are a mask.
    anchors : sequence of 2 * n float
        Width and height of each, in cells.
    dialect : str
        Whose rules match anchors and boxes, and order the output.
    **options
        Other keys of [region]: ``softmax``, ``thresh``, ``coord_scale``, ...; see ``darknetpy explain region``.

    Returns
    -------
    Layer
        output, delta, loss (batch, n * (coords + 1 + classes), h, w); matches (batch, 4): boxes matched and the sums over them of
        IoU, objectness, IoU > .5.  A truth has `max` rows as of :func:`make_yolo_layer`; with coords > 4 the mask stands before the
        class.
    """
    require_integers(batch=batch, w=w, h=h, n=n, classes=classes, coords=coords)
    values = {"classes": classes, "num": n, "coords": coords, "anchors": list(anchors)}
    return make("region", batch, h, w, n * (coords + 1 + classes), _values("region", dialect, values, options),
                dialect=dialect)


_FILES = ("tree", "map")


def _values(kind, dialect, given, options):
    """The values of every key of a section: given ones, options by their names, defaults."""
    check_dialect(dialect)
    table = SECTIONS[kind].options
    for key in options:
        if key not in table or key in _FILES or key in given:
            raise ArgumentError(f"{key}: wanted one of {', '.join(k for k in table if k not in _FILES and k not in given)}")
    values = {}
    for key, row in table.items():
        values[key] = {**given, **options}.get(key)
        if values[key] is None:
            values[key] = row.default_for(dialect, values)
    return values
