"""Fusing: the same outputs without batch normalization, in place and as files that Darknet reads."""

from __future__ import annotations

import json
import os

import numpy as np
import pytest
from darknet_peer import CFGS, MISSING, DarknetPeer
from gradcheck import cfg_text
from side_by_side import adapted, fill, read

import darknetpy as dn
from darknetpy.builder import build_network
from darknetpy.cfg import parse_cfg_text
from darknetpy.cli import main
from darknetpy.moving_statistics import batch_normalized
from darknetpy.sections import resolve

SHAPE = (3, 7, 6)
CONV = "convolutional filters=4 size=3 pad=1 batch_normalize=1 activation="
PLAIN = "convolutional filters=4 size=3 pad=1 activation="
# name: (layers, how many batch normalizations stay)
CASES = {
    "convolutional": ([CONV + "leaky"], 0),
    "activation of the input": ([CONV + "mish"], 0),
    "activation over channels": ([CONV + "normalize_channels_softmax"], 0),
    "strided": (["convolutional filters=5 size=2 stride=2 batch_normalize=1 activation=linear"], 0),
    "groups": (["convolutional filters=6 size=3 groups=3 pad=1 batch_normalize=1 activation=tanh"], 0),
    "flipped": ([CONV + "leaky flipped=1"], 0),
    "connected": (["connected output=6 batch_normalize=1 activation=relu"], 0),
    "batchnorm behind a convolution": ([PLAIN + "linear", "batchnorm", "activation activation=mish"], 0),
    "batchnorm behind connected": (["connected output=6 activation=linear", "batchnorm"], 0),
    "normalized twice": ([CONV + "linear", "batchnorm", "batchnorm"], 0),
    "batchnorm behind an activation": ([PLAIN + "leaky", "batchnorm"], 1),
    "lone batchnorm": (["batchnorm", "maxpool size=2", "batchnorm"], 2),
    "links": (
        [
            PLAIN + "linear",
            "batchnorm",
            CONV + "leaky",
            PLAIN + "linear",
            "batchnorm",
            "shortcut from=-4 activation=leaky",
            "route layers=1,2,4,5",
            "batchnorm",
            "connected output=5 activation=linear",
            "batchnorm",
        ],
        1,
    ),
    "read without it": ([PLAIN + "linear", "batchnorm", "route layers=0,1"], 1),
}


def randomized(layers, net="", seed=0):
    plan = resolve(parse_cfg_text(cfg_text(layers, SHAPE, 2, net)))
    made, rng = build_network(plan, batch=2), np.random.default_rng(seed)
    for layer in made.layers:
        for name, array in layer.arrays("parameter", "statistic").items():
            low, high = (0.1, 3) if name == "rolling_variance" else (-1, 1)
            array[:] = rng.uniform(low, high, array.shape)
    return made


def inputs(net, seed=1):
    return np.random.default_rng(seed).standard_normal((2, net.inputs)).astype(np.float32)


def close(ours, wanted):
    return np.abs(ours - wanted).max() <= 1e-5 * np.abs(wanted).max()


# ---- in place
@pytest.mark.parametrize(
    "options", ["", "batchnorm=darknet dialect=pjreddie", "batchnorm=darknet dialect=alexeyab", "fused=0"]
)
@pytest.mark.parametrize("name", CASES)
def test_outputs_stay(name, options):
    layers, staying = CASES[name]
    net = randomized(layers, options)
    x = inputs(net)
    for layer in batch_normalized(net):
        layer.rolling_variance[0] = (
            4e-3  # small enough to tell the epsilons of the paper and of pjreddie apart
        )
    before, noted = net.predict(x), len(net.notes)
    assert net.fuse() is net
    assert close(net.predict(x), before)
    assert len(batch_normalized(net)) == staying == len(net.notes) - noted
    assert [layer.index for layer in net.layers] == list(range(len(net.layers)))


