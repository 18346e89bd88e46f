"""[softmax], [logistic], [cost]: values and every gradient.

Loss of the gradient checks: what a layer prints as its loss, except [cost] sse, masked, seg and smooth: half of it (Darknet's
convention, delta = truth - x).  [cost] scale multiplies it.  The truths of a softmax sum to 1 in each of its sets: Darknet's delta,
truth - output, is the gradient then.
"""

from __future__ import annotations

import os

import numpy as np
import pytest
from gradcheck import SCALES, Case, check

import darknetpy as dn

TREE = os.path.join(os.path.dirname(__file__), "golden", "micro", "ab-softmax_tree", "t.tree")


def _softmax_cases():
    for options, sets in (
        ("", [6]),
        ("groups=3", [2, 2, 2]),
        ("temperature=2.5", [6]),
        ("groups=2 temperature=.5", [3, 3]),
    ):
        yield Case(f"softmax {options}", [f"softmax {options}"], (6,), batch=3, truth=sets)
        yield Case(f"softmax without truth {options}", [f"softmax noloss=1 {options}"], (6,), batch=3)
    yield Case("softmax labels", ["softmax"], (6,), batch=4, truth="labels")
    yield Case("softmax image", ["softmax"], (3, 2, 2), truth="probabilities")
    yield Case("softmax one value", ["softmax noloss=1"], (1,))
    sets = [3, 2, 3]  # siblings of TREE
    yield Case("softmax tree", [f"softmax tree={TREE}"], (8,), truth=sets)
    yield Case("softmax tree temperature", [f"softmax tree={TREE} temperature=1.5"], (8,), truth=sets)
    yield Case("softmax tree noloss", [f"softmax noloss=1 tree={TREE}"], (8,))
    yield Case("softmax and cost", ["softmax temperature=2", "cost"], (5,), batch=3, truth="probabilities")
    yield Case(
        "softmax noloss and cost",
        ["softmax noloss=1 groups=2", "cost type=sse"],
        (6,),
        batch=3,
        truth="probabilities",
    )
    yield Case(
        "softmax, then more",
        ["softmax", "connected output=5 activation=tanh", "cost"],
        (5,),
        batch=3,
        truth="probabilities",
    )
    yield Case(
        "softmax keeps the delta of others",
        [
            "connected output=4 activation=tanh",
            "softmax noloss=1",
            "route layers=0",
            "softmax noloss=1 temperature=3",
            "route layers=1,3",
        ],
        (3,),
        batch=3,
    )


def _logistic_cases():
    for truth in ("bits", "probabilities"):
        yield Case(f"logistic {truth}", ["logistic"], (5,), batch=3, truth=truth, spread=3)
    yield Case("logistic and cost", ["logistic", "cost"], (5,), batch=3, truth="bits")
    yield Case("logistic image", ["logistic"], (2, 2, 2), truth="bits")
    yield Case(
        "logistic, then more",
        ["logistic", "connected output=4 activation=logistic", "logistic"],
        (4,),
        batch=3,
        truth="bits",
    )
    yield Case(
        "logistic keeps the delta of others",
        ["connected output=4 activation=tanh", "logistic", "route layers=0", "cost"],
        (3,),
        batch=3,
        truth="bits",
    )


def _cost_cases():
    truths = {"masked": "masked", "seg": "holes", "wgan": "bits"}
    for kind in ("sse", "masked", "L1", "smooth", "seg", "wgan"):
        for options in ("", "scale=.25"):
            yield Case(
                f"cost {kind} {options}",
                [f"cost type={kind} {options}"],
                (7,),
                batch=3,
                truth=truths.get(kind, "random"),
                spread=1.0,
            )
    yield Case("cost seg noobj", ["cost type=seg noobj=.3"], (7,), batch=3, truth="holes")
    yield Case(
        "cost after conv",
        ["convolutional filters=3 size=3 pad=1 activation=tanh", "cost type=smooth"],
        (2, 3, 3),
        truth="random",
    )
    yield Case(
        "two costs",
        [
            "connected output=4 activation=tanh",
            "cost",
            "route layers=0",
            "connected output=4 activation=tanh",
            "cost type=sse scale=2",
        ],
        (3,),
        batch=3,
    )


