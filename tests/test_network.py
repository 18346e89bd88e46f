"""Networks: passes, the optimizer, learning-rate policies, freezing, truth, resizing, prediction, and the lifetime of arrays."""

from __future__ import annotations

import gc

import numpy as np
import pytest
from gradcheck import build, randomize
from twin import twin

import darknetpy as dn
from darknetpy.core import core

EVERYTHING = [
    "convolutional filters=6 size=3 pad=1 activation=leaky batch_normalize=1",
    "maxpool size=2 stride=2",
    "convolutional filters=6 size=3 pad=1 groups=2 activation=mish batch_normalize=1",
    "shortcut from=-2 activation=leaky",
    "convolutional filters=8 size=3 stride=2 pad=1 activation=swish",
    "upsample stride=2",
    "route layers=-1,3",
    "batchnorm",
    "activation activation=normalize_channels_softmax",
    "local_avgpool size=2 stride=2",
    "dropout probability=.3",
    "convolutional filters=5 size=1 activation=linear",
    "avgpool",
    "connected output=9 activation=tanh batch_normalize=1",
    "connected output=5 activation=linear",
    "softmax",
]
SHAPE, BATCH = (3, 12, 12), 4


def network(layers, shape, batch=2, net="", train=True, **how):
    return build(layers, shape, batch, net, train, core, **how)


def _batch(rng, net, classes=5):
    x = rng.standard_normal((net.batch, net.inputs)).astype(np.float32)
    return x, rng.integers(0, classes, net.batch)


def _state(net):
    return [array.tobytes() for layer in net.layers for array in layer.arrays().values()]


# ---- passes
def test_threads_change_no_bit_of_a_training_step(threads):
    states = []
    for n in (1, 2, 3):
        threads(n)
        rng, net = np.random.default_rng(0), network(EVERYTHING, SHAPE, BATCH, "learning_rate=.1")
        randomize(net, rng)
        x, y = _batch(rng, net)
        losses = [net.train_batch(x, y) for _ in range(3)]
        states.append((losses, _state(net)))
    assert states[0] == states[1] == states[2]


def test_fused_and_composed_train_alike():
    losses = []
    for fused in (1, 0):
        rng, net = (
            np.random.default_rng(0),
            network(EVERYTHING, SHAPE, BATCH, f"learning_rate=.05 fused={fused}"),
        )
        randomize(net, rng)
        x, y = _batch(rng, net)
        losses.append([net.train_batch(x, y) for _ in range(5)])
    np.testing.assert_allclose(*losses, rtol=1e-4)


def test_float32_gradients_are_those_of_the_twin():
    """The same step in float and in double: every update and the input's delta within 1e-4 of its norm.

    1e-5 besides, for each value: the gradient of a bias before a normalization is a sum that cancels to 0.
    """
    results = []
    for engine in (core, twin()):
        rng, net = np.random.default_rng(0), build(EVERYTHING, SHAPE, BATCH, core=engine)
        randomize(net, rng)
        x, t = rng.standard_normal((BATCH, net.inputs)), np.eye(5)[rng.integers(0, 5, BATCH)]
        net.forward(x.astype(engine.dtype), t.astype(engine.dtype), train=True)
        net.backward()
        results.append(
            [net.delta, *(array for layer in net.layers for array in layer.arrays("update").values())]
        )
    for ours, wanted in zip(*results):
        assert np.linalg.norm(ours.ravel() - wanted.ravel()) <= 1e-4 * np.linalg.norm(
            wanted
        ) + 1e-5 * np.sqrt(wanted.size)


def test_backward_without_loss_takes_the_users_delta(rng):
    net = network(["connected output=3 activation=linear"], (4,))
    net.forward(rng.standard_normal((2, 4)).astype(np.float32), train=True)
    net.layers[0].delta[:] = d = rng.standard_normal((2, 3, 1, 1)).astype(np.float32)
    net.backward()
    np.testing.assert_allclose(
        net.delta.reshape(2, 4), d.reshape(2, 3) @ net.layers[0].weights, rtol=1e-5, atol=1e-6
    )


