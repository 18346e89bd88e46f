"""[activation], [dropout], [crop], [upsample]: values and every gradient.  Loss of the gradient checks: random weights times the output."""

from __future__ import annotations

import pytest
from activations import ACTIVATIONS, ELEMENTWISE
from gradcheck import SCALES, Case, check


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
