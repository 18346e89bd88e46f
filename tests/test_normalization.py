"""Group, layer and instance normalization beside batch normalization, before and after the activation.

Values, PyTorch, sizes, threads, refusals, inference.  Files: test_normalization_files.py.  Gradients:
test_normalization_layer.py and test_groupnorm_layer.py.
"""

from __future__ import annotations

import numpy as np
import pytest
import reference
from gradcheck import build, randomize
from twin import twin

import darknetpy as dn
from darknetpy.core import core
from darknetpy.summary import summary_rows

BATCH, EPSILON = 3, 1e-5
KINDS = ("batch", "group", "layer", "instance")
OPTIONS = {kind: f"normalize={kind}" + " norm_groups=2" * (kind == "group") for kind in KINDS}
PLACES = {"before": "", "after": " normalize_after_activation=1"}
CONVOLUTION, CONNECTED = "convolutional filters=4 size=3 pad=1", "connected output=12"
SHAPES = {CONVOLUTION: (2, 3, 5), CONNECTED: (7,)}
EVERY = [
    pytest.param(base, kind, place, id=f"{base.split()[0]} {kind} {place}")
    for base in SHAPES
    for kind in KINDS
    for place in PLACES
    if base == CONVOLUTION or kind != "instance"  # an instance of [connected] is a single value
]


def network(layers, shape, net="", train=True, batch=BATCH, seed=0):
    """A network whose parameters and statistics are all different, in single precision."""
    made = build(layers, shape, batch, net, train=train, core=core)
    randomize(made, np.random.default_rng(seed))
    return made


def one(base, kind, place, activation="mish", **options):
    """The network of one layer."""
    line = f"{base} activation={activation} {OPTIONS[kind]}{PLACES[place]}"
    return network([line], SHAPES[base], **options)


def inputs(net, rng):
    return rng.standard_normal((net.batch, net.inputs)).astype(np.float32)


def near(found, wanted, limit=1e-5):
    return np.abs(found - wanted).max() <= limit * np.abs(wanted).max()


# ---- values
def sums(net, x):
    """What the layer's weights make of x, in double precision: (batch, channels, spatial)."""
    l = net.layers[0]
    line = CONVOLUTION if l.type == "convolutional" else CONNECTED
    plain = build([line + " activation=linear"], SHAPES[line], BATCH, train=False, core=twin())
    plain.layers[0].weights[...] = l.weights
    plain.forward(x.astype(float), train=False)
    return plain.layers[0].output.reshape(BATCH, l.out_c, -1)


def normalized(kind, z):
    """x_hat, mean and variance of z (batch, channels, spatial), by the definition."""
    groups = {"group": 2, "layer": 1, "instance": z.shape[1], "batch": 1}[kind]
    grouped = z[None] if kind == "batch" else z.reshape(BATCH, groups, -1, z.shape[2])
    axes = (0, 1, 3) if kind == "batch" else (2, 3)
    mean, variance = grouped.mean(axis=axes, keepdims=True), grouped.var(axis=axes, keepdims=True)
    return (
        ((grouped - mean) / np.sqrt(variance + EPSILON)).reshape(z.shape),
        mean.squeeze(),
        variance.squeeze(),
    )


def by_channel(array):
    return array.astype(float)[:, None]


@pytest.mark.parametrize("fused", [1, 0], ids=["fused", "composed"])
@pytest.mark.parametrize("activation", ["leaky", "mish"])
@pytest.mark.parametrize("base, kind, place", EVERY)
def test_values_in_training(base, kind, place, activation, fused, rng):
    net = one(base, kind, place, activation, net=f"fused={fused}")
    l, x = net.layers[0], inputs(net, rng)
    net.forward(x, train=True)
    z = sums(net, x)
    if place == "after":
        z = reference.activate(activation, z + by_channel(l.inner_biases))
    x_norm, mean, variance = normalized(kind, z)
    wanted = by_channel(l.scales) * x_norm + by_channel(l.biases)
    if place == "before":
        wanted = reference.activate(activation, wanted)
    assert near(l.output.reshape(wanted.shape), wanted)
    assert near(l.mean.squeeze(), mean) and near(l.variance.squeeze(), variance)
    assert near(l.x_norm.reshape(x_norm.shape), x_norm)


@pytest.mark.parametrize("made_for", ["training", "inference"])
@pytest.mark.parametrize("activation", ["leaky", "mish", "normalize_channels_softmax"])
@pytest.mark.parametrize("base, kind, place", EVERY)
def test_inference_equals_training_but_for_batch_statistics(base, kind, place, activation, made_for, rng):
    if base == CONNECTED and activation == "normalize_channels_softmax":
        activation = "tanh"  # there is no map whose channels could mix
    trained = one(base, kind, place, activation)
    net, x = one(base, kind, place, activation, train=made_for == "training"), inputs(trained, rng)
    trained.forward(x, train=True)
    for l in (trained.layers[0], net.layers[0]) if kind == "batch" else ():
        l.rolling_mean[:], l.rolling_variance[:] = trained.layers[0].mean, trained.layers[0].variance
    assert near(net.predict(x).ravel(), trained.layers[0].output.ravel())


