"""[rnn], [gru], [lstm], [crnn], [conv_lstm], [history]: gradients through time, and the state.

Loss of the gradient checks: random weights times the output of every time step.
"""

from __future__ import annotations

import numpy as np
import pytest
from gradcheck import SCALES, Case, cfg_text, check

import darknetpy as dn
from darknetpy.builder import build_network
from darknetpy.cfg import parse_cfg_text
from darknetpy.sections import resolve
from darknetpy.summary import summary_rows

STEPS = "time_steps=3"
# Two sequences of three steps; five of two where a mini-batch's statistics normalize: two values would
# become a sign.
PLAIN = {
    "rnn": ("rnn output=3 hidden=2 activation=tanh", (4,)),
    "rnn logistic": ("rnn output=2 hidden=3 activation=tanh logistic=1", (3,)),
    "rnn loggy": ("rnn output=2 hidden=3 activation=logistic logistic=2", (3,)),
    "rnn shortcut": ("rnn output=2 hidden=3 activation=tanh shortcut=1", (3,)),
    "rnn of an image": ("rnn output=2 hidden=2 activation=swish", (2, 2, 1)),
    "gru": ("gru output=3", (4,)),
    "gru tanh": ("gru output=3 tanh=1", (4,)),
    "lstm": ("lstm output=3", (4,)),
    "crnn": ("crnn output=2 hidden=2 pad=1 activation=tanh", (2, 3, 2)),
    "crnn shortcut": ("crnn output=1 hidden=2 pad=1 activation=logistic shortcut=1", (1, 2, 3)),
    "crnn stride": ("crnn output=1 hidden=2 pad=1 stride=2 activation=tanh", (1, 4, 3)),
    "crnn groups": ("crnn output=2 hidden=4 size=1 groups=2 activation=tanh", (2, 2, 2)),
    "crnn dilation": ("crnn output=1 hidden=2 padding=1 dilation=2 activation=tanh", (1, 3, 3)),
    "conv_lstm": ("conv_lstm output=2 pad=1", (1, 2, 3)),
    "conv_lstm dilation": ("conv_lstm output=1 padding=1 dilation=2 peephole=1", (1, 3, 2)),
    "conv_lstm groups": ("conv_lstm output=2 size=1 groups=2 activation=tanh", (2, 2, 2)),
    "conv_lstm peephole": ("conv_lstm output=2 pad=1 peephole=1 activation=tanh", (1, 2, 2)),
    "conv_lstm stride": ("conv_lstm output=1 pad=1 stride=2 peephole=1", (2, 4, 3)),
    "conv_lstm bottleneck": ("conv_lstm output=2 pad=1 bottleneck=1 activation=tanh", (2, 2, 2)),
    "conv_lstm bottleneck shortcut": (
        "conv_lstm output=2 pad=1 bottleneck=1 shortcut=1 peephole=1 lstm_activation=logistic",
        (2, 2, 2),
    ),
    "conv_lstm state_constrain": ("conv_lstm output=2 pad=1 state_constrain=1 peephole=1", (1, 2, 2)),
    "history": ("history history_size=2", (2, 2, 3)),
    "history longer than the sequence": ("history history_size=5", (1, 2, 2)),
    "history of one frame": ("history history_size=1", (2, 1, 2)),
}
NORMALIZED = {
    "rnn": ("rnn output=2 hidden=3 activation=tanh shortcut=1", (3,)),
    "gru": ("gru output=2 tanh=1", (3,)),
    "lstm": ("lstm output=2", (3,)),
    "crnn": ("crnn output=2 hidden=2 pad=1 activation=tanh", (1, 2, 2)),
    "conv_lstm": ("conv_lstm output=1 pad=1 peephole=1 activation=tanh", (1, 2, 2)),
    "conv_lstm bottleneck": ("conv_lstm output=2 pad=1 bottleneck=1", (2, 2, 2)),
}


