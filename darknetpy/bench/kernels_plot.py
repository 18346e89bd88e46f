"""The chart of `bench kernels`: a roofline, and the GB/s of every form beside the streaming copy."""

from __future__ import annotations

import statistics

from darknetpy.bench.forms import FORMS, PASSES
from darknetpy.bench.kernels import place_text, shape_text
from darknetpy.plots import save

_COLOURS = (
    "#1f77b4",
    "#ff7f0e",
    "#2ca02c",
    "#d62728",
    "#9467bd",
    "#8c564b",
    "#e377c2",
    "#7f7f7f",
    "#bcbd22",
    "#17becf",
)
_MARKS = "os^vD<>"
_LADDER = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000)
_PEER = "torch-best"


def plot_kernels(found, path):
    """Draw a row of two panels per device and number of threads.

    Parameters
    ----------
    found : Found
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

    places = found.settings.places()
    figure = Figure(figsize=(16, 1 + 5.5 * len(places)), dpi=100, layout="constrained")
    panels = figure.subplots(len(places), 2, squeeze=False, gridspec_kw={"width_ratios": [2, 3]})
    for place, (left, right) in zip(places, panels):
        rows = [row for row in found.rows if row.place == place]
        copy = statistics.median(memory["copy"] for row in rows for memory in row.memory) / 1e9
        _roofline(left, [row for row in rows if row.form in PASSES], found, copy, place_text(place))
        _traffic(right, rows, found, copy, place_text(place))
    handles, names = panels[0][1].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower center", ncols=5, fontsize=9)
    save(figure, path)


def _colour(found, shape):
    return _COLOURS[list(found.settings.shapes).index(shape) % len(_COLOURS)]


def _values(row, program="darknetpy"):
    """Return the median GB/s of a program, counting the least traffic."""
    size = row.shape[0] * row.shape[1] * row.shape[2] * row.shape[3]
    return FORMS[row.form].traffic * size / statistics.median(row.seconds[program]) / 1e9


def _roofline(axes, rows, found, copy, where):
    """Arithmetic per byte against arithmetic per second: what memory allows lies beneath the line."""
    forms = list(dict.fromkeys(row.form for row in rows))
    for row in rows:
        x = FORMS[row.form].flops / FORMS[row.form].traffic
        mark = _MARKS[forms.index(row.form) % len(_MARKS)]
        axes.plot(x, x * _values(row), mark, color=_colour(found, row.shape), alpha=0.8)
    for form, mark in zip(forms, _MARKS):
        axes.plot([], [], mark, color="grey", label=form, linestyle="none")
    line = [0.15, 1.2]
    axes.plot(line, [copy * x for x in line], color="black", linewidth=1.2)
    axes.annotate(
        f"streaming copy, {copy:.0f} GB/s",
        (0.35, copy * 0.35),
        (-8, 8),
        textcoords="offset points",
        ha="right",
    )
    axes.set(xscale="log", yscale="log", xlabel="operations per byte of least traffic", ylabel="GFLOP/s")
    axes.set_title(f"roofline of the layers, {where}")
    _plain(axes.xaxis, [0.2, 0.3, 0.5, 0.75, 1])
    _plain(axes.yaxis, _LADDER, axes.get_ylim())
    axes.grid(alpha=0.3)
    axes.legend(loc="lower right", fontsize=8)


def _plain(axis, ticks, limits=None):
    """Mark a logarithmic axis with plain numbers."""
    shown = [tick for tick in ticks if not limits or limits[0] <= tick <= limits[1]]
    axis.set_ticks(shown, labels=[f"{tick:g}" for tick in shown])
    axis.set_ticks([], minor=True)


def _traffic(axes, rows, found, copy, where):
    """GB/s of every form and shape; hollow: PyTorch with its memory reused."""
    forms = list(dict.fromkeys(row.form for row in rows))
    count = len(found.settings.shapes)
    for row in rows:
        place = list(found.settings.shapes).index(row.shape)
        at = forms.index(row.form) + 0.7 * ((place + 0.5) / count - 0.5)
        label = shape_text(row.shape) if row.form == forms[0] else None
        axes.plot(at, _values(row), "o", color=_colour(found, row.shape), label=label)
        peer = _PEER if row.device == "cpu" else "torch"
        if peer in row.seconds:
            axes.plot(
                at, _values(row, peer), "o", color=_colour(found, row.shape), fillstyle="none", alpha=0.7
            )
    axes.axhline(copy, color="black", linewidth=1.2, label="streaming copy")
    axes.plot([], [], "o", color="grey", fillstyle="none", label="hollow: PyTorch, memory reused")
    axes.set(yscale="log", ylabel="GB/s of least traffic", title=f"least traffic, {where}")
    axes.set_xticks(
        range(len(forms)),
        [form.replace(" ", "\n").replace("_cpu", "").replace("_gpu", "") for form in forms],
        rotation=60,
        fontsize=8,
    )
    axes.grid(alpha=0.3)
    _plain(axes.yaxis, _LADDER, axes.get_ylim())
