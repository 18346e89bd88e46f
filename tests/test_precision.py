"""`[net] precision=`: what matrix products and convolutions of a device multiply."""

from __future__ import annotations

import numpy as np
import pytest
from cuda_calls import DEVICE, library

import darknetpy as dn
from darknetpy import gpu
from darknetpy.core import core

WORDS = ("fp32", "tf32", "fp16", "bf16")
CFG = """[net]
batch=2
width=6
height=6
channels=2
precision={}

[convolutional]
filters=9
size=3
activation=leaky

[connected]
output=3
activation=linear

[softmax]
"""


@pytest.fixture(scope="module", autouse=True)
def _built():
    library()


@pytest.fixture
def cfg(tmp_path):
    def write(word):
        path = tmp_path / f"{word}.cfg"
        path.write_text(CFG.format(word))
        return path

    return write


@pytest.fixture
def spied(monkeypatch):
    """What every network made from now on tells its device of the precision."""
    told = []

    def device(name):
        made = gpu_open(name)
        made.handle = made.module.ffi.new("dn_device *", made.handle[0])
        plain = made.handle.precision
        made.spy = core.ffi.callback("void(dn_precision)", lambda p: (told.append(p), plain(p))[1])
        made.handle.precision = made.spy
        return made

    gpu_open = gpu.open_device
    monkeypatch.setattr(gpu, "open_device", device)
    return told


@pytest.mark.parametrize("word", WORDS)
def test_a_pass_has_it_and_leaves_float32(word, cfg, spied, rng):
    net = dn.load_network(cfg(word), device=DEVICE, train=True)
    assert not [note for note in net.notes if "precision" in note]
    x = rng.standard_normal((2, 72), np.float32)
    net.train_batch(x, np.array([0, 2]))
    number, plain = WORDS.index(word), core.lib.DN_FP32
    assert spied == [number, plain] * 2 and net.option("precision") == number
    net.predict(x)
    assert spied == [number, plain] * 3


def test_the_cpu_notes_that_it_rounds_nothing(cfg, rng):
    nets = {word: dn.load_network(cfg(word), train=True) for word in WORDS}
    notes = {word: [note for note in net.notes if "precision" in note] for word, net in nets.items()}
    assert notes.pop("fp32") == []
    for word, lines in notes.items():
        assert lines == [f"{cfg(word)}:6: [net] precision={word} has no effect here: it acts on a GPU, and the CPU rounds no product"]
    x, truth = rng.standard_normal((2, 72), np.float32), np.array([0, 2])
    assert len({net.train_batch(x, truth) for net in nets.values()}) == 1


def test_a_cfg_keeps_it(cfg):
    assert "\nprecision=bf16\n" in dn.load_network(cfg("bf16")).to_cfg()
    assert "precision" not in dn.load_network(cfg("fp32")).to_cfg()


def test_a_word_that_is_none(cfg):
    with pytest.raises(dn.CfgError, match=r"fp15.cfg:6: \[net\] precision=fp15: .*fp16"):
        dn.load_network(cfg("fp15"))


def test_a_number_that_is_none():
    library().dn_gpu_set_precision(core.lib.DN_PRECISIONS)
    assert library().dn_gpu_status() == core.lib.DN_ERR_ARGUMENT
    assert core.ffi.string(library().dn_gpu_last_error()) == b"no such precision"


# ---- whole networks. A product's operands are off by 2^-bits at most; a loss may be off by some of these errors, in a row of layers.
BITS = {"tf32": 11, "fp16": 11, "bf16": 8}
ERRORS = 4
HEAD = "[net]\nbatch=4\nlearning_rate=.001\nprecision={}\n"
NORMALIZED = "[convolutional]\nbatch_normalize=1\nfilters={}\nsize=3\npad=1\nstride=2\nactivation=leaky\n"
NETWORKS = {
    "classifier": HEAD + "width=16\nheight=16\nchannels=3\n" + NORMALIZED.format(16) + NORMALIZED.format(24)
    + "[convolutional]\nfilters=10\nsize=1\n[avgpool]\n[softmax]\n",
    "yolo": HEAD + "width=24\nheight=24\nchannels=3\n" + NORMALIZED.format(12) + NORMALIZED.format(16)
    + "[convolutional]\nfilters=16\nsize=1\nactivation=linear\n"
    + "[yolo]\nmask=0,1\nanchors=6,8,14,12\nclasses=3\nnum=2\n",
    "recurrent": HEAD.replace("batch=4", "batch=8\ntime_steps=3") + "inputs=12\n"
    + "[lstm]\noutput=16\n[connected]\noutput=12\nactivation=linear\n[softmax]\n",
}


