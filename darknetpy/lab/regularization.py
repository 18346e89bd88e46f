"""The gap between training and validation: batch normalization beside dropout."""

from __future__ import annotations

from darknetpy.lab import charts
from darknetpy.lab.experiment import Experiment, Run
from darknetpy.lab.networks import CLASSES, connected, network, section

_SAMPLE = 2000  # training images whose accuracy is measured
_VARIANTS = {
    "neither": ("none", 0),
    "batch normalization": ("batch", 0),
    "dropout": ("none", 0.5),
    "both": ("batch", 0.5),
}


def wide_net(variant):
    """Two hidden layers of 256 units, enough to learn the training images by heart."""
    normalize, probability = _VARIANTS[variant]
    hidden = [connected(256, "relu", normalize)] + (
        [section("dropout", probability=probability)] if probability else []
    )
    return network(*2 * hidden, connected(CLASSES), batch=64, rate=0.05, momentum=0.9)


class Regularization(Experiment):
    name = "regularization"
    title = "Batch normalization and dropout as regularizers"
    source = "Ioffe & Szegedy 2015, arXiv:1502.03167, sections 3.4 and 4.2.1; Srivastava et al. 2014, JMLR 15"
    question = """\
A network with more weights than the images can determine is trained with batch normalization, with
dropout of half the hidden units, with both and with neither. An image's normalized values depend on the
others of its mini-batch, a noise that acts as a regularizer; the paper could leave out dropout. Dropout
is the stronger noise: it narrows the gap between training and validation accuracy more, and slows
training down."""
    iterations, points, size = 3300, 20, (11, 4.2)

    def runs(self, iterations):
        return [Run({"regularizer": variant}, wide_net(variant), iterations) for variant in _VARIANTS]

    def measure(self, training):
        seen, unseen = training.accuracy(training.data.train.spread(_SAMPLE)), training.accuracy()
        return {"loss": training.loss, "training_accuracy": seen, "accuracy": unseen, "gap": seen - unseen}

    def draw(self, figure, rows):
        accuracy, gap = figure.subplots(1, 2)
        dashed = {variant: {"linestyle": "--", "linewidth": 1} for variant in _VARIANTS}
        charts.curves(
            accuracy,
            rows,
            "iteration",
            "training_accuracy",
            "regularizer",
            percent=True,
            styles=dashed,
            legend=lambda _: None,
        )
        charts.curves(accuracy, rows, "iteration", "accuracy", "regularizer", percent=True)
        charts.finish(accuracy, "iteration", "accuracy in %", "validation (solid), training (dashed)")
        charts.curves(gap, rows, "iteration", "gap", "regularizer", percent=True)
        charts.finish(gap, "iteration", "percentage points", "training less validation accuracy")


EXPERIMENT = Regularization()
