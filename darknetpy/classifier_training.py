"""Training a classifier: one class per image, accuracy on the validation images."""

from __future__ import annotations

import numpy as np

from darknetpy.data import View
from darknetpy.errors import ArgumentError
from darknetpy.evaluation import best_count, evaluate, require_agreement
from darknetpy.training import Trainer


class ClassifierTrainer(Trainer):
    """Trains a network to tell the class of an image; see :class:`darknetpy.training.Trainer`."""

    def open_data(self):
        net, source = self.net, self.source
        require_agreement(net, source)
        if net.truths != source.classes:
            raise ArgumentError(
                f"the network's loss wants {net.truths} values of truth; a classifier of {source.classes} "
                f"classes has {source.classes}"
            )
        self.top = best_count(source, self.options.top)
        self.smoothing = self._label_smoothing()
        view = View.training(net.w, net.h, net.c, net.sections.net if net.sections else None, net.dialect)
        return view, source.train, source.valid if "valid" in source.splits else None

    def _label_smoothing(self):
        """The share of label_smooth_eps, for truths of one class among several."""
        sections = self.net.sections
        share = sections.net["label_smooth_eps"] if sections else 0
        if share and (self.source.train.tree is not None or self.net.truths < 2):
            message = "label_smooth_eps= spreads a truth of one class among several: it does not go with a tree or a single class"
            raise sections.error(message, "label_smooth_eps")
        return share

    def truth(self, batch):
        """A truth of ones and zeros with a share of each one spread over the zeros (label_smooth_eps)."""
        if not self.smoothing:
            return batch.truth
        other = np.float32(self.smoothing / (batch.truth.shape[1] - 1))
        return other + batch.truth * np.float32(1 - self.smoothing - other)

    def measure(self, should_stop):
        return evaluate(
            self.net,
            self.valid,
            top=self.top,
            workers=self.options.workers,
            on_bad_image=self.options.on_bad_image,
            should_stop=should_stop,
        )

    @staticmethod
    def report(result):
        measured = (
            result.accuracy.figures()
            if result.accuracy
            else {"top1": None, "topk": None, "k": None, "images": None}
        )
        return {**measured, "best_top1": result.best, "best_iteration": result.best_iteration}
