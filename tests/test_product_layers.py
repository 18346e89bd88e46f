"""[scale_channels], [sam], [implicit] and weighted [shortcut]: values and every gradient."""

from __future__ import annotations

import numpy as np
import pytest
from activations import ACTIVATIONS
from gradcheck import SCALES, Case, check

import darknetpy as dn

CONV = "convolutional filters={} size=3 pad=1 activation=tanh"
GATE = "convolutional filters={} size=1 activation=logistic"


def _cases():
    se = [CONV.format(3), "avgpool", GATE.format(3)]
    spatial = [CONV.format(3), GATE.format(1)]
    for a in ACTIVATIONS:
        shape = (
            (2, 1, 2) if a == "normalize_channels" else (2, 3, 3)
        )  # its kinks are steep: few values stay clear of them
        yield Case(f"scale_channels {a}", [*se, f"scale_channels from=0 activation={a}"], shape)
        yield Case(f"sam {a}", [CONV.format(3), GATE.format(3), f"sam from=0 activation={a}"], shape)
    yield Case("scale_channels wh", [*spatial, "scale_channels from=-2 scale_wh=1"], (2, 3, 4))
    yield Case(
        "scale_channels wh leaky", [*spatial, "scale_channels from=-2 scale_wh=1 activation=leaky"], (2, 3, 4)
    )
    yield Case(
        "scale_channels by connected",
        [CONV.format(3), "connected output=3", "scale_channels from=0"],
        (2, 2, 3),
    )
    yield Case("sam of itself", [CONV.format(2), "sam from=-1"], (2, 3, 3))
    yield Case("implicit", [CONV.format(4), "implicit filters=4 atoms=2"], (2, 2, 2))
    yield Case(
        "implicit add and mul",
        [
            CONV.format(3),
            "implicit filters=3 mean=1",
            "scale_channels from=0",
            "implicit filters=3 atoms=1",
            "route layers=2",
            "shortcut from=3 activation=tanh",
        ],
        (2, 3, 3),
        net="dialect=alexeyab",
    )
    yield Case(
        "products keep the delta of others",
        [
            *se,
            "scale_channels from=0",
            "sam from=0",
            GATE.format(1),
            "scale_channels from=0 scale_wh=1",
            "sam from=4",
            "route layers=0,2,3,4,5,6,7",
        ],
        (2, 3, 2),
    )
    for weights in ("per_feature", "per_channel"):
        for normalization in ("none", "relu", "softmax"):
            options = f"weights_type={weights} weights_normalization={normalization}"
            yield Case(
                f"shortcut {options}",
                [
                    CONV.format(3),
                    CONV.format(3),
                    CONV.format(3),
                    f"shortcut from=-2,-3 {options} activation=mish",
                ],
                (2, 3, 4),
            )
            yield Case(
                f"shortcut of other channels {options}",
                [
                    CONV.format(5),
                    CONV.format(2),
                    CONV.format(3),
                    f"shortcut from=0,1 {options} activation=leaky",
                ],
                (2, 3, 3),
            )
    yield Case("shortcut one weight", [CONV.format(3), "shortcut from=-1 weights_type=per_layer"], (2, 3, 3))


GRADIENT_CASES = list(_cases())


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("case", GRADIENT_CASES, ids=str)
def test_gradient(case, scale):
    check(case, scale)


