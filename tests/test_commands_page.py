"""docs/commands.md: every command of the family has its line, and what it says is here, is."""

from __future__ import annotations

import os
import re

from twin import ROOT

from darknetpy.cli.parser import make_parser

# pjreddie's 35, then AlexeyAB's own, then hank-ai's own.
DARKNET = """average yolo super lsd detector detect cifar go rnn coco classify classifier regressor isegmenter segmenter art tag 3d
test nightmare rgbgr reset denormalize statistics normalize rescale ops speed oneoff oneoff2 print partial visualize mkimg imtest
voxel vid compare dice writing captcha cfglayers help version""".split()


def rows():
    """Return the page's two tables: {Darknet's command: the next cell}."""
    with open(os.path.join(ROOT, "docs", "commands.md")) as file:
        tables = file.read().split("Not here:")
    found = []
    for table in tables:
        lines = re.findall(r"^\| (`.*?) \| (.*?) \|", table, re.M)
        found.append({name: cell for names, cell in lines for name in re.findall(r"`([\w]+)`", names)})
    return found


def test_every_command_of_the_family_has_its_line():
    here, missing = rows()
    assert len(DARKNET) == 44 and sorted([*here, *missing]) == sorted(DARKNET)
    assert all(missing.values())


def test_what_is_here():
    commands = next(action.choices for action in make_parser()._actions if action.choices)
    for name, cell in rows()[0].items():
        for word in re.findall(r"`([a-z]+)", cell):
            assert word in commands or word in ("train", "valid", "predict", "test", "generate"), (name, word)
