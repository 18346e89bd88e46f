"""Packed images: whole sets in one file, without a list.  IDX (the MNIST family), .npz, CIFAR-10/100
binaries.

Sizes are checked against the file before memory is asked for, so that a damaged or lying header costs
nothing; messages name the file and the byte.  Nothing is unpickled.
"""

from __future__ import annotations

import gzip
import math
import os
import struct
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Optional

import numpy as np
import numpy.typing as npt

from .._types import Floats, Path, Pixels
from ..errors import DataError
from ..files import open_regular
from .datafile import read_bytes

try:
    import lzma
except ImportError:  # a Python built without liblzma
    lzma = None

MAX_FILE_BYTES = 1 << 36
MAX_RATIO = 10000  # of unpacked to packed bytes; more is a bomb, or a header that lies
CIFAR_PIXELS = 3 * 32 * 32
_READ_ERRORS = (EOFError, zlib.error, gzip.BadGzipFile, zipfile.BadZipFile) + (
    (lzma.LZMAError,) if lzma else ()
)

# Images and labels in an .npz: the first pair found for a split, else x, y, of a file that holds one split
# only.
NPZ_KEYS = {
    "train": [("x_train", "y_train")],
    "valid": [("x_valid", "y_valid"), ("x_val", "y_val"), ("x_test", "y_test")],
    "test": [("x_test", "y_test")],
}
NPZ_SINGLE = ("x", "y")


@dataclass(frozen=True)
class PackedArrays:
    """Images of one size with their labels.

    Attributes
    ----------
    pixels : ndarray of uint8, (n, h, w, 1 or 3), C-contiguous
    labels : ndarray of int64, (n,)
    """

    pixels: Pixels
    labels: npt.NDArray[np.int64]


def _open_stream(path):
    """Open a plain, .gz or .xz file for reading; returns (stream, largest size its contents can have)."""
    open_regular(path).close()  # raises: missing, a folder, a pipe
    size = os.path.getsize(path)
    name = path.lower()
    if name.endswith(".gz"):
        return gzip.open(path, "rb"), size * MAX_RATIO
    if name.endswith(".xz"):
        if lzma is None:
            raise DataError(f"{path}: this Python was built without lzma, which .xz files need")
        return lzma.open(path, "rb"), size * MAX_RATIO
    return open(path, "rb"), size


def _read_exactly(stream, count, path, offset, what):
    """Read `count` bytes; DataError naming path and byte if there are fewer."""
    try:
        data = stream.read(count)
    except _READ_ERRORS as error:
        raise DataError(f"{path}: byte {offset}: {what}: damaged: {error}") from error
    if len(data) != count:
        raise DataError(f"{path}: byte {offset}: {what}: expected {count} bytes, got {len(data)}")
    return data


def read_idx_array(path: Path) -> Pixels:
    """Read one IDX file of unsigned bytes, plain, .gz or .xz.

    The format: two zero bytes, type (8: unsigned byte), number of dimensions, each dimension as big-endian
    int32, data.
    """
    path = os.fspath(path)
    stream, limit = _open_stream(path)
    with stream:
        zeros, kind, dims = struct.unpack(">HBB", _read_exactly(stream, 4, path, 0, "IDX header"))
        if zeros != 0 or kind != 8 or not 1 <= dims <= 4:
            raise DataError(
                f"{path}: byte 0: expected an IDX file of unsigned bytes (00 00 08 01..04), "
                f"got {zeros:04x} {kind:02x} {dims:02x}"
            )
        shape = struct.unpack(f">{dims}I", _read_exactly(stream, 4 * dims, path, 4, "IDX dimensions"))
        start = 4 + 4 * dims
        count = math.prod(shape)
        if count == 0 or start + count > limit:
            raise DataError(
                f"{path}: byte 4: dimensions {shape} need {count} bytes, it holds at most {limit - start}"
            )
        data = _read_exactly(stream, count, path, start, "IDX data")
        if _trailing(stream, path, start + count):
            raise DataError(
                f"{path}: byte {start + count}: expected the end of the file after {shape}, found more"
            )
    return np.frombuffer(data, np.uint8).reshape(shape)


def _trailing(stream, path, offset):
    """Whether anything follows; reads up to the check sum of a packed file."""
    try:
        return stream.read(1)
    except _READ_ERRORS as error:
        raise DataError(f"{path}: byte {offset}: damaged: {error}") from error


def idx_label_path(path: Path) -> Optional[str]:
    """Return the label file of an IDX image file by the names of the MNIST family; None if the name does not
    follow them.
    """
    folder, name = os.path.split(os.fspath(path))
    label = name.replace("images-idx3", "labels-idx1").replace("images.idx3", "labels.idx1")
    if label == name:
        return None
    stem = label[:-3] if label.endswith((".gz", ".xz")) else label
    candidates = [os.path.join(folder, n) for n in (label, stem, stem + ".gz", stem + ".xz")]
    return next((c for c in candidates if os.path.exists(c)), candidates[0])