GRADIENT_CASES = [*_softmax_cases(), *_logistic_cases(), *_cost_cases()]


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("case", GRADIENT_CASES, ids=str)
def test_gradient(case, scale):
    check(case, scale)


# ---- the printed losses, from their definitions
def _run(layer, x, truth):
    net = dn.Network(train=True)
    net.input, net.truth = x, truth
    dn.forward_layer(layer, net)
    return layer


def _cost(kind, x, t):
    d = t.astype(float) - x
    loss = {
        "sse": d**2,
        "masked": np.where(t == -1234, 0, d**2),
        "L1": np.abs(d),
        "smooth": np.where(np.abs(d) < 1, d**2, 2 * np.abs(d) - 1),
        "seg": np.where(t == 0, 0.3, 1) * d**2,
        "wgan": np.where(t == 0, x, -x.astype(float)),
    }[kind]
    return loss


@pytest.mark.parametrize("kind", ["sse", "masked", "L1", "smooth", "seg", "wgan"])
def test_cost(rng, kind):
    x = (2 * rng.standard_normal((3, 6))).astype(np.float32)
    t = rng.integers(-1, 2, (3, 6)).astype(np.float32)
    t[0, 0], t[1, 1] = (-1234, -1234) if kind == "masked" else (0, 1)
    t = np.abs(t) if kind == "wgan" else t
    l = _run(dn.make_cost_layer(3, 6, kind, noobj=0.3), x, t)
    np.testing.assert_allclose(l.output, _cost(kind, x, t), rtol=1e-5, atol=1e-6)
    assert l.cost == pytest.approx(_cost(kind, x, t).sum(), rel=1e-6)


def test_softmax_and_its_loss(rng):
    x, t = rng.standard_normal((3, 6)).astype(np.float32), np.eye(6, dtype=np.float32)[[1, 5, 0]]
    e = np.exp(x.astype(float) / 2)
    p = e / e.sum(axis=1, keepdims=True)
    l = _run(dn.make_softmax_layer(3, 6, temperature=2.0), x, t)
    np.testing.assert_allclose(l.output, p, rtol=1e-5, atol=1e-6)
    assert l.cost == pytest.approx(-np.sum(t * np.log(p)), rel=1e-6)
    np.testing.assert_allclose(l.delta, (t - p) / 2, rtol=1e-5, atol=1e-6)


def test_softmax_bears_large_inputs():
    x = np.array([[1e4, -1e4, 0]], np.float32)
    l = _run(dn.make_softmax_layer(1, 3), x, np.array([[0, 1, 0]], np.float32))
    assert l.output.tolist() == [[1, 0, 0]] and np.isfinite(l.cost) and l.delta.tolist() == [[-1, 1, 0]]


def test_logistic_bears_large_inputs():
    x = np.array([[1e4, -1e4, 200, -3]], np.float32)
    l = _run(dn.make_logistic_layer(1, 4), x, np.array([[0, 1, 1, 0]], np.float32))
    assert l.cost == pytest.approx(2e4 + np.log1p(np.exp(-3)), rel=1e-6)


@pytest.mark.parametrize(
    "make",
    [
        lambda: dn.make_cost_layer(2, 3),
        lambda: dn.make_softmax_layer(2, 3),
        lambda: dn.make_logistic_layer(2, 3),
    ],
)
def test_without_truth_there_is_no_loss(rng, make):
    l = _run(make(), rng.standard_normal((2, 3)).astype(np.float32), None)
    assert l.cost == 0
    assert l.type != "cost" or (l.output == 0).all()
