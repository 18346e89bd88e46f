"""Data sets of a detector: numbered images with boxes, from a list of image files or composed scenes."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Sequence
from typing import Optional

import numpy as np

from .._types import Floats, Pixels
from .._types import Path as StrPath
from ..dialects import dialect_value
from ..errors import DataError
from .boxes import label_path, read_boxes
from .datafile import DataFile, is_packed, read_data_file
from .dataset import Dataset, ImageList
from .packed import read_npz_boxes
from .scenes import DEFAULT_SETTINGS, SceneMaker, SceneSettings
from .source import DataSource, list_files, open_data

SCENES = "fashion-scenes:"
SCENE_COUNTS = {"train": 4000, "valid": 500}
SCENE_SEEDS = {"train": 0, "valid": 1}


class BoxDataset(Dataset):
    """Numbered images, each with any number of boxes."""

    def boxes(self, index: int) -> Floats:
        """Return the objects of image `index`: float32, (objects, 5): x, y, w, h in shares of it, class.

        Raises
        ------
        DataError
            They cannot be read; the message begins with the place of the image or of the line.
        """
        raise NotImplementedError

    def annotation(self, index: int) -> Floats:
        return self.boxes(index)


class ListBoxDataset(ImageList, BoxDataset):
    """Images named by the lines of a list file; each has a label file.

    Parameters
    ----------
    path, lines, names, folders : as in ImageList
    dialect : str
        Its rule leads from image to label file; pjreddie: a missing one is an error, else it means that there
        are no objects.
    class_only : bool
        As :func:`read_boxes` takes it.

    Attributes
    ----------
    without : set of int
        Images found to have no label file.
    """

    def __init__(
        self,
        path: str,
        lines: list[tuple[int, str]],
        names: list[str],
        folders: Iterable[str] = (),
        dialect: str = "pjreddie",
        class_only: bool = False,
    ) -> None:
        super().__init__(path, lines, names, folders=folders)
        self.dialect, self.class_only = dialect, class_only
        self.without: set[int] = set()
        self._boxes: dict[int, Floats] = {}

    def label_path(self, index: int) -> str:
        """Return the path of the label file of image `index`."""
        return label_path(self.path(index), self.dialect)

    def boxes(self, index: int) -> Floats:
        if index not in self._boxes:
            self._boxes[index] = self._read(index)
        return self._boxes[index]

    def _read(self, index):
        path = self.label_path(index)
        try:
            return read_boxes(path, self.classes, self.class_only)
        except FileNotFoundError:
            if dialect_value("label_missing", self.dialect) == "error":
                raise DataError(f"{self.place(index)}: its label file {path} is missing") from None
            self.without.add(index)
            return np.empty((0, 5), np.float32)
        except DataError as error:
            raise DataError(f"{error} (labels of {self.place(index)})") from None
        except OSError as error:
            raise DataError(
                f"{self.place(index)}: its label file {path}: {error.strerror or error}"
            ) from None

    def identity(self) -> str:
        digest = hashlib.blake2b(digest_size=16)
        for _, path in self.lines:
            digest.update(os.fsencode(path) + b"\n")
        digest.update(repr((self.names, self.dialect)).encode())
        return digest.hexdigest()


class PackedBoxDataset(BoxDataset):
    """Images of one size in memory, with their boxes.

    Parameters
    ----------
    pixels : ndarray of uint8, (n, h, w, 1 or 3)
    boxes : sequence of ndarray of float32, (objects, 5)
    name, names : as in Dataset
    """

    def __init__(self, pixels: Pixels, boxes: Sequence[Floats], name: str, names: list[str]) -> None:
        super().__init__(name, names)
        self._pixels, self._boxes = pixels, boxes

    def __len__(self) -> int:
        return len(self._pixels)

    def place(self, index: int) -> str:
        return f"{self.name}: image {index}"

    def pixels(self, index: int) -> Pixels:
        return self._pixels[index]

    def boxes(self, index: int) -> Floats:
        return self._boxes[index]

    def identity(self) -> str:
        digest = hashlib.blake2b(repr((self._pixels.shape, self.names)).encode(), digest_size=16)
        digest.update(self._pixels)
        for index, boxes in enumerate(self._boxes):
            digest.update(b"%d %d\n" % (index, len(boxes)))
            digest.update(boxes)
        return digest.hexdigest()


class SceneDataset(BoxDataset):
    """Scenes 0..count-1 of a SceneMaker, composed when they are first asked for.

    Parameters
    ----------
    maker : SceneMaker
    count : int
    name, names : as in Dataset
    """

    def __init__(self, maker: SceneMaker, count: int, name: str, names: list[str]) -> None:
        super().__init__(name, names)
        self.maker, self._count = maker, count
        self._made: dict[int, tuple[Pixels, Floats]] = {}

    def __len__(self) -> int:
        return self._count

    def place(self, index: int) -> str:
        return f"{self.name}: scene {index}"

    def pixels(self, index: int) -> Pixels:
        return self._scene(index)[0]

    def boxes(self, index: int) -> Floats:
        return self._scene(index)[1]

    def _scene(self, index):
        if index not in self._made:
            self._made[index] = self.maker.make(index)
        return self._made[index]

    def identity(self) -> str:
        return f"{self.maker.identity()}-{self._count}"


class DetectionSource(DataSource):
    """The data of a detector: data sets of images with boxes, classes and folders.

    Parameters
    ----------
    name, options, files : as in DataSource
    dialect : str
        Its rules hold for label files.
    class_only : bool
        As :func:`read_boxes` takes it.
    classes : int, optional
        How many there are where the data do not say.
    """

    def __init__(
        self,
        name: str,
        options: DataFile,
        files: dict[str, list[str]],
        dialect: str = "pjreddie",
        class_only: bool = False,
        classes: Optional[int] = None,
    ) -> None:
        self._rules, self._classes = {"dialect": dialect, "class_only": class_only}, classes
        super().__init__(name, options, files)

    def _packed_dataset(self, split, paths):
        if not paths[0].lower().endswith(".npz"):
            raise DataError(
                f"{paths[0]}: detectors need images with boxes: a list of files, "
                f"or an .npz with boxes_{split}"
            )
        return PackedBoxDataset(*read_npz_boxes(paths[0], split, self.classes), paths[0], self.names)

    def _list_dataset(self, split, path, lines, folders):
        return ListBoxDataset(path, lines, self.names, folders, **self._rules)

    def _count_classes(self):
        if self._classes is None:
            raise self.options.error("classes", "expected classes= or names=, got neither")
        return self._classes


class SceneSource(DetectionSource):
    """Composed scenes as the data of a run: training scenes of the embedded training images, validation scenes
    of the embedded validation images.

    Parameters
    ----------
    settings : SceneSettings, optional
    counts : dict of str to int
        Scenes of "train" and "valid".
    seeds : dict of str to int

    Examples
    --------
    >>> source = SceneSource(SceneSettings(w=64, h=64, channels=1, objects=(1, 2)))
    >>> source.train.pixels(0).shape
    (64, 64, 1)
    """

    def __init__(
        self,
        settings: SceneSettings = DEFAULT_SETTINGS,
        counts: dict[str, int] = SCENE_COUNTS,
        seeds: dict[str, int] = SCENE_SEEDS,
    ) -> None:
        self._garments = open_data("fashion-mnist:")
        self._settings, self._counts, self._seeds = settings, counts, seeds
        super().__init__(
            SCENES, DataFile(SCENES), {split: [SCENES] for split in counts}, classes=self._garments.classes
        )
        self.names = self._garments.names

    def dataset(self, split: str) -> Dataset:
        if split in self._counts and split not in self._sets:
            maker = SceneMaker(self._garments.dataset(split).arrays, self._settings, self._seeds[split])
            self._sets[split] = SceneDataset(maker, self._counts[split], SCENES, self.names)
        return super().dataset(split)


def open_detection_data(
    data: StrPath, dialect: str = "pjreddie", class_only: bool = False, classes: Optional[int] = None
) -> DetectionSource:
    """Open the data of a detector; images and labels are read later.

    Parameters
    ----------
    data : str or os.PathLike
        ``fashion-scenes:``, or a Darknet .data file that names lists of image files, or .npz files as
        :func:`read_npz_boxes` reads them.
    dialect : str
        Its rule leads from an image to its label file.
    class_only : bool
        As :func:`read_boxes` takes it.
    classes : int, optional
        How many there are where the data do not say.

    Raises
    ------
    DataError
        What is wrong, with file:line.
    OSError
        A file is missing or unreadable.
    """
    data = os.fspath(data)
    if data == SCENES:
        return SceneSource()
    if data.startswith(("fashion-mnist:", "fashion-scenes:")) or os.path.isdir(data) or is_packed(data):
        raise DataError(
            f"{data}: detectors need images with boxes: {SCENES}, or a .data file with lists or .npz files"
        )
    options = read_data_file(data)
    return DetectionSource(data, options, list_files(data, options), dialect, class_only, classes)
