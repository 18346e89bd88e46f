"""Constructors of the heads of detectors: [yolo], [Gaussian_yolo], [region], [detection], of [iseg] and [contrastive]."""
from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Optional

from darknetpy.arguments import require_integers, require_number
from darknetpy.dialects import check_dialect
from darknetpy.errors import ArgumentError
from darknetpy.layer import Layer, shape_text
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
    return _make_yolo("yolo", batch, w, h, n, total, mask, classes, anchors, dialect, options)


def make_Gaussian_yolo_layer(batch: int, w: int, h: int, n: int, total: int, mask: Optional[Sequence[int]] = None,
                             classes: int = 20, *, anchors: Sequence[float], dialect: str = "alexeyab",
                             **options: Any) -> Layer:
    """As :func:`make_yolo_layer`, with an uncertainty for each number of a box.

    Parameters
    ----------
    batch, w, h, n, total, mask, classes, anchors, dialect
        As of :func:`make_yolo_layer`; the input has n * (9 + classes) channels.
    **options
        Other keys of [Gaussian_yolo]: ``uc_normalizer``, ``yolo_point``, ...
    """
    return _make_yolo("Gaussian_yolo", batch, w, h, n, total, mask, classes, anchors, dialect, options)


def _make_yolo(kind, batch, w, h, n, total, mask, classes, anchors, dialect, options):
    require_integers(batch=batch, w=w, h=h, n=n, total=total, classes=classes)
    slots = total if mask is None else len(mask)
    if n != slots:
        raise ArgumentError(f"n={n}: wanted {slots}, as many as the mask has")
    values = {"classes": classes, "num": total, "mask": mask, "anchors": list(anchors)}
    channels = n * ((9 if kind == "Gaussian_yolo" else 5) + classes)
    return make(kind, batch, h, w, channels, _values(kind, dialect, values, options), dialect=dialect)


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


def make_detection_layer(batch: int, inputs: int, n: int, size: int, classes: int, coords: int = 4,
                         rescore: int = 0, **options: Any) -> Layer:
    """Boxes and classes of a grid of cells, YOLOv1; with a truth, its losses.

    Parameters
    ----------
    batch, inputs : int
        inputs = size * size * (5 * n + classes).
    n, size, classes, coords : int
        Boxes of a cell; cells along each axis; classes; numbers of a box, 4.
    rescore : bool
        Objectness learns the IoU.
    **options
        Other keys of [detection]: ``sqrt``, ``softmax``, ``coord_scale``, ...; see ``darknetpy explain detection``.

    Returns
    -------
    Layer
        output, delta, loss (batch, inputs).  A truth has, cell by cell, 1 or 0 (an object or none), its classes, x, y, w, h.
    """
    require_integers(batch=batch, inputs=inputs, n=n, size=size, classes=classes, coords=coords)
    values = {"classes": classes, "num": n, "side": size, "coords": coords, "rescore": int(rescore)}
    return make("detection", batch, 0, 0, inputs, _values("detection", "pjreddie", values, options))


def make_iseg_layer(batch: int, w: int, h: int, classes: int, ids: int) -> Layer:
    """Instance segmentation: a class map per class, and an embedding that is alike within an instance.

    Parameters
    ----------
    batch, w, h : int
    classes, ids : int
        The input has classes + ids channels.

    Returns
    -------
    Layer
        output, delta, loss (batch, classes + ids, h, w); means (90, ids).  A truth has 90 rows of a class and a mask of h * w values; a
        class below 0 ends them.
    """
    require_integers(batch=batch, w=w, h=h, classes=classes, ids=ids)
    return make("iseg", batch, h, w, classes + ids, _values("iseg", "pjreddie", {"classes": classes, "ids": ids}, {}))


def make_contrastive_layer(batch: int, w: int, h: int, n: int, classes: int, inputs: int,
                           index: Optional[int] = None, *, temperature: float = 1., cls_normalizer: float = 1.,
                           max_delta: float = 3.402823466e38, contrastive_neg_max: int = 3) -> Layer:
    """A loss that pulls embeddings of one thing together and those of others apart.

    Parameters
    ----------
    batch, w, h, n, inputs : int
        Rows; the map and its channels; inputs = w * h * n.
    classes : int
        Values of a row of truth, where `index` is None.
    index : int, optional
        Place of the [yolo] whose anchors have the embeddings, n / anchors values each; then the layer is shaped and allocated when
        added to a network.  None: each image is one embedding, w = h = 1.
    temperature : float
        Similarities are divided by it.
    cls_normalizer, max_delta : float
        Weight of the loss; delta is clipped to plus or minus max_delta.
    contrastive_neg_max : int
        Boxes of other tracks that each is compared with.

    Returns
    -------
    Layer
        output (zero), delta; loss, of each embedding at its first value; labels, kinds: track (or class) and class of each embedding,
        labels below 0: none.

    References
    ----------
    P. Khosla et al., "Supervised contrastive learning", arXiv:2004.11362.
    """
    require_integers(batch=batch, w=w, h=h, n=n, classes=classes, inputs=inputs)
    if inputs != w * h * n:
        raise ArgumentError(f"inputs={inputs}: wanted w * h * n = {w * h * n}")
    values = {"classes": classes, "temperature": require_number("temperature", temperature),
              "cls_normalizer": require_number("cls_normalizer", cls_normalizer),
              "max_delta": require_number("max_delta", max_delta), "contrastive_neg_max": contrastive_neg_max}
    if index is None:
        return make("contrastive", batch, h, w, n, values)
    require_integers(index=index)
    layer = make("contrastive", batch, h, w, n, {**values, "yolo_layer": [index]}, build=False)
    layer.links = batch, [(None, shape_text(n, h, w, inputs))]
    return layer


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