def test_delta_that_the_user_assigned_is_added_to(rng):
    l, net = dn.make_activation_layer(2, 3, "linear"), dn.Network(train=True)
    net.input = rng.standard_normal((2, 3)).astype(np.float32)
    assert net.delta is None
    dn.forward_activation_layer(l, net)
    l.delta[:] = 1
    dn.backward_activation_layer(l, net)
    dn.backward_activation_layer(l, net)
    assert (net.delta == 1).all()  # the network's own buffer: written
    mine = np.full((2, 3), 5, np.float32)
    net.delta = mine
    dn.backward_activation_layer(l, net)
    dn.backward_activation_layer(l, net)
    assert (mine == 7).all() and net.delta is mine  # the user's: added to
    net.delta = None
    dn.backward_activation_layer(l, net)
    assert (net.delta == 1).all()


# ---- freezing
FROZEN = [
    "connected output=4 activation=tanh",
    "connected output=4 activation=tanh{}",
    "connected output=3 activation=tanh{}",
    "softmax",
]


def test_stopbackward_ends_the_backward_pass(rng):
    net = network(
        [line.format(" stopbackward=1" if i == 1 else "") for i, line in enumerate(FROZEN)],
        (5,),
        net="decay=0 learning_rate=.1",
    )
    before = [layer.weights.copy() for layer in net.layers[:3]]
    net.train_batch(*_batch(rng, net, 3))
    assert [not (layer.weights == w).all() for layer, w in zip(net.layers, before)] == [False, False, True]
    assert not net.layers[0].delta.any()


def test_onlyforward_is_left_out_of_the_backward_pass(rng):
    net = network(
        [line.format(" onlyforward=1" if i == 2 else "") for i, line in enumerate(FROZEN)],
        (5,),
        net="decay=0 learning_rate=.1",
    )
    before = [layer.weights.copy() for layer in net.layers[:3]]
    net.train_batch(*_batch(rng, net, 3))
    assert all((layer.weights == w).all() for layer, w in zip(net.layers, before))


# ---- the optimizer, against numpy
def _one_weight(options, gradients):
    """Train [connected] 1 -> 1 by hand-made gradients; return the weight and the bias after each step."""
    net = network(
        ["connected output=1 activation=linear", "cost"],
        (1,),
        2,
        f"policy=constant {options}",
    )
    l, seen = net.layers[0], []
    l.weights[:], l.biases[:] = 0.8, 0.3
    for g in gradients:
        l.weight_updates[:] += g
        l.bias_updates[:] += 2 * g
        net.update()
        seen.append((float(l.weights[0, 0]), float(l.biases[0])))
    return seen


GRADIENTS = (3.0, -1.0, 2.0, 0.5)


def test_sgd():
    w, b, u, v, wanted = 0.8, 0.3, 0.0, 0.0, []
    for g in GRADIENTS:
        u, v = u + g - 0.05 * 2 * w, v + 2 * g
        w, b = w + 0.1 / 2 * u, b + 0.1 / 2 * v
        u, v = 0.9 * u, 0.9 * v
        wanted.append((w, b))
    np.testing.assert_allclose(
        _one_weight("learning_rate=.1 momentum=.9 decay=.05", GRADIENTS), wanted, rtol=1e-5
    )


def test_adam():
    values, moments, wanted = np.array([0.8, 0.3]), np.zeros((2, 2)), []
    for t, g in enumerate(GRADIENTS, 1):
        gradient = np.array([g, 2 * g]) / 2 - np.array([0.05, 0]) * values
        moments[0] = 0.9 * moments[0] + 0.1 * gradient
        moments[1] = 0.999 * moments[1] + 0.001 * gradient**2
        values = values + 0.1 * (moments[0] / (1 - 0.9**t)) / (np.sqrt(moments[1] / (1 - 0.999**t)) + 1e-7)
        wanted.append(tuple(values))
    np.testing.assert_allclose(
        _one_weight("learning_rate=.1 decay=.05 adam=1 B1=.9 B2=.999 eps=1e-7", GRADIENTS),
        wanted,
        rtol=1e-4,
    )


