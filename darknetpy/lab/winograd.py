"""Training with convolutions as plain sums, and by Winograd's algorithm."""

from __future__ import annotations

from darknetpy.lab import charts
from darknetpy.lab.experiment import Experiment, Run
from darknetpy.lab.networks import CLASSES, connected, convolutional, network

_ALGORITHMS = ("gemm", "winograd4")


class Winograd(Experiment):
    name = "winograd"
    title = "Convolution as plain sums and by Winograd's algorithm"
    source = "Lavin & Gray 2016, arXiv:1509.09308, section 5.2 (accuracy of the tiles)"
    question = """\
The same network is trained twice from the same weights and images, with `convolution=gemm`, where every
output is one sum of products, and with `winograd4`: behind the first layer, whose images have one
channel, tiles of 4x4 outputs in all three passes, whose rounding errors are a few times larger. A last
digit decides now and then which side of a rectifier a value lies on, so two trainings part after some
updates, as they would in another order of the sums. Do their curves lie on one another?"""
    iterations, points, size = 300, 15, (11, 4.2)

    def runs(self, iterations):
        return [Run({"convolution": name}, self._net(name), iterations) for name in _ALGORITHMS]

    @staticmethod
    def _net(algorithm):
        return network(
            *(convolutional(filters, "batch") for filters in (32, 64, 128)),
            connected(CLASSES),
            batch=128,
            rate=0.03,
            momentum=0.9,
            decay=0.0005,
            convolution=algorithm,
        )

    def draw(self, figure, rows):
        styles = {"winograd4": {"linestyle": "--"}}
        loss, accuracy = figure.subplots(1, 2)
        charts.curves(loss, rows, "iteration", "loss", "convolution", styles=styles)
        charts.finish(loss, "iteration", "training loss")
        charts.curves(accuracy, rows, "iteration", "accuracy", "convolution", styles=styles, percent=True)
        charts.finish(accuracy, "iteration", "validation accuracy in %")


EXPERIMENT = Winograd()
