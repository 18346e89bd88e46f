"""Data: views, loader threads, the check."""

from __future__ import annotations

import json
import threading

import numpy as np
import pytest

from darknetpy import data
from darknetpy.cli import check as cli_check
from darknetpy.errors import ArgumentError, CfgError, DataError

# ---- views


def test_view_of_net_options():
    default = data.View.training(28, 28, 1).options
    assert (default.low, default.high, default.flip, default.inside, default.aspect) == (28, 56, 1, 0, 1)
    net = {
        "min_crop": 160,
        "max_crop": 320,
        "min_ratio": None,
        "flip": 0,
        "angle": 7,
        "hue": 0.1,
        "aspect": 0.75,
    }
    alexeyab = data.View.training(224, 224, 3, net, "alexeyab").options
    assert (alexeyab.low, alexeyab.high, alexeyab.flip, alexeyab.inside, alexeyab.angle) == (
        160,
        320,
        0,
        1,
        7,
    )
    ratio = data.View.training(10, 10, 3, {"min_ratio": 0.7, "max_ratio": 1.5})
    assert (ratio.options.low, ratio.options.high) == (int(np.float32(0.7) * np.float32(10)), 15)
    assert not data.View.validation(8, 8, 1).random and data.View.training(8, 8, 1, {"center": 1}).random


@pytest.mark.parametrize(
    "arguments, message",
    [
        ((28, 28, 2), "channels=2"),
        ((0, 28, 1), "0x28"),
        ((28, 28, 1, {"min_crop": 90}), "from 90 to 56 pixels"),
        ((28, 28, 1, {"min_crop": 0}), "from 0 to"),
        ((28, 28, 1, {"aspect": 0}), "aspect: expected a factor above 0"),
    ],
)
def test_view_errors(arguments, message):
    with pytest.raises(CfgError, match=message):
        data.View.training(*arguments)


def test_view_arguments(rng):
    view = data.View.validation(4, 4, 1)
    pixels = rng.integers(0, 256, (3, 5, 5, 1), np.uint8)
    for call, message in (
        (lambda: view.apply(pixels.astype(np.float32)), "pixels: expected C-contiguous uint8"),
        (lambda: view.apply(pixels[:, ::2]), "pixels: expected C-contiguous"),
        (lambda: view.apply(pixels, [3]), "index: expected values from 0 to 2"),
        (lambda: view.apply(pixels, out=np.empty((3, 15), np.float32)), "out: expected C-contiguous float32"),
        (
            lambda: data.sample_order("random", 0, 0, 1, 1),
            "order: expected shuffled, replacement, sequential",
        ),
    ):
        with pytest.raises(ArgumentError, match=message):
            call()
    assert view.apply(pixels[0]).shape == (1, 16)


# ---- loaders


NET = {
    "angle": 10,
    "hue": 0.1,
    "saturation": 1.5,
    "exposure": 1.5,
    "aspect": 1.2,
    "min_crop": 8,
    "max_crop": 12,
}


