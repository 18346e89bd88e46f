"""Data: .data files, lists, trees and image files."""

from __future__ import annotations

import io
import os
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from darknetpy import data
from darknetpy.errors import DataError

# ---- .data files and lists


def test_data_file(pictures):
    source = data.open_data("my.data")
    assert (source.classes, source.names, source.top, source.backup) == (
        3,
        ["cat", "dog", "owl"],
        2,
        "weights",
    )
    assert (len(source.train), len(source.valid), source.splits) == (18, 6, ["train", "valid"])
    assert [source.train.label(i) for i in range(6)] == [0, 1, 2, 0, 1, 2]
    np.testing.assert_array_equal(source.train.truth(1), [0, 1, 0])


def test_paths_from_elsewhere(pictures, monkeypatch):
    """What does not exist from the working directory is looked for beside the .data file."""
    monkeypatch.chdir("/")
    source = data.open_data(pictures / "my.data")
    assert source.train.pixels(0).shape[2] == 3 and source.names[0] == "cat"


@pytest.mark.parametrize(
    "text, message",
    [
        ("classes", "d:1: expected 'key = value', got 'classes'"),
        ("classes=", "d:1: expected 'key = value'"),
        ("\n\nclasses=2\nclasses=3", "d:4: classes was already set in line 3"),
        ("labls=x", "d:1: unknown key 'labls'; did you mean 'labels'"),
        (
            "train=t\nclasses=two\nlabels=labels",
            "d:2: classes: expected a whole number from 1 to 1073741824, got 'two'",
        ),
        ("train=t\nclasses=-1\nlabels=labels", "d:2: classes: expected a whole number"),
        ("train=t\nclasses=\u0663\nlabels=labels", "d:2: classes: expected a whole number"),
        ("train=t\nclasses=2\nlabels=labels", "labels: expected 2 lines, one for each of classes=2, got 3"),
        ("train=t\nclasses=4\nnames=labels", "labels: expected 4 lines, one for each of classes=4, got 3"),
        ("train=t\nlabels=labels\ntop=4", "d:3: top: expected a whole number from 1 to 3, got '4'"),
        ("train=train.list", "classes: expected classes= or labels=, got neither"),
        ("classes=3", "expected lines 'train = ...'"),
        ("train=a\0b", "d:1: expected text, got a NUL byte"),
        ("train=train.list\nclasses=3", "labels: images of a list need labels="),
        ("train=empty\nlabels=labels", "empty: expected one image path per line, got an empty list"),
        ("train=train.list\nlabels=empty", "empty: expected one name per line"),
        ("train=train.list\nlabels=gap", "gap:2: expected a name, got an empty line"),
    ],
)
def test_data_file_errors(pictures, text, message):
    (pictures / "d").write_bytes(text.encode())
    (pictures / "empty").write_text("\n")
    (pictures / "gap").write_text("a\n\nb\n")
    with pytest.raises(DataError) as caught:
        data.open_data("d").dataset("train")
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_lists_with_bom_crlf_and_foreign_bytes(pictures):
    os.rename("img/cat_0.png", b"img/cat_\xff 0.png")
    lines = (
        (pictures / "train.list").read_bytes().replace(b"cat_0", b"cat_\xff 0").replace(b"\n", b"\r\n\r\n")
    )
    (pictures / "train.list").write_bytes(b"\xef\xbb\xbf" + lines)
    train = data.open_data("my.data").train
    assert len(train) == 18 and train.pixels(0).shape[2] == 3
    assert train.place(1).startswith("train.list:3: img/dog_1")


def test_imagenet_names_may_be_longer(pictures):
    """Darknet's imagenet.labels.list has 21,842 lines for classes=1000."""
    (pictures / "many").write_text("".join(f"n{i:05}\n" for i in range(21842)))
    (pictures / "d").write_text("classes=1000\ntrain=train.list\nlabels=many\nnames=many\n")
    source = data.open_data("d")
    assert source.classes == len(source.names) == len(source.labels) == 1000