def test_norm_groups_default_is_the_largest_divisor_up_to_32():
    for channels, groups in ((64, 32), (33, 11), (96, 32), (31, 31), (37, 1)):
        net = network(
            [f"convolutional filters={channels} size=1 activation=linear normalize=group"], (1, 2, 2)
        )
        assert net.layers[0].mean.shape == (BATCH, groups)
    flat = network(["connected output=6 activation=linear normalize=group"], (3,))
    assert flat.layers[0].mean.shape == (BATCH, 3)  # six groups would be of one value each


# ---- PyTorch
def _torch_layer(torch, l, kind, place, x):
    """Output and the leaves whose gradients are wanted, in double precision."""
    f = torch.nn.functional
    names = [
        name for name in ("weights", "scales", "biases", "inner_biases") if name in l.arrays("parameter")
    ]
    leaves = {name: torch.tensor(getattr(l, name).astype(float), requires_grad=True) for name in names}
    leaves["input"] = torch.tensor(x.reshape(l.input_shape).astype(float), requires_grad=True)
    z = (
        f.conv2d(leaves["input"], leaves["weights"], padding=1)
        if l.type == "convolutional"
        else f.linear(leaves["input"], leaves["weights"])
    )
    scales, biases, per_channel = leaves["scales"], leaves["biases"], (1, -1) + (1,) * (z.dim() - 2)

    def normalize(z):
        if kind == "batch":
            return f.batch_norm(z, None, None, scales, biases, True, eps=EPSILON)
        if kind == "group":
            return f.group_norm(z, 2, scales, biases, EPSILON)
        if kind == "instance":
            return f.instance_norm(z, weight=scales, bias=biases, eps=EPSILON)
        return f.layer_norm(z, z.shape[1:], eps=EPSILON) * scales.view(per_channel) + biases.view(per_channel)

    y = (
        f.mish(normalize(z))
        if place == "before"
        else normalize(f.mish(z + leaves["inner_biases"].view(per_channel)))
    )
    return y, leaves


@pytest.mark.parametrize("base, kind, place", EVERY)
def test_pytorch_has_the_same_outputs_and_gradients(base, kind, place, rng):
    torch = pytest.importorskip("torch")
    net = one(base, kind, place)
    l, x, delta = net.layers[0], inputs(net, rng), rng.standard_normal(net.layers[0].output.shape)
    net.forward(x, train=True)
    l.delta[...] = delta
    net.backward()
    y, leaves = _torch_layer(torch, l, kind, place, x)
    assert near(l.output.ravel(), y.detach().numpy().ravel())
    y.backward(torch.tensor(delta.astype(np.float32).astype(float).reshape(y.shape)))
    updates = dict(zip(l.arrays("parameter"), l.arrays("update").values()))
    for name, leaf in leaves.items():
        ours = net.delta if name == "input" else updates[name]
        assert near(ours.ravel(), leaf.grad.numpy().ravel()), name


# ---- sizes, threads
MIXED = [
    "convolutional filters=8 size=3 pad=1 activation=leaky normalize=group norm_groups=4",
    "convolutional filters=8 size=3 pad=1 activation=mish normalize=instance normalize_after_activation=1",
    "groupnorm groups=2",
    "convolutional filters=8 size=3 pad=1 activation=swish normalize=batch normalize_after_activation=1",
    "convolutional filters=8 size=1 activation=normalize_channels_softmax normalize=layer",
    "layernorm",
    "batchnorm",
    "avgpool",
    "connected output=16 activation=tanh normalize=group norm_groups=4",
    "connected output=8 activation=mish normalize=layer normalize_after_activation=1",
    "connected output=5 activation=linear",
    "softmax",
]
MIXED_SHAPE = (2, 30, 34)


@pytest.mark.parametrize("train", [True, False], ids=["training", "inference"])
def test_resize_gives_what_a_network_of_that_size_has(train, rng):
    net, other = (network(MIXED, shape, train=train) for shape in (MIXED_SHAPE, (2, 11, 9)))
    net.forward(inputs(net, rng), train=train)
    for l, theirs in zip(net.layers, other.layers):
        for name, array in theirs.arrays("statistic", "counter").items():
            array[...] = getattr(l, name)
    x = inputs(other, rng)
    net.resize(9, 11)
    for made in (net, other):
        made.forward(x, None if not train else np.arange(BATCH), train=train)
        if train:
            made.backward()
    for l, theirs in zip(net.layers, other.layers):
        for name, array in theirs.arrays().items():
            assert np.array_equal(getattr(l, name), array), (l.index, name)


