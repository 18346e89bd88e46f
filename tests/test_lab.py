"""The experiments: that each trains, measures and draws what it says; never how the result comes out."""

from __future__ import annotations

import csv
import json
import math
import os
import sys

import numpy as np
import pytest
from PIL import Image

from darknetpy.cli import main
from darknetpy.data import open_data
from darknetpy.lab import (
    NAMES,
    covariate_shift,
    experiments,
    learning_rate,
    networks,
    statistics,
    table,
    training,
)
from darknetpy.lab.experiment import Experiment, Run

EXPERIMENTS = experiments()
# What each measures beside its labels, the seed and the iteration.
MEASURED = {
    "batchnorm": {"loss", "accuracy", "p15", "p50", "p85"},
    "mini-batch": {"loss", "loss_p10", "loss_p90", "images", "seconds", "seconds_per_epoch"},
    "covariate-shift": {"light", "accuracy"},
    "regularization": {"loss", "training_accuracy", "accuracy", "gap"},
    "decay": {"loss", "accuracy", "zeros", "deviation"},
}


@pytest.fixture(scope="module")
def embedded():
    return training.Data.load()


@pytest.fixture
def few_images(embedded, monkeypatch):
    """Let the experiments load 100 images to train on and 50 to test on, of all classes; returns them."""
    data = training.Data(embedded.train.spread(100), embedded.valid.spread(50))
    monkeypatch.setattr(training.Data, "load", classmethod(lambda cls, full=False: data))
    return data


