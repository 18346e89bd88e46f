"""normalize= in [convolutional] and [connected]: every gradient, of each kind, before and after activation.

Batch normalization before the activation, with every activation: test_convolutional_layer.py and
test_connected_layer.py.
"""

from __future__ import annotations

import pytest
from gradcheck import SCALES, Case, check

KINDS = ("normalize=batch", "normalize=group norm_groups=2", "normalize=layer", "normalize=instance")
# One whose output tells the slope, one whose input is needed, one that mixes the channels.
ACTIVATIONS = ("tanh", "mish", "normalize_channels_softmax")
LAYERS = (("convolutional filters=4 size=2", (2, 3, 4)), ("connected output=8", (5,)))
PLACES = {"before": "", "after": " normalize_after_activation=1"}


def _layers():
    """Yield (title, line, shape) of each layer with each kind in each place."""
    for base, shape in LAYERS:
        for kind in KINDS if len(shape) == 3 else KINDS[:3]:  # instances of [connected] are single values
            for place, option in PLACES.items():
                for a in ACTIVATIONS if len(shape) == 3 else ACTIVATIONS[:2]:
                    if kind != "normalize=batch" or place == "after":
                        line = f"{base} activation={a} {kind}{option}"
                        yield f"{base.split()[0]} {kind.replace('normalize=', '')} {place} {a}", line, shape


def _cases():
    for title, line, shape in _layers():
        for train in (True, False):
            for way, net in (
                (("fused", ""), ("composed", "fused=0")) if "normalize=batch" in line else (("", ""),)
            ):
                name = f"{title}{way and ' '}{way}{'' if train else ' inference'}"
                yield Case(name, [line], shape, batch=3, net=net, train=train)
    for base, shape in LAYERS:
        for train in (True, False):
            line = f"{base} activation=mish normalize=batch normalize_after_activation=1"
            name = f"{base.split()[0]} batch after with x_norm{'' if train else ' inference'}"
            yield Case(name, [line], shape, batch=3, train=train, keep_x_norm=True)
        for way, net in (("fused", ""), ("composed", "fused=0")):
            line = f"{base} activation=tanh normalize=batch normalize_after_activation=1 statistics=frozen"
            yield Case(f"{base.split()[0]} frozen after {way}", [line], shape, batch=3, net=net)
    for kind in KINDS[1:]:
        yield Case(f"{kind} batch 1", [f"{LAYERS[0][0]} activation=tanh {kind}"], (2, 3, 4), batch=1)
    yield Case(
        "group of most channels",
        ["convolutional filters=6 size=1 activation=swish normalize=group"],
        (3, 2, 2),
    )
    for base, shape in LAYERS:
        base = base.replace("size=2", "size=1")
        for place, option in PLACES.items():
            layers = [f"{base} activation=tanh"]
            for kind in KINDS if len(shape) == 3 else KINDS[:3]:
                layers += [f"{base} activation=swish {kind}{option}", "route layers=0"]
            everybody = ",".join(str(i) for i in [0, *range(1, len(layers), 2)])
            layers[-1] = f"route layers={everybody}"
            name = f"{base.split()[0]}: normalization {place} keeps the delta of others"
            yield Case(name, layers, shape)


GRADIENT_CASES = list(_cases())


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("case", GRADIENT_CASES, ids=str)
def test_gradient(case, scale):
    check(case, scale)
