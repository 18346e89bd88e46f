"""From the text of an option to its value: strict, so that no misprint becomes a zero."""
from __future__ import annotations

import re
import struct
from functools import cache
from typing import TYPE_CHECKING, Any, Optional

from ..cfg import show
from .suggest import did_you_mean

if TYPE_CHECKING:
    from .model import Choice, Row

INT_MAX = 2**31 - 1             # the C core counts in 32-bit ints
SEED_RANGE = "[0, 2^64)"        # the one integer that is wider
_FLOAT_MIN, _FLOAT_MAX = 1.1754943508222875e-38, 3.4028234663852886e38      # normal float32 numbers
_INTEGER = re.compile(r"[+-]?[0-9]{1,40}")
_NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]{1,9})?")


@cache
def intervals(text: str) -> tuple[tuple[float, bool, float, bool], ...]:
    """Return ``[1, 5) or [7, inf)`` as a tuple of (low, low is open, high, high is open)."""
    parsed = []
    for part in text.split(" or "):
        low, high = part[1:-1].split(", ")
        parsed.append((_bound(low), part[0] == "(", _bound(high), part[-1] == ")"))
    return tuple(parsed)


def _bound(text):
    base, power, exponent = text.partition("^")
    return int(base) ** int(exponent) if power else float(text)


def in_range(value: float, text: str) -> bool:
    """Tell whether `value` lies in the intervals of `text`."""
    for low, low_open, high, high_open in intervals(text):
        above = value > low if low_open else value >= low
        below = value < high if high_open else value <= high
        if above and below:
            return True
    return False


def parse_value(row: Row, text: str) -> Any:
    """Return the value of `text` for one row of the option table.

    Returns
    -------
    int, float, bool, str or list
        Choices come out under their canonical name.

    Raises
    ------
    ValueError
        The text is no such value; the message says what was wanted.
    """
    if text == str(row.unset):
        return row.unset
    if row.kind.endswith(" list"):
        return [_parse_number(row, part) for part in text.split(",")]
    if row.kind in ("int", "float"):
        return _parse_number(row, text)
    if row.kind == "bool":
        return _parse_bool(text)
    if row.kind == "choice":
        return _parse_choice(row, text)
    return text


def wanted(row: Row) -> str:
    """Say in words what a row accepts, such as ``an integer in [1, 2147483647]``."""
    names = {"int": "an integer", "float": "a number", "bool": "0 or 1", "str": "text", "path": "a file name",
             "int list": "integers separated by commas", "float list": "numbers separated by commas"}
    if row.kind == "choice":
        return "one of " + ", ".join(c.name for c in row.choices)
    return names[row.kind] + (f" in {row.range}" if row.range else "")


def _parse_number(row, text):
    whole = row.kind.startswith("int")
    if not (_INTEGER if whole else _NUMBER).fullmatch(text):
        got = f", got {show(text)}" if row.kind.endswith("list") else ""
        raise ValueError(f"wanted {wanted(row)}{got}")
    return check_number(row, int(text) if whole else float(text))


def check_number(row: Row, value: float) -> float:
    """Return `value` if a row of numbers accepts it, else raise a ValueError that says what was wanted."""
    whole = row.kind.startswith("int")
    if whole and value != int(value):
        raise ValueError(f"wanted {wanted(row)}")
    if whole and abs(value) > INT_MAX and row.range != SEED_RANGE:
        raise ValueError(f"too large; wanted {wanted(row)}, at most {INT_MAX}")
    # The C core sees a float32: .99999999999 is 1 there, and 1e-50 is 0.
    seen = value if whole else _as_float32(value)
    if row.range and not in_range(seen, row.range):
        raise ValueError(f"out of range; wanted {wanted(row)}")
    return value


def _as_float32(value):
    if abs(value) > _FLOAT_MAX:
        raise ValueError("too large for a 32-bit float")
    if 0 < abs(value) < _FLOAT_MIN:
        raise ValueError("too small for a 32-bit float")
    return struct.unpack("f", struct.pack("f", value))[0]


def _parse_bool(text):
    if text not in ("0", "1"):
        raise ValueError("wanted 0 or 1")
    return text == "1"


def _parse_choice(row, text):
    for entry in row.choices:
        if entry.name == text:
            return entry.alias_of or entry.name
    names = [entry.name for entry in row.choices]
    raise ValueError(f"unknown{did_you_mean(text, names) or ';'} wanted {wanted(row)}")


def find_choice(row: Row, text: str) -> Optional[Choice]:
    """Return the Choice written as `text`, or None."""
    return next((entry for entry in row.choices if entry.name == text), None)


def format_value(value: Any) -> str:
    """Return the text of a value as a .cfg has it."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(int(value))
    if isinstance(value, (list, tuple)):
        return ",".join(map(format_value, value))
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e6:
        return str(int(value))
    return str(value)       # of a float: the shortest text that reads back as the same number
