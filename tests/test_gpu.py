"""The GPU through PyCUDA without one: a driver of ours (fake_driver.c) gives it host memory, and the kernels are the emulated ones.

Without PyCUDA, gcc or nm what needs them is skipped.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys

import pytest
from fake_gpu import make_driver
from twin import ROOT

from darknetpy import gpu
from darknetpy.errors import DeviceError
from darknetpy.gpu_libraries import VARIABLE

CFG = """[net]
batch={batch}
width=16
height=16
channels=3
learning_rate=.01

[convolutional]
batch_normalize=1
filters=8
size=3
pad=1
activation=leaky

[maxpool]
size=2
stride=2

[convolutional]
filters=10
size=1
activation=linear

[avgpool]

[softmax]
"""
BEGIN = """
import gc, json, sys
import numpy as np
import darknetpy as dn
from darknetpy import gpu
gpu.MODULES["cuda"] = gpu.MODULES["emulated"]
r = np.random.default_rng(0)
def data(net):
    return r.standard_normal((net.batch, net.inputs)).astype(np.float32), r.integers(0, 10, net.batch)
"""


@pytest.fixture(scope="module")
def driver(tmp_path_factory):
    return make_driver(tmp_path_factory.mktemp("driver"))


@pytest.fixture
def run(driver, tmp_path):
    """Run a script with the fake driver; return what it printed as JSON."""
    (tmp_path / "a.cfg").write_text(CFG.format(batch=4))
    (tmp_path / "large.cfg").write_text(CFG.format(batch=64).replace("=16", "=128"))

    def process(script, begin=BEGIN, **environment):
        path = os.pathsep.join(filter(None, [ROOT, os.environ.get("PYTHONPATH")]))
        env = {**os.environ, "PYTHONPATH": path, "LD_LIBRARY_PATH": str(driver), VARIABLE: "none", **environment}
        done = subprocess.run([sys.executable, "-c", begin + script], cwd=tmp_path, env=env, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0 and not done.stderr, done.stderr
        return json.loads(done.stdout)

    return process


def refusal(run, script, **environment):
    """The exception of a script: its type and text."""
    script = f"try:\n {script}\nexcept dn.DarknetError as error:\n print(json.dumps([type(error).__name__, str(error)]))"
    return run(script, **environment)


TRAIN = """
losses = []
for device in ("gpu", "emulated"):
    r = np.random.default_rng(0)
    net = dn.load_network("a.cfg", device=device, train=True)
    losses.append([net.train_batch(*data(net)) for _ in range(3)] + [float(net[0].weights.sum())])
    if device == "gpu":
        device, pool, used = net._device, net._device.pool, net._device.pool.active_bytes
        assert used >= device.used_bytes == device.peak_bytes > 0.8 * used
        del net; gc.collect()
        assert device.used_bytes == 0 < device.peak_bytes
print(json.dumps([losses, used, pool.active_bytes]))
"""


def test_a_network_lies_in_the_pool_and_trains(run):
    (on_gpu, emulated), used, left = run(TRAIN)
    assert on_gpu == emulated and used > 100_000 and left == 0


def test_arrays_outlive_their_network(run):
    found = run("""
net = dn.load_network("a.cfg", device="gpu")
layer = net[0]; del net; gc.collect()
before = layer.weights.sum(); layer.weights[...] = 2
print(json.dumps([float(before), float(layer.weights.sum()), layer.weights.size]))
""")
    assert found[0] != 0 and found[1] == 2 * found[2]


def test_several_gpus(run):
    found = run(
        """
nets = [dn.load_network("a.cfg", device=d, train=True) for d in ("gpu:0", "gpu:1", "gpu")]
x, truth = data(nets[0])
losses = [net.train_batch(x, truth) for _ in range(2) for net in nets]
print(json.dumps([losses, [net._device.handle.number for net in nets], nets[0]._device is nets[2]._device,
                  [net._device.pool.active_bytes for net in nets], gpu.devices()]))
""",
        FAKE_GPUS="2",
    )
    losses, numbers, shared, used, names = found
    assert numbers == [0, 1, 0] and shared and losses[0] == losses[1] == losses[2] != losses[3] == losses[4]
    assert used[0] == used[2] and 0.9 < used[0] / (2 * used[1]) < 1.1
    assert names == ["gpu:0 (fake 0, 1.1 GB)", "gpu:1 (fake 1, 1.1 GB)"]


def test_arrays_are_shared_with_other_libraries(run):
    found = run("""
import ctypes
net = dn.load_network("a.cfg", device="gpu", train=True)
view = net[0].on_device("weights")
told = view.__cuda_array_interface__
there = np.ctypeslib.as_array((ctypes.c_float * 216).from_address(told["data"][0]))     # the fake GPU's memory is ours
same = [bool((there.reshape(told["shape"]) == net[0].weights).all())]
with view.context():
    same.append(bool((view.gpuarray().get() == net[0].weights).all()))
