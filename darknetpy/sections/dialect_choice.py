"""Which fork a .cfg was written for."""
from __future__ import annotations

from typing import TYPE_CHECKING, Optional

from ..cfg import show
from ..dialects import DEFAULT_DIALECT, FORKS, check_dialect
from .model import FORK_NAMES
from .values import find_choice

if TYPE_CHECKING:
    from ..cfg import Section
    from .model import SectionType
    from .resolution import Resolved

_REVISIONS = {0: "pjreddie", 5: "alexeyab"}     # hank-ai writes 5 too, and reads files as AlexeyAB does
_LETTERS = {dialect: letter for letter, dialect in FORKS.items()}


def program(dialect: str) -> str:
    """Return the name of the fork behind a dialect, as people write it."""
    return FORK_NAMES[_LETTERS[dialect]]


def is_foreign(dialect: str, forks: str) -> bool:
    """Tell whether the letters `forks` name other forks but not that of `dialect`."""
    return bool(forks) and "d" not in forks and _LETTERS[dialect] not in forks


def choose_dialect(plan: Resolved, sections: list[Section], kinds: list[SectionType], asked: Optional[str],
                   revision: Optional[int]) -> str:
    """Return the dialect; `plan` takes notes of contradictions.

    Parameters
    ----------
    plan : Resolved
    sections : list of Section
    kinds : list of SectionType
        One per section.
    asked : str or None
        What the caller or [net] says; it decides.
    revision : int or None
        Of the .weights file; it decides next.  Then come keys and words that one fork alone knows.
    """
    if asked is not None:
        return check_dialect(asked)
    evidence = _evidence(sections, kinds)
    if revision in _REVISIONS:
        _note_contradiction(plan, evidence, _REVISIONS[revision], revision)
        return _REVISIONS[revision]
    if len(evidence) == 2:
        (section, key, what), other = evidence["alexeyab"], evidence["pjreddie"][2]
        plan.note(section, key,
                  f"{what} is AlexeyAB's but {other} is pjreddie's; taken as dialect={DEFAULT_DIALECT}")
        return DEFAULT_DIALECT
    return next(iter(evidence), DEFAULT_DIALECT)


def _note_contradiction(plan, evidence, dialect, revision):
    for other, (section, key, what) in evidence.items():
        if other != dialect and dialect not in evidence:
            plan.note(section, key, f"{what} is {program(other)}'s, but the .weights file has revision "
                                    f"{revision}; taken as dialect={dialect}")


def _evidence(sections, kinds):
    """Return by dialect the first (section, key, text) that it alone knows; hank-ai counts as AlexeyAB."""
    found = {}
    for section, kind in zip(sections, kinds):
        for forks, key, what in _marks(section, kind):
            if "d" in forks or not forks:
                continue
            if "p" not in forks:
                found.setdefault("alexeyab", (section, key, what))
            elif forks == "p":
                found.setdefault("pjreddie", (section, key, what))
    return found


def _marks(section, kind):
    """Yield (forks, key, text) of whatever a section holds that not every fork knows."""
    yield kind.forks, None, f"[{kind.name}]"
    for option in section.options.values():
        row = kind.options.get(option.key)
        if row is None:
            continue
        yield row.known_to, option.key, f"{option.key}="
        word = find_choice(row, option.text)
        if word is not None and row.key != "type":      # every dialect here knows every cost type
            yield word.forks, option.key, f"{option.key}={word.name}"
        if kind.name == "shortcut" and option.key == "from" and "," in option.text:
            yield "ah", option.key, f"from={show(option.text)}"
