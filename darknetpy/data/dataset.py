"""Data sets: numbered images, from a list of image files or from packed arrays; for classifiers, each has a
class.
"""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Optional

import numpy as np

from .._types import Floats, Pixels
from ..errors import DataError
from .datafile import find_file
from .images import decode_image

if TYPE_CHECKING:
    from .packed import PackedArrays
    from .tree import Tree

CACHE_BYTES = 1 << 28  # of decoded images that a list keeps, so that small ones are decoded once


class Dataset:
    """Numbered images, each annotated: with a class, or for detectors (:class:`BoxDataset`) with boxes.

    Attributes
    ----------
    name : str
        Where it comes from, for messages.
    classes : int
        Length of a truth row.
    names : list of str
        What to call the classes.
    tree : Tree or None
        The classes' hierarchy.
    """

    def __init__(self, name: str, names: list[str], tree: Optional[Tree] = None) -> None:
        self.name, self.names, self.tree = name, names, tree
        self.classes = len(names)
        self._tree_truth: dict[int, Floats] = {}

    def __len__(self) -> int:
        raise NotImplementedError

    def place(self, index: int) -> str:
        """Return where image `index` stands, for messages: ``list:line: path`` or ``file: image 7``."""
        raise NotImplementedError

    def pixels(self, index: int) -> Pixels:
        """Return image `index`: uint8, (h, w, 1 or 3), 3 being RGB.

        Raises
        ------
        DataError
            It cannot be read; the message begins with its place.
        """
        raise NotImplementedError

    def label(self, index: int) -> int:
        """Return the class of image `index`, 0..classes-1; -1 for none of the classes (only where there is
        just one).
        """
        raise NotImplementedError

    def annotation(self, index: int) -> Any:
        """Return what View.fill makes the truth of image `index` of: its class, or its boxes."""
        return self.label(index)

    def identity(self) -> str:
        """Return a short digest; equal where the same numbers mean the same images and annotations."""
        raise NotImplementedError

    def truth(self, label: int) -> Floats:
        """Return what the network should say of an image of class `label` (-1: of none).

        Returns
        -------
        ndarray of float32, (classes,)
            1 for the class, else 0; with a tree 1 for its ancestors too, and SECRET_NUM in groups off its
            path.
        """
        if self.tree is not None:
            if label not in self._tree_truth:
                self._tree_truth[label] = self.tree.truth(label)
            return self._tree_truth[label]
        truth = np.zeros(self.classes, np.float32)
        if label >= 0:
            truth[label] = 1
        return truth


class PackedDataset(Dataset):
    """Images of one size in memory.

    Parameters
    ----------
    arrays : PackedArrays
    name, names, tree : as in Dataset; every label must be less than ``len(names)``
    """

    def __init__(
        self, arrays: PackedArrays, name: str, names: list[str], tree: Optional[Tree] = None
    ) -> None:
        super().__init__(name, names, tree)
        self.arrays = arrays
        worst = int(arrays.labels.argmax())
        if arrays.labels[worst] >= self.classes:
            raise DataError(
                f"{name}: label {arrays.labels[worst]} of image {worst} does not fit "
                f"{self.classes} classes, 0..{self.classes - 1}"
            )

    def __len__(self) -> int:
        return len(self.arrays.labels)

    def place(self, index: int) -> str:
        return f"{self.name}: image {index}"

    def pixels(self, index: int) -> Pixels:
        return self.arrays.pixels[index]

    def label(self, index: int) -> int:
        return int(self.arrays.labels[index])

    def identity(self) -> str:
        digest = hashlib.blake2b(digest_size=16)
        digest.update(repr((self.arrays.pixels.shape, self.classes)).encode())
        digest.update(self.arrays.pixels)
        digest.update(self.arrays.labels.astype("<i8"))
        return digest.hexdigest()


class ImageList(Dataset):
    """Images named by the lines of a list file.

    Parameters
    ----------
    path : str
        The list file, for messages.
    lines : list of (int, str)
        Line number and image path of each image.
    names : list of str
    tree : Tree, optional
    folders : list of str
        Where to look for a relative path that does not exist from here.
    """

    def __init__(
        self,
        path: str,
        lines: list[tuple[int, str]],
        names: list[str],
        tree: Optional[Tree] = None,
        folders: Iterable[str] = (),
    ) -> None:
        super().__init__(path, names, tree)
        self.lines, self.folders = lines, list(folders)
        self._cache: dict[int, Pixels] = {}
        self.cache_room, self._lock = CACHE_BYTES, threading.Lock()

    def __len__(self) -> int:
        return len(self.lines)

    def place(self, index: int) -> str:
        number, path = self.lines[index]
        return f"{self.name}:{number}: {path}"

    def path(self, index: int) -> str:
        """Return the path of image `index`, as far as it can be found."""
        return find_file(self.lines[index][1], self.folders)

    def pixels(self, index: int) -> Pixels:
        kept = self._cache.get(index)
        if kept is not None:
            return kept
        try:
            pixels = decode_image(self.path(index))
        except DataError as error:
            raise DataError(f"{self.place(index)}: {error}") from error
        with self._lock:
            if pixels.nbytes <= self.cache_room and index not in self._cache:
                self.cache_room -= pixels.nbytes
                self._cache[index] = pixels
        return pixels


class ListDataset(ImageList):
    """Images named by the lines of a list file; the class is found in the path.

    Parameters
    ----------
    path, lines, names, tree, folders : as in ImageList
    labels : list of str
        Class i is that whose labels[i] occurs in the path.
    unique : bool
        True, for training: exactly one label must occur. False, for validation: the first that occurs counts.
    """

    def __init__(
        self,
        path: str,
        lines: list[tuple[int, str]],
        labels: list[str],
        names: list[str],
        tree: Optional[Tree] = None,
        unique: bool = True,
        folders: Iterable[str] = (),
    ) -> None:
        super().__init__(path, lines, names, tree, folders)
        self.labels, self.unique = labels, unique

    def label(self, index: int) -> int:
        path = self.lines[index][1]
        found = [i for i, label in enumerate(self.labels) if label in path]
        if len(found) == 1 or (found and not self.unique):
            return found[0]
        if not found and self.classes == 1:
            return -1  # as in Darknet: without its only class, an example of what it is not
        shown = ", ".join(repr(self.labels[i]) for i in found[:4])
        problem = (
            f"{len(found)} labels occur in the path: {shown}"
            if found
            else f"none of {self.classes} labels occurs in the path"
        )
        raise DataError(f"{self.place(index)}: {problem}; exactly one must")

    def identity(self) -> str:
        digest = hashlib.blake2b(digest_size=16)
        for text in (path for _, path in self.lines):
            digest.update(os.fsencode(text) + b"\n")
        for text in self.labels:
            digest.update(b"\0" + os.fsencode(text))
        if self.tree is not None:
            digest.update(self.tree.parents.astype("<i4"))
        return digest.hexdigest()
