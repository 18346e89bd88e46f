"""Darknet's .data file and the plain lists it names: text in, paths and names out."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Optional

from .._types import Path as StrPath
from ..errors import DataError
from ..files import read_regular_file
from ..sections.suggest import did_you_mean

MAX_LIST_BYTES = 1 << 30  # of a list of images: ten million long paths
MAX_DATA_BYTES = 1 << 20  # of a .data file
# Darknet's imagenet.*.list name all the synsets of ImageNet; its networks learn the first 1,000
# (classes=1000).
IMAGENET_SYNSETS = 21842

KEYS = {
    "classes": "number of classes; by default as many as there are labels",
    "train": "training images: a list file, or packed arrays (IDX, .npz, CIFAR .bin)",
    "valid": "validation images, likewise",
    "test": "images without labels, likewise",
    "train_labels": "label file of packed training images, where its name does not follow from theirs",
    "valid_labels": "the same for validation",
    "test_labels": "the same for test",
    "labels": "what to look for in an image's path to find its class, one per line",
    "names": "what to call the classes, one per line; by default the labels",
    "tree": "class hierarchy, lines of 'name parent'",
    "backup": "folder for weights and checkpoints",
    "top": "how many best classes to count as a hit, and to print",
    "results": "folder for results",
    "eval": "format of results",
    "leaves": "",
    "tag": "",
    "map": "",
    "saveweights": "",
    "savelast": "",
    "difficult": "",
    "inputs": "",
}


@dataclass
class DataFile:
    """The options of a .data file.

    Attributes
    ----------
    path : str
        As given.
    options : dict of str to (str, int)
        Value and line number of each key.
    notes : list of str
        Keys that nobody knows, each with file:line.
    """

    path: str
    options: dict[str, tuple[str, int]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def get(self, key: str, default: Optional[str] = None) -> Optional[str]:
        """Return the text of `key`, or `default`."""
        return self.options[key][0] if key in self.options else default

    def error(self, key: str, message: object) -> DataError:
        """Return a DataError at the line of `key`, or at the file where it is not written."""
        place = f"{self.path}:{self.options[key][1]}" if key in self.options else self.path
        return DataError(f"{place}: {key}: {message}")

    def integer(
        self, key: str, default: Optional[int] = None, low: int = 1, high: int = 1 << 30
    ) -> Optional[int]:
        """Return the whole number of `key`, low..high."""
        text = self.get(key)
        if text is None:
            return default
        if not (text.isascii() and text.isdigit() and low <= int(text[:12]) <= high):
            raise self.error(key, f"expected a whole number from {low} to {high}, got {text[:40]!r}")
        return int(text)

    def file(self, key: str) -> Optional[str]:
        """Return the path of the one file that `key` names, found from here or from the .data file; None
        without the key.
        """
        text = self.get(key)
        return None if text is None else find_file(text, [os.path.dirname(self.path)])

    def files(self, key: str) -> list[str]:
        """Return the paths that `key` names, found likewise: one, or several packed files with commas
        between; [] without it.
        """
        text = self.get(key)
        if text is None:
            return []
        parts = [part.strip() for part in text.split(",")]
        if not all(map(is_packed, parts)):
            parts = [text]  # a list's own name may hold commas
        return [find_file(part, [os.path.dirname(self.path)]) for part in parts]


def find_file(path: str, folders: Iterable[str]) -> str:
    """Return `path` if it exists as given (so Darknet reads it), else under the first of `folders` where it
    does, else `path`.
    """
    if not os.path.isabs(path) and not os.path.exists(path):
        for folder in folders:
            candidate = os.path.join(folder, path)
            if os.path.exists(candidate):
                return candidate
    return path


def is_packed(path: StrPath) -> bool:
    """Whether the name of a file says that it holds packed images."""
    name = os.path.basename(os.fspath(path)).lower()
    for ending in (".gz", ".xz"):
        name = name[:-3] if name.endswith(ending) else name
    return name.endswith((".npz", ".bin")) or "-ubyte" in name or name.endswith((".idx", ".idx3"))


def read_bytes(path: StrPath, limit: int) -> bytes:
    """Return the bytes of a regular file; OSError, or DataError if there are more than `limit`."""
    size = os.stat(path).st_size
    if size > limit:
        raise DataError(f"{path}: has {size} bytes; at most {limit} are allowed")
    return read_regular_file(path, limit)


def read_lines(path: StrPath, limit: int = MAX_LIST_BYTES) -> list[str]:
    """Return the lines of a text file without blanks at their ends; file names of any encoding survive.

    Raises
    ------
    DataError
        The file holds a NUL byte, so it is not a text.
    OSError
        It cannot be read, or is no regular file.
    """
    raw = read_bytes(path, limit)
    if b"\0" in raw:
        line = raw.count(b"\n", 0, raw.index(b"\0")) + 1
        raise DataError(f"{path}:{line}: expected text, got a NUL byte (a binary file?)")
    if raw.startswith(b"\xef\xbb\xbf"):
        raw = raw[3:]
    return [os.fsdecode(line).strip() for line in raw.replace(b"\r\n", b"\n").split(b"\n")]


def read_data_file(path: StrPath) -> DataFile:
    """Read a .data file: lines of ``key = value``; ``#`` and ``;`` begin a comment line.

    Raises
    ------
    DataError
        A line without ``=`` or value, a key twice, or a key that is a misspelling of a known one.
    """
    path = os.fsdecode(path)
    data = DataFile(path)
    for number, line in enumerate(read_lines(path, MAX_DATA_BYTES), start=1):
        if not line or line[0] in "#;":
            continue
        key, equals, value = (part.strip() for part in line.partition("="))
        if not equals or not key or not value:
            raise DataError(f"{path}:{number}: expected 'key = value', got {line[:60]!r}")
        if key in data.options:
            raise DataError(f"{path}:{number}: {key} was already set in line {data.options[key][1]}")
        if key not in KEYS:
            suggestion = did_you_mean(key, KEYS)
            if suggestion:
                raise DataError(f"{path}:{number}: unknown key {key[:40]!r}{suggestion}")
            data.notes.append(f"{path}:{number}: {key[:40]!r} is no key of Darknet's; it has no effect")
        data.options[key] = (value, number)
    return data


def read_names(path: StrPath) -> list[str]:
    """Return the non-empty lines of a names or labels file; an empty line before the last name is an
    error.
    """
    lines = read_lines(path)
    while lines and not lines[-1]:
        lines.pop()
    if not lines:
        raise DataError(f"{path}: expected one name per line, got an empty file")
    if "" in lines:
        raise DataError(f"{path}:{lines.index('') + 1}: expected a name, got an empty line")
    return lines


def agree(path: StrPath, names: list[str], classes: int) -> list[str]:
    """Check that a names or labels file has one line per class; returns the `classes` names."""
    if len(names) != classes and not (len(names) == IMAGENET_SYNSETS and classes < IMAGENET_SYNSETS):
        raise DataError(
            f"{path}: expected {classes} lines, one for each of classes={classes}, got {len(names)}"
        )
    return names[:classes]


def ensure_backup(folder: StrPath, what: str = "backup folder") -> None:
    """Make sure that files can be saved in `folder`, which messages call `what`: create it if need be, write and remove a file.

    Raises
    ------
    DataError
        It cannot be made or written; found before a run, not after hours of it.
    """
    probe = Path(folder) / f".darknetpy-{os.getpid()}"
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
        probe.write_bytes(b"x")
        probe.unlink()
    except OSError as error:
        raise DataError(
            f"{what} {os.fspath(folder)!r} cannot be written: {error.strerror or error}"
        ) from error
