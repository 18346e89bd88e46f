"""[convolutional]'s rarer options: share_index, xnor, grad_centr, clip, cbn."""

from __future__ import annotations

import os

import numpy as np
import pytest
from darknet_peer import MISSING, DarknetPeer
from gradcheck import SCALES, Case, build, cfg_text, check, randomize
from twin import twin

import darknetpy as dn
from darknetpy.core import core
from darknetpy.errors import CfgError
from darknetpy.summary import summary_rows
from darknetpy.weights import expected_bytes

SHAPE = (3, 5, 4)
CONV = "convolutional filters=3 size=3 pad=1 activation=tanh"

GRADIENT_CASES = [
    Case("conv shared", [CONV, f"{CONV} share_index=-1", CONV], SHAPE),
    Case("conv shared bn", [f"{CONV} batch_normalize=1", f"{CONV} batch_normalize=1 share_index=0"], SHAPE),
    Case(
        "conv shared twice, of another stride",
        [CONV, f"{CONV} share_index=0", f"{CONV} share_index=1 stride=2"],
        SHAPE,
    ),
    Case(
        "conv shared, with other tails",
        [
            "convolutional filters=3 size=3 pad=1 activation=tanh batch_normalize=1 antialiasing=1",
            "convolutional filters=3 size=3 pad=1 activation=mish batch_normalize=1 share_index=0 coordconv=1",
            "convolutional filters=3 size=3 pad=1 activation=tanh batch_normalize=1 share_index=1 antialiasing=2 stride=2",
        ],
        SHAPE,
    ),
    Case("conv cbn", ["convolutional filters=2 size=2 activation=tanh cbn=1"], SHAPE),
]


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("case", GRADIENT_CASES, ids=str)
def test_gradient(case, scale):
    check(case, scale)


def load(folder, layers, net="", shape=SHAPE, batch=2, **how):
    path = os.path.join(folder, "net.cfg")
    with open(path, "w") as file:
        file.write(cfg_text(layers, shape, batch, net))
    return dn.load_network(path, **how)


# ---- share_index
SHARING = [f"{CONV} batch_normalize=1", f"{CONV} batch_normalize=1 share_index=0", "convolutional filters=2 activation=linear"]


def test_shared_parameters_are_one_layers(tmp_path):
    net = load(tmp_path, SHARING, "learning_rate=.1", train=True)
    first, second, _ = net.layers
    assert second.weights.ctypes.data == first.weights.ctypes.data
    assert second.rolling_mean.ctypes.data == first.rolling_mean.ctypes.data
    assert set(second.arrays("parameter", "update", "statistic", "counter")) == set()
    assert [row["trainable"] for row in summary_rows(net)] == [3 * 27 + 2 * 3, 0, 2 * 3 + 2]
    apart = load(tmp_path, [line.replace(" share_index=0", "") for line in SHARING], dialect="alexeyab")
    np.testing.assert_array_equal(first.weights, apart.layers[0].weights, err_msg="start values are the first layer's")
    assert expected_bytes(net) == expected_bytes(apart) - 4 * (3 * 27 + 4 * 3)


def test_shared_parameters_are_updated_once_by_both_gradients(tmp_path):
    net = load(tmp_path, SHARING[:2], "learning_rate=.1\nmomentum=.5\ndecay=0", train=True)
    x = np.random.default_rng(0).standard_normal((2, *SHAPE), np.float32)
    net.forward(x, train=True)
    net.layers[-1].delta[:] = 1
    net.backward()
    net.seen, before = 2, net.layers[0].weights.copy()
    updates = net.layers[0].weight_updates.copy()
    net.update()
    np.testing.assert_allclose(net.layers[1].weights - before, .1 / 2 * updates, rtol=1e-4, atol=1e-7)
    np.testing.assert_array_equal(net.layers[1].weight_updates, updates / 2)


