"""The benchmarks on a device: the emulated kernels, and those behind a driver of ours; PyTorch's CPU stands in for its GPU."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import subprocess
import sys
import types

import numpy as np
import pytest
import test_bench_kernels
from cuda_calls import library
from fake_gpu import environment, make_driver
from test_bench import CFG, DETECTOR, run_command, settings
from twin import ROOT

from darknetpy import gpu, plots
from darknetpy.bench import forms, kernels, kernels_report, network, place, process, report, worker
from darknetpy.core import core
from darknetpy.errors import DarknetError, DeviceError

HAS_TORCH = importlib.util.find_spec("torch") is not None
SHAPE = (3, 4, 5, 6)


@pytest.fixture(scope="module", autouse=True)
def _built():
    library()


@pytest.fixture
def cfg(tmp_path):
    path = tmp_path / "small.cfg"
    path.write_text(CFG)
    return str(path)


# ---- arrays and time
def test_arrays_of_a_place(rng):
    there, values = place.Place("emulated"), rng.standard_normal((3, 5)).astype(np.float32)
    x, mean = there.put(values), there.take(3)
    there.lib.mean_gpu(x, 1, 3, 5, mean)
    there.wait()
    found = np.empty(3, np.float32)
    there.lib.dn_gpu_pull(there._ffi.cast("void *", found.ctypes.data), mean, 12)
    np.testing.assert_allclose(found, values.mean(1), rtol=1e-5)
    there.release(1)
    there.lib.mean_gpu(x, 1, 3, 5, mean)
    with pytest.raises(DarknetError, match="emulated: .*is not in device memory"):
        there.wait()
    there.release()
    assert there._taken == []


class Clock:
    """Time that calls and waits take: a wait as much as ten calls that were begun."""

    def __init__(self, monkeypatch):
        self.now, self.waits, self.calls = 0.0, 0, 0
        monkeypatch.setattr(worker.time, "perf_counter", lambda: self.now)

    def call(self):
        self.calls += 1
        self.now += 1

    def wait(self):
        self.waits += 1
        self.now += 10


def test_waits_weigh_little_in_a_long_turn(monkeypatch):
    clock = Clock(monkeypatch)
    assert worker.time_queued(clock.call, 10_000, clock.wait) == pytest.approx(1, rel=0.01)
    assert clock.waits < clock.calls / 100
    clock = Clock(monkeypatch)
    assert worker.time_queued(clock.call, 0, clock.wait) == 11 and clock.calls == 1


def test_a_step_ends_when_its_work_does(monkeypatch):
    clock = Clock(monkeypatch)
    clock.step = clock.call
    assert worker.run_steps(clock, 0, 3) == {"steps": 3, "seconds": 13}
    times = worker.time_parts([clock.call] * 2, 1, lambda: None, clock.wait)
    assert times.tolist() == [11, 11]


def test_parts_are_timed_between_marks_without_a_wait(monkeypatch):
    clock, freed = Clock(monkeypatch), []

    class Marks:
        def __init__(self, count):
            self.order, self.count = [], count

        def set(self, i):
            self.order.append(i)

        def seconds(self):
            assert self.order == list(range(self.count))
            self.order.clear()
            return [5.0, 7.0]

        def free(self):
            freed.append(self)

    times = worker.time_parts([clock.call] * 2, 3, lambda: None, clock.wait, Marks)
    assert times.tolist() == [5, 7] and (clock.calls, clock.waits, len(freed)) == (8, 0, 1)


def test_marks_of_a_device():
    there = place.Place("emulated")
    marks = there.marks(3)
    marks.set(0)
    there.lib.fill_gpu(8, 1, there.take(8), 1)
    marks.set(1)
    marks.set(2)
    seconds = marks.seconds()
    assert len(seconds) == 2 and min(seconds) >= 0
    there.lib.fill_gpu(8, 1, core.ffi.NULL, 1)
    marks.set(2)
    with pytest.raises(DarknetError, match="emulated: fill_kernel"):
        marks.seconds()
    marks.free()
    there.release()


# ---- bench kernels
def test_darknets_cuda_functions_have_their_twins():
    assert set(forms.TWINS.values()) == set(forms.KERNELS)
    assert all(hasattr(library(), name) for name in forms.TWINS)
    assert forms.TWINS["fast_mean_gpu"] == "mean_cpu" and forms.TWINS["scale_bias_gpu"] == "scale_bias"


def test_every_form_runs_on_the_device():
    found = kernels.compare_kernels(test_bench_kernels.settings(threads=(1, 2), devices=("cpu", "emulated")))
    there = [row for row in found.rows if row.device == "emulated"]
    assert [row.form for row in there] == forms.forms_of(forms.LAYERS, device="emulated") and len(there) == 21
    assert all(row.threads == 0 and row.seconds["darknetpy"][0] > 0 and set(row.memory[0]) == {"copy"} for row in there)
    assert len(found.rows) == 2 * len(forms.forms_of(forms.LAYERS)) + len(there)
    for row in found.accuracy:
        ours, on_device = row["errors"]["darknetpy"], row["errors"]["darknetpy@emulated"]
        assert ours.keys() == on_device.keys()
        assert max(error["largest"] for error in on_device.values()) < (1e-5 if "deviation 1" in row["data"] else 1e-3)
    shown = kernels_report.text(found)
    assert "emulated: the CUDA kernels on the CPU: times are the emulator's, not a GPU's" in shown
    assert "fast_variance_delta_gpu  emulated" in shown and "streaming GB/s, emulated, median" in shown
    assert not any("emulated" in line for line in kernels_report.shortfalls(found))


def test_device_functions_compute_what_their_twins_do():
    """One call of each CUDA function through the benchmark's program, on arrays that come back."""
    from darknetpy.bench import ours_device_kernels

    program = ours_device_kernels.Program({"device": "emulated"}, None)
    x, delta = worker.tensors(SHAPE)
    named = worker.named_arguments(x, delta)
    sums, taken = next(a for a in named["mean_cpu"] if getattr(a, "shape", None) == (4,)), []
    put = program.place.put
    program.place.put = lambda array: taken.append((array, put(array))) or taken[-1][1]
    program.prepare(x, delta, named, ["batchnorm"], None)
    address = next(at for array, at in taken if array is sums)
    for form, wanted in (("mean_gpu", x.mean((0, 2, 3))), ("fast_mean_delta_gpu", -delta.sum((0, 2, 3)))):
        program.calls[form]()
        program.wait()
        found = np.empty(4, np.float32)
        program.place.lib.dn_gpu_pull(program.place._ffi.cast("void *", found.ctypes.data), address, 16)
        np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5)


