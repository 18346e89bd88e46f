"""From an image to detections: fit it to the network, decode every head's boxes, remove doubles, map boxes back."""
from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Optional, Union

import numpy as np

from darknetpy._types import Floats, Path, Pixels
from darknetpy.builder import NMS_KINDS
from darknetpy.core import core as default_core
from darknetpy.dialects import dialect_value
from darknetpy.errors import ArgumentError, DataError

if TYPE_CHECKING:
    from PIL.Image import Image

    from darknetpy.layer import Layer
    from darknetpy.network import Network

BOX = 5     # values of a row before its classes: x, y, w, h, objectness


class Box(NamedTuple):
    """A box by its centre (x, y) and size (w, h), in pixels of the image; it may reach beyond the image."""

    x: float
    y: float
    w: float
    h: float

    @property
    def left(self) -> float:
        return self.x - self.w / 2

    @property
    def top(self) -> float:
        return self.y - self.h / 2

    @property
    def right(self) -> float:
        return self.x + self.w / 2

    @property
    def bottom(self) -> float:
        return self.y + self.h / 2


class Detection(NamedTuple):
    """One object found: its class by name (the number where no names are known) and number, how sure, and where."""

    label: str
    class_id: int
    confidence: float
    box: Box


def heads(net: Network) -> list[Layer]:
    """Return the layers that give boxes.

    Raises
    ------
    ArgumentError
        There is none, or they have unlike numbers of classes.
    """
    found = [layer for layer in net.layers if net._core.lib.count_detections(layer._handle, 0, 1e9, .5) >= 0]
    if not found:
        raise ArgumentError("the network is no detector: it has no [yolo], [Gaussian_yolo], [region] or [detection]")
    counts = sorted({int(layer.option("classes")) for layer in found})
    if len(counts) > 1:
        raise ArgumentError(f"the network's heads have {' and '.join(map(str, counts))} classes: wanted the same number")
    return found


def uses_letterbox(net: Network) -> bool:
    """Tell whether images keep their proportions on the way into the network, as its dialect and [net] letter_box say.

    A network with a [detection] head (YOLOv1) gets them stretched, as in its training.
    """
    if any(layer.type == "detection" for layer in net.layers):
        return False
    wanted = net.sections is not None and net.sections.net.get("letter_box")
    return bool(wanted) or dialect_value("detector_resize", net.dialect) == "letterbox"


def fit_image(net: Network, pixels: Pixels, letterbox: bool) -> Floats:
    """Return one row of input from the pixels (h, w, 1 or 3) of an image, letterboxed or stretched."""
    lib, ffi = default_core.lib, default_core.ffi
    (h, w, channels), c = pixels.shape, net.c
    if c not in (1, 3) or channels not in (1, 3):
        raise ArgumentError(f"images have 1 or 3 channels; the network wants {c}, the image has {channels}")
    whole, out = np.empty((c, h, w), np.float32), np.empty((1, c * net.h * net.w), np.float32)
    scratch = np.empty(2 * net.w, np.float32)
    lib.bytes_to_image(ffi.from_buffer("unsigned char *", np.ascontiguousarray(pixels)), w, h, channels, c,
                       default_core.address(whole))
    fit = lib.letterbox_image if letterbox else lib.resize_image
    fit(default_core.address(whole), w, h, c, net.w, net.h, default_core.address(scratch), default_core.address(out))
    return out


def decode(net: Network, image: int, thresh: float, hier_thresh: float = .5) -> Floats:
    """Return the boxes that all heads found in one row of the last forward pass.

    Returns
    -------
    ndarray (boxes, 5 + classes)
        x, y (the centre), w, h in shares of the network's input, objectness, and each class's probability: 0 unless above
        `thresh`.
    """
    core, found = net._core, []
    for head in heads(net):
        count = core.lib.count_detections(head._handle, image, thresh, hier_thresh)
        rows = np.zeros((count, BOX + int(head.option("classes"))), core.dtype)
        core.lib.get_detections(head._handle, image, thresh, hier_thresh, core.address(rows))
        found.append(rows)
    return np.concatenate(found)