def test_shared_parameters_in_files(tmp_path):
    net = load(tmp_path, SHARING, train=True)
    rng = np.random.default_rng(1)
    randomize(net, rng)
    x = rng.standard_normal((2, *SHAPE)).astype(np.float32)
    wanted = net.predict(x)
    net.save_weights(tmp_path / "w")
    net.save_checkpoint(tmp_path / "c")
    (tmp_path / "again.cfg").write_text(net.to_cfg())
    assert "share_index=0" in net.to_cfg()
    for again in (dn.load_network(tmp_path / "again.cfg", tmp_path / "w", batch=2), dn.load_checkpoint(tmp_path / "c")):
        np.testing.assert_allclose(again.predict(x), wanted, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(load(tmp_path, SHARING, weights=tmp_path / "w", batch=2).fuse().predict(x), wanted, rtol=1e-4, atol=1e-5)


def test_shared_parameters_outlive_their_network(tmp_path):
    net = load(tmp_path, SHARING)
    second, weights = net.layers[1], net.layers[0].weights.copy()
    del net
    np.testing.assert_array_equal(second.weights, weights)


def test_normalized_values_of_a_shared_layer(tmp_path):
    """They belong to the layer; the statistics that scale them to its lender, where they are frozen."""
    for options in ("", " statistics=frozen"):
        net = load(tmp_path, [line + options for line in SHARING[:2]], train=True)
        x = np.random.default_rng(6).standard_normal((2, *SHAPE), np.float32)
        net.layers[0].rolling_mean[:], net.layers[0].rolling_variance[:] = .5, 4
        net.forward(x, train=True)
        layer = net.layers[1]
        axes = (0, 2, 3)
        mean, variance = (.5, 4) if options else (layer.x.mean(axis=axes, keepdims=True), layer.x.var(axis=axes, keepdims=True))
        np.testing.assert_allclose(layer.x_norm, (layer.x - mean) / np.sqrt(variance + 1e-5), rtol=1e-4, atol=1e-5)


def test_sharing_by_hand():
    net = dn.Network(2, w=4, h=5, c=3, train=True)
    net.add(dn.make_convolutional_layer(2, 5, 4, 3, n=3, size=3, padding=1, activation="tanh"))
    net.add(dn.make_convolutional_layer(2, 5, 4, 3, n=3, size=3, padding=1, activation="tanh", share_index=0))
    assert net.layers[1].weights.ctypes.data == net.layers[0].weights.ctypes.data


@pytest.mark.parametrize("layers, message", [
    (["maxpool size=1", f"{CONV} share_index=0"], "layer 0 is no convolution before this one"),
    ([CONV, "convolutional filters=3 size=1 share_index=0"], "layer 0 has 3 filters of 3x3x3"),
    ([CONV, f"{CONV} share_index=0 batch_normalize=1"], "the same normalization"),
])
def test_layers_that_cannot_share(tmp_path, layers, message):
    with pytest.raises(CfgError, match=message):
        load(tmp_path, layers)


# ---- xnor
def signs(x):
    return np.where(x > 0, 1.0, -1.0)


@pytest.mark.parametrize("options", ["", " batch_normalize=1", " stride=2 dilation=2", " stride=2 antialiasing=1",
                                     " batch_normalize=1 antialiasing=2"])
def test_xnor_is_a_convolution_of_signs(options):
    """Forward, and the straight-through gradients: those of the convolution of signs; to inputs in (-1, 1) only."""
    rng = np.random.default_rng(2)
    net = build([f"{CONV}{options} xnor=1"], SHAPE, core=twin())
    plain = build([f"{CONV}{options}"], SHAPE, core=twin())
    randomize(net, rng)
    layer, other = net.layers[0], plain.layers[0]
    for name, array in layer.arrays("parameter", "statistic").items():
        getattr(other, name)[:] = array
    other.weights[:] = signs(layer.weights) * np.abs(layer.weights).mean(axis=(1, 2, 3), keepdims=True)
    x, delta = 1.5 * rng.standard_normal((2, *SHAPE)), rng.standard_normal(layer.output.shape)
    x[0, 0, 0, :2] = 0
    before = rng.standard_normal(x.shape)
    net.delta = before.copy()
    for each, values in ((net, x), (plain, signs(x))):
        each.forward(values, train=True)
        each.layers[-1].delta[:] = delta
        each.backward()
    np.testing.assert_allclose(layer.output, other.output, rtol=1e-12)
    for name, update in other.arrays("update").items():
        np.testing.assert_allclose(getattr(layer, name), update, rtol=1e-10, atol=1e-12, err_msg=name)
    np.testing.assert_allclose(net.delta - before, plain.delta * (np.abs(x) < 1), rtol=1e-10, atol=1e-12)
    assert (np.abs(x) >= 1).any() and layer.weight_updates.any()


@pytest.mark.parametrize("dialect, outside", [("pjreddie", 0), ("alexeyab", -1)])
def test_what_xnor_sees_outside_the_image(tmp_path, dialect, outside):
    net = load(tmp_path, ["convolutional filters=2 size=3 pad=1 activation=linear xnor=1"], dialect=dialect, batch=2)
    x = np.random.default_rng(3).standard_normal((2, *SHAPE)).astype(np.float32)
    padded = np.pad(signs(x), ((0, 0), (0, 0), (1, 1), (1, 1)), constant_values=outside)
    w = net.layers[0].weights.astype(float)
    w = signs(w) * np.abs(w).mean(axis=(1, 2, 3), keepdims=True)
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(2, 3))
    np.testing.assert_allclose(net.predict(x), np.einsum("bcyxij,fcij->bfyx", windows, w), rtol=1e-5, atol=1e-5)