def test_ratio_to_the_cpu_is_to_most_threads():
    found = kernels.Found(kernels.Settings(devices=("cpu", "gpu"), threads=(1, 2), shapes=(SHAPE,)))
    memory = [{"copy": 1e9}] * 2
    for form, device, n, times in (("mean_cpu", "cpu", 1, [9.0, 9.0]), ("mean_cpu", "cpu", 2, [6.0, 8.0]),
                                   ("fast_mean_gpu", "gpu", 0, [2.0, 4.0])):  # fmt: skip
        found.rows.append(kernels.Row(form, SHAPE, n, {"darknetpy": times}, memory, 0, device))
    assert found.beside_cpu(found.rows[2]) == [3, 2] and found.beside_cpu(found.rows[0]) is None
    assert found.settings.places() == [("cpu", 1), ("cpu", 2), ("gpu", 0)] and found.rows[2].of_passes() == []
    found.facts = {"darknetpy@gpu": {"device": "a fake", "cache": 100}}
    head, *rows = kernels_report.shape_table(found, SHAPE)
    assert [rows[2][head.index(name)] for name in ("device", "threads", "to the CPU")] == ["gpu", "", "2.50x (2.00 to 3.00)"]
    assert "fits in the cache" not in kernels_report._title(found, SHAPE) and "exceeds gpu's" in kernels_report._title(found, SHAPE)


def test_kernels_command_draws_and_writes(tmp_path, capsys):
    paths = {kind: str(tmp_path / f"x.{kind}") for kind in ("json", "md", "png")}
    words = ["--device", "cpu,emulated", "--shapes", "3x4x5x6", "--threads", "1", "--peers", "none", "--layers", "groupnorm"]
    words += ["--json", paths["json"], "--output", paths["md"]]
    assert test_bench_kernels.run_command(*words, *(["--plot", paths["png"]] if plots.can_plot() else [])) == 0
    assert "to the CPU" in capsys.readouterr().out
    with open(paths["json"]) as file:
        record = json.load(file)
    assert [(row["form"], row["device"]) for row in record["rows"]] == [
        (f"groupnorm {verb}", device) for device in ("cpu", "emulated") for verb in ("forward", "backward")]  # fmt: skip
    with open(paths["md"]) as file:
        page = file.read()
    assert "--device cpu,emulated" in page and "On a device arrays lie in its memory" in page
    assert "emulated: the CUDA kernels on the CPU" in page


