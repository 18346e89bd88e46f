"""Views of detectors in float64 numpy: what becomes of pixels and boxes under a view's drawn numbers, written
from their definitions.
"""

from __future__ import annotations

import numpy as np


def taps(positions, n):
    """Two neighbours and the weight of the second for positions in pixels."""
    first = np.floor(positions).astype(int)
    return first, first + 1, positions - first


def sample(image, ys, xs, outside):
    """Bilinear samples of an image (c, h, w) at rows `ys` and columns `xs`; `outside` gives its pixels."""
    (y0, y1, dy), (x0, x1, dx) = taps(ys, image.shape[1]), taps(xs, image.shape[2])
    upper = (1 - dx) * outside(image, y0, x0) + dx * outside(image, y0, x1)
    lower = (1 - dx) * outside(image, y1, x0) + dx * outside(image, y1, x1)
    return (1 - dy)[:, None] * upper + dy[:, None] * lower


def black(image, rows, columns):
    inside = ((rows >= 0) & (rows < image.shape[1]))[:, None] & (columns >= 0) & (columns < image.shape[2])
    return np.where(inside, border(image, rows, columns), 0)


def border(image, rows, columns):
    rows, columns = rows.clip(0, image.shape[1] - 1), columns.clip(0, image.shape[2] - 1)
    return image[:, rows[:, None], columns]


def placed(image, view, w, h):
    """The image resized to view.w x view.h, at (view.left, view.top) of grey, w x h."""
    c, ih, iw = image.shape
    small = sample(image, np.arange(view.h) / view.h * ih, np.arange(view.w) / view.w * iw, black)
    out = np.full((c, h, w), 0.5)
    out[:, view.top : view.top + view.h, view.left : view.left + view.w] = small
    return out


def cropped(image, view, w, h, letterbox=False):
    """The window of the image resized to w x h, corners on corners."""
    ys = np.linspace(0, view.h - 1, h) if h > 1 else np.array([view.h - 1.0])
    xs = np.linspace(0, view.w - 1, w) if w > 1 else np.array([view.w - 1.0])
    out = sample(image, ys + view.top, xs + view.left, border)
    rows, columns = np.floor(ys) + view.top, np.floor(xs) + view.left
    inside = ((rows >= 0) & (rows < image.shape[1]))[:, None] & (columns >= 0) & (columns < image.shape[2])
    return np.where(inside, out, 0.5) if letterbox else out


def moved(boxes, view, kind_place, w, h, iw, ih):
    """Boxes (n, 5) carried over to the view, in its shares, cut to it."""
    left, right = (boxes[:, 0] - boxes[:, 2] / 2) * iw, (boxes[:, 0] + boxes[:, 2] / 2) * iw
    top, bottom = (boxes[:, 1] - boxes[:, 3] / 2) * ih, (boxes[:, 1] + boxes[:, 3] / 2) * ih
    if kind_place:
        x = [(v * view.w / iw + view.left) / w for v in (left, right)]
        y = [(v * view.h / ih + view.top) / h for v in (top, bottom)]
    else:
        x = [(v - view.left) / view.w for v in (left, right)]
        y = [(v - view.top) / view.h for v in (top, bottom)]
    if view.flip:
        x = [1 - x[1], 1 - x[0]]
    x, y = np.clip(x, 0, 1), np.clip(y, 0, 1)
    return np.stack([x.mean(axis=0), y.mean(axis=0), x[1] - x[0], y[1] - y[0], boxes[:, 4]], axis=1)
