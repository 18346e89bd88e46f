"""Training detectors: they learn, go on bit for bit, refuse what cannot be trained; the command end to end."""

from __future__ import annotations

import json
import signal

import numpy as np
import pytest
from detector_score import count_found, count_right, score
from PIL import Image
from test_cli import check_signal, one_line, run

import darknetpy as dn
from darknetpy import data
from darknetpy.builder import build_network
from darknetpy.cfg import parse_cfg_text
from darknetpy.detection import Box, Detection
from darknetpy.detector_training import DetectorTrainer
from darknetpy.errors import CfgError, WeightsError
from darknetpy.plots import plot_training
from darknetpy.sections import resolve
from darknetpy.training import TrainingOptions
from darknetpy.training_log import DetectorRecord, TrainingLog

BODY = """[net]
batch=8
subdivisions=2
width=32
height=32
channels=1
learning_rate={rate}
burn_in=10
power=1
max_batches={max_batches}
{net}
[convolutional]
batch_normalize=1
filters=12
size=3
stride=2
pad=1
activation=leaky
[convolutional]
batch_normalize=1
filters=24
size=3
stride=2
pad=1
activation=leaky
[convolutional]
batch_normalize=1
filters=32
size=3
stride=2
pad=1
activation=leaky
[convolutional]
filters={filters}
size=1
activation=linear
"""
HEADS = {
    "yolo": (30, "[yolo]\nclasses=10\nnum=2\nanchors=10,10,12,16\njitter=0\nmax=5\n"),
    "region": (
        30,
        "[region]\nclasses=10\nnum=2\nanchors=1.2,1.2,1.5,2\njitter=0\nmax=5\n"
        "softmax=1\nrescore=1\nobject_scale=5\nnoobject_scale=.5\n",
    ),
    "detection": (
        16,
        "[connected]\noutput=320\nactivation=linear\n"
        "[detection]\nclasses=10\ncoords=4\nside=4\nnum=2\nsqrt=1\njitter=0\nrescore=1\n",
    ),
    "two": (
        15,
        "[yolo]\nclasses=10\nnum=2\nanchors=10,10,12,16\nmask=0\njitter=0\nmax=5\n[route]\nlayers=2\n"
        "[convolutional]\nfilters=15\nsize=1\nactivation=linear\n"
        "[yolo]\nclasses=10\nnum=2\nanchors=10,10,12,16\nmask=1\njitter=0\nmax=5\n",
    ),
}


def text(head="yolo", max_batches=10, net=""):
    filters, section = HEADS[head]
    rate = 0.005 if head == "region" else 0.02  # faster, its objectness is stuck where the logistic is flat
    return BODY.format(rate=rate, filters=filters, max_batches=max_batches, net=net) + section


def make_net(*arguments, **options):
    return build_network(resolve(parse_cfg_text(text(*arguments, **options))), train=True)


@pytest.fixture(scope="module")
def source():
    settings = data.SceneSettings(w=32, h=32, channels=1, objects=(1, 1), scale=(0.4, 0.5))
    return data.SceneSource(settings, {"train": 300, "valid": 20})


def make_trainer(source, folder, head="yolo", max_batches=10, net="", **options):
    options = {"folder": str(folder), "plot": False, **options}
    return DetectorTrainer(make_net(head, max_batches, net), source, TrainingOptions(**options))


def table(folder, name="network"):
    return [line.split(",") for line in (folder / f"{name}.csv").read_text().splitlines()]


@pytest.mark.parametrize(
    "head, dialect",
    [
        ("yolo", "pjreddie"),
        ("yolo", "alexeyab"),
        ("region", "pjreddie"),
        ("region", "alexeyab"),
        ("two", "pjreddie"),
        ("detection", "pjreddie"),
    ],
)
def test_it_learns(head, dialect, tmp_path):
    """Eight scenes by heart: everything in them is found, at its place, with its class, and nothing else."""
    settings = data.SceneSettings(w=32, h=32, channels=1, objects=(1, 2), scale=(0.4, 0.5))
    source, net = data.SceneSource(settings, {"train": 8}), f"dialect={dialect}\nflip=0"
    result = make_trainer(source, tmp_path, head, 300, net, save_every=1000).run()
    names, *rows = table(tmp_path)
    columns = {name: [float(row[i] or "nan") for row in rows] for i, name in enumerate(names)}
    assert result.finished and np.mean(columns["loss"][-10:]) < 0.25 * np.mean(columns["loss"][:10])
    if head != "detection":
        check_figures(head, names, rows, columns)
    (tmp_path / "my.cfg").write_text(text(head, net=net))
    found = score(dn.load_network(tmp_path / "my.cfg", tmp_path / "network_final.weights"), source.train)
    assert found.objects == 11 and found.recall > 0.9 and found.precision > 0.9


