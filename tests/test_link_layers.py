"""[route] and [shortcut]: every gradient, both forks' rules.  Loss of the gradient checks: random weights times the output."""

from __future__ import annotations

import pytest
from activations import ACTIVATIONS
from gradcheck import SCALES, Case, check

CONV = "convolutional filters={} size=3 pad=1 activation=tanh"
NETS = {"pj": "dialect=pjreddie", "ab": "dialect=alexeyab"}


def _route_cases():
    trunk = [CONV.format(4), CONV.format(2)]
    yield Case("route one", [*trunk, "route layers=0"], (2, 3, 4))
    yield Case("route several", [*trunk, "route layers=-1,0"], (2, 3, 4))
    yield Case("route twice", [*trunk, "route layers=0,0,1"], (2, 3, 4))
    yield Case("route groups", [*trunk, "route layers=0 groups=2 group_id=1"], (2, 3, 4))
    yield Case("route groups of several", [*trunk, "route layers=0,1 groups=2 group_id=0"], (2, 3, 4))
    yield Case(
        "route both groups",
        [
            *trunk,
            "route layers=0 groups=2 group_id=0",
            "route layers=0 groups=2 group_id=1",
            "route layers=-1,-2,1",
        ],
        (2, 3, 4),
    )
    yield Case(
        "route of a route", [*trunk, "route layers=0,1", "route layers=-1,0", "route layers=-1,-2"], (2, 3, 4)
    )
    yield Case(
        "route flat",
        ["connected output=4 activation=tanh", "connected output=2 activation=tanh", "route layers=0,1"],
        (3,),
        batch=3,
    )
    yield Case("route leaves a layer out", [*trunk, "route layers=0"], (2, 3, 4))
    yield Case(
        "route, many consumers",
        [
            CONV.format(3),
            CONV.format(3),
            "route layers=0",
            "activation activation=logistic",
            "route layers=0",
            "dropout probability=.3",
            "route layers=0",
            "upsample stride=2",
            "upsample stride=-2",
            "route layers=0",
            "crop crop_height=3 crop_width=4",
            "route layers=0,1,3,5,8,10",
        ],
        (2, 3, 4),
    )


def _unlike(first, then, options, dialect, name):
    return Case(
        f"shortcut {dialect} {name}",
        [*first, *then, f"shortcut from={len(first) - 1} {options}"],
        (2, 4, 4),
        net=NETS[dialect],
    )


def _shortcut_cases():
    same = [CONV.format(3)]
    for a in ACTIVATIONS:
        for dialect in NETS:
            yield _unlike(same, same, f"activation={a}", dialect, a)
    pool, up = "maxpool size=2 stride=2", "upsample stride=2"
    for dialect in NETS:
        yield _unlike([CONV.format(5)], same, "", dialect, "from more channels")
        yield _unlike([CONV.format(2)], same, "", dialect, "from fewer channels")
        yield _unlike(same, [CONV.format(2), pool], "", dialect, "from a larger map")
        yield _unlike(same, [CONV.format(5), up], "", dialect, "from a smaller map")
        yield _unlike(
            [CONV.format(2)],
            [CONV.format(4), pool, CONV.format(3)],
            "",
            dialect,
            "from a larger map of fewer channels",
        )
        yield _unlike(same, [CONV.format(3)], "activation=leaky", dialect, "leaky once more")
        yield Case(
            f"shortcut {dialect} of itself",
            [CONV.format(3), "shortcut from=-1"],
            (2, 4, 4),
            net=NETS[dialect],
        )
        yield Case(
            f"shortcut {dialect} chain",
            [
                CONV.format(3),
                CONV.format(3),
                "shortcut from=0 activation=tanh",
                CONV.format(3),
                "shortcut from=-2 activation=tanh",
                "shortcut from=0",
            ],
            (2, 3, 4),
            net=NETS[dialect],
        )
    for name, first, then in (
        ("same", same, same),
        ("fewer", [CONV.format(2)], same),
        ("larger map", same, [CONV.format(2), pool]),
        ("smaller map", same, [CONV.format(4), up]),
    ):
        yield _unlike(first, then, "alpha=.7 beta=-.4", "pj", f"alpha beta {name}")
    yield Case(
        "shortcut ab several",
        [CONV.format(3), CONV.format(3), CONV.format(3), "shortcut from=-2,-3 activation=swish"],
        (2, 4, 4),
        net=NETS["ab"],
    )
    yield Case(
        "shortcut ab several of other channels",
        [CONV.format(4), CONV.format(2), CONV.format(3), "shortcut from=0,1"],
        (2, 4, 4),
        net=NETS["ab"],
    )
    yield Case(
        "shortcut 5x5 to 2x2",
        [CONV.format(2), "maxpool size=2 stride=2 padding=0", "shortcut from=0"],
        (2, 5, 5),
        net=NETS["pj"],
    )


GRADIENT_CASES = [*_route_cases(), *_shortcut_cases()]


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("case", GRADIENT_CASES, ids=str)
def test_gradient(case, scale):
    check(case, scale)
