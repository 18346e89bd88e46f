"""Data: .data files, lists, trees, image files, packed arrays, the embedded set, loader threads, the
check.
"""

from __future__ import annotations

import gzip
import io
import json
import lzma
import os
import struct
import threading
import zipfile
import zlib

import numpy as np
import pytest
from PIL import Image

from darknetpy import data
from darknetpy.cli import check as cli_check
from darknetpy.data import source as source_module
from darknetpy.errors import ArgumentError, CfgError, DataError


@pytest.fixture
def rng():
    return np.random.default_rng(11)


@pytest.fixture
def pictures(tmp_path, rng, monkeypatch):
    """A folder, made the working directory, with 24 small images of 3 classes, their list, labels and .data
    file.
    """
    monkeypatch.chdir(tmp_path)
    (tmp_path / "img").mkdir()
    paths = [
        f"img/{name}_{i}.{kind}"
        for i, (name, kind) in enumerate(zip(["cat", "dog", "owl"] * 8, ["png", "jpg", "bmp", "ppm"] * 6))
    ]
    for path in paths:
        Image.fromarray(rng.integers(0, 256, (rng.integers(9, 30), rng.integers(9, 30), 3), np.uint8)).save(
            path
        )
    (tmp_path / "train.list").write_text("\n".join(paths[:18]) + "\n")
    (tmp_path / "valid.list").write_text("\n".join(paths[18:]) + "\n")
    (tmp_path / "labels").write_text("cat\ndog\nowl\n")
    (tmp_path / "my.data").write_text(
        "classes = 3\ntrain=train.list\nvalid = valid.list\n# comment\nlabels=labels\nbackup=weights\ntop=2\n"
    )
    return tmp_path


def write_idx(path, array, packer=lambda raw: raw):
    path.write_bytes(
        packer(struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape) + array.tobytes())
    )


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


# ---- packed arrays


@pytest.mark.parametrize("ending, packer", [("", bytes), (".gz", gzip.compress), (".xz", lzma.compress)])
def test_idx(tmp_path, rng, ending, packer):
    x, y = rng.integers(0, 256, (20, 5, 7), np.uint8), rng.integers(0, 4, 20).astype(np.uint8)
    write_idx(tmp_path / f"train-images-idx3-ubyte{ending}", x, packer)
    write_idx(tmp_path / f"train-labels-idx1-ubyte{ending}", y, packer)
    for given in (tmp_path, tmp_path / f"train-images-idx3-ubyte{ending}"):
        source = data.open_data(given)
        np.testing.assert_array_equal(source.train.arrays.pixels[:, :, :, 0], x)
        np.testing.assert_array_equal(source.train.arrays.labels, y)
        assert source.classes == 4 and source.names == list("0123") and source.splits == ["train"]
    os.rename(tmp_path / f"train-labels-idx1-ubyte{ending}", tmp_path / f"l-ubyte{ending}")
    (tmp_path / "d.data").write_text(f"train=train-images-idx3-ubyte{ending}\ntrain_labels=l-ubyte{ending}\n")
    assert data.open_data(tmp_path / "d.data").classes == 4


@pytest.mark.parametrize(
    "raw, message",
    [
        (b"\0\0", "byte 0: IDX header: expected 4 bytes, got 2"),
        (b"\0\0\x0d\1\0\0\0\1\0\0\0\0", "byte 0: expected an IDX file of unsigned bytes"),
        (b"\0\0\x08\3\0\0\0\1", "byte 4: IDX dimensions: expected 12 bytes, got 4"),
        (
            struct.pack(">HBBIII", 0, 8, 3, 2**31, 2**31, 2**31),
            "byte 4: dimensions .* need .* bytes, it holds at most 0",
        ),
        (struct.pack(">HBBIII", 0, 8, 3, 0, 2, 2), "need 0 bytes"),
        (struct.pack(">HBBIII", 0, 8, 3, 1, 2, 2) + b"123", "need 4 bytes, it holds at most 3"),
        (struct.pack(">HBBIII", 0, 8, 3, 1, 2, 2) + b"12345", "byte 20: expected the end of the file"),
    ],
)
def test_idx_errors(tmp_path, raw, message):
    (tmp_path / "a-ubyte").write_bytes(raw)
    write_idx(tmp_path / "l-ubyte", np.zeros(1, np.uint8))
    with pytest.raises(DataError, match="a-ubyte: " + ".*" + message):
        data.read_idx(tmp_path / "a-ubyte", tmp_path / "l-ubyte")


