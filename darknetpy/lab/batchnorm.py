"""The first experiment of the paper: a small network of sigmoids, with and without batch normalization."""

from __future__ import annotations

import numpy as np

from darknetpy.lab import charts, table
from darknetpy.lab.experiment import Experiment, Run
from darknetpy.lab.networks import CLASSES, connected, network, section

_SIGMOID_INPUTS = "connected_4"  # the weighted sums of the last hidden layer
_NEURON = 0
_DEVIATION = 0.1
_KINDS = {"none": "without", "batch": "with batch normalization"}


def sigmoid_net(normalize, rate):
    """Three hidden layers of 100 sigmoids; the sums stand in layers of their own, to be looked at."""
    hidden = [connected(100, normalize=normalize), section("activation", activation="logistic")]
    return network(*3 * hidden, connected(CLASSES), batch=60, rate=rate)


def small_gaussian_weights(net, random):
    """Weights as in the paper: small, normally distributed."""
    for layer in net.layers:
        if layer.type == "connected":
            layer.weights[:] = _DEVIATION * random.standard_normal(layer.weights.shape)


class BatchNorm(Experiment):
    name = "batchnorm"
    title = "Training with and without batch normalization"
    source = "Ioffe & Szegedy 2015, arXiv:1502.03167, section 4.1, figure 1"
    question = """\
A network of three hidden layers of 100 sigmoids, small Gaussian weights, mini-batches of 60, trained
with and without batch normalization of the sums. The paper finds that the normalized network learns
faster and reaches a higher accuracy, and that the distribution of a sigmoid's input, here of one neuron
of the last hidden layer, moves much less while training goes on."""
    iterations, points, size = 6000, 60, (11, 4.2)

    def runs(self, iterations):
        return [
            Run({"normalize": kind}, sigmoid_net(kind, rate=0.5), iterations, small_gaussian_weights)
            for kind in _KINDS
        ]

    def measure(self, training):
        sums = training.outputs(_SIGMOID_INPUTS, training.data.valid)[:, _NEURON]
        low, middle, high = np.percentile(sums, (15, 50, 85))
        return {
            "loss": training.loss,
            "accuracy": training.accuracy(),
            "p15": float(low),
            "p50": float(middle),
            "p85": float(high),
        }

    def draw(self, figure, rows):
        accuracy, *inputs = figure.subplots(1, 3)
        charts.curves(accuracy, rows, "iteration", "accuracy", "normalize", percent=True, legend=_KINDS.get)
        charts.finish(accuracy, "iteration", "validation accuracy in %")
        inputs[1].sharey(inputs[0])
        first = [row for row in rows if row["seed"] == 0]  # with other weights it would be another neuron
        for i, (kind, own) in enumerate(table.groups(first, "normalize").items()):
            for percentile, style in (("p15", ":"), ("p50", "-"), ("p85", "--")):
                charts.curves(
                    inputs[i],
                    own,
                    "iteration",
                    percentile,
                    "normalize",
                    styles={kind: {"color": charts.COLORS[i], "linestyle": style}},
                    legend=lambda kind, name=percentile: f"{name[1:]}th percentile",
                )
            charts.finish(inputs[i], "iteration", "input of one sigmoid", _KINDS[kind])


EXPERIMENT = BatchNorm()