def test_labels_in_paths(pictures):
    labels, lines = ["cat", "dog", "at"], [(1, "x/dog.png"), (2, "x/cat.png"), (5, "x/cow.png")]
    train = data.ListDataset("l", lines, labels, labels)
    valid = data.ListDataset("l", lines, labels, labels, unique=False)
    assert train.label(0) == valid.label(0) == 1
    assert valid.label(1) == 0
    for dataset, index, message in (
        (train, 1, "l:2: x/cat.png: 2 labels occur in the path: 'cat', 'at'"),
        (train, 2, "l:5: x/cow.png: none of 3 labels"),
        (valid, 2, "l:5: x/cow.png: none of 3 labels"),
    ):
        with pytest.raises(DataError, match=message):
            dataset.label(index)
    only = data.ListDataset("l", lines, ["cat"], ["cat"])
    assert (only.label(0), only.label(1)) == (-1, 0)
    np.testing.assert_array_equal(only.truth(-1), [0])


def test_label_rules_of_the_splits(pictures):
    """Training wants one label in each path; validation takes the first."""
    (pictures / "labels").write_text("cat\ndog\nowl\n_18\n")
    (pictures / "my.data").write_text("train=valid.list\nvalid=valid.list\nlabels=labels\n")
    source = data.open_data("my.data")
    assert source.valid.label(0) == 0
    with pytest.raises(DataError, match="valid.list:1: img/cat_18.bmp: 2 labels occur in the path"):
        source.train.label(0)


def test_identity_knows_images_and_classes(pictures):
    first = data.open_data("my.data").train.identity()
    assert first == data.open_data("my.data").train.identity()
    (pictures / "labels").write_text("cat\nowl\ndog\n")
    assert data.open_data("my.data").train.identity() != first


def test_backup(tmp_path):
    data.ensure_backup(tmp_path / "a" / "b")
    assert list((tmp_path / "a" / "b").iterdir()) == []
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="backup folder .* cannot be written: Not a directory"):
        data.ensure_backup(tmp_path / "file" / "x")


# ---- trees


def test_tree(tmp_path):
    (tmp_path / "t").write_text("animal -1\nthing -1\ncat 0\ndog 0\nchair 1\ntabby 2\n")
    tree = data.read_tree(tmp_path / "t")
    assert tree.parents.tolist() == [-1, -1, 0, 0, 1, 2]
    assert (tree.group_offsets.tolist(), tree.group_sizes.tolist()) == ([0, 2, 4, 5], [2, 2, 1, 1])
    assert tree.ancestors(5) == [5, 2, 0]
    secret = data.SECRET_NUM
    assert secret == -1234
    assert tree.truth(5).tolist() == [1, 0, 1, 0, secret, 1]
    assert tree.truth(1).tolist() == [0, 1, secret, secret, secret, secret]


@pytest.mark.parametrize(
    "text, message",
    [
        ("", "t: expected lines of 'name parent', got an empty file"),
        ("a -1\nb", "t:2: expected 'name parent' with a parent from -1 to 0, got 'b'"),
        ("a -1\nb 1", "t:2: expected 'name parent' with a parent from -1 to 0, got 'b 1'"),
        ("a -2", "t:1: expected"),
        ("a x", "t:1: expected"),
        ("a -1 3", "t:1: expected"),
        ("a -1\nb 0\nc -1", "t:3: the children of -1 must stand together; others began at line 1"),
    ],
)
def test_tree_errors(tmp_path, text, message):
    (tmp_path / "t").write_text(text)
    with pytest.raises(DataError, match=message):
        data.read_tree(tmp_path / "t")


@pytest.mark.skipif(
    not os.path.exists("/usr/share/darknet/data/9k.tree"), reason="Debian's package darknet is not installed"
)
def test_tree_of_yolo9000():
    tree = data.read_tree("/usr/share/darknet/data/9k.tree")
    assert len(tree.names) == tree.group_sizes.sum() == 9418


def test_tree_in_data_file(pictures):
    (pictures / "t").write_text("animal -1\ncat 0\ndog 0\nowl 0\n")
    with open("my.data", "a") as file:
        file.write("tree=t\n")
    with pytest.raises(DataError, match="my.data:8: tree: expected 3 nodes, one for each class, got 4"):
        data.open_data("my.data")
    (pictures / "labels").write_text("xxx\ncat\ndog\nowl\n")
    (pictures / "my.data").write_text("train=train.list\nlabels=labels\ntree=t\n")
    with data.Loader(
        data.open_data("my.data").train, data.View.training(8, 8, 3), 4, order="sequential"
    ) as loader:
        np.testing.assert_array_equal(
            next(loader).truth, [[1, 1, 0, 0], [1, 0, 1, 0], [1, 0, 0, 1], [1, 1, 0, 0]]
        )


# ---- image files