def rows(dataset, count, batch, **options):
    """The first `count` rows of a run as (x, truth, index)."""
    with data.Loader(dataset, data.View.training(8, 8, 3, NET), batch, **{"seed": 3, **options}) as loader:
        batches = [next(loader) for _ in range(-(-count // batch))]
    return [np.concatenate(parts)[:count] for parts in zip(*((b.x, b.truth, b.index) for b in batches))]


@pytest.mark.parametrize("kind", ["list", "packed"])
def test_rows_depend_on_seed_and_place_only(pictures, rng, kind):
    arrays = data.PackedArrays(rng.integers(0, 256, (50, 9, 9, 1), np.uint8), rng.integers(0, 3, 50))
    dataset = (
        data.open_data("my.data").train if kind == "list" else data.PackedDataset(arrays, "p", list("abc"))
    )
    expected = rows(dataset, 60, 60, workers=0)
    for options in (
        {"batch": 7, "workers": 1},
        {"batch": 60, "workers": 4},
        {"batch": 13, "workers": 3, "prefetch": 5},
    ):
        for got, wanted in zip(rows(dataset, 60, **options), expected):
            np.testing.assert_array_equal(got, wanted)
    later = rows(dataset, 20, 8, start=40)
    for got, wanted in zip(later, expected):
        np.testing.assert_array_equal(got, wanted[40:])
    assert not np.array_equal(rows(dataset, 60, 60, seed=4)[2], expected[2])
    np.testing.assert_array_equal(np.sort(expected[2][: len(dataset)]), np.arange(min(60, len(dataset))))
    assert (expected[1].argmax(axis=1) == [dataset.label(i) for i in expected[2]]).all()


def test_many_rows_of_packed_arrays(rng):
    """More rows than one task takes."""
    arrays = data.PackedArrays(rng.integers(0, 256, (90, 9, 9, 1), np.uint8), rng.integers(0, 3, 90))
    dataset = data.PackedDataset(arrays, "p", list("abc"))
    for got, wanted in zip(rows(dataset, 700, 700, workers=3), rows(dataset, 700, 50, workers=0)):
        np.testing.assert_array_equal(got, wanted)


def test_once_shows_every_image_in_order(pictures):
    valid, view = data.open_data("my.data").valid, data.View.validation(8, 8, 3)
    with data.Loader.once(valid, view, 4) as loader:
        batches = list(loader)
        assert list(loader) == []
    assert [len(batch.index) for batch in batches] == [4, 2]
    for row, batch in enumerate(np.concatenate([batch.x for batch in batches])):
        np.testing.assert_array_equal(batch, view.apply(valid.pixels(row))[0])
    np.testing.assert_array_equal(np.concatenate([batch.labels for batch in batches]), [0, 1, 2, 0, 1, 2])


@pytest.mark.parametrize("workers", [0, 2])
def test_errors_surface_with_list_and_line(pictures, workers):
    (pictures / "img/dog_4.png").write_bytes(b"junk")
    loader = data.Loader(
        data.open_data("my.data").train, data.View.training(8, 8, 3), 9, order="sequential", workers=workers
    )
    with pytest.raises(DataError, match="train.list:5: img/dog_4.png: is no JPEG"):
        next(loader)
    with pytest.raises(ArgumentError, match="the loader is closed"):
        next(loader)
    assert not [t for t in threading.enumerate() if "darknetpy-loader" in t.name]


def test_skip_takes_another_image_and_counts(pictures):
    good = data.open_data("my.data").train
    before = rows(good, 60, 10)
    (pictures / "img/dog_4.png").unlink()
    lines = (pictures / "train.list").read_text().replace("img/owl_2.bmp", "img/cow_2.bmp")
    (pictures / "train.list").write_text(lines)
    options = {"on_bad_image": "skip"}
    train = data.open_data("my.data").train
    after = rows(train, 60, 10, workers=0, **options)
    for got, wanted in zip(rows(train, 60, 7, workers=3, **options), after):
        np.testing.assert_array_equal(got, wanted)
    bad = np.isin(before[2], [2, 4])
    assert 6 <= bad.sum() <= 8  # three epochs and a part of the fourth
    np.testing.assert_array_equal(after[0][~bad], before[0][~bad])
    assert not np.isin(after[2], [2, 4]).any()
    assert (after[1].argmax(axis=1) == after[2] % 3).all()  # the replacement's own class
    with data.Loader(train, data.View.training(8, 8, 3), 60, **options) as loader:
        next(loader)
        assert set(loader.skipped) == {2, 4}
        assert loader.skipped[4].startswith("train.list:5: img/dog_4.png: cannot be read")
        assert loader.skipped[2].startswith("train.list:3: img/cow_2.bmp: none of 3 labels")
    with data.Loader.once(train, data.View.validation(8, 8, 3), 18, **options) as loader:
        (batch,) = loader
        assert (
            batch.index.tolist() == [i for i in range(18) if i not in (2, 4)]
            and len(batch.x) == len(batch.truth) == 16
        )


def test_skip_gives_up_where_nothing_is_good(pictures):
    for path in (pictures / "img").iterdir():
        path.unlink()
    with data.Loader(
        data.open_data("my.data").train, data.View.training(8, 8, 3), 4, on_bad_image="skip"
    ) as loader:
        with pytest.raises(
            DataError, match="train.list: 100 images in a row cannot be used; the last one: train.list:"
        ):
            next(loader)


def test_interrupt_ends_the_threads(pictures):
    train = data.open_data("my.data").train
    with pytest.raises(KeyboardInterrupt):
        with data.Loader(train, data.View.training(8, 8, 3), 16, workers=3) as loader:
            next(loader)
            raise KeyboardInterrupt
    assert not [t for t in threading.enumerate() if "darknetpy-loader" in t.name]
    loader.close()


def test_small_images_are_decoded_once(pictures, monkeypatch):
    from darknetpy.data import dataset

    calls = []
    decode = dataset.decode_image
    monkeypatch.setattr(dataset, "decode_image", lambda path: calls.append(path) or decode(path))
    rows(data.open_data("my.data").train, 90, 18)
    assert 18 <= len(calls) <= 22  # two threads may decode the same image at once
    monkeypatch.setattr(dataset, "CACHE_BYTES", 0)
    calls.clear()
    rows(data.open_data("my.data").train, 36, 18)
    assert len(calls) >= 36


def test_loader_arguments(pictures):
    train, view = data.open_data("my.data").train, data.View.training(8, 8, 3)
    for options in (
        {"batch": 0},
        {"batch": 1, "start": -1},
        {"batch": 1, "on_bad_image": "ignore"},
        {"batch": 1, "order": "x"},
    ):
        with pytest.raises(ArgumentError):
            next(data.Loader(train, view, **options))


# ---- the check


def test_check_finds_nothing_in_good_data(pictures):
    report = data.check_data("my.data", data.NetInput(8, 8, 3, 3), full=True)
    assert report.ok and not (pictures / "weights").exists()
    report.refuse()
    assert "train: 18 images in train.list" in report.text() and report.text().endswith("no problems")
    assert data.check_data("fashion-mnist:", data.NetInput(28, 28, 1, 10)).ok


def test_check_finds_everything_at_once(pictures):
    (pictures / "img/dog_4.png").write_bytes(b"junk")
    (pictures / "img/cat_6.bmp").unlink()
    (pictures / "valid.list").write_text("img/cat_0.png\nimg/what.png\n")
    (pictures / "weights").write_text("a file, not a folder")
    report = data.check_data("my.data", data.NetInput(8, 8, 4, 10))
    expected = [
        "my.data:6: backup: backup folder 'weights' cannot be written: File exists",
        "the network wants 4 channels; images have 1 or 3",
        "my.data: 3 classes, but the network has 10 outputs",
        "train.list:5: img/dog_4.png: is no JPEG, PNG, BMP or PPM image, or its header is damaged",
        "train.list:7: img/cat_6.bmp: cannot be read: No such file or directory",
        "valid.list:2: img/what.png: none of 3 labels occurs in the path; exactly one must",
        "valid.list:2: img/what.png: cannot be read: No such file or directory",
    ]
    assert report.problems == expected
    assert any("1 images stand in both train and valid" in note for note in report.notes)
    with pytest.raises(DataError, match="my.data:6: backup.*and 6 more"):
        report.refuse()


def test_check_full_decodes(pictures):
    raw = (pictures / "img/cat_0.png").read_bytes()
    (pictures / "img/cat_0.png").write_bytes(raw[: len(raw) // 2])
    assert data.check_data("my.data").ok
    (problem,) = data.check_data("my.data", full=True).problems
    assert problem.startswith("train.list:1: img/cat_0.png: is damaged")


def test_check_of_files_that_are_not_there(pictures):
    (pictures / "d.data").write_text(
        "classes=2\ntrain=no.list\nvalid=valid.list\nlabels=labels\nnames=no.names\n"
    )
    assert data.check_data("d.data").problems == [
        "d.data:2: train: no such file: no.list",
        "labels: expected 2 lines, one for each of classes=2, got 3",
        "d.data:5: names: no such file: no.names",
    ]
    assert data.check_data("nothing.data").problems == ["nothing.data: No such file or directory"]


def test_check_command(pictures, capsys):
    import argparse

    parser = argparse.ArgumentParser()
    cli_check.add_parser(parser.add_subparsers())

    def command(*words):
        args = parser.parse_args(["check", *words])
        return args.run(args)

    assert command("my.data") == 0 and capsys.readouterr().out.endswith("no problems\n")
    (pictures / "n.cfg").write_text(
        "[net]\nwidth=8\nheight=8\nchannels=3\n[connected]\noutput=4\nactivation=linear\n[softmax]\n"
    )
    assert command("my.data", "n.cfg", "--json") == 2
    assert json.loads(capsys.readouterr().out)["problems"] == [
        "my.data: 3 classes, but the network has 4 outputs"
    ]