@pytest.mark.parametrize("subject", ["kernels", "network"])
def test_devices_that_are_not_there_end_the_command(subject, cfg, monkeypatch):
    monkeypatch.setitem(gpu.MODULES, "cuda", "darknetpy._nowhere")
    command = test_bench_kernels.run_command if subject == "kernels" else lambda *words: run_command(cfg, *words)
    with pytest.raises(DeviceError, match="device='gpu': its kernels are not built"):
        command("--device", "cpu,gpu", "--peers", "none")
    with pytest.raises(DeviceError, match=r"device='tpu': wanted cpu, gpu \(gpu:1 is the second\) or emulated"):
        command("--device", "cpu,tpu")


# ---- bench network
@pytest.mark.parametrize("train", [True, False])
def test_our_kernels_for_a_gpu_are_a_peer(cfg, train):
    found = network.compare(cfg, settings(train=train, devices=("gpu", "emulated"), peers=("darknet",)))
    names = [result.name for result in found.results if result.name != "darknetpy@gpu"]
    assert names == ["darknetpy", "darknetpy@emulated"]     # other peers are the CPU's
    if "darknetpy@gpu" not in [result.name for result in found.results]:
        assert any(note.startswith("left out: darknetpy, gpu: ") and "device='gpu'" in note for note in found.notes)
    emulated = found.results[-1]
    assert 0 < emulated.check["output"] < 1e-4 and emulated.beside_cpu[0] > 0 and emulated.speedup is None
    assert "darknetpy, emulated: the CUDA kernels on the CPU" in report.text(found)
    assert ["the CPU, on emulated", "1"] in [row[:2] for row in report.summary_table([found])]


@pytest.mark.parametrize("name, text", [("classifier", CFG), ("detector", DETECTOR), ("region", None)])
def test_each_layer_runs_alone_on_the_device(name, text, tmp_path):
    path = tmp_path / "small.cfg"
    if text is None:     # whose passes the host runs
        with open(os.path.join(ROOT, "cfg", "scenes-v2.cfg")) as file:
            text = file.read().replace("=96", "=32")
    path.write_text(text)
    found = network.compare(str(path), settings(devices=("cpu", "emulated"), per_layer=True), batch=2)
    for row in found.layers:
        assert row["seconds"].keys() == {"darknetpy", "darknetpy@emulated"}
        assert row["seconds"]["darknetpy@emulated"].keys() == row["seconds"]["darknetpy"].keys()
        assert all(seconds > 0 for seconds in row["seconds"]["darknetpy@emulated"].values())
    shown = report.text(found)
    assert shown.count("Each layer alone") == 2 and "Each layer alone on emulated" in shown
    head, *rows = report.layer_table(found, "emulated")
    assert head[-1] == "to the CPU" and rows[-1][-1].endswith("x")


def test_a_layer_alone_computes_what_it_does_in_its_network(cfg):
    """The values that the passes of single layers leave on the device are those of the whole network."""
    from darknetpy.bench import ours

    job = {"cfg": cfg, "batch": 4, "train": True, "threads": 1, "device": "emulated", "keep_activations": True}
    program = ours.Program(job, worker.workload)
    program._images = program.place.put(program.images)
    program.net.forward(program.images, program.truth, train=True)
    program.net.backward()
    before = program.net[2].bias_updates.sum()
    layers = program.net.layers[:3]
    outputs = [np.array(layer.output) for layer in layers]
    for layer in layers:
        layer.output = np.full(layer.output.shape, 7, np.float32)
    for i, values in enumerate(outputs):
        program._part("forward_layer", i, set())()
        program.wait()
        np.testing.assert_allclose(layers[i].output, values, rtol=1e-5, atol=1e-6)
    layers[1].delta = np.zeros(outputs[1].shape, np.float32)
    layers[2].delta = np.ones(outputs[2].shape, np.float32)
    layers[2].weight_updates = np.zeros(layers[2].weight_updates.shape, np.float32)
    program._part("backward_layer", 2, set())()
    program.wait()
    ones = (outputs[2] > 0).astype(np.float32)      # the slope of its relu
    np.testing.assert_allclose(layers[2].bias_updates.sum() - before, ones.sum(), rtol=1e-5)
    assert np.abs(layers[1].delta).max() > 0


