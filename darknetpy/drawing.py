"""Detections drawn into their image: a frame and a label each, readable whatever the image's size."""
from __future__ import annotations

import colorsys
import math
from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFont

from darknetpy.detection import Detection

SMALLEST = 400      # the longer side of a picture, at least: labels need room
_GOLDEN = (math.sqrt(5) - 1) / 2


def draw(image: Image.Image, detections: Sequence[Detection]) -> Image.Image:
    """Return a picture of an image with its detections.

    Small images are enlarged by a whole factor.  Letters are 1/50 of the longer side, at least 14 pixels high.  Labels keep
    off each other: the surest one stands above its frame, others where there is room.
    """
    scale = max(1, math.ceil(SMALLEST / max(image.size)))
    picture = image.convert("RGB").resize((image.width * scale, image.height * scale), Image.Resampling.NEAREST)
    side = max(picture.size)
    pen, font, line = ImageDraw.Draw(picture), _font(max(14, round(side / 50))), max(2, round(side / 300))
    found = sorted(detections, key=lambda detection: -detection.confidence)
    frames = [_inside(detection.box, scale, picture.size) for detection in found]
    for detection, frame in reversed(list(zip(found, frames))):
        pen.rectangle(frame, outline=color_of(detection.class_id), width=line)
    taken: list[tuple[float, float, float, float]] = []
    for detection, frame in zip(found, frames):
        _label(pen, picture.size, frame, f"{detection.label} {detection.confidence:.0%}", color_of(detection.class_id), font, taken)
    return picture


def color_of(class_id: int) -> tuple[int, int, int]:
    """Return a class's colour: neighbours in number are far apart in hue."""
    red, green, blue = colorsys.hsv_to_rgb((class_id * _GOLDEN + .07) % 1, .85, .95)
    return round(255 * red), round(255 * green), round(255 * blue)


def _font(size):
    try:
        return ImageFont.load_default(size)
    except TypeError:       # Pillow before 10.1 has one size only
        return ImageFont.load_default()


def _inside(box, scale, picture):
    """A box in pixels of the picture, cut to it."""
    corners = [value * scale for value in (box.left, box.top, box.right, box.bottom)]
    low = [min(max(value, 0), most - 1) for value, most in zip(corners[:2], picture)]
    return (*low, *(min(max(value, least), most - 1) for value, least, most in zip(corners[2:], low, picture)))


def _label(pen, picture, frame, text, color, font, taken):
    """Write a label beside its frame, clear of the labels in `taken`, which it joins."""
    x0, y0, x1, y1 = pen.textbbox((0, 0), text, font=font)
    margin = max(2, (y1 - y0) // 4)
    w, h = x1 - x0 + 2 * margin, y1 - y0 + 2 * margin
    x, y = _free_place(picture, frame, w, h, taken)
    taken.append((x, y, x + w, y + h))
    pen.rectangle([x, y, x + w, y + h], fill=color)
    red, green, blue = color
    dark = .299 * red + .587 * green + .114 * blue > 140
    pen.text((x + margin - x0, y + margin - y0), text, fill="black" if dark else "white", font=font)


def _free_place(picture, frame, w, h, taken):
    """Where a label of w x h goes: above the frame, inside at the top if that leaves room, below, else the next free height."""
    left, top, right, bottom = frame
    inside = [top, bottom - h] if bottom - top > 3 * h else []
    columns = [max(0, min(x, picture[0] - w)) for x in (left, right - w)]
    rows = [top - h, *inside, bottom, *(top + step * h for distance in range(2, 12) for step in (-distance, distance))]
    places = [(x, y) for y in rows for x in columns if 0 <= y <= picture[1] - h]
    free = [(x, y) for x, y in places if not any(x < b[2] and b[0] < x + w and y < b[3] and b[1] < y + h for b in taken)]
    return next(iter(free + places), (columns[0], 0))
