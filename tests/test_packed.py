"""Data: packed arrays (IDX, .npz, CIFAR) and the embedded set."""

from __future__ import annotations

import gzip
import io
import lzma
import os
import struct
import zipfile

import numpy as np
import pytest

from darknetpy import data
from darknetpy.data import source as source_module
from darknetpy.errors import DataError


def write_idx(path, array, packer=lambda raw: raw):
    path.write_bytes(
        packer(struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape) + array.tobytes())
    )


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
