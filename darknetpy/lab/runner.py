"""Runs an experiment from its networks to its files."""

from __future__ import annotations

import os

from darknetpy import plots
from darknetpy.lab import charts, table
from darknetpy.lab.training import train


def run_experiment(experiment, data, folder, progress, *, iterations=None, seeds=None):
    """Train every run of an experiment with every seed; write the .csv and, with matplotlib, the .png.

    Parameters
    ----------
    experiment : Experiment
    data : Data
    folder : str
        Where the files go; it exists.
    progress : PlainProgress
    iterations, seeds : int, optional
        None: the experiment's own.

    Returns
    -------
    list of dict, list of str
        What was measured, and the files written.
    """
    iterations, seeds = iterations or experiment.iterations, seeds or experiment.seeds
    experiment.images = len(data.train)
    jobs = [(run, seed) for seed in range(seeds) for run in experiment.runs(iterations)]
    rows = []
    progress.begin(0, len(jobs))
    try:
        for done, (run, seed) in enumerate(jobs):
            rows += train(experiment, run, data, seed, _reporter(progress, done, len(jobs), run, seed))
    finally:
        progress.end()
    path = os.path.join(folder, experiment.name)
    table.write_csv(rows, f"{path}.csv")
    if not plots.can_plot():
        progress.note(
            "matplotlib is not installed: the .csv is written, but no chart "
            "(pip install 'darknetpy-nn[plot]')"
        )
        return rows, [f"{path}.csv"]
    caption = (
        f"Fashion-MNIST, {len(data.train):,} training and {len(data.valid):,} validation images; "
        f"{iterations:,} updates, {seeds} seed{'s' * (seeds > 1)}\n{experiment.source}"
    )
    charts.write_png(experiment, rows, caption, f"{path}.png")
    return rows, [f"{path}.csv", f"{path}.png"]


def _reporter(progress, done, runs, run, seed):
    """Return a function that shows how far a training is."""
    name = ", ".join(f"{key} {value}" for key, value in {**run.labels, "seed": seed}.items())

    def report(training):
        state = "diverged" if training.diverged else f"loss {training.loss:.3f}"
        progress.advance(
            done + training.iteration / run.iterations,
            lambda: (
                f"{done + 1} of {runs}: {name}: {training.iteration} of {run.iterations} updates, {state}"
            ),
        )

    return report
