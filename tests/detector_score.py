"""Recall and precision of a detector: python tests/detector_score.py CFG WEIGHTS [DATA] [--draw PICTURE].

A detection counts as right if a box of its class, that no surer detection took, overlaps it by an IoU of at
least .5. Found is an object that a detection of any class overlaps so; astray a detection that so overlaps none.
"""

from __future__ import annotations

import argparse
from typing import NamedTuple

import numpy as np
from heads import overlap
from PIL import Image

import darknetpy as dn
from darknetpy import data
from darknetpy.drawing import draw


class Score(NamedTuple):
    """Objects there are, detections made, detections that are right; objects found, detections astray."""

    objects: int
    detections: int
    right: int
    found: int
    astray: int

    @property
    def recall(self):
        return self.right / max(self.objects, 1)

    @property
    def precision(self):
        return self.right / max(self.detections, 1)


def count_right(found, boxes, least=0.5):
    """How many of the detections, the surest first, are right; `boxes` (objects, 5) in pixels."""
    free, right = np.ones(len(boxes), bool), 0
    for detection in found:
        candidates = np.flatnonzero(free & (boxes[:, 4] == detection.class_id))
        if len(candidates):
            iou = overlap(np.array([detection.box], float), boxes[candidates, :4].astype(float))
            if iou.max() >= least:
                free[candidates[iou.argmax()]] = False
                right += 1
    return right


def count_found(found, objects, least=0.5):
    """How many objects are found, and how many detections are astray."""
    boxes = np.array([detection.box for detection in found], float).reshape(-1, 1, 4)
    hits = overlap(boxes, objects[None, :, :4].astype(float)) >= least
    return hits.any(axis=0).sum(), (~hits.any(axis=1)).sum()


def score(net, dataset, count=None, thresh=0.25):
    """Return the Score over the first `count` images."""
    total = np.zeros(len(Score._fields), int)
    for index in range(min(count or len(dataset), len(dataset))):
        pixels, objects = dataset.pixels(index), dataset.boxes(index).copy()
        objects[:, :4] *= [pixels.shape[1], pixels.shape[0]] * 2
        found = net.detect(pixels, thresh=thresh)
        total += [len(objects), len(found), count_right(found, objects), *count_found(found, objects)]
    return Score(*total.tolist())


def draw_sheet(net, dataset, path, count=24, columns=6, side=320, thresh=0.25):
    """Draw the first images with what is found in them on one sheet."""
    count = min(count, len(dataset))
    sheet = Image.new("RGB", (columns * side, -(-count // columns) * side))
    for index in range(count):
        image = Image.fromarray(dataset.pixels(index).squeeze())
        size = tuple(side * edge // max(image.size) for edge in image.size)
        large = image.resize(size, Image.Resampling.NEAREST)
        found = net.detect(large, thresh=thresh, names=dataset.names)
        sheet.paste(draw(large, found).resize(size), (index % columns * side, index // columns * side))
    sheet.save(path)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("cfg")
    parser.add_argument("weights")
    parser.add_argument("data", nargs="?", default="fashion-scenes:")
    parser.add_argument("--split", default="valid")
    parser.add_argument("--count", type=int)
    parser.add_argument("--thresh", type=float, default=0.25)
    parser.add_argument("--draw")
    args = parser.parse_args()
    net = dn.load_network(args.cfg, args.weights)
    dataset = data.open_detection_data(args.data, net.dialect).dataset(args.split)
    result = score(net, dataset, args.count, args.thresh)
    print(
        f"recall {100 * result.recall:.1f} %, precision {100 * result.precision:.1f} % at IoU .5, "
        f"thresh {args.thresh}; whatever the class, {100 * result.found / max(result.objects, 1):.1f} % found, "
        f"{100 * result.astray / max(result.detections, 1):.1f} % astray: {result}"
    )
    if args.draw:
        draw_sheet(net, dataset, args.draw, thresh=args.thresh)


if __name__ == "__main__":
    main()
