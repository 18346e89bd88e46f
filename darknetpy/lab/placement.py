"""Where to normalize: before the activation, or after it."""

from __future__ import annotations

from darknetpy.lab import charts, table
from darknetpy.lab.experiment import Experiment, Run
from darknetpy.lab.networks import CLASSES, connected, network

_ACTIVATIONS = {"logistic": "sigmoids", "relu": "rectified linear units"}
_VARIANTS = {
    "none": ("none", 0),
    "batch, before": ("batch", 0),
    "batch, after": ("batch", 1),
    "layer, before": ("layer", 0),
    "layer, after": ("layer", 1),
}
_STYLES = {
    variant: {
        "color": charts.COLORS[("none", "batch", "layer").index(kind)],
        "linestyle": "--" if after else "-",
    }
    for variant, (kind, after) in _VARIANTS.items()
}


def deep_net(variant, activation):
    """Three hidden layers of 100 units."""
    kind, after = _VARIANTS[variant]
    place = {"normalize_after_activation": 1} if after else {}
    return network(*3 * [connected(100, activation, kind, **place)], connected(CLASSES), batch=64, rate=0.1)


class Placement(Experiment):
    name = "placement"
    title = "Normalizing before or after the activation"
    source = "Ioffe & Szegedy 2015, arXiv:1502.03167, section 3.2; Ba, Kiros & Hinton 2016, arXiv:1607.06450"
    question = """\
Batch and layer normalization of the weighted sums, before the activation, as both papers have it, or of
the activation's outputs. The reason given for the sums is that their distribution is more symmetric,
'more Gaussian', so that normalizing it keeps it more stable; how much the place matters is an empirical
question."""
    iterations, size = 800, (11, 4.2)

    def runs(self, iterations):
        return [
            Run({"activation": activation, "normalize": variant}, deep_net(variant, activation), iterations)
            for activation in _ACTIVATIONS
            for variant in _VARIANTS
        ]

    def draw(self, figure, rows):
        for axes, (activation, own) in zip(
            figure.subplots(1, 2, sharey=True), table.groups(rows, "activation").items()
        ):
            charts.curves(axes, own, "iteration", "accuracy", "normalize", percent=True, styles=_STYLES)
            charts.finish(axes, "iteration", "validation accuracy in %", _ACTIVATIONS[activation])


EXPERIMENT = Placement()
