"""Data for classifiers and detectors: Darknet's .data, list and label files, packed arrays, the embedded
Fashion-MNIST and scenes composed of it, loader threads; text for recurrent networks.
"""

from __future__ import annotations

from .boxes import label_path, read_boxes
from .check import CheckReport, NetInput, check_data, check_detection_data, require_classes
from .datafile import DataFile, ensure_backup, read_data_file, read_names
from .dataset import Dataset, ListDataset, PackedDataset
from .detection import (
    BoxDataset,
    DetectionSource,
    ListBoxDataset,
    PackedBoxDataset,
    SceneDataset,
    SceneSource,
    open_detection_data,
)
from .detection_view import HEADS, DetectionView, head_specs, label_classes
from .images import decode_image, image_pixels, image_size
from .loader import Batch, Loader
from .packed import PackedArrays, read_cifar, read_idx, read_npz, read_npz_boxes
from .scenes import SceneMaker, SceneSettings
from .source import DataSource, open_data
from .text import Text, TextSource, read_text
from .tree import SECRET_NUM, Tree, read_tree
from .view import View, sample_order

__all__ = [
    "HEADS",
    "SECRET_NUM",
    "Batch",
    "BoxDataset",
    "CheckReport",
    "DataFile",
    "DataSource",
    "Dataset",
    "DetectionSource",
    "DetectionView",
    "ListBoxDataset",
    "ListDataset",
    "Loader",
    "NetInput",
    "PackedArrays",
    "PackedBoxDataset",
    "PackedDataset",
    "SceneDataset",
    "SceneMaker",
    "SceneSettings",
    "SceneSource",
    "Text",
    "TextSource",
    "Tree",
    "View",
    "check_data",
    "check_detection_data",
    "decode_image",
    "ensure_backup",
    "head_specs",
    "image_pixels",
    "image_size",
    "label_classes",
    "label_path",
    "open_data",
    "open_detection_data",
    "read_boxes",
    "read_cifar",
    "read_data_file",
    "read_idx",
    "read_names",
    "read_npz",
    "read_npz_boxes",
    "read_text",
    "read_tree",
    "require_classes",
    "sample_order",
]
