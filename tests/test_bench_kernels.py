"""The benchmark of kernels: that it runs, counts right and says what it could not do; never how fast."""

from __future__ import annotations

import argparse
import importlib.util
import json
import os

import numpy as np
import pytest
from kernel_calls import KERNELS

import darknetpy as dn
from darknetpy import plots
from darknetpy.bench import exact, forms, kernels, kernels_report, process, worker
from darknetpy.cli import bench as command
from darknetpy.core import core
from darknetpy.errors import ArgumentError

HAS_TORCH = importlib.util.find_spec("torch") is not None
HAS_DARKNET = process.missing("darknet") is None
BUILT = tuple(layer for layer in forms.LAYERS if hasattr(dn, f"make_{layer}_layer"))
SHAPE = (3, 4, 5, 6)


def settings(**changes):
    return kernels.Settings(
        **{"shapes": (SHAPE,), "threads": (1,), "rounds": 1, "seconds": 1e-4, "peers": (), **changes}
    )


def run_command(*words):
    parser = argparse.ArgumentParser()
    command.add_parser(parser.add_subparsers())
    args = parser.parse_args(["bench", "kernels", "--rounds", "1", "--seconds", ".0001", *words])
    return args.run(args)


# ---- what is counted
def test_streams_copy_read_and_clear(any_threads):
    size = 3 * core.lib.DN_STREAM_PART
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 2**63, size // 8, np.uint64), np.empty(size // 8, np.uint64)
    source, target = (core.ffi.cast("void *", array.ctypes.data) for array in (x, y))
    core.lib.dn_stream(source, target, size)
    np.testing.assert_array_equal(x, y)
    assert core.lib.dn_stream(source, core.ffi.NULL, size) == np.bitwise_xor.reduce(x)
    core.lib.dn_stream(core.ffi.NULL, target, size - core.lib.DN_STREAM_PART)
    part = core.lib.DN_STREAM_PART // 8
    assert not y[:-part].any()
    np.testing.assert_array_equal(y[-part:], x[-part:])


@pytest.mark.parametrize("level", [0, 1, 2])
def test_multiply_adds_are_counted(level, any_threads):
    if core.lib.dn_set_simd_level(level) != level:
        core.lib.dn_set_simd_level(-1)
        pytest.skip("this processor has no such level")
    lanes, chains = 4 << level, 12
    assert core.lib.dn_multiply_adds(1000) == any_threads * 1000 * chains * lanes * 2
    core.lib.dn_set_simd_level(-1)
    assert core.lib.dn_multiply_adds(0) == 0


def test_round_trips_are_made():
    assert core.lib.dn_round_trips(100) == 100 and core.lib.dn_round_trips(0) == 0


@pytest.fixture(params=[1, 2, 3])
def any_threads(request):
    before = dn.get_num_threads()
    dn.set_num_threads(request.param)
    yield request.param
    dn.set_num_threads(before)


def test_traffic_and_time_of_passes():
    memory = {"read": 4.0, "write": 8.0, "copy": 5.0}
    forward, backward = forms.FORMS["batchnorm forward"], forms.FORMS["batchnorm backward"]
    size = 4 * 3 * 4 * 30  # bytes of a tensor
    assert (forward.traffic, backward.traffic, forms.FORMS["mean_cpu"].traffic) == (8, 12, 4)
    channel = 4 * 3 * 30
    assert forward.set_bytes(SHAPE) == channel
    kept, lost = (forward.least_seconds(SHAPE, 2, memory, cache) for cache in (2 * channel, 2 * channel - 1))
    assert kept == pytest.approx(size * (1 / 4 + 1 / 8)) and lost == pytest.approx(size * (1 / 4 + 2 / 5))
    two = 2 * channel  # x and delta
    kept, lost = (backward.least_seconds(SHAPE, 1, memory, cache) for cache in (two, two - 1))
    assert kept == pytest.approx(size * (2 / 4 + 1 / 8))
    assert lost == pytest.approx(size * (2 / 4 + 1 / 4 + 2 / 5))
    single = {name: forms.FORMS[name].least_seconds(SHAPE, 1, memory, 0) for name in forms.KERNELS}
    assert single["backward_scale_cpu"] == pytest.approx(size * 2 / 4)
    assert single["scale_bias"] == pytest.approx(size * 2 / 5)
    assert single["normalize_delta_cpu"] == pytest.approx(size * (2 / 5 + 1 / 4))


