"""What the benchmarks' commands share."""

from __future__ import annotations

import argparse
import os
import sys

from ..errors import ArgumentError


def seconds(text):
    """Seconds above 0, for argparse."""
    try:
        number = float(text)
    except ValueError:
        number = 0
    if not 0 < number < 1e6:
        raise argparse.ArgumentTypeError(f"{text!r}: wanted seconds above 0")
    return number


def progress_line(subject):
    """Return a function that shows what goes on, on one line of the terminal; silent elsewhere."""

    def show(what):
        if sys.stderr.isatty():
            print(f"\r\033[K{subject}: {what}\r", end="", file=sys.stderr, flush=True)

    return show


def check_output(option, path, endings):
    """Find a file that cannot be written before minutes of measuring, not after."""
    if not path.endswith(endings):
        raise ArgumentError(f"{option} {path}: wanted a name that ends with {' or '.join(endings)}")
    folder = os.path.dirname(path) or "."
    if not os.path.isdir(folder) or not os.access(folder, os.W_OK):
        raise ArgumentError(f"{option} {path}: the folder {folder} is missing or cannot be written")
