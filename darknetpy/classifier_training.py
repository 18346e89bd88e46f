"""Training a classifier: one class per image, accuracy on the validation images."""

from __future__ import annotations

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
        view = View.training(net.w, net.h, net.c, net.sections.net if net.sections else None, net.dialect)
        return view, source.train, source.valid if "valid" in source.splits else None

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
