"""The exceptions of darknetpy: one family, so that ``except DarknetError`` catches every refusal of ours.

Each also derives from the built-in exception a caller would expect (ValueError for a bad input, RuntimeError
for a device, MemoryError for memory).  Errors of the operating system keep their own type and errno.
"""
from __future__ import annotations

from typing import Optional


class DarknetError(Exception):
    """Base of every error that darknetpy raises on purpose."""


class ArgumentError(DarknetError, ValueError):
    """An argument of a function is wrong: type, shape, layout or range."""


class CfgError(DarknetError, ValueError):
    """A .cfg file is wrong.

    Attributes
    ----------
    file : str or None
        Path as given, or ``<string>``.
    line : int or None
        Line number, counted from 1.
    section : str or None
        Section name without brackets.
    key : str or None
        The option concerned.
    """

    def __init__(self, message: str, file: Optional[str] = None, line: Optional[int] = None,
                 section: Optional[str] = None, key: Optional[str] = None) -> None:
        self.file, self.line, self.section, self.key = file, line, section, key
        place = "" if file is None else f"{file}: " if line is None else f"{file}:{line}: "
        where = "" if section is None else f"[{section}] "
        super().__init__(f"{place}{where}{message}")


class WeightsError(DarknetError, ValueError):
    """A .weights or checkpoint file does not fit the network, or is damaged."""


class DataError(DarknetError, ValueError):
    """A data set, image, label or list is wrong."""


class DeviceError(DarknetError, RuntimeError):
    """A GPU or its driver refused."""


class OutOfMemory(DarknetError, MemoryError):
    """Memory was refused by the system, or the plan needs more than there is."""
