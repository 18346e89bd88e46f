"""[maxpool], [local_avgpool], [avgpool]: every gradient.  Loss of the gradient checks: random weights times the output."""

from __future__ import annotations

import numpy as np
import pytest
from gradcheck import SCALES, Case, check

import darknetpy as dn

WINDOWS = {
    "2x2": ("size=2 stride=2", (2, 4, 6)),
    "2x2 odd": ("size=2 stride=2", (2, 5, 7)),
    "2x2 no padding": ("size=2 stride=2 padding=0", (2, 5, 7)),
    "2x2 stride 1": ("size=2 stride=1", (2, 4, 5)),
    "3x3 stride 2": ("size=3 stride=2", (2, 5, 6)),
    "3x3 stride 1": ("size=3 stride=1", (2, 4, 3)),
    "5x5 on 3x3": ("size=5 stride=1", (2, 3, 3)),
    "13x13": ("size=13 stride=1", (1, 4, 4)),
    "size 1": ("size=1 stride=2", (2, 5, 4)),
    "stride beyond size": ("size=2 stride=3 padding=0", (2, 6, 8)),
    "padding 3": ("size=3 stride=2 padding=3", (2, 4, 5)),
    "stride_x": ("size=2 stride_x=2 stride_y=1", (2, 5, 5)),
    "stride_y": ("size=3 stride_x=1 stride_y=2", (2, 5, 4)),
    "1x1 map": ("size=2 stride=2", (3, 1, 1)),
    "2x2 row": ("size=2 stride=2", (2, 1, 5)),
    "2x2 column": ("size=2 stride=2", (2, 5, 1)),
}


def _cases():
    for kind in ("maxpool", "local_avgpool"):
        for name, (options, shape) in WINDOWS.items():
            yield Case(f"{kind} {name}", [f"{kind} {options}"], shape)
    for shape in ((3, 4, 5), (2, 1, 1), (1, 7, 1)):
        yield Case(f"avgpool {shape}", ["avgpool"], shape)
    yield Case(
        "pools keep the delta of others",
        [
            "convolutional filters=2 size=3 pad=1 activation=tanh",
            "maxpool size=3 stride=1",
            "route layers=0",
            "maxpool size=2 stride=1",
            "route layers=0",
            "local_avgpool size=3 stride=1",
            "route layers=0",
            "local_avgpool size=2 stride=1",
            "route layers=0,1,3,5,7",
        ],
        (2, 4, 4),
    )
    yield Case(
        "avgpool keeps the delta of others",
        [
            "convolutional filters=2 size=3 pad=1 activation=tanh",
            "avgpool",
            "route layers=0",
            "avgpool",
            "connected output=3 activation=tanh",
        ],
        (2, 3, 3),
    )


GRADIENT_CASES = list(_cases())


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("case", GRADIENT_CASES, ids=str)
def test_gradient(case, scale):
    check(case, scale)


def test_too_much_padding_is_refused():
    with pytest.raises(dn.DarknetError, match=r"padding=3: wanted less than 2 \* size - 1 = 3"):
        dn.make_maxpool_layer(1, 4, 4, 1, 2, 1, 3)


def test_output_sizes_are_darknets():
    """padding counts both sides together; unless given it is size - 1."""
    for size, stride, padding, side, wanted in (
        (2, 2, None, 5, 3),
        (2, 2, 0, 5, 2),
        (3, 2, None, 6, 3),
        (3, 1, None, 6, 6),
        (2, 1, None, 13, 13),
    ):
        l = dn.make_maxpool_layer(1, side, side, 1, size, stride, padding)
        assert (l.out_h, l.out_w) == (wanted, wanted)


def test_equal_values_go_to_the_first(rng):
    l = dn.make_maxpool_layer(1, 2, 2, 1, 2, 2, 0)
    net = dn.Network(train=True)
    net.input = np.full((1, 1, 2, 2), 3, np.float32)
    dn.forward_maxpool_layer(l, net)
    assert l.indexes.ravel().tolist() == [0] and l.output.ravel().tolist() == [3]


def test_inference_keeps_no_indexes(rng):
    """Without deltas the output is the same; the place of the maxima is not noted."""
    net = dn.Network(2, 5, 4, 3, train=False)
    net.add(dn.make_maxpool_layer(2, 4, 5, 3, 2, 2))
    x = rng.standard_normal((2, 3, 4, 5)).astype(np.float32)
    padded = np.pad(x, ((0, 0), (0, 0), (0, 0), (0, 1)), constant_values=-np.inf)
    wanted = padded.reshape(2, 3, 2, 2, 3, 2).max(axis=(3, 5))
    assert (net.predict(x) == wanted).all()


@pytest.mark.parametrize("size, side", [(2, 5), (3, 6), (3, 40), (5, 13), (9, 19), (9, 17)])
def test_windows_that_move_by_one(rng, size, side):
    """Each window's maximum, and of equal ones the first, wherever the image cuts the window."""
    x = rng.integers(0, 4, (2, 3, 7, side)).astype(np.float32)
    net, l = dn.Network(), dn.make_maxpool_layer(2, 7, side, 3, size, 1)
    net.input = x
    dn.forward_maxpool_layer(l, net)
    before = (size - 1) // 2
    for b, c, i, j in np.ndindex(l.output.shape):
        top, left = max(i - before, 0), max(j - before, 0)
        window = x[b, c, top : i - before + size, left : j - before + size]
        y, z = np.unravel_index(window.argmax(), window.shape)
        assert l.output[b, c, i, j] == window.max()
        assert l.indexes[b, c, i, j] == np.ravel_multi_index((b, c, top + y, left + z), x.shape)


@pytest.mark.parametrize("size, stride", [(2, 2), (3, 1)])
@pytest.mark.parametrize("place", range(4))
def test_maxpool_and_relu_keep_nan(rng, size, stride, place):
    """What is not a number must reach the loss, where it is noticed."""
    x = rng.standard_normal((1, 1, 6, 6)).astype(np.float32)
    x[0, 0, place // 2, place % 2] = np.nan
    pool, relu = dn.make_maxpool_layer(1, 6, 6, 1, size, stride), dn.make_activation_layer(1, 36, "relu")
    for layer, forward in ((pool, dn.forward_maxpool_layer), (relu, dn.forward_activation_layer)):
        for train in (True, False):
            net = dn.Network(train=train)
            net.input = x
            forward(layer, net)
            assert np.isnan(layer.output).any()
