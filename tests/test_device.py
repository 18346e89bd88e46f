"""Networks on a device (`device="emulated"`, the CUDA kernels on the CPU; DARKNETPY_TEST_DEVICE=gpu) beside the same on the CPU.

The emulator's device memory cannot be touched by the host's code: a layer that does ends these tests.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys

import numpy as np
import pytest
from cuda_calls import DEVICE, ON_GPU, library
from gradcheck import build, prepared
from kernel_cases_heads import iseg_truth
from PIL import Image
from test_cli import TINY
from test_head_layers import AB, MICRO, Cells
from test_layout import gradient_cases

import darknetpy as dn
from darknetpy import cli
from darknetpy.core import core
from darknetpy.errors import DeviceError

LIMIT = 1e-5
CASES = gradient_cases()


@pytest.fixture(scope="module", autouse=True)
def _built():
    library()


def copy_of(case, like, device):
    """The network of a gradient check on a device, with the numbers of another."""
    net = build(case.layers, case.shape, case.batch, case.net, core=core, device=device)
    net.seen = like.seen
    for layer, other in zip(net.layers, like.layers):
        if case.keep_x_norm:
            layer.keep_x_norm = True
        values = other.arrays("parameter", "statistic", "state")
        for name, array in layer.arrays("parameter", "statistic", "state").items():
            array[...] = values[name]
    return net


def built(case):
    """The network of a gradient check, away from kinks: in float64, and with its numbers on the CPU and on the device."""
    twin = prepared(case, 1.0)
    nets = [copy_of(case, twin, device) for device in ("cpu", DEVICE)]
    return [twin, *nets], twin.input.copy(), None if twin.truth is None else twin.truth.copy()


def step(net, x, truth, train, send=False):
    """Run a network forward and backward, where there is no loss or with `send` from a delta of the last layer; return loss and
    the input's delta.
    """
    x, truth = (None if a is None else a.astype(net._core.dtype) for a in (x, truth))
    net.delta = None
    loss = net.forward(x, truth, train=train)
    if loss is None or send:
        last = net.layers[-1]
        last.delta = np.random.default_rng(1).standard_normal(last.delta.shape).astype(x.dtype)
    net.backward()
    return loss, net.delta


def arrays_of(net, *roles):
    return {f"{i}.{name}": a for i, layer in enumerate(net.layers) for name, a in layer.arrays(*roles).items()}


def distance(one, other):
    """The largest difference, relative to the largest value."""
    return float(np.abs(one - other).max(initial=0) / (np.abs(one).max(initial=0) or 1e-30))


def assert_alike(cpu, device, exact=None):
    """Compare two networks' arrays.

    Where rounding takes the CPU further from the network in float64 than LIMIT (differences of almost equal numbers),
    the device may be as far; so may a gradient, by LIMIT of the layer's largest: its terms have cancelled.
    """
    wanted, found = arrays_of(cpu), arrays_of(device)
    assert found.keys() == wanted.keys()
    for name, values in wanted.items():
        apart = distance(values, found[name])
        assert np.isfinite(found[name]).all(), name
        # mean_rest is what rounding leaves; in partners each kernel has numbers of its own
        if name.rpartition(".")[2] in ("mean_rest", "partners") or apart <= LIMIT:
            continue
        assert exact is not None, f"{name}: {apart}"
        true = arrays_of(exact)[name]
        error = np.abs(true - found[name]).max()
        layer = [np.abs(a).max(initial=0) for other, a in wanted.items()
                 if name.endswith("_updates") and other.endswith("_updates") and other.split(".")[0] == name.split(".")[0]]
        assert error <= max(2 * np.abs(true - values).max(), LIMIT * max(layer, default=0)), f"{name}: {apart}"


@pytest.mark.parametrize("case", CASES, ids=str)
def test_every_layer_type_agrees_with_the_cpu(case):
    (twin, cpu, device), x, truth = built(case)
    (_, exact), (wanted, delta), (loss, found) = (step(net, x, truth, case.train) for net in (twin, cpu, device))
    assert wanted is None and loss is None or loss == pytest.approx(wanted, rel=LIMIT)
    assert distance(delta, found) <= max(LIMIT, 2 * distance(exact, delta))
    assert_alike(cpu, device, twin)
    for net in (twin, cpu, device):
        net.update()
    assert_alike(cpu, device, twin)


# ---- truths that the gradient checks do not have
TREE = os.path.join(MICRO, "ab-softmax_tree", "t.tree")


def only_classes(rng, rows, truths, size):
    """Boxes, but of every other image only a class is known."""
    truth = np.zeros((rows, truths // size, size))
    truth[:, :3, :4], truth[:, :3, 4] = rng.uniform(0.1, 0.9, (rows, 3, 4)), rng.integers(0, 8, (rows, 3))
    truth[::2, 1, :2] = 200000
    return truth


OWN_TRUTHS = {
    "region": (f"region num=2 classes=8 anchors=1,1,2,1 max=4 tree={TREE}", (26, 4, 5), "", lambda *how: only_classes(*how, 5)),
    "region AlexeyAB": (f"region num=2 classes=8 anchors=1,1,2,1 max=4 tree={TREE}", (26, 4, 5), AB, lambda *how: only_classes(*how, 6)),
}


DETECTION = "detection classes=3 coords=4 num=3 side=7 random=1 softmax=1"
OWN_TRUTHS["detection"] = (DETECTION, (882,), "", lambda rng, *shape: Cells(49, 3).draw(*shape, rng))


OWN_TRUTHS["iseg"] = ("iseg classes=2 ids=3", (5, 4, 5), "", lambda rng, rows, _: iseg_truth((rows, 90, 21), 2, rng))


@pytest.mark.parametrize("others", [False, True], ids=["", "others"])
@pytest.mark.parametrize("name", OWN_TRUTHS)
def test_heads_learn_as_on_the_cpu(name, others, rng):
    """Also where a layer behind the head adds a delta to its output."""
    line, shape, options, draw = OWN_TRUTHS[name]
    lines = [line] + ["connected output=5 activation=tanh"] * others
    nets = [build(lines, shape, 3, options, core=core, device=d) for d in ("cpu", DEVICE)]
    x, truth = rng.standard_normal((3, *shape)), draw(rng, 3, nets[0].truths).reshape(3, -1)
    for array, like in zip(*(arrays_of(net, "parameter").values() for net in nets)):
        like[...] = array
    (wanted, delta), (loss, found) = (step(net, x, truth, True, others) for net in nets)
    assert loss == pytest.approx(wanted, rel=LIMIT) and np.abs(delta).max() > 0 and nets[0].layers[-1].delta.any()
    assert distance(delta, found) <= LIMIT
    assert_alike(*nets)


# ---- whole networks
def load(cfg, device, tmp_path, replace=(), **how):
    """A network of cfg/, with some of its lines replaced."""
    with open(os.path.join(os.path.dirname(__file__), "..", "cfg", cfg)) as file:
        text = file.read()
    for old, new in replace:
        assert old in text
        text = text.replace(old, new)
    # Small steps: where rounding decides on which side of a kink a value lies, long ones make much of it.
    text = re.sub("^learning_rate=.*$", "learning_rate=.001", text, flags=re.MULTILINE)
    path = tmp_path / cfg
    path.write_text(text)
    return dn.load_network(path, device=device, **how)


def boxes(rng, rows, truths):
    truth = np.zeros((rows, truths // 5, 5), np.float32)
    truth[:, :3, :2], truth[:, :3, 2:4] = rng.uniform(0.1, 0.9, (rows, 3, 2)), rng.uniform(0.1, 0.5, (rows, 3, 2))
    return truth.reshape(rows, -1)


NETWORKS = {
    "classifier": ("fashion-mnist.cfg", [], 2),
    "residual": ("fashion-residual.cfg", [], 2),
    "squeeze and excitation": ("fashion-se.cfg", [("height=28", "height=16"), ("width=28", "width=16")], 2),
    "yolo": ("scenes-v3.cfg", [("height=96", "height=32"), ("width=96", "width=32")], 2),
    "region": ("scenes-v2.cfg", [("height=96", "height=32"), ("width=96", "width=32")], 2),
    "recurrent": ("text.cfg", [("time_steps=32", "time_steps=4"), ("output=128", "output=24")], 8),
}


@pytest.mark.parametrize("keep", [True, False], ids=["kept", "shared"])
@pytest.mark.parametrize("name", NETWORKS)
def test_networks_train_as_on_the_cpu(name, keep, tmp_path, rng):
    cfg, replace, batch = NETWORKS[name]
    nets = [
        load(cfg, d, tmp_path, replace, batch=batch, train=True, keep_activations=keep) for d in ("cpu", DEVICE)
    ]
    for _ in range(3):
        x = rng.standard_normal((batch, nets[0].inputs)).astype(np.float32)
        if "scenes" in cfg:
            truth = boxes(rng, batch, nets[0].truths)
        else:
            truth = rng.integers(0, nets[0].truths, batch)
        wanted, loss = (net.train_batch(x, truth) for net in nets)
        assert loss == pytest.approx(wanted, rel=LIMIT)
    for net in nets:
        net.reset_state()
    assert distance(*(net.predict(x) for net in nets)) <= 1e-4


def test_inference_folds_batch_normalization(tmp_path, rng):
    nets = [load("fashion-mnist.cfg", d, tmp_path, batch=2) for d in ("cpu", DEVICE)]
    for net in nets:
        for layer in (net[0], net[2], net[4]):
            layer.rolling_variance[...] = 0.5
    x = rng.standard_normal((3, 784)).astype(np.float32)
    np.testing.assert_allclose(nets[1].predict(x), nets[0].predict(x), rtol=1e-5, atol=1e-7)
    np.testing.assert_array_equal(nets[1][0].folded, nets[0][0].folded)


def test_weights_checkpoints_and_sizes(tmp_path, rng):
    replace = [("height=96", "height=32"), ("width=96", "width=32")]
    cpu, device = (load("scenes-v3.cfg", d, tmp_path, replace, batch=1, train=True) for d in ("cpu", DEVICE))
    for net in (cpu, device):
        net.resize(64, 32)
    x = rng.standard_normal((1, device.inputs)).astype(np.float32)
    device.train_batch(x, boxes(rng, 1, device.truths))
    device.save_weights(tmp_path / "a.weights")
    cpu.load_weights(tmp_path / "a.weights")
    assert distance(cpu.predict(x), device.predict(x)) <= 1e-4
    device.save_checkpoint(tmp_path / "a.checkpoint")
    again = dn.load_checkpoint(tmp_path / "a.checkpoint")
    kept = arrays_of(device, "parameter", "update", "statistic", "counter")
    for name, values in arrays_of(again, "parameter", "update", "statistic", "counter").items():
        np.testing.assert_array_equal(values, kept[name], err_msg=name)
    image = rng.integers(0, 255, (40, 60, 3), np.uint8)
    found = [net.detect(image, thresh=0.01) for net in (cpu, device)]
    assert len(found[0]) == len(found[1]) > 0
    assert found[1][0].box == pytest.approx(found[0][0].box, rel=1e-3)


def test_a_checkpoint_goes_on_on_the_device(tmp_path, rng):
    net = load("fashion-mnist.cfg", DEVICE, tmp_path, batch=2, train=True)
    batches = [(rng.standard_normal((2, 784)).astype(np.float32), rng.integers(0, 10, 2)) for _ in range(3)]
    for x, truth in batches[:2]:
        net.train_batch(x, truth)
    net.save_checkpoint(tmp_path / "a.checkpoint")
    again = dn.load_checkpoint(tmp_path / "a.checkpoint", device=DEVICE)
    assert again.device == DEVICE and dn.load_checkpoint(tmp_path / "a.checkpoint").device == "cpu"
    assert again.train_batch(*batches[2]) == net.train_batch(*batches[2])
    kept = arrays_of(net)
    for name, values in arrays_of(again).items():
        np.testing.assert_array_equal(values, kept[name], err_msg=name)
    with pytest.raises(DeviceError, match="wanted cpu"):
        dn.load_checkpoint(tmp_path / "a.checkpoint", device="tpu")


def test_the_layer_with_a_value_that_is_not_finite_is_named(tmp_path, rng):
    net = load("fashion-mnist.cfg", DEVICE, tmp_path, batch=2, train=True)
    net[2].weights[3] = np.inf
    with pytest.raises(dn.DarknetError, match=r"not finite is layer 2 \[convolutional\]"):
        net.train_batch(np.ones((2, 784), np.float32), rng.integers(0, 10, 2))


# ---- commands
def command(*words):
    return cli.main([str(word) for word in words])


def test_commands_train_and_predict_on_a_device(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiny.cfg").write_text(TINY.format(max_batches=4, outputs=10))
    Image.new("L", (28, 28), 200).save("a.png")
    train = ["classifier", "train", "fashion-mnist:", "tiny.cfg"]
    predict = ["classifier", "predict", "fashion-mnist:", "tiny.cfg"]
    right, sure = [], []
    for device in ("cpu", DEVICE):
        words = ["--device", device, "--json", "--backup", device]
        assert command(*train, *words, "--stop-at", 2, "--no-plot") == 0
        assert command(*train, f"{device}/tiny.checkpoint", *words, "--no-plot") == 0
        capsys.readouterr()
        for weights in ("tiny_final.weights", "tiny.checkpoint"):
            assert command(*predict, f"{device}/{weights}", "a.png", "--device", device, "--json") == 0
            sure.append(json.loads(capsys.readouterr().out)[0]["predictions"][0]["probability"])
        assert command("classifier", "valid", "fashion-mnist:", "tiny.cfg", f"{device}/tiny.checkpoint", *words[:3]) == 0
        right.append(json.loads(capsys.readouterr().out)["top1"])
    assert right[1] == pytest.approx(right[0], abs=0.01) and sure == pytest.approx([sure[0]] * 4, rel=1e-3)


def test_a_device_that_is_not_there_is_one_line_and_status_1(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiny.cfg").write_text(TINY.format(max_batches=4, outputs=10))
    monkeypatch.setitem(dn.gpu.MODULES, "cuda", "darknetpy._nowhere")
    assert command("classifier", "train", "fashion-mnist:", "tiny.cfg", "--device", "gpu") == 1
    assert re.fullmatch(r"darknetpy: error: device='gpu': its kernels are not built.*\n", capsys.readouterr().err)
    assert not os.path.exists("backup")


# ---- arrays
def small(**how):
    return build(["convolutional filters=3 size=3 batch_normalize=1", "softmax"], (2, 4, 4), core=core, device=DEVICE, **how)


def test_arrays_are_copies_that_assignments_go_through():
    net = small()
    layer = net.layers[0]
    layer.weights[...] = 2
    layer.weights[1] = 3
    layer.scales = np.full(3, 4, np.float32)
    assert layer.weights[0].max() == 2 and layer.weights[1].min() == 3 and layer.scales.sum() == 12
    assert net.device == DEVICE and isinstance(layer.statistics_count, np.ndarray)


def test_an_older_copy_writes_only_what_is_assigned():
    layer = small().layers[0]
    older = layer.weights
    layer.weights = np.full(older.shape, 7, np.float32)
    older[0] = 0
    assert not layer.weights[0].any() and (layer.weights[1:] == 7).all() and (older[1:] == 7).all()


@pytest.mark.parametrize("make", [np.copy, lambda a: a.copy(), lambda a: a * 2], ids=["np.copy", "copy", "product"])
def test_what_is_made_of_a_copy_is_its_own(make):
    layer = small().layers[0]
    values, own = np.array(layer.weights), make(layer.weights)
    own[0] = 100
    assert (own[0] == 100).all()
    np.testing.assert_array_equal(layer.weights, values)


@pytest.mark.parametrize(
    "change",
    [
        lambda a: a[0].__setitem__(..., 1),
        lambda a: a.fill(1),
        lambda a: np.add(a, 1, out=a),
        lambda a: a.reshape(-1).__setitem__(0, 1),
    ],
)
def test_what_would_change_the_copy_alone_is_refused(change):
    with pytest.raises(ValueError, match="read-only|part of a copy"):
        change(small().layers[0].weights)


def test_a_copy_keeps_its_values():
    layer = small().layers[0]
    before = layer.weights
    values = np.array(before)
    layer.weights[...] = 7
    np.testing.assert_array_equal(before, values)


# ---- what is refused
def test_devices_that_are_not_there(monkeypatch):
    with pytest.raises(DeviceError, match=r"device='tpu': wanted cpu, gpu \(gpu:1 is the second\) or emulated"):
        dn.Network(device="tpu")
    monkeypatch.setitem(dn.gpu.MODULES, "emulated", "darknetpy._nowhere")
    with pytest.raises(DeviceError, match="`make cuda-emulated` builds them"):
        dn.Network(device="emulated")


def test_float64_is_the_cpus():
    with pytest.raises(DeviceError, match="float32"):
        build(["avgpool"], (1, 2, 2), device=DEVICE)


def test_layers_by_hand_are_the_cpus(rng):
    net = small()
    net.input = rng.standard_normal((2, 2, 4, 4)).astype(np.float32)
    with pytest.raises(DeviceError, match=r"\[convolutional\] a single layer runs on the CPU"):
        dn.forward_layer(net.layers[0], net)
    empty = dn.Network(2, 3, 3, 4, train=True, device=DEVICE)
    with pytest.raises(DeviceError, match=r"\[avgpool\] lies on device cpu, its network on"):
        empty.add(dn.make_avgpool_layer(2, 3, 3, 4))


NO_MEMORY = """
import resource, sys
sys.path.insert(0, {tests!r})
import darknetpy as dn
from darknetpy.core import core
from gradcheck import build
import darknetpy.builder
build(["avgpool"], (1, 2, 2), core=core, device="emulated")
darknetpy.builder.available_bytes = lambda: 2**62
with open("/proc/self/statm") as file:
    used = int(file.read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + 2**28, resource.RLIM_INFINITY))
try:
    build(["connected output=100000"], (5000,), core=core, device="emulated")
except dn.OutOfMemory as error:
    print(error)
"""


@pytest.mark.skipif(ON_GPU or "DARKNETPY_SANITIZED" in os.environ, reason="limits the emulator's memory")
def test_memory_that_is_not_to_be_had():
    script = NO_MEMORY.format(tests=os.path.dirname(__file__))
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert "[connected] no memory for weights (2000000000 bytes)" in result.stdout, result.stderr


def test_a_failure_on_the_device_ends_the_pass_and_is_told_once(rng):
    net = small()
    x = rng.standard_normal((2, 2, 4, 4)).astype(np.float32)
    net._device.module.lib.dn_gpu_release(core.ffi.cast("void *", net.layers[0].statistics_count.ctypes.data))
    with pytest.raises(DeviceError, match="release of device memory"):
        net.forward(x)
    net.forward(x)
    assert np.isfinite(net.layers[-1].output).all()
