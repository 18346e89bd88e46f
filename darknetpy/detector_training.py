"""Training a detector: images with boxes; what its heads say of the boxes they learn is watched."""

from __future__ import annotations

import numpy as np

from darknetpy.data import DetectionView, head_specs, require_classes
from darknetpy.errors import ArgumentError
from darknetpy.training import Trainer
from darknetpy.training_log import DetectorRecord

_FIGURES = (
    "iou",
    "objectness",
    "recall50",
    "recall75",
)  # sums that a head's `matches` hold behind the number of boxes


class DetectorTrainer(Trainer):
    """Trains a network to find objects; see :class:`darknetpy.training.Trainer`.

    Validation images are not looked at: their mean average precision is measured elsewhere.
    """

    record, command = DetectorRecord, "detector train"

    def open_data(self):
        net = self.net
        require_classes(net.sections, self.source)
        view = DetectionView.training(net.sections)
        if view.truths != net.truths:
            raise ArgumentError(
                f"the network's heads want {net.truths} values of truth, their boxes have {view.truths}"
            )
        for note in view.notes:
            self.progress.note(f"note: {note}")
        # Heads that keep count of what they match; [detection]'s truth says itself which cell learns from which box.
        self._heads = [
            net.layers[spec.index] for spec in head_specs(net.sections) if spec.type != "detection"
        ]
        self._matches = np.zeros(1 + len(_FIGURES))
        return view, self.source.train, None

    def observe(self, batch):
        for head in self._heads:
            sums = head.matches.sum(axis=0, dtype=float)[: len(self._matches)]
            self._matches[: len(sums)] += sums

    def figures(self):
        boxes, sums = self._matches[0], self._matches[1:].copy()
        self._matches[:] = 0
        images = self.net.batch * self.net.subdivisions
        found = {name: float(value / boxes) for name, value in zip(_FIGURES, sums)} if boxes else {}
        if not any("yolo" in head.type for head in self._heads):
            found.pop("recall75", None)
        return {**found, "objects": float(boxes / images)} if self._heads else {}
