"""What is measured: a .cfg with its batch, input size and learning rate set, as text that every program reads."""
from __future__ import annotations

import os
import re

from darknetpy.cfg import Option, format_cfg, parse_cfg
from darknetpy.errors import ArgumentError
from darknetpy.paths import find_cfg
from darknetpy.sections import resolve

# Small steps on one mini-batch: the loss stays finite in every program, and the policies' differences stay out.
_LEARNING_RATE = "0.0001"
_LEFT_OUT = ("policy", "burn_in", "steps", "scales", "step", "scale", "gamma", "power", "adam")


def prepare_cfg(path, folder, *, batch=None, size=None):
    """Write a copy of a .cfg for a benchmark into `folder`.

    Parameters
    ----------
    path : str
        A .cfg, or the bare name of one that comes with the package.
    folder : str
    batch : int, optional
        Rows of one step; None: the cfg's batch / subdivisions.
    size : (int, int), optional
        Width and height of the input; None: the cfg's.

    Returns
    -------
    (str, int)
        Path of the copy, and the batch.

    Raises
    ------
    CfgError, OSError
        The .cfg is wrong, or cannot be read.
    """
    sections = parse_cfg(find_cfg(path))
    resolve(sections, lenient=True)         # a mistake is named here, with the user's file and line
    net = sections[0].options
    rows = batch or max(_number(net, "batch", 1) // max(_number(net, "subdivisions", 1), 1), 1)
    for key in _LEFT_OUT:
        net.pop(key, None)
    changes = {"batch": rows, "subdivisions": 1, "learning_rate": _LEARNING_RATE}
    if size:
        changes.update(width=size[0], height=size[1])
    net.update({key: Option(key, str(value)) for key, value in changes.items()})
    copy = os.path.join(folder, os.path.basename(path))
    with open(copy, "w", encoding="utf-8", errors="surrogateescape") as file:
        file.write(format_cfg(sections))
    return copy, rows


def _number(options, key, default):
    text = options[key].text if key in options else str(default)
    return int(text) if text.isdigit() else default     # the real reader says what is wrong with it


def parse_subject(text):
    """Return (path, batch, size) of ``CFG``, ``CFG@SIZE``, ``CFG:BATCH`` or ``CFG:BATCH@SIZE``; SIZE is W or WxH."""
    match = re.fullmatch(r"(?P<cfg>.+?)(:(?P<batch>\d+))?(@(?P<size>\d+(x\d+)?))?", text)
    if not match or match["batch"] and not 1 <= int(match["batch"]) < 2**31:
        raise ArgumentError(f"{text!r}: wanted CFG, or CFG:BATCH@SIZE such as tiny.cfg:8@224")
    batch = int(match["batch"]) if match["batch"] else None
    return match["cfg"], batch, parse_size(match["size"])


def parse_size(text):
    """Return (width, height) of ``"224"`` or ``"320x224"``; None for None."""
    if text is None:
        return None
    if not re.fullmatch(r"[1-9]\d*(x[1-9]\d*)?", text):
        raise ArgumentError(f"size {text!r}: wanted WIDTH or WIDTHxHEIGHT, such as 224 or 320x224")
    width, _, height = text.partition("x")
    return int(width), int(height or width)
