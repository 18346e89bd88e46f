"""How an image and its boxes become a row of a detector's input and truth: augmented as the last head says.

The work is C's (csrc/detector_views.c); it runs without the interpreter's lock, so that loader threads run
beside training.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Optional

import numpy as np

from .._darknet import ffi, lib
from .._types import Floats, Pixels
from ..dialects import dialect_value
from ..errors import ArgumentError
from ..paths import find_beside
from .datafile import read_names
from .images import MAX_SIDE
from .view import SEED_MASK, View, _check_size, scratch_floats

if TYPE_CHECKING:
    from ..sections import LayerSpec, Resolved
    from .dataset import Dataset
    from .loader import Batch

HEADS = ("detection", "region", "yolo", "Gaussian_yolo")
MAX_RESIZE = 16  # [yolo] resize=
# Boxes that augmentation leaves narrower than this are no truth (pjreddie; AlexeyAB: than a pixel).
LEAST_SHARE, LEAST_SHARE_GRID = 0.001, 0.005


class DetectionView(View):
    """What is done to each image and its boxes; made by :meth:`training`.

    Attributes
    ----------
    w, h, c : int
        The network's input; c is 1 (grey) or 3.
    options : cffi struct detector_view_options
        What C is told.
    truths : int
        Values of a row of truth.
    most : int
        Boxes of an image that the truth has room for; 0 where each cell has room for one.
    class_only : bool
        Whether a box with x = y = 0 stands for a class somewhere in the image.
    notes : list of str
        What the .cfg asks for in training that is not done.
    """

    def __init__(self, w: int, h: int, c: int, **options: Any) -> None:
        _check_size(w, h, c)
        self.w, self.h, self.c, self.random = w, h, c, True
        self.options = ffi.new("detector_view_options *", dict(w=w, h=h, c=c, **options))
        self.truths = int(lib.detector_truths(self.options))
        self.most, self.class_only = self.options.most, False
        self.notes: list[str] = []

    @classmethod
    def training(cls, plan: Resolved) -> DetectionView:
        """Return the augmentation and the truth that the heads of a .cfg want.

        Parameters
        ----------
        plan : Resolved
            A detector; ``jitter`` and ``resize`` are its last head's, as in Darknet, the rest is [net]'s.

        Raises
        ------
        CfgError
            There is no head, the heads want different truths, or a number leaves nothing of the images.
        """
        heads, net = head_specs(plan), plan.net
        last, grid = heads[-1], heads[-1].type == "detection"
        _require_same_truth(heads)
        placed = dialect_value("detector_augmentation", plan.dialect) == "place" and not grid
        kind = lib.DETECTOR_PLACE if placed else lib.DETECTOR_CROP
        resize = 1.0 if plan.dialect == "pjreddie" else float(last.values["resize"] or 1)
        _check_jitter(last, kind, resize)
        least = LEAST_SHARE_GRID if grid else LEAST_SHARE
        pixels = dialect_value("detector_least_box", plan.dialect) == "a pixel" and not grid
        view = cls(
            net["width"],
            net["height"],
            net["channels"],
            kind=kind,
            letterbox=bool(net["letter_box"]) and not placed and not grid,
            flip=bool(net["flip"]),
            jitter=last.values["jitter"],
            resize=resize,
            hue=net["hue"],
            saturation=net["saturation"],
            exposure=net["exposure"],
            layout=lib.TRUTH_GRID if grid else lib.TRUTH_BOXES,
            most=0 if grid else last.values["max"],
            size=dialect_value("detector_truth", plan.dialect),
            side=last.values["side"] if grid else 0,
            classes=label_classes(last),
            least_w=1 / net["width"] if pixels else least,
            least_h=1 / net["height"] if pixels else least,
        )
        view.class_only = all(head.type == "region" and head.values["tree"] is not None for head in heads)
        view.notes = [
            str(head.error("random= asks for training at several sizes, which is not done", "random"))
            for head in heads
            if head.values["random"] and head.type != "detection"
        ]
        return view

    def fill(
        self,
        batch: Batch,
        row: int,
        pixels: Pixels,
        annotation: Floats,
        dataset: Dataset,
        seed: int,
        place: int,
    ) -> None:
        batch.labels[row] = self.row(pixels, annotation, seed, place, batch.x[row], batch.truth[row])[2]

    def row(
        self,
        pixels: Pixels,
        boxes: Floats,
        seed: int = 0,
        place: int = 0,
        x: Optional[Floats] = None,
        truth: Optional[Floats] = None,
    ) -> tuple[Floats, Floats, int]:
        """Return one row of network input with its truth.

        Parameters
        ----------
        pixels : ndarray of uint8, (h, w, 1 or 3), C-contiguous
        boxes : ndarray of float32, (objects, 5)
            x, y, w, h, class, as of :func:`read_boxes`.
        seed, place : int
            The random numbers are those of this place of the run.
        x, truth : ndarray of float32, (c*h*w,) and (truths,), C-contiguous, optional
            Where to write.

        Returns
        -------
        x, truth : ndarray
            `x` and `truth`, or new arrays.
        shown : int
            Boxes that the view shows; those beyond `most` are not in the truth.
        """
        if (
            pixels.ndim != 3
            or pixels.dtype != np.uint8
            or not pixels.flags.c_contiguous
            or pixels.shape[2] not in (1, 3)
            or not pixels.size
            or max(pixels.shape[:2]) > MAX_SIDE
        ):
            raise ArgumentError(
                f"pixels: expected C-contiguous uint8 (h, w, 1 or 3), got {pixels.dtype} {pixels.shape}"
            )
        boxes = np.array(boxes, np.float32, order="C")  # a copy: C moves the boxes in place
        if boxes.ndim != 2 or boxes.shape[1] != 5 or not np.isfinite(boxes).all():
            raise ArgumentError(f"boxes: expected finite x, y, w, h, class of each, got shape {boxes.shape}")
        if len(boxes) and not (0 <= boxes[:, 4].min() and boxes[:, 4].max() < max(self.options.classes, 1)):
            raise ArgumentError(f"boxes: expected classes 0 to {self.options.classes - 1}")
        x = _row("x", x, self.size)
        truth = _row("truth", truth, self.truths)
        h, w, channels = pixels.shape
        scratch = scratch_floats(self.c * h * w)
        shown = lib.detector_row(
            self.options,
            ffi.from_buffer("unsigned char *", pixels),
            w,
            h,
            channels,
            ffi.from_buffer("float *", boxes),
            len(boxes),
            seed & SEED_MASK,
            place,
            ffi.from_buffer("float *", scratch),
            ffi.from_buffer("float *", x),
            ffi.from_buffer("float *", truth),
        )
        return x, truth, shown


def head_specs(plan: Resolved) -> list[LayerSpec]:
    """Return the sections of a .cfg that learn boxes; CfgError if there is none."""
    heads = [spec for spec in plan.layers if spec.type in HEADS]
    if not heads:
        raise plan.error(
            f"the network is no detector: it has none of {', '.join(f'[{name}]' for name in HEADS)}"
        )
    return heads


def label_classes(head: LayerSpec) -> int:
    """Return how many classes the labels have: those of the head, or of what its map= renumbers."""
    name = head.values.get("map")
    if name is None:
        return head.values["classes"]
    path = find_beside(name, head.section.file)
    try:
        return len(read_names(path))
    except OSError as error:
        raise head.error(f"map={name}: {error.strerror}", "map") from None


def _require_same_truth(heads):
    """Heads share one truth; [detection] has a layout of its own."""
    last = heads[-1]
    for head in heads:
        if (head.type == "detection") != (last.type == "detection"):
            raise head.error(f"[{head.type}] and [{last.type}] learn from different truths")
        for key in ("classes", "side") if last.type == head.type == "detection" else ("classes", "max"):
            if head.values[key] != last.values[key]:
                raise head.error(
                    f"{key}={head.values[key]}, but the last head has {key}={last.values[key]}: "
                    "the heads of a network learn from one truth",
                    key,
                )
        if head.type in ("detection", "region") and head.values["coords"] != 4:
            raise head.error(
                f"label files have the 4 numbers of a box, got coords={head.values['coords']}", "coords"
            )


def _check_jitter(head, kind, resize):
    """Refuse what would leave nothing of an image."""
    jitter = head.values["jitter"]
    if kind == lib.DETECTOR_PLACE and not jitter < 1:
        raise head.error(f"jitter: expected less than 1, got {jitter:g}", "jitter")
    if not 1 / MAX_RESIZE <= resize <= MAX_RESIZE:
        raise head.error(f"resize: expected 1/{MAX_RESIZE} to {MAX_RESIZE}, got {resize:g}", "resize")
    least = (1 / resize if resize > 1 else 1) - 2 * jitter
    if kind == lib.DETECTOR_CROP and not (math.isfinite(least) and least > 0):
        raise head.error(
            f"jitter={jitter:g}"
            + (f" and resize={resize:g}" if resize != 1 else "")
            + " can leave nothing of an "
            "image: both sides are cropped by up to jitter; expected less than half",
            "jitter",
        )


def _row(name, array, count):
    if array is None:
        return np.empty(count, np.float32)
    if array.size != count or array.dtype != np.float32 or not array.flags.c_contiguous:
        raise ArgumentError(
            f"{name}: expected C-contiguous float32 ({count},), got {array.dtype} {array.shape}"
        )
    return array
