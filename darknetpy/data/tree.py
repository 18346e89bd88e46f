"""Class hierarchies: a tree whose siblings share one softmax (YOLO9000, arXiv:1612.08242, section 4)."""

from __future__ import annotations

import os
from dataclasses import dataclass

import numpy as np

from .._types import Floats, Path
from ..errors import DataError
from .datafile import read_lines

SECRET_NUM = -1234.0  # truth of a group that an image says nothing about; Darknet's number


@dataclass(frozen=True)
class Tree:
    """A hierarchy of classes, parents before children.

    Attributes
    ----------
    names : list of str
    parents : ndarray of int32, (classes,)
        Number of each class's parent; -1 for a root.
    group_offsets, group_sizes : ndarray of int32, (groups,)
        Each group of siblings: its first class, and how many there are.
    """

    names: list[str]
    parents: np.ndarray
    group_offsets: np.ndarray
    group_sizes: np.ndarray

    def ancestors(self, label: int) -> list[int]:
        """Return `label` and all classes above it, the root last."""
        path = []
        while label >= 0:
            path.append(int(label))
            label = self.parents[label]
        return path

    def truth(self, label: int) -> Floats:
        """Return the truth of an image of class `label`: 1 for it and its ancestors, SECRET_NUM in groups off
        its path.

        Returns
        -------
        ndarray of float32, (classes,)
        """
        truth = np.zeros(len(self.names), np.float32)
        truth[self.ancestors(label)] = 1
        for start, size in zip(self.group_offsets, self.group_sizes):
            group = truth[start : start + size]
            if not group.any():
                group[:] = SECRET_NUM
        return truth


def read_tree(path: Path) -> Tree:
    """Read a hierarchy file: lines of ``name parent``, the parent being the number of an earlier line (from
    0), -1 for roots.

    Raises
    ------
    DataError
        A line of another form, a parent that does not stand before its child, or siblings that do not stand
        together.
    """
    path = os.fsdecode(path)
    lines = read_lines(path)
    while lines and not lines[-1]:
        lines.pop()
    if not lines:
        raise DataError(f"{path}: expected lines of 'name parent', got an empty file")
    names, parents, starts = [], [], {}
    for number, line in enumerate(lines):
        words = line.split()
        parent = _parent(words[1]) if len(words) == 2 else None
        if parent is None or not -1 <= parent < number:
            raise DataError(
                f"{path}:{number + 1}: expected 'name parent' with a parent from -1 to {number - 1}, "
                f"got {line[:60]!r}"
            )
        if not parents or parent != parents[-1]:
            if parent in starts:
                raise DataError(
                    f"{path}:{number + 1}: the children of {parent} must stand together; "
                    f"others began at line {starts[parent] + 1}"
                )
            starts[parent] = number
        names.append(words[0])
        parents.append(parent)
    offsets = np.array(sorted(starts.values()), np.int32)
    sizes = np.diff(np.append(offsets, len(names))).astype(np.int32)
    return Tree(names, np.array(parents, np.int32), offsets, sizes)


def _parent(text):
    """Return the number written in `text`, None if it is none."""
    digits = text[1:] if text[:1] == "-" else text
    return int(text) if digits.isascii() and digits.isdigit() and len(digits) < 10 else None
