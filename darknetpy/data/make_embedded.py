"""Make the embedded data set: the first images of every class of Fashion-MNIST, in the set's own order.

usage: python -m darknetpy.data.make_embedded [FOLDER_OF_THE_FULL_SET [OUTPUT_FOLDER]]

Training images come from the official training set, validation images from the official test set, so that
no validation image was ever trained on.  Nothing is picked by hand: 700 and 100 of each class, the first
ones.  The files keep the IDX format of the MNIST family; xz (literal context of 4 bits, since neighbouring
pixels are alike) takes 371 bytes per image, gzip 430.  The output is the same on every run.
"""

from __future__ import annotations

import lzma
import struct
import sys
from pathlib import Path

import numpy as np

from .packed import PackedArrays, read_idx

FULL = Path("/usr/share/datasets/fashion-mnist")
PER_CLASS = {"train": 700, "t10k": 100}
XZ_FILTERS = [{"id": lzma.FILTER_LZMA2, "preset": 9 | lzma.PRESET_EXTREME, "lc": 4, "lp": 0, "pb": 0}]


def first_of_each_class(labels: np.ndarray, count: int) -> np.ndarray:
    """Indices of the first `count` images of each class, sorted by class; ValueError if a class has fewer."""
    rows = [np.flatnonzero(labels == c)[:count] for c in range(int(labels.max()) + 1)]
    if any(len(row) < count for row in rows):
        raise ValueError(f"a class has fewer than {count} images")
    return np.concatenate(rows)


def write_idx(path: Path, array: np.ndarray) -> None:
    """Write a uint8 array as an IDX file, compressed with xz."""
    header = struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape)
    path.write_bytes(lzma.compress(header + array.tobytes(), filters=XZ_FILTERS))


def make_embedded(full: Path, output: Path) -> int:
    """Write the four files into `output`; returns their size in bytes."""
    output.mkdir(parents=True, exist_ok=True)
    for part, count in PER_CLASS.items():
        arrays: PackedArrays = read_idx(full / f"{part}-images-idx3-ubyte.gz")
        rows = first_of_each_class(arrays.labels, count)
        write_idx(output / f"{part}-images-idx3-ubyte.xz", arrays.pixels[rows, :, :, 0])
        write_idx(output / f"{part}-labels-idx1-ubyte.xz", arrays.labels[rows].astype(np.uint8))
    return sum(path.stat().st_size for path in output.glob("*-ubyte.xz"))


if __name__ == "__main__":
    source = Path(sys.argv[1]) if len(sys.argv) > 1 else FULL
    target = Path(sys.argv[2]) if len(sys.argv) > 2 else Path(__file__).parent / "fashion-mnist"
    print(f"{target}: {make_embedded(source, target):,} bytes")
