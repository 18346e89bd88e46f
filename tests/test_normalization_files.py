"""Files of group, layer and instance normalization: .weights order, .cfg, checkpoints; recomputing and fusing."""

from __future__ import annotations

import struct

import numpy as np
import pytest
from test_normalization import (
    BATCH,
    CONNECTED,
    CONVOLUTION,
    EVERY,
    MIXED,
    MIXED_SHAPE,
    OPTIONS,
    PLACES,
    SHAPES,
    inputs,
    near,
    network,
    one,
)

import darknetpy as dn
from darknetpy.weights import expected_bytes

OWN = {"groupnorm": "groupnorm groups=2", "layernorm": "layernorm", "batchnorm": "batchnorm"}
ORDER = ("biases", "scales", "rolling_mean", "rolling_variance", "inner_biases", "weights")


def values(net):
    return [array.copy() for l in net.layers for array in l.arrays("parameter", "statistic").values()]


def same(net, before):
    return all(np.array_equal(a, b) for a, b in zip(values(net), before))


def head(net):
    return struct.pack("<iiiQ", 0, 2, 5 if net.dialect == "alexeyab" else 0, 0)


def stored(l, names):
    return b"".join(
        getattr(l, name).tobytes() for name in names if name in l.arrays("parameter", "statistic")
    )


@pytest.mark.parametrize("base, kind, place", EVERY)
def test_weights_order(base, kind, place, tmp_path):
    net, other = (one(base, kind, place, seed=seed) for seed in (1, 2))
    net.save_weights(tmp_path / "x.weights")
    darknets = base == CONNECTED and kind == "batch" and place == "before"
    order = ("biases", "weights", *ORDER[1:4]) if darknets else ORDER
    assert (tmp_path / "x.weights").read_bytes() == head(net) + stored(net.layers[0], order)
    assert ("inner_biases" in net.layers[0].arrays()) == (place == "after")
    assert ("rolling_mean" in net.layers[0].arrays()) == (kind == "batch")
    assert expected_bytes(net) == (tmp_path / "x.weights").stat().st_size
    other.load_weights(tmp_path / "x.weights")
    assert same(other, values(net))


@pytest.mark.parametrize("line", ["groupnorm groups=2", "layernorm"])
def test_weights_order_of_own_layers(line, tmp_path):
    net, other = (network([line, CONNECTED], (4, 2, 3), seed=seed) for seed in (1, 2))
    net.save_weights(tmp_path / "x.weights")
    assert (tmp_path / "x.weights").read_bytes() == head(net) + stored(
        net.layers[0], ("biases", "scales")
    ) + stored(net.layers[1], ("biases", "weights"))
    other.load_weights(tmp_path / "x.weights")
    assert same(other, values(net))


@pytest.mark.parametrize("base", SHAPES)
@pytest.mark.parametrize("darknets, ours", [("batch_normalize=1", "normalize=batch"), ("", "normalize=none")])
def test_what_darknet_reads_is_written_as_ever(base, darknets, ours, tmp_path):
    """Whoever says normalize=batch or none gets the file, and the .cfg, of whoever does not know the key."""
    found = []
    for words in (darknets, ours):
        net = network([f"{base} activation=leaky {words}"], SHAPES[base])
        net.save_weights(tmp_path / "x.weights")
        found.append((net.to_cfg(), (tmp_path / "x.weights").read_bytes()))
    assert found[0] == found[1]
    assert "\nnormalize" not in found[1][0] and ("batch_normalize=1" in found[1][0]) == bool(darknets)


@pytest.mark.parametrize("base, kind, place", EVERY)
def test_dontloadscales_reads_a_file_without_the_normalization(base, kind, place, tmp_path):
    """The scales and rolling statistics stay; every bias is read."""
    line = f"{base} activation=mish {OPTIONS[kind]}{PLACES[place]}"
    source = network([line], SHAPES[base], seed=1)
    net = network([line + " dontloadscales=1"], SHAPES[base], seed=2)
    before = {name: array.copy() for name, array in net.layers[0].arrays("parameter", "statistic").items()}
    data = head(net) + stored(source.layers[0], ("biases", "inner_biases", "weights"))
    (tmp_path / "x.weights").write_bytes(data)
    net.load_weights(tmp_path / "x.weights")
    for name, array in net.layers[0].arrays("parameter", "statistic").items():
        stays = name in ("scales", "rolling_mean", "rolling_variance")
        assert np.array_equal(array, before[name] if stays else getattr(source.layers[0], name)), name


@pytest.mark.parametrize("line", OWN.values(), ids=OWN)
def test_dontloadscales_does_not_concern_layers_that_only_normalize(line, tmp_path):
    net, other = (
        network([words], (4, 2, 3), "dialect=alexeyab", seed=i)
        for i, words in enumerate((line, line + " dontloadscales=1"))
    )
    net.save_weights(tmp_path / "x.weights")
    other.load_weights(tmp_path / "x.weights")
    assert same(other, values(net))


def written_again(net, tmp_path, **options):
    (tmp_path / "again.cfg").write_text(net.to_cfg())
    net.save_weights(tmp_path / "again.weights")
    return dn.load_network(tmp_path / "again.cfg", tmp_path / "again.weights", batch=net.batch, **options)


