"""[activation], [dropout], [crop], [upsample]: values and every gradient.  Loss of the gradient checks: random weights times the output."""

from __future__ import annotations

import numpy as np
import pytest
from activations import ACTIVATIONS, ELEMENTWISE
from gradcheck import SCALES, Case, check

import darknetpy as dn


def _cases():
    for a in ACTIVATIONS:
        yield Case(f"activation {a}", [f"activation activation={a}"], (3, 3, 4))
        yield Case(
            f"activation {a} wide", [f"activation activation={a}"], (3, 3, 4), spread=4.0
        )  # reaches every branch
    for a in ELEMENTWISE:
        yield Case(f"activation {a} flat", [f"activation activation={a}"], (11,))
    for p in (0, 0.25, 0.9):
        yield Case(f"dropout {p}", [f"dropout probability={p}"], (2, 3, 3))
        yield Case(f"dropout {p} flat", [f"dropout probability={p}"], (7,), batch=3)
    yield Case("dropout inference", ["dropout probability=.5"], (7,), batch=3, train=False)
    for options in ("", "flip=1", "noadjust=1", "flip=1 noadjust=1"):
        for seed in (0, 1, 2):
            yield Case(
                f"crop {options} {seed}",
                [f"crop crop_height=3 crop_width=2 {options}"],
                (2, 5, 4),
                net=f"seed={seed}",
            )
    yield Case("crop inference", ["crop crop_height=3 crop_width=2 flip=1"], (2, 5, 5), train=False)
    yield Case("crop whole", ["crop crop_height=4 crop_width=3"], (2, 4, 3))
    for options, shape in (
        ("stride=2", (2, 3, 2)),
        ("stride=3 scale=.5", (2, 2, 2)),
        ("stride=1 scale=2", (2, 2, 3)),
        ("stride=-2", (2, 4, 6)),
        ("stride=-3 scale=.1", (2, 3, 6)),
    ):
        yield Case(f"upsample {options}", [f"upsample {options}"], shape)
    conv = "convolutional filters=3 size=3 pad=1 activation=tanh"
    yield Case(
        "simple layers keep the delta of others",
        [
            conv,
            "activation activation=mish",
            "route layers=0",
            "dropout probability=.4",
            "route layers=0",
            "upsample stride=-2 scale=.3",
            "upsample stride=2",
            "route layers=0",
            "crop crop_height=4 crop_width=4 noadjust=1",
            "route layers=0",
            "activation activation=normalize_channels_softmax",
            "route layers=0,1,3,6,8,10",
        ],
        (2, 4, 4),
    )


GRADIENT_CASES = list(_cases())


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("case", GRADIENT_CASES, ids=str)
def test_gradient(case, scale):
    check(case, scale)


# ---- e^x and tanh x of csrc/elementary.h


@pytest.mark.parametrize(
    "a, exact",
    [
        ("logistic", lambda x: 1 / (1 + np.exp(-x))),
        ("tanh", np.tanh),
        ("swish", lambda x: x / (1 + np.exp(-x))),
        ("mish", lambda x: x * np.tanh(np.logaddexp(0, x))),
    ],
)
def test_exponentials_everywhere(a, exact):
    """Within 4 units of the last digit wherever e^x is a whole float; NaN and what lies beyond as they should be."""
    x = np.concatenate([np.linspace(-87, 110, 200001), np.linspace(-1, 1, 20001), np.logspace(-37, 0, 2001)])
    x = x.astype(np.float32)
    y, wanted = x.copy(), exact(x.astype(float))
    dn.kernels.activate_array(y, len(y), a)
    assert (np.abs(y - wanted) <= 4 * np.spacing(np.abs(wanted).astype(np.float32))).all()
    ends = np.array([np.nan, 2.0**100, -200, 0], np.float32)
    dn.kernels.activate_array(ends, len(ends), a)
    assert np.isnan(ends[0]) and ends[1] == exact(2.0**100) and abs(ends[2] - exact(-200.0)) < 1e-36
    assert ends[3] == exact(0.0)


def test_softmax_of_far_values():
    x = np.array([[1000.0, 999.0, 0.0, -1000.0]], np.float32)
    y = np.empty_like(x)
    dn.kernels.softmax_cpu(x, 4, 1, 4, 1, 4, 1, 1.0, y)
    np.testing.assert_allclose(y[0, :2], 1 / (1 + np.exp([-1.0, 1.0])), rtol=1e-6)
    assert (y[0, 2:] == 0).all()


def test_softmax_of_many_strided_sets():
    """Sets that lie between one another: the sizes multiply to more than 2^31, the values do not."""
    n, batch, groups, stride = 8, 40, 2704, 2704
    x = np.zeros((batch, n, stride), np.float32)
    dn.kernels.softmax_cpu(x, n, batch, n * stride, groups, 1, stride, 1.0, x)
    assert n * batch * groups * stride > 2**31 and (x == 1 / n).all()
