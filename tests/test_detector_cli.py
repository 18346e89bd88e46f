"""``darknetpy detector test`` end to end: what it prints and draws, and what it refuses."""

from __future__ import annotations

import csv
import io
import json

import numpy as np
import pytest
from PIL import Image
from test_darknet_peer import fill
from test_detections import TINY

import darknetpy as dn
from darknetpy.cli import main
from darknetpy.detection import Box, Detection
from darknetpy.drawing import color_of, draw


@pytest.fixture
def place(tmp_path, monkeypatch, rng):
    """A folder with a detector, its .data file and three images."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "cfg").mkdir()
    (tmp_path / "photos").mkdir()
    (tmp_path / "d.names").write_text("cat\nbig dog\n")
    (tmp_path / "cfg" / "d.data").write_text("names = d.names\n")
    (tmp_path / "d.cfg").write_text(TINY)
    net = dn.load_network("d.cfg")
    fill(net, np.random.default_rng(1))
    net.layers[0].biases[:] = 2
    net.save_weights("d.weights")
    for name in ("photos/a.png", "photos/b.jpg", "one.png"):
        Image.fromarray(rng.integers(0, 256, (60, 90, 3), np.uint8)).save(name)
    (tmp_path / "photos" / "notes.txt").write_text("no image")
    return tmp_path


def run(*words):
    return main(["detector", "test", "cfg/d.data", "d.cfg", "d.weights", *words])


def found(name, **how):
    return dn.load_network("d.cfg", "d.weights").detect(name, names=["cat", "big dog"], **{"thresh": 0.5, **how})


def test_one_image(place, capsys):
    """Darknet's lines, and a picture of its name; pjreddie's threshold."""
    assert run("one.png", "-dont_show") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("one.png: Predicted in ") and len(lines) > 1
    assert lines[1:] == [f"{d.label}: {100 * d.confidence:.0f}%" for d in found("one.png")]
    with Image.open("predictions.jpg") as picture:
        assert picture.format == "JPEG" and picture.size == (450, 300)  # enlarged five times: labels need room


@pytest.mark.parametrize("out, kind", [("found.png", "PNG"), ("found", "JPEG"), ("new.jpeg", "JPEG")])
def test_where_the_picture_goes(place, out, kind):
    assert run("one.png", "-out", out) == 0
    with Image.open(out if "." in out else out + ".jpg") as picture:
        assert picture.format == kind
    assert not (place / "predictions.jpg").exists()


def test_json(place, capsys):
    assert run("photos", "one.png", "--json", "-thresh", ".3", "-nms", "0") == 0
    frames = json.loads(capsys.readouterr().out)
    assert [frame["filename"] for frame in frames] == ["photos/a.png", "photos/b.jpg", "one.png"]
    wanted = found("photos/b.jpg", thresh=0.3, nms=0)
    assert len(frames[1]["objects"]) == len(wanted) > 0
    for record, d in zip(frames[1]["objects"], wanted):
        assert (record["class_id"], record["name"], record["confidence"]) == (d.class_id, d.label, d.confidence)
        assert list(record["box"].values()) == list(d.box)
        assert record["relative_coordinates"]["center_x"] == d.box.x / 90
        assert record["relative_coordinates"]["height"] == d.box.h / 60
    assert not list(place.glob("predictions*"))  # figures alone


def test_json_file_as_alexeyab(place, capsys):
    assert run("one.png", "-out", "result.json") == 0
    with open("result.json") as file:
        (frame,) = json.load(file)
    assert frame["frame_id"] == 1 and len(frame["objects"]) == len(found("one.png"))
    assert "Predicted in" in capsys.readouterr().out and not list(place.glob("predictions*"))


def test_csv_of_a_list(place, capsys, monkeypatch):
    monkeypatch.setattr("sys.stdin", io.StringIO("one.png\n\n  photos/a.png \n"))
    assert run("-", "--csv", "-out", "drawn") == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    wanted = [(name, d) for name in ("one.png", "photos/a.png") for d in found(name)]
    assert [(row["image"], row["name"]) for row in rows] == [(name, d.label) for name, d in wanted]
    assert float(rows[0]["x"]) == pytest.approx(wanted[0][1].box.x, abs=1e-3)
    assert sorted(path.name for path in (place / "drawn").iterdir()) == ["a.jpg", "one.jpg"]


def test_pictures_of_equal_names_get_numbers(place):
    (place / "more").mkdir()
    Image.new("RGB", (50, 40)).save("more/a.png")
    assert run("photos", "more", "-out", "p/") == 0
    assert sorted(path.name for path in (place / "p").iterdir()) == ["a.jpg", "a_2.jpg", "b.jpg"]


def test_boxes_in_the_text(place, capsys):
    assert run("one.png", "-ext_output", "-letter_box") == 0
    box = found("one.png", letterbox=True)[0].box
    assert f"(left_x: {box.left:4.0f}   top_y: {box.top:4.0f}   width: {box.w:4.0f}" in capsys.readouterr().out


@pytest.mark.parametrize(
    "words, message",
    [
        (["nothing.png"], "nothing.png"),
        (["cfg"], "cfg: no images in this folder"),
        (["photos/notes.txt"], "photos/notes.txt: is no JPEG"),
        (["photos", "-out", "x.png"], "-out x.png: several images go into a folder"),
        (["one.png", "--json", "--csv"], "--json and --csv: wanted one of them"),
    ],
)
def test_refusals(place, capsys, words, message):
    assert run(*words) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1 and message in lines[0]


def test_names_must_fit(place, capsys):
    (place / "d.names").write_text("cat\n")
    assert run("one.png") == 2
    assert "names has 1 lines, one for each of classes=2 was wanted" in capsys.readouterr().err


def test_missing_names_are_told_with_their_line(place, capsys):
    (place / "cfg" / "d.data").write_text("\nnames = nope.names\n")
    assert run("one.png") == 2
    assert "d.data:2: names: no such file: nope.names" in capsys.readouterr().err


def test_bad_images_can_be_skipped(place, capsys):
    assert run("photos/notes.txt", "one.png", "--on-bad-image", "skip", "--json") == 0
    out, err = capsys.readouterr()
    assert len(json.loads(out)) == 1 and "1 images skipped" in err


# ---- the picture
def test_frames_and_labels_are_drawn():
    image = Image.new("RGB", (600, 400), (128, 128, 128))
    picture = np.asarray(draw(image, [Detection("a thing", 3, 0.875, Box(300, 200, 200, 100))]))
    color = np.array(color_of(3))
    assert (picture[150, 200:400] == color).all() and (picture[249, 200:400] == color).all()  # top and bottom edge
    assert (picture[152:248, 210:390] == 128).all()
    label = picture[120:150, 200:300]
    assert (label == color).all(axis=2).sum() > 300 and ((label == 0) | (label == 255)).all(axis=2).sum() > 50


def test_labels_keep_off_each_other_and_inside():
    boxes = [Box(10, 10, 300, 60), Box(12, 12, 300, 60), Box(590, 395, 90, 90), Box(300, 200, 5000, 5000)]
    found = [Detection("object", n, 0.9 - n / 10, box) for n, box in enumerate(boxes)]
    picture = np.asarray(draw(Image.new("RGB", (600, 400), "white"), found))
    for n in range(len(boxes)):
        rows, columns = np.nonzero((picture == color_of(n)).all(axis=2))
        assert len(rows) > 300, n  # every label shows most of its ground


def test_colors_of_classes_differ():
    colors = np.array([color_of(n) for n in range(20)], int)
    apart = np.abs(colors[:, None] - colors[None]).sum(axis=2) + 1000 * np.eye(20, dtype=int)
    assert apart.min() > 20
