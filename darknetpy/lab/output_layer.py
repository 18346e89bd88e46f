"""Normalizing the hidden layers, and normalizing the output as well."""

from __future__ import annotations

from darknetpy.lab import charts, table
from darknetpy.lab.experiment import Experiment, Run
from darknetpy.lab.networks import CLASSES, connected, network

_SIZES = (4, 16, 64)
_VARIANTS = {
    "hidden layers": ("batch", "none"),
    "hidden layers and output": ("batch", "batch"),
    "output alone": ("none", "batch"),
}


def classifier(variant, batch):
    """Two hidden layers of 100 units; the rate grows with the mini-batch."""
    hidden, output = _VARIANTS[variant]
    return network(
        *2 * [connected(100, "relu", hidden)],
        connected(CLASSES, normalize=output),
        batch=batch,
        rate=0.1 * batch / 64,
    )


class OutputLayer(Experiment):
    name = "output-layer"
    title = "Batch normalization of the output layer"
    source = "Ioffe & Szegedy 2015, arXiv:1502.03167, section 3.2 (normalization before nonlinearities)"
    question = """\
The scores that softmax turns into probabilities carry meaning by their size: a network that is sure of
itself makes them large. Batch normalization at the output fixes mean and deviation of each class's score
over the mini-batch, whatever classes happen to be in it, and leaves one scale and one bias per class to
make up for it. The smaller the mini-batch, the more its chance composition leaks into every score."""
    iterations, points, size = 1100, 10, (11, 4.2)

    def runs(self, iterations):
        """`iterations` are updates with the largest mini-batch; smaller ones see as many images."""
        return [
            Run(
                {"normalized": variant, "batch": size},
                classifier(variant, size),
                iterations * _SIZES[-1] // size,
            )
            for size in _SIZES
            for variant in _VARIANTS
        ]

    def measure(self, training):
        return {"images": training.net.seen, **super().measure(training)}

    def draw(self, figure, rows):
        for axes, (size, own) in zip(figure.subplots(1, 3, sharey=True), table.groups(rows, "batch").items()):
            charts.curves(axes, own, "images", "accuracy", "normalized", percent=True)
            title, first = f"mini-batches of {size}", size == _SIZES[0]
            charts.finish(axes, "images seen", "validation accuracy in %", title, legend=first)
            axes.locator_params(axis="x", nbins=4)


EXPERIMENT = OutputLayer()
