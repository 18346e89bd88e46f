"""Text to learn: bytes that follow each other, read by several sequences side by side."""

from __future__ import annotations

import hashlib
import os
import sys
from pathlib import Path
from typing import NamedTuple, Optional

import numpy as np

from .._types import Floats, Integers
from .._types import Path as StrPath
from ..errors import DataError
from ..files import read_regular_file

CHARACTERS = 256  # values of a byte: what a network of text reads and tells
EMBEDDED_TEXT = Path(__file__).parent / "text" / "sherlock-holmes.txt"
MOST_BYTES = 1 << 31
_HELD_OUT = 10  # one part in so many, the last, is not trained on


class TextBatch(NamedTuple):
    """Rows for one pass, row t * sequences + s being sequence s at time step t.

    Attributes
    ----------
    x : ndarray of float32, (rows, 256)
        The characters, one-hot.
    truth : ndarray of int64, (rows,)
        The characters that follow them.
    """

    x: Floats
    truth: Integers


class Text:
    """A text as the bytes it consists of.

    Parameters
    ----------
    name : str
        Where it comes from, for messages.
    characters : bytes
    """

    def __init__(self, name: str, characters: bytes) -> None:
        self.name, self.characters = name, np.frombuffer(characters, np.uint8)

    def __len__(self) -> int:
        return len(self.characters)

    def identity(self) -> str:
        """Return a short digest; equal where the characters are."""
        return hashlib.sha256(self.characters).hexdigest()[:16]

    def batch(self, place: int, steps: int, sequences: int) -> TextBatch:
        """Return the next `steps` characters of each of `sequences` sequences, which have read `place` each.

        The sequences begin at equal distances; behind the last character comes the first.
        """
        begin = np.arange(sequences) * len(self) // sequences
        at = (begin + place + np.arange(steps)[:, None]).ravel() % len(self)
        return TextBatch(one_hot(self.characters[at]), self.characters[(at + 1) % len(self)].astype(np.int64))


def one_hot(characters: Integers) -> Floats:
    """Return a row of 256 values for each character: 1 at its number, else 0."""
    rows = np.zeros((len(characters), CHARACTERS), np.float32)
    rows[np.arange(len(characters)), characters] = 1
    return rows


class TextSource:
    """The texts of one run.

    Attributes
    ----------
    name : str
    train : Text
    valid : Text or None
        What is measured on and not trained on: a text of its own, else the last tenth of the one text, None
        if that is less than two characters.
    backup : str
        Folder for weights and checkpoints.
    notes : list of str
    """

    def __init__(self, name: str, text: Text, valid: Optional[Text] = None) -> None:
        self.name, self.backup, self.notes = name, "backup", []
        self.train, self.valid = (text, valid) if valid else split(text)
        if self.valid is None:
            self.notes.append(f"{name}: too short to hold a tenth of it out: nothing is measured")


def split(text: Text) -> tuple[Text, Optional[Text]]:
    """Return the text but for its last tenth, and that tenth; the whole text and None if it is too short."""
    held_out = len(text) // _HELD_OUT
    if held_out < 2:
        return text, None
    parts = text.characters[:-held_out].tobytes(), text.characters[-held_out:].tobytes()
    return Text(text.name, parts[0]), Text(f"{text.name}, last tenth", parts[1])


def read_text(path: StrPath) -> Text:
    """Read a text.

    Parameters
    ----------
    path : str or os.PathLike
        A file of any encoding; ``text:``, the embedded stories of Sherlock Holmes; ``-``, standard input.

    Raises
    ------
    DataError
        It holds less than two characters, or more than 2^31.
    OSError
        The file is missing or unreadable.
    """
    name = os.fspath(path)
    if name == "-":
        name, characters = "standard input", sys.stdin.buffer.read(MOST_BYTES + 1)
    else:
        characters = read_regular_file(EMBEDDED_TEXT if name == "text:" else name, MOST_BYTES)
    if not 2 <= len(characters) <= MOST_BYTES:
        size = "empty" if not characters else f"{len(characters)} characters"
        raise DataError(f"{name}: {size}: wanted 2 to {MOST_BYTES} characters")
    return Text(name, characters)
