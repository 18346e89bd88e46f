"""Testing one image at a time: where mean and variance come from once there is no mini-batch."""

from __future__ import annotations

from darknetpy.lab.experiment import Experiment, Run
from darknetpy.lab.networks import CLASSES, connected, network

_SOURCES = ("last", "ema", "cumulative", "recomputed")


def normalized_net(statistics):
    """Three hidden layers of 100 units, normalized over mini-batches of 16."""
    kind = "cumulative" if statistics == "recomputed" else statistics
    return network(
        *3 * [connected(100, "relu", "batch")], connected(CLASSES), batch=16, rate=0.1, statistics=kind
    )


class Statistics(Experiment):
    name = "statistics"
    title = "Statistics for testing single images"
    source = "Ioffe & Szegedy 2015, arXiv:1502.03167, section 3.1, algorithm 2"
    question = """\
A single image has no batch to be normalized over, so that testing takes mean and variance from training:
those of the last mini-batch; an exponential moving average (momentum .99, as it starts from zero); the
average of all mini-batches since training began; or those of the present weights, recomputed over 2,000
training images, as the paper's algorithm 2 has it. The network and its training are the same in all
four; only the numbers that testing uses differ. The last mini-batch's are noisy, the moving average is
wrong at first, the cumulative one remembers weights that are gone, and the recomputed ones are the
yardstick."""
    iterations, points, recompute = 1500, 50, False

    def runs(self, iterations):
        return [Run({"statistics": source}, normalized_net(source), iterations) for source in _SOURCES]

    def measure(self, training):
        if training.labels["statistics"] == "recomputed":
            training.recompute_statistics()
        return super().measure(training)


EXPERIMENT = Statistics()
