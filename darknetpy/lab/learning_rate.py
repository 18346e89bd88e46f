"""How far the learning rate can be raised."""

from __future__ import annotations

from darknetpy.lab import charts, table
from darknetpy.lab.experiment import Experiment, Run
from darknetpy.lab.networks import CLASSES, connected, network

_RATES = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0)
_KINDS = {"none": "without", "batch": "with batch normalization"}


class LearningRate(Experiment):
    name = "learning-rate"
    title = "Learning rates with and without batch normalization"
    source = "Ioffe & Szegedy 2015, arXiv:1502.03167, sections 3.3 and 4.2.1"
    question = """\
The same network is trained at learning rates from .001 to 30, with and without batch normalization. A
normalized layer gives the same output whatever the scale of its weights, and the gradient at larger
weights is smaller; the paper argues that this lets training stand rates at which the plain network
diverges, and uses up to 30 times the usual rate."""
    iterations, points = 800, 8

    def runs(self, iterations):
        return [
            Run(
                {"normalize": kind, "rate": rate},
                network(*3 * [connected(100, "relu", kind)], connected(CLASSES), batch=64, rate=rate),
                iterations,
            )
            for kind in _KINDS
            for rate in _RATES
        ]

    def draw(self, figure, rows):
        axes = figure.subplots()
        draw_sweep(axes, table.final(rows, "normalize", "rate"), "rate")
        charts.finish(axes, "learning rate", "validation accuracy in %")


def draw_sweep(axes, last, x):
    """Final accuracy over what was swept; a network that diverged stands at chance, as a cross."""
    shown = [
        {**row, "accuracy": row["accuracy"] if row["accuracy"] == row["accuracy"] else 1 / CLASSES}
        for row in last
    ]
    charts.curves(
        axes,
        shown,
        x,
        "accuracy",
        "normalize",
        percent=True,
        styles={kind: {"marker": "."} for kind in _KINDS},
        legend=_KINDS.get,
    )
    for i, kind in enumerate(_KINDS):
        lost = [row[x] for row in last if row["normalize"] == kind and row["accuracy"] != row["accuracy"]]
        axes.plot(
            lost,
            [100 / CLASSES] * len(lost),
            "x",
            color=charts.COLORS[i],
            markersize=9,
            label="diverged" if lost else None,
        )
    axes.set_xscale("log")


EXPERIMENT = LearningRate()
