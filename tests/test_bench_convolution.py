"""The benchmark of convolutions: that it runs, counts right and refuses what it cannot; never how fast."""

from __future__ import annotations

import argparse
import importlib.util
import json

import pytest

from darknetpy.bench import convolutions
from darknetpy.cli import bench as command
from darknetpy.errors import ArgumentError, DarknetError

HAS_TORCH = importlib.util.find_spec("torch") is not None
SHAPE = "2x4x7x6-6k3s2g2"


def run_command(*words):
    parser = argparse.ArgumentParser()
    command.add_parser(parser.add_subparsers())
    args = parser.parse_args(["bench", "convolution", "--rounds", "2", "--seconds", ".0001", *words])
    return args.run(args)


def test_shapes_say_what_is_measured():
    sizes = convolutions.parse_shape(SHAPE)
    assert sizes == dict(batch=2, c=4, h=7, w=6, n=6, size=3, stride=2, groups=2, dilation=1)
    assert convolutions.flops(sizes) == 2 * (2 * 6 * 4 * 3) * (2 * 9)
    assert convolutions.parse_shape("1x2x3x4-5k1d2")["dilation"] == 2
    every = [shape for text in convolutions.CLASSES.values() for shape in text.split()]
    assert len(every) == len(set(every)) and all(map(convolutions.parse_shape, every))


@pytest.mark.parametrize(
    "words, message",
    [
        (["--shapes", "4x4"], "4x4: wanted BATCHxCxHxW-FILTERSkSIZE"),
        (["--shapes", "1x2x3x0-4k3"], "wanted BATCHxCxHxW-FILTERSkSIZE"),
        (["--shapes", "1x2x3x3-4k2"], "wanted an odd size, and groups that divide"),
        (["--shapes", "1x3x3x3-4k3g2"], "wanted an odd size, and groups that divide"),
        (["--classes", "3x3;7x7"], "--classes 7x7: wanted first layer; 3x3 by 2"),
        (["--threads", "0"], "--threads 0: wanted integers"),
        (["--peers", "darknet"], "--peers darknet: wanted torch-best, gemm or none"),
        (["--output", "x.txt"], "wanted a name that ends with .md"),
    ],
)
def test_wrong_options_are_refused_before_anything_runs(words, message, monkeypatch):
    monkeypatch.setattr(convolutions, "compare", lambda *_, **__: pytest.fail("it ran"))
    with pytest.raises(ArgumentError, match=message):
        run_command(*words)


@pytest.mark.skipif(not HAS_TORCH, reason="torch is not installed")
def test_torch_computes_the_same():
    shapes = (SHAPE, "1x6x5x5-6k3g6", "1x3x8x8-4k7s2", "2x3x9x8-5k3d2")
    rows, facts, notes = convolutions.compare(convolutions.Settings(shapes, (1, 2), rounds=2, seconds=1e-4))
    assert len(rows) == len(shapes) * 3 * 2 and not notes and "PyTorch" in facts["torch-best"]["program"]
    for row in rows:
        assert {len(times) for times in row.seconds.values()} == {2} and len(row.seconds) == 3
        best, times = row.peer()
        assert best.startswith("torch-best, ") and row.ratios() == [a / b for a, b in zip(times, row.ours())]


@pytest.mark.skipif(not HAS_TORCH, reason="torch is not installed")
def test_one_pixel_is_a_connected_layer():
    rows, _, _ = convolutions.compare(convolutions.Settings(("5x7x1x1-6k1",), (1,), rounds=2, seconds=1e-4))
    assert [(row.name, sorted(row.seconds)) for row in rows] == [(p, ["darknetpy", "torch-best"]) for p in convolutions.PASSES]


def test_gemm_is_another_algorithm_with_the_same_results(monkeypatch):
    norms = {}
    monkeypatch.setattr(convolutions, "_compare_numbers", lambda shape, made: norms.update(made))
    settings = convolutions.Settings(("2x16x24x24-32k3",), (1,), peers=("gemm",), rounds=2, seconds=1e-4)
    rows, facts, notes = convolutions.compare(settings)
    assert not notes and facts["gemm"]["program"] == "darknetpy, convolution=gemm"
    assert {row.peer()[0] for row in rows} == {"gemm"}
    ours, gemm = (norms[name]["norms"] for name in ("darknetpy", "gemm"))
    assert ours == pytest.approx(gemm, rel=1e-4) and ours != gemm, "Winograd's rounding differs"


def test_other_numbers_are_noticed():
    same = {"darknetpy": {"norms": {"data": 2.0}}, "torch-best": {"norms": {"data": 2.001}}}
    convolutions._compare_numbers(SHAPE, same)
    with pytest.raises(DarknetError, match="data: the result's norm is 2, torch-best's 2.01"):
        convolutions._compare_numbers(SHAPE, {**same, "torch-best": {"norms": {"data": 2.01}}})


def test_command_writes_json_and_a_page(tmp_path, capsys):
    paths = [str(tmp_path / name) for name in ("x.json", "x.md")]
    words = ["--shapes", SHAPE, "--peers", "none", "--threads", "1"]
    assert run_command(*words, "--json", paths[0], "--output", paths[1]) == 0
    out = capsys.readouterr().out
    assert SHAPE in out and "class" not in out
    with open(paths[0]) as file:
        record = json.load(file)
    assert [row["name"] for row in record["rows"]] == ["forward", "data", "weights"]
    with open(paths[1]) as file:
        page = file.read()
    assert "| class |" not in page and "least" not in page, "there is nobody to compare with"
    assert "## others" in page and f"--shapes {SHAPE}" in page and "SIMD level" in page