@pytest.mark.parametrize("ending, packer", [(".gz", gzip.compress), (".xz", lzma.compress)])
def test_damaged_packed_idx(tmp_path, rng, ending, packer):
    x = rng.integers(0, 256, (9, 8, 8), np.uint8)
    write_idx(tmp_path / f"images-idx3-ubyte{ending}", x, packer)
    write_idx(tmp_path / f"labels-idx1-ubyte{ending}", np.zeros(9, np.uint8), packer)
    good = (tmp_path / f"images-idx3-ubyte{ending}").read_bytes()
    (tmp_path / f"images-idx3-ubyte{ending}").write_bytes(good[:-100])
    with pytest.raises(DataError, match="images-idx3-ubyte"):
        data.read_idx(tmp_path / f"images-idx3-ubyte{ending}")
    for place in range(0, len(good), 7):
        changed = good[:place] + bytes([good[place] ^ 0x55]) + good[place + 1 :]
        (tmp_path / f"images-idx3-ubyte{ending}").write_bytes(changed)
        try:
            np.testing.assert_array_equal(
                data.read_idx(tmp_path / f"images-idx3-ubyte{ending}").pixels[:, :, :, 0], x
            )
        except DataError:
            pass  # a name or a time in gzip's header may change unnoticed, pixels may not


def test_labels_must_fit(tmp_path):
    x = np.zeros((3, 2, 2), np.uint8)
    np.savez(tmp_path / "a.npz", x=x, y=np.array([0, 2, 1]))
    (tmp_path / "d.data").write_text("train=a.npz\nclasses=2\n")
    with pytest.raises(DataError, match=r"a.npz: label 2 of image 1 does not fit 2 classes, 0..1"):
        data.open_data(tmp_path / "d.data").dataset("train")
    for y, message in (
        (np.array([0, -1, 1]), "label -1 of image 1 is negative"),
        (np.zeros(2, int), "expected 3 integer labels"),
        (np.zeros(3), "expected an array of integers, got float64"),
    ):
        np.savez(tmp_path / "a.npz", x=x, y=y)
        with pytest.raises(DataError, match=message):
            data.read_npz(tmp_path / "a.npz")


@pytest.mark.parametrize("shape", [(4, 6, 5), (4, 6, 5, 1), (4, 6, 5, 3), (4, 3, 6, 5), (4, 1, 6, 5)])
def test_npz_layouts(tmp_path, rng, shape):
    x = rng.integers(0, 256, shape, np.uint8)
    np.savez_compressed(
        tmp_path / "a.npz",
        x_train=x,
        y_train=np.arange(4)[:, None],
        x_test=x[:2],
        y_test=np.arange(2, dtype=np.uint8),
    )
    source = data.open_data(tmp_path / "a.npz")
    planar = len(shape) == 4 and shape[1] in (1, 3)
    expected = x.transpose(0, 2, 3, 1) if planar else x.reshape(4, 6, 5, -1)
    np.testing.assert_array_equal(source.train.arrays.pixels, expected)
    assert (len(source.valid), source.classes) == (2, 4)


def test_npz_with_one_part_is_not_validated_on_itself(tmp_path):
    np.savez(tmp_path / "a.npz", x=np.zeros((2, 2, 2), np.uint8), y=np.zeros(2, int))
    assert data.open_data(tmp_path / "a.npz").splits == ["train"]