def read_idx(path: Path, labels: Optional[Path] = None) -> PackedArrays:
    """Read images and labels from a pair of IDX files.

    Parameters
    ----------
    path : path of the images, (n, h, w) or (n, h, w, 3)
    labels : path of the labels, (n,); by default from the name (images-idx3 -> labels-idx1)
    """
    path = os.fspath(path)
    labels = labels or idx_label_path(path)
    if labels is None:
        raise DataError(
            f"{path}: its name does not tell where the labels are; give train_labels= or valid_labels="
        )
    return _pack(path, read_idx_array(path), labels, read_idx_array(labels))


def _images(path, pixels):
    """Check images; return them as (n, h, w, 1 or 3)."""
    if pixels.ndim == 4 and pixels.shape[1] in (1, 3) and pixels.shape[3] not in (1, 3):
        pixels = pixels.transpose(0, 2, 3, 1)  # planar, as some write colour
    if pixels.ndim == 3:
        pixels = pixels[:, :, :, None]
    if (
        pixels.ndim != 4
        or pixels.shape[3] not in (1, 3)
        or pixels.size == 0
        or max(pixels.shape[1:3]) > 1 << 20
    ):
        raise DataError(
            f"{path}: expected images (n, h, w), (n, h, w, 1 or 3) or (n, 3, h, w), got {pixels.shape}"
        )
    if pixels.dtype != np.uint8:
        raise DataError(f"{path}: expected images of uint8, 0..255, got {pixels.dtype}")
    return np.ascontiguousarray(pixels)


def _pack(path, pixels, label_path, labels):
    """Check and unite images and labels."""
    pixels = _images(path, pixels)
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.ndim != 1 or labels.dtype.kind not in "iu" or len(labels) != len(pixels):
        raise DataError(
            f"{label_path}: expected {len(pixels)} integer labels, one per image, "
            f"got {labels.dtype} {labels.shape}"
        )
    if labels.min() < 0:
        raise DataError(f"{label_path}: label {labels.min()} of image {int(labels.argmin())} is negative")
    return PackedArrays(pixels, labels.astype(np.int64))


def npz_splits(path: Path) -> list[str]:
    """Return which of "train" and "valid" an .npz holds by the names of its arrays; x, y alone are to train
    on.
    """
    with _open_npz(path) as archive:
        held = _npz_names(archive)
    splits = [split for split in ("train", "valid") if any(held.issuperset(pair) for pair in NPZ_KEYS[split])]
    return splits if "train" in splits else ["train"] + splits


def read_npz(path: Path, split: str = "train") -> PackedArrays:
    """Read images and labels from an .npz file, see NPZ_KEYS: x_train, y_train, x_test, y_test, or x, y."""
    path = os.fspath(path)
    with _open_npz(path) as archive:
        held = _npz_names(archive)
        pairs = [*NPZ_KEYS[split], NPZ_SINGLE]
        pair = next((p for p in pairs if held.issuperset(p)), None)
        if pair is None:
            wanted = " or ".join(", ".join(p) for p in pairs)
            raise DataError(f"{path}: expected arrays {wanted}, found {', '.join(sorted(held)) or 'none'}")
        x, y = (_read_member(archive, name, path) for name in pair)
    return _pack(f"{path}: {pair[0]}", x, f"{path}: {pair[1]}", y)


def read_npz_boxes(path: Path, split: str, classes: int) -> tuple[Pixels, list[Floats]]:
    """Read images and their objects from an .npz file: x_train, boxes_train, x_valid, boxes_valid.

    Parameters
    ----------
    path : str or os.PathLike
    split : str
        "train" or "valid".
    classes : int
        Class numbers must be less.

    Returns
    -------
    pixels : ndarray of uint8, (n, h, w, 1 or 3)
    boxes : list of ndarray of float32, (objects, 5)
        x, y, w, h, class of each image's objects. In the file they are one array (objects, 6): image, class, x,
        y, w, h.
    """
    path, keys = os.fspath(path), (f"x_{split}", f"boxes_{split}")
    with _open_npz(path) as archive:
        held = _npz_names(archive)
        if not held.issuperset(keys):
            raise DataError(
                f"{path}: expected arrays {', '.join(keys)}, found {', '.join(sorted(held)) or 'none'}"
            )
        pixels = _images(f"{path}: {keys[0]}", _read_member(archive, keys[0], path))
        rows = _read_member(archive, keys[1], path, "iuf").astype(np.float64)
    if rows.ndim != 2 or rows.shape[1] != 6:
        raise DataError(
            f"{path}: {keys[1]}: expected (objects, 6): image, class, x, y, w, h, got {rows.shape}"
        )
    numbers, shares = rows[:, :2], rows[:, 2:]
    wrong = ~((numbers >= 0) & (numbers < [len(pixels), classes]) & (numbers == np.floor(numbers))).all(
        axis=1
    )
    wrong |= ~((shares >= 0) & (shares <= 1)).all(axis=1) | (shares[:, 2:] == 0).any(axis=1)
    if wrong.any():
        row = int(wrong.argmax())
        raise DataError(
            f"{path}: {keys[1]}[{row}]: expected an image of {len(pixels)}, a class of {classes} "
            f"and shares of the image, got {', '.join(f'{value:g}' for value in rows[row])}"
        )
    order = np.argsort(numbers[:, 0], kind="stable")
    boxes = np.ascontiguousarray(rows[order][:, [2, 3, 4, 5, 1]], np.float32)
    return pixels, np.split(boxes, np.searchsorted(numbers[order, 0], np.arange(1, len(pixels))))