def _cases():
    for name, (line, shape) in PLAIN.items():
        yield Case(name, [line], shape, batch=6, net=STEPS)
    for name, (line, shape) in NORMALIZED.items():
        yield Case(f"{name} normalized", [f"{line} batch_normalize=1"], shape, batch=10, net="time_steps=2")
    yield Case(
        "lstm by the moving statistics", ["lstm output=2 batch_normalize=1"], (3,), 6, STEPS, train=False
    )
    yield Case(
        "rnn normalize=layer", ["rnn output=4 hidden=5 activation=tanh normalize=layer"], (3,), 6, STEPS
    )
    yield Case(
        "rnn normalize_after_activation",
        ["rnn output=2 hidden=3 activation=tanh batch_normalize=1 normalize_after_activation=1"],
        (3,),
        10,
        "time_steps=2",
    )
    yield Case(
        "lstm normalized, composed", ["lstm output=2 batch_normalize=1"], (3,), 10, "time_steps=2 fused=0"
    )
    yield Case(
        "recurrent layers keep the delta of others",
        [
            "convolutional filters=2 size=3 pad=1 activation=tanh",
            "crnn output=2 hidden=2 pad=1 activation=tanh",
            "route layers=0",
            "conv_lstm output=2 pad=1",
            "route layers=0",
            "conv_lstm output=2 pad=1 bottleneck=1",
            "route layers=0",
            "history history_size=2",
            "route layers=0,1,3,5,7",
        ],
        (1, 2, 2),
        4,
        "time_steps=2",
    )
    yield Case(
        "rnn, gru and lstm in a row, with a loss",
        ["rnn output=3 hidden=2 activation=tanh", "gru output=2", "lstm output=2", "cost type=sse"],
        (2,),
        6,
        STEPS,
    )


GRADIENT_CASES = list(_cases())


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("case", GRADIENT_CASES, ids=str)
def test_gradient(case, scale):
    check(case, scale)


# ---- the state
LINES = {
    "rnn": "rnn output=3 hidden=2 activation=tanh shortcut=1",
    "gru": "gru output=3",
    "lstm": "lstm output=3 batch_normalize=1",
    "crnn": "crnn output=2 hidden=2 pad=1 activation=leaky",
    "conv_lstm": "conv_lstm output=2 pad=1 peephole=1 state_constrain=1",
    "bottleneck": "conv_lstm output=2 pad=1 bottleneck=1 shortcut=1",
    "history": "history history_size=5",
}
SHAPE, SEQUENCES = (2, 3, 4), 2


def network(line, steps, train=False, more="", net_options=""):
    """A network of one line (and more), with the same parameters whatever its time steps."""
    cfg = cfg_text(
        [line, *more.split("|")] if more else [line], SHAPE, SEQUENCES, f"time_steps={steps} {net_options}"
    )
    net = build_network(resolve(parse_cfg_text(cfg)), batch=steps * SEQUENCES, train=train)
    rng = np.random.default_rng(3)
    for layer in net.layers:
        for name, array in layer.arrays("parameter", "statistic").items():
            positive = name.endswith(("scales", "rolling_variance"))
            array[:] = (
                rng.uniform(0.5, 1.5, array.shape) if positive else 0.4 * rng.standard_normal(array.shape)
            )
    return net


def sequence(steps, seed=4):
    rng = np.random.default_rng(seed)
    return rng.standard_normal((steps * SEQUENCES, int(np.prod(SHAPE)))).astype(np.float32)


def states(net):
    return {name: array.copy() for name, array in net.layers[0].arrays("state").items()}


