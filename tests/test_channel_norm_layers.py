"""[normalization] and [l2norm]: values and every gradient."""

from __future__ import annotations

import numpy as np
import pytest
from gradcheck import SCALES, Case, check

import darknetpy as dn

WINDOWS = {  # size, channels
    "usual": (5, 7),
    "even": (4, 6),
    "one": (1, 3),
    "one channel": (3, 1),
    "wide": (9, 3),
    "as many": (4, 2),
    "two": (2, 4),
}


def _cases():
    for name, (size, channels) in WINDOWS.items():
        yield Case(
            f"normalization {name}", [f"normalization size={size} alpha=.3 beta=.6 kappa=3"], (channels, 2, 3)
        )
        yield Case(f"lrn {name}", [f"lrn size={size} alpha=.2 kappa=4"], (channels, 2, 2))
    yield Case("normalization defaults", ["normalization"], (6, 2, 2))
    for shape in ((4, 2, 3), (2, 1, 2), (5,)):
        yield Case(f"l2norm {shape}", ["l2norm"], shape)
    yield Case(
        "norms keep the delta of others",
        [
            "convolutional filters=3 size=3 pad=1 activation=tanh",
            "lrn alpha=.3 kappa=2 size=3",
            "route layers=0",
            "l2norm",
            "route layers=0,1,3",
        ],
        (2, 3, 3),
    )


GRADIENT_CASES = list(_cases())


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("case", GRADIENT_CASES, ids=str)
def test_gradient(case, scale):
    check(case, scale)


def output(layer, x, train=False):
    net = dn.Network(train=train)
    net.input = x
    dn.forward_layer(layer, net)
    return layer.output


@pytest.mark.parametrize("size, channels", WINDOWS.values())
def test_lrn_is_darknets_running_sum(size, channels, rng):
    """The sum of a window runs on from the one before it; channel size / 2 is never added, yet subtracted."""
    x = rng.standard_normal((2, channels, 3, 4)).astype(np.float32)
    square, norm = x.astype(float) ** 2, np.zeros(x.shape)
    norm[:, 0] = 2 + 0.1 * square[:, : size // 2].sum(axis=1)
    for k in range(1, channels):
        norm[:, k] = norm[:, k - 1]
        before, behind = k - (size - 1) // 2 - 1, k + size // 2
        if before >= 0:
            norm[:, k] -= 0.1 * square[:, before]
        if behind < channels:
            norm[:, k] += 0.1 * square[:, behind]
    for beta in (0.75, 0.4):
        layer = dn.make_normalization_layer(2, 4, 3, channels, size, 0.1, beta, 2)
        np.testing.assert_allclose(output(layer, x), x * norm**-beta, rtol=2e-6)


def test_l2norm_gives_length_one_and_keeps_zeros(rng):
    x = rng.standard_normal((2, 5, 2, 300)).astype(np.float32)
    x[1, :, 1, 7] = 0
    y = output(dn.make_l2norm_layer(2, 3000, w=300, h=2, c=5), x)
    length = np.sqrt((y.astype(float) ** 2).sum(axis=1))
    assert length[1, 1, 7] == 0
    length[1, 1, 7] = 1
    np.testing.assert_allclose(length, 1, rtol=1e-6)


@pytest.mark.parametrize("size", [0, -1])
def test_lrn_needs_a_window(size):
    with pytest.raises(dn.ArgumentError, match="size"):
        dn.make_normalization_layer(1, 2, 2, 3, size)