def _open_npz(path):
    open_regular(path).close()  # raises: missing, a folder, a pipe
    try:
        return zipfile.ZipFile(path)
    except zipfile.BadZipFile as error:
        raise DataError(f"{path}: damaged, or no .npz file: {error}") from error


def _npz_names(archive):
    return {name[:-4] for name in archive.namelist() if name.endswith(".npy")}


def _read_member(archive, name, path, kinds="iu"):
    """Read one array of numbers, integers by default; its header must agree with the size that the archive
    states.
    """
    info = archive.getinfo(name + ".npy")
    try:
        stream = archive.open(info)
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError) as error:
        raise DataError(
            f"{path}: {name}: damaged, or packed in a way that is not supported: {error}"
        ) from error
    with stream:
        try:
            version = np.lib.format.read_magic(stream)
            read_header = {
                (1, 0): np.lib.format.read_array_header_1_0,
                (2, 0): np.lib.format.read_array_header_2_0,
            }
            shape, fortran, dtype = read_header[version](stream)
        except (ValueError, KeyError, *_READ_ERRORS) as error:
            raise DataError(f"{path}: {name}: damaged header: {error}") from error
        start = stream.tell()
        count = math.prod(shape) * dtype.itemsize
        if dtype.kind not in kinds or dtype.itemsize > 8:
            wanted = "numbers" if "f" in kinds else "integers"
            raise DataError(f"{path}: {name}: expected an array of {wanted}, got {dtype}")
        if count + start != info.file_size or info.file_size > MAX_RATIO * (info.compress_size + 64):
            raise DataError(
                f"{path}: {name}: byte {start}: shape {shape} needs {count} bytes, "
                f"the file holds {info.file_size - start} in {info.compress_size}"
            )
        data = _read_exactly(stream, count, path, start, name)
    return np.frombuffer(data, dtype).reshape(shape, order="F" if fortran else "C")


def read_cifar(paths: Sequence[Path]) -> PackedArrays:
    """Read CIFAR binaries: records of 1 (CIFAR-10) or 2 (CIFAR-100: coarse, fine) label bytes and 3 planes of
    32x32 bytes.
    """
    pixels, labels = [], []
    for path in paths:
        path = os.fspath(path)
        raw = np.frombuffer(read_bytes(path, MAX_FILE_BYTES), np.uint8)
        bytes_of_label = next((n for n in (1, 2) if raw.size and raw.size % (n + CIFAR_PIXELS) == 0), None)
        if bytes_of_label is None:
            raise DataError(
                f"{path}: byte {raw.size - raw.size % (1 + CIFAR_PIXELS)}: expected whole records of "
                f"{1 + CIFAR_PIXELS} (CIFAR-10) or {2 + CIFAR_PIXELS} (CIFAR-100) bytes, it has {raw.size}"
            )
        records = raw.reshape(-1, bytes_of_label + CIFAR_PIXELS)
        labels.append(records[:, bytes_of_label - 1])
        pixels.append(records[:, bytes_of_label:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1))
    return _pack(paths[0], np.concatenate(pixels), paths[0], np.concatenate(labels))


def read_packed(paths: Sequence[Path], split: str, labels: Optional[Path] = None) -> PackedArrays:
    """Read packed images of any kind; `paths` is one file, or several CIFAR binaries that follow each
    other.
    """
    name = os.fspath(paths[0]).lower()
    if name.endswith(".bin"):
        return read_cifar(paths)
    if len(paths) > 1:
        raise DataError(f"{paths[1]}: only CIFAR .bin files can be given in a row")
    return read_npz(paths[0], split) if name.endswith(".npz") else read_idx(paths[0], labels)
