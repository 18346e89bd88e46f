"""What a row of the option table is, and the short constructors that the tables are written with."""
from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Callable, Optional

from ..dialects import DIFFERENCES

# Forks are one letter each: p pjreddie, a AlexeyAB, h hank-ai, d darknetpy's own keys.
FORK_NAMES = {"p": "pjreddie", "a": "AlexeyAB", "h": "hank-ai", "d": "darknetpy"}

# Intervals that many rows share.
POSITIVE = "[1, inf)"
NOT_NEGATIVE = "[0, inf)"
ABOVE_ZERO = "(0, inf)"
SHARE = "[0, 1]"


@dataclass(frozen=True)
class Choice:
    """One word that a key of kind ``choice`` accepts.

    Attributes
    ----------
    name, forks, meaning : str
    alias_of : str or None
        The word that this one stands for.
    note : str
        What the user should know when it is chosen.
    """

    name: str
    forks: str = "pah"
    meaning: str = ""
    alias_of: str | None = None
    note: str = ""


@dataclass(frozen=True)
class Derived:
    """A default that follows from other values: `text` for people, `of(values)` for the program."""

    text: str
    of: Callable[[dict], Any] = field(compare=False)


@dataclass(frozen=True)
class PerDialect:
    """A default on which the forks disagree."""

    pjreddie: Any
    alexeyab: Any
    hankai: Any

    @classmethod
    def named(cls, name: str) -> PerDialect:
        """Take the values from the table of dialects."""
        row = DIFFERENCES[name]
        return cls(row.pjreddie, row.alexeyab, row.hankai)


@dataclass(frozen=True)
class Row:
    """One option of one section type.

    Attributes
    ----------
    key : str
    kind : str
        int, float, bool, choice, str, path, int list or float list.
    default : object
        A value, Derived or PerDialect; None means absent.
    forks : str
        Letters of the forks that read the key, see FORK_NAMES; empty: no fork does.
    meaning : str
        One line.
    range : str or None
        Interval notation, ``[0, 1)``; several joined by `` or ``.  Holds for every element of a list.
    unit : str
    choices : tuple of Choice
    effect : str
        ``effect``: acts.  ``fork``: acts in the dialects of the forks that know it.  ``note``: accepted, does
        nothing here, and a note says so.
    reason : str
        Why the key does nothing here; a row with a reason has the effect ``note``.
    required : bool
    unset : int or None
        A value that counts as not written, whatever `range` says.
    zoo : str
        Letters of forks whose published cfgs carry the key although that fork never reads it.
    """

    key: str
    kind: str
    default: Any
    forks: str
    meaning: str
    range: str | None = None
    unit: str = ""
    choices: tuple[Choice, ...] = ()
    effect: str = "effect"
    required: bool = False
    unset: Any = None
    zoo: str = ""
    reason: str = ""

    def __post_init__(self) -> None:
        if self.reason:
            object.__setattr__(self, "effect", "note")

    @property
    def known_to(self) -> str:
        """Letters of the forks in whose cfgs the key is at home."""
        return self.forks + self.zoo

    def default_for(self, dialect: str, values: dict[str, Any]) -> Any:
        """Return the default under `dialect`, given the `values` found so far."""
        if isinstance(self.default, Derived):
            return self.default.of(values)
        if isinstance(self.default, PerDialect):
            return getattr(self.default, dialect)
        return self.default


@dataclass(frozen=True)
class SectionType:
    """One section type: its names, its meaning and its options.

    Attributes
    ----------
    name : str
        Canonical name.
    aliases : tuple of str
        Other names that Darknet takes.
    meaning, forks : str
    options : dict of str to Row
        In the order of the documentation, own keys first, then those of every layer.
    """

    name: str
    meaning: str
    forks: str
    options: dict[str, Row]
    aliases: tuple[str, ...] = ()


# Why a key that Darknet knows has no effect here.
GPU = "Darknet acts on it on a GPU only"
SPEED = "it steers a GPU's speed or memory, not what is computed"
UNUSED = "Darknet reads it and uses it nowhere"
UNREAD = "no fork reads it"
TRACKING = "objects are not followed through videos here"
SHOWN = "it concerns what Darknet shows, not what it computes"
ALONE = "it goes with another key, which is off or without effect"
TRAINING = "training here goes without it; inference does not depend on it"


def integer(key: str, default: Any, forks: str, meaning: str, range: Optional[str] = None,
            **more: Any) -> Row:
    """A row of kind int."""
    return Row(key, "int", default, forks, meaning, range, **more)


def number(key: str, default: Any, forks: str, meaning: str, range: Optional[str] = None, **more: Any) -> Row:
    """A row of kind float."""
    return Row(key, "float", default, forks, meaning, range, **more)


def flag(key: str, default: Any, forks: str, meaning: str, **more: Any) -> Row:
    """A row of kind bool, written 0 or 1."""
    if not isinstance(default, (Derived, PerDialect)):
        default = bool(default)
    return Row(key, "bool", default, forks, meaning, **more)


def choice(key: str, default: Any, forks: str, meaning: str, choices: tuple[Choice, ...], **more: Any) -> Row:
    """A row of kind choice."""
    return Row(key, "choice", default, forks, meaning, choices=choices, **more)


def path(key: str, forks: str, meaning: str, **more: Any) -> Row:
    """A row that names a file."""
    return Row(key, "path", None, forks, meaning, **more)


def integers(key: str, forks: str, meaning: str, range: Optional[str] = None, **more: Any) -> Row:
    """A row of comma-separated integers."""
    return Row(key, "int list", None, forks, meaning, range, **more)


def numbers(key: str, forks: str, meaning: str, range: Optional[str] = None, **more: Any) -> Row:
    """A row of comma-separated numbers."""
    return Row(key, "float list", more.pop("default", None), forks, meaning, range, **more)


def table(*rows: Row) -> dict[str, Row]:
    """Return the rows by key; a key that stands twice is a mistake in the table."""
    by_key = {row.key: row for row in rows}
    if len(by_key) != len(rows):
        raise ValueError("a key stands twice in one table")
    return by_key
