"""[groupnorm] and [layernorm]: every gradient.  Loss of the gradient checks: random weights times the output."""

from __future__ import annotations

import pytest
from gradcheck import SCALES, Case, check


def _cases():
    for line, shape in (
        ("groupnorm", (6, 3, 4)),
        ("groupnorm groups=3", (6, 2, 3)),
        ("groupnorm groups=6", (6, 2, 2)),
        ("groupnorm groups=4", (12, 1, 1)),
        ("groupnorm", (10,)),
        ("layernorm", (3, 4, 5)),
        ("layernorm", (7, 1, 1)),
        ("layernorm", (9,)),
    ):
        for train in (True, False):
            name = f"{line} {'x'.join(map(str, shape))}{'' if train else ' inference'}"
            yield Case(name, [line], shape, batch=3, train=train)
    yield Case("groupnorm batch 1", ["groupnorm groups=2"], (4, 3, 3), batch=1)
    yield Case(
        "group and layer normalization keep the delta of others",
        [
            "convolutional filters=4 size=1 activation=tanh",
            "groupnorm groups=2",
            "route layers=0",
            "layernorm",
            "route layers=0,1,3",
        ],
        (2, 3, 2),
    )


GRADIENT_CASES = list(_cases())


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("case", GRADIENT_CASES, ids=str)
def test_gradient(case, scale):
    check(case, scale)
