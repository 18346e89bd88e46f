"""The benchmark of whole networks: that it runs, compares the same work and says what it could not do; never how fast."""
from __future__ import annotations

import argparse
import importlib.util
import json
import os
import re

import numpy as np
import pytest

from darknetpy import plots
from darknetpy.bench import network, network_plot, process, report, worker
from darknetpy.bench.subject import parse_size, parse_subject, prepare_cfg
from darknetpy.builder import load_network
from darknetpy.cfg import parse_cfg
from darknetpy.cli import bench as command
from darknetpy.errors import ArgumentError, CfgError

CFG = """
[net]
batch=8
subdivisions=2
height=10
width=8
channels=3
learning_rate=.3
policy=steps
steps=1,2
scales=.1,.1
momentum=.9
decay=.01

[convolutional]
batch_normalize=1
filters=6
size=3
stride=1
pad=1
activation=leaky

[maxpool]
size=2
stride=1

[convolutional]
filters=6
size=3
pad=1
activation=relu

[shortcut]
from=-2
activation=linear

[route]
layers=-1,-4

[maxpool]
size=3
stride=2

[connected]
batch_normalize=1
output=7
activation=tanh

[dropout]
probability=.5

[connected]
output=5
activation=linear

[softmax]
"""
PLAIN = CFG.replace("batch_normalize=1\noutput", "output")
DETECTOR = """
[net]
height=32
width=48
channels=3

[convolutional]
batch_normalize=1
filters=8
size=3
stride=2
pad=1
activation=leaky

[convolutional]
batch_normalize=1
filters=8
size=1
pad=1
activation=leaky

[shortcut]
from=-2
activation=linear

[maxpool]
size=2
stride=2

[convolutional]
filters=14
size=1
activation=linear

[yolo]
mask=1,2
anchors=3,4, 5,6, 7,8
classes=2
num=3

[route]
layers=3

[upsample]
stride=2

[route]
layers=-1,2

[convolutional]
filters=7
size=1
activation=linear

[yolo]
mask=0
anchors=3,4, 5,6, 7,8
classes=2
num=3
"""
# One of each activation, groups of channels, and what else programs have names of their own for.
ODDS = """
[net]
height=9
width=12
channels=4

[convolutional]
filters=8
size=3
pad=1
activation=mish

[convolutional]
filters=8
groups=8
size=3
stride=2
pad=1
activation=swish

[convolutional]
filters=12
groups=2
size=3
dilation=2
pad=1
activation=elu

[route]
layers=-1
groups=3
group_id=1

[activation]
activation=tanh

[shortcut]
from=-2
activation=leaky

[upsample]
stride=3

[maxpool]
size=3
stride=2
padding=2

[convolutional]
filters=6
size=5
stride=3
activation=logistic

[avgpool]

[connected]
output=6
activation=relu

[connected]
output=4
activation=linear

[logistic]
"""
HAS_TORCH = importlib.util.find_spec("torch") is not None
HAS_DARKNET = process.missing("darknet") is None
# peer -> largest difference of its outputs; Darknet and OpenCV divide by another root of the variance
INFERENCE = {"torch": 2e-6, "ncnn": 2e-6, "onnxruntime": 2e-6, "opencv": 1e-4, "darknet": 1e-4}


@pytest.fixture
def cfg(tmp_path):
    path = tmp_path / "small.cfg"
    path.write_text(CFG)
    return str(path)


def settings(**changes):
    return network.Settings(**{"threads": 1, "rounds": 1, "seconds": .01, "peers": (), **changes})


def run_command(*words):
    parser = argparse.ArgumentParser()
    command.add_parser(parser.add_subparsers())
    args = parser.parse_args(["bench", "network", *words])
    return args.run(args)


# ---- what is measured
def test_copy_of_cfg_has_one_mini_batch_and_a_constant_rate(cfg, tmp_path):
    folder = tmp_path / "copy"
    folder.mkdir()
    path, rows = prepare_cfg(cfg, str(folder))
    assert rows == 4
    options = {key: option.text for key, option in parse_cfg(path)[0].options.items()}
    assert options["batch"] == "4" and options["subdivisions"] == "1"
    assert "policy" not in options and "steps" not in options and options["momentum"] == ".9"
    path, rows = prepare_cfg(cfg, str(folder), batch=3, size=(16, 12))
    net = load_network(path, train=True)
    assert (rows, net.batch, net.w, net.h) == (3, 3, 16, 12)


