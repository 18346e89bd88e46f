"""[connected]: every gradient.  Loss of the gradient checks: random weights times the output."""

from __future__ import annotations

import numpy as np
import pytest
from activations import ELEMENTWISE, MIXING
from gradcheck import SCALES, Case, check

import darknetpy as dn


def _cases():
    for a in ELEMENTWISE:
        yield Case(f"connected {a}", [f"connected output=4 activation={a}"], (5,), batch=3)
        for way, net in (("fused", ""), ("composed", "fused=0")):
            layer = [f"connected output=4 activation={a} batch_normalize=1"]
            yield Case(f"connected bn {a} {way}", layer, (5,), batch=4, net=net)
            yield Case(f"connected bn {a} {way} inference", layer, (5,), batch=3, net=net, train=False)
    for statistics in ("cumulative", "last", "frozen"):
        for way, net in (("fused", ""), ("composed", "fused=0")):
            layer = [f"connected output=4 activation=mish batch_normalize=1 statistics={statistics}"]
            yield Case(f"connected bn {statistics} {way}", layer, (5,), batch=4, net=net)
    yield Case("connected to an image", ["connected output=3 activation=tanh"], (2, 3, 2))
    yield Case("connected one by one", ["connected output=1 activation=linear"], (1,), batch=1)
    yield Case("connected 67 bn", ["connected output=67 activation=leaky batch_normalize=1"], (3,), batch=3)
    yield Case(
        "connected keeps the delta of others",
        [
            "connected output=3 activation=tanh",
            "connected output=3 activation=tanh",
            "route layers=0",
            "connected output=2 activation=tanh",
            "route layers=0,1,3",
        ],
        (4,),
        batch=3,
    )


GRADIENT_CASES = list(_cases())


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("case", GRADIENT_CASES, ids=str)
def test_gradient(case, scale):
    check(case, scale)


@pytest.mark.parametrize("activation", MIXING)
def test_refuses_activations_over_channels(activation):
    with pytest.raises(dn.ArgumentError, match="needs an image"):
        dn.make_connected_layer(2, 3, 4, activation)


def test_forward_is_the_matrix_product(rng):
    l = dn.make_connected_layer(3, 5, 4, "linear")
    l.weights[:] = rng.standard_normal((4, 5))
    l.biases[:] = rng.standard_normal(4)
    net = dn.Network(train=True)
    net.input = rng.standard_normal((3, 5)).astype(np.float32)
    dn.forward_connected_layer(l, net)
    wanted = net.input.astype(float) @ l.weights.T.astype(float) + l.biases
    np.testing.assert_allclose(l.output.reshape(3, 4), wanted, rtol=1e-5, atol=1e-6)
