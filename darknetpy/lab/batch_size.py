"""Small mini-batches: batch normalization, beside group and layer normalization, which ignore the batch."""

from __future__ import annotations

from darknetpy.lab import charts, table
from darknetpy.lab.experiment import Experiment, Run
from darknetpy.lab.networks import CLASSES, connected, convolutional, network

_SIZES = (2, 4, 8, 16, 32, 64)
_KINDS = {"batch": "batch normalization", "group": "group normalization", "layer": "layer normalization"}
_RATE = 0.1 / 64  # per image of the mini-batch, so that an epoch goes equally far with every size


def connected_net(normalize, batch):
    """Three hidden layers of 100 units: each channel has one value per image."""
    hidden = 3 * [connected(100, "relu", normalize, **_groups(normalize))]
    return network(*hidden, connected(CLASSES), batch=batch, rate=_RATE * batch)


def convolutional_net(normalize, batch):
    """Three layers of 3x3 filters: each channel has 784, 196 and 49 values per image."""
    features = [convolutional(filters, normalize, **_groups(normalize)) for filters in (8, 16, 32)]
    return network(*features, connected(CLASSES), batch=batch, rate=_RATE * batch)


def _groups(normalize):
    return {"norm_groups": 4} if normalize == "group" else {}


_NETWORKS = {"connected": connected_net, "convolutional": convolutional_net}


class BatchSize(Experiment):
    name = "batch-size"
    title = "Normalization and the size of the mini-batch"
    source = "Wu & He 2018, arXiv:1803.08494, section 4.1, figures 1 and 5"
    question = """\
A connected and a convolutional network are trained with mini-batches of 2 to 64 images, normalized over
the batch, over groups of channels, or over all channels of one image; every size sees the same images,
and the learning rate is proportional to the size. The paper finds that the error with batch normalization
grows as mini-batches get small, since the statistics of few values are noise, while that with group
normalization stays."""
    iterations, seeds, points, size = 220, 1, 2, (11, 4.2)

    def runs(self, iterations):
        """`iterations` are updates with the largest size; the others see as many images."""
        return [
            Run({"network": net, "normalize": kind, "batch": size}, make(kind, size), iterations * 64 // size)
            for net, make in _NETWORKS.items()
            for kind in _KINDS
            for size in _SIZES
        ]

    def draw(self, figure, rows):
        last = table.final(rows, "network", "normalize", "batch")
        for axes, (net, own) in zip(figure.subplots(1, 2), table.groups(last, "network").items()):
            errors = [{**row, "error": 1 - row["accuracy"]} for row in own]
            styles = {kind: {"marker": "o"} for kind in _KINDS}
            charts.curves(
                axes, errors, "batch", "error", "normalize", percent=True, styles=styles, legend=_KINDS.get
            )
            axes.set_xscale("log", base=2)
            axes.set_xticks(_SIZES, [str(size) for size in _SIZES])
            charts.finish(axes, "images of a mini-batch", "validation error in %", f"{net} network")


EXPERIMENT = BatchSize()