@pytest.mark.parametrize("text, wanted", [
    ("a.cfg", ("a.cfg", None, None)), ("a.cfg:8", ("a.cfg", 8, None)), ("a.cfg:8@224", ("a.cfg", 8, (224, 224))),
    ("d/a.cfg@32x16", ("d/a.cfg", None, (32, 16)))])
def test_subject(text, wanted):
    assert parse_subject(text) == wanted


@pytest.mark.parametrize("text", ["pool.cfg:0", "pool.cfg:00@8", "pool.cfg:2147483648", ""])
def test_bad_subject_says_what_was_wanted(text):
    with pytest.raises(ArgumentError, match="wanted CFG, or CFG:BATCH@SIZE"):
        parse_subject(text)


def test_bad_size_says_what_was_wanted():
    with pytest.raises(ArgumentError, match="wanted WIDTH or WIDTHxHEIGHT"):
        parse_size("0x3")


def test_workload_is_the_same_for_every_program():
    first, second = (worker.workload(3, 5, 4) for _ in range(2))
    for a, b in zip(first, second):
        np.testing.assert_array_equal(a, b)
    images, labels, truth = first
    assert images.shape == (3, 5) and images.dtype == np.float32
    np.testing.assert_array_equal(truth.argmax(1), labels)
    assert truth.sum() == 3


def test_workload_of_a_detector_is_boxes_apart_from_one_another():
    _, _, truth = worker.workload(2, 5, 90 * 6, (6, 20))
    rows = truth.reshape(2, 90, 6)
    assert (rows[:, :8, :4] > 0).all() and not rows[:, 8:].any()
    assert rows[:, :8, 4].max() < 20
    centres = rows[0, :8, :2]
    assert min(np.abs(a - b).max() for i, a in enumerate(centres) for b in centres[:i]) > .1


def test_parts_are_timed_in_order_after_a_round_that_does_not_count():
    calls = []
    times = worker.time_parts([lambda: calls.append("a"), lambda: calls.append("b")], 2, lambda: calls.append("-"))
    assert "".join(calls) == "-ab-ab-ab" and times.shape == (2,)


# ---- ours alone
@pytest.mark.parametrize("train", [True, False])
def test_every_layer_is_timed(cfg, train):
    found = network.compare(cfg, settings(train=train, per_layer=True))
    assert [result.name for result in found.results] == ["darknetpy"]
    assert found.results[0].peak_bytes > found.results[0].facts["bytes_before"] > 0
    types = [row["type"] for row in found.layers]
    assert types[:3] == ["convolutional", "maxpool", "convolutional"] and (types[-1] == "update") == train
    for row in found.layers[:-1]:
        seconds = row["seconds"]["darknetpy"]
        assert set(seconds) == ({"forward", "backward"} if train else {"forward"}) and all(s > 0 for s in seconds.values())


def test_a_training_step_counts_three_forward_passes(cfg):
    flops = sum(layer.flops for layer in load_network(cfg).layers)
    assert network.compare(cfg, settings(), batch=2).flops == pytest.approx(3 * 2 * flops)
    assert network.compare(cfg, settings(train=False), batch=2).flops == pytest.approx(2 * flops)


# ---- beside the peers
@pytest.mark.skipif(not HAS_TORCH, reason="torch is not installed")
@pytest.mark.parametrize("train", [True, False])
def test_torch_builds_the_same_network(cfg, train):
    found = network.compare(cfg, settings(peers=("torch",), per_layer=train, train=train))
    assert [result.name for result in found.results] == ["darknetpy", "torch", "torch-best"], found.notes
    check = found.results[1].check
    assert check["output"] < 1e-6
    if train:
        assert check["gradient"] < 1e-5 and check["peer_gradient"] < 1e-5
    assert all(len(result.step) == 1 for result in found.results) and len(found.results[1].speedup) == 1
    if train:
        assert set(found.layers[0]["seconds"]) == {"darknetpy", "torch-best"}


@pytest.mark.skipif(not HAS_TORCH, reason="torch is not installed")
@pytest.mark.parametrize("options", ["ignore_thresh=.2", "ignore_thresh=.2\nscale_x_y=1.2\niou_normalizer=.5"],
                         ids=["pjreddie", "alexeyab"])
