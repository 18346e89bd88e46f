"""Did you mean ...?  The known names nearest to a mistyped one."""
from __future__ import annotations

import difflib
from collections.abc import Iterable

_LONGEST = 64       # no known name is longer; a line of a megabyte gets no suggestion
_TYPOS = 2          # insertions, deletions, replacements and swaps that still look like a slip of the finger


def suggest(word: str, known: Iterable[str], most: int = 3) -> list[str]:
    """Return up to `most` names: all at the smallest number of typing errors, else what difflib finds alike.

    Names at one distance are all of interest: ``strid_`` may mean ``stride``, ``stride_x`` or ``stride_y``.
    """
    if len(word) > _LONGEST:
        return []
    distances = {name: edit_distance(word.lower(), name.lower()) for name in known}
    nearest = min(distances.values(), default=_TYPOS + 1)
    if nearest <= min(_TYPOS, max(1, len(word) // 2)):
        alike = [name for name, distance in distances.items() if distance == nearest]
        return difflib.get_close_matches(word, alike, most, cutoff=0)
    return difflib.get_close_matches(word, list(known), 1, cutoff=.6)


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return ``; did you mean 'x' or 'y'?`` or, where nothing is near, an empty string."""
    names = suggest(word, known)
    return f"; did you mean {' or '.join(map(repr, names))}?" if names else ""


def edit_distance(a: str, b: str) -> int:
    """Return how many insertions, deletions, replacements and swaps of neighbours turn `a` into `b`.

    The optimal string alignment distance, row by row; see F. J. Damerau, CACM 7(3), 1964.
    """
    before: list[int] = []
    last = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        row = [i]
        for j, y in enumerate(b, 1):
            cost = min(last[j] + 1, row[j - 1] + 1, last[j - 1] + (x != y))
            if i > 1 and j > 1 and x == b[j - 2] and a[i - 2] == y:
                cost = min(cost, before[j - 2] + 1)
            row.append(cost)
        before, last = last, row
    return last[-1]