def test_traffic_of_darknets_functions_follows_their_arguments():
    for name, form in forms.KERNELS.items():
        tensors = [const for key, _, const in KERNELS[name] if key in ("x", "x_norm", "delta", "output")]
        assert (form.reads, form.writes) == (len(tensors), tensors.count(False)), name


def test_sets_that_share_a_mean():
    shape = (2, 48, 3, 5)
    assert [forms.default_groups(c) for c in (1, 31, 34, 48, 64, 97)] == [1, 31, 17, 24, 32, 1]
    assert forms.FORMS["groupnorm forward"].set_bytes(shape) == 4 * 2 * 15
    assert forms.FORMS["layernorm forward"].set_bytes(shape) == 4 * 48 * 15


def test_row_counts_from_its_times():
    memory = [{"copy": 8.0, "read": 4.0, "write": 8.0}] * 2
    times = {"darknetpy": [1.0, 2.0], "torch": [3.0, 3.0]}
    row = kernels.Row("batchnorm inference", (1, 1, 1, 4), 1, times, memory, cache=15)
    assert row.bytes_per_second() == [32, 16] and row.of_copy() == [4, 2] and row.of_passes() == [4, 2]
    assert row.ratio("torch") == [3, 1.5] and row.ratio("darknet") is None
    assert (
        row.beyond_cache() and not kernels.Row("mean_cpu", (1, 1, 1, 4), 1, {}, [], cache=16).beyond_cache()
    )
    assert kernels.geometric_mean([1, 4]) == pytest.approx(2)


def test_named_functions_leave_their_array_as_it_is():
    x, delta = worker.tensors((4, 3, 5, 5))
    named = worker.named_arguments(x, delta)
    assert set(named) == set(forms.KERNELS)
    for _ in range(20):
        for name, arguments in named.items():
            getattr(dn.kernels, name)(*arguments)
    work = named["scale_bias"][0]
    np.testing.assert_allclose(work, delta, rtol=1e-3)


# ---- accuracy
@pytest.mark.parametrize("layer", ["batchnorm", "groupnorm", "layernorm"])
def test_exact_gradient_is_that_of_the_exact_output(layer):
    given = {key: array.astype(float) for key, array in exact.sample(SHAPE, layer, 1, 2, 10**6).items()}
    found = exact.normalization(layer, 2, given)

    def loss(**changed):
        return (exact.normalization(layer, 2, {**given, **changed})["y"] * given["delta"]).sum()

    rng = np.random.default_rng(1)
    for name, gradient in (("x", "dx"), ("scales", "scale_updates"), ("biases", "bias_updates")):
        step = rng.standard_normal(given[name].shape)
        numeric = (
            loss(**{name: given[name] + 1e-5 * step}) - loss(**{name: given[name] - 1e-5 * step})
        ) / 2e-5
        assert numeric == pytest.approx((found[gradient] * step).sum(), rel=1e-6), name


def test_sample_keeps_what_shares_a_mean():
    assert exact.sample((4, 8, 3, 3), "batchnorm", 0, 1, 100)["x"].shape == (4, 2, 3, 3)
    assert exact.sample((4, 8, 3, 3), "groupnorm", 0, 1, 100)["x"].shape == (1, 8, 3, 3)
    x = exact.sample((4, 8, 30, 30), "batchnorm", 1000, 0.01, 10**9)["x"]
    assert x.shape == (4, 8, 30, 30) and x.mean() == pytest.approx(1000, abs=0.01)
    assert x.std(dtype=float) == pytest.approx(0.01, rel=0.02)


def test_errors_are_relative():
    found = exact.errors({"y": np.array([1.0, 2.5])}, {"y": np.array([[1.0], [2.0]])})
    assert found["y"]["largest"] == pytest.approx(0.25) and found["y"]["norm"] == pytest.approx(0.5 / 5**0.5)