def saved(image, kind, **options):
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def decoded(tmp_path, raw):
    (tmp_path / "image").write_bytes(raw)
    return data.decode_image(tmp_path / "image")


def test_image_modes(tmp_path, rng):
    colour = rng.integers(0, 256, (5, 7, 3), np.uint8)
    alpha = np.dstack([colour, rng.integers(0, 256, (5, 7), np.uint8)])
    for kind in ("PNG", "BMP", "PPM"):
        np.testing.assert_array_equal(decoded(tmp_path, saved(Image.fromarray(colour), kind)), colour)
        np.testing.assert_array_equal(
            decoded(tmp_path, saved(Image.fromarray(colour[:, :, 0]), kind)), colour[:, :, :1]
        )
    np.testing.assert_array_equal(decoded(tmp_path, saved(Image.fromarray(alpha), "PNG")), colour)
    palette = Image.fromarray(colour).quantize(16)
    np.testing.assert_array_equal(
        decoded(tmp_path, saved(palette, "PNG")), np.asarray(palette.convert("RGB"))
    )
    bits = Image.fromarray(colour[:, :, 0] > 127)
    np.testing.assert_array_equal(
        decoded(tmp_path, saved(bits, "PNG"))[:, :, 0], np.where(colour[:, :, 0] > 127, 255, 0)
    )
    wide = rng.integers(0, 65536, (5, 7), np.uint16)
    np.testing.assert_array_equal(decoded(tmp_path, saved(Image.fromarray(wide), "PNG"))[:, :, 0], wide >> 8)
    assert decoded(tmp_path, saved(Image.fromarray(colour).convert("CMYK"), "JPEG")).shape == (5, 7, 3)


def test_exif_orientation_is_not_applied(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees
    assert decoded(tmp_path, saved(Image.new("RGB", (9, 4)), "JPEG", exif=exif)).shape == (4, 9, 3)


def png_header(w, h):
    """A PNG whose header claims w x h RGB pixels, and that ends where they should begin."""

    def chunk(kind, body):
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", struct.pack(">IIBBBBB", w, h, 8, 2, 0, 0, 0))
        + chunk(b"IDAT", b"")
    )


BAD_IMAGES = [
    (b"", "is no JPEG, PNG, BMP or PPM image"),
    (b"<html>not found</html>", "is no JPEG, PNG, BMP or PPM image"),
    (saved(Image.new("P", (4, 4)), "GIF"), "is no JPEG, PNG, BMP or PPM image"),
    (png_header(65000, 65000), "has too many pixels"),
    (png_header(9000, 9000), "has 9000x9000 pixels; at most 67108864 are allowed"),
    (png_header(30, 30), "is damaged"),
    (saved(Image.new("RGB", (64, 64), (1, 99, 7)), "JPEG")[:-200], "is damaged"),
    (saved(Image.effect_noise((64, 64), 50), "PNG")[:900], "is damaged"),
    (b"P6 5 5 255\n123", "is damaged"),
    (
        b"Pf\n2 2\n-1.0\n" + b"\0" * 16,
        "has floating-point pixels|is no JPEG",
    ),  # newer versions of Pillow read it
]


@pytest.mark.parametrize("raw, message", BAD_IMAGES, ids=range(len(BAD_IMAGES)))
def test_bad_images(tmp_path, raw, message):
    with pytest.raises(DataError, match=message):
        decoded(tmp_path, raw)


def test_images_that_are_no_files(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for name, message in (
        ("pipe", "cannot be read: Not a regular file"),
        ("none", "cannot be read: No such file"),
        ("", "cannot be read: Is a dir"),
    ):
        with pytest.raises(DataError, match=message):
            data.decode_image(tmp_path / name)


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_damaged_images_raise_nothing_else(tmp_path, rng):
    """Bytes changed at random: an image or a DataError."""
    pixels = Image.fromarray(rng.integers(0, 256, (12, 10, 3), np.uint8))
    for kind in ("PNG", "JPEG", "BMP", "PPM"):
        good = np.frombuffer(saved(pixels, kind), np.uint8)
        for _ in range(150):
            raw = good.copy()
            raw[rng.integers(0, min(len(raw), 200), 4)] = rng.integers(0, 256, 4)
            try:
                assert decoded(tmp_path, raw.tobytes()[: rng.integers(1, len(raw) + 1)]).dtype == np.uint8
            except DataError:
                pass