def test_l1_decay_moves_weights_to_zero_and_stops_there():
    path = _one_weight("learning_rate=.1 momentum=0 decay=0 decay_l1=3", (0, 0, 0, 0))
    np.testing.assert_allclose([w for w, _ in path], [0.5, 0.2, 0, 0], atol=1e-6)
    assert all(b == pytest.approx(0.3) for _, b in path)


def test_gradient_clip():
    path = _one_weight("learning_rate=.1 momentum=0 decay=0 max_gradient=.5", (3.0,))
    norm = np.hypot(3, 6) / 2
    np.testing.assert_allclose(path[0], [0.8 + 0.1 * 1.5 * 0.5 / norm, 0.3 + 0.1 * 3 * 0.5 / norm], rtol=1e-5)


def test_layers_own_learning_rate(rng):
    net = network(
        ["connected output=1 activation=linear learning_rate=.5", "cost"],
        (1,),
        2,
        "learning_rate=.1 momentum=0 decay=0 policy=constant",
    )
    net.layers[0].weights[:] = 0.8
    net.layers[0].weight_updates[:] = 3
    net.update()
    assert net.layers[0].weights[0, 0] == pytest.approx(0.8 + 0.5 * 0.1 * 3 / 2)


def test_subdivisions_gather_gradients(rng):
    """Two halves with subdivisions=2 are one whole mini-batch, without normalization over the batch."""
    layers, net = (
        ["connected output=6 activation=tanh", "connected output=3 activation=linear", "softmax"],
        "learning_rate=.1 policy=constant",
    )
    whole = network(layers, (4,), 4, net)
    from gradcheck import cfg_text

    from darknetpy.builder import build_network
    from darknetpy.cfg import parse_cfg_text
    from darknetpy.sections import resolve

    text = cfg_text(layers, (4,), 4, net).replace("subdivisions=1", "subdivisions=2")
    halves = build_network(resolve(parse_cfg_text(text)), train=True)
    assert halves.batch == 2 and halves.subdivisions == 2
    x, y = rng.standard_normal((4, 4)).astype(np.float32), np.array([0, 2, 1, 1])
    for _ in range(3):
        a = whole.train_batch(x, y)
        b = [halves.train_batch(x[i : i + 2], y[i : i + 2]) for i in (0, 2)]
        assert a == pytest.approx(np.mean(b), rel=1e-5)
    for one, two in zip(whole.layers[:2], halves.layers[:2]):
        np.testing.assert_allclose(one.weights, two.weights, rtol=1e-5, atol=1e-6)
    assert whole.seen == halves.seen == 12 and whole.iteration == halves.iteration == 3


