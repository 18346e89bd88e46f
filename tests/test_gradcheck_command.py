"""`darknetpy gradcheck`: right networks pass, wrong gradients are found and named."""

from __future__ import annotations

import json

import numpy as np
import pytest
from gradcheck import build

from darknetpy.cli import main
from darknetpy.core import core, double_core
from darknetpy.errors import ArgumentError, CfgError
from darknetpy.gradcheck import LIMIT, check_gradients, randomize, replace_constants

SHAPE = (2, 6, 6)
LAYERS = [
    "convolutional filters=4 size=3 pad=1 activation=leaky batch_normalize=1",
    "maxpool size=2 stride=2",
    "convolutional filters=4 size=3 pad=1 activation=mish",
    "shortcut from=-2 activation=linear",
    "connected output=3 activation=linear",
    "softmax",
]


def network(layers=LAYERS, net="", train=True, core=None):
    made = build(layers, SHAPE, batch=4, net=net, train=train, core=core or double_core())
    randomize(made, np.random.default_rng(0))
    return made


def worst(net):
    return max(check_gradients(net, samples=6), key=lambda check: check.error)


def test_the_double_core_is_the_package_s_with_longer_numbers():
    assert double_core().dtype == np.float64
    assert double_core().lib.LAYER_TYPES == core.lib.LAYER_TYPES


@pytest.mark.parametrize("layers", [
    LAYERS, LAYERS[:3], [*LAYERS[:5], "cost type=sse scale=3"], [*LAYERS[:5], "logistic"], ["dropout", *LAYERS],
    ["convolutional filters=2 activation=relu stopbackward=1", *LAYERS],
    [*LAYERS[:4], "conv_lstm output=2 pad=1 peephole=1 batch_normalize=1", "gru output=3", "softmax"],
    ["convolutional filters=2 size=3 pad=1 activation=tanh antialiasing=1",
     "convolutional filters=2 size=3 pad=1 activation=tanh share_index=0", "shortcut from=0 weights_type=per_channel", *LAYERS],
], ids=["softmax", "no loss", "cost", "logistic", "dropout", "stopbackward", "recurrent", "shared"])
def test_right_networks(layers):
    checks = list(check_gradients(network(layers), samples=6))
    stopped = "stopbackward" in layers[0]
    assert max(check.error for check in checks) < 1e-6
    assert sum(check.checked for check in checks) > .9 * sum(check.checked + check.kinks for check in checks)
    assert (checks[0].layer, checks[0].array) == ((1, "biases") if stopped else (-1, "input"))
    assert any(check.backward for check in checks)


YOLO = "classes=2 num=2 anchors=.5,.6,1.1,1.3 max=4 ignore_thresh=.9"


@pytest.mark.parametrize("head, filters, replaced", [
    ("detection classes=2 coords=4 num=2 side=3 rescore=1 sqrt=1", 12, "rescore= is checked as 0: its target, an IoU"),
    ("region classes=2 num=2 anchors=.7,.8,1.3,1.1 softmax=1 rescore=1 focal_loss=1", 14, "focal_loss= is checked as 0"),
    (f"yolo {YOLO} objectness_smooth=1", 14, "objectness_smooth= is checked as 0"),
    (f"yolo {YOLO} max_delta=.01 iou_loss=ciou", 14, "max_delta= is checked as unlimited: it clips deltas"),
    (f"Gaussian_yolo {YOLO} counters_per_class=3,1 iou_normalizer=.5", 22, "counters_per_class= is checked as 1,1"),
    (f"Gaussian_yolo {YOLO} iou_loss=giou", 22, "uc_normalizer= is checked as 0"),
    ("iseg classes=2 ids=3", 5, ""),
], ids=str)
def test_heads(head, filters, replaced):
    """Where a target counts as a constant the check says what it looks at instead."""
    made = network([f"convolutional filters={filters} size=3 stride=2 pad=1 activation=linear", head], net="dialect=alexeyab")
    said = replace_constants(made)
    assert replaced in "\n".join(said) and bool(said) == bool(replaced)
    checks = list(check_gradients(made, samples=6))
    assert max(check.error for check in checks) < 1e-6 and all(check.backward for check in checks)
    assert not replace_constants(network([f"convolutional filters={filters}", "softmax"]))


