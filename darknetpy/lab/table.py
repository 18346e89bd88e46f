"""What an experiment measured: a list of rows, dicts with the same keys; grouped, averaged, written."""

from __future__ import annotations

import csv
import io

import numpy as np

from darknetpy.files import write_atomically


def groups(rows, *keys):
    """Return a dict of the values of `keys` (of one key: its value alone) -> the rows with them, in order."""
    found = {}
    for row in rows:
        value = row[keys[0]] if len(keys) == 1 else tuple(row[key] for key in keys)
        found.setdefault(value, []).append(row)
    return found


def final(rows, *keys):
    """Return the last row of every run, a run being told from the others by `keys` and its seed."""
    return [run[-1] for run in groups(rows, *keys, "seed").values()]


def mean(rows, key):
    """Return the mean of a column."""
    return float(np.mean([row[key] for row in rows]))


def averages(rows, keys, values):
    """Return one row for each combination of `keys`: the means of the columns `values` over the seeds.

    With several seeds there is also the standard deviation of the accuracy over them.
    """
    found, several = [], len(groups(rows, "seed")) > 1
    for same in groups(rows, *keys).values():
        found.append(
            {**{key: same[0][key] for key in keys}, **{value: mean(same, value) for value in values}}
        )
        if several and "accuracy" in values:
            found[-1]["accuracy_sd"] = round(float(np.std([row["accuracy"] for row in same], ddof=1)), 12)
    return found


def write_csv(rows, path):
    """Write the rows, whole or not at all.

    Raises
    ------
    OSError
        The file cannot be written.
    """
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows({key: _number(value) for key, value in row.items()} for row in rows)
    write_atomically(path, [text.getvalue().encode()])


def text_table(rows):
    """Return the rows as columns for a terminal."""
    cells = [list(rows[0]), *([_number(value, 4) for value in row.values()] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*cells)]
    left = [isinstance(value, str) for value in rows[0].values()]
    lines = [
        "  ".join(
            cell.ljust(width) if first else cell.rjust(width)
            for cell, width, first in zip(line, widths, left)
        ).rstrip()
        for line in cells
    ]
    return "\n".join([lines[0], "-" * max(map(len, lines)), *lines[1:]])


def _number(value, digits=7):
    return f"{value:.{digits}g}" if isinstance(value, float) else str(value)