def test_npz_errors(tmp_path):
    path = tmp_path / "a.npz"
    for arrays, message in (
        ({"z": np.zeros(2)}, "expected arrays x_train, y_train or x, y, found z"),
        ({"x": np.zeros((2, 2, 2)), "y": np.zeros(2, int)}, "x: expected an array of integers, got float64"),
        (
            {"x": np.zeros((2, 2, 2), np.int16), "y": np.zeros(2, int)},
            "expected images of uint8, 0..255, got int16",
        ),
        ({"x": np.array([{}] * 2), "y": np.zeros(2, int)}, "x: expected an array of integers, got object"),
        ({"x": np.zeros((2, 2, 2, 4), np.uint8), "y": np.zeros(2, int)}, r"expected images \(n, h, w\)"),
    ):
        np.savez(path, **arrays)
        with pytest.raises(DataError, match=message):
            data.read_npz(path)
    path.write_bytes(b"PK not a zip")
    with pytest.raises(DataError, match="damaged, or no .npz file"):
        data.read_npz(path)
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        header, {"descr": "|u1", "fortran_order": False, "shape": (2**40, 28, 28)}
    )
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x.npy", header.getvalue() + b"12")
        archive.writestr("y.npy", b"junk")
    with pytest.raises(DataError, match="a.npz: x: byte 128: shape .* needs .* bytes, the file holds 2"):
        data.read_npz(path)


def test_cifar(tmp_path, rng):
    labels, planes = rng.integers(0, 10, 20).astype(np.uint8), rng.integers(0, 256, (20, 3, 32, 32), np.uint8)
    records = np.concatenate([labels[:, None], planes.reshape(20, -1)], axis=1)
    records[:10].tofile(tmp_path / "data_batch_1.bin")
    records[10:].tofile(tmp_path / "data_batch_2.bin")
    records[:5].tofile(tmp_path / "test_batch.bin")
    (tmp_path / "batches.meta.txt").write_text("".join(f"class{i}\n" for i in range(10)) + "\n")
    source = data.open_data(tmp_path)
    np.testing.assert_array_equal(source.train.arrays.pixels.transpose(0, 3, 1, 2), planes)
    np.testing.assert_array_equal(source.train.arrays.labels, labels)
    assert len(source.valid) == 5 and source.names[3] == "class3"
    (tmp_path / "d.data").write_text("classes=10\ntrain=data_batch_1.bin, data_batch_2.bin\n")
    assert data.open_data(tmp_path / "d.data").train.identity() == source.train.identity()

    coarse = np.concatenate([np.full((20, 1), 99, np.uint8), records], axis=1)
    coarse.tofile(tmp_path / "train.bin")
    np.testing.assert_array_equal(data.read_cifar([tmp_path / "train.bin"]).labels, labels)
    (tmp_path / "x.bin").write_bytes(b"\0" * 5000)
    with pytest.raises(DataError, match="x.bin: byte 3073: expected whole records of 3073"):
        data.read_cifar([tmp_path / "x.bin"])


# ---- the embedded set


def test_embedded():
    source = data.open_data("fashion-mnist:")
    train, valid = source.train.arrays, source.valid.arrays
    assert train.pixels.shape == (7000, 28, 28, 1) and valid.pixels.shape == (1000, 28, 28, 1)
    assert (np.bincount(train.labels) == 700).all() and (np.bincount(valid.labels) == 100).all()
    assert source.names[9] == "Ankle boot" and source.classes == 10
    assert not {image.tobytes() for image in train.pixels} & {image.tobytes() for image in valid.pixels}
    assert sum(path.stat().st_size for path in source_module.EMBEDDED.iterdir()) < 3_100_000


@pytest.mark.skipif(
    not source_module.DEBIAN_FASHION_MNIST.is_dir(),
    reason="Debian's package dataset-fashion-mnist is not installed",
)
def test_embedded_is_the_first_of_each_class():
    embedded, full = data.open_data("fashion-mnist:"), data.open_data("fashion-mnist:full")
    assert (len(full.train), len(full.valid)) == (60000, 10000)
    for part, count in (("train", 700), ("valid", 100)):
        small, large = embedded.dataset(part).arrays, full.dataset(part).arrays
        rows = np.concatenate([np.flatnonzero(large.labels == c)[:count] for c in range(10)])
        np.testing.assert_array_equal(small.pixels, large.pixels[rows])
        np.testing.assert_array_equal(small.labels, large.labels[rows])


def test_fashion_mnist_names_what_to_install(monkeypatch, tmp_path):
    monkeypatch.setattr(source_module, "DEBIAN_FASHION_MNIST", tmp_path / "none")
    with pytest.raises(DataError, match="apt-get install dataset-fashion-mnist"):
        data.open_data("fashion-mnist:full")
    with pytest.raises(DataError, match="expected 'fashion-mnist:' or 'fashion-mnist:full'"):
        data.open_data("fashion-mnist:all")


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