def test_a_layer_alone_reads_the_truth_on_the_device(cfg, monkeypatch):
    """The emulated kernels could read the host's; a GPU's cannot."""
    from darknetpy.bench import ours

    class Lib:
        def __getattr__(self, name):
            called.append(name)
            return getattr(core.lib, name)

    called = []
    job = {"cfg": cfg, "batch": 4, "train": True, "threads": 1, "device": "emulated", "keep_activations": True}
    program = ours.Program(job, worker.workload)
    monkeypatch.setattr(ours, "core", types.SimpleNamespace(lib=Lib(), ffi=core.ffi, address=core.address, check=core.check))
    found = program.layers(worker.time_parts, 1)
    assert len(found["forward"]) == len(program.net.layers) and "set_network_input" in called
    assert "set_network_truth" not in called


# ---- a GPU
@pytest.fixture(scope="module")
def driver(tmp_path_factory):
    return make_driver(tmp_path_factory.mktemp("driver"))


def darknetpy(folder, *words, torch=False, **more):
    """Run the command where there is a GPU."""
    env = {**os.environ, **environment(folder, torch), **more}
    done = subprocess.run([sys.executable, "-m", "darknetpy", *words], cwd=ROOT, env=env, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout


KERNELS = ["bench", "kernels", "--device", "cpu,gpu", "--shapes", "3x4x5x6", "--threads", "1", "--rounds", "1", "--seconds", ".001"]


def test_kernels_on_a_gpu(driver):
    shown = darknetpy(driver, *KERNELS, "--peers", "none")
    assert "gpu: fake 0, 1.1 GB, kernels of emulated" in shown and re.search("^fast_mean_gpu +gpu ", shown, re.M)
    assert darknetpy(driver, *KERNELS, "--peers", "none", "--fused", "--device", "gpu:1", FAKE_GPUS="2").count("gpu:1: fake 1") == 1


@pytest.mark.skipif(not HAS_TORCH, reason="torch is not installed")
def test_torch_without_a_gpu_is_left_out(driver, cfg):
    shown = darknetpy(driver, *KERNELS, "--fused", "--peers", "torch")
    assert "note: left out: PyTorch, gpu: RuntimeError: PyTorch" in shown and "torch.cuda.is_available() is False" in shown
    shown = darknetpy(driver, "bench", "network", cfg, "--device", "gpu", "--rounds", "1", "--seconds", ".01", "--peers", "torch")
    assert shown.count("note: left out: PyTorch, gpu: RuntimeError: PyTorch") == 1 and "darknetpy, gpu" in shown


@pytest.mark.skipif(not HAS_TORCH, reason="torch is not installed")
def test_torch_is_the_peer_on_a_gpu(driver, tmp_path):
    shown = json.loads(darknetpy(driver, *KERNELS, "--peers", "torch-best,torch", "--json", torch=True))
    there = [row for row in shown["rows"] if row["device"] == "gpu"]
    assert len(there) == 21 and all(set(row["seconds"]) == {"darknetpy", "torch"} for row in there)
    assert shown["facts"]["torch@gpu"]["program"].endswith("without TF32")
    for kind, text in (("--train", CFG), ("--infer", CFG), ("--train", DETECTOR.replace("num=3", "num=3\nignore_thresh=.2"))):
        (tmp_path / "small.cfg").write_text(text)
        words = ["bench", "network", str(tmp_path / "small.cfg"), kind, "--rounds", "1", "--seconds", ".01", "--per-layer", "--json"]
        found = json.loads(darknetpy(driver, *words, "--device", "gpu", "--peers", "torch", "--batch", "2", torch=True))["networks"][0]
        results = {result["name"]: result for result in found["results"]}
        assert list(results) == ["darknetpy", "darknetpy@gpu", "torch@gpu", "torch-best@gpu"], found["notes"]
        assert results["torch@gpu"]["check"]["output"] < 1e-5 and results["torch-best@gpu"]["device_bytes"] == 12345678
        ours, theirs = results["darknetpy@gpu"], results["torch@gpu"]
        assert theirs["speedup"] == pytest.approx([theirs["step"][0] / ours["step"][0]]) and theirs["beside_cpu"] is None
        assert ours["beside_cpu"] == pytest.approx([results["darknetpy"]["step"][0] / ours["step"][0]])
        assert 0 < ours["device_bytes"] < 1e8 and ours["facts"]["device"].startswith("fake 0")
        assert found["layers"][0]["seconds"].keys() == {"darknetpy", "darknetpy@gpu", "torch-best@gpu"}


@pytest.mark.skipif(not HAS_TORCH, reason="torch is not installed")
@pytest.mark.parametrize("kind", ["--train", "--infer"])
def test_torch_has_the_precision_of_the_cfg(kind, driver, tmp_path):
    (tmp_path / "small.cfg").write_text(CFG.replace("[net]\n", "[net]\nprecision=bf16\n"))
    words = ["bench", "network", str(tmp_path / "small.cfg"), kind, "--rounds", "1", "--seconds", ".01", "--per-layer", "--device", "gpu",
             "--peers", "torch", "--batch", "8"]
    shown = darknetpy(driver, *words, torch=True)
    assert re.search("^darknetpy, gpu: fake 0.*, products in bf16$", shown, re.M)
    assert re.search("^PyTorch, gpu: PyTorch on a fake, bf16$", shown, re.M) and "left out" not in shown
    check = json.loads(darknetpy(driver, *words, "--json", torch=True))["networks"][0]["results"]
    assert [1e-5 < result["check"]["output"] < 5e-2 for result in check[1:3]] == [True, True]


@pytest.fixture
def peer(monkeypatch):
    """A function that imports a file of the benchmark which knows nothing of darknetpy."""
    pytest.importorskip("torch")
    folder = os.path.dirname(process.__file__)
    monkeypatch.setattr(sys, "path", [*sys.path, folder])

    def load(name):
        spec = importlib.util.spec_from_file_location(name, os.path.join(folder, f"{name}.py"))
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    return load


@pytest.mark.parametrize("train", [True, False])
def test_batch_normalization_as_modules_choose_it_computes_the_same(peer, train):
    import torch

    x, delta = (torch.from_numpy(array) for array in worker.tensors(SHAPE))
    plain, chosen = (kind(SHAPE, None) for kind in (peer("torch_kernels").BatchNorm, peer("torch_kernels").ChosenBatchNorm))
    for layer in (plain, chosen):
        layer.mean += 0.5
    torch.testing.assert_close(chosen.forward(x, train), plain.forward(x, train))
    torch.testing.assert_close((chosen.mean, chosen.variance), (plain.mean, plain.variance))
    if train:
        torch.testing.assert_close(chosen.backward(x, delta), plain.backward(x, delta))


def test_gpus_that_torch_does_not_have(peer, monkeypatch):
    import torch

    use_gpu = peer("torch_device").use_gpu
    assert use_gpu("cpu").type == "cpu"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(RuntimeError, match=r"has no GPU here: torch.cuda.is_available\(\) is False"):
        use_gpu("gpu")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(RuntimeError, match=r"PyTorch has 1 GPU\(s\), no cuda:1"):
        use_gpu("gpu:1")


def test_what_torch_multiplies_on_a_gpu(peer, monkeypatch):
    import torch

    torch_device, gpu_device = peer("torch_device"), types.SimpleNamespace(type="cuda")
    for name in ("is_available", "set_device", "get_device_name", "is_bf16_supported"):
        monkeypatch.setattr(torch.cuda, name, lambda *_, **__: "a GPU")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch, "set_default_device", lambda _: None)
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    try:
        for precision, allowed in (("tf32", True), ("fp32", False), ("bf16", False)):
            torch_device.use_gpu("gpu", precision)
            assert torch.backends.cuda.matmul.allow_tf32 is torch.backends.cudnn.allow_tf32 is allowed
    finally:
        torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before
    casts = {word: torch_device.mixed(gpu_device, word) for word in ("fp32", "tf32", "fp16", "bf16")}
    assert [getattr(casts[word], "fast_dtype", None) for word in casts] == [None, None, torch.float16, torch.bfloat16]
    assert torch_device.describe(gpu_device, "fp16").endswith("autocast to float16, with loss scaling in training")
    assert torch_device.describe(gpu_device).endswith("float32 without TF32")
    assert not isinstance(torch_device.mixed(torch.device("cpu"), "bf16"), torch.autocast)


def test_names_of_programs_on_devices():
    assert process.on_device("torch", "cpu") == "torch" and process.label_of("torch-best@gpu:1") == "PyTorch, best, gpu:1"
    assert process.device_of("torch") == "cpu" and process.device_of("darknetpy@gpu:1") == "gpu:1"
