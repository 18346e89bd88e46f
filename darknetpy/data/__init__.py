"""Data for classifiers: Darknet's .data and list files, packed arrays, the embedded Fashion-MNIST, loader
threads.
"""

from __future__ import annotations

from .check import CheckReport, NetInput, check_data
from .datafile import DataFile, ensure_backup, read_data_file, read_names
from .dataset import Dataset, ListDataset, PackedDataset
from .images import decode_image, image_pixels, image_size
from .loader import Batch, Loader
from .packed import PackedArrays, read_cifar, read_idx, read_npz
from .source import DataSource, open_data
from .tree import SECRET_NUM, Tree, read_tree
from .view import View, sample_order

__all__ = [
    "SECRET_NUM",
    "Batch",
    "CheckReport",
    "DataFile",
    "DataSource",
    "Dataset",
    "ListDataset",
    "Loader",
    "NetInput",
    "PackedArrays",
    "PackedDataset",
    "Tree",
    "View",
    "check_data",
    "decode_image",
    "ensure_backup",
    "image_pixels",
    "image_size",
    "open_data",
    "read_cifar",
    "read_data_file",
    "read_idx",
    "read_names",
    "read_npz",
    "read_tree",
    "sample_order",
]