def test_torch_trains_the_same_detector(options, tmp_path):
    path = tmp_path / "small.cfg"
    text = re.sub("(height|width)=.*", r"\1=64", DETECTOR).replace("num=3\n", f"num=3\n{options}\n")
    path.write_text(text)
    found = network.compare(str(path), settings(peers=("torch",), per_layer=True), batch=3)
    assert [result.name for result in found.results] == ["darknetpy", "torch", "torch-best"], found.notes
    check = found.results[1].check
    assert check["gradient"] < 1e-5 and check["peer_gradient"] < 1e-5
    path.write_text(text.replace("num=3\n", "num=3\ntruth_thresh=.9\n"))
    assert any("truth_thresh" in note for note in network.compare(str(path), settings(peers=("torch",))).notes)


RESIDUAL = """
[net]
height=16
width=12
channels=3

[convolutional]
filters={filters}
size=3
pad=1
activation=tanh

[convolutional]
filters=6
size=3
stride=2
pad=1
activation=tanh

[shortcut]
from=-2
activation=tanh

[connected]
output=4
activation=linear

[softmax]
"""


@pytest.mark.skipif(not HAS_TORCH, reason="torch is not installed")
@pytest.mark.parametrize("filters", [4, 6, 9])
def test_torch_adds_what_fits_of_another_shape(filters, tmp_path):
    path = tmp_path / "small.cfg"
    path.write_text(RESIDUAL.format(filters=filters))
    found = network.compare(str(path), settings(peers=("torch",)), batch=2)
    assert found.results[1].check["output"] < 1e-6 and found.results[1].check["gradient"] < 1e-5


@pytest.mark.skipif(not HAS_TORCH, reason="torch is not installed")
def test_a_layer_that_torch_peer_does_not_build_leaves_it_out(cfg):
    with open(cfg, "w") as file:
        file.write(CFG.replace("activation=tanh", "activation=plse"))
    found = network.compare(cfg, settings(peers=("torch",)))
    assert len(found.results) == 1
    assert any("PyTorch" in note and "activation plse" in note for note in found.notes)


@pytest.mark.skipif(not HAS_DARKNET, reason="Debian's package darknet is not installed")
def test_darknet_computes_the_same_outputs(cfg):
    found = network.compare(cfg, settings(peers=("darknet",)))
    assert [result.name for result in found.results] == ["darknetpy", "darknet"], found.notes
    assert found.results[1].check["output"] < 1e-4      # its normalization divides by sqrt(variance) + 1e-6
    assert found.results[1].facts["threads"] == 1


@pytest.mark.parametrize("text, results", [(DETECTOR, [4, 9]), (PLAIN, [9]), (ODDS, [12])],
                         ids=["detector", "classifier", "odds"])
@pytest.mark.parametrize("peer", INFERENCE)
def test_inference_gives_the_same_numbers(peer, text, results, tmp_path):
    if process.missing(peer):
        pytest.skip(process.missing(peer))
    if text is ODDS and peer in ("opencv", "darknet"):
        pytest.skip(f"{peer} does not know all of the network")
    path = tmp_path / "small.cfg"
    path.write_text(text)
    found = network.compare(str(path), settings(peers=(peer,), train=False))
    assert [result.name for result in found.results] == ["darknetpy", *process.PEERS[peer]], found.notes
    assert found.batch == 1 and found.results[1].check["output"] < INFERENCE[peer]
    folder = tmp_path / "copy"
    folder.mkdir()
    job = {"cfg": prepare_cfg(str(path), str(folder), batch=1)[0], "batch": 1, "train": False, "threads": 1,
           "folder": str(folder), "keep_activations": True}
    with process.Process("darknetpy", job) as ours:
        assert ours.ask("export", folder=str(folder), peers=[peer])["compared"] == results
    with np.load(folder / "arrays.npz") as arrays:      # what a peer has wrong is seen
        changed = {name: a * np.float32(1 + 1e-3 * name.endswith(".output")) for name, a in arrays.items()}
    np.savez(folder / "arrays.npz", **changed)
    with process.Process(peer, job) as program:
        assert program.ask("check")["output"] > 5e-4


@pytest.mark.skipif(process.missing("opencv") is not None, reason="OpenCV is not installed, or 5")
def test_peer_that_computes_something_else_is_left_out(cfg):     # OpenCV reads [connected] in another order
    found = network.compare(cfg, settings(peers=("opencv",), train=False))
    assert len(found.results) == 1
    assert len(found.notes) == 1 and "left out: OpenCV: its outputs differ by nan" in found.notes[0]