@pytest.mark.parametrize("line", LINES.values(), ids=LINES)
def test_state_goes_on(line):
    """Six steps at once, three and three, and one by one are the same."""
    x = sequence(6)
    whole = network(line, 6)
    wanted = whole.predict(x)
    for steps in (3, 1):
        net = network(line, steps)
        np.testing.assert_allclose(net.predict(x), wanted, rtol=1e-5, atol=1e-6)
        for name, state in states(net).items():
            np.testing.assert_allclose(state, states(whole)[name], rtol=1e-5, atol=1e-6)
    again = net.predict(x)
    assert np.abs(again - wanted).max() > 1e-3, "the second time it began elsewhere"
    net.reset_state()
    assert net.predict(x).tobytes() != again.tobytes()
    net.reset_state()
    np.testing.assert_allclose(net.predict(x), wanted, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("line", LINES.values(), ids=LINES)
def test_sequences_do_not_meet(line):
    """Input and state of one sequence change nothing of the other; a reset of one leaves the other alone."""
    x, other = sequence(4), sequence(4)
    other.reshape(4, SEQUENCES, -1)[:, 1] += 1
    nets = [network(line, 2) for _ in range(2)]
    first, second = (net.predict(rows).reshape(4, SEQUENCES, -1) for net, rows in zip(nets, (x, other)))
    assert first[:, 0].tobytes() == second[:, 0].tobytes() and np.abs(first[:, 1] - second[:, 1]).max() > 1e-3
    before = states(nets[0])
    nets[0].reset_state(1)
    for name, state in states(nets[0]).items():
        assert (
            state[0].tobytes() == before[name][0].tobytes() and before[name][1].any() and not state[1].any()
        )
    with pytest.raises(dn.ArgumentError, match="sequence=2: wanted 0 to 1"):
        nets[0].reset_state(2)


def test_prediction_leaves_the_state_of_training():
    net = network("lstm output=3", 2, train=True)
    net.forward(sequence(2), train=True)
    before = states(net)
    net.predict(sequence(2, seed=5))
    assert all(
        before[name].any() and before[name].tobytes() == state.tobytes()
        for name, state in states(net).items()
    )
    with pytest.raises(
        dn.ArgumentError, match="3 rows: a recurrent network wants a multiple of its batch, 4"
    ):
        net.predict(sequence(2)[:3])


@pytest.mark.parametrize("line", LINES.values(), ids=LINES)
def test_checkpoint_goes_on_bit_for_bit(line, tmp_path):
    net = network(line, 3, train=True, more="connected output=4|softmax", net_options="max_gradient=1")
    x, labels = sequence(3), np.arange(6) % 4
    net.train_batch(x, labels)
    net.save_checkpoint(tmp_path / "c")
    copy = dn.load_checkpoint(tmp_path / "c")
    assert [copy.train_batch(x, labels) for _ in range(3)] == [net.train_batch(x, labels) for _ in range(3)]
    assert copy.to_cfg() == net.to_cfg()
    for a, b in zip(net.layers, copy.layers):
        for (name, array), other in zip(
            a.arrays("parameter", "state").items(), b.arrays("parameter", "state").values()
        ):
            assert array.tobytes() == other.tobytes(), name


@pytest.mark.parametrize("line", LINES.values(), ids=LINES)
def test_results_do_not_depend_on_the_number_of_threads(line, threads):
    bits = set()
    for n in (1, 2, 3):
        threads(n)
        net = network(line, 3, train=True, more="connected output=4|softmax")
        losses = [net.train_batch(sequence(3), np.arange(6) % 4) for _ in range(2)]
        bits.add(
            (*losses, *(a.tobytes() for layer in net.layers for a in layer.arrays("parameter").values()))
        )
    assert len(bits) == 1


@pytest.mark.parametrize("optimizer", ["adam=1", "max_gradient=.01", "decay=.1 momentum=.5"])
def test_every_part_learns(optimizer):
    net = network(
        "conv_lstm output=2 pad=1 peephole=1 batch_normalize=1",
        3,
        train=True,
        more="connected output=4|softmax",
        net_options=f"learning_rate=.1 {optimizer}",
    )
    before = {name: array.copy() for name, array in net.layers[0].arrays("parameter").items()}
    net.reset_state()
    for _ in range(2):
        net.train_batch(sequence(3), np.arange(6) % 4)
    same = [
        name for name, array in net.layers[0].arrays("parameter").items() if (array == before[name]).all()
    ]
    assert not same and len(before) == 11 * 3


# ---- files
ORDERS = {
    ("gru", "pjreddie"): "wz wr wh uz ur uh",
    ("gru", "alexeyab"): "uz ur uh wz wr wh",
    ("lstm", "pjreddie"): "wi wf wo wg ui uf uo ug",
    ("lstm", "alexeyab"): "wf wi wg wo uf ui ug uo",
    ("rnn", "alexeyab"): "input_layer self_layer output_layer",
    ("crnn", "pjreddie"): "input_layer self_layer output_layer",
    ("conv_lstm", "alexeyab"): "vf vi vo wf wi wg wo uf ui ug uo",
}


@pytest.mark.parametrize("kind, dialect", ORDERS)
def test_order_in_weights_files(kind, dialect, tmp_path):
    line = f"{kind} output=2 batch_normalize=1" + " peephole=1 pad=1" * (kind == "conv_lstm")
    net = network(line, 1, net_options=f"dialect={dialect}")
    wanted = []
    for name in ORDERS[kind, dialect].split():
        part = net.layers[0].parts[name]
        last = ["weights"] if part.type == "convolutional" else []
        keys = [
            "biases",
            *(["weights"] if not last else []),
            "scales",
            "rolling_mean",
            "rolling_variance",
            *last,
        ]
        wanted += [getattr(part, key).ravel() for key in keys]
    net.save_weights(tmp_path / "w")
    assert np.fromfile(tmp_path / "w", "<f4", offset=20).tobytes() == np.concatenate(wanted).tobytes()
    other = network(line, 2, net_options=f"dialect={dialect}")
    for array in other.layers[0].arrays("parameter", "statistic").values():
        array[:] = 7
    other.load_weights(tmp_path / "w")
    for name, array in other.layers[0].arrays("parameter", "statistic").items():
        assert array.tobytes() == net.layers[0].arrays()[name].tobytes()


def test_fuse_folds_every_part():
    net = network("gru output=3 batch_normalize=1", 3)
    before = net.predict(sequence(6))
    net.reset_state()
    after = net.fuse().predict(sequence(6))
    np.testing.assert_allclose(after, before, rtol=1e-5, atol=1e-6)
    assert (
        not any(name.endswith("scales") for name in net.layers[0].arrays())
        and "batch_normalize" not in net.to_cfg()
    )


def test_recomputed_statistics_average_over_the_steps():
    net = network("lstm output=3 batch_normalize=1", 3, train=True)
    x = sequence(3)
    net.recompute_statistics([x])
    part = net.layers[0].uf
    sums = (x.reshape(6, -1) @ part.weights.T).reshape(3, SEQUENCES, -1)
    np.testing.assert_allclose(part.rolling_mean, sums.mean(axis=(0, 1)), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(part.rolling_variance, sums.var(axis=1, ddof=1).mean(axis=0), rtol=1e-4)
    np.testing.assert_allclose(
        part.x_norm[0],
        (sums[0, 0] - sums[0].mean(0)).reshape(-1, 1, 1) / np.sqrt(sums[0].var(0) + 1e-5).reshape(-1, 1, 1),
        rtol=1e-3,
        atol=1e-4,
    )


# ---- by hand
MADE = {
    "rnn": lambda: dn.make_rnn_layer(6, 24, 3, 3, "tanh", hidden=5, logistic=2, shortcut=1),
    "gru": lambda: dn.make_gru_layer(6, 24, 3, 3, 1, tanh=1),
    "lstm": lambda: dn.make_lstm_layer(6, 24, 3, 3),
    "crnn": lambda: dn.make_crnn_layer(6, 3, 4, 2, 4, 6, 3, "leaky", 1, stride=2, xnor=1),
    "conv_lstm": lambda: dn.make_conv_lstm_layer(
        6, 3, 4, 2, 2, steps=3, peephole=1, bottleneck=1, shortcut=1, groups=2
    ),
    "history": lambda: dn.make_history_layer(6, 3, 4, 2, 3, 3),
}


@pytest.mark.parametrize("kind", MADE)
def test_by_hand(kind):
    layer, net = MADE[kind](), dn.Network(train=True)
    x = net.input = sequence(3)
    getattr(dn, f"forward_{kind}_layer")(layer, net)
    layer.delta[:] = np.random.default_rng(0).standard_normal(layer.delta.shape)
    getattr(dn, f"backward_{kind}_layer")(layer, net)
    assert net.delta.any() and all(update.any() for update in layer.arrays("update").values())
    getattr(dn, f"update_{kind}_layer")(layer, 6, 0.1, 0.9, 0)
    assert all(np.isfinite(array).all() for array in layer.arrays("parameter").values())
    whole = dn.Network(6, 4, 3, 2)  # w, h, c
    whole.add(layer)
    again = build_network(resolve(parse_cfg_text(whole.to_cfg())), batch=6)
    assert [line for line in again.to_cfg().splitlines() if "steps" in line] == ["time_steps=3"]
    for name, array in layer.arrays("parameter", "statistic").items():
        again.layers[0].arrays()[name][:] = array
    whole.reset_state()
    got, wanted = whole.predict(x), again.predict(x)  # which folds the normalization into scale and shift
    np.testing.assert_allclose(got, wanted, rtol=0, atol=1e-5 * np.abs(wanted).max())
    assert again.layers[0].flops == layer.flops and again.layers[0].out_c == layer.out_c


@pytest.mark.parametrize("kind", ["crnn", "conv_lstm", "history"])
def test_resize(kind):
    layer, net = MADE[kind](), dn.Network(train=True)
    net.input = sequence(3)
    dn.forward_layer(layer, net)
    weights = {name: array.copy() for name, array in layer.arrays("parameter").items()}
    getattr(dn, f"resize_{kind}_layer")(layer, 6, 5)
    assert layer.input_shape == (6, 2, 5, 6) and not any(
        state.any() for state in layer.arrays("state").values()
    )
    net.input = np.random.default_rng(1).standard_normal(layer.input_shape).astype(np.float32)
    dn.forward_layer(layer, net)
    layer.delta[:] = 1
    dn.backward_layer(layer, net)
    assert all(
        array.tobytes() == weights[name].tobytes() for name, array in layer.arrays("parameter").items()
    )
    held = layer.parts["uf"].weights if kind == "conv_lstm" else layer.output
    with pytest.raises(dn.ArgumentError, match="while arrays of it are in use"):
        dn.resize_layer(layer, 4, 3)
    del held
    with pytest.raises(dn.ArgumentError, match="positive sizes|wanted"):
        dn.resize_layer(layer, 0, 3)
    assert layer.input_shape == (6, 2, 5, 6)


def test_a_part_keeps_its_owner_alive():
    weights = dn.make_lstm_layer(4, 3, 3, 2).wf.weights
    part = dn.make_lstm_layer(4, 3, 3, 2).uo
    assert np.isfinite(weights).all() and part.weights.shape == (3, 3) and part.type == "connected"
    with pytest.raises(AttributeError, match="has no 'vf'"):
        dn.make_lstm_layer(4, 3, 3, 2).vf  # noqa: B018


@pytest.mark.parametrize(
    "line, options, message",
    [
        (
            "crnn output=2 hidden=2",
            "dialect=alexeyab",
            r"\[crnn\] .*pad.*maps of 2x1 into 0x-?\d|size=3: wanted at most",
        ),
        (
            "crnn output=2 hidden=2 size=2 pad=1",
            "",
            r"convolutions turn maps of 5x4 into 6x5: wanted the same size",
        ),
        ("crnn output=2 output_filters=3", "", r"output_filters=3 contradicts output=2"),
        (
            "conv_lstm output=3 pad=1 bottleneck=1",
            "",
            r"bottleneck=1 with an input of 3x4x2 and an output of 3x4x3",
        ),
        ("conv_lstm output=2 pad=1 lstm_activation=mish", "", r"wanted one whose output tells its slope"),
        ("lstm output=0", "", r"<string>:\d+: \[lstm\] output=0: out of range"),
        ("rnn output=2000000000", "", r"more than 2147483647"),
        ("history history_size=100000000", "", r"more than 2147483647"),
    ],
)
def test_errors_name_the_section(line, options, message):
    with pytest.raises(dn.CfgError, match=message) as error:
        network(line, 1, net_options=options)
    assert str(error.value).startswith("<string>:")


def test_rows_must_be_whole_steps():
    with pytest.raises(dn.ArgumentError, match="a batch of 5 rows: wanted a multiple of time_steps=2"):
        dn.make_lstm_layer(5, 3, 3, 2)


def test_lstm_is_pytorchs():
    torch = pytest.importorskip("torch")
    layer, net = dn.make_lstm_layer(6, 4, 5, 3), dn.Network(train=True)
    theirs = torch.nn.LSTM(4, 5)
    order = "ifgo"
    with torch.no_grad():
        for ours, name in (("u", "ih"), ("w", "hh")):
            parts = [layer.parts[ours + gate] for gate in order]
            getattr(theirs, f"weight_{name}_l0")[:] = torch.tensor(
                np.concatenate([part.weights for part in parts])
            )
            getattr(theirs, f"bias_{name}_l0")[:] = torch.tensor(
                np.concatenate([part.biases for part in parts])
            )
    rng = np.random.default_rng(8)
    x, d = rng.standard_normal((6, 4)).astype(np.float32), rng.standard_normal((6, 5)).astype(np.float32)
    net.input, t = x, torch.tensor(x.reshape(3, 2, 4), requires_grad=True)
    dn.forward_layer(layer, net)
    layer.delta[:] = d.reshape(layer.delta.shape)
    dn.backward_layer(layer, net)
    y, _ = theirs(t)
    y.backward(torch.tensor(d.reshape(3, 2, 5)))
    np.testing.assert_allclose(layer.output.reshape(3, 2, 5), y.detach(), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(net.delta.reshape(3, 2, 4), t.grad, rtol=1e-4, atol=1e-5)
    for k, gate in enumerate(order):
        rows = slice(5 * k, 5 * k + 5)
        np.testing.assert_allclose(
            layer.parts["w" + gate].weight_updates, theirs.weight_hh_l0.grad[rows], rtol=1e-4, atol=1e-5
        )
        np.testing.assert_allclose(
            layer.parts["u" + gate].bias_updates, theirs.bias_ih_l0.grad[rows], rtol=1e-4, atol=1e-5
        )


def test_summary_counts_the_parts():
    net = network("conv_lstm output=2 pad=1 peephole=1 batch_normalize=1", 3)
    row, area = summary_rows(net)[0], SHAPE[1] * SHAPE[2]
    weights = 4 * 2 * 2 * 9 + 7 * 2 * 2 * 9  # four on the input, seven on state and cell
    assert row["trainable"] == weights + 11 * 4 and row["non_trainable"] == 11 * 4
    assert row["bflops"] == (2 * weights * area + 12 * 2 * area) / 1e9  # AlexeyAB's count


def test_start_values_of_parts_differ():
    layer = dn.make_lstm_layer(2, 5, 5, 1)
    starts = [part.weights for part in layer.parts.values()]
    assert len({weights.tobytes() for weights in starts}) == 8
    assert all(0.3 < np.abs(weights).max() / (2 / 5) ** 0.5 <= 1 for weights in starts)