# ---- the run
def test_every_form_is_timed_and_every_layer_checked():
    found = kernels.compare_kernels(settings(threads=(1, 2), rounds=2))
    assert {row.form for row in found.rows} == set(forms.forms_of(BUILT))
    assert len(found.rows) == 2 * len(forms.forms_of(BUILT))
    for row in found.rows:
        assert list(row.seconds) == ["darknetpy"] and len(row.memory) == len(row.seconds["darknetpy"]) == 2
        assert min(row.seconds["darknetpy"]) > 0 and min(row.of_passes()) > 0
    assert {row["layer"] for row in found.accuracy} == set(BUILT)
    plain = [row for row in found.accuracy if row["data"] == "mean 0, deviation 1"]
    assert all(error["largest"] < 1e-5 for row in plain for error in row["errors"]["darknetpy"].values())


@pytest.mark.skipif(not HAS_TORCH, reason="torch is not installed")
def test_torch_computes_the_same_in_both_modes():
    found = kernels.compare_kernels(settings(peers=("torch-best", "torch")))
    assert all(set(row.seconds) == {"darknetpy", "torch-best", "torch"} for row in found.rows)
    for row in found.accuracy:
        per_value = {"scale_updates", "bias_updates"} if row["layer"] == "layernorm" else set()
        assert set(row["errors"]["torch"]) == set(row["errors"]["darknetpy"]) - per_value
        if row["data"] == "mean 0, deviation 1":
            assert all(error["largest"] < 1e-5 for error in row["errors"]["torch"].values()), row
    assert "figures" in kernels_report.accuracy_line(found)


@pytest.mark.skipif(not HAS_DARKNET, reason="Debian's package darknet is not installed")
def test_darknet_runs_batch_normalization_on_one_thread():
    found = kernels.compare_kernels(settings(peers=("darknet",), threads=(1, 2)))
    both = {row.form for row in found.rows if "darknet" in row.seconds}
    assert both == set(forms.forms_of(["batchnorm"])), found.notes
    times = {(row.form, row.threads): row.seconds.get("darknet") for row in found.rows}
    assert all(times[form, 1] == times[form, 2] for form in both)


def test_peers_that_are_not_installed_are_named(monkeypatch):
    monkeypatch.setattr(kernels, "missing", lambda peer: f"{peer} is left out: not here")
    found = kernels.compare_kernels(settings(peers=("torch", "darknet"), kernels=False))
    assert found.notes[:2] == ["torch is left out: not here", "darknet is left out: not here"]
    assert {tuple(row.seconds) for row in found.rows} == {("darknetpy",)}
    assert {row.form for row in found.rows} == set(forms.forms_of(BUILT, kernels=False))


# ---- the report
def made_up(**seconds):
    """What a run might have found, of one layer pass on one shape with 1 and 2 threads."""
    found = kernels.Found(
        kernels.Settings(peers=("torch",)), facts={"torch": {"program": "PyTorch"}}, cache=100
    )
    found.settings.shapes = (SHAPE,)
    memory = [{"copy": 1e4, "read": 1e4, "write": 1e4}]
    for n in (1, 2):
        times = {name: [times[n - 1]] for name, times in seconds.items()}
        found.rows.append(kernels.Row("batchnorm inference", SHAPE, n, times, memory, found.cache))
    return found


def test_what_falls_short_is_said():
    assert kernels_report.shortfalls(made_up(darknetpy=(0.3, 0.2), torch=(0.4, 0.4))) == []
    found = made_up(darknetpy=(0.4, 0.8), torch=(0.2, 1.6))
    assert kernels_report.shortfalls(found) == [
        "batchnorm inference, 3x4x5x6, 1 thread: 0.50x beside PyTorch; "
        "72 % of what memory allows for its passes",
        "batchnorm inference, 3x4x5x6, 2 threads: 0.50x beside 1 thread; 36 % of what memory allows for its "
        "passes",
    ]


def test_goals_stand_beside_the_shapes_they_were_set_for(monkeypatch):
    found = made_up(darknetpy=(0.1, 0.1), torch=(0.46, 0.39))
    assert "goal" not in str(kernels_report.summary_table(found, ["batchnorm inference"]))
    monkeypatch.setattr(kernels_report, "SHAPES", (SHAPE,))
    rows = kernels_report.summary_table(found, ["batchnorm inference"])
    cells = [row[rows[0].index("to PyTorch")] for row in rows]
    assert "goal 4.5: reached" in cells[1] and "goal 4: missed" in cells[2]