@pytest.mark.parametrize("peer", ["ncnn", "onnxruntime"])
@pytest.mark.parametrize("wrong, message", [
    ("[reorg]\nstride=2\n", r"\[reorg\]"), ("[activation]\nactivation=plse\n", "activation plse"),
    ("[shortcut]\nfrom=-3\nactivation=linear\n", "shortcut of unlike shapes"),
    ("[softmax]\ntemperature=2\n", "temperature"), ("[batchnorm]\n", r"\[batchnorm\]"),
    ("[convolutional]\nfilters=7\nsize=3\ndilation=2\npadding=2\nactivation=linear\n", "unlike padding"),
    ("[yolo]\nnew_coords=1\nclasses=3\nnum=1\nmask=0\nanchors=1,1\n", "new_coords")],
                         ids=lambda value: value[:9])
def test_what_a_format_lacks_leaves_its_peer_out(peer, wrong, message, tmp_path):
    if process.missing(peer):
        pytest.skip(process.missing(peer))
    path = tmp_path / "small.cfg"
    path.write_text(DETECTOR[:DETECTOR.index("[shortcut]")] + "[maxpool]\nsize=2\nstride=2\n" + wrong)
    found = network.compare(str(path), settings(peers=(peer,), train=False))
    assert len(found.results) == 1 and re.fullmatch(f"left out: {peer}: .*{message}.*", found.notes[0])


def test_peers_that_only_infer_are_left_out_of_training(cfg):
    found = network.compare(cfg, settings(peers=("opencv",)))
    assert found.notes == ["OpenCV is left out: it does not train"] and len(found.results) == 1


def test_peers_that_are_not_installed_are_named(cfg, monkeypatch):
    monkeypatch.setattr(network, "missing", lambda peer: f"{peer} is left out: not here")
    found = network.compare(cfg, settings(peers=("torch", "darknet")))
    assert found.notes == ["torch is left out: not here", "darknet is left out: not here"] and len(found.results) == 1