@pytest.mark.parametrize(
    "line", [f"{CONVOLUTION} activation=mish {OPTIONS['instance']}", "groupnorm groups=2"]
)
def test_a_size_without_variance_is_refused_and_the_old_one_stays(line, rng):
    net = network(["maxpool size=3 stride=3 padding=0", line], (2, 6, 6))
    x = inputs(net, rng)
    before = net.predict(x).copy()
    with pytest.raises(dn.ArgumentError, match="groups of one value each"):
        net.resize(3, 3)
    assert (net.w, net.h) == (6, 6) and np.array_equal(net.predict(x), before)


@pytest.mark.parametrize("kind", ["groupnorm", "layernorm", "batchnorm"])
def test_a_layer_by_hand_resizes_and_learns(kind, rng):
    l, net = getattr(dn, f"make_{kind}_layer")(BATCH, 5, 3, 4), dn.Network(train=True)
    l.scales[:] = [1, 2, -3, 0.5]
    getattr(dn, f"resize_{kind}_layer")(l, 4, 2)
    net.input = rng.standard_normal((BATCH, 4, 2, 4)).astype(np.float32)
    getattr(dn, f"forward_{kind}_layer")(l, net)
    z = net.input.astype(float).reshape(BATCH, 4, -1)
    axes = {"batchnorm": (0, 2), "groupnorm": 2, "layernorm": (1, 2)}[kind]  # of as many groups as channels
    x_norm = (z - z.mean(axis=axes, keepdims=True)) / np.sqrt(z.var(axis=axes, keepdims=True) + EPSILON)
    assert near(l.output.reshape(z.shape), by_channel(l.scales) * x_norm)
    l.delta[:] = 1
    getattr(dn, f"backward_{kind}_layer")(l, net)
    getattr(dn, f"update_{kind}_layer")(l, BATCH, 0.5, 0.0, 9.0)  # biases and scales do not decay
    wanted = [1, 2, -3, 0.5] + 0.5 / BATCH * x_norm.sum(axis=(0, 2))
    assert near(l.biases, np.full(4, 0.5 * 8)) and near(l.scales, wanted)


@pytest.mark.parametrize("base, kind, place", EVERY)
def test_summary_counts_every_parameter(base, kind, place):
    net = one(base, kind, place)
    row, n = summary_rows(net)[0], net.layers[0].out_c
    assert row["trainable"] == net.layers[0].weights.size + (3 if place == "after" else 2) * n
    assert row["non_trainable"] == (2 * n if kind == "batch" else 0)


def test_any_number_of_threads_gives_the_same_bits(threads):
    found = set()
    for count in (1, 2, 3, 7):
        threads(count)
        net, rng = (
            network(MIXED, MIXED_SHAPE, "momentum=.9 learning_rate=.1", batch=5),
            np.random.default_rng(7),
        )
        for _ in range(3):
            net.train_batch(inputs(net, rng), rng.integers(0, 5, 5))
        net.forward(inputs(net, rng), np.arange(5), train=True)
        net.backward()
        state = [a.tobytes() for l in net.layers for name, a in sorted(l.arrays().items()) if name != "x"]
        found.add(b"".join(state) + net.delta.tobytes() + net.predict(inputs(net, rng)).tobytes())
    assert len(found) == 1


