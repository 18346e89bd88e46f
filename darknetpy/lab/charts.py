"""Charts of experiments: curves with the range over the seeds, written as a small .png."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

from darknetpy.files import write_atomically
from darknetpy.lab import table

COLORS = ("#1f77b4", "#d62728", "#2ca02c", "#ff7f0e", "#9467bd", "#8c564b", "#e377c2", "#7f7f7f")
_PALETTE = 96  # colours of the .png: enough for lines and text, a third of the bytes


def curves(axes, rows, x, y, by, *, percent=False, styles=None, legend=str):
    """Draw column `y` over column `x`, a curve for each value of column `by`.

    The line is the mean over the seeds, the band their smallest and largest value; where a run diverged the
    curve ends.

    Parameters
    ----------
    axes : matplotlib Axes
    rows : list of dict
    x, y, by : str
        Columns.
    percent : bool
        `y` is a share, shown in %.
    styles : dict, optional
        Value of `by` -> keywords of ``axes.plot``.
    legend : callable
        Value of `by` -> its text in the legend.
    """
    for i, (value, own) in enumerate(table.groups(rows, by).items()):
        points = table.groups(own, x)
        seeds = [np.array([row[y] for row in same]) * (100 if percent else 1) for same in points.values()]
        style = {"color": COLORS[i % len(COLORS)], "linewidth": 1.6, **(styles or {}).get(value, {})}
        axes.plot(list(points), [same.mean() for same in seeds], label=legend(value), **style)
        if max(map(len, seeds)) > 1:
            axes.fill_between(
                list(points),
                [same.min() for same in seeds],
                [same.max() for same in seeds],
                color=style["color"],
                alpha=0.15,
                linewidth=0,
            )


def finish(axes, x, y, title=None, *, legend=True):
    """Label the axes and show grid and legend."""
    axes.set(xlabel=x, ylabel=y)
    if title:
        axes.set_title(title, fontsize="medium")
    axes.grid(alpha=0.3)
    if legend:
        axes.legend(fontsize="small")


def write_png(experiment, rows, caption, path):
    """Draw the chart of an experiment into a .png, whole or not at all.

    Raises
    ------
    ImportError
        matplotlib is missing.
    OSError
        The file cannot be written.
    """
    from matplotlib.figure import Figure  # without pyplot: no window system is asked for

    figure = Figure(figsize=experiment.size, dpi=100, layout="constrained")
    figure.suptitle(experiment.title)
    figure.supxlabel(caption, fontsize="x-small", color="#666666")
    experiment.draw(figure, rows)
    drawn, small = io.BytesIO(), io.BytesIO()
    figure.savefig(drawn, format="png")
    Image.open(drawn).convert("RGB").quantize(_PALETTE, dither=Image.Dither.NONE).save(
        small, format="png", optimize=True
    )
    write_atomically(path, [small.getvalue()])
