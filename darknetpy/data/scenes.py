"""Scenes for detectors: garments of the embedded Fashion-MNIST on painted backgrounds, with exact boxes.

A scene is a function of (settings, seed, number) alone: it is composed when it is asked for, the same on
every machine.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .._darknet import ffi, lib
from .._types import Floats, Pixels
from ..errors import ArgumentError
from .packed import PackedArrays

TRIES = 20  # places tried for a garment before it is left out
INK = 40 / 255  # pixels of a garment at least so bright are drawn, darker ones let the background through
BACKGROUNDS = ("plain", "gradient", "noise")


@dataclass(frozen=True)
class SceneSettings:
    """What scenes look like.

    Attributes
    ----------
    w, h : int
        Their size.
    channels : int
        1 (grey) or 3 (RGB).
    objects : (int, int)
        Fewest and most garments.
    scale : (float, float)
        Smallest and largest height of a garment's square, in shares of the shorter side.
    overlap : float
        Largest share of either of two garments' boxes that the other's may cover.
    backgrounds : sequence of {"plain", "gradient", "noise"}
    """

    w: int = 96
    h: int = 96
    channels: int = 3
    objects: tuple[int, int] = (1, 4)
    scale: tuple[float, float] = (0.25, 0.5)
    overlap: float = 0.25
    backgrounds: Sequence[str] = BACKGROUNDS

    def __post_init__(self) -> None:
        low, high = self.objects
        small, large = self.scale
        if not (8 <= self.w <= 4096 and 8 <= self.h <= 4096) or self.channels not in (1, 3):
            raise ArgumentError(
                f"scenes of {self.w}x{self.h}x{self.channels}: "
                "expected 8 to 4096 pixels a side, 1 or 3 channels"
            )
        if not (0 <= low <= high <= 1000 and 0 < small <= large <= 1 and 0 <= self.overlap <= 1):
            raise ArgumentError(
                f"objects={self.objects}, scale={self.scale}, overlap={self.overlap}: "
                "expected two numbers of objects up to 1000, two shares above 0, a share"
            )
        if not self.backgrounds or not set(self.backgrounds) <= set(BACKGROUNDS):
            raise ArgumentError(
                f"backgrounds={self.backgrounds!r}: expected some of {', '.join(BACKGROUNDS)}"
            )


DEFAULT_SETTINGS = SceneSettings()


class SceneMaker:
    """Composes scenes from labelled images.

    Parameters
    ----------
    arrays : PackedArrays
        Grey images, bright on black.
    settings : SceneSettings, optional
    seed : int
    """

    def __init__(
        self, arrays: PackedArrays, settings: SceneSettings = DEFAULT_SETTINGS, seed: int = 0
    ) -> None:
        self.arrays, self.settings, self.seed = arrays, settings, seed

    def make(self, number: int) -> tuple[Pixels, Floats]:
        """Return scene `number`.

        Returns
        -------
        pixels : ndarray of uint8, (h, w, channels)
        boxes : ndarray of float32, (objects, 5)
            x, y, w, h in shares of the scene, class; the tight bounds of the pixels drawn, those that a later
            garment covers included. The last one drawn is the last one here.
        """
        draws, s = _Draws(self.seed, number), self.settings
        canvas = self._background(draws)
        bounds: list[tuple[int, int, int, int]] = []
        boxes = []
        for _ in range(draws.integer(*s.objects)):
            index = draws.integer(0, len(self.arrays.labels) - 1)
            side = min(max(round(draws.uniform(*s.scale) * min(s.w, s.h)), 4), s.w, s.h)
            garment = resized(self.arrays.pixels[index, :, :, 0], side, side)
            colour = [draws.uniform(0.5, 1) for _ in range(s.channels)]
            inked = np.argwhere(garment >= INK)
            if not len(inked):
                continue
            (top, left), (bottom, right) = inked.min(axis=0), inked.max(axis=0) + 1
            garment = garment[top:bottom, left:right]
            place = self._place(draws, bounds, *garment.shape)
            if place is None:
                continue
            _draw(canvas, garment, colour, *place)
            bounds.append((*place, place[0] + right - left, place[1] + bottom - top))
            boxes.append([*_shares(bounds[-1], s.w, s.h), self.arrays.labels[index]])
        pixels = np.rint(canvas * 255).clip(0, 255).astype(np.uint8)
        return np.ascontiguousarray(pixels), np.array(boxes, np.float32).reshape(-1, 5)

    def identity(self) -> str:
        """Return a digest of all that scenes depend on."""
        digest = hashlib.blake2b(repr((self.settings, self.seed)).encode(), digest_size=16)
        digest.update(self.arrays.pixels)
        digest.update(self.arrays.labels.astype("<i8"))
        return digest.hexdigest()

    def _background(self, draws):
        """A canvas (h, w, channels) in 0..1, rather dark."""
        s = self.settings
        kind = s.backgrounds[draws.integer(0, len(s.backgrounds) - 1)]
        first, second = ([draws.uniform(0, 0.5) for _ in range(s.channels)] for _ in range(2))
        canvas = np.empty((s.h, s.w, s.channels))
        canvas[:] = first
        if kind == "gradient":
            across, down = np.meshgrid(np.linspace(0, 1, s.w), np.linspace(0, 1, s.h))
            share = draws.uniform(0, 1)
            canvas += ((share * across + (1 - share) * down)[:, :, None]) * (np.array(second) - first)
        elif kind == "noise":
            canvas += (draws.field(s.h, s.w) - 0.5) * 0.3
        return canvas.clip(0, 1)

    def _place(self, draws, bounds, h, w):
        """Where a garment of w x h goes so that it covers no other too much; None: nowhere that was tried."""
        for _ in range(TRIES):
            left = draws.integer(0, self.settings.w - w)
            top = draws.integer(0, self.settings.h - h)
            here = (left, top, left + w, top + h)
            if all(_covered(here, other) <= self.settings.overlap for other in bounds):
                return left, top
        return None


def resized(image: Pixels, w: int, h: int) -> Floats:
    """Return a grey image (h, w) of bytes as floats in 0..1, bilinearly resized to (h, w)."""
    source = np.ascontiguousarray(image, np.float32) / np.float32(255)
    out, scratch = np.empty((h, w), np.float32), np.empty(2 * w, np.float32)
    lib.resize_image(
        ffi.from_buffer("float *", source),
        *source.shape[::-1],
        1,
        w,
        h,
        ffi.from_buffer("float *", scratch),
        ffi.from_buffer("float *", out),
    )
    return out


def _draw(canvas, garment, colour, left, top):
    """Paint the garment's inked pixels over what is there."""
    h, w = garment.shape
    window = canvas[top : top + h, left : left + w]
    inked = garment >= INK
    window[inked] = garment[inked][:, None] * colour


def _shares(bounds, w, h):
    left, top, right, bottom = bounds
    return (left + right) / 2 / w, (top + bottom) / 2 / h, (right - left) / w, (bottom - top) / h


def _covered(a, b):
    """The larger share of two boxes that their intersection covers."""
    w = min(a[2], b[2]) - max(a[0], b[0])
    h = min(a[3], b[3]) - max(a[1], b[1])
    smaller = min((box[2] - box[0]) * (box[3] - box[1]) for box in (a, b))
    return max(w, 0) * max(h, 0) / smaller


class _Draws:
    """Random numbers of one scene: numpy's Philox, whose raw bits are the same in every version."""

    def __init__(self, seed, number):
        self._bits = np.random.Philox(key=[seed & (1 << 64) - 1, number])

    def uniform(self, low, high):
        return low + (high - low) * ((int(self._bits.random_raw()) >> 11) * 2.0**-53)

    def integer(self, low, high):
        return low + (int(self._bits.random_raw()) >> 32) * (high - low + 1) // (1 << 32)

    def field(self, h, w):
        """Return uniform numbers, (h, w, 1)."""
        return (self._bits.random_raw(h * w) >> np.uint64(11)).reshape(h, w, 1) * 2.0**-53
