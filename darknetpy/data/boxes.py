"""Darknet's label files: one line ``class x y w h`` per object; the image's path tells where they are."""

from __future__ import annotations

import math
import os

import numpy as np

from .._types import Floats, Path
from ..dialects import dialect_value
from ..errors import DataError
from .datafile import read_lines

MAX_LABEL_BYTES = 1 << 24
ENDINGS = (".jpg", ".jpeg", ".png", ".bmp", ".ppm", ".tiff")
# What a path to an image becomes on the way to its label file: the first occurrence of each, in this order.
FOLDERS = {
    "labels": (("images", "labels"), ("JPEGImages", "labels"), ("raw", "labels")),
    "beside": (
        ("/images/train2017/", "/labels/train2017/"),
        ("/images/val2017/", "/labels/val2017/"),
        ("/JPEGImages/", "/labels/"),
        ("/images/train2014/", "/labels/train2014/"),
        ("/images/val2014/", "/labels/val2014/"),
    ),
}


def label_path(image: Path, dialect: str = "pjreddie") -> str:
    """Return the path of an image's label file.

    Parameters
    ----------
    image : str or os.PathLike
    dialect : str
        pjreddie: the first ``images`` in the path, then ``JPEGImages``, then ``raw`` becomes ``labels``,
        wherever it stands. alexeyab, hankai: only the folders of COCO and Pascal VOC do, all else lies beside the image.

    Examples
    --------
    >>> label_path("data/images/dog.jpg")
    'data/labels/dog.txt'
    >>> label_path("data/images/dog.jpg", "alexeyab")
    'data/images/dog.txt'
    """
    path = os.fsdecode(image)
    for old, new in FOLDERS[dialect_value("label_path", dialect)]:
        path = path.replace(old, new, 1)
    stem, ending = os.path.splitext(path)
    return (stem if ending.lower() in ENDINGS else path) + ".txt"


def read_boxes(path: Path, classes: int, class_only: bool = False) -> Floats:
    """Read a label file.

    Parameters
    ----------
    path : str or os.PathLike
    classes : int
        Class numbers must be less.
    class_only : bool
        Allow lines with x = y = 0: somewhere in the image there is such an object.

    Returns
    -------
    ndarray of float32, (objects, 5)
        Centre x, y, width, height in shares of the image, class.

    Raises
    ------
    DataError
        A line that is no such object; the message begins with file:line.
    OSError
        The file cannot be read.
    """
    boxes = []
    for number, line in enumerate(read_lines(path, MAX_LABEL_BYTES), start=1):
        if line:
            try:
                boxes.append(_read_box(line.split(), classes, class_only))
            except ValueError as error:
                raise DataError(f"{os.fsdecode(path)}:{number}: {error}") from None
    return np.array(boxes, np.float32).reshape(-1, 5)


def _read_box(words, classes, class_only):
    """Return [x, y, w, h, class] of the words of a line; ValueError says what is wrong."""
    if len(words) != 5:
        raise ValueError(f"expected 5 fields, class x y w h, got {len(words)}: {' '.join(words)[:60]!r}")
    digits = words[0]
    if not (digits.isascii() and digits.isdigit() and int(digits[:12]) < classes):
        raise ValueError(f"class: expected a whole number from 0 to {classes - 1}, got {digits[:40]!r}")
    x, y, w, h = (_read_number(name, word) for name, word in zip(("x", "y", "width", "height"), words[1:]))
    if x == 0 and y == 0 and not class_only:
        raise ValueError(
            "x and y are both 0, which only a [region] with a tree= understands: a class without a box"
        )
    for name, value in (("width", w), ("height", h)):
        if value == 0 and (x != 0 or y != 0):
            raise ValueError(f"{name}: expected more than 0, up to 1, got 0")
    return [x, y, w, h, int(digits)]


def _read_number(name, word):
    try:
        value = float(word) if word.isascii() and "_" not in word else math.nan
    except ValueError:
        value = math.nan
    value = float(np.float32(value)) if abs(value) < 2 else value
    if not 0 <= value <= 1:
        raise ValueError(f"{name}: expected a share of the image, 0 to 1, got {word[:40]!r}")
    return value