there[:] = 3
same.append(bool((net[0].weights == 3).all()))
print(json.dumps([same, told["shape"], told["typestr"], told["stream"]]))
""")
    assert found == [[True, True, True], [8, 3, 3, 3], "<f4", 1]


def test_what_has_no_view_on_a_device(run):
    script = 'dn.load_network("a.cfg", device={!r})[0].on_device({!r})'
    kind, text = refusal(run, script.format("gpu", "statistics"))
    assert (kind, text) == ("ArgumentError", "[convolutional] keeps no array 'statistics' on the device now")
    kind, text = refusal(run, script.format("cpu", "weights"))
    assert (kind, text) == ("DeviceError", "[convolutional] lies on the CPU: l.weights is the array itself")
    kind, text = refusal(run, script.format("emulated", "weights"))
    assert kind == "DeviceError" and "for its kernels only" in text


# ---- refusals: each says what is wrong, with figures, and what to do
LOAD = 'dn.load_network("{}.cfg", device="{}", train=True)'


@pytest.mark.parametrize(
    "device, environment, message",
    [
        ("gpu:1", {}, "device='gpu:1': there is 1, gpu:0 to gpu:0"),
        ("gpu:7", {"FAKE_GPUS": "2"}, "device='gpu:7': there are 2, gpu:0 to gpu:1"),
        ("gpu", {"FAKE_GPUS": "0"}, "device='gpu': the driver has no GPU"),
        ("gpu", {"FAKE_INIT": "100"}, r"device='gpu': the driver has no GPU for us \(cuInit failed: no CUDA-capable device.*"),
        ("gpu", {"LD_LIBRARY_PATH": ""}, r"device='gpu': there is no NVIDIA driver here, or PyCUDA does not fit it \(libcuda.so.1.*\)"),
        ("gpu:100", {}, r"device='gpu:100': wanted cpu, gpu \(gpu:1 is the second\) or emulated"),
    ],
)
def test_gpus_that_cannot_be_used(run, device, environment, message):
    kind, text = refusal(run, LOAD.format("a", device), **environment)
    assert kind == "DeviceError" and re.fullmatch(message, text), text


def test_without_pycuda(run):
    kind, text = run(
        """
sys.modules["pycuda"] = None
try:
    dn.load_network("a.cfg", device="gpu")
except dn.DarknetError as error:
    print(json.dumps([type(error).__name__, str(error)]))
"""
    )
    assert (kind, text) == ("DeviceError", "device='gpu' needs PyCUDA: pip install pycuda")


def test_too_large_a_network_is_told_the_batch_that_fits(run):
    kind, text = refusal(run, LOAD.format("large", "gpu"), FAKE_MEMORY="100000000")
    match = re.fullmatch(
        r"large.cfg: the network needs ([\d.]+) MB, 100.0 MB are available on gpu:0; the largest is layer 0 \[convolutional\] "
        r"at line 8; batch=(\d+) would fit",
        text,
    )
    assert kind == "OutOfMemory" and match and float(match[1]) > 100, text
    rows = int(match[2])
    assert 1 < rows < 64
    left = run(f'net = dn.load_network("large.cfg", device="gpu", train=True, batch={rows})\nprint(net._device.free_bytes())',
               FAKE_MEMORY="100000000")
    assert left > 0
    kind, text = refusal(run, LOAD.format("large", "gpu"), FAKE_MEMORY="500000")
    assert kind == "OutOfMemory" and text.endswith("no batch would fit")


def test_memory_that_runs_out_later_leaves_the_weights(run):
    kind, text, kept = run(
        """
net = dn.load_network("a.cfg", device="gpu", train=True)
before = np.array(net[0].weights)
try:
    net.resize(512, 512)
except dn.DarknetError as error:
    net.save_weights("kept.weights")
    again = dn.load_network("a.cfg", weights="kept.weights")
    print(json.dumps([type(error).__name__, str(error), bool((again[0].weights == before).all())]))
""",
        FAKE_MEMORY="3000000",
    )
    assert kind == "OutOfMemory" and kept
    assert re.search(r"no memory for \w+ \(\d+ bytes\); gpu:0 \(fake 0\): [\d.]+ MB of 3.0 MB are free$", text), text


@pytest.mark.parametrize("version, target, fits", [(12040, "CUDA 13.0", False), (13000, "CUDA 13.2", True), (13010, "CUDA 12.9", True),
                                                   (12000, "emulated", True)])
def test_drivers(version, target, fits):
    if fits:
        gpu.require_driver("gpu:0", version, target)
        return
    with pytest.raises(DeviceError, match=r"gpu:0: the driver knows CUDA up to 12\.4, the kernels were built with CUDA 13\.0; wanted"):
        gpu.require_driver("gpu:0", version, target)


@pytest.mark.parametrize("capability, fits", [((7, 5), True), ((8, 9), True), ((9, 0), True), ((12, 0), True), ((7, 0), False),
                                              ((6, 1), False)])
def test_architectures(capability, fits):
    if fits:
        gpu.require_architecture("gpu:0", capability, "750,800,900")
        return
    with pytest.raises(DeviceError, match=r"capability \d\.\d, the kernels were compiled for 7\.5, 8\.0, 9\.0; `make cuda CUDA_ARCHS="):
        gpu.require_architecture("gpu:0", capability, "750,800,900")


@pytest.mark.parametrize("name, found", [("cpu", ("cpu", 0)), ("gpu", ("gpu", 0)), ("gpu:12", ("gpu", 12)), ("emulated", ("emulated", 0))])
def test_names_of_devices(name, found):
    assert gpu.parse_device(name) == found


@pytest.mark.parametrize("name", ["", "GPU", "gpu:", "gpu:-1", "gpu:x", "cpu:0", "emulated:1", "gpu ", "gpu\n", None, 0])
def test_names_that_are_no_devices(name):
    with pytest.raises(DeviceError, match="wanted cpu, gpu"):
        gpu.parse_device(name)