@pytest.mark.parametrize("name", CASES)
def test_cfg_and_weights_stay_a_pair(name, tmp_path):
    net = randomized(CASES[name][0], "dialect=alexeyab")
    x = inputs(net)
    before = net.predict(x)
    net.fuse().save_weights(tmp_path / "x.weights")
    (tmp_path / "x.cfg").write_text(net.to_cfg())
    assert "batch_normalize" not in net.to_cfg()
    again = dn.load_network(tmp_path / "x.cfg", tmp_path / "x.weights", batch=2)
    assert close(again.predict(x), before) and (again.predict(x) == net.predict(x)).all()
    assert len(again.layers) == len(net.layers)


@pytest.mark.parametrize(
    "name, reason",
    [
        (
            "batchnorm behind an activation",
            r"layer 1 \[batchnorm\] keeps .*: layer 0 before it has activation=leaky in between",
        ),
        ("lone batchnorm", r"layer 2 \[batchnorm\] keeps .*: layer 1 before it is \[maxpool\]"),
        (
            "read without it",
            r"layer 1 \[batchnorm\] keeps .*: layer 2 reads the output of layer 0 without it",
        ),
    ],
)
def test_what_stays_is_named(name, reason):
    import re

    notes = randomized(CASES[name][0]).fuse().notes
    assert re.search(reason, "\n".join(notes))


@pytest.mark.parametrize(
    "layers, reason",
    [
        (
            [CONV + "leaky normalize_after_activation=1"],
            "0 [convolutional] keeps normalize=batch: it comes after",
        ),
        (
            ["connected output=4 normalize=layer activation=tanh"],
            "0 [connected] keeps normalize=layer: its statistics",
        ),
        (
            [PLAIN + "linear normalize=group", "batchnorm"],
            "1 [batchnorm] keeps its batch normalization: layer 0 before",
        ),
    ],
)
def test_other_normalizations_stay(layers, reason):
    net = randomized(layers)
    x = inputs(net)
    before = net.predict(x)
    assert (net.fuse().predict(x) == before).all() and len(net.layers) == len(layers)
    assert reason in "\n".join(net.notes)


def test_the_truth_of_later_layers_is_left_alone():
    net = randomized([PLAIN + "linear truth=1", "batchnorm"], "dialect=pjreddie").fuse()
    assert len(net.layers) == 2 and "is the truth of later layers" in net.notes[-1]


def test_switches_about_the_old_file_go():
    net = randomized(
        [CONV + "leaky dontloadscales=1", "connected output=3 dontload=1 activation=linear"]
    ).fuse()
    assert "dontload" not in net.to_cfg()


def test_a_network_made_by_hand():
    net = dn.Network(2, w=6, h=7, c=3)
    net.add(dn.make_convolutional_layer(2, 7, 6, 3, n=4, size=3, padding=1, activation="linear"))
    l = net.add(dn.make_batchnorm_layer(2, 6, 7, 4))
    net.add(dn.make_route_layer(2, 2, [0, 1], [6 * 7 * 4] * 2))
    l.rolling_variance[:] = 2
    x = inputs(net)
    before = net.predict(x)
    assert close(net.fuse().predict(x), before) and len(net.layers) == 3
    net = dn.Network(2, w=6, h=7, c=3)
    net.add(
        dn.make_convolutional_layer(2, 7, 6, 3, n=4, size=3, padding=1, activation="leaky", batch_normalize=1)
    )
    net.layers[0].rolling_variance[:] = 2
    net.add(dn.make_convolutional_layer(2, 7, 6, 4, n=4, activation="linear"))
    l = net.add(dn.make_batchnorm_layer(2, 6, 7, 4))
    l.rolling_variance[:] = 0.5
    net.add(dn.make_route_layer(2, 2, [0, 2], [6 * 7 * 4] * 2))
    before = net.predict(x)
    assert close(net.fuse().predict(x), before) and len(net.layers) == 3 and l.index == -1
    assert "layers=0,1" in net.to_cfg()


