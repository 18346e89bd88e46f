"""Every .cfg of Debian's package darknet whose layers exist here: all outputs as that program's; and the command itself."""

from __future__ import annotations

import os
import types

import numpy as np
import pytest
import side_by_side
from cfg_runs import find_files
from darknet_peer import CFGS, MISSING

from darknetpy.weights import expected_bytes

pytestmark = pytest.mark.skipif(MISSING, reason="needs /usr/lib/darknet/libdarknet.so (Debian package darknet)")

SIDE = 64  # of networks whose layers allow another size than the file's
LARGEST = 120 * 2**20  # bytes of weights: beyond, Darknet takes seconds to draw its own start values
ALWAYS = ("darknet53.cfg", "yolov2.cfg", "yolov3.cfg", "yolo9000.cfg")
WITHOUT_LAST = ("yolo9000.cfg",)  # on a CPU Debian's class tree divides by a temperature of 0: its last layer holds NaN
EVERYTHING = bool(os.environ.get("DARKNETPY_ALL_CFGS"))

TINY = """[net]
width=8
height=8
channels=2

[convolutional]
filters=3
size=3
activation=leaky

[softmax]
"""


@pytest.fixture(scope="module")
def peer():
    with side_by_side.renewed_peers() as peer:
        yield peer


@pytest.mark.parametrize("cfg", [] if MISSING else find_files([CFGS], ".cfg"), ids=os.path.basename)
def test_every_output_of_published_networks(peer, cfg, monkeypatch):
    def fill(net, rng, original=side_by_side.fill):
        if expected_bytes(net) > LARGEST and os.path.basename(cfg) not in ALWAYS and not EVERYTHING:
            pytest.skip("large; DARKNETPY_ALL_CFGS=1 runs it too")
        original(net, rng)

    def judge(cfg, net, theirs, tolerance, original=side_by_side.judge):
        if os.path.basename(cfg) in WITHOUT_LAST:
            assert np.isnan(theirs.pop()).any()
            net = types.SimpleNamespace(layers=net.layers[:-1], _output_layer=net._output_layer)
        return original(cfg, net, theirs, tolerance)

    monkeypatch.setattr(side_by_side, "fill", fill)
    monkeypatch.setattr(side_by_side, "judge", judge)
    result = side_by_side.compare(cfg, peer(), side=SIDE, rows=2)
    assert result.status == "agrees", result


def test_a_difference_is_found(peer, tmp_path, monkeypatch):
    (tmp_path / "tiny.cfg").write_text(TINY)
    cfg = str(tmp_path / "tiny.cfg")
    assert side_by_side.compare(cfg, peer()).status == "agrees"
    judge = side_by_side.judge

    def other_bias(cfg, net, theirs, tolerance):
        net.layers[0].biases[1] += np.float32(1e-3)
        net.forward(net.input, train=False)
        return judge(cfg, net, theirs, tolerance)

    monkeypatch.setattr(side_by_side, "judge", other_bias)
    result = side_by_side.compare(cfg, peer())
    assert (result.status, result.layer) == ("differs", "layer 0 [convolutional]"), result
    monkeypatch.setattr(side_by_side, "fill", lambda net, rng: None)
    (tmp_path / "tiny.cfg").write_text(TINY.replace("[softmax]", "[dropout]\nprobability=0"))
    monkeypatch.setattr(side_by_side, "judge", judge)
    monkeypatch.setattr(side_by_side, "fill", lambda net, rng: net.layers[0].weights.fill(0))
    assert "constant" in side_by_side.compare(cfg, peer()).detail


def test_the_command(tmp_path, capsys):
    (tmp_path / "tiny.cfg").write_text(TINY)
    (tmp_path / "wrong.cfg").write_text(TINY.replace("[softmax]", "[sofmax]"))
    assert side_by_side.main([str(tmp_path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("agrees   tiny.cfg") and "did you mean 'softmax'" in lines[1]
    assert lines[2] == "2 files: 1 agrees, 0 differs, 1 refused, 0 crashed"
