"""Trained on dark images, tested on bright ones."""

from __future__ import annotations

from darknetpy.lab import charts, table
from darknetpy.lab.experiment import Experiment, Run
from darknetpy.lab.networks import CLASSES, connected, network
from darknetpy.lab.training import Images

_KINDS = {
    "none": "without",
    "batch": "with batch normalization",
    "batch, adapted": "with, statistics recomputed on bright images",
}
_LIGHTS = (0.0, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.45, 0.5)
_CONTRAST = 0.5


def under_light(x, light):
    """Pixels of half the contrast, raised by `light`: from [0, .5], dark, to [.5, 1], bright."""
    return _CONTRAST * x + x.dtype.type(light)


class CovariateShift(Experiment):
    name = "covariate-shift"
    title = "Trained on dark images, tested on brighter ones"
    source = "Ioffe & Szegedy 2015, arXiv:1502.03167, section 1; Li et al. 2016, arXiv:1603.04779"
    question = """\
Networks with and without batch normalization learn from images of low brightness and are tested on the
same classes under more and more light, which shifts every pixel by the same amount: the distribution of
the input changes, what is to be told does not. Batch normalization is often said to make networks robust
against such shifts. Its statistics for testing are those of the dark images, however; only statistics of
the bright images (no labels are needed for them) can undo the shift."""
    iterations, points = 1500, 1

    def runs(self, iterations):
        return [
            Run({"normalize": kind}, self._net(kind), iterations, light=lambda x: under_light(x, 0))
            for kind in _KINDS
        ]

    @staticmethod
    def _net(kind):
        return network(
            *3 * [connected(100, "relu", kind.split(",")[0])], connected(CLASSES), batch=64, rate=0.1
        )

    def measure(self, training):
        rows, valid = [], training.data.valid
        for light in _LIGHTS:
            if training.labels["normalize"] == "batch, adapted":
                training.recompute_statistics(under_light(training.data.train.x, light))
            rows.append(
                {
                    "light": light,
                    "accuracy": training.accuracy(Images(under_light(valid.x, light), valid.labels)),
                }
            )
        return rows

    def summarize(self, rows):
        return table.averages(
            [row for row in rows if row["light"] in (0, 0.1, 0.25, 0.5)],
            ("normalize", "light"),
            ("accuracy",),
        )

    def draw(self, figure, rows):
        axes = figure.subplots()
        charts.curves(
            axes,
            rows,
            "light",
            "accuracy",
            "normalize",
            percent=True,
            styles={kind: {"marker": "."} for kind in _KINDS},
            legend=_KINDS.get,
        )
        charts.finish(axes, "added to every pixel (trained at 0)", "validation accuracy in %")


EXPERIMENT = CovariateShift()