# ---- refusals
IMAGE = "[net]\nwidth=4\nheight=4\nchannels=3\n"
REFUSED = {
    "groups do not divide": (
        "[convolutional]\nfilters=6\nnormalize=group\nnorm_groups=4\n",
        r":8: \[convolutional\] norm_groups=4: wanted a divisor of the 6 channels",
    ),
    "groups of [connected] do not divide": (
        "[connected]\noutput=9\nnorm_groups=2\nnormalize=group\n",
        r":7: \[connected\] norm_groups=2: wanted a divisor of the 9 channels",
    ),
    "groups of [groupnorm] do not divide": (
        "[groupnorm]\ngroups=2\n",
        r":6: \[groupnorm\] groups=2: wanted a divisor of the 3 channels",
    ),
    "contradiction": (
        "[convolutional]\nbatch_normalize=1\nnormalize=group\n",
        r":7: \[convolutional\] normalize=group contradicts batch_normalize=1",
    ),
    "contradiction the other way": (
        "[connected]\nbatch_normalize=0\nnormalize=batch\n",
        r":7: \[connected\] normalize=batch contradicts batch_normalize=0",
    ),
    "unknown word": (
        "[convolutional]\nnormalize=groups\n",
        r":6: \[convolutional\] normalize=groups: unknown; did you mean 'group'\? wanted one of none",
    ),
    "groups without group": (
        "[convolutional]\nfilters=4\nnormalize=layer\nnorm_groups=2\n",
        r":8: \[convolutional\] norm_groups=2 acts with normalize=group, but this is normalize=layer",
    ),
    "groups with batch_normalize": (
        "[convolutional]\nbatch_normalize=1\nnorm_groups=2\n",
        r":7: \[convolutional\] norm_groups=2 acts with normalize=group, but this is normalize=batch",
    ),
    "no group": (
        "[convolutional]\nnormalize=group\nnorm_groups=0\n",
        r":7: \[convolutional\] norm_groups=0: out of range; wanted",
    ),
    "place of nothing": (
        "[convolutional]\nnormalize_after_activation=1\n",
        r":6: \[convolutional\] normalize_after_activation=1: there is no normalization",
    ),
    "instances of one value": (
        "[connected]\noutput=4\nnormalize=instance\n",
        r":7: \[connected\] normalize: 4 channels of 1 values in groups of one value each",
    ),
    "groups of one value": (
        "[avgpool]\n[groupnorm]\ngroups=3\n",
        r":7: \[groupnorm\] groups: 3 channels of 1 values in groups of one value each",
    ),
    "one value in all": (
        "[connected]\noutput=1\nnormalize=layer\n",
        r":7: \[connected\] normalize: 1 channels of 1 values in groups of one value each",
    ),
    "a layer of one value": ("[connected]\noutput=1\n[layernorm]\n", r":7: \[layernorm\]"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused_with_file_and_line(name, tmp_path):
    text, message = REFUSED[name]
    (tmp_path / "net.cfg").write_text(IMAGE + text)
    with pytest.raises(dn.CfgError, match=r"net\.cfg" + message) as caught:
        dn.load_network(tmp_path / "net.cfg")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"normalize": "group", "batch_normalize": 1}, "contradicts"),
        ({"normalize": "groups"}, "wanted one of"),
        ({"normalize": "layer", "norm_groups": 2}, "with normalize='group'"),
        ({"normalize": "group", "norm_groups": 3}, "wanted a divisor of the 4 channels"),
        ({"normalize": "group", "norm_groups": 1.5}, "norm_groups"),
        ({"normalize_after_activation": 1}, "no normalization"),
    ],
)
def test_refused_in_python(options, message):
    with pytest.raises(dn.ArgumentError, match=message):
        dn.make_convolutional_layer(2, 3, 3, 2, 4, **options)
    with pytest.raises(dn.ArgumentError, match=message):
        dn.make_connected_layer(2, 3, 4, **options)


# ---- inference
DARKNET19 = """
convolutional filters=8 size=3 stride=1 pad=1 activation=leaky {}
maxpool size=2 stride=2
convolutional filters=16 size=3 stride=1 pad=1 activation=leaky {}
maxpool size=2 stride=2
convolutional filters=32 size=3 stride=1 pad=1 activation=leaky {}
convolutional filters=16 size=1 stride=1 pad=1 activation=leaky {}
convolutional filters=32 size=3 stride=1 pad=1 activation=leaky {}
maxpool size=2 stride=2
convolutional filters=64 size=3 stride=1 pad=1 activation=leaky {}
convolutional filters=32 size=1 stride=1 pad=1 activation=leaky {}
convolutional filters=64 size=3 stride=1 pad=1 activation=leaky {}
convolutional filters=10 size=1 stride=1 pad=1 activation=linear
avgpool
softmax
"""


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("kind", KINDS)
def test_inference_of_a_deep_network_four_ways(kind, place, rng):
    """Applied while a tile of sums is in the cache; made for training; composed; folded into the weights."""
    words = f"normalize={kind}{PLACES[place]}"
    layers = [line.format(words) for line in DARKNET19.strip().split("\n")]
    nets = {
        "inference": network(layers, (3, 32, 32), train=False),
        "training": network(layers, (3, 32, 32), train=True),
        "composed": network(layers, (3, 32, 32), "fused=0", train=False),
        "folded": network(layers, (3, 32, 32), train=False).fuse(),
    }
    x = inputs(nets["inference"], rng)
    nets["inference"].predict(x)
    for name, net in nets.items():
        net.predict(x)
        for l, wanted in zip(net.layers, nets["inference"].layers):
            assert near(l.output, wanted.output), f"{name}: layer {l.index} [{l.type}]"
    folded = sum("scales" in l.arrays("parameter") for l in nets["folded"].layers) == 0
    assert folded == (kind == "batch" and place == "before")