def test_training_needs_the_normalization():
    with pytest.raises(dn.ArgumentError, match="made for training cannot be fused"):
        build_network(
            resolve(parse_cfg_text(cfg_text(CASES["convolutional"][0], SHAPE, 2))), train=True
        ).fuse()


def test_fusing_twice_changes_nothing_more():
    net = randomized(CASES["links"][0]).fuse()
    weights = [layer.weights.copy() for layer in net.layers if layer.type in ("convolutional", "connected")]
    net.fuse()
    assert all(
        (layer.weights == w).all()
        for layer, w in zip([x for x in net.layers if hasattr(x, "weights")], weights)
    )


# ---- the command
@pytest.fixture
def files(tmp_path, monkeypatch):
    """net.cfg and net.weights in the working directory; returns their network."""
    monkeypatch.chdir(tmp_path)
    net = randomized(CASES["links"][0], "dialect=alexeyab")
    (tmp_path / "net.cfg").write_text(net.to_cfg())
    net.seen = 77
    net.save_weights("net.weights")
    return net


@pytest.mark.parametrize("out", ["out", "out.cfg", "out.weights"])
def test_command(files, capsys, out):
    assert main(["fuse", "net.cfg", "net.weights", out]) == 0
    printed = capsys.readouterr()
    assert printed.out == "folded 4 of 5 batch normalizations: out.cfg out.weights\n"
    assert "layer 5 [batchnorm] keeps its batch normalization: layer 4 before it is [route]" in printed.err
    fused = dn.load_network("out.cfg", "out.weights", batch=2)
    assert close(fused.predict(inputs(files)), files.predict(inputs(files))) and fused.seen == 77
    assert sorted(os.listdir()) == ["net.cfg", "net.weights", "out.cfg", "out.weights"]


def test_command_json(files, capsys):
    assert main(["fuse", "net.cfg", "net.weights", "a.b", "--json"]) == 0
    figures = json.loads(capsys.readouterr().out)
    assert (
        figures["folded"] == 4
        and figures["files"] == ["a.b.cfg", "a.b.weights"]
        and len(figures["kept"]) == 1
    )


@pytest.mark.parametrize("out", ["net", "./net.weights"])
def test_command_does_not_overwrite_what_it_reads(files, capsys, out):
    assert main(["fuse", "net.cfg", "net.weights", out]) == 2
    assert "is the file that is read; wanted another name" in capsys.readouterr().err


# ---- published networks, and Darknet as the reader
SIDES = {"tiny.cfg": 64, "cifar.cfg": 28, "resnet18.cfg": 64, "darknet19.cfg": 64}


@pytest.mark.skipif(MISSING, reason="needs /usr/lib/darknet/libdarknet.so (Debian package darknet)")
@pytest.mark.parametrize("name", SIDES)
def test_published_networks(name, rng, tmp_path):
    cfg, weights, out = (str(tmp_path / part) for part in (name, "random.weights", "fused"))
    with open(cfg, "w") as file:
        file.write(adapted(read(f"{CFGS}/{name}"), SIDES[name]))
    net = dn.load_network(cfg)
    fill(net, rng)
    net.save_weights(weights)
    x = rng.normal(size=(1, net.inputs)).astype(np.float32)
    wanted = net.predict(x).reshape(1, -1)
    assert main(["fuse", cfg, weights, out]) == 0
    fused = dn.load_network(out + ".cfg", out + ".weights")
    assert not batch_normalized(fused) and close(fused.predict(x).reshape(1, -1), wanted)
    peer = DarknetPeer()
    theirs = peer.outputs(out + ".cfg", out + ".weights", x)
    peer.close()
    fused.predict(x)
    for layer, output in zip(fused.layers, theirs):
        assert close(layer.output.reshape(output.shape), output), f"layer {layer.index} [{layer.type}]"