def read(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


# ---- every experiment, end to end
@pytest.mark.parametrize("name", NAMES)
def test_experiment_writes_table_and_chart(name, few_images, tmp_path, capsys):
    pytest.importorskip("matplotlib")
    experiment = EXPERIMENTS[name]
    assert main(["lab", name, "--iterations", "2", "--seeds", "2", "--out", str(tmp_path), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    rows = read(tmp_path / f"{name}.csv")
    runs = experiment.runs(2)
    labels = list(runs[0].labels)
    assert list(rows[0])[: len(labels) + 2] == [*labels, "seed", "iteration"]
    assert set(rows[0]) >= MEASURED.get(name, {"loss", "accuracy"})
    last = {(*(row[key] for key in labels), row["seed"]): int(row["iteration"]) for row in rows}
    assert last == {
        (*(table._number(value) for value in run.labels.values()), seed): run.iterations
        for run in runs
        for seed in "01"
    }
    assert found["results"] and set(labels) <= set(found["results"][0]) and found["seeds"] == 2
    assert found["files"] == [str(tmp_path / f"{name}.csv"), str(tmp_path / f"{name}.png")]
    assert Image.open(tmp_path / f"{name}.png").size == tuple(
        round(100 * inches) for inches in experiment.size
    )


def test_all_images_are_those_there_are(few_images, tmp_path, capsys):
    assert main(["lab", "mini-batch", "--iterations", "2", "--out", str(tmp_path), "--json"]) == 0
    rows = read(tmp_path / "mini-batch.csv")
    assert [int(row["batch"]) for row in rows if row["seed"] == "0"][-1] == len(few_images.train) == 100
    for row in rows:
        epochs = float(row["images"]) / len(few_images.train)
        assert float(row["seconds_per_epoch"]) == pytest.approx(float(row["seconds"]) / epochs, rel=.01)


def test_every_experiment_says_what_it_follows():
    assert list(EXPERIMENTS) == list(NAMES)
    for name, experiment in EXPERIMENTS.items():
        assert experiment.name == name and experiment.title and len(experiment.question) > 200
        assert any(year in experiment.source for year in map(str, range(1990, 2026))), experiment.source


def test_page_shows_every_experiment():
    folder = os.path.join(os.path.dirname(__file__), "..", "docs")
    with open(os.path.join(folder, "lab.md")) as file:
        page = file.read()
    for name, experiment in EXPERIMENTS.items():
        assert (
            f"## {experiment.title}" in page
            and f"darknetpy lab {name}" in page
            and f"](lab/{name}.png)" in page
        )
        assert Image.open(os.path.join(folder, "lab", f"{name}.png")).width == round(100 * experiment.size[0])


# ---- the loop
class Tiny(Experiment):
    """Two updates of a network of one hidden layer."""

    name, title, points = "tiny", "Tiny", 2

    def __init__(self, *runs):
        self._runs = runs

    def runs(self, iterations):
        return self._runs


def tiny_run(rate=0.1, normalize="batch", **options):
    cfg = networks.network(
        networks.connected(8, "relu", normalize), networks.connected(10), batch=10, rate=rate
    )
    return Run({"rate": rate}, cfg, 4, **options)


def test_runs_repeat_exactly_and_seeds_differ(few_images):
    first, again, other = (training.train(Tiny(), tiny_run(), few_images, seed) for seed in (0, 0, 1))
    assert first == again
    assert [row["loss"] for row in first] != [row["loss"] for row in other]
    assert [row["iteration"] for row in first] == [2, 4]


def test_training_ends_where_it_diverges(few_images):
    rows = training.train(Tiny(), tiny_run(rate=1e30, normalize="none"), few_images, 0)
    assert len(rows) == 1
    assert rows[-1]["iteration"] < 4 and math.isnan(rows[-1]["loss"]) and math.isnan(rows[-1]["accuracy"])


def test_epoch_shows_every_image_once(few_images):
    subject = training.Training(tiny_run(), few_images, 0)
    seen = np.concatenate([subject._batch(first)[0] for first in range(0, 100, 10)])
    np.testing.assert_array_equal(np.sort(seen, axis=0), np.sort(few_images.train.x, axis=0))


def test_recomputed_statistics_are_those_of_the_images(few_images):
    subject = training.Training(tiny_run(), few_images, 0)
    layer = subject.net.layers[0]
    before = layer.weights.copy()
    subject.recompute_statistics()
    sums = few_images.train.x.astype(float) @ layer.weights.astype(float).T
    np.testing.assert_allclose(layer.rolling_mean, sums.mean(0), rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(
        layer.rolling_variance, sums.var(0), rtol=0.35
    )  # mean of those of ten mini-batches
    np.testing.assert_array_equal(layer.weights, before)
    assert subject.iteration == subject.net.seen == 0


def test_weights_at_the_start_and_light(few_images):
    def fill(net, random):
        net.layers[0].weights[:] = random.standard_normal(net.layers[0].weights.shape)

    subject = training.Training(
        tiny_run(start=fill, light=lambda x: covariate_shift.under_light(x, 0.25)), few_images, 3
    )
    np.testing.assert_array_equal(
        subject.net.layers[0].weights.ravel(),
        np.random.default_rng(3).standard_normal(784 * 8).astype(np.float32),
    )
    assert (
        subject._images.x.dtype == np.float32
        and subject._images.x.min() == 0.25
        and subject._images.x.max() <= 0.75
    )


def test_statistics_leave_training_alone(few_images):
    """Where testing takes its numbers from changes no weight."""
    runs = [
        training.train(EXPERIMENTS["statistics"], run, few_images, 0) for run in statistics.EXPERIMENT.runs(6)
    ]
    assert len(runs) == 4
    losses = [[row["loss"] for row in rows] for rows in runs]
    assert losses[0] == losses[1] == losses[2] == losses[3]


def test_only_the_recomputed_statistics_are_recomputed(few_images, monkeypatch):
    calls = []
    monkeypatch.setattr(
        training.Training, "recompute_statistics", lambda self: calls.append(self.labels["statistics"])
    )
    for run in statistics.EXPERIMENT.runs(2):
        training.train(statistics.EXPERIMENT, run, few_images, 0)
    assert calls == ["recomputed"] * 2


def test_full_is_the_whole_set(embedded, monkeypatch):
    opened = []
    monkeypatch.setattr(
        training, "open_data", lambda name: opened.append(name) or open_data("fashion-mnist:")
    )
    found = training.Data.load(full=True)
    assert opened == ["fashion-mnist:full"] and len(found.train) == len(embedded.train) == 7000
    assert 0 == found.train.x.min() < found.train.x.max() == 1


# ---- tables and charts
def test_averages_are_over_seeds():
    rows = [
        {"kind": kind, "seed": seed, "iteration": i, "accuracy": seed + i}
        for kind in "ab"
        for seed in (0, 1)
        for i in (1, 2)
    ]
    assert table.averages(table.final(rows, "kind"), ("kind",), ("accuracy",)) == [
        {"kind": "a", "accuracy": 2.5, "accuracy_sd": pytest.approx(0.5**0.5)},
        {"kind": "b", "accuracy": 2.5, "accuracy_sd": pytest.approx(0.5**0.5)},
    ]
    assert "accuracy_sd" not in table.averages(rows[:2], ("kind",), ("accuracy",))[0]
    assert (
        table.text_table([{"kind": "a", "n": 1, "share": 0.123456}])
        == "kind  n   share\n---------------\na     1  0.1235"
    )


def test_network_that_diverged_is_drawn_at_chance():
    figure = pytest.importorskip("matplotlib.figure").Figure()
    axes = figure.subplots()
    rows = [
        {"normalize": "none", "rate": rate, "seed": 0, "accuracy": accuracy}
        for rate, accuracy in ((0.1, 0.8), (9.0, math.nan))
    ]
    learning_rate.draw_sweep(axes, rows, "rate")
    curve, crosses = axes.lines[:2]
    assert list(curve.get_ydata()) == [80, 10] and (list(crosses.get_xdata()), list(crosses.get_ydata())) == (
        [9.0],
        [10.0],
    )


# ---- the command
def test_list_names_every_experiment(capsys):
    assert main(["lab", "list"]) == 0
    text = capsys.readouterr().out
    assert all(name in text and experiment.source in text for name, experiment in EXPERIMENTS.items())


def test_without_matplotlib_there_is_a_table_and_a_remark(few_images, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    assert main(["lab", "learning-rate", "--iterations", "1", "--out", str(tmp_path)]) == 0
    text = capsys.readouterr().out
    assert text.count("matplotlib is not installed: the .csv is written") == 1 and os.listdir(tmp_path) == [
        "learning-rate.csv"
    ]
    assert "files: " + str(tmp_path / "learning-rate.csv") in text


@pytest.mark.parametrize(
    "words, wanted",
    [
        (["nonsense"], "nonsense"),
        ([], "NAME"),
        (["decay", "--iterations", "0"], "at least 1"),
        (["decay", "--seeds", "x"], "at least 1"),
        (["decay", "--out", "/proc/nowhere"], "--out '/proc/nowhere' cannot be written"),
    ],
)
def test_mistakes_are_one_line(words, wanted, few_images, capsys):
    try:
        status = main(["lab", *words])
    except SystemExit as stop:
        status = stop.code
    text = capsys.readouterr().err
    assert status == 2 and wanted in text and text.count("\n") == 1
