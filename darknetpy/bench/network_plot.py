"""The picture of `bench network`: what a step takes in each program, and where the time goes, layer by layer."""

from __future__ import annotations

from darknetpy.bench.network import median_and_range
from darknetpy.bench.process import label_of, on_device
from darknetpy.bench.report import layer_devices, layer_peer, title
from darknetpy.plots import save

# Kinds of layers in the order of the legend; all others are the last.
_KINDS = {
    "3x3 convolution": "#1f77b4",
    "1x1 convolution": "#ff7f0e",
    "other convolution": "#2ca02c",
    "connected": "#d62728",
    "pooling": "#9467bd",
    "route, shortcut, upsample": "#8c564b",
    "optimizer": "#7f7f7f",
    "other": "#17becf",
}
_OF_TYPE = {
    "connected": "connected",
    "maxpool": "pooling",
    "avgpool": "pooling",
    "local_avgpool": "pooling",
    "route": "route, shortcut, upsample",
    "shortcut": "route, shortcut, upsample",
    "upsample": "route, shortcut, upsample",
    "update": "optimizer",
}
_MOST_TICKS = 40


def kind_of(layer):
    """Return the kind of a layer, given as a row of ``Comparison.layers``."""
    if layer["type"] != "convolutional":
        return _OF_TYPE.get(layer["type"], "other")
    return f"{layer['size']}x{layer['size']} convolution" if layer["size"] in (1, 3) else "other convolution"


def shares(layers, name="darknetpy"):
    """Return kind -> (seconds of a program, share of all), for the kinds there are."""
    found = {}
    for layer in layers:
        seconds = sum(layer["seconds"][name].values())
        found[kind_of(layer)] = found.get(kind_of(layer), 0) + seconds
    total = sum(found.values())
    return {kind: (found[kind], found[kind] / total) for kind in _KINDS if kind in found}


def plot_networks(comparisons, path):
    """Draw a row of two panels per comparison, and one more panel per device other than the CPU.

    Parameters
    ----------
    comparisons : list of Comparison
        With times of their layers.
    path : str
        The .png file to write, whole or not at all.

    Raises
    ------
    ImportError
        matplotlib is missing.
    OSError
        The file cannot be written.
    """
    from matplotlib.figure import Figure  # without pyplot: no window system is asked for

    rows = [(found, device) for found in comparisons for device in layer_devices(found)]
    figure = Figure(figsize=(17, 4.5 * len(rows)), dpi=100, layout="constrained")
    panels = figure.subplots(len(rows), 2, squeeze=False, gridspec_kw={"width_ratios": [1, 3]})
    for (found, device), (left, right) in zip(rows, panels):
        if device == "cpu":
            _programs(left, found)
        else:
            left.axis("off")
        _layers(right, found, device)
    save(figure, path)


def _programs(axes, found):
    """A bar per program: the median step, with its range."""
    steps = [[1e3 * s for s in median_and_range(result.step)] for result in found.results]
    for i, (middle, least, most) in enumerate(steps):
        axes.barh(i, middle, color=_KINDS["3x3 convolution"] if i == 0 else "#bbbbbb")
        axes.plot([least, most], [i, i], color="black", linewidth=1.2)
        axes.text(max(most, middle), i, f" {middle:.{3 if middle < 1000 else 4}g}", va="center", fontsize=9)
    axes.set_yticks(range(len(steps)), [result.label for result in found.results])
    axes.set(xlabel="ms per step: median and range", xlim=(0, 1.2 * max(most for _, _, most in steps)))
    axes.invert_yaxis()


def _layers(axes, found, device):
    """A bar per layer, the backward pass paler on top of the forward pass; a line: the peer's."""
    peer, name = layer_peer(found, device), on_device("darknetpy", device)
    for at, layer in enumerate(found.layers):
        ours, colour = layer["seconds"][name], _KINDS[kind_of(layer)]
        forward = 1e3 * ours.get("forward", 0)
        axes.bar(at, forward, color=colour)
        axes.bar(at, 1e3 * ours.get("backward", 0), bottom=forward, color=colour, alpha=0.5)
        if peer:
            theirs = 1e3 * sum(layer["seconds"][peer].values())
            axes.plot([at - 0.45, at + 0.45], [theirs, theirs], color="black", linewidth=1.5)
    for kind, (seconds, share) in shares(found.layers, name).items():
        axes.bar(0, 0, color=_KINDS[kind], label=f"{kind}: {1e3 * seconds:.3g} ms, {100 * share:.0f} %")
    if peer:
        total = sum(sum(layer["seconds"][peer].values()) for layer in found.layers)
        axes.plot([], [], color="black", label=f"{label_of(peer)}: {1e3 * total:.3g} ms")
    every = -(-len(found.layers) // _MOST_TICKS)
    names = [layer["type"] if layer["index"] is None else str(layer["index"]) for layer in found.layers]
    axes.set_xticks(range(0, len(names), every), names[::every], fontsize=8, rotation=60 * ("update" in names))
    backward = ", backward paler" if found.train else ""
    axes.set(xlabel=f"layer of {label_of(name)} alone, forward{backward}", ylabel="ms", title=title(found))
    axes.legend(fontsize=8)