@pytest.mark.parametrize("layers", [
    ["connected output=6 activation=tanh", "softmax groups=2"],
    ["connected output=4 activation=tanh", "softmax temperature=2", "cost"],
    ["connected output=5 activation=tanh", "contrastive classes=2"],
    ["convolutional filters=3 size=3 activation=tanh", "convolutional filters=3 size=3 pad=1 activation=tanh",
     "shortcut from=-2 weights_type=per_channel weights_normalization=softmax"],
], ids=lambda layers: layers[-1])
def test_truths_and_start_values(layers):
    """Each group of a softmax has shares of its own, images of one class are alike, and equal weights are a kink."""
    checks = list(check_gradients(network(layers, net="dialect=alexeyab"), samples=6))
    assert max(check.error for check in checks) < 1e-6 and all(check.backward for check in checks)


def test_wrong_gradients_are_found_and_named():
    """pjreddie's batch normalization has a backward pass that is not its forward's derivative."""
    found = worst(network(net="batchnorm=darknet"))
    assert found.error > 100 * LIMIT and found.layer in (-1, 0) and found.place is not None


@pytest.mark.parametrize("index, name", [(2, "weights"), (4, "biases")])
def test_one_wrong_array_is_the_worst(index, name, monkeypatch):
    net = network()
    layer, lib = net.layers[index], net._core.lib
    backward = net.backward

    def spoilt():
        backward()
        array = layer.arrays("update")["weight_updates" if name == "weights" else "bias_updates"]
        array *= 1.001

    monkeypatch.setattr(net, "backward", spoilt)
    found = worst(net)
    assert (found.layer, found.array) == (index, name) and found.error == pytest.approx(1e-3, rel=1e-2), lib


@pytest.mark.parametrize("layers, message", [
    (["convolutional xnor=1", *LAYERS], "xnor=1 has straight-through gradients"),
    (["convolutional onlyforward=1", *LAYERS], "onlyforward=1 cuts the backward pass"),
])
def test_what_cannot_be_checked(layers, message):
    with pytest.raises(CfgError, match=message):
        list(check_gradients(network(layers)))


def test_other_networks_are_refused():
    for net in (network(train=False), network(core=core)):
        with pytest.raises(ArgumentError, match="of the double core made with train=True"):
            list(check_gradients(net))


TINY = """[net]
width=32
height=32
channels=2

[convolutional]
filters=3
size=3
activation=leaky
batch_normalize=1

[avgpool]

[softmax]
"""


def test_the_command(tmp_path, capsys):
    path = tmp_path / "tiny.cfg"
    path.write_text(TINY)
    assert main(["gradcheck", str(path), "--side", "6", "--samples", "3"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 5 and "layer 0 [convolutional] weights: 3 of 54 values" in lines[3]
    assert "right: " in lines[-1]
    assert main(["gradcheck", str(path), "--side", "6", "--samples", "2", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["right"] and len(found["arrays"]) == 4 and found["worst"]["error"] <= found["limit"] == LIMIT


def test_the_command_says_wrong(tmp_path, capsys, monkeypatch):
    path = tmp_path / "tiny.cfg"
    path.write_text(TINY)
    assert main(["gradcheck", str(path), "--batchnorm", "darknet"]) == 2
    assert "which are no derivatives" in capsys.readouterr().err
    monkeypatch.setattr("darknetpy.gradcheck.LIMIT", 0.0)
    assert main(["gradcheck", str(path), "--side", "6", "--samples", "3"]) == 1
    assert "WRONG: " in capsys.readouterr().out.splitlines()[-1]