# ---- learning-rate policies, from their formulas
@pytest.mark.parametrize(
    "options, formula",
    [
        ("policy=constant", lambda n: 0.1),
        ("policy=step step=3 scale=.5", lambda n: 0.1 * 0.5 ** (n // 3)),
        ("policy=exp gamma=.9", lambda n: 0.1 * 0.9**n),
        ("policy=poly power=2 max_batches=20", lambda n: 0.1 * (1 - n / 20) ** 2),
        ("policy=sigmoid gamma=.3 step=6", lambda n: 0.1 / (1 + np.exp(0.3 * (n - 6)))),
        (
            "policy=steps steps=4,9 scales=.1,.5",
            lambda n: 0.1 * (0.1 if n >= 4 else 1) * (0.5 if n >= 9 else 1),
        ),
        ("policy=constant burn_in=5 power=4", lambda n: 0.1 * min(n / 5, 1) ** 4),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_policy(options, formula):
    net = network(
        ["connected output=2 activation=linear", "softmax"],
        (3,),
        2,
        f"learning_rate=.1 max_batches=20 {options}"
        if "max_batches" not in options
        else f"learning_rate=.1 {options}",
    )
    for n in range(20):
        net.seen = 2 * n
        assert net.learning_rate == pytest.approx(formula(n), rel=1e-6), n


# ---- truth
def test_labels_are_one_hot_rows(rng):
    one, two = (network(["connected output=4 activation=linear", "softmax"], (3,)) for _ in range(2))
    x = rng.standard_normal((2, 3)).astype(np.float32)
    assert one.train_batch(x, np.array([3, 1])) == two.train_batch(x, np.eye(4, dtype=np.float32)[[3, 1]])
    for wrong in (np.array([4, 0]), np.array([-1, 0]), np.array([1])):
        with pytest.raises(dn.ArgumentError, match="labels"):
            one.train_batch(x, wrong)


def test_without_truth_nothing_is_lost(rng):
    net = network(["connected output=3 activation=linear", "softmax", "cost"], (4,))
    assert net.forward(rng.standard_normal((2, 4)).astype(np.float32)) is None
    assert not net.layers[2].output.any()


# ---- prediction
def test_predict_pads_and_runs_in_turns(rng):
    net = network(["connected output=3 activation=tanh", "softmax", "cost"], (4,), 3, train=False)
    x = rng.standard_normal((7, 4)).astype(np.float32)
    whole = net.predict(x)
    assert whole.shape == (7, 3)
    for i in range(7):
        np.testing.assert_allclose(net.predict(x[i : i + 1]), whole[i : i + 1], rtol=1e-6)
    assert whole.flags.owndata or whole.base is None or not np.shares_memory(whole, net.layers[1].output)


def test_predict_leaves_training_alone(rng):
    net = network(EVERYTHING, SHAPE, BATCH)
    x, y = _batch(rng, net)
    net.train_batch(x, y)
    before = [
        array.tobytes()
        for layer in net.layers
        for array in layer.arrays("parameter", "statistic", "update").values()
    ]
    net.predict(x)
    assert net.train and net.seen == BATCH
    assert before == [
        array.tobytes()
        for layer in net.layers
        for array in layer.arrays("parameter", "statistic", "update").values()
    ]


def test_lean_and_training_networks_predict_alike(rng):
    """A network made for inference folds the normalization into the convolution's last step."""
    train, lean = network(EVERYTHING, SHAPE, BATCH), network(EVERYTHING, SHAPE, BATCH, train=False)
    randomize(train, rng)
    for one, two in zip(train.layers, lean.layers):
        for name, array in two.arrays("parameter", "statistic").items():
            array[:] = getattr(one, name)
    x, _ = _batch(rng, train)
    np.testing.assert_allclose(train.predict(x), lean.predict(x), rtol=1e-5, atol=1e-6)


# ---- resizing
def test_resize_keeps_parameters(rng):
    layers = [
        "convolutional filters=4 size=3 pad=1 activation=leaky batch_normalize=1",
        "maxpool size=2 stride=2",
        "avgpool",
        "softmax",
    ]
    net, fresh = network(layers, (2, 8, 8)), network(layers, (2, 5, 11))
    randomize(net, rng)
    for one, two in zip(net.layers, fresh.layers):
        for name, array in two.arrays("parameter", "statistic").items():
            array[:] = getattr(one, name)
            del array
    net.resize(11, 5)
    assert (net.w, net.h) == (11, 5)
    x = rng.standard_normal((2, 2, 5, 11)).astype(np.float32)
    assert (net.predict(x) == fresh.predict(x)).all()


def test_resize_refuses_what_parameters_forbid(rng):
    net = network(
        ["convolutional filters=2 size=3 pad=1 activation=leaky", "connected output=3 activation=linear"],
        (1, 6, 6),
    )
    x = rng.standard_normal((2, 1, 6, 6)).astype(np.float32)
    before = net.predict(x)
    with pytest.raises(dn.ArgumentError, match="weights"):
        net.resize(8, 8)
    assert (net.w, net.h) == (6, 6) and (net.predict(x) == before).all()


def test_resize_refuses_while_arrays_are_held():
    net = network(["convolutional filters=2 size=3 pad=1 activation=leaky"], (1, 6, 6))
    held = net.layers[0].output
    with pytest.raises(dn.ArgumentError, match="in use: output"):
        net.resize(8, 8)
    del held
    net.resize(8, 8)
    assert net.layers[0].output.shape == (2, 2, 8, 8)


# ---- odd orders of calls
def test_backward_needs_a_forward_pass(rng):
    net = network(["convolutional filters=2 size=3 pad=1", "activation activation=mish"], (1, 6, 6))
    with pytest.raises(dn.ArgumentError, match="has not run forward"):
        net.backward()
    net.forward(rng.standard_normal((2, 36)).astype(np.float32))
    net.resize(8, 8)
    with pytest.raises(dn.ArgumentError, match="has not run forward"):
        net.backward()


def test_backward_uses_the_input_and_truth_of_the_forward_pass(rng):
    x, t, deltas = rng.standard_normal((2, 5)).astype(np.float32), np.eye(4, dtype=np.float32)[:2], []
    for replace in (False, True):
        net = network(["connected output=4 activation=tanh", "softmax", "connected output=3"], (5,))
        net.forward(x.copy(), t.copy(), train=True)
        net.layers[2].delta[:] = 1
        if replace:
            net.input, net.truth = np.zeros_like(x), None
            gc.collect()
        net.backward()
        deltas.append([net.delta, net.layers[0].weight_updates.copy()])
    for one, two in zip(*deltas):
        assert (one == two).all() and one.any()


def test_input_outlives_its_network(rng):
    net = network(["convolutional filters=4 size=3 pad=1", "batchnorm"], (3, 40, 40))
    net.forward(rng.standard_normal((2, 4800)).astype(np.float32), train=True)
    x = net.layers[1].x
    before = x.copy()
    del net
    gc.collect()
    junk = [np.full(x.shape, 9, np.float32) for _ in range(20)]
    assert (x == before).all() and junk


def test_layer_by_hand_after_its_network(rng):
    """What the network noted about its backward pass concerns nobody else."""
    net = network(["connected output=3", "softmax", "connected output=3", "cost"], (4,))
    net.forward(rng.standard_normal((2, 4)).astype(np.float32), np.eye(3, dtype=np.float32)[:2], train=True)
    net.backward()
    alone, softmax = dn.Network(train=True), net.layers[1]
    alone.input, alone.truth = rng.standard_normal((2, 3)).astype(np.float32), np.eye(3, dtype=np.float32)[1:]
    dn.forward_layer(softmax, alone)
    dn.backward_layer(softmax, alone)
    np.testing.assert_allclose(alone.delta.ravel(), (alone.truth - softmax.output).ravel(), rtol=1e-6)


def test_resize_reaches_layers_without_an_image(rng):
    """Behind a loss there are plain values, whose number follows the image."""
    net = network(["convolutional filters=4 size=3 pad=1", "softmax", "dropout", "cost"], (3, 8, 8))
    for side in (16, 4):
        net.resize(side, side)
        assert [layer.inputs for layer in net.layers[1:]] == [4 * side**2] * 3
        x, t = (rng.standard_normal((2, c * side**2)).astype(np.float32) for c in (3, 4))
        assert np.isfinite(net.forward(x, t, train=True))


@pytest.mark.parametrize("source", ["connected output=2 truth=1", "softmax"])
def test_truths_of_different_sizes(rng, source):
    net = network(["connected output=2", source, "connected output=50", "cost"], (4,))
    x = rng.standard_normal((2, 4)).astype(np.float32)
    with pytest.raises(dn.ArgumentError, match="layer 3 .cost. wants a truth of 50 values per row and gets 2"):
        net.forward(x, np.zeros((2, 50), np.float32))


def test_added_layer_gets_the_networks_optimizer(rng):
    net = network(["connected output=4"], (4,), net="adam=1 learning_rate=.1")
    l = net.add(dn.make_connected_layer(2, 4, 3))
    net.add(dn.make_cost_layer(2, 3))
    before = l.weights.copy()
    net.train_batch(*(rng.standard_normal((2, n)).astype(np.float32) for n in (4, 3)))
    assert l.weights_m.any() and l.weights_v.any() and (l.weights != before).any()


def test_network_of_named_kernels(rng):
    l, net = dn.make_batchnorm_layer(2, 4, 4, 3), dn.Network(2, 4, 4, 3, train=True, fused=False)
    alone = dn.Network(train=True, fused=False)
    alone.input = rng.standard_normal((2, 3, 4, 4)).astype(np.float32)
    assert l.fused
    dn.forward_batchnorm_layer(l, alone)
    assert not l.fused and l.arrays()["x_norm"].any()
    assert not net.add(dn.make_batchnorm_layer(2, 4, 4, 3)).fused


# ---- arrays
def test_arrays_keep_their_layer_alive():
    l = dn.make_batchnorm_layer(2, 3, 4, 5)
    scales = l.scales
    scales[:] = 7
    del l
    gc.collect()
    again = [dn.make_batchnorm_layer(2, 3, 4, 5) for _ in range(20)]
    assert (scales == 7).all() and len(again) == 20


def test_arrays_are_views():
    l = dn.make_connected_layer(2, 3, 4)
    l.weights[1, 2] = 42
    assert l.weights[1, 2] == 42 and np.shares_memory(l.weights, l.weights)


def test_networks_hold_what_they_reference(rng):
    net = network(["connected output=2 activation=linear"], (3,))
    net.input = rng.standard_normal((2, 3)).astype(np.float32)
    gc.collect()
    assert np.isfinite(net.input).all() and net.forward() is None


# ---- without a cfg
def test_network_layer_by_layer(rng):
    net = dn.Network(2, 8, 8, 3, train=True)
    net.add(
        dn.make_convolutional_layer(2, 8, 8, 3, 4, size=3, padding=1, activation="leaky", batch_normalize=1)
    )
    net.add(dn.make_maxpool_layer(2, 8, 8, 4, 2, 2))
    net.add(dn.make_connected_layer(2, 64, 5, "linear"))
    net.add(dn.make_softmax_layer(2, 5))
    x, y = _batch(rng, net)
    losses = [net.train_batch(x, y) for _ in range(30)]
    assert losses[-1] < losses[0]
    assert net["maxpool_1"] is net.layers[1] and len(net) == 4


def test_not_finite_is_told_before_anything_is_updated(rng):
    net = network(
        ["connected output=3 activation=linear", "connected output=3 activation=linear", "softmax"], (4,)
    )
    x, _ = _batch(rng, net)
    net.layers[1].weights[0, 0] = np.nan
    before = net.layers[0].weights.copy()
    with pytest.raises(dn.DarknetError, match="layer 1"):
        net.train_batch(x, np.array([0, 1]))
    assert (net.layers[0].weights == before).all()


def test_a_search_for_what_is_not_finite_that_fails_itself_leaves_nothing(rng, monkeypatch):
    """The second pass is the search; what it watches and the statistics are as they were."""
    net = network(["batchnorm", "connected output=3 activation=linear", "softmax"], (4,))
    x, _ = _batch(rng, net)
    net.layers[1].weights[0, 0] = np.nan
    forward, means = net.forward, []

    def fails(**arguments):
        means.append(net.layers[0].rolling_mean.copy())
        loss = forward(**arguments)
        if len(means) == 2:
            raise dn.DeviceError("broken")
        return loss

    monkeypatch.setattr(net, "forward", fails)
    with pytest.raises(dn.DeviceError, match="broken"):
        net.train_batch(x, np.array([0, 1]))
    assert len(means) == 2 and net.option("watch") == 0 and net.layers[0].rolling_mean.tobytes() == means[1].tobytes()
