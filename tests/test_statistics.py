"""Moving statistics: each way of keeping them, reset, recomputed, in files; what keeps layers as they are."""

from __future__ import annotations

import json

import numpy as np
import pytest
from gradcheck import cfg_text

import darknetpy as dn
from darknetpy.builder import build_network
from darknetpy.cfg import parse_cfg_text
from darknetpy.cli import main
from darknetpy.data import Loader, View, open_data
from darknetpy.moving_statistics import batch_normalized
from darknetpy.sections import resolve

LAYERS = [
    "convolutional filters=4 size=3 pad=1 batch_normalize=1 activation=leaky",
    "batchnorm",
    "dropout probability=.5",
    "connected output=6 batch_normalize=1 activation=tanh",
    "connected output=3 activation=linear",
    "softmax",
]
SHAPE, BATCH = (2, 5, 4), 6


def network(layers=LAYERS, net="", train=True, batch=BATCH):
    plan = resolve(parse_cfg_text(cfg_text(layers, SHAPE, batch, net)))
    return build_network(plan, batch=batch, train=train)


def batches(count, seed=0, batch=BATCH):
    rng = np.random.default_rng(seed)
    return [rng.normal(1, 2, (batch, 2 * 5 * 4)).astype(np.float32) for _ in range(count)]


def train(net, inputs):
    for x in inputs:
        net.train_batch(x, np.arange(len(x)) % 3)


def layer_by_hand(statistics, fused=True, momentum=None):
    """[batchnorm] after five mini-batches, and its inputs (batches, batch, c, h, w)."""
    l, net = dn.make_batchnorm_layer(3, w=4, h=2, c=5), dn.Network(train=True)
    l.fused, l.statistics = fused, statistics
    if momentum is not None:
        l.rolling_momentum = momentum
    inputs = np.random.default_rng(3).normal(2, 3, (5, 3, 5, 2, 4)).astype(np.float32)
    for x in inputs:
        net.input = np.ascontiguousarray(x)
        dn.forward_batchnorm_layer(l, net)
    return l, inputs.astype(float)


def moments(inputs):
    """Mean and unbiased variance of each mini-batch, (batches, c) each."""
    return inputs.mean(axis=(1, 3, 4)), inputs.var(axis=(1, 3, 4)) * 24 / 23


# ---- each kind
@pytest.mark.parametrize("fused", [True, False], ids=["fused", "composed"])
@pytest.mark.parametrize("statistics", ["ema", "cumulative", "last"])
def test_what_becomes_of_the_mini_batches(statistics, fused):
    l, inputs = layer_by_hand(statistics, fused, momentum=0.8)
    weights = {"ema": 0.2 * 0.8 ** np.arange(5)[::-1], "cumulative": np.full(5, 0.2), "last": np.eye(5)[4]}[
        statistics
    ]
    for ours, wanted in zip((l.rolling_mean, l.rolling_variance), moments(inputs)):
        np.testing.assert_allclose(ours, weights @ wanted, rtol=1e-5)
    assert l.statistics_count.tolist() == [5] and l.statistics == statistics


def test_cumulative_forgets_no_mini_batch_of_many():
    """1,000 mini-batches: float32 keeps the average to 1e-5 of the values."""
    l, net = dn.make_batchnorm_layer(4, w=1, h=1, c=2), dn.Network(train=True)
    l.statistics = "cumulative"
    inputs = np.random.default_rng(1).normal(5, 1, (1000, 4, 2, 1, 1)).astype(np.float32)
    for x in inputs:
        net.input = np.ascontiguousarray(x)
        dn.forward_batchnorm_layer(l, net)
    exact = inputs.astype(float)
    np.testing.assert_allclose(l.rolling_mean, exact.mean(axis=(0, 1, 3, 4)), rtol=1e-5)
    np.testing.assert_allclose(l.rolling_variance, exact.var(axis=1, ddof=1).mean(axis=(0, 2, 3)), rtol=1e-5)


