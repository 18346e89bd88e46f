"""[local] and [deconvolutional]: values against plain loops, and every gradient."""

from __future__ import annotations

import numpy as np
import pytest
from gradcheck import SCALES, Case, check

import darknetpy as dn

LOCALS = {  # options, shape
    "3x3 padded": ("filters=3 size=3 pad=1", (2, 4, 3)),
    "2x2 stride 2": ("filters=2 size=2 stride=2", (3, 4, 5)),
    "3x3 stride 2": ("filters=2 size=3 stride=2 pad=1", (2, 5, 4)),
    "1x1": ("filters=2", (3, 2, 2)),
    "whole map": ("filters=2 size=3", (2, 3, 3)),
    "5x5": ("filters=1 size=5 pad=2", (1, 3, 4)),
}
DECONVOLUTIONS = {
    "2x2 stride 2": ("filters=3 size=2 stride=2", (2, 2, 3)),
    "3x3 stride 2": ("filters=2 size=3 stride=2 pad=1", (3, 3, 2)),
    "3x3": ("filters=2 size=3 pad=1", (2, 3, 4)),
    "4x4 stride 2": ("filters=2 size=4 stride=2 padding=1", (2, 2, 2)),
    "stride beyond size": ("filters=2 size=2 stride=3", (2, 2, 3)),
    "1x1": ("filters=3", (2, 2, 3)),
}


def _cases():
    for name, (options, shape) in LOCALS.items():
        for a in ("tanh", "leaky", "mish"):
            yield Case(f"local {name} {a}", [f"local {options} activation={a}"], shape)
    yield Case(
        "local softmax", ["local filters=3 size=3 pad=1 activation=normalize_channels_softmax"], (2, 3, 3)
    )
    for name, (options, shape) in DECONVOLUTIONS.items():
        for rest in ("activation=tanh", "activation=leaky", "batch_normalize=1 activation=mish"):
            yield Case(f"deconvolutional {name} {rest}", [f"deconvolutional {options} {rest}"], shape)
    for kind in ("group", "layer", "instance"):
        yield Case(
            f"deconvolutional normalize={kind}",
            [f"deconvolutional filters=4 size=2 stride=2 normalize={kind} activation=swish"],
            (2, 2, 3),
        )
    yield Case(
        "they keep the delta of others",
        [
            "convolutional filters=3 size=3 pad=1 activation=tanh",
            "local filters=2 size=3 pad=1 activation=tanh",
            "route layers=0",
            "deconv filters=2 size=3 pad=1 activation=tanh",
            "route layers=0",
            "deconv filters=2 size=3 pad=1 batch_normalize=1",
            "route layers=0,1,3,5",
        ],
        (2, 3, 4),
    )


GRADIENT_CASES = list(_cases())


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("case", GRADIENT_CASES, ids=str)
def test_gradient(case, scale):
    check(case, scale)


def run(layer, x):
    net = dn.Network(train=True)
    net.input = x
    dn.forward_layer(layer, net)
    return layer.output


@pytest.mark.parametrize(
    "n, size, stride, pad", [(3, 3, 1, 1), (2, 2, 2, 0), (2, 3, 2, 1), (1, 5, 1, 2), (40, 3, 1, 0)]
)
def test_local_is_a_product_per_place(n, size, stride, pad, rng, threads):
    x = rng.standard_normal((3, 4, 7, 6)).astype(np.float32)
    layer = dn.make_local_layer(3, 7, 6, 4, n, size, stride, pad, "linear")
    layer.biases[:] = rng.standard_normal(layer.biases.shape)
    padded = np.pad(x.astype(float), ((0, 0), (0, 0), (pad, pad), (pad, pad)))
    wanted = np.zeros(layer.output.shape)
    for place in range(layer.out_h * layer.out_w):
        i, j = divmod(place, layer.out_w)
        window = padded[:, :, i * stride : i * stride + size, j * stride : j * stride + size]
        wanted[:, :, i, j] = np.einsum("bcyx,ncyx->bn", window, layer.weights[place])
    wanted += layer.biases.reshape(1, *wanted.shape[1:])
    bits = set()
    for count in (1, 2, 3):
        threads(count)
        np.testing.assert_allclose(run(layer, x), wanted, rtol=1e-4, atol=1e-5)
        bits.add(layer.output.tobytes())
    assert len(bits) == 1


def test_local_weights_are_initialized_everywhere():
    weights = dn.make_local_layer(1, 6, 6, 3, 4, 3, 1, 1).weights
    assert weights.shape == (36, 4, 3, 3, 3) and (weights.reshape(36, -1).std(axis=1) > 0.1).all()


@pytest.mark.parametrize("size, stride, padding", [(2, 2, 0), (3, 2, 1), (4, 3, 1), (1, 1, 0)])
def test_deconvolution_spreads_its_filters(size, stride, padding, rng):
    x = rng.standard_normal((2, 3, 4, 5)).astype(np.float32)
    layer = dn.make_deconvolutional_layer(2, 4, 5, 3, 2, size, stride, padding, "linear")
    layer.biases[:] = (0.5, -1)
    whole = np.zeros((2, 2, 3 * stride + size, 4 * stride + size))
    for i in range(4):
        for j in range(5):
            spread = np.einsum("bc,cnyx->bnyx", x[:, :, i, j], layer.weights.astype(float))
            whole[:, :, i * stride : i * stride + size, j * stride : j * stride + size] += spread
    end = tuple(side - padding for side in whole.shape[2:])
    wanted = whole[:, :, padding : end[0], padding : end[1]] + layer.biases[:, None, None]
    np.testing.assert_allclose(run(layer, x), wanted, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    "make",
    [
        lambda: dn.make_local_layer(1, 6, 6, 3, 4, 5, 1, 1),
        lambda: dn.make_local_layer(1, 6, 6, 3, 4, 2, 1, 1),
        lambda: dn.make_local_layer(1, 6, 6, 3, 4, 7, 1, 0),
        lambda: dn.make_local_layer(1, 6, 6, 3, 2**30, 3, 1, 1),
        lambda: dn.make_deconvolutional_layer(1, 2, 2, 3, 4, 1, 1, 2),
        lambda: dn.make_deconvolutional_layer(1, 2, 2, 3, 2**30),
        lambda: dn.make_deconvolutional_layer(1, 2, 2, 3, 4, 3, 2**30),
    ],
)
def test_what_does_not_fit_is_refused(make):
    with pytest.raises(dn.ArgumentError, match="wanted|more than|would have"):
        make()


def test_summary_shows_filters_and_windows(tmp_path):
    path = tmp_path / "t.cfg"
    path.write_text(
        "[net]\nwidth=4\nheight=4\nchannels=2\n[deconv]\nfilters=5\nsize=2\nstride=2\n[local]\nfilters=3\nsize=3\npad=1\n"
    )
    text = dn.load_network(path).summary()
    assert "2x2/2" in text and "3x3/1" in text and "8 x 8 x 5" in text
