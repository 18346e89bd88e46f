"""Data of detectors: label files, data sets with boxes, composed scenes, loaders, the check."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
from PIL import Image
from test_detection_views import plan, view_of

from darknetpy import data
from darknetpy.cli import main
from darknetpy.errors import ArgumentError, CfgError, DataError

# ---- label files


@pytest.mark.parametrize(
    "image, pjreddie, alexeyab",
    [
        ("data/images/dog.jpg", "data/labels/dog.txt", "data/images/dog.txt"),
        ("/coco/images/train2014/7.jpg", "/coco/labels/train2014/7.txt", "/coco/labels/train2014/7.txt"),
        ("/VOC/JPEGImages/7.png", "/VOC/labels/7.txt", "/VOC/labels/7.txt"),
        ("JPEGImages/7.JPG", "labels/7.txt", "JPEGImages/7.txt"),
        ("raw/7.JPEG", "labels/7.txt", "raw/7.txt"),
        ("/my/images/images/7.jpeg", "/my/labels/images/7.txt", "/my/images/images/7.txt"),
        ("/my.jpg/raw_images/7.bmp", "/my.jpg/labels_labels/7.txt", "/my.jpg/raw_images/7.txt"),
        ("a.ppm", "a.txt", "a.txt"),
        ("no_ending", "no_ending.txt", "no_ending.txt"),
    ],
)
def test_label_path(image, pjreddie, alexeyab):
    assert data.label_path(image) == pjreddie
    assert data.label_path(image, "alexeyab") == data.label_path(image, "hankai") == alexeyab


def test_read_boxes(tmp_path):
    path = tmp_path / "a.txt"
    path.write_bytes(b"\xef\xbb\xbf2 .5 0.25 1 .125\r\n\r\n  0\t1e-1 1.0 0.3 2e-1  \n")
    boxes = data.read_boxes(path, 3)
    np.testing.assert_array_equal(
        boxes, np.array([[0.5, 0.25, 1, 0.125, 2], [0.1, 1, 0.3, 0.2, 0]], np.float32)
    )
    path.write_text("")
    assert data.read_boxes(path, 3).shape == (0, 5)
    path.write_text("1 0 0 0 0")
    assert data.read_boxes(path, 3, class_only=True).tolist() == [[0, 0, 0, 0, 1]]


@pytest.mark.parametrize(
    "line, message",
    [
        ("3 .5 .5 .1 .1", "class: expected a whole number from 0 to 2, got '3'"),
        ("-1 .5 .5 .1 .1", "class: expected"),
        ("dog .5 .5 .1 .1", "class: expected .* got 'dog'"),
        ("1.0 .5 .5 .1 .1", "class: expected .* got '1.0'"),
        ("99999999999999999999 .5 .5 .1 .1", "class: expected"),
        ("1 .5 .5 .1", "expected 5 fields, class x y w h, got 4: '1 .5 .5 .1'"),
        ("1 .5 .5 .1 .1 7", "expected 5 fields, class x y w h, got 6"),
        ("1,.5,.5,.1,.1", "expected 5 fields"),
        ("1 nan .5 .1 .1", "x: expected a share of the image, 0 to 1, got 'nan'"),
        ("1 .5 inf .1 .1", "y: expected a share"),
        ("1 .5 1.001 .1 .1", "y: expected a share of the image, 0 to 1, got '1.001'"),
        ("1 -.1 .5 .1 .1", "x: expected"),
        ("1 .5 .5 0 .1", "width: expected more than 0"),
        ("1 .5 .5 .1 0", "height: expected more than 0"),
        ("1 .5 .5 1_0 .1", "width: expected a share"),
        ("1 .5 .5 .1 0,5", "height: expected a share"),
        ("1 0x1p-1 .5 .1 .1", "x: expected a share"),
        ("1 0 0 .1 .1", "x and y are both 0"),
    ],
)
def test_label_file_errors(line, message, tmp_path):
    (tmp_path / "a.txt").write_text(f"0 .5 .5 .1 .1\n\n{line}\n")
    with pytest.raises(DataError, match=f"a.txt:3: {message}"):
        data.read_boxes(tmp_path / "a.txt", 3)


def test_label_file_that_is_no_text(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"0 .5 .5 .1 .1\n\0")
    with pytest.raises(DataError, match="a.txt:2: expected text"):
        data.read_boxes(tmp_path / "a.txt", 3)


# ---- data sets


@pytest.fixture
def photos(tmp_path, rng, monkeypatch):
    """A folder, made the working directory, with 9 images in images/, labels in labels/, and my.data."""
    monkeypatch.chdir(tmp_path)
    for folder in ("images", "labels"):
        (tmp_path / folder).mkdir()
    for i in range(9):
        Image.fromarray(rng.integers(0, 256, (20 + i, 30, 3), np.uint8)).save(f"images/{i}.png")
        lines = [f"{j % 3} .{4 + j} .5 .2 .3" for j in range(i % 4)]
        (tmp_path / f"labels/{i}.txt").write_text("\n".join(lines))
    (tmp_path / "train.list").write_text("".join(f"images/{i}.png\n" for i in range(7)))
    (tmp_path / "valid.list").write_text("images/7.png\nimages/8.png\n")
    (tmp_path / "my.names").write_text("cat\ndog\nowl\n")
    (tmp_path / "my.data").write_text(
        "classes=3\ntrain=train.list\nvalid=valid.list\nnames=my.names\nbackup=weights\neval=coco\n"
    )
    return tmp_path


def test_lists(photos, monkeypatch):
    source = data.open_detection_data("my.data")
    assert (source.classes, source.names, source.splits, source.backup) == (
        3,
        ["cat", "dog", "owl"],
        ["train", "valid"],
        "weights",
    )
    assert len(source.train) == 7 and source.train.pixels(2).shape == (22, 30, 3)
    np.testing.assert_allclose(
        source.train.boxes(3), [[0.4, 0.5, 0.2, 0.3, 0], [0.5, 0.5, 0.2, 0.3, 1], [0.6, 0.5, 0.2, 0.3, 2]]
    )
    assert source.train.place(3) == "train.list:4: images/3.png" and len(source.train.boxes(0)) == 0
    identity = source.train.identity()
    assert identity == data.open_detection_data("my.data").train.identity() != source.valid.identity()
    assert identity != data.open_detection_data("my.data", "alexeyab").train.identity()
    monkeypatch.chdir("/")
    elsewhere = data.open_detection_data(photos / "my.data").train
    np.testing.assert_array_equal(elsewhere.boxes(3), source.train.boxes(3))


def test_missing_label_file(photos):
    (photos / "labels/3.txt").unlink()
    with pytest.raises(DataError, match="train.list:4: images/3.png: its label file labels/3.txt is missing"):
        data.open_detection_data("my.data").train.boxes(3)
    alexeyab = data.open_detection_data("my.data", "alexeyab").train
    assert alexeyab.boxes(3).shape == (0, 5) and alexeyab.without == {3}


def test_errors_name_label_file_and_list(photos):
    (photos / "labels/3.txt").write_text("0 .5 .5 .1 .1\n9 .5 .5 .1 .1\n")
    with pytest.raises(
        DataError, match=r"^labels/3.txt:2: class: .*\(labels of train.list:4: images/3.png\)"
    ):
        data.open_detection_data("my.data").train.boxes(3)
    (photos / "labels/3.txt").unlink()
    (photos / "labels/3.txt").mkdir()
    with pytest.raises(DataError, match="train.list:4: images/3.png: its label file labels/3.txt"):
        data.open_detection_data("my.data").train.boxes(3)


def test_classes_where_the_data_do_not_say(photos):
    (photos / "my.data").write_text("train=train.list\n")
    assert data.open_detection_data("my.data", classes=4).names == ["0", "1", "2", "3"]
    with pytest.raises(DataError, match="my.data: classes: expected classes= or names="):
        data.open_detection_data("my.data")


@pytest.mark.parametrize("name", ["fashion-mnist:", "fashion-scenes:full", ".", "x-images-idx3-ubyte"])
def test_data_without_boxes(name):
    with pytest.raises(DataError, match="detectors need images with boxes"):
        data.open_detection_data(name)


def test_scenes_are_not_for_classifiers():
    with pytest.raises(DataError, match="fashion-scenes:: has boxes for detectors"):
        data.open_data("fashion-scenes:")


def npz(photos, rng, **changed):
    arrays = {
        "x_train": rng.integers(0, 256, (4, 9, 8, 3), np.uint8),
        "boxes_train": np.array(
            [[3, 1, 0.5, 0.5, 0.25, 1], [0, 2, 0.5, 0.5, 1, 1], [3, 0, 0.25, 0.5, 0.5, 0.5]]
        ),
        **changed,
    }
    np.savez(photos / "a.npz", **arrays)
    (photos / "my.data").write_text("classes=3\ntrain=a.npz\n")
    return arrays


def test_npz(photos, rng):
    arrays = npz(photos, rng)
    train = data.open_detection_data("my.data").train
    assert len(train) == 4 and [len(train.boxes(i)) for i in range(4)] == [1, 0, 0, 2]
    np.testing.assert_array_equal(train.boxes(3), [[0.5, 0.5, 0.25, 1, 1], [0.25, 0.5, 0.5, 0.5, 0]])
    np.testing.assert_array_equal(train.pixels(2), arrays["x_train"][2])
    assert train.place(2) == "a.npz: image 2"
    identity = train.identity()
    arrays["boxes_train"][0, 2] = 0.75
    npz(photos, rng, **arrays)
    assert data.open_detection_data("my.data").train.identity() != identity


@pytest.mark.parametrize(
    "boxes, message",
    [
        (np.zeros((2, 5)), r"boxes_train: expected \(objects, 6\)"),
        (
            np.array([[0, 0, 0.5, 0.5, 1, 1], [4, 0, 0.5, 0.5, 1, 1]]),
            r"boxes_train\[1\]: expected an image of 4, .* got 4, 0,",
        ),
        (np.array([[0, 3, 0.5, 0.5, 1, 1]]), r"boxes_train\[0\]: expected"),
        (np.array([[0.5, 0, 0.5, 0.5, 1, 1]]), r"boxes_train\[0\]: expected"),
        (np.array([[0, 0, 0.5, np.nan, 1, 1]]), r"boxes_train\[0\]: expected"),
        (np.array([[0, 0, 0.5, 0.5, 1, 0]]), r"boxes_train\[0\]: expected"),
        (np.array([["a"] * 6]), "boxes_train: expected an array of numbers"),
    ],
)
def test_npz_errors(boxes, message, photos, rng):
    npz(photos, rng, boxes_train=boxes)
    with pytest.raises(DataError, match=message):
        data.open_detection_data("my.data").train  # noqa: B018


def test_npz_without_boxes(photos, rng):
    np.savez(photos / "a.npz", x_train=np.zeros((2, 3, 3), np.uint8), y_train=np.zeros(2, int))
    (photos / "my.data").write_text("classes=3\ntrain=a.npz\n")
    with pytest.raises(DataError, match="expected arrays x_train, boxes_train, found x_train, y_train"):
        data.open_detection_data("my.data").train  # noqa: B018


# ---- scenes


def scenes(count=20, seed=0, **settings):
    maker = data.SceneMaker(
        data.open_data("fashion-mnist:").train.arrays, data.SceneSettings(**settings), seed
    )
    return [maker.make(i) for i in range(count)]


@pytest.mark.parametrize("channels", [1, 3])
def test_boxes_of_scenes_are_tight(channels):
    """On a plain background the pixels that differ from it are those of the garment."""
    for pixels, boxes in scenes(40, w=80, h=60, channels=channels, objects=(1, 1), backgrounds=["plain"]):
        background = pixels[0, 0] if boxes[0, 0] > 0.5 or boxes[0, 1] > 0.5 else pixels[-1, -1]
        drawn = np.argwhere((pixels != background).any(axis=2))
        (top, left), (bottom, right) = drawn.min(axis=0), drawn.max(axis=0) + 1
        x, y, w, h = boxes[0, :4] * [80, 60, 80, 60]
        np.testing.assert_allclose(
            [x - w / 2, y - h / 2, x + w / 2, y + h / 2], [left, top, right, bottom], atol=1e-4
        )


def test_scenes_are_what_settings_say():
    made = scenes(200, objects=(2, 3), overlap=0.2, scale=(0.2, 0.3))
    counts = [len(boxes) for _, boxes in made]
    assert {2, 3} <= set(counts) and max(counts) == 3 and np.mean(counts) > 2.3
    boxes = np.concatenate([boxes for _, boxes in made])
    assert set(boxes[:, 4]) == set(range(10)) and (boxes[:, 2:4] <= 0.31).all()
    assert (np.abs(boxes[:, :2] - 0.5) + boxes[:, 2:4] / 2 <= 0.5 + 1e-6).all()
    covered = [
        (
            np.minimum(a[:2] + a[2:4] / 2, b[:2] + b[2:4] / 2)
            - np.maximum(a[:2] - a[2:4] / 2, b[:2] - b[2:4] / 2)
        )
        .clip(0)
        .prod()
        / min(a[2:4].prod(), b[2:4].prod())
        for _, boxes in made
        for i, a in enumerate(boxes)
        for b in boxes[:i]
    ]
    assert 0 < max(covered) <= 0.2 + 1e-6
    assert [len(boxes) for _, boxes in scenes(5, objects=(0, 0))] == [0] * 5


def test_scenes_are_the_same_everywhere():
    digest = hashlib.blake2b(digest_size=8)
    for pixels, boxes in scenes(12):
        digest.update(pixels)
        digest.update(boxes)
    assert digest.hexdigest() == "805fee1ef85dc14e"
    (first, _), (second, _) = scenes(2)
    assert not np.array_equal(first, second) and not np.array_equal(first, scenes(1, seed=1)[0][0])


def test_scenes_as_data():
    source = data.open_detection_data("fashion-scenes:")
    assert (source.classes, len(source.train), len(source.valid), source.names[9]) == (
        10,
        4000,
        500,
        "Ankle boot",
    )
    assert source.train.pixels(5).shape == (96, 96, 3) and source.train.pixels(5) is source.train.pixels(5)
    assert source.train.identity() != source.valid.identity()
    with pytest.raises(DataError, match="no test images"):
        source.dataset("test")
    own = data.SceneSource(data.SceneSettings(w=40, h=24, channels=1), {"train": 7})
    assert own.splits == ["train"] and own.train.pixels(6).shape == (24, 40, 1) and len(own.train) == 7


@pytest.mark.parametrize(
    "settings",
    [
        {"w": 7},
        {"channels": 2},
        {"objects": (3, 2)},
        {"scale": (0, 1)},
        {"overlap": 2},
        {"backgrounds": ["sky"]},
        {"backgrounds": []},
    ],
)
def test_scene_settings_errors(settings):
    with pytest.raises(ArgumentError, match="expected"):
        data.SceneSettings(**settings)


# ---- loaders


def rows(dataset, view, count, batch, **options):
    with data.Loader(dataset, view, batch, **{"seed": 3, **options}) as loader:
        batches = [next(loader) for _ in range(-(-count // batch))]
    return [np.concatenate(parts)[:count] for parts in zip(*batches)]


@pytest.mark.parametrize(
    "head, dialect", [("yolo", "pjreddie"), ("yolo", "alexeyab"), ("detection", "pjreddie")]
)
@pytest.mark.parametrize("kind", ["list", "scenes"])
def test_rows_depend_on_seed_and_place_only(kind, head, dialect, photos):
    source = data.open_detection_data("my.data") if kind == "list" else data.SceneSource(counts={"train": 40})
    colours = "hue=.1\nsaturation=1.5\nexposure=1.5"
    dataset, view = (
        source.train,
        view_of(head, "jitter=.2", colours, dialect, w=24, h=24, classes=source.classes),
    )
    expected = rows(dataset, view, 60, 60, workers=0)
    for options in (
        {"batch": 7, "workers": 1},
        {"batch": 60, "workers": 4},
        {"batch": 13, "workers": 3, "prefetch": 5},
    ):
        for got, wanted in zip(rows(dataset, view, 60, **options), expected):
            np.testing.assert_array_equal(got, wanted)
    for got, wanted in zip(rows(dataset, view, 20, 8, start=40), expected):
        np.testing.assert_array_equal(got, wanted[40:])
    assert not np.array_equal(rows(dataset, view, 60, 60, seed=4)[0], expected[0])
    x, truth, labels, index = expected
    for place in (0, 17):
        wanted = view.row(dataset.pixels(index[place]), dataset.boxes(index[place]), 3, place)
        np.testing.assert_array_equal(x[place], wanted[0])
        np.testing.assert_array_equal(truth[place], wanted[1])
        assert labels[place] == wanted[2]


def test_bad_labels_stop_or_are_skipped(photos):
    (photos / "labels/3.txt").write_text("junk")
    train, view = data.open_detection_data("my.data").train, view_of("yolo")
    with pytest.raises(DataError, match="labels/3.txt:1: expected 5 fields"):
        rows(train, view, 14, 14)
    with data.Loader(train, view, 14, on_bad_image="skip") as loader:
        batch = next(loader)
        assert 3 not in batch.index and "labels/3.txt:1" in loader.skipped[3]


# ---- the check


def check(head="yolo", options="", **more):
    return data.check_detection_data("my.data", plan(head, options, **more))


def test_check_finds_nothing(photos):
    report = check()
    assert (
        report.problems == []
        and "train: 7 images in train.list" in report.facts
        and "train: 9 objects" in report.facts
    )


def test_check_finds_everything(photos):
    (photos / "labels/1.txt").write_text("0 .5 .5 .1 .1\n3 .5 .5 .1 .1\n")
    (photos / "labels/2.txt").write_text("0 .5 .5\n")
    (photos / "labels/7.txt").unlink()
    (photos / "images/5.png").write_bytes(b"junk")
    problems = "\n".join(check().problems)
    for expected in (
        "labels/1.txt:2: class: expected a whole number from 0 to 2, got '3' (labels of train.list:2:",
        "labels/2.txt:1: expected 5 fields, class x y w h, got 3: '0 .5 .5'",
        "train.list:6: images/5.png: is no JPEG",
        "valid.list:1: images/7.png: its label file labels/7.txt is missing",
    ):
        assert expected in problems


def test_check_notes(photos):
    (photos / "images/0.txt").write_text("0 .95 .5 .2 .1\n" * 5)
    notes = "\n".join(check(dialect="alexeyab").notes)
    for expected in (
        "train.list: 6 train images have no label file and count as images without objects; the first:",
        "1 train images have more than max=4 objects, of which each view takes 4",
        "1 train images have boxes that reach beyond them, which are cut",
        "no train image of class dog, owl",
    ):
        assert expected in notes


def test_check_compares_classes(photos):
    (photos / "my.data").write_text("train=train.list\nclasses=2\n")
    assert any("[yolo] 3 classes, but my.data has 2: 0, 1" in p for p in check().problems)
    (photos / "my.data").write_text("train=train.list\nclasses=4\nnames=my.names\n")
    assert any("my.names: expected 4 lines" in p for p in check().problems)
    (photos / "t.map").write_text("0\n1\n2\n0\n")
    (photos / "my.data").write_text("train=train.list\nclasses=4\n")
    assert check(options=f"map={photos}/t.map").problems == []
    (photos / "my.data").write_text("train=train.list\n")
    assert check().problems == []


def test_require_classes(photos):
    with pytest.raises(CfgError, match=r"\[yolo\].*3 classes, but fashion-scenes: has 10: T-shirt"):
        data.require_classes(plan("yolo"), data.SceneSource(counts={"train": 1}))


CFG = """[net]
width=32
height=32
channels=3
[convolutional]
filters=16
activation=linear
[yolo]
classes=3
num=2
anchors=4,4,9,9
"""


def test_check_command(photos, capsys):
    (photos / "my.cfg").write_text(CFG)
    assert main(["check", "my.data", "my.cfg"]) == 0
    assert "train: 9 objects" in capsys.readouterr().out
    (photos / "labels/1.txt").write_text("0 .5 .5 .1 nan\n")
    assert main(["check", "my.data", "my.cfg"]) == 2
    assert "problem: labels/1.txt:1: height: expected a share" in capsys.readouterr().out
    (photos / "my.cfg").write_text(CFG.replace("filters=16", "filters=15"))
    assert main(["check", "my.data", "my.cfg"]) == 2
    assert "wanted 16" in capsys.readouterr().err
    (photos / "my.cfg").write_text(CFG.replace("classes=3", "classes=10").replace("filters=16", "filters=30"))
    assert main(["check", "fashion-scenes:", "my.cfg"]) == 0
    assert "4000 images with boxes" in capsys.readouterr().out
