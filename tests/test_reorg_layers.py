"""[reorg], [reorg3d], [empty]: where each value goes, and every gradient."""

from __future__ import annotations

import numpy as np
import pytest
from gradcheck import SCALES, Case, check

import darknetpy as dn

REORGS = {  # options of [reorg] and the input's shape
    "stride=2": (4, 4, 6),
    "stride=2 reverse=1": (8, 3, 2),
    "stride=3": (9, 3, 6),
    "stride=1": (3, 2, 2),
    "stride=1 flatten=1": (3, 2, 4),
    "stride=2 flatten=1": (3, 2, 4),
    "stride=2 flatten=1 reverse=1": (8, 3, 2),
    "extra=5": (3, 2, 4),
}
REORG3DS = {
    "stride=2": (3, 4, 6),
    "stride=2 reverse=1": (8, 3, 2),
    "stride=3": (1, 3, 6),
    "stride=1": (3, 2, 2),
}


def _cases():
    conv = "convolutional filters=4 size=3 pad=1 activation=tanh"
    for kind, options in (("reorg", REORGS), ("reorg3d", REORG3DS)):
        for text, shape in options.items():
            yield Case(f"{kind} {text}", [f"{kind} {text}"], shape)
    yield Case("empty", ["empty"], (2, 3, 4))
    yield Case("empty flat", ["silence"], (7,))
    yield Case(
        "reorgs keep the delta of others",
        [
            conv,
            "reorg stride=2",
            "reorg stride=2 reverse=1",
            "route layers=0",
            "reorg3d stride=2",
            "reorg3d stride=2 reverse=1",
            "route layers=0",
            "empty",
            "route layers=0",
            "reorg flatten=1",
            "reorg flatten=1 reverse=1",
            "route layers=0,2,5,7,10",
            "reorg extra=3",
            "connected output=2",
        ],
        (2, 4, 2),
    )


GRADIENT_CASES = list(_cases())


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("case", GRADIENT_CASES, ids=str)
def test_gradient(case, scale):
    check(case, scale)


def moved(layer, x):
    net = dn.Network()
    net.input = x
    dn.forward_layer(layer, net)
    return layer.output


def test_reorg3d_is_space_to_depth(rng):
    x = rng.standard_normal((2, 3, 4, 6)).astype(np.float32)
    deep = moved(dn.make_reorg3d_layer(2, 6, 4, 3, 2), x)
    wanted = x.reshape(2, 3, 2, 2, 3, 2).transpose(0, 3, 5, 1, 2, 4).reshape(2, 12, 2, 3)
    assert (deep == wanted).all()
    assert (moved(dn.make_reorg3d_layer(2, 3, 2, 12, 2, 1), deep.copy()) == x).all()


def test_reorg_takes_the_map_for_a_larger_one(rng):
    """Darknet's [reorg] is space to depth of the same values in the order of a map (c / 4, 2 h, 2 w)."""
    x = rng.standard_normal((2, 8, 4, 6)).astype(np.float32)
    wide = dn.make_reorg3d_layer(2, 12, 8, 2, 2)
    ours = moved(dn.make_reorg_layer(2, 6, 4, 8, 2), x)
    assert ours.shape == (2, 32, 2, 3) and (ours.ravel() == moved(wide, x.reshape(2, 2, 8, 12)).ravel()).all()
    assert (moved(dn.make_reorg_layer(2, 3, 2, 32, 2, 1), ours.copy()).shape) == (2, 8, 4, 6)


def test_flatten_puts_channels_last(rng):
    x = rng.standard_normal((2, 3, 4, 5)).astype(np.float32)
    last = moved(dn.make_reorg_layer(2, 5, 4, 3, flatten=1), x)
    assert (last.ravel() == x.transpose(0, 2, 3, 1).ravel()).all()
    assert (moved(dn.make_reorg_layer(2, 5, 4, 3, flatten=1, reverse=1), last.copy()) == x).all()


def test_extra_appends_zeros(rng):
    x = rng.standard_normal((2, 3, 2, 2)).astype(np.float32)
    longer = moved(dn.make_reorg_layer(2, 2, 2, 3, extra=4), x)
    assert longer.shape == (2, 16) and (longer[:, :12] == x.reshape(2, 12)).all() and not longer[:, 12:].any()


@pytest.mark.parametrize(
    "make",
    [
        lambda: dn.make_reorg_layer(1, 5, 4, 4, 2),
        lambda: dn.make_reorg_layer(1, 4, 4, 3, 2),
        lambda: dn.make_reorg_layer(1, 4, 4, 3, 2, reverse=1),
        lambda: dn.make_reorg_layer(1, 4, 4, 4, 0),
        lambda: dn.make_reorg_layer(1, 4, 4, 4, flatten=1, extra=2),
        lambda: dn.make_reorg_layer(1, 4, 4, 4, extra=-1),
        lambda: dn.make_reorg_layer(1, 4, 4, 4, extra=2**31 - 60),
        lambda: dn.make_reorg3d_layer(1, 4, 5, 4, 2),
        lambda: dn.make_reorg3d_layer(1, 4, 4, 2, 2, reverse=1),
    ],
)
def test_what_does_not_fit_is_refused(make):
    with pytest.raises(dn.ArgumentError, match="wanted|more than"):
        make()