@pytest.mark.parametrize("peer", sorted(process.PEERS))
def test_packages_that_are_missing_are_named(peer, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(os.path, "exists", lambda path: False)
    last = "(Debian's package darknet)" if peer == "darknet" else "is not installed"
    assert process.missing(peer).endswith(last)


def test_program_that_ends_says_its_last_word(tmp_path):
    job = {"cfg": str(tmp_path / "none.cfg"), "batch": 1, "train": True, "threads": 1}
    with pytest.raises(process.ProgramFailed, match=r"^darknetpy: .*none\.cfg"):
        process.Process("darknetpy", job)


# ---- the command
def test_command_writes_json_and_a_page(cfg, tmp_path, capsys):
    outputs = [str(tmp_path / "x.json"), str(tmp_path / "x.md")]
    words = [cfg, "--peers", "none", "--rounds", "2", "--seconds", ".01", "--threads", "1", "--per-layer"]
    assert run_command(*words, "--output", outputs[0], "--output", outputs[1]) == 0
    shown = capsys.readouterr().out
    assert "small.cfg, training step, batch 4 of 8x10x3, 1 thread" in shown and "convolutional" in shown
    with open(outputs[0]) as file:
        record = json.load(file)
    assert len(record["networks"][0]["results"][0]["step"]) == 2 and "SIMD level" in record["machine"]
    with open(outputs[1]) as file:
        page = file.read()
    assert page.startswith("# ") and "| darknetpy | 1 |" in page and "--per-layer" in page


def test_command_prints_json(cfg, capsys):
    assert run_command(cfg, "--peers", "none", "--rounds", "1", "--seconds", ".01", "--json", "--infer") == 0
    assert json.loads(capsys.readouterr().out)["networks"][0]["train"] is False


def row(kind, seconds, **facts):
    return {"type": kind, "seconds": {"darknetpy": seconds}, **facts}


def test_shares_of_the_time():
    layers = [row("convolutional", {"forward": 2., "backward": 3.}, size=3),
              row("convolutional", {"forward": 1.}, size=1), row("convolutional", {"forward": .5}, size=7),
              row("maxpool", {"forward": 1.5}), row("softmax", {"forward": 1.}),
              row("update", {"forward": 1.})]
    assert network_plot.shares(layers) == {
        "3x3 convolution": (5, .5), "1x1 convolution": (1, .1), "other convolution": (.5, .05),
        "pooling": (1.5, .15), "optimizer": (1, .1), "other": (1, .1)}


@pytest.mark.skipif(not plots.can_plot(), reason="matplotlib is not installed")
@pytest.mark.parametrize("mode", ["--train", "--infer"])
def test_command_draws_every_network_and_number_of_threads(mode, cfg, tmp_path, capsys, monkeypatch):
    drawn, draw = [], network_plot._layers
    monkeypatch.setattr(network_plot, "_layers", lambda axes, found, on: drawn.append(found) or draw(axes, found, on))
    paths = [str(tmp_path / name) for name in ("x.png", "x.md")]
    assert run_command(cfg, mode, "--peers", "none", "--rounds", "1", "--seconds", ".01", "--threads", "1,2",
                       "--plot", paths[0], "--output", paths[1]) == 0
    assert [found.threads for found in drawn] == [1, 2]
    with open(paths[0], "rb") as file:
        assert file.read(8) == b"\x89PNG\r\n\x1a\n"
    with open(paths[1]) as file:
        page = file.read()
    assert "](x.png)" in page and "GFLOP/s of multiply-adds in registers" in page and "1 thread, " in page


def test_share_of_the_peak_is_in_the_table(cfg):
    found = network.compare(cfg, settings(train=False))
    assert found.peak > 1e8 and found.trips == []
    found.results[0].step, found.flops, found.peak = [.5], 3e9, 1e10
    head, first = report.program_table(found)
    assert first[head.index("of peak")] == "60%" and first[head.index("GFLOP/s")] == "6.0"
    found.trips = [6e-8, 5e-8, 3e-7]
    assert report.processor_line(found).endswith("a word from core to core and back: 60 ns (50 to 300)")
    trips = network.compare(cfg, settings(train=False, threads=2)).trips
    assert len(trips) == 1 and 1e-9 < trips[0] < 1


def test_summary_has_every_program_and_the_fastest():
    def found(cfg, threads, **speedups):
        results = [network.Result(name, name, {}, [1.], 1, [ratio]) for name, ratio in speedups.items()]
        results.insert(0, network.Result("own", "own", {}, [1.], 1))
        return network.Comparison(cfg, 8, [3, 24, 32], True, threads, 1e9, 1e9, [], results, [])
    rows = report.summary_table([found("a.cfg", 1, torch=2., ncnn=4.), found("b.cfg", 1, torch=8.), found("a.cfg", 2, torch=3.)])
    assert rows == [["against", "threads", "a 8@32", "b 8@32", "geometric mean"],
                    ["torch", "1", "2.00x", "8.00x", "4.00x"], ["ncnn", "1", "4.00x", "", "4.00x"],
                    ["torch", "2", "3.00x", "", "3.00x"],
                    ["the fastest of them", "1", "2.00x", "8.00x", "4.00x"], ["the fastest of them", "2", "3.00x", "", "3.00x"]]


@pytest.mark.parametrize("words, message", [
    (["--plot", "x.jpg"], "ends with .png"),
    (["--output", "x.txt"], "ends with .json or .md"), (["--output", os.path.join("no", "folder", "x.md")], "is missing"),
    (["--peers", "caffe"], "wanted torch, ncnn, onnxruntime, opencv, darknet or none"),
    (["--size", "0"], "wanted WIDTH"),
    (["--threads", "1,x"], "wanted integers from 1")])
def test_wrong_options_are_refused_before_anything_runs(cfg, words, message):
    with pytest.raises(ArgumentError, match=message):
        run_command(cfg, *words)


def test_an_output_that_is_a_folder_is_refused_before_anything_runs(cfg, tmp_path):
    (tmp_path / "x.md").mkdir()
    with pytest.raises(ArgumentError, match="x.md: is a folder"):
        run_command(cfg, "--output", str(tmp_path / "x.md"))


def test_mistake_in_cfg_names_the_users_file_and_line(cfg):
    with open(cfg, "a") as file:
        file.write("[nonsense]\n")
    with pytest.raises(CfgError, match=r"small\.cfg:\d+.*nonsense") as error:
        run_command(cfg)
    assert cfg in str(error.value)


@pytest.mark.parametrize("words", [["--rounds", "0"], ["--seconds", "x"], ["--batch", "-1"]])
def test_bad_numbers_are_usage_errors(cfg, words, capsys):
    with pytest.raises(SystemExit) as error:
        run_command(cfg, *words)
    assert error.value.code == 2 and "wanted" in capsys.readouterr().err
