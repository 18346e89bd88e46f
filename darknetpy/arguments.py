"""Checks of arguments that several functions share."""
from __future__ import annotations

import numpy as np

from darknetpy.errors import ArgumentError


def require_integers(**values):
    """Raise ArgumentError unless every value is an integer that the core can hold."""
    for name, value in values.items():
        if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or not -2**31 <= value < 2**31:
            raise ArgumentError(f"{name}={value!r}: wanted an integer of 32 bits")


def require_number(name, value):
    """Return `value` as a float, or raise ArgumentError."""
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        raise ArgumentError(f"{name}={value!r}: wanted a number") from None


def finite_number(name, value):
    """Return `value` as a finite float, or raise ArgumentError."""
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        number = np.nan
    if not np.isfinite(number):
        raise ArgumentError(f"{name}={value!r}: wanted a finite number")
    return number


def whole_number(name, value):
    """Return a count of 64 bits, or raise ArgumentError."""
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or not 0 <= value < 2**64:
        raise ArgumentError(f"{name}={value!r}: wanted an integer from 0 to {2**64 - 1}")
    return int(value)


def positive_number(name, value):
    """Return an integer above 0 that the core can hold, or raise ArgumentError."""
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or not 1 <= value < 2**31:
        raise ArgumentError(f"{name}={value!r}: wanted a positive integer of 32 bits")
    return int(value)
