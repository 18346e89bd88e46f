"""`make test-gpu` and `make bench-gpu`: what they say without a GPU, and their commands over the emulator."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import stat
import subprocess
import sys

import pytest
from cuda_calls import library
from twin import ROOT

from darknetpy import plots
from darknetpy.cli.parser import make_parser

TESTS = os.path.dirname(os.path.abspath(__file__))
READY = os.path.join(ROOT, "cuda", "ready.py")


def run(*words, **environment):
    return subprocess.run(words, cwd=ROOT, env={**os.environ, **environment}, capture_output=True, text=True, timeout=300)


def make(*words, **environment):
    if shutil.which("make") is None:
        pytest.skip("make is not installed")
    # As if no make ran these tests: it would name folders, and itself with its level.
    return run("make", f"PYTHON={sys.executable}", *words, MAKEFLAGS="", MAKELEVEL="0", **environment)


def executable(path, text):
    path.write_text(text)
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return str(path)


@pytest.fixture(scope="module")
def driver(tmp_path_factory):
    """A folder with a driver of ours: see fake_driver.c."""
    if shutil.which("gcc") is None:
        pytest.skip("gcc is not installed")
    folder = tmp_path_factory.mktemp("driver")
    source = os.path.join(TESTS, "fake_driver.c")
    subprocess.run(["gcc", "-shared", "-fPIC", "-Wl,-soname,libcuda.so.1", source, "-o", str(folder / "libcuda.so.1")], check=True)
    return str(folder)


# ---- is there a GPU?
@pytest.mark.parametrize(
    "device, environment, message",
    [
        ("gpu", {"FAKE_GPUS": "0"}, r"DEVICE=gpu: the NVIDIA driver has no GPU here \(its status: 0\)"),
        ("gpu", {"FAKE_INIT": "100"}, r"DEVICE=gpu: the NVIDIA driver has no GPU here \(its status: 100\)"),
        ("gpu:2", {"FAKE_GPUS": "2"}, r"DEVICE=gpu:2: the NVIDIA driver has 2 GPU\(s\), gpu:0 to gpu:1"),
        ("gpu", {"NVCC": "/nowhere/nvcc", "PATH": "/nowhere"}, None),
        ("emulated", {"CXX": "/nowhere/g++"}, "DEVICE=emulated: /nowhere/g.. is not installed, which compiles the kernels"),
        ("gpu:x", {}, r"DEVICE=gpu:x: wanted gpu, gpu:1 \(the second\) or emulated"),
        ("cpu", {}, r"DEVICE=cpu: wanted gpu, .*"),
    ],
)
def test_what_is_missing_is_one_line(driver, device, environment, message):
    if message is None and os.path.exists("/usr/local/cuda/bin/nvcc"):
        pytest.skip("nvcc is here")
    found = run(sys.executable, READY, device, LD_LIBRARY_PATH=driver, **environment)
    message = message or "DEVICE=gpu: /nowhere/nvcc is not installed, which compiles the kernels"
    assert found.returncode == 1 and not found.stdout and re.fullmatch(message + "\n", found.stderr), found.stderr


def test_the_architecture_is_the_gpus(driver):
    if not shutil.which("nvcc") and not os.path.exists("/usr/local/cuda/bin/nvcc"):
        pytest.skip("nvcc is not installed")
    found = run(sys.executable, READY, "gpu:1", "--arch", LD_LIBRARY_PATH=driver, FAKE_GPUS="2")
    assert (found.returncode, found.stdout, found.stderr) == (0, "90\n", "")


@pytest.mark.parametrize("target", ["test-gpu", "bench-gpu"])
def test_without_a_gpu_a_target_is_one_line(target, tmp_path):
    if run(sys.executable, READY, "gpu").returncode == 0:
        pytest.skip("a GPU is here")
    found = make(target, f"OURS={tmp_path / 'made'}")
    line, rest = found.stderr.split("\n", 1)
    assert re.fullmatch(r"DEVICE=gpu: (no NVIDIA driver here|the NVIDIA driver has no GPU here) \(.*\)", line), found.stderr
    assert found.returncode and not found.stdout and re.fullmatch(r"make: \*\*\* \[.*device-ready\] Error 1\n", rest)
    assert not (tmp_path / "made").exists()


def test_wheels_that_are_not_there(tmp_path):
    found = make("bench-gpu", "DEVICE=emulated", f"OURS={tmp_path / 'made'}", "WHEELS=/no/where")
    assert found.returncode and found.stderr.startswith("WHEELS=/no/where: no such folder\n") and not (tmp_path / "made").exists()


def test_an_environment_has_the_packages_of_its_python(tmp_path):
    pytest.importorskip("pip")
    found = run(sys.executable, READY, "emulated", "--environment", str(tmp_path / "own"))
    if "is not installed" in found.stderr:
        pytest.skip(found.stderr)
    assert found.returncode == 0, found.stderr
    python = str(tmp_path / "own" / "bin" / "python")
    script = "import sys, cffi, numpy, pytest; print(sys.prefix)"
    assert run(python, "-c", script, PYTHONPATH="").stdout == f"{tmp_path / 'own'}\n"
    assert run(python, "-m", "pip", "--version").returncode == 0


@pytest.mark.parametrize("device, message", [("cpu", "the tests compare with the CPU; wanted gpu"), ("tpu", "device='tpu': wanted cpu"),
                                             ("gpu:99", "device='gpu:99': ")])  # fmt: skip
def test_tests_on_a_device_that_is_not_there(device, message):
    found = run(sys.executable, "-m", "pytest", "-q", "tests/test_device.py", DARKNETPY_TEST_DEVICE=device)
    assert found.returncode == 1 and "passed" not in found.stdout
    lines = [line for line in (found.stdout + found.stderr).splitlines() if line.strip()]
    assert len(lines) == 1 and f"DARKNETPY_TEST_DEVICE={device}: {message}" in lines[0]


# ---- the commands, over the emulator
@pytest.fixture
def ours(tmp_path):
    """An environment that is ready: this Python's own."""
    library()
    (tmp_path / "bin").mkdir()
    executable(tmp_path / "bin" / "python", f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    return ["-o", "device-built", f"OURS={tmp_path}", "DEVICE=emulated"]


TINY = ["ON_DEVICE=tests/test_cuda_kernels.py -k darknets_fast_names", "SANITIZED=darknets_fast_names and mean"]


def test_kernels_are_tested_without_the_sanitizer_where_it_is_not(ours):
    found = make("test-gpu", *ours, *TINY, "SANITIZER=/nowhere/compute-sanitizer")
    assert found.returncode == 0, found.stderr
    assert "4 passed" in found.stdout
    assert found.stdout.endswith("compute-sanitizer is not installed: memcheck, racecheck and initcheck are skipped\n")
    found = make("test-gpu", *ours, "ON_DEVICE=tests/no_such_file.py", "SANITIZER=/nowhere/compute-sanitizer")
    assert found.returncode != 0


@pytest.mark.parametrize("bad", [None, "racecheck"])
def test_the_sanitizer_runs_each_tool_over_some_tests(bad, ours, tmp_path):
    """A stand-in that notes its words and runs the command."""
    script = f"""#!/bin/sh
echo "$@" >> {tmp_path}/said
tool=$2
while [ "${{1#*/bin/python}}" = "$1" ]; do shift; done
"$@" || exit 1
[ $tool != {bad} ] || exit 9
"""
    found = make("test-gpu", *ours, *TINY, f"SANITIZER={executable(tmp_path / 'sanitizer', script)}")
    said = (tmp_path / "said").read_text().splitlines()
    assert [line.split()[1] for line in said] == ["memcheck", "racecheck", "initcheck"]
    assert all("--error-exitcode 9" in line for line in said)
    assert found.stdout.count("2 passed") == 3, found.stdout
    assert (found.returncode == 0) == (bad is None) and ("racecheck: failed" in found.stdout) == (bad is not None)


def test_tests_under_the_sanitizer_are_there():
    with open(os.path.join(ROOT, "Makefile")) as file:
        text = file.read().replace("\\\n", " ")
    words = re.search(r"^SANITIZED := (.*?)\n\S", text, re.M | re.S)[1]
    files = [f"tests/test_{name}" for name in re.search(r"^ON_DEVICE := .*test_,(.*)\)$", text, re.M)[1].split()]
    found = run(sys.executable, "-m", "pytest", "-q", "--collect-only", *files, "-k", words.strip())
    assert all(name in found.stdout for name in ("[mean_cpu]", "[batchnorm_backward_cpu]", "[groupnorm_backward_cpu]", "[softmax_cpu]",
                                                 "classifier-kept")), found.stdout  # fmt: skip
    assert 10 < found.stdout.count("::test_") < 40


def test_commands_of_a_gpu():
    spec = importlib.util.spec_from_file_location("cuda_bench", os.path.join(ROOT, "cuda", "bench.py"))
    bench = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(bench)
    for words in bench.commands("gpu").values():
        args = make_parser().parse_args(["bench", *words])
        assert "gpu" in args.device.split(",") and args.peers == "torch"
    assert all(os.path.exists(os.path.join(ROOT, path.partition(":")[0])) for path in [*bench.NETWORKS.values(), *bench.networks()])


def test_a_page_is_written(ours, tmp_path):
    if not plots.can_plot():
        pytest.skip("matplotlib is not installed")
    found = make("bench-gpu", *ours, f"FOLDER={tmp_path}")
    assert found.returncode == 0, found.stderr
    page = (tmp_path / "gpu-emulated.md").read_text()
    assert page.startswith("# emulated\n") and page.count("times are the emulator's, not a GPU's") >= 2
    assert "](gpu-emulated.png)" in page and "](gpu-emulated-networks.png)" in page and "\n## Whole networks" in page
    assert all((tmp_path / name).read_bytes()[:4] == b"\x89PNG" for name in ("gpu-emulated.png", "gpu-emulated-networks.png"))
    figures = json.loads((tmp_path / "gpu-emulated.json").read_text())
    assert {row["device"] for row in figures["kernels"]["rows"]} == {"cpu", "emulated"}
    network = figures["networks"]["networks"][0]
    assert "darknetpy@emulated" in network["layers"][0]["seconds"] and network["results"][-1]["beside_cpu"]