# ---- the command
def test_command_writes_json_a_page_and_a_chart(tmp_path, capsys):
    paths = {option: str(tmp_path / f"x.{option}") for option in ("json", "md", "png")}
    words = ["--shapes", "3x4x5x6,64x8x1x1", "--threads", "1", "--peers", "none", "--layers", "batchnorm"]
    outputs = ["--json", paths["json"], "--output", paths["md"]]
    outputs += ["--plot", paths["png"]] if plots.can_plot() else []
    assert run_command(*words, *outputs) == 0
    shown = capsys.readouterr().out
    assert "3x4x5x6: 0.0 MB a tensor, fits in the cache" in shown and "variance_delta_cpu" in shown
    with open(paths["json"]) as file:
        record = json.load(file)
    assert record["settings"]["shapes"] == [list(SHAPE), [64, 8, 1, 1]] and "SIMD level" in record["machine"]
    assert {row["form"] for row in record["rows"]} == set(forms.forms_of(["batchnorm"]))
    with open(paths["md"]) as file:
        page = file.read()
    assert (
        page.startswith("# ") and "--shapes 3x4x5x6,64x8x1x1" in page and "| mean_cpu | 4 | 1 | 0 |" in page
    )
    if plots.can_plot():
        with open(paths["png"], "rb") as file:
            assert file.read(8) == b"\x89PNG\r\n\x1a\n"
        assert "](x.png)" in page


def test_command_prints_json(capsys):
    assert run_command("--shapes", "3x4x5x6", "--threads", "1", "--peers", "none", "--fused", "--json") == 0
    record = json.loads(capsys.readouterr().out)
    assert {row["form"] for row in record["rows"]} == set(forms.forms_of(BUILT, kernels=False))


@pytest.mark.parametrize(
    "words, message",
    [
        (["--layers", "batch"], "--layers batch: wanted batchnorm, groupnorm, layernorm$"),
        (["--layers", ","], "--layers ',': wanted at least one"),
        (["--shapes", "64x64"], "--shapes 64x64: wanted BATCHxCHANNELSxHEIGHTxWIDTH, such as 64x64x56x56"),
        (["--shapes", "1x2x3x0"], "--shapes 1x2x3x0: wanted BATCH"),
        (["--shapes", "65536x65536x1x1"], "4294967296 values, wanted at most 2147483647"),
        (["--shapes", "1x64x1x1"], "at least two values per channel"),
        (["--shapes", "64x1x1x1"], "at least two values per channel and per sample"),
        (["--threads", "0"], "--threads 0: wanted integers from 1 to 1024"),
        (["--threads", "1,two"], "--threads two: wanted integers"),
        (["--peers", "torch,caffe"], "--peers caffe: wanted torch-best, torch, darknet or none"),
        (["--output", "x.txt"], "--output x.txt: wanted a name that ends with .md"),
        (["--json", os.path.join("no", "folder", "x.json")], "the folder .* is missing"),
        (["--plot", "x.jpg"], "--plot x.jpg: wanted a name that ends with .png"),
    ],
)
def test_wrong_options_are_refused_before_anything_runs(words, message, monkeypatch):
    monkeypatch.setattr(kernels, "compare_kernels", lambda *_, **__: pytest.fail("it ran"))
    with pytest.raises(ArgumentError, match=message):
        run_command(*words)


def test_chart_without_matplotlib_is_refused_before_anything_runs(tmp_path, monkeypatch):
    monkeypatch.setattr(plots, "can_plot", lambda: False)
    monkeypatch.setattr(kernels, "compare_kernels", lambda *_, **__: pytest.fail("it ran"))
    with pytest.raises(ArgumentError, match="matplotlib is not installed"):
        run_command("--plot", str(tmp_path / "x.png"))


@pytest.mark.parametrize("words", [["--rounds", "0"], ["--seconds", "0"]])
def test_bad_numbers_are_usage_errors(words, capsys):
    with pytest.raises(SystemExit) as error:
        run_command(*words)
    assert error.value.code == 2 and capsys.readouterr().err