@pytest.mark.skipif(MISSING, reason="needs /usr/lib/darknet/libdarknet.so (Debian package darknet)")
def test_xnor_as_debians_darknet(tmp_path):
    layers = ["convolutional filters=8 size=3 pad=1 activation=leaky", f"{CONV} batch_normalize=1 xnor=1",
              "convolutional filters=4 size=1 activation=linear"]
    net = load(tmp_path, layers, shape=(3, 9, 9), batch=1, batchnorm="darknet", dialect="pjreddie")
    rng = np.random.default_rng(4)
    randomize(net, rng)
    net.save_weights(tmp_path / "w")
    x = rng.standard_normal((1, net.inputs)).astype(np.float32)
    net.forward(x, train=False)
    peer = DarknetPeer()
    try:
        theirs = peer.outputs(str(tmp_path / "net.cfg"), str(tmp_path / "w"), x)
    finally:
        peer.close()
    for layer, other in zip(net.layers, theirs):
        np.testing.assert_allclose(layer.output.ravel(), other.ravel(), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("line", [
    "crnn output=2 hidden=3 pad=1 activation=tanh xnor=1", "conv_lstm output=2 pad=1 peephole=1 batch_normalize=1 xnor=1"])
def test_xnor_of_recurrent_layers(line):
    """The first step, from a state of zeros, by the signs of the weights; the gradients of every part arrive."""
    rng = np.random.default_rng(7)
    net, plain = (build([each], SHAPE, batch=4, net="time_steps=2", core=twin()) for each in (line, line.replace(" xnor=1", "")))
    randomize(net, rng)
    for part_name, part in net.layers[0].parts.items():
        for name, array in part.arrays("parameter", "statistic").items():
            getattr(plain.layers[0].parts[part_name], name)[:] = array
    x = rng.standard_normal((4, *SHAPE))
    outputs = [np.array(each.predict(values)) for each, values in ((net, x), (plain, signs(x)))]
    assert np.abs(outputs[0] - outputs[1]).max() > 1e-3
    for part in net.layers[0].parts.values():
        mean = np.abs(part.weights).mean(axis=(1, 2, 3), keepdims=True)
        np.testing.assert_allclose(part.binary_weights[:len(part.weights)], signs(part.weights) * mean, rtol=1e-12)
    net.reset_state()
    net.forward(x, train=True)
    net.layers[0].delta[:] = rng.standard_normal(net.layers[0].delta.shape)
    net.backward()
    assert all(update.any() for update in net.layers[0].arrays("update").values())


@pytest.mark.parametrize("dialect, share", [("alexeyab", 32), ("pjreddie", 1)])
def test_products_of_signs_in_the_summary(tmp_path, dialect, share):
    lines = [CONV + "{}", "crnn output=2 hidden=3 pad=1 activation=tanh{}"]
    counts = [[row["bflops"] for row in summary_rows(load(tmp_path, [line.format(xnor) for line in lines], dialect=dialect))]
              for xnor in ("", " xnor=1")]
    assert counts[1] == pytest.approx([count / share for count in counts[0]])
    assert counts[0][0] == 2 * 3 * 3 * 9 * 20 / 1e9


# ---- what happens at an update
def step(tmp_path, line, net=""):
    """The change of the weights in one update, and the gradient before it."""
    network = load(tmp_path, [line], f"learning_rate=1\nmomentum=0\ndecay=0\n{net}", train=True)
    network.layers[0].weight_updates[:] = np.random.default_rng(5).standard_normal(network.layers[0].weights.shape)
    gradient, before = network.layers[0].weight_updates.copy(), network.layers[0].weights.copy()
    network.update()
    return network.layers[0].weights - before, gradient / 2, network.layers[0].weights


def test_gradient_centralization(tmp_path):
    change, gradient, _ = step(tmp_path, CONV + " batch_normalize=1 grad_centr=1")
    np.testing.assert_allclose(change, gradient - gradient.mean(axis=(1, 2, 3), keepdims=True), rtol=1e-4, atol=1e-6)
    change, gradient, _ = step(tmp_path, CONV + " batch_normalize=1")
    np.testing.assert_allclose(change, gradient, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("options, net", [(" clip=.25", ""), ("", "clip=.25"), (" clip=.25", "clip=7")])
def test_clipped_weights(tmp_path, options, net):
    change, gradient, weights = step(tmp_path, CONV + options, net)
    np.testing.assert_allclose(weights, np.clip(weights - change + gradient, -.25, .25), rtol=1e-4, atol=1e-6)
    assert np.abs(weights).max() == core.dtype.type(.25)


@pytest.mark.parametrize("options, net_options", [(" clip=.2", ""), ("", " clip=.2")])
def test_clipped_parts(tmp_path, options, net_options):
    line = "conv_lstm output=2 pad=1 peephole=1"
    net = load(tmp_path, [f"{line}{options}"], f"learning_rate=1\n{net_options}", train=True)
    for update in net.layers[0].arrays("update").values():
        update[:] = 9
    net.update()
    weights = {name: array for name, array in net.layers[0].arrays("parameter").items() if name.endswith("weights")}
    assert len(weights) == 11
    for name, array in weights.items():
        assert (array == core.dtype.type(.2)).all(), name
    assert (net.layers[0].wf.biases > .2).all(), "clip is about weights"
