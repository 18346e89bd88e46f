"""The benchmark of data loading: that it counts images and stages and names the limit; never how fast."""

from __future__ import annotations

import argparse
import json

import numpy as np
import pytest
from PIL import Image

from darknetpy import data
from darknetpy.bench import loader_stages, loading
from darknetpy.cli import bench as command
from darknetpy.data.view import scratch_floats
from darknetpy.errors import ArgumentError, DataError

NET = "[net]\nbatch=4\nsubdivisions=2\nwidth=24\nheight=16\nchannels=3\n{options}\n"
CLASSIFIER = NET + "[convolutional]\nfilters=3\nsize=3\n[avgpool]\n[softmax]\n"
DETECTOR = NET + "[maxpool]\nsize=8\nstride=8\n[convolutional]\nfilters=24\nsize=1\nactivation=linear\n"
DETECTOR += "[yolo]\nclasses=3\nmask=0,1,2\nnum=3\nanchors=3,4, 5,6, 7,8\n"
COLOURS = "hue=.1\nsaturation=1.5\nexposure=1.5\nmin_crop=24\nmax_crop=32"


@pytest.fixture
def folder(tmp_path, rng, monkeypatch):
    """Six images of two sizes, classes in their names, boxes beside them; a classifier and a detector."""
    paths = []
    for i in range(6):
        paths.append(tmp_path / f"{'abc'[i % 3]}_class_{i}.jpg")
        Image.fromarray(rng.integers(0, 256, (30, 40 + i % 2, 3), np.uint8)).save(paths[-1])
        paths[-1].with_suffix(".txt").write_text(f"{i % 3} .5 .5 .4 .4\n")
    (tmp_path / "train.txt").write_text("".join(f"{path}\n" for path in paths))
    (tmp_path / "names").write_text("a_class\nb_class\nc_class\n")
    (tmp_path / "my.data").write_text("classes=3\ntrain=train.txt\nlabels=names\nnames=names\n")
    (tmp_path / "classifier.cfg").write_text(CLASSIFIER.format(options=COLOURS))
    (tmp_path / "detector.cfg").write_text(DETECTOR.format(options="hue=.1"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run_command(*words):
    parser = argparse.ArgumentParser()
    command.add_parser(parser.add_subparsers())
    args = parser.parse_args(["bench", "loading", "--rounds", "2", "--seconds", ".0001", *words])
    return args.run(args)


@pytest.mark.parametrize("cfg, batch", [("classifier.cfg", 2), ("detector.cfg:3@32x24", 3)])
def test_command(cfg, batch, folder, capsys):
    assert (
        run_command(cfg, "my.data", "--threads", "1", "--workers", "1", "--json", "--output", "page.md") == 0
    )
    found = json.loads(capsys.readouterr().out)
    (run,) = found["runs"]
    assert found["command"].startswith("darknetpy bench loading " + cfg) and "processor" in found["machine"]
    assert (run["batch"], run["shape"]) == (batch, [3, 24, 32] if "@" in cfg else [3, 16, 24])
    assert run["files"] and run["workers"] == run["threads"] == 1
    for name in ("loaded", "memory", "loaded_cpu", "memory_cpu", "shares"):
        assert len(run[name]) == 2 and min(run[name]) > 0
    assert (
        list(run["stages"]) == list(loader_stages.STAGES)
        and run["stages"]["decode"] > 0 < run["stages"]["resize"]
    )
    assert list(run["step"]) == ["forward", "backward", "update"]
    page = (folder / "page.md").read_text()
    assert run["verdict"] in page and all(stage in page for stage in loader_stages.STAGES.values())


def test_images_in_memory_have_no_file_to_read(folder, rng, capsys):
    np.savez("my.npz", x_train=rng.integers(0, 256, (9, 20, 20, 3), np.uint8), y_train=np.arange(9) % 3)
    assert run_command("classifier.cfg", "my.npz", "--threads", "1,2") == 0
    text = capsys.readouterr().out
    assert text.count("training on") == 2 and "2 kernel thread(s)" in text
    assert "decoding" not in text and "resizing" in text


def test_every_image_is_decoded_and_trained_on(folder, monkeypatch):
    from darknetpy.data import dataset

    calls, turns = [], []
    decode, turn = dataset.decode_image, loading._turn
    monkeypatch.setattr(dataset, "decode_image", lambda path: calls.append(path) or decode(path))
    monkeypatch.setattr(loading, "_turn", lambda *given: turns.append((len(calls), given[3])) or turn(*given))
    found = loading.measure("classifier.cfg", "my.data", loading.Settings(rounds=3, seconds=1e-4))
    (first, steps), (middle, _), (last, _) = turns[0], turns[2], turns[4]
    # Of the two turns of a round one decodes; the second round begins with the one in memory.
    assert (middle - first, last - middle) == (steps * found.batch, steps * found.batch)


def measured(stages, workers=2, rate=100.0, share=0.8):
    return loading.Loading(
        "my.cfg", "my.data", 1, [3, 4, 5], 2, workers, 2, True, memory=[rate], loaded=[rate * share],
        memory_cpu=[0.018], loaded_cpu=[0.02], stages=stages,
    )  # fmt: skip


def test_verdict():
    stages = {"read": 0.0, "decode": 0.002, "resize": 0.001}
    assert "does not hold the step back: 96.0%" in measured(stages, share=0.96).verdict()
    line = measured(stages).verdict()
    assert "80.0%" in line and "decoding the image: 2.00 of the loader's 3.00 ms" in line
    assert "18.00 ms of the same 2 CPU(s), so that 85.7% is what can be had" in line
    assert "1 loader thread(s) alone make 50 images/s" in measured({"resize": 0.02}, workers=0).verdict()


def test_colours_are_given_back(folder):
    view = data.View.training(8, 8, 3, {"hue": 0.1, "saturation": 1.5})
    loader_stages.loader_stages(data.open_data("my.data").train, view, 2)
    assert (
        view.options.hue == np.float32(0.1) and view.options.saturation == 1.5 and view.options.exposure == 1
    )


def test_scratch_is_kept_unless_it_is_very_much(monkeypatch):
    held = scratch_floats(1000)
    assert scratch_floats(10) is scratch_floats(len(held)) is held
    monkeypatch.setattr("darknetpy.data.view._KEPT_FLOATS", len(held))
    assert len(scratch_floats(len(held) + 1)) == len(held) + 1 and scratch_floats(1) is held


@pytest.mark.parametrize(
    "words, error, message",
    [
        (["classifier.cfg", "fashion-mnist:"], DataError, "10 classes"),
        (["detector.cfg", "fashion-mnist:"], DataError, "detectors need images with boxes"),
        (["classifier.cfg", "my.data", "--output", "page.txt"], ArgumentError, "ends with .json or .md"),
        (["classifier.cfg", "my.data", "--threads", "0"], ArgumentError, "--threads 0"),
        (["classifier.cfg@0", "my.data"], ArgumentError, "size .0."),
        (["classifier.cfg", "none.data"], FileNotFoundError, "none.data"),
    ],
)
def test_errors(words, error, message, folder):
    with pytest.raises(error, match=message):
        run_command(*words)


def test_a_damaged_image_is_named(folder):
    path = next(folder.glob("*.jpg"))
    path.write_bytes(path.read_bytes()[:300])
    with pytest.raises(DataError, match=r"train.txt:\d: .*_class_\d.jpg"):
        run_command("classifier.cfg", "my.data")
