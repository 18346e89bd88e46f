"""Charts of training runs, drawn with matplotlib where it is installed."""
from __future__ import annotations

import io
import itertools

from darknetpy.files import write_atomically
from darknetpy.training_log import DetectorRecord, TextRecord

_MOST_POINTS = 2000             # of a curve: more cannot be told apart on the page
_LOSS, _ACCURACY, _RATE = "#1f77b4", "#2ca02c", "#d62728"


def can_plot():
    """Return whether matplotlib can be imported."""
    try:
        import matplotlib.figure  # noqa: F401
    except ImportError:
        return False
    return True


def save(figure, path):
    """Write a figure as a .png, whole or not at all."""
    png = io.BytesIO()
    figure.savefig(png, format="png")
    write_atomically(path, [png.getvalue()])


def plot_training(records, path, title):
    """Draw loss, validation accuracy (detectors: IoU and recall in training; text: bits per character), learning
    rate against iterations.

    Parameters
    ----------
    records : list of Record, DetectorRecord or TextRecord
        At least one.
    path : str
        The .png file to write, whole or not at all.
    title : str

    Raises
    ------
    ImportError
        matplotlib is missing.
    OSError
        The file cannot be written.
    """
    from matplotlib.figure import Figure  # without pyplot: no window system is asked for

    figure = Figure(figsize=(9, 8), dpi=110, layout="constrained")
    figure.suptitle(title)
    loss, accuracy, rate = figure.subplots(3, 1, sharex=True, gridspec_kw={"height_ratios": [3, 3, 1.5]})
    shown = records[::max(1, len(records) // _MOST_POINTS)]
    iterations = [r.iteration for r in shown]
    loss.plot(iterations, [r.loss for r in shown], color=_LOSS, alpha=.3, linewidth=.8, label="each update")
    loss.plot(iterations, [r.average for r in shown], color=_LOSS, linewidth=1.6, label="running average")
    _finish(loss, "training loss", legend=True)
    if isinstance(records[0], DetectorRecord):
        _plot_overlap(accuracy, shown)
    elif isinstance(records[0], TextRecord):
        _plot_bits(accuracy, shown, [r for r in records if r.valid_bits is not None])
    else:
        _plot_accuracy(accuracy, [r for r in records if r.top1 is not None])
    rate.plot(iterations, [r.rate for r in shown], color=_RATE, linewidth=1.4)
    _finish(rate, "learning rate")
    rate.set_xlabel("iteration")
    save(figure, path)


def _plot_accuracy(axes, measured):
    if not measured:
        axes.text(.5, .5, "not measured yet", ha="center", va="center", transform=axes.transAxes)
    else:
        best = max(measured, key=lambda r: r.top1)
        axes.plot([r.iteration for r in measured], [100 * r.top1 for r in measured], color=_ACCURACY, marker=".", label="top-1")
        axes.plot(best.iteration, 100 * best.top1, color=_ACCURACY, marker="o", markersize=9, fillstyle="none", linestyle="none",
                  label=f"best: {100 * best.top1:.2f} %")
    _finish(axes, "validation accuracy in %", legend=bool(measured))


def _plot_overlap(axes, records):
    records = [r for r in records if r.iou is not None]
    curves = (("iou", "mean IoU", _LOSS), ("recall50", "share with IoU > .5", _ACCURACY),
              ("objectness", "objectness", _RATE))
    for name, label, colour in curves:
        values = [getattr(r, name) for r in records]
        smooth = list(itertools.accumulate(values, lambda mean, new: .95 * mean + .05 * new))
        axes.plot([r.iteration for r in records], smooth, color=colour, label=label)
    _finish(axes, "boxes trained on, running average", legend=bool(records))


def _plot_bits(axes, records, measured):
    smooth = itertools.accumulate((r.bits for r in records), lambda mean, new: .95 * mean + .05 * new)
    axes.plot([r.iteration for r in records], list(smooth), color=_LOSS, label="trained on, running average")
    if measured:
        best = min(measured, key=lambda r: r.valid_bits)
        axes.plot([r.iteration for r in measured], [r.valid_bits for r in measured], color=_ACCURACY, marker=".", label="held out")
        axes.plot(best.iteration, best.valid_bits, color=_ACCURACY, marker="o", markersize=9, fillstyle="none", linestyle="none",
                  label=f"best: {best.valid_bits:.3f}")
    _finish(axes, "bits per character", legend=True)


def _finish(axes, label, legend=False):
    axes.set_ylabel(label)
    axes.grid(alpha=.3)
    if legend:
        axes.legend(loc="best")