@pytest.mark.parametrize("fused", [True, False], ids=["fused", "composed"])
def test_frozen_statistics_stay_and_normalize_in_training(fused):
    l, net = dn.make_batchnorm_layer(2, w=3, h=2, c=4), dn.Network(train=True)
    l.fused, l.statistics, rng = fused, "frozen", np.random.default_rng(2)
    l.rolling_mean[:], l.rolling_variance[:] = mean, variance = rng.normal(size=4), rng.uniform(0.5, 2, 4)
    l.scales[:] = scales = rng.uniform(0.5, 2, 4)
    net.input = x = rng.normal(size=(2, 4, 2, 3)).astype(np.float32)
    dn.forward_batchnorm_layer(l, net)
    l.delta[:] = d = rng.normal(size=x.shape)
    dn.backward_batchnorm_layer(l, net)
    channels = (slice(None), None, None)
    deviation = np.sqrt(variance + 1e-5)[channels]
    x_norm = (x - mean[channels]) / deviation
    np.testing.assert_allclose(l.output, scales[channels] * x_norm, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(l.x_norm, x_norm, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(net.delta, d * scales[channels] / deviation, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(l.scale_updates, (d * x_norm).sum(axis=(0, 2, 3)), rtol=1e-4)
    np.testing.assert_allclose(l.rolling_mean, mean, rtol=1e-6)
    assert l.statistics_count[0] == 0


def test_a_layer_overrides_net():
    layers = [*LAYERS]
    layers[1] += " statistics=last"
    layers[3] += " rolling_momentum=.5"
    net = network(layers, "statistics=cumulative rolling_momentum=.9")
    assert [l.statistics for l in batch_normalized(net)] == ["cumulative", "last", "cumulative"]
    assert [l.rolling_momentum for l in batch_normalized(net)] == [0.9, 0.9, 0.5]
    assert [l.rolling_momentum for l in batch_normalized(network())] == [0.99] * 3


def test_to_cfg_says_what_was_set():
    net = network()
    net.layers[0].statistics, net.layers[1].rolling_momentum = "cumulative", 0.75
    text = net.to_cfg()
    assert text.count("statistics=") == text.count("rolling_momentum=") == 1
    again = build_network(resolve(parse_cfg_text(text)), train=True)
    assert again.layers[0].statistics == "cumulative" and again.layers[1].rolling_momentum == 0.75
    hand = dn.Network(2, 4, 3, 2)
    hand.add(dn.make_batchnorm_layer(2, 4, 3, 2)).statistics = "last"
    assert "[batchnorm]\nstatistics=last" in hand.to_cfg()


def test_networks_of_one_plan_have_statistics_of_their_own():
    plan = resolve(parse_cfg_text(cfg_text(LAYERS, SHAPE, BATCH)))
    one, two = build_network(plan), build_network(plan)
    one.layers[1].statistics = "last"
    assert two.layers[1].statistics == "ema" and "statistics" not in two.to_cfg()


# ---- refusals
@pytest.mark.parametrize(
    "net, layer, line",
    [
        (
            "batchnorm=darknet statistics=last",
            "batchnorm",
            r":8: \[net\] statistics=last goes with batchnorm=paper",
        ),
        ("batchnorm=darknet rolling_momentum=.5", "batchnorm", r":8: \[net\] rolling_momentum=0.5 goes with"),
        (
            "batchnorm=darknet",
            "batchnorm statistics=cumulative",
            r":9: \[batchnorm\] statistics=cumulative goes with",
        ),
        ("statistics=mean", "batchnorm", r"wanted one of ema, cumulative, last, frozen"),
        ("rolling_momentum=1", "batchnorm", r"wanted a number in \[0, 1\)"),
    ],
)
def test_refusals(net, layer, line):
    with pytest.raises(dn.CfgError, match=line):
        network([layer], net)


def test_refusals_of_a_layer():
    l = network(LAYERS, "batchnorm=darknet").layers[1]
    with pytest.raises(dn.ArgumentError, match="statistics=last: a layer with batchnorm=darknet"):
        l.statistics = "last"
    l.statistics = "ema"
    l = dn.make_batchnorm_layer(2, 3, 4, 5)
    with pytest.raises(dn.ArgumentError, match="'mean': wanted one of ema, cumulative, last, frozen"):
        l.statistics = "mean"
    with pytest.raises(dn.ArgumentError, match="rolling_momentum=1.5"):
        l.rolling_momentum = 1.5


def test_without_batch_normalization_it_is_noted():
    (note,) = network(["connected output=3 statistics=last"]).notes
    assert "statistics= has no effect here" in note


def test_one_value_per_channel_names_the_layer():
    net = network(batch=1)
    with pytest.raises(
        dn.ArgumentError, match=r"layer 3 \[connected\] batch normalization cannot train on one value"
    ):
        train(net, batches(1, batch=1))
    train(network([*LAYERS[:3], LAYERS[3] + " statistics=frozen", *LAYERS[4:]], batch=1), batches(1, batch=1))


# ---- reset
def test_reset():
    net = network([LAYERS[0] + " statistics=cumulative", "batchnorm", *LAYERS[2:]])
    train(net, batches(3))
    kept = net.layers[0].rolling_mean.copy()
    net.reset_statistics()
    assert [int(l.statistics_count[0]) for l in batch_normalized(net)] == [0, 0, 0]
    assert (net.layers[0].rolling_mean == kept).all() and kept.any()  # until the next mini-batch replaces it
    assert not net.layers[1].rolling_mean.any() and not net.layers[1].rolling_variance.any()
    net.layers[0].rolling_mean[:] = np.nan
    train(net, batches(1, seed=9))
    assert (net.layers[0].rolling_mean == net.layers[0].mean).all()


def test_reset_leaves_frozen_statistics():
    net = network([LAYERS[0] + " statistics=frozen", *LAYERS[1:]])
    net.layers[0].rolling_mean[:] = 3
    net.reset_statistics()
    assert (net.layers[0].rolling_mean == 3).all()


# ---- files
def test_weights_do_not_carry_the_count_and_checkpoints_do(tmp_path):
    net = network(net="statistics=cumulative dialect=alexeyab")
    train(net, batches(3))
    net.save_weights(tmp_path / "x.weights")
    net.save_checkpoint(tmp_path / "x.checkpoint")
    train(net, batches(2, seed=5))
    resumed = dn.load_checkpoint(tmp_path / "x.checkpoint")
    assert [int(l.statistics_count[0]) for l in batch_normalized(resumed)] == [3, 3, 3]
    train(resumed, batches(2, seed=5))
    for ours, theirs in zip(batch_normalized(resumed), batch_normalized(net)):
        for name, array in ours.arrays("parameter", "statistic", "counter").items():
            assert (array == getattr(theirs, name)).all(), name
    resumed.load_weights(tmp_path / "x.weights")
    assert [int(l.statistics_count[0]) for l in batch_normalized(resumed)] == [0, 0, 0]
    train(resumed, batches(1, seed=7))
    for l in batch_normalized(resumed):
        assert (l.rolling_mean == l.mean).all()  # the first of a new average


def test_dontloadscales_does_not_concern_batchnorm_sections(tmp_path):
    """As in Darknet: the switch is read for convolutional and connected."""
    net, same = network(["batchnorm"]), network(["batchnorm dontloadscales=1"])
    net.layers[0].scales[:] = [2, 3]
    net.save_weights(tmp_path / "x.weights")
    same.load_weights(tmp_path / "x.weights")
    assert same.layers[0].scales.tolist() == [2, 3]


# ---- recomputed
def expected_statistics(net, inputs):
    """What the paper's Algorithm 2 gives: training passes of a copy, cumulative and without dropout."""
    layers = [line for line in LAYERS if not line.startswith("dropout")]
    copy = network(layers, net="statistics=cumulative")
    mine = [l for l in net.layers if l.type != "dropout"]
    for l, theirs in zip(copy.layers, mine):
        for name, array in l.arrays("parameter").items():
            array[...] = getattr(theirs, name)
    for x in inputs:
        copy.forward(x, train=True)
    return [(l.rolling_mean.copy(), l.rolling_variance.copy()) for l in batch_normalized(copy)]


@pytest.mark.parametrize("made_for", ["training", "inference"])
@pytest.mark.parametrize("net", ["", "statistics=last", "statistics=frozen"])
def test_recomputed_statistics(net, made_for):
    network_ = network(net=net, train=made_for == "training")
    rng = np.random.default_rng(4)
    for l in network_.layers:
        for array in l.arrays("parameter").values():
            array[...] = rng.normal(size=array.shape)
    before = [array.copy() for l in network_.layers for array in l.arrays("parameter").values()]
    network_.recompute_statistics(batches(2, seed=9))  # of which nothing is left
    assert network_.recompute_statistics(batches(7)) == 7
    for l, (mean, variance) in zip(batch_normalized(network_), expected_statistics(network_, batches(7))):
        np.testing.assert_allclose(l.rolling_mean, mean, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(l.rolling_variance, variance, rtol=1e-5)
        assert l.statistics_count[0] == 7
    after = [array for l in network_.layers for array in l.arrays("parameter").values()]
    assert all((a == b).all() for a, b in zip(before, after))
    assert network_.seen == 0 and network_.input is None and network_.train == (made_for == "training")
    np.testing.assert_array_equal(network_.predict(batches(1)[0]), network_.predict(batches(1)[0]))


def test_recomputed_statistics_after_the_activation():
    net = network([LAYERS[0] + " normalize_after_activation=1"], train=False)
    net.layers[0].inner_biases[:] = 0.3
    net.recompute_statistics(batches(4))
    plain = network([LAYERS[0].replace("batch_normalize=1 ", "")], train=False)
    plain.layers[0].weights[:], plain.layers[0].biases[:] = net.layers[0].weights, 0.3
    outputs = np.stack([plain.predict(x) for x in batches(4)]).astype(float)
    np.testing.assert_allclose(
        net.layers[0].rolling_mean, outputs.mean(axis=(0, 1, 3, 4)), rtol=1e-5, atol=1e-6
    )
    variance = outputs.var(axis=(1, 3, 4)).mean(axis=0) * (m := BATCH * 20) / (m - 1)
    np.testing.assert_allclose(net.layers[0].rolling_variance, variance, rtol=1e-5)


def test_recomputing_is_all_or_nothing():
    net = network()
    train(net, batches(2))
    before = [array.copy() for l in net.layers for array in l.arrays("statistic", "counter").values()]

    def failing():
        yield batches(1)[0]
        raise OSError("the disk is gone")

    ruined = batches(2)
    ruined[1][0, 0] = np.nan
    for inputs, error in ((failing(), OSError), ([], dn.ArgumentError), (ruined, dn.DarknetError)):
        with pytest.raises(error):
            net.recompute_statistics(inputs)
        after = [array for l in net.layers for array in l.arrays("statistic", "counter").values()]
        assert all((a == b).all() for a, b in zip(before, after))
    assert net.option("recompute") == 0
    with pytest.raises(dn.ArgumentError, match="no batch normalization"):
        network(LAYERS[4:]).recompute_statistics(batches(1))


FILES = "dialect=alexeyab"  # whose files hold the biases of [batchnorm]
CFG = cfg_text(LAYERS, (1, 8, 8), 6, FILES)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """net.cfg, net.weights after three mini-batches, data.npz sorted by class."""
    monkeypatch.chdir(tmp_path)
    rng, labels = np.random.default_rng(6), np.sort(np.arange(40) % 3)
    images = np.clip(rng.normal(80 + 60 * labels[:, None, None], 25, (40, 8, 8)), 0, 255).astype(np.uint8)
    np.savez(tmp_path / "data.npz", x_train=images, y_train=labels, x_test=images[::4], y_test=labels[::4])
    (tmp_path / "net.cfg").write_text(CFG)
    net = dn.load_network("net.cfg", train=True)
    for seed in range(3):
        net.train_batch(np.random.default_rng(seed).random((6, 64), np.float32), np.arange(6) % 3)
    net.save_weights("net.weights")
    return tmp_path


def test_recompute_bn(folder, capsys):
    assert main(["recompute-bn", "net.cfg", "net.weights", "data.npz", "out.weights"]) == 0
    assert (
        "statistics of 3 layers, the average of 6 mini-batches of 6 images: out.weights"
        in capsys.readouterr().out
    )
    net, before = (
        dn.load_network("net.cfg", "net.weights", batch=6),
        dn.load_network("net.cfg", "net.weights"),
    )
    after = dn.load_network("net.cfg", "out.weights")
    loader = Loader(open_data("data.npz").train, View.validation(8, 8, 1), 6, stop=36)
    net.recompute_statistics(batch.x for batch in loader)
    for ours, theirs, old in zip(after.layers, net.layers, before.layers):
        for name, array in ours.arrays("parameter", "statistic").items():
            assert (array == getattr(theirs, name)).all()
            assert (array == getattr(old, name)).all() == (not name.startswith("rolling")), name
    assert after.seen == before.seen == 18
    with open("net.weights", "rb") as one, open("out.weights", "rb") as two:
        assert one.read(20) == two.read(20)


def test_recompute_bn_options(folder, capsys):
    words = ["recompute-bn", "net.cfg", "net.weights", "data.npz", "out.weights"]
    assert main([*words, "--batch", "20", "--batches", "5", "--json"]) == 0
    figures = json.loads(capsys.readouterr().out)
    assert figures == {
        "layers": 3,
        "mini_batches": 5,
        "batch": 20,
        "seen": 18,
        "file": "out.weights",
        "skipped": [],
    }
    assert main([*words, "--batch", "41"]) == 2
    assert "40 training images are less than a mini-batch of 41" in capsys.readouterr().err
    assert main([*words, "--batch", "1"]) == 2
    assert "[connected] batch normalization cannot train on one value per channel" in capsys.readouterr().err


@pytest.mark.parametrize("data", ["my.data", "fashion-mnist:"])
def test_recompute_bn_on_lists_and_embedded_images(folder, pictures, capsys, data):
    layers = [*LAYERS[:4], f"connected output={3 if data == 'my.data' else 10} activation=linear", "softmax"]
    (folder / "a.cfg").write_text(cfg_text(layers, (3 if data == "my.data" else 1, 8, 8), 9, FILES))
    dn.load_network("a.cfg").save_weights("a.weights")
    assert main(["recompute-bn", "a.cfg", "a.weights", data, "b.weights", "--batches", "2"]) == 0
    assert all(
        (l.rolling_variance > 0).all() for l in batch_normalized(dn.load_network("a.cfg", "b.weights"))
    )


def test_training_on_one_value_per_channel_is_refused_before_it_begins(folder, capsys):
    (folder / "one.cfg").write_text(cfg_text(LAYERS, (1, 8, 8), 1, "max_batches=9"))
    assert main(["classifier", "train", "data.npz", "one.cfg", "--no-plot"]) == 2
    assert (
        "one.cfg:18: [connected] batch normalization cannot train on one value per channel"
        in capsys.readouterr().err
    )


# ---- what does not learn
STACK = [
    "convolutional filters=3 size=3 batch_normalize=1 activation=leaky",
    "connected output=5 batch_normalize=1 activation=tanh{}",
    "connected output=3 activation=linear",
    "softmax",
]


def changed(option, updates, net="decay=0 learning_rate=.1", subdivisions=1, stack=STACK):
    """Which layers' parameters each update changes, where the second layer has the option."""
    plan = resolve(parse_cfg_text(cfg_text([line.format(f" {option}") for line in stack], SHAPE, BATCH, net)))
    plan.net.update(batch=BATCH * subdivisions, subdivisions=subdivisions)
    made, result = build_network(plan, batch=BATCH, train=True), []
    for i in range(updates):
        before = [[a.copy() for a in l.arrays("parameter").values()] for l in made.layers[:3]]
        train(made, batches(subdivisions, seed=i))
        after = [list(l.arrays("parameter").values()) for l in made.layers[:3]]
        result.append([not all((a == b).all() for a, b in zip(*pair)) for pair in zip(before, after)])
    return made, result


@pytest.mark.parametrize("subdivisions", [1, 3])
@pytest.mark.parametrize(
    "option, wanted",
    [
        ("stopbackward=1", [[False, False, True]] * 4),
        ("dialect", None),
        ("train_only_bn=1", [[False, False, True]] * 4),
        ("dont_update=2", [[True, False, True]] * 2 + [[True] * 3] * 2),
        ("burnin_update=1", [[True, False, True]] * 2 + [[True] * 3] * 2),
        ("onlyforward=1", [[False, False, True]] * 4),
    ],
)
def test_what_learns_when(option, wanted, subdivisions):
    net = "decay=0 learning_rate=.1"
    if option == "dialect":  # stopbackward=N is AlexeyAB's
        option, net, wanted = (
            "stopbackward=2",
            net + " dialect=alexeyab",
            [[False, False, True]] * 2 + [[True] * 3] * 2,
        )
    if option == "burnin_update=1":
        net += " burn_in=3 power=0"
    made, found = changed(option, 4, net, subdivisions)
    assert found == wanted
    assert [int(l.statistics_count[0]) for l in batch_normalized(made)] == [
        4 * subdivisions
    ] * 2  # statistics go on


@pytest.mark.parametrize("after", [0, 1])
@pytest.mark.parametrize("kind", ["batch", "group norm_groups=2", "layer", "instance"])
@pytest.mark.parametrize(
    "option, wanted",
    [
        ("stopbackward=1", [[False, False, True]] * 2),
        ("train_only_bn=1", [[False, False, True]] * 2),
        ("dont_update=1", [[True, False, True], [True] * 3]),
        ("learning_rate=0", [[True, False, True]] * 2),
        ("statistics=frozen", [[True] * 3] * 2),
    ],
)
def test_every_kind_of_normalization_waits(option, wanted, kind, after):
    layer = f"convolutional filters=4 size=1 activation=tanh normalize={kind} normalize_after_activation={after}"
    made, found = changed(option, 2, stack=[layer, layer + "{}", *STACK[2:]])
    assert found == wanted
    moving = [] if kind != "batch" else [2, 0] if option == "statistics=frozen" else [2, 2]
    assert [int(l.statistics_count[0]) for l in batch_normalized(made)] == moving
    noted = any("statistics= has no effect here" in note for note in made.notes)
    assert noted == (option == "statistics=frozen" and kind != "batch")


def test_stopbackward_of_pjreddie_is_for_good():
    made, found = changed("stopbackward=2", 4, "decay=0 learning_rate=.1 dialect=pjreddie")
    assert found == [[False, False, True]] * 4 and "stopbackward=2 means 1" in made.notes[0]


@pytest.mark.parametrize("net", ["learning_rate=.1 decay=.5 decay_l1=.1", "learning_rate=.1 decay=.5 adam=1"])
def test_train_only_bn_lets_nothing_decay(net):
    _, found = changed("train_only_bn=1", 3, net)
    assert found == [[False, False, True]] * 3


def test_the_backward_pass_ends_above_train_only_bn():
    made, _ = changed("train_only_bn=1", 1)
    assert made.layers[1].delta.any() and not made.layers[0].delta.any()


def test_gradients_gathered_while_waiting_are_dropped():
    """Darknet would apply the sum of them all at once."""
    made, _ = changed("dont_update=3", 3)
    assert not any(array.any() for array in made.layers[1].arrays("update").values())
    assert made.layers[0].weight_updates.any()


def test_gradients_that_are_dropped_do_not_count_in_the_norm():
    """With the last layer alone learning, clipping sees its gradient only."""
    made, _ = changed("train_only_bn=1", 1, "learning_rate=1 decay=0 momentum=0 max_gradient=1e-3")
    start, _ = changed("train_only_bn=1", 0, "learning_rate=1 decay=0 momentum=0 max_gradient=1e-3")
    step = [
        a - b
        for a, b in zip(
            made.layers[2].arrays("parameter").values(), start.layers[2].arrays("parameter").values()
        )
    ]
    assert np.sqrt(sum((s.astype(float) ** 2).sum() for s in step)) == pytest.approx(1e-3, rel=1e-3)