def check_figures(head, names, rows, columns):
    assert np.mean(columns["iou"][-10:]) > 0.7 > np.mean(columns["iou"][:10])
    assert np.mean(columns["recall50"][-10:]) > 0.9
    assert (rows[-1][names.index("recall75")] == "") == (head == "region")


@pytest.mark.parametrize("head, net", [("yolo", ""), ("region", "adam=1"), ("two", "dialect=alexeyab")])
def test_resume_is_exact(head, net, source, tmp_path):
    make_trainer(source, tmp_path / "one", head, net=net).run()
    make_trainer(source, tmp_path / "two", head, net=net).run(stop_at=3)
    trainer = make_trainer(source, tmp_path / "two", head, net=net, workers=3)
    trainer.resume(tmp_path / "two/network.checkpoint")
    trainer.run()
    one, two = ([row[2] for row in table(tmp_path / folder)] for folder in ("one", "two"))
    assert len(one) == 11 and one == two
    for name in ("network_final.weights", "network.checkpoint"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes(), name


def test_a_checkpoint_of_other_scenes_is_refused(source, tmp_path):
    make_trainer(source, tmp_path).run(stop_at=1)
    other = data.SceneSource(data.SceneSettings(w=32, h=32), {"train": 300})
    with pytest.raises(WeightsError, match="was trained on other data"):
        make_trainer(other, tmp_path).resume(tmp_path / "network.checkpoint")


def test_figures_are_those_of_one_update(source, tmp_path):
    """The sums of the heads over both mini-batches, divided by the boxes they trained."""
    trainer = make_trainer(source, tmp_path)
    sums, step = np.zeros(6), trainer.net.train_batch

    def train_batch(x, truth):
        loss = step(x, truth)
        sums[:] += trainer.net.layers[-1].matches.sum(axis=0)
        return loss

    trainer.net.train_batch = train_batch
    trainer.run(stop_at=1)
    names, row = table(tmp_path)
    boxes = sums[0]
    wanted = {
        "iou": sums[1] / boxes,
        "objectness": sums[2] / boxes,
        "recall50": sums[3] / boxes,
        "recall75": sums[4] / boxes,
    }
    for name, value in {**wanted, "objects": boxes / 8}.items():
        assert float(row[names.index(name)]) == pytest.approx(value, rel=1e-6)


def test_without_objects_there_are_no_figures(tmp_path):
    empty = data.SceneSource(data.SceneSettings(w=32, h=32, objects=(0, 0)), {"train": 9})
    result = make_trainer(empty, tmp_path, max_batches=2).run()
    names, *rows = table(tmp_path)
    assert result.finished and [row[names.index("iou")] for row in rows] == ["", ""]
    assert {row[names.index("objects")] for row in rows} == {"0.0"}


def test_classes_must_agree(source, tmp_path):
    net = build_network(
        resolve(
            parse_cfg_text(text().replace("classes=10", "classes=3").replace("filters=30", "filters=16"))
        ),
        train=True,
    )
    with pytest.raises(CfgError, match=r"\[yolo\].* 3 classes, but fashion-scenes: has 10"):
        DetectorTrainer(net, source, TrainingOptions(folder=str(tmp_path / "saved")))
    assert not (tmp_path / "saved").exists()


# ---- log, line, chart


def record(iteration, **values):
    return DetectorRecord(iteration, iteration / 10, 1.5, 1.5, 0.1, 100.0)._replace(**values)


def test_log_and_chart(tmp_path):
    rows = [record(1), record(2, iou=0.5, objectness=0.25, recall50=0.75, objects=2.0)]
    with TrainingLog(tmp_path / "x.csv", kind=DetectorRecord) as log:
        for row in rows:
            log.add(row)
    with TrainingLog(tmp_path / "x.csv", 2, DetectorRecord) as log:
        assert log.records == rows
    with TrainingLog(tmp_path / "x.csv", 2) as log:  # a classifier's
        assert log.records == []
    assert rows[0].text() == "" and rows[1].text() == "IoU 0.500, recall 75 %"
    pytest.importorskip("matplotlib")
    for some in (rows[:1], rows):
        plot_training(some, tmp_path / "x.png", "title")
        assert Image.open(tmp_path / "x.png").size == (990, 880)


# ---- what the score counts


def test_score_counts_each_object_once():
    boxes = np.array([[10, 10, 8, 8, 1], [30, 10, 8, 8, 2]], np.float32)
    found = [
        Detection("1", 1, 0.9, Box(10, 10, 8, 8)),
        Detection("1", 1, 0.8, Box(11, 10, 8, 8)),
        Detection("1", 1, 0.7, Box(30, 10, 8, 8)),
        Detection("2", 2, 0.6, Box(33, 10, 8, 8)),
    ]
    assert count_right(found, boxes) == 1 and count_right(found, boxes, 0.4) == 2
    assert count_right(found, boxes[:0]) == 0
    assert count_found(found, boxes) == (2, 1) and count_found(found[:2], boxes, 0.8) == (1, 1)
    assert count_found(found, boxes[:0]) == (0, 4) and count_found([], boxes) == (0, 0)


# ---- the command


def test_command_trains_stops_and_goes_on(tmp_path):
    (tmp_path / "my.cfg").write_text(text("yolo", 4))
    words = "detector", "train", "fashion-scenes:", "my.cfg"
    process = run(*words, "--stop-at", 2, cwd=tmp_path)
    assert process.returncode == 0 and "stopped: 2 of 4 updates" in process.stdout, process.stderr
    assert "to go on: darknetpy detector train fashion-scenes: my.cfg backup/my.checkpoint" in process.stdout
    process = run(*words, "backup/my.checkpoint", "--json", cwd=tmp_path)
    figures = json.loads(process.stdout)
    assert process.returncode == 0 and figures["finished"] and figures["iteration"] == 4
    assert (tmp_path / "backup/my_final.weights").exists() and len(table(tmp_path / "backup", "my")) == 5
    assert "IoU" in process.stderr
    process = run(*words, "backup/my_final.weights", "-clear", "-dont_show", "--max-batches", 1, cwd=tmp_path)
    assert process.returncode == 0 and "finished: 1 of 1 updates" in process.stdout, process.stderr
    net = dn.load_network(tmp_path / "my.cfg", tmp_path / "backup/my_final.weights")
    assert net.seen == 8


def test_a_signal_saves_and_stops(tmp_path):
    (tmp_path / "my.cfg").write_text(text("yolo", 1000000))
    check_signal(signal.SIGINT, 130, "my", "detector", "train", "fashion-scenes:", "my.cfg", cwd=tmp_path)


def photos(folder, labels):
    """A .data file with one image per label text."""
    for i, lines in enumerate(labels):
        Image.new("L", (40, 30), 9 * i).save(folder / f"{i}.png")
        if lines is not None:
            (folder / f"{i}.txt").write_text(lines)
    (folder / "train.list").write_text("".join(f"{i}.png\n" for i in range(len(labels))))
    (folder / "my.data").write_text("classes=10\ntrain=train.list\n")


def test_command_on_files(tmp_path):
    photos(tmp_path, ["3 .5 .5 .3 .3\n", "", "1 .3 .3 .2 .2\n2 .7 .7 .2 .2\n", None])
    (tmp_path / "my.cfg").write_text(text("yolo", 2, "dialect=alexeyab") + "random=1\n")
    process = run("detector", "train", "my.data", "my.cfg", cwd=tmp_path)
    assert process.returncode == 0 and "finished: 2 of 2" in process.stdout, process.stderr
    assert "random= asks for training at several sizes, which is not done" in process.stdout
    assert "note: train.list: 1 train images have no label file" in process.stderr


def test_command_refuses(tmp_path):
    photos(tmp_path, ["3 .5 .5 .3 .3\n", "11 .5 .5 .1 .1\n", "junk\n"])
    (tmp_path / "my.cfg").write_text(text())
    words = "detector", "train", "my.data", "my.cfg"
    one_line(
        run(*words, cwd=tmp_path),
        2,
        "1.txt:1: class: expected a whole number from 0 to 9, got '11'",
        "(and 1 more",
    )
    process = run(*words, "--on-bad-image", "skip", cwd=tmp_path)
    assert process.returncode == 0 and "skipped: 2.txt:1: expected 5 fields" in process.stdout, process.stderr
    one_line(
        run("detector", "train", "fashion-mnist:", "my.cfg", cwd=tmp_path),
        2,
        "detectors need images with boxes",
    )
    (tmp_path / "other.cfg").write_text(text().replace("num=2", "num=3"))
    one_line(run("detector", "train", "my.data", "other.cfg", cwd=tmp_path), 2, "other.cfg", "anchors")