def test_cfg_round_trip(tmp_path, rng):
    net = network(MIXED, MIXED_SHAPE, "dialect=alexeyab", train=False)
    again, x = written_again(net, tmp_path), inputs(net, rng)
    assert again.to_cfg() == net.to_cfg()
    for l, theirs in zip(net.layers, again.layers):
        assert l.cfg_options == theirs.cfg_options
    assert np.array_equal(again.predict(x), net.predict(x))


@pytest.mark.parametrize("base, kind, place", EVERY)
def test_a_layer_made_by_hand_is_the_same_as_the_cfgs(base, kind, place, rng):
    net, options = one(base, kind, place), {"normalize": kind, "normalize_after_activation": place == "after"}
    if kind == "group":
        options["norm_groups"] = 2
    if base == CONVOLUTION:
        by_hand = dn.Network(BATCH, 5, 3, 2, train=True)
        by_hand.add(
            dn.make_convolutional_layer(BATCH, 3, 5, 2, 4, size=3, padding=1, activation="mish", **options)
        )
    else:
        by_hand = dn.Network(BATCH, c=7, train=True)
        by_hand.add(dn.make_connected_layer(BATCH, 7, 12, "mish", **options))
    l, x = by_hand.layers[0], inputs(net, rng)
    for name, array in net.layers[0].arrays("parameter", "statistic").items():
        getattr(l, name)[...] = array
    for made in (net, by_hand):
        made.forward(x, train=True)
    assert np.array_equal(l.output, net.layers[0].output)
    assert (
        f"normalize={kind}" in by_hand.to_cfg() or kind == "batch" and "batch_normalize=1" in by_hand.to_cfg()
    )
    assert ("normalize_after_activation=1" in by_hand.to_cfg()) == (place == "after")


@pytest.mark.parametrize("more", ["", "adam=1", "max_gradient=.5", "statistics=cumulative fused=0"])
def test_a_resumed_run_is_the_same_to_the_bit(more, tmp_path):
    def train(net, first, last):
        for step in range(first, last):
            rng = np.random.default_rng(step)
            net.train_batch(inputs(net, rng), rng.integers(0, 5, BATCH))

    net = network(MIXED, (2, 8, 7), "momentum=.9 learning_rate=.05 decay_l1=1e-4 " + more)
    train(net, 0, 4)
    net.save_checkpoint(tmp_path / "x.checkpoint")
    resumed = dn.load_checkpoint(tmp_path / "x.checkpoint")
    start = values(net)
    train(net, 4, 8)
    train(resumed, 4, 8)
    assert not same(net, start)
    roles = ("parameter", "statistic", "counter", "update", "moment")
    for l, theirs in zip(net.layers, resumed.layers):
        for name, array in l.arrays(*roles).items():
            assert np.array_equal(array, getattr(theirs, name)), (l.index, name)


# ---- moving statistics, fusing
def test_recomputing_statistics_leaves_the_others_alone(rng):
    net = network(MIXED, MIXED_SHAPE, train=False)
    before = [{name: a.copy() for name, a in l.arrays("parameter", "statistic").items()} for l in net.layers]
    net.recompute_statistics([inputs(net, rng) for _ in range(3)])
    for l, arrays in zip(net.layers, before):
        for name, array in l.arrays("parameter", "statistic").items():
            assert np.array_equal(array, arrays[name]) == (not name.startswith("rolling")), (l.index, name)
        assert ("rolling_mean" in arrays) == (l.index in (3, 6))
    grouped = network([MIXED[0], "layernorm"], MIXED_SHAPE, train=False)
    with pytest.raises(dn.ArgumentError, match="no batch normalization"):
        grouped.recompute_statistics([inputs(grouped, rng)])


def test_fusing_folds_what_it_can_and_leaves_the_rest(tmp_path, rng):
    layers = [
        "convolutional filters=4 size=3 pad=1 activation=leaky batch_normalize=1",
        *MIXED[:6],
        "convolutional filters=4 size=1 activation=linear normalize=layer",
        "batchnorm",
        "connected output=6 activation=linear",
        "batchnorm",
    ]
    net = network(layers, (2, 6, 5), "dialect=alexeyab", train=False)
    x = inputs(net, rng)
    before = net.predict(x)
    kept = {
        i: {n: a.copy() for n, a in net.layers[i].arrays("parameter", "statistic").items()}
        for i in range(1, 9)
    }
    net.fuse()
    assert near(net.predict(x), before) and len(net.layers) == 10
    for i, arrays in kept.items():
        assert all(np.array_equal(getattr(net.layers[i], name), array) for name, array in arrays.items())
    assert [l.index for l in net.layers if "rolling_mean" in l.arrays("statistic")] == [4, 8]
    assert "scales" not in net.layers[0].arrays() and "scales" not in net.layers[9].arrays()
    wanted = {
        1: "keeps normalize=group: its statistics are each sample's own",
        2: "keeps normalize=instance: its statistics are each sample's own",
        4: "keeps normalize=batch: it comes after the activation",
        5: "keeps normalize=layer: its statistics are each sample's own",
        8: r"keeps its batch normalization: layer 7 before it normalizes in between",
    }
    for index, reason in wanted.items():
        assert any(note.startswith(f"layer {index} [") and reason in note for note in net.notes), reason
    assert np.array_equal(written_again(net, tmp_path).predict(x), net.predict(x))