def suppress(rows: Floats, nms: float, kind: str = "default", beta: float = .6) -> Floats:
    """Set to 0 what overlaps a better detection by more than `nms`, in place; return the rows.

    Parameters
    ----------
    rows : ndarray (boxes, 5 + classes), as of :func:`decode`
    nms : float
    kind : {"default", "greedynms", "diounms", "cornersnms", "objectness"}
        Class by class, by IoU; by IoU - (d^2 / c^2)^0.6, d being the distance of the centres and c the diagonal around both
        boxes; the same to the power `beta`; by IoU; all classes at once, by objectness and IoU.
    beta : float
    """
    if kind not in NMS_KINDS:
        raise ArgumentError(f"kind={kind!r}: wanted one of {', '.join(NMS_KINDS)}")
    core = default_core
    core.check(core.lib.nms_detections(core.address(core.array("rows", rows, writable=True)), len(rows), rows.shape[1] - BOX, nms,
                                       NMS_KINDS[kind], beta))
    return rows


def to_image(rows: Floats, net: Network, w: int, h: int, letterbox: bool) -> Floats:
    """Turn boxes in shares of the network's input into pixels of an image of w x h, in place; return the rows."""
    new_w, new_h = net.w, net.h
    if letterbox and net.w / w < net.h / h:
        new_h = max(h * net.w // w, 1)
    elif letterbox:
        new_w = max(w * net.h // h, 1)
    rows[:, 0] = (rows[:, 0] - (net.w - new_w) / 2 / net.w) * (net.w / new_w) * w
    rows[:, 1] = (rows[:, 1] - (net.h - new_h) / 2 / net.h) * (net.h / new_h) * h
    rows[:, 2] *= net.w / new_w * w
    rows[:, 3] *= net.h / new_h * h
    return rows


def read_image(image: Union[Path, Image, Pixels]) -> Pixels:
    """Return the pixels (h, w, 1 or 3) of a file, a Pillow image or an array of uint8 (h, w), (h, w, 1) or (h, w, 3)."""
    from darknetpy.data.images import decode_image, image_pixels

    if isinstance(image, (str, os.PathLike)):
        try:
            return decode_image(image)
        except DataError as error:
            raise DataError(f"{os.fspath(image)}: {error}") from error
    if isinstance(image, np.ndarray):
        pixels = image[:, :, None] if image.ndim == 2 else image
        if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] not in (1, 3) or not pixels.size:
            raise ArgumentError(f"image: wanted uint8 (h, w, 3), got {image.dtype} {image.shape}")
        return pixels
    if hasattr(image, "convert") and hasattr(image, "size"):
        return image_pixels(image)
    raise ArgumentError(f"image: wanted a path, a Pillow image or an array, got {type(image).__name__}")


def detect(net: Network, image: Union[Path, Image, Pixels], thresh: float = .25, nms: float = .45, *, hier_thresh: float = .5,
           letterbox: Optional[bool] = None, names: Optional[Sequence[str]] = None) -> list[Detection]:
    """Return what the network finds in an image; see :meth:`darknetpy.Network.detect`."""
    for name, value in (("thresh", thresh), ("nms", nms), ("hier_thresh", hier_thresh)):
        if not 0 <= value <= 1:
            raise ArgumentError(f"{name}={value!r}: wanted a number in 0..1")
    last, pixels = heads(net)[-1], read_image(image)
    if names is not None and len(names) < last.option("classes"):
        raise ArgumentError(f"names: {len(names)} of them for {int(last.option('classes'))} classes")
    letterbox = uses_letterbox(net) if letterbox is None else letterbox
    net.predict(fit_image(net, pixels, letterbox).astype(net._core.dtype))
    rows = decode(net, 0, thresh, hier_thresh).astype(np.float32)
    to_image(rows, net, pixels.shape[1], pixels.shape[0], letterbox)
    options: dict[str, Any] = last.cfg_options
    if nms > 0:
        suppress(rows, nms, options.get("nms_kind", "default"), options.get("beta_nms", .6))
    found = [Detection(str(c) if names is None else names[c], int(c), float(rows[i, BOX + c]), Box(*map(float, rows[i, :4])))
             for i, c in zip(*np.nonzero(rows[:, BOX:] > thresh))]
    return sorted(found, key=lambda detection: -detection.confidence)
