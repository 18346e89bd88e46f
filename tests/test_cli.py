"""The command line end to end, in processes of its own: what it prints, writes, and what it exits with."""
from __future__ import annotations

import errno
import io
import json
import os
import re
import signal
import subprocess
import sys
import time
from typing import NamedTuple
from unittest.mock import Mock

import pytest
from PIL import Image

import darknetpy
from darknetpy import training
from darknetpy.checkpoint import read_header
from darknetpy.cli import main
from darknetpy.lab import NAMES
from darknetpy.signals import Interrupted

TINY = """[net]
batch=16
subdivisions=2
width=28
height=28
channels=1
min_crop=28
max_crop=30
learning_rate=.01
max_batches={max_batches}

[convolutional]
batch_normalize=1
filters=4
size=3
stride=4
pad=1
activation=relu

[dropout]

[connected]
output={outputs}
activation=linear

[softmax]
"""
COMMANDS = (["detector"], ["detector", "test"],
            ["rnn"], ["rnn", "train"], ["rnn", "valid"], ["rnn", "generate"],
            ["classifier"], ["classifier", "train"], ["classifier", "predict"], ["classifier", "valid"], ["summary"], ["explain"],
            ["check"], ["info"], ["bench"], ["recompute-bn"], ["fuse"], ["gradcheck"], ["lab"],
            *([name] for name in ("average", "rgbgr", "rescale", "reset", "denormalize", "normalize", "partial",
                                  "statistics", "ops", "speed", "visualize")),
            *(["lab", name] for name in ("list", *NAMES)))


def run(*words, cwd, stdin=None, **environment):
    """Run ``python -m darknetpy`` with one thread; returns the finished process."""
    source = os.path.dirname(os.path.dirname(darknetpy.__file__))
    path = os.pathsep.join(filter(None, [environment.pop("FIRST_PATH", None), source, os.environ.get("PYTHONPATH")]))
    env = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", "COLUMNS": "120", **environment}
    return subprocess.run([sys.executable, "-m", "darknetpy", *map(str, words)], cwd=cwd, env=env, input=stdin, text=True,
                          capture_output=True, timeout=120)


