"""How much the scale of the first weights matters."""

from __future__ import annotations

import math

from darknetpy.lab import charts, table
from darknetpy.lab.experiment import Experiment, Run
from darknetpy.lab.learning_rate import draw_sweep
from darknetpy.lab.networks import CLASSES, connected, network

_SCALES = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0)
_KINDS = ("none", "batch")


class GaussianWeights:
    """Gaussian weights; scale 1 is sqrt(2 / inputs), which keeps the variance of rectified layers."""

    def __init__(self, scale):
        self.scale = scale

    def __call__(self, net, random):
        for layer in net.layers:
            if layer.type == "connected":
                deviation = self.scale * math.sqrt(2 / layer.inputs)
                layer.weights[:] = deviation * random.standard_normal(layer.weights.shape)


class Initialization(Experiment):
    name = "initialization"
    title = "The scale of the first weights"
    source = (
        "He et al. 2015, arXiv:1502.01852, section 2.2; Ioffe & Szegedy 2015, arXiv:1502.03167, section 3.3"
    )
    question = """\
The weights are drawn from a normal distribution of .01 to 100 times the deviation that He et al. derive
for rectified units. Without normalization, signals and gradients shrink or grow by that factor in every
layer, and only a narrow range trains. A normalized layer's output does not depend on the scale of its
weights, so that the range is far wider: too large a scale shows in steps that are too small, since the
gradient falls as weights grow."""
    iterations, points = 800, 8

    def runs(self, iterations):
        return [
            Run(
                {"normalize": kind, "scale": scale},
                network(*3 * [connected(100, "relu", kind)], connected(CLASSES), batch=64, rate=0.1),
                iterations,
                GaussianWeights(scale),
            )
            for kind in _KINDS
            for scale in _SCALES
        ]

    def draw(self, figure, rows):
        axes = figure.subplots()
        draw_sweep(axes, table.final(rows, "normalize", "scale"), "scale")
        charts.finish(
            axes, "deviation of the first weights, in units of sqrt(2 / inputs)", "validation accuracy in %"
        )


EXPERIMENT = Initialization()
