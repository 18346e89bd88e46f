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
