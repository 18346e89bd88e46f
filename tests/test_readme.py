"""The README's Python runs as it stands, and names files and commands that exist."""
from __future__ import annotations

import pathlib
import re

import numpy as np
import pytest

README = (pathlib.Path(__file__).parent.parent / "README.md").read_text()
NAMED = sorted(set(re.findall(r"`((?:csrc|darknetpy|cfg|docs|tests)/[\w./*-]*)`", README)) - {"csrc/foo_layer.c"})   # an example


def test_python_blocks_run(tmp_path, monkeypatch, capsys, rng):
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", README, re.S)
    names = {"images": rng.random((128, 784), np.float32), "labels": rng.integers(0, 10, 128)}
    for block in blocks:
        exec(compile(block, "README.md", "exec"), names)
    assert len(blocks) == 3 and (tmp_path / "scene.png").exists()
    assert (tmp_path / "my.weights").exists() and names["net"].layers[0].type == "convolutional"
    assert np.isfinite(names["loss"]) and names["probabilities"].shape == (128, 10)
    assert "[convolutional]" in capsys.readouterr().out


@pytest.mark.parametrize("path", NAMED)
def test_named_files_exist(path):
    root = pathlib.Path(__file__).parent.parent
    assert list(root.glob(path.rstrip("/"))), path


def test_commands_exist():
    from darknetpy.cli.parser import make_parser

    parser = make_parser()
    for line in re.findall(r"^darknetpy ([^#\n]*)", README, re.M):
        parser.parse_args(line.split())
