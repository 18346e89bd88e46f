"""What weight decay makes of the weights: L2 shrinks them, L1 sets them to zero."""

from __future__ import annotations

import numpy as np

from darknetpy.lab import charts, table
from darknetpy.lab.experiment import Experiment, Run
from darknetpy.lab.networks import CLASSES, connected, network

_VARIANTS = (
    ("none", 0.0),
    ("L2", 0.001),
    ("L2", 0.01),
    ("L2", 0.03),
    ("L1", 0.0001),
    ("L1", 0.0003),
    ("L1", 0.001),
)
_SHOWN = (("none", 0.0), ("L2", 0.01), ("L1", 0.0003))
_EDGES = np.linspace(-0.2, 0.2, 42)  # of the histogram; zero lies in the middle of a bin
_BINS = [f"bin {edge:+.3f}" for edge in _EDGES[:-1]]


class Decay(Experiment):
    name = "decay"
    title = "L2 and L1 weight decay"
    source = "Krogh & Hertz 1991; Tibshirani 1996; Parikh & Boyd 2014, section 6.5 (soft-thresholding)"
    question = """\
The same network is trained with the penalty decay/2 |w|^2, with decay_l1 |w|, and with neither. L2 pulls
every weight towards zero in proportion to its size, so that weights get small, but hardly any is zero.
L1 pulls all with the same force, applied after each step as soft-thresholding, so that weights that the
data do not hold are exactly zero: the network gets sparse."""
    iterations, points, size = 2000, 10, (11, 4.2)

    def runs(self, iterations):
        return [
            Run({"penalty": kind, "lambda": strength}, self._net(kind, strength), iterations)
            for kind, strength in _VARIANTS
        ]

    @staticmethod
    def _net(kind, strength):
        penalty = {"none": {}, "L2": {"decay": strength}, "L1": {"decay_l1": strength}}[kind]
        return network(*3 * [connected(100, "relu")], connected(CLASSES), batch=64, rate=0.1, **penalty)

    def measure(self, training):
        weights = np.concatenate(
            [layer.weights.ravel() for layer in training.net.layers if layer.type == "connected"]
        )
        counts, _ = np.histogram(weights, _EDGES)
        return {
            **super().measure(training),
            "zeros": float(np.mean(weights == 0)),
            "deviation": float(weights.std()),
            **{name: float(count / weights.size) for name, count in zip(_BINS, counts)},
        }

    def summarize(self, rows):
        return table.averages(
            table.final(rows, "penalty", "lambda"),
            ("penalty", "lambda"),
            ("loss", "accuracy", "zeros", "deviation"),
        )

    def draw(self, figure, rows):
        shares, *histograms = figure.subplots(1, 4, gridspec_kw={"width_ratios": [1.6, 1, 1, 1]})
        last = table.final(rows, "penalty", "lambda")
        figures = table.averages(last, ("penalty", "lambda"), ("accuracy", "zeros", *_BINS))
        names = [
            row["penalty"] if row["penalty"] == "none" else f"{row['penalty']} {row['lambda']:g}"
            for row in figures
        ]
        for offset, column, label in ((-0.2, "accuracy", "accuracy"), (0.2, "zeros", "weights that are 0")):
            shares.barh(
                [i + offset for i in range(len(names))],
                [100 * row[column] for row in figures],
                0.4,
                label=label,
            )
        shares.set_yticks(range(len(names)), names)
        shares.invert_yaxis()
        charts.finish(shares, "%", "", legend=False)
        shares.set_xlim(0, 100)
        shares.legend(loc="lower center", bbox_to_anchor=(0.5, 1), ncol=2, fontsize="small", frameon=False)
        for i, (axes, shown) in enumerate(zip(histograms, _SHOWN)):
            row = next(row for row in figures if (row["penalty"], row["lambda"]) == shown)
            axes.stairs([100 * row[name] for name in _BINS], _EDGES, fill=True, color=charts.COLORS[i])
            axes.set_yscale("log")
            axes.set_ylim(0.01, 100)
            charts.finish(
                axes, "weight", "weights in %" if i == 0 else "", names[_VARIANTS.index(shown)], legend=False
            )


EXPERIMENT = Decay()