def write_cfg(folder, name="tiny.cfg", max_batches=6, outputs=10, text=TINY):
    (folder / name).write_text(text.format(max_batches=max_batches, outputs=outputs))
    return name


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A folder with tiny.cfg, trained: (folder, the finished process)."""
    folder = tmp_path_factory.mktemp("trained")
    return folder, run("classifier", "train", "fashion-mnist:", write_cfg(folder), "--valid-every", 3, cwd=folder)


class Result(NamedTuple):
    returncode: int
    stdout: str
    stderr: str


@pytest.fixture
def command(tmp_path, monkeypatch, capfd):
    """Run a command in this process, from tmp_path: quicker than in one of its own."""
    def call(*words, stdin=None):
        monkeypatch.chdir(tmp_path)
        if stdin is not None:
            monkeypatch.setattr(sys, "stdin", io.StringIO(stdin))
        try:
            status = main([str(word) for word in words])
        except SystemExit as stop:
            status = stop.code
        return Result(status, *capfd.readouterr())
    return call


def one_line(process, status, *parts):
    """Assert that a command refused: its status, nothing but one line on standard error, with the parts named."""
    lines = process.stderr.strip().splitlines()
    assert process.returncode == status, process.stderr
    assert len(lines) == 1 and "Traceback" not in process.stderr, process.stderr
    for part in parts:
        assert part in lines[0]


# ---- help and facts
def test_help_of_every_command_has_an_example(capsys):
    for command in ([], *COMMANDS):
        with pytest.raises(SystemExit) as stop:
            main([*command, "--help"])
        text = capsys.readouterr().out
        assert stop.value.code == 0 and "darknetpy" in text and "example" in text, command


def test_version(tmp_path):
    process = run("--version", cwd=tmp_path)
    assert (process.returncode, process.stdout) == (0, f"darknetpy {darknetpy.__version__}\n")


def test_info_names_what_it_runs_on(capsys):
    assert main(["info", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["darknetpy"] == darknetpy.__version__ and facts["simd"] in ("baseline", "avx2", "avx512")
    assert facts["threads"] == darknetpy.get_num_threads() and facts["devices"][0] == "cpu" and facts["packages"]["numpy"]
    assert set(facts["cuda_kernels"]) == {"cuda", "emulated"}
    assert main(["info"]) == 0
    assert re.search(r"^simd .*^cuda kernels +(not built|CUDA|emulated)", capsys.readouterr().out, re.M | re.S)


def test_summary_counts_parameters(tmp_path, capsys):
    cfg = str(tmp_path / write_cfg(tmp_path))
    assert main(["summary", cfg, "--json"]) == 0
    figures = json.loads(capsys.readouterr().out)
    first = figures["layers"][0]
    assert (first["type"], first["filters"], first["trainable"], first["non_trainable"]) == ("convolutional", 4, 36 + 4 + 4, 8)
    assert figures["total"]["trainable"] == 44 + 196 * 10 + 10
    assert main(["summary", cfg]) == 0 and "convolutional" in capsys.readouterr().out


# ---- training
def test_train_writes_every_file_and_ends_with_accuracy(trained):
    folder, process = trained
    assert process.returncode == 0 and process.stderr == ""
    names = {"tiny.csv", "tiny.png", "tiny.backup", "tiny.checkpoint", "tiny_last.weights", "tiny_best.weights", "tiny_final.weights"}
    assert set(os.listdir(folder / "backup")) == names
    last = (folder / "backup/tiny_last.weights").read_bytes()
    assert last == (folder / "backup/tiny.backup").read_bytes() == (folder / "backup/tiny_final.weights").read_bytes()
    assert Image.open(folder / "backup/tiny.png").size[0] > 600
    assert "validation: top-1 " in process.stdout and "top-5 " in process.stdout and "\x1b" not in process.stdout


def test_csv_has_a_row_per_update(trained):
    lines = (trained[0] / "backup/tiny.csv").read_text().splitlines()
    assert lines[0] == "iteration,epoch,loss,average,rate,images_per_second,top1,topk"
    rows = [line.split(",") for line in lines[1:]]
    assert [int(row[0]) for row in rows] == [1, 2, 3, 4, 5, 6]
    assert [bool(row[6]) for row in rows] == [False, False, True, False, False, True]
    assert all(float(row[4]) == .01 for row in rows) and float(rows[5][1]) == round(6 * 16 / 7000, 4)


def test_resume_is_exact(trained, tmp_path):
    """Stop after update 2, go on in another process with other numbers of threads: the files are those of one run."""
    folder = trained[0]
    options = (write_cfg(tmp_path), "--valid-every", 3, "--no-plot")
    first = run("classifier", "train", "fashion-mnist:", *options, "--stop-at", 2, cwd=tmp_path)
    assert first.returncode == 0 and "backup/tiny.checkpoint" in first.stdout
    process = run("classifier", "train", "fashion-mnist:", "tiny.cfg", "backup/tiny.checkpoint", *options[1:], "--threads", 2,
                  "--workers", 2, cwd=tmp_path)
    assert process.returncode == 0, process.stderr
    for name in ("tiny_final.weights", "tiny_best.weights"):
        assert (tmp_path / "backup" / name).read_bytes() == (folder / "backup" / name).read_bytes(), name
    there, here = (read_header(f / "backup/tiny.checkpoint") for f in (folder, tmp_path))
    assert {**there, "cfg_file": None} == {**here, "cfg_file": None}        # digests of all arrays, counters, losses, best
    assert _without_speed(tmp_path / "backup/tiny.csv") == _without_speed(folder / "backup/tiny.csv")


def _without_speed(path):
    return [row[:5] + row[6:] for row in (line.split(",") for line in path.read_text().splitlines())]


def test_resume_keeps_the_seed_and_refuses_another(tmp_path, command):
    cfg = write_cfg(tmp_path)
    base = ("classifier", "train", "fashion-mnist:", cfg)
    assert command(*base, "--seed", 7, "--no-plot", "--stop-at", 2).returncode == 0
    one_line(command(*base, "backup/tiny.checkpoint", "--seed", 8), 2, "seed=7 there, seed=8 here")
    one_line(command(*base, "backup/tiny.checkpoint", "-clear"), 2, "checkpoint", "-clear")
    assert command(*base, "backup/tiny.checkpoint", "--no-plot").returncode == 0
    assert command("classifier", "valid", "fashion-mnist:", cfg, "backup/tiny.checkpoint").returncode == 0


def test_resume_refuses_another_network_or_other_data(trained, tmp_path, command):
    checkpoint = trained[0] / "backup/tiny.checkpoint"
    cfg = write_cfg(tmp_path, max_batches=9)
    (tmp_path / cfg).write_text((tmp_path / cfg).read_text().replace("filters=4", "filters=5"))
    one_line(command("classifier", "train", "fashion-mnist:", cfg, checkpoint), 2, "filters=4 there, filters=5 here")
    write_cfg(tmp_path, max_batches=9)
    one_line(command("classifier", "train", _colour_squares(tmp_path, classes=10), cfg, checkpoint), 2, "other data",
             "train images")


def test_finished_weights_are_refused_unless_cleared(trained, tmp_path, command):
    folder = trained[0]
    base = ("classifier", "train", "fashion-mnist:", folder / "tiny.cfg")
    one_line(command(*base, folder / "backup/tiny.checkpoint"), 2, "finished", "max_batches=6")
    one_line(command(*base, folder / "backup/tiny.backup"), 2, "-clear", "96 images seen")
    # flags stand anywhere, as in Darknet
    process = command("classifier", "train", "fashion-mnist:", "-clear", folder / "tiny.cfg", "-dont_show", folder / "backup/tiny.backup",
                  "--no-plot", "--json")
    assert process.returncode == 0, process.stderr
    figures = json.loads(process.stdout)
    assert figures["iteration"] == 6 and figures["finished"] and 0 <= figures["top1"] <= figures["topk"] <= 1
    assert "6: validation" in process.stderr


def test_max_batches_of_the_command_line(tmp_path, command):
    process = command("classifier", "train", "fashion-mnist:", write_cfg(tmp_path), "--max-batches", 2, "--no-plot", "--json")
    assert json.loads(process.stdout)["max_batches"] == json.loads(process.stdout)["iteration"] == 2


def check_signal(number, status, name, *words, cwd):
    """A training of NAME.cfg, made for long, saves and stops on a signal; going on has the bits of one without it."""
    source = os.path.dirname(os.path.dirname(darknetpy.__file__))
    env = {**os.environ, "PYTHONPATH": source, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen([sys.executable, "-m", "darknetpy", *words, "--no-plot", "--log-every", "1"], cwd=cwd, env=env,
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        process.stdout.readline()                   # the first update is made
        time.sleep(.3)
        process.send_signal(number)
        out, err = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == status and "stopped:" in out and "Traceback" not in err
    assert {f"{name}.checkpoint", f"{name}_last.weights", f"{name}.backup"} <= set(os.listdir(cwd / "backup"))
    stopped = (cwd / f"backup/{name}_last.weights").read_bytes()
    done = int((cwd / f"backup/{name}.csv").read_text().splitlines()[-1].split(",")[0])
    later = ["--no-plot", "--stop-at", done + 3]
    assert run(*out.split("to go on: darknetpy ")[1].split(), *later, cwd=cwd).returncode == 0
    assert run(*words, "--backup", "whole", *later, cwd=cwd).returncode == 0
    weights = (cwd / f"backup/{name}_last.weights").read_bytes()
    assert weights == (cwd / f"whole/{name}_last.weights").read_bytes() != stopped


@pytest.mark.parametrize("number, status", [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_signals_save_and_stop(number, status, tmp_path):
    write_cfg(tmp_path, max_batches=1000000)
    check_signal(number, status, "tiny", "classifier", "train", "fashion-mnist:", "tiny.cfg", cwd=tmp_path)


def test_loss_that_explodes_fails_and_keeps_good_files(trained, tmp_path, command):
    folder = trained[0]
    text = TINY.replace("learning_rate=.01", "learning_rate=1e30").replace("batch_normalize=1\n", "")
    cfg = write_cfg(tmp_path, "wild.cfg", text=text, max_batches=40)
    (tmp_path / "backup").mkdir()
    good = (folder / "backup/tiny.backup").read_bytes()
    for name in ("wild_last.weights", "wild.backup", "wild.checkpoint", "wild_best.weights"):
        (tmp_path / "backup" / name).write_bytes(good)
    process = command("classifier", "train", "fashion-mnist:", cfg, "--no-plot", "--valid-every", 1)
    one_line(process, 1, "not finite", "iteration")
    assert all((tmp_path / "backup" / name).read_bytes() == good
               for name in ("wild_last.weights", "wild.backup", "wild.checkpoint", "wild_best.weights"))


def test_without_matplotlib_one_line_and_no_chart(tmp_path):
    (tmp_path / "stub/matplotlib").mkdir(parents=True)
    (tmp_path / "stub/matplotlib/__init__.py").write_text("raise ImportError('not here')\n")
    process = run("classifier", "train", "fashion-mnist:", write_cfg(tmp_path), cwd=tmp_path, FIRST_PATH=str(tmp_path / "stub"))
    assert process.returncode == 0 and process.stdout.count("matplotlib is not installed") == 1
    assert os.path.exists(tmp_path / "backup/tiny.csv") and not os.path.exists(tmp_path / "backup/tiny.png")


# ---- refusals
@pytest.mark.parametrize("words, parts", [
    (["classifier", "train", "nope.data", "tiny.cfg"], ["nope.data", "No such file"]),
    (["classifier", "train", "fashion-mnist:", "nope.cfg"], ["nope.cfg", "No such file"]),
    (["classifier", "train", "fashion-mnist:", "tiny.cfg", "nope.weights"], ["nope.weights", "No such file"]),
    (["classifier", "train", "fashion-mnist:", "tiny.cfg", "tiny.cfg"], ["tiny.cfg", "text"]),
    (["classifier", "train", "fashion-mnist:", "eleven.cfg"], ["10 classes", "11 outputs"]),
    (["classifier", "valid", "fashion-mnist:", "eleven.cfg", "tiny.cfg"], ["tiny.cfg"]),
    (["classifier", "train", "fashion-mnist:", "endless.cfg"], ["endless.cfg:1", "max_batches"]),
    (["classifier", "train", "fashion-mnist:", "lossless.cfg"], ["no loss layer"]),
    (["classifier", "train", "fashion-mnist:", "tiny.cfg", "--backup", "tiny.cfg"], ["backup folder", "cannot be written"]),
    (["classifier", "train", "fashion-mnist:", "tiny.cfg", "-t", "11"], ["top 11", "1 to 10"]),
    (["classifier", "train", "fashion-mnist:", "tiny.cfg", "--max-batches", "0"], ["--max-batches", "'0'"]),
    (["classifier", "train", "fashion-mnist:", "tiny.cfg", "-bogus"], ["-bogus", "--help"]),
    (["classifier", "train", "fashion-mnist:"], ["CFG", "--help"]),
    (["classifier", "predict", "fashion-mnist:", "tiny.cfg", "nope.weights", "x.png"], ["nope.weights"]),
    (["summary", "typo.cfg"], ["typo.cfg:14", "filter", "filters"]),
    (["explain", "nosuch"], ["nosuch"]),
    (["bogus"], ["bogus", "--help"]),
    ([], ["COMMAND"]),
])
def test_refusals_are_one_line_and_status_2(words, parts, tmp_path, command):
    write_cfg(tmp_path)
    write_cfg(tmp_path, "eleven.cfg", outputs=11)
    write_cfg(tmp_path, "endless.cfg", text=TINY.replace("max_batches={max_batches}\n", ""))
    write_cfg(tmp_path, "lossless.cfg", text=TINY.replace("[softmax]\n", ""))
    write_cfg(tmp_path, "typo.cfg", text=TINY.replace("filters=4", "filter=4"))
    process = command(*words)
    one_line(process, 2, *parts)
    assert process.stdout == "" and not os.path.exists(tmp_path / "backup")


def test_lenient_makes_unknown_keys_notes(tmp_path, command):
    write_cfg(tmp_path, "typo.cfg", text=TINY.replace("filters=4", "filters=4\nfilter=4"))
    process = command("summary", "typo.cfg", "--lenient")
    assert process.returncode == 0 and process.stderr.startswith("note: typo.cfg:15: ") and "ignored" in process.stderr


@pytest.mark.parametrize("number, name", [(errno.ENOSPC, "No space left on device"), (errno.ENOENT, "No such file or directory")])
def test_failing_to_save_is_a_failure_not_a_wrong_input(number, name, tmp_path, command, monkeypatch):
    def fail(net, path):
        raise OSError(number, name, path)

    monkeypatch.setattr(training, "save_weights", fail)
    result = command("classifier", "train", "fashion-mnist:", write_cfg(tmp_path), "--no-plot")
    one_line(result, 1, "tiny_best.weights", name)


def test_interrupts_outside_training_have_their_status_too(command, monkeypatch):
    for interrupt, status in ((KeyboardInterrupt(), 130), (Interrupted(signal.SIGTERM), 143)):
        monkeypatch.setattr("darknetpy.cli.info.collect", Mock(side_effect=interrupt))
        assert command("info").returncode == status


def test_closed_pipe_is_quiet(tmp_path):
    source = os.path.dirname(os.path.dirname(darknetpy.__file__))
    process = subprocess.run(f"{sys.executable} -m darknetpy explain net | head -1", shell=True, cwd=tmp_path, capture_output=True,
                             text=True, env={**os.environ, "PYTHONPATH": source})
    assert process.stderr == "" and len(process.stdout.splitlines()) == 1


# ---- images from files
def _colour_squares(folder, classes=2):
    """A .data file with images whose shade is their class."""
    (folder / "img").mkdir(exist_ok=True)
    names = [f"shade{i}" for i in range(classes)]
    lines = []
    for number in range(4 * classes):
        path = folder / "img" / f"{names[number % classes]}_{number}.png"
        Image.new("L", (30, 28), 20 + 200 * (number % classes) // classes).save(path)
        lines.append(f"img/{path.name}")
    (folder / "train.list").write_text("\n".join(lines) + "\n")
    (folder / "valid.list").write_text("\n".join(lines[:classes]) + "\n")
    (folder / "names.list").write_text("\n".join(names) + "\n")
    (folder / "squares.data").write_text(f"classes={classes}\ntrain=train.list\nvalid=valid.list\nlabels=names.list\nbackup=saved\n")
    return "squares.data"


def test_train_and_predict_from_image_files(tmp_path, command):
    data, cfg = _colour_squares(tmp_path), write_cfg(tmp_path, max_batches=25, outputs=2)
    process = command("classifier", "train", data, cfg, "--no-plot", "--json")
    assert process.returncode == 0, process.stderr
    assert json.loads(process.stdout)["k"] == 2 and os.path.exists(tmp_path / "saved/tiny_final.weights")
    base = ("classifier", "predict", data, cfg, "saved/tiny_final.weights")
    found = json.loads(command(*base, "img/shade0_0.png", "img/shade1_1.png", "--json").stdout)
    assert [f["image"] for f in found] == ["img/shade0_0.png", "img/shade1_1.png"]
    for image in found:
        shares = [p["probability"] for p in image["predictions"]]
        assert shares == sorted(shares, reverse=True) and abs(sum(shares) - 1) < 1e-5
    lines = command(*base, "img/shade0_0.png", "-t", 1).stdout.splitlines()
    best = found[0]["predictions"][0]
    assert lines == [f"{100 * best['probability']:6.2f}%: {best['name']}"]
    from_stdin = command(*base, "-top", "1", stdin="img/shade0_0.png\n")
    assert from_stdin.stdout.splitlines() == ["img/shade0_0.png:", *lines]
    (tmp_path / "broken.png").write_bytes(b"no image")
    refused = command(*base, "broken.png")
    one_line(refused, 2, "broken.png")
    assert refused.stdout == ""


def test_bad_images_stop_or_are_counted(tmp_path, command):
    data, cfg = _colour_squares(tmp_path), write_cfg(tmp_path, max_batches=5, outputs=2)
    (tmp_path / "img/shade1_3.png").write_bytes(b"broken")
    one_line(command("classifier", "train", data, cfg, "--no-plot"), 2, "train.list:4", "shade1_3.png")
    process = command("classifier", "train", data, cfg, "--no-plot", "--on-bad-image", "skip")
    assert process.returncode == 0 and process.stdout.count("skipped: ") == 1 and "train.list:4" in process.stdout


def test_valid_agrees_with_training(trained, tmp_path, command):
    folder = trained[0]
    process = command("classifier", "valid", "fashion-mnist:", folder / "tiny.cfg", folder / "backup/tiny_final.weights", "-topk", "--json")
    figures = json.loads(process.stdout)
    last = (folder / "backup/tiny.csv").read_text().splitlines()[-1].split(",")
    assert [figures["top1"], figures["topk"]] == [float(last[6]), float(last[7])] and figures["images"] == 1000 and figures["k"] == 5
