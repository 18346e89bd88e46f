"""A convolution whose only reader is a [maxpool] writes the pooled map at once where activations share memory
(memory_plan.c): no bit changes, and the map itself has no place.  In training the normalization does so, in inference the convolution.
"""

from __future__ import annotations

import numpy as np
import pytest
from gradcheck import SCALES, Case, build, check, randomize

import darknetpy as dn
from darknetpy.core import core
from darknetpy.memory_summary import memory_totals

CHEAP = ("linear", "relu", "relu6", "leaky", "ramp", "relie", "lhtan", "hardtan", "stair", "plse")
SIZES = [(28, 28), (7, 9), (13, 6), (64, 66), (130, 31), (2, 1), (1, 5), (4, 2050)]
BATCH = 3
BEHIND = ["convolutional filters=4 size=1 batch_normalize=1 activation=linear", "avgpool", "softmax"]


def _layers(activation="leaky", filters=5, pool="size=2 stride=2", behind=BEHIND):
    convolution = f"convolutional filters={filters} size=3 pad=1 batch_normalize=1 activation={activation}"
    return [convolution, f"maxpool {pool}", *behind]


def _network(layers, size, keep):
    net = build(layers, (2, *size), BATCH, "learning_rate=.05", True, core, keep_activations=keep)
    randomize(net, np.random.default_rng(0))
    return net


def _arena(layers, size):
    return memory_totals(_network(layers, size, False))["arena"]


def _bits_after_training(layers, size, keep, steps=2):
    """Return the losses, then all parameters, statistics and updates."""
    net, rng = _network(layers, size, keep), np.random.default_rng(1)
    x = rng.standard_normal((BATCH, net.inputs), np.float32)
    y = rng.integers(0, net.truths, BATCH)
    losses = [net.train_batch(x, y) for _ in range(steps)]
    arrays = [a.tobytes() for layer in net.layers for a in layer.arrays("parameter", "statistic", "update").values()]
    return losses, arrays, net.predict(x).tobytes()


@pytest.mark.parametrize("activation", CHEAP)
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_no_bit_changes(activation, size):
    for pool in ("size=2 stride=2", "size=2 stride=2 padding=0", "size=3 stride=3"):
        if "padding=0" in pool and min(size) < 2:
            continue
        for filters in (3, 20):     # few channels are cut into parts, small ones go together
            layers = _layers(activation, filters, pool)
            assert _bits_after_training(layers, size, True) == _bits_after_training(layers, size, False)


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_threads_change_no_bit(size, threads):
    found = []
    for number in (1, 2, 5):
        threads(number)
        found.append(_bits_after_training(_layers(), size, False))
    assert found[0] == found[1] == found[2]


def test_the_map_has_no_place():
    """Behind a dearer activation, or with a second reader, all is kept: the map, the indexes and the map's delta meet."""
    size, values = (64, 64), BATCH * 5 * 64 * 64
    whole = _arena(_layers("logistic"), size)
    assert whole - _arena(_layers("leaky"), size) >= 4 * values
    twice = _layers(behind=["route layers=0", "maxpool size=2 stride=2", "route layers=-1,-3", *BEHIND])
    assert _arena(twice, size) >= 2 * 4 * values
    assert _bits_after_training(twice, size, True) == _bits_after_training(twice, size, False)


# ---- inference
def _inference(layers, shape, keep, batch=1, net=""):
    made = build(layers, shape, batch, net, False, core, keep_activations=keep)
    randomize(made, np.random.default_rng(0))
    return made


CONVOLUTION = "convolutional filters=32 size=3 pad=1 activation=leaky"
INFERRED = {  # channels and sides, the convolution, and whether it pools
    "image": ((3, 26, 48), "convolutional filters=16 size=3 pad=1 batch_normalize=1 activation=leaky", True),
    "tiles": ((32, 12, 14), f"{CONVOLUTION} batch_normalize=1", True),
    "relu": ((32, 12, 14), "convolutional filters=32 size=3 pad=1 activation=relu", True),
    "linear": ((32, 12, 14), "convolutional filters=32 size=3 pad=1 activation=linear", True),
    "by two": ((32, 40, 36), f"{CONVOLUTION} stride=2 batch_normalize=1", True),
    "shares": ((64, 12, 12), "convolutional filters=256 size=3 pad=1 batch_normalize=1 activation=leaky", True),
    "odd": ((32, 13, 14), f"{CONVOLUTION} batch_normalize=1", False),
    "1x1": ((32, 12, 14), "convolutional filters=32 size=1 activation=leaky", False),
    "mish": ((32, 12, 14), "convolutional filters=32 size=3 pad=1 activation=mish", False),
    "group": ((32, 12, 14), f"{CONVOLUTION} normalize=group", False),
    "after": ((32, 12, 14), f"{CONVOLUTION} normalize=batch normalize_after_activation=1", False),
    "xnor": ((32, 12, 14), f"{CONVOLUTION} batch_normalize=1 xnor=1", False),
}


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize(("shape", "convolution", "pools"), INFERRED.values(), ids=INFERRED)
def test_no_bit_of_inference_changes(shape, convolution, pools, batch, threads, rng):
    layers = [convolution, "maxpool size=2 stride=2", "upsample stride=1", "avgpool"]
    kept, shared = (_inference(layers, shape, keep, batch) for keep in (True, False))
    assert (memory_totals(shared)["arena"] < kept.layers[0].output.nbytes) == pools  # else the map lies there
    x = rng.standard_normal((batch, kept.inputs), np.float32)
    wanted = kept.predict(x)
    for number in (1, 2, 3):
        threads(number)
        np.testing.assert_array_equal(shared.predict(x), wanted)
        np.testing.assert_array_equal(shared.predict(x), wanted)  # with weights that are kept


