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

    library()
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
