"""Small mini-batches: batch normalization, beside group and layer normalization, which ignore the batch."""

from __future__ import annotations

from darknetpy.lab import charts, table
from darknetpy.lab.experiment import Experiment, Run
from darknetpy.lab.networks import CLASSES, connected, convolutional, network

_SIZES = (2, 4, 8, 16, 32, 64)
_KINDS = {"batch": "batch normalization", "group": "group normalization", "layer": "layer normalization"}
_RATE = 0.1 / 64  # per image of the mini-batch


def small_convnet(normalize, batch):
    """Three layers of 3x3 filters; the rate grows with the mini-batch: an epoch goes equally far."""
    features = [
        convolutional(filters, normalize, **({"norm_groups": 4} if normalize == "group" else {}))
        for filters in (8, 16, 32)
    ]
    return network(*features, connected(CLASSES), batch=batch, rate=_RATE * batch, momentum=0.9)


class BatchSize(Experiment):
    name = "batch-size"
    title = "Normalization and the size of the mini-batch"
    source = "Wu & He 2018, arXiv:1803.08494, section 4.1, figures 1 and 5"
    question = """\
A convolutional network is trained with mini-batches of 2 to 64 images, normalized over the batch, over
groups of channels or over all channels of one image; every size sees the same images, and the learning
rate is proportional to the size. The paper finds that the error with batch normalization grows as
mini-batches get small, since the statistics of few images are noise, while that with group normalization
stays."""
    iterations, points = 330, 3

    def runs(self, iterations):
        """`iterations` are updates with the largest size; the others see as many images."""
        return [
            Run(
                {"normalize": kind, "batch": size}, small_convnet(kind, size), iterations * _SIZES[-1] // size
            )
            for kind in _KINDS
            for size in _SIZES
        ]

    def draw(self, figure, rows):
        axes = figure.subplots()
        last = [{**row, "error": 1 - row["accuracy"]} for row in table.final(rows, "normalize", "batch")]
        charts.curves(
            axes,
            last,
            "batch",
            "error",
            "normalize",
            percent=True,
            styles={kind: {"marker": "o"} for kind in _KINDS},
            legend=_KINDS.get,
        )
        axes.set_xscale("log", base=2)
        axes.set_xticks(_SIZES, map(str, _SIZES))
        charts.finish(axes, "images of a mini-batch", "validation error in %")


EXPERIMENT = BatchSize()