@pytest.mark.parametrize("name", ["image", "tiles"])
def test_what_is_not_a_number_is_not_lost(name, threads):
    """Wherever in a window it stands, as in the pool alone: NaN is the largest."""
    shape, convolution, _ = INFERRED[name]
    kept, shared = (_inference([convolution, "maxpool size=2 stride=2", "upsample stride=1"], shape, keep) for keep in (True, False))
    for place in range(4 * shape[2] + 3, 4 * shape[2] + 9):
        x = np.random.default_rng(1).standard_normal((1, kept.inputs), np.float32)
        x[0, place] = np.nan
        np.testing.assert_array_equal(shared.predict(x), kept.predict(x))


def test_statistics_are_recomputed_where_nothing_keeps_the_map(rng):
    layers = [INFERRED["tiles"][1], "maxpool size=2 stride=2", INFERRED["tiles"][1], "avgpool"]
    batches, found = rng.standard_normal((4, 2, 32 * 12 * 14), np.float32), []
    for keep in (True, False):
        net = _inference(layers, (32, 12, 14), keep, 2)
        net.recompute_statistics(list(batches))
        found.append((net.predict(batches[0]).tobytes(), net.layers[0].rolling_variance.tobytes(),
                      net.layers[2].rolling_mean.tobytes()))
    assert found[0] == found[1]


@pytest.mark.parametrize("pool", ["size=2 stride=1", "size=3 stride=2", "size=2 stride=2 antialiasing=1"])
def test_other_windows_are_left_to_their_layer(pool):
    layers = _layers(pool=pool)
    dialect = {"dialect": "alexeyab"} if "antialiasing" in pool else {}
    nets = [build(layers, (2, 12, 12), BATCH, "", True, core, keep_activations=keep, **dialect) for keep in (True, False)]
    x, y = np.random.default_rng(1).standard_normal((BATCH, 288), np.float32), np.zeros(BATCH, int)
    for net in nets:
        randomize(net, np.random.default_rng(0))
    assert nets[0].train_batch(x, y) == nets[1].train_batch(x, y)


def test_a_resized_network_decides_anew():
    """Windows as wide as 2050 values of an image do not fit in a stretch, those of 20 do."""
    nets = [_network(_layers(), (4, 2050), keep) for keep in (True, False)]
    for w, h in ((20, 6), (2050, 4), (9, 9)):
        for net in nets:
            net.resize(w, h)
        x = np.random.default_rng(1).standard_normal((BATCH, nets[0].inputs), np.float32)
        assert nets[0].train_batch(x, np.zeros(BATCH, int)) == nets[1].train_batch(x, np.zeros(BATCH, int))


def test_what_is_not_finite_is_still_named():
    net = _network(_layers(), (8, 8), False)
    net.layers[0].weights[0] = np.nan
    with pytest.raises(dn.DarknetError, match=r"not finite is layer 0 \[convolutional\]"):
        net.train_batch(np.ones((BATCH, net.inputs), np.float32), np.zeros(BATCH, int))


GRADIENT_CASES = [
    Case(f"convolutional {activation}, pooled", [
        f"convolutional filters=3 size=3 pad=1 batch_normalize=1 activation={activation}", f"maxpool {pool}",
        "convolutional filters=2 size=1 activation=tanh"], shape)
    for activation, pool, shape in (("leaky", "size=2 stride=2", (2, 5, 7)), ("relu", "size=2 stride=2 padding=0", (2, 5, 6)),
                                    ("linear", "size=3 stride=3", (2, 7, 6)))
]


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("case", GRADIENT_CASES, ids=str)
def test_gradient(case, scale):
    check(case, scale)      # then once more with shared memory, bit for bit


def test_a_refused_option_changes_nothing():
    found = []
    for refused in (False, True):
        net, rng = _network(_layers(), (8, 8), False), np.random.default_rng(1)
        if refused:
            with pytest.raises(dn.ArgumentError, match="fused=False"):
                net.layers[0].fused = False
        found.append(net.train_batch(rng.standard_normal((BATCH, net.inputs), np.float32), np.zeros(BATCH, int)))
    assert found[0] == found[1]