@pytest.mark.parametrize("normalization", ["none", "relu", "softmax"])
def test_weighted_shortcut(normalization, rng):
    """weights (2, c), the input's first; normalized with AlexeyAB's 1e-4 in the sum."""
    net = dn.Network(2, 3, 4, 2, train=True)
    net.add(dn.make_convolutional_layer(2, 4, 3, 2, 3))
    net.add(dn.make_convolutional_layer(2, 4, 3, 3, 3))
    layer = net.add(
        dn.make_shortcut_layer(
            2, 0, 3, 4, 3, 3, 4, 3, weights_type="per_channel", weights_normalization=normalization
        )
    )
    assert layer.weights.shape == (2, 3) and (layer.weights == 1).all() and layer.flops == 2 * 36
    layer.weights[:] = rng.standard_normal((2, 3))
    net.forward(rng.standard_normal((2, 2, 4, 3)).astype(np.float32), train=True)
    w = layer.weights.astype(float)
    if normalization != "none":
        e = np.maximum(w, 0) if normalization == "relu" else np.exp(w - w.max(axis=0))
        w = e / (e.sum(axis=0) + 1e-4)
    a, b = (net.layers[i].output for i in (1, 0))
    wanted = w[0][:, None, None] * a + w[1][:, None, None] * b
    np.testing.assert_allclose(layer.output, wanted, rtol=1e-5, atol=1e-6)


def test_implicit_by_hand():
    layer = dn.make_implicit_layer(3, 0, 1.0, 0.1, filters=4, atoms=2)
    net = dn.Network(train=True)
    net.input = np.zeros((3, 1), np.float32)
    dn.forward_implicit_layer(layer, net)
    assert layer.output.shape == (3, 4, 2, 1) and (layer.output == layer.weights.reshape(4, 2, 1)).all()
    assert 0.9 <= layer.weights.min() < 1 < layer.weights.max() <= 1.1
    layer.delta[:] = 1
    dn.backward_implicit_layer(layer, net)
    assert (layer.weight_updates == 3).all()


def test_products_work_inside_a_network(rng):
    net = dn.Network(2, 3, 4, 2, train=True)
    net.add(dn.make_convolutional_layer(2, 4, 3, 2, 3))
    net.add(dn.make_convolutional_layer(2, 4, 3, 3, 3))
    sam = net.add(dn.make_sam_layer(2, 0, 3, 4, 3, 3, 4, 3))
    net.add(dn.make_avgpool_layer(2, 3, 4, 3))
    scaled = net.add(dn.make_scale_channels_layer(2, 2, 1, 1, 3, 3, 4, 3))
    net.forward(rng.standard_normal((2, 2, 4, 3)).astype(np.float32), train=True)
    assert (sam.output == net.layers[0].output * net.layers[1].output).all()
    assert (scaled.output == sam.output * net.layers[3].output).all()


def load(text, tmp_path, **how):
    path = tmp_path / "t.cfg"
    path.write_text("[net]\nwidth=4\nheight=4\nchannels=2\n" + text)
    return dn.load_network(path, **how)


@pytest.mark.parametrize(
    "text, words",
    [
        ("[conv]\nfilters=3\n[sam]\nfrom=-1,-1\n", "from= names 2 layers; wanted one"),
        (
            "[conv]\nfilters=3\n[conv]\nfilters=2\n[sam]\nfrom=0\n",
            "layer 0 has an output of 4x4x3: wanted the input's 4x4x2",
        ),
        (
            "[conv]\nfilters=3\n[scale_channels]\nfrom=0\n",
            "layer 0 has 3 channels: wanted as many inputs, got 48",
        ),
        (
            "[conv]\nfilters=3\n[scale_channels]\nfrom=0\nscale_wh=1\n",
            "wanted an input of one such map, got 4x4x3",
        ),
        ("[conv]\nfilters=3\n[sam]\nfrom=1\n", "from=1 means layer 1, which is not before layer 1"),
    ],
)
def test_unlike_shapes_are_refused(text, words, tmp_path):
    with pytest.raises(dn.CfgError) as caught:
        load(text, tmp_path)
    assert words in str(caught.value) and ":" in str(caught.value)


def test_weights_belong_to_alexeyab(tmp_path):
    text = "[conv]\nfilters=2\n[shortcut]\nfrom=-1\nweights_type=per_feature\n"
    assert load(text, tmp_path).dialect == "alexeyab"
    with pytest.raises(dn.CfgError, match="dialect=pjreddie has no weights; wanted dialect=alexeyab"):
        load(text, tmp_path, dialect="pjreddie")
