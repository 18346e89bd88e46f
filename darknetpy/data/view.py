"""How an image becomes a row of the network's input: augmented for training, or a fixed transform for the
rest.

The work is C's (csrc/classifier_views.c); it runs without the interpreter's lock, so that loader threads run
beside training.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Optional

import numpy as np
import numpy.typing as npt

from .._darknet import ffi, lib
from .._types import Floats, Integers, Pixels
from ..errors import ArgumentError, CfgError
from .images import MAX_SIDE

if TYPE_CHECKING:
    from .dataset import Dataset
    from .loader import Batch

SEED_MASK = (1 << 64) - 1
_KEPT_FLOATS = 1 << 24  # 64 MB, an image of 2300 x 2300
_kept = threading.local()


class View:
    """What is done to each image; made by one of the class methods.

    Attributes
    ----------
    w, h, c : int
        The network's input; c is 1 (grey) or 3.
    options : cffi struct view_options
        What C is told.
    random : bool
        Whether the result depends on seed and place.
    truths : int
        Values of a row of truth; 0: as many as there are classes.
    """

    truths = 0

    def __init__(self, w: int, h: int, c: int, kind: int, **options: Any) -> None:
        _check_size(w, h, c)
        self.w, self.h, self.c = w, h, c
        self.options = ffi.new("view_options *", dict(w=w, h=h, c=c, kind=kind, **options))
        self.random = kind in (lib.VIEW_RANDOM, lib.VIEW_CENTER_RANDOM)

    @property
    def size(self) -> int:
        """Values of one row: c * h * w."""
        return self.c * self.h * self.w

    @classmethod
    def training(
        cls, w: int, h: int, c: int, net: Optional[Mapping[str, Any]] = None, dialect: str = "pjreddie"
    ) -> View:
        """Return the augmentation that [net] describes.

        Parameters
        ----------
        w, h, c : int
            The network's input.
        net : mapping, optional
            Values of [net]: min_crop, max_crop, min_ratio, max_ratio, aspect, angle, hue, saturation,
            exposure, flip, center; one that is missing or None has Darknet's default: shorter side drawn from
            w to 2*w, flip, nothing else.
        dialect : str
            pjreddie: the size range is min_ratio*w .. max_ratio*w, a window larger than the image wanders
            over it. alexeyab, hankai: min_crop .. max_crop, and it stays in the middle.

        Notes
        -----
        Darknet knows square networks only here: where h differs from w, the window has h rows (Darknet: w).
        pjreddie mirrors half of the images whatever flip= says; here flip=0 holds in every dialect.
        """
        _check_size(w, h, c)
        net = {} if net is None else net

        def get(key, default):
            value = net.get(key)
            return default if value is None else value

        low, high = get("min_crop", w), get("max_crop", 2 * w)
        if dialect == "pjreddie":  # in float, as Darknet: 0.7 * 10 may be 6
            low = int(np.float32(get("min_ratio", np.float32(low) / np.float32(w))) * np.float32(w))
            high = int(np.float32(get("max_ratio", np.float32(high) / np.float32(w))) * np.float32(w))
        if not 1 <= low <= high <= MAX_SIDE:
            raise CfgError(
                f"augmentation draws the shorter side from {low} to {high} pixels (min_crop, max_crop, "
                f"min_ratio, max_ratio); expected 1 <= smallest <= largest <= {MAX_SIDE}",
                section="net",
            )
        factors = {key: float(get(key, 1)) for key in ("aspect", "saturation", "exposure")}
        for key, value in factors.items():
            if not (0 < value < math.inf):
                raise CfgError(f"{key}: expected a factor above 0, got {value}", section="net", key=key)
        options = {key: get(key, 0) for key in ("angle", "hue")}
        options.update(factors, low=low, high=high, flip=bool(get("flip", 1)), inside=dialect != "pjreddie")
        return cls(w, h, c, lib.VIEW_CENTER_RANDOM if get("center", 0) else lib.VIEW_RANDOM, **options)

    @classmethod
    def validation(cls, w: int, h: int, c: int, dialect: str = "pjreddie") -> View:
        """Return what ``classifier valid`` does: pjreddie the middle square resized; the others the shorter
        side resized, then cut.
        """
        return cls(w, h, c, lib.VIEW_CENTER_CROP if dialect == "pjreddie" else lib.VIEW_RESIZE_MIN_CROP)

    @classmethod
    def prediction(cls, w: int, h: int, c: int, dialect: str = "pjreddie") -> View:
        """Return what ``classifier predict`` does: pjreddie letterbox; the others the shorter side resized,
        then cut.
        """
        return cls(w, h, c, lib.VIEW_LETTERBOX if dialect == "pjreddie" else lib.VIEW_RESIZE_MIN_CROP)

    def apply(
        self,
        pixels: Pixels,
        index: Optional[Integers] = None,
        seed: int = 0,
        first: int = 0,
        out: Optional[Floats] = None,
    ) -> Floats:
        """Return rows of network input.

        Parameters
        ----------
        pixels : ndarray of uint8, (h, w, 1 or 3) or (n, h, w, 1 or 3), C-contiguous
            Images of any one size.
        index : ndarray of int64, (count,), optional
            Which of the images, 0..n-1; all by default.
        seed, first : int
            The random numbers of row i are those of place first+i of the run with that seed.
        out : ndarray of float32, (count, c*h*w), C-contiguous, optional
            Where to write.

        Returns
        -------
        ndarray of float32, (count, c*h*w)
            `out`, or a new array; values in [0, 1].
        """
        images = pixels[None] if pixels.ndim == 3 else pixels
        if (
            images.ndim != 4
            or images.dtype != np.uint8
            or not images.flags.c_contiguous
            or images.shape[3] not in (1, 3)
        ):
            raise ArgumentError(
                f"pixels: expected C-contiguous uint8 (n, h, w, 1 or 3), got {pixels.dtype} {pixels.shape}"
            )
        n, h, w, channels = images.shape
        index = np.arange(n, dtype=np.int64) if index is None else np.ascontiguousarray(index, np.int64)
        if index.size and not (
            0 <= index.min() and index.max() < n and max(w, h) <= MAX_SIDE and images.size
        ):
            raise ArgumentError(
                f"index: expected values from 0 to {n - 1}, got {index.min()} to {index.max()}"
            )
        out = np.empty((len(index), self.size), np.float32) if out is None else out
        if out.shape != (len(index), self.size) or out.dtype != np.float32 or not out.flags.c_contiguous:
            raise ArgumentError(
                f"out: expected C-contiguous float32 {(len(index), self.size)}, got {out.dtype} {out.shape}"
            )
        scratch = scratch_floats(lib.classifier_scratch(self.options, w, h))
        lib.classifier_images(
            self.options,
            ffi.from_buffer("unsigned char *", images),
            ffi.from_buffer("int64_t *", index),
            len(index),
            w,
            h,
            channels,
            seed & SEED_MASK,
            first,
            ffi.from_buffer("float *", scratch),
            ffi.from_buffer("float *", out),
        )
        return out

    def fill(
        self, batch: Batch, row: int, pixels: Pixels, annotation: Any, dataset: Dataset, seed: int, place: int
    ) -> None:
        """Write one row of a batch from an image and its annotation in `dataset`, with the random numbers of
        `place`.
        """
        batch.labels[row] = annotation
        batch.truth[row] = dataset.truth(annotation)
        self.apply(pixels, None, seed, place, batch.x[row : row + 1])


def scratch_floats(count: int) -> Floats:
    """Return `count` floats or more, whatever they hold: a thread gets the same memory again and again, unless
    that is very much, since fresh memory costs a page fault every 4 kB.
    """
    held = getattr(_kept, "floats", None)
    if held is None or len(held) < count:
        held = np.empty(count, np.float32)
        if count <= _KEPT_FLOATS:
            _kept.floats = held
    return held


def _check_size(w, h, c):
    """Refuse an input that images cannot be made for."""
    if c not in (1, 3):
        raise CfgError(f"images have 1 or 3 channels, the network wants channels={c}")
    if not (1 <= w <= MAX_SIDE and 1 <= h <= MAX_SIDE):
        raise CfgError(f"the network wants images of {w}x{h} pixels; 1 to {MAX_SIDE} a side are possible")


def sample_order(order: str, seed: int, first: int, count: int, n: int) -> npt.NDArray[np.int64]:
    """Return the images, 0..n-1, at places first..first+count-1 of a run: a function of these arguments
    alone.

    Parameters
    ----------
    order : str
        "shuffled": every epoch of n places is a new permutation, so that each image counts equally and
        "epoch" means what it says; "replacement": independent draws, as Darknet does; "sequential": 0, 1,
        ..., n-1, 0, ...

    Returns
    -------
    ndarray of int64, (count,)
    """
    kinds = {
        "shuffled": lib.DN_ORDER_SHUFFLED,
        "replacement": lib.DN_ORDER_REPLACEMENT,
        "sequential": lib.DN_ORDER_SEQUENTIAL,
    }
    if order not in kinds:
        raise ArgumentError(f"order: expected {', '.join(kinds)}, got {order!r}")
    index = np.empty(count, np.int64)
    lib.sample_order(kinds[order], seed & SEED_MASK, first, count, n, ffi.from_buffer("int64_t *", index))
    return index
