"""What DATA on the command line may be: a .data file, packed arrays, a folder of them, or the embedded
Fashion-MNIST.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Optional

from .._types import Path as StrPath
from ..errors import ArgumentError, DataError
from .datafile import DataFile, agree, is_packed, read_data_file, read_lines, read_names
from .dataset import Dataset, ListDataset, PackedDataset
from .packed import npz_splits, read_packed
from .tree import read_tree

SPLITS = ("train", "valid", "test")
EMBEDDED = Path(__file__).parent / "fashion-mnist"
DEBIAN_FASHION_MNIST = Path("/usr/share/datasets/fashion-mnist")
FASHION_NAMES = ["T-shirt/top", "Trouser", "Pullover", "Dress", "Coat",
                 "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"]
ENDINGS = ("", ".gz", ".xz")

CIFAR_10 = [f"data_batch_{i}.bin" for i in range(1, 6)]

# A folder of packed files is known by its training file: files of each split, and the file of the classes'
# names.
FOLDERS = (
    ({"train": ["train-images-idx3-ubyte"], "valid": ["t10k-images-idx3-ubyte"]}, None),
    ({"train": CIFAR_10, "valid": ["test_batch.bin"]}, "batches.meta.txt"),
    ({"train": ["train.bin"], "valid": ["test.bin"]}, "fine_label_names.txt"),
)


class DataSource:
    """The data of one run: its data sets, classes and folders.

    Attributes
    ----------
    name : str
        DATA as given.
    classes : int
    names, labels : list of str
        What to call the classes, and what to look for in an image's path to find them.
    tree : Tree or None
    backup : str
        Folder for weights and checkpoints; "backup" where the data do not say.
    top : int
        How many best classes count; 1 by default.
    options : DataFile
        The options as written.
    notes : list of str
        What is odd but no error.
    """

    def __init__(
        self,
        name: str,
        options: DataFile,
        files: dict[str, list[str]],
        names_file: Optional[str] = None,
        names: Optional[list[str]] = None,
    ) -> None:
        self.name, self.options, self._files = name, options, files
        self._sets: dict[str, Dataset] = {}
        self._packed: dict[str, Any] = {}  # arrays read to count the classes, until their data set takes them
        self.notes = list(options.notes)
        self.tree = read_tree(options.file("tree")) if options.get("tree") else None
        self._find_names(names_file, names)
        self.backup = options.get("backup", "backup")
        self.top = options.integer("top", 1, 1, self.classes)

    @property
    def splits(self) -> list[str]:
        """The names of the data sets there are, of "train", "valid" and "test"."""
        return [split for split in SPLITS if split in self._files]

    @property
    def train(self) -> Dataset:
        """The images to train on (Dataset)."""
        return self.dataset("train")

    @property
    def valid(self) -> Dataset:
        """The images to measure accuracy on (Dataset)."""
        return self.dataset("valid")

    def dataset(self, split: str) -> Dataset:
        """Return the Dataset of "train", "valid" or "test"; read at the first call.

        Raises
        ------
        DataError
            There is none, or it is damaged.
        OSError
            A file is missing or unreadable.
        """
        if split not in SPLITS:
            raise ArgumentError(f"split must be one of {', '.join(SPLITS)}, got {split!r}")
        if split not in self._files:
            raise DataError(
                f"{self.name}: it has no {split} images; {split}= names a list file or packed arrays"
            )
        if split not in self._sets:
            paths = self._files[split]
            made = self._packed_dataset(split, paths) if is_packed(paths[0]) else self._list(split, paths[0])
            self._sets[split] = made
        return self._sets[split]

    def _packed_dataset(self, split, paths):
        return PackedDataset(self._arrays(split), ", ".join(paths), self.names, self.tree)

    def _arrays(self, split):
        return self._packed.pop(split, None) or read_packed(
            self._files[split], split, self.options.file(f"{split}_labels")
        )

    def _list(self, split, path):
        lines = [(number, line) for number, line in enumerate(read_lines(path), start=1) if line]
        if not lines:
            raise DataError(f"{path}: expected one image path per line, got an empty list")
        folders = [os.path.dirname(self.options.path), os.path.dirname(path)]
        return self._list_dataset(split, path, lines, folders)

    def _list_dataset(self, split, path, lines, folders):
        if not self.labels:
            raise self.options.error(
                "labels", "images of a list need labels=, the texts that tell their classes"
            )
        return ListDataset(path, lines, self.labels, self.names, self.tree, split == "train", folders)

    def _find_names(self, names_file, names):
        """Set classes, names and labels, which must agree: from the files, else by counting the labels of
        packed arrays.
        """
        lines = {
            key: read_names(self.options.file(key)) for key in ("labels", "names") if self.options.get(key)
        }
        if names_file is not None and "names" not in lines:
            names = read_names(names_file)
        known = lines.get("labels") or lines.get("names") or names or (self.tree.names if self.tree else None)
        self.classes = self.options.integer("classes") or (len(known) if known else self._count_classes())
        for key, found in lines.items():
            lines[key] = agree(self.options.file(key), found, self.classes)
        if self.tree and len(self.tree.names) != self.classes:
            raise self.options.error(
                "tree", f"expected {self.classes} nodes, one for each class, got {len(self.tree.names)}"
            )
        if names and "names" not in lines:
            lines["names"] = agree(names_file or self.name, names, self.classes)
        self.labels = lines.get("labels") or lines.get("names") or (self.tree.names if self.tree else [])
        self.names = lines.get("names") or self.labels or [str(i) for i in range(self.classes)]

    def _count_classes(self):
        for split in self.splits:
            if is_packed(self._files[split][0]):
                self._packed[split] = self._arrays(split)
                return int(self._packed[split].labels.max()) + 1
        raise self.options.error("classes", "expected classes= or labels=, got neither")


def open_data(data: StrPath) -> DataSource:
    """Find out what DATA is and open it; images are read later.

    Parameters
    ----------
    data : str or os.PathLike
        ``fashion-mnist:`` (embedded: 7,000 + 1,000 images), ``fashion-mnist:full`` (Debian's package, 60,000
        + 10,000), a Darknet .data file, an .npz with x_train, y_train, x_test, y_test, an IDX or CIFAR
        training file whose validation file lies beside it, or a folder of such files.

    Returns
    -------
    DataSource

    Raises
    ------
    DataError
        What is wrong, with file:line.
    OSError
        A file is missing or unreadable.
    """
    data = os.fspath(data)
    if data.startswith("fashion-mnist:"):
        return _fashion_mnist(data)
    if os.path.isdir(data):
        return _folder(data, data)
    if data.startswith("fashion-scenes:"):
        raise DataError(f"{data}: has boxes for detectors, but no class per image; fashion-mnist: has")
    if not is_packed(data):
        return _data_file(data)
    options = DataFile(data)
    if data.lower().endswith(".npz"):
        return DataSource(data, options, {split: [data] for split in npz_splits(data)})
    return _folder(data, os.path.dirname(data) or ".", os.path.basename(data))


def _fashion_mnist(data):
    if data == "fashion-mnist:":
        return _folder(data, EMBEDDED, names=FASHION_NAMES)
    if data != "fashion-mnist:full":
        raise DataError(f"{data}: expected 'fashion-mnist:' or 'fashion-mnist:full'")
    if not DEBIAN_FASHION_MNIST.is_dir():
        raise DataError(
            f"{data}: {DEBIAN_FASHION_MNIST} is missing; install the package that holds it: "
            "apt-get install dataset-fashion-mnist"
        )
    return _folder(data, DEBIAN_FASHION_MNIST, names=FASHION_NAMES)


def _folder(data, folder, member=None, names=None):
    """The packed files of a folder; `member`: the one that was named."""
    for splits, names_file in FOLDERS:
        files = {split: _present(folder, stems) for split, stems in splits.items()}
        files = {split: paths for split, paths in files.items() if paths}
        known = [os.path.basename(path) for paths in files.values() for path in paths]
        if "train" in files and (member is None or member in known):
            meta = os.path.join(folder, names_file) if names_file else ""
            return DataSource(data, DataFile(data), files, meta if os.path.exists(meta) else None, names)
    if member is not None:
        return DataSource(data, DataFile(data), {"train": [data]})
    raise DataError(
        f"{data}: expected a folder with train-images-idx3-ubyte[.gz], data_batch_1.bin or train.bin (CIFAR)"
    )


def _present(folder, stems):
    """The files there are of `stems`, packed or not."""
    candidates = [[os.path.join(folder, stem + ending) for ending in ENDINGS] for stem in stems]
    return [next(filter(os.path.exists, paths)) for paths in candidates if any(map(os.path.exists, paths))]


def _data_file(data):
    options = read_data_file(data)
    return DataSource(data, options, list_files(data, options))


def list_files(data: str, options: DataFile) -> dict[str, list[str]]:
    """Return the files of each split that a .data file names; DataError if it names none."""
    files = {split: options.files(split) for split in SPLITS if options.get(split)}
    if not files:
        raise DataError(f"{data}: expected lines 'train = ...' and 'valid = ...', found neither")
    return files