def batch_for(name, net, rng):
    x = rng.standard_normal((net.batch, net.inputs)).astype(np.float32)
    if name != "yolo":
        return x, rng.integers(0, net.truths, net.batch)
    truth = np.zeros((net.batch, net.truths // 5, 5), np.float32)
    truth[:, :3, :4], truth[:, :3, 4] = rng.uniform(0.2, 0.6, (net.batch, 3, 4)), rng.integers(0, 3, (net.batch, 3))
    return x, truth.reshape(net.batch, -1)


def trained(text, tmp_path, word, name, steps=3):
    """Losses, and the gradients at the weights of the first step as one vector."""
    path = tmp_path / f"{word}.cfg"
    path.write_text(text.format(word))
    net, rng = dn.load_network(path, device=DEVICE, train=True), np.random.default_rng(7)
    batches = [batch_for(name, net, rng) for _ in range(steps)]
    net.forward(*batches[0], train=True)
    net.backward()
    gradient = np.concatenate([array.ravel().astype(float) for layer in net.layers for key, array in layer.arrays("update").items()
                               if key.endswith("weight_updates")])
    net = dn.load_network(path, device=DEVICE, train=True)
    return [net.train_batch(*one) for one in batches], gradient


@pytest.mark.parametrize("name", NETWORKS)
def test_networks_train_nearly_as_in_float32(name, tmp_path):
    wanted, direction = trained(NETWORKS[name], tmp_path, "fp32", name)
    for word, bits in BITS.items():
        losses, gradient = trained(NETWORKS[name], tmp_path, word, name)
        assert losses != wanted and losses == pytest.approx(wanted, rel=ERRORS * 2.0**-bits)
        cosine = gradient @ direction / np.linalg.norm(gradient) / np.linalg.norm(direction)
        assert cosine > 1 - ERRORS * 2.0**-bits, word
        again, same = trained(NETWORKS[name], tmp_path, word, name, steps=1)
        assert again == losses[:1] and same.tobytes() == gradient.tobytes()


TINY_GRADIENTS = """[net]
batch=8
inputs=32
learning_rate=1e9
momentum=0
decay=0
precision={}

[connected]
output=24
activation=tanh

[connected]
output=16
activation=linear

[cost]
type=sse
scale=1e-10
"""


def test_gradients_that_halves_cannot_hold_train_in_halves(tmp_path, rng):
    """The smallest half is 6e-8; the gradients here are of 1e-10, and learning goes as in float32."""
    x, truth = rng.standard_normal((8, 32)).astype(np.float32), rng.standard_normal((8, 16)).astype(np.float32)
    curves = {}
    for word in ("fp32", "fp16"):
        path = tmp_path / f"{word}.cfg"
        path.write_text(TINY_GRADIENTS.format(word))
        net = dn.load_network(path, device=DEVICE, train=True)
        curves[word] = [net.train_batch(x, truth) for _ in range(12)]
        assert 0 < np.abs(net[1].delta).max() < 1e-8
    assert curves["fp32"][-1] < 0.7 * curves["fp32"][0]
    assert curves["fp16"] == pytest.approx(curves["fp32"], rel=ERRORS * 2.0**-11)


def test_values_beyond_the_largest_half(tmp_path, rng):
    """Inputs of 1e6 and weights of 1e-12."""
    outputs = {}
    for word in ("fp32", "fp16"):
        path = tmp_path / f"{word}.cfg"
        path.write_text(TINY_GRADIENTS.format(word).replace("tanh", "linear"))
        net = dn.load_network(path, batch=8, device=DEVICE)
        net[0].weights = np.float32(1e-12) * np.random.default_rng(1).standard_normal(net[0].weights.shape, np.float32)
        outputs[word] = net.predict(np.float32(1e6) * np.random.default_rng(2).standard_normal((8, 32), np.float32))
    largest = np.abs(outputs["fp32"]).max()
    assert 0 < np.abs(outputs["fp16"] - outputs["fp32"]).max() < ERRORS * 2.0**-11 * largest
