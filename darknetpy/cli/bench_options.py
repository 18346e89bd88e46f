"""What the benchmarks' commands share."""

from __future__ import annotations

import argparse
import os
import sys

from ..errors import ArgumentError
from ..gpu import open_device, parse_device

DEVICES = "cpu, gpu (NVIDIA's; gpu:1 is the second) and emulated (its kernels on the CPU)"


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


def parts(option, text):
    """Return the parts of a comma-separated list, each once."""
    found = tuple(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))
    if not found:
        raise ArgumentError(f"{option} {text!r}: wanted at least one")
    return found


def names(option, text, known, none=False):
    """Return the names of a list; with `none` the word none stands for an empty one."""
    found = parts(option, text)
    if none and found == ("none",):
        return ()
    for name in found:
        if name not in known:
            raise ArgumentError(f"{option} {name}: wanted {', '.join(known)}{' or none' if none else ''}")
    return found


def devices(text):
    """Return the devices of a list, each of which can be opened."""
    found = parts("--device", text)
    for device in found:
        if parse_device(device)[0] != "cpu":
            open_device(device)
    return found


def thread_counts(text):
    """Return the numbers of threads of a list."""
    from ..core import core

    most = core.lib.DN_MOST_THREADS
    for part in parts("--threads", text):
        if not part.isdecimal() or not 1 <= int(part) <= most:
            raise ArgumentError(f"--threads {part}: wanted integers from 1 to {most}, with commas")
    return tuple(int(part) for part in parts("--threads", text))


def check_output(option, path, endings):
    """Find a file that cannot be written before minutes of measuring, not after."""
    if not path.endswith(endings):
        raise ArgumentError(f"{option} {path}: wanted a name that ends with {' or '.join(endings)}")
    folder = os.path.dirname(path) or "."
    if not os.path.isdir(folder) or not os.access(folder, os.W_OK):
        raise ArgumentError(f"{option} {path}: the folder {folder} is missing or cannot be written")
    if os.path.isdir(path) or os.path.exists(path) and not os.access(path, os.W_OK):
        raise ArgumentError(f"{option} {path}: is a folder, or cannot be written")


def check_plot(path):
    """Refuse a chart that cannot be drawn or written."""
    from ..plots import can_plot

    if path:
        check_output("--plot", path, (".png",))
        if not can_plot():
            raise ArgumentError("--plot: matplotlib is not installed (pip install 'darknetpy-nn[plot]')")
