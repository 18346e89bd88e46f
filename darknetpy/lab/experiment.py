"""What an experiment is: runs that differ in one thing, what is measured of them, a chart and a table."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Callable, Optional

from darknetpy.lab import charts, table


@dataclass
class Run:
    """One network to train.

    Attributes
    ----------
    labels : dict
        What tells it from the other runs of the experiment; the first columns of the .csv.
    cfg : str
        The network, as text of a .cfg.
    iterations : int
        Updates to make.
    start : callable, optional
        Called with the network and a random generator before the first update: other weights than the usual.
    light : callable, optional
        What becomes of the pixels, in [0, 1], of the images that are trained on.
    """

    labels: dict
    cfg: str
    iterations: int
    start: Optional[Callable] = None
    light: Optional[Callable] = None


class Experiment:
    """Base of the experiments.

    Attributes
    ----------
    name, title, source : str
        What it is called on the command line and on its chart; paper and section that it follows.
    question : str
        What is done, and what the source lets one expect.
    iterations, seeds, points : int
        Updates of a run, repetitions with other random numbers, and measurements over a run, unless told
        otherwise.
    images : int
        Training images; the runner sets how many there are.
    recompute : bool
        Whether moving statistics are recomputed over training images before each measurement: averages that
        start from zero would still be too small early in training.
    size : tuple of float
        Of the chart, in inches.
    """

    name = title = source = question = ""
    iterations, seeds, points, recompute, size = 1000, 3, 20, True, (9, 4.2)
    images = 7000

    def runs(self, iterations):
        """Return the list of Run."""
        raise NotImplementedError

    def measure(self, training):
        """Return figures of a network in training, a dict or a list of them.

        Parameters
        ----------
        training : darknetpy.lab.training.Training
        """
        return {"loss": training.loss, "accuracy": training.accuracy()}

    def summarize(self, rows):
        """Return the few rows that tell the result; by default the final figures, averaged over the seeds."""
        labels = self.labels(rows)
        return table.averages(table.final(rows, *labels), labels, list(rows[0])[len(labels) + 2 :])

    def draw(self, figure, rows):
        """Draw the rows; by default accuracy over iterations, a curve for each run."""
        axes = figure.subplots()
        charts.curves(axes, rows, "iteration", "accuracy", self.labels(rows)[0], percent=True)
        charts.finish(axes, "iteration", "validation accuracy in %")

    @staticmethod
    def labels(rows):
        """The columns that tell the runs apart: those before the seed."""
        names = list(rows[0])
        return names[: names.index("seed")]
