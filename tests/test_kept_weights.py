"""Inference keeps a convolution's weights in the order in which it reads them: the same bits, and nothing stale, whoever writes."""

from __future__ import annotations

import gc

import numpy as np
import pytest
from gradcheck import build, randomize
from test_convolution import ALGORITHMS, BY_TWO, SHAPES, TILED, _arrays, simd  # noqa: F401

from darknetpy.core import core
from darknetpy.memory_summary import memory_totals

CASES = [(label, "gemm") for label in SHAPES] + [(label, a) for label in TILED for a in ("auto", "winograd4", "winograd6")]
CASES += [(label, "winograd4") for label in BY_TWO]
LAYERS = [
    "convolutional filters=20 size=3 pad=1 batch_normalize=1 activation=leaky",     # by Winograd's algorithm
    "convolutional filters=18 size=3 stride=2 pad=1 activation=relu",               # as a matrix product
    "convolutional filters=5 size=1 activation=linear",
]
SHAPE = (17, 14, 15)


def _network(layers=LAYERS, train=False):
    net = build(layers, SHAPE, 2, "", train, core)
    randomize(net, np.random.default_rng(0))
    return net


@pytest.fixture
def x():
    return np.random.default_rng(1).standard_normal((2, *SHAPE)).astype(np.float32)


def _fresh(net, x):
    """Return what a network with the same numbers says that has never run."""
    other = _network()
    for layer, like in zip(other.layers, net.layers):
        for name, array in like.arrays("parameter", "statistic").items():
            layer.arrays()[name][...] = array
    return other.predict(x)


def _raw(layer):
    """Return the weights without telling the layer: what no view can do."""
    row = layer._row("weights")
    return np.frombuffer(core.ffi.buffer(row.data, row.bytes), np.float32)


@pytest.mark.parametrize(("label", "algorithm"), CASES)
def test_no_bit_changes(label, algorithm, simd, threads):  # noqa: F811
    """Kept or not, with one thread or three."""
    s, _, x, w, dy, _ = _arrays(label, "gemm" if label in SHAPES else "winograd4")
    s["algorithm"] = ALGORITHMS.index(algorithm)
    lib, ffi = core.lib, core.ffi
    shape = ffi.new("conv_shape *", s)
    values, bits = lib.convolution_kept_values(shape), []
    if not values:
        pytest.skip("not kept")
    x, w = x.astype(np.float32), w.astype(np.float32)
    kept = np.full(values, np.nan, np.float32)
    lib.convolution_keep_weights(shape, core.address(w), core.address(kept))
    for shape.kept, count in ((0, 1), (1, 1), (1, 3)):
        threads(count)
        y = np.full(dy.size, np.nan, np.float32)
        workspace = np.full(lib.convolution_workspace(shape, count), np.nan, np.float32)
        x_, w_, y_, space = (core.address(a) for a in (x, kept if shape.kept else w, y, workspace))
        lib.convolution_forward_cpu(shape, x_, w_, ffi.NULL, y_, space)
        bits.append(y.tobytes())
    assert bits[0] == bits[1] == bits[2]


@pytest.mark.parametrize("index", range(3))
def test_they_are_kept_between_passes_and_only_then(index, x):
    net = _network()
    first = net.predict(x)
    _raw(net.layers[index])[:] += 1
    assert np.array_equal(net.predict(x), first)            # else nothing is kept, and these tests say nothing
    core.lib.lend_layer_weights(net.layers[index]._handle)
    core.lib.return_layer_weights(net.layers[index]._handle)
    assert not np.array_equal(net.predict(x), first)


def _slice(view):
    return view[1:]


def _base(view):
    return np.asarray(view.reshape(-1)[3:].base)


def _memory(view):
    return np.frombuffer(memoryview(view), np.float32)


def _from_dlpack(view):
    return np.from_dlpack(view)


@pytest.mark.parametrize("derive", [np.asarray, _slice, _base, _memory, _from_dlpack, np.ravel, np.transpose])
@pytest.mark.parametrize("index", range(3))
def test_a_write_through_a_view_is_seen(index, derive, x):
    net = _network()
    held = derive(net.layers[index].weights)        # the only one that lives: what it was derived from is gone
    gc.collect()
    for step in (1, 2):
        before = net.predict(x)
        held[...] += .25 * step
        after = net.predict(x)
        assert not np.array_equal(after, before) and np.array_equal(after, _fresh(net, x))
    del held
    gc.collect()
    before = net.predict(x)
    assert np.array_equal(before, after)
    _raw(net.layers[index])[:] += 1
    assert np.array_equal(net.predict(x), before)   # and from here on they are kept again


@pytest.mark.parametrize("index", range(3))
def test_whoever_writes_is_seen(index, x, tmp_path):
    net, other = _network(), _network()
    layer = net.layers[index]
    before = net.predict(x)

    def changed():
        nonlocal before
        after = net.predict(x)
        assert not np.array_equal(after, before) and np.array_equal(after, _fresh(net, x))
        before = after

    layer.weights[...] *= 2
    changed()
    layer.weights = np.flip(layer.weights).copy()
    changed()
    core.lib.initialize_layer(layer._handle, 5)
    changed()
    other.save_weights(str(tmp_path / "w.weights"))
    net.load_weights(str(tmp_path / "w.weights"))
    changed()
    net.layers[index].arrays("parameter")["weights"][0] = 3
    changed()


def test_fused_resized_and_other_processors(x):
    net = _network()
    net.predict(x)
    net.fuse()
    fused = _network().fuse().predict(x)
    assert np.array_equal(net.predict(x), fused)
    x = np.random.default_rng(2).standard_normal((2, 17, 9, 30)).astype(np.float32)
    net.resize(30, 9)
    other = _network().fuse()
    other.resize(30, 9)
    held = [layer.weights for layer in other.layers]        # this one keeps nothing
    assert np.array_equal(net.predict(x), other.predict(x)) and held
    try:
        for level in range(2):
            core.lib.dn_set_simd_level(level)
            assert np.array_equal(net.predict(x), other.predict(x))
    finally:
        core.lib.dn_set_simd_level(-1)


def test_another_algorithm(x):
    net = _network()
    before = net.predict(x)
    net.layers[0]._set_options({"convolution": ALGORITHMS.index("gemm")})
    held = net.layers[0].weights
    plain = net.predict(x)
    assert not np.array_equal(plain, before)
    del held
    assert np.array_equal(net.predict(x), plain) and np.array_equal(net.predict(x), plain)


def test_a_borrower_sees_what_is_written_to_its_lender(x):
    layers = ["convolutional filters=17 size=3 pad=1 activation=leaky",
              "convolutional filters=17 size=3 pad=1 activation=leaky share_index=0"]
    net, plain = _network(layers), _network(layers)
    held = [layer.weights for layer in plain.layers]        # this one keeps nothing
    before = net.predict(x)
    for i in (0, 1):                                        # through either's view
        net.layers[i].weights[...] *= 1.5
        held[i] *= 1.5
        after = net.predict(x)
        assert not np.array_equal(after, before) and np.array_equal(after, plain.predict(x))
        before = after


def test_statistics_are_taken_with_the_weights_as_they_stand(x):
    """Averaging a network's statistics normalizes with those of the mini-batch, also where it was made for inference."""
    kept, plain = _network(), _network()
    kept.predict(x)
    held = [layer.weights for layer in plain.layers]
    for net in (kept, plain):
        net.forward(x, train=True)
    assert np.array_equal(kept.layers[-1].output, plain.layers[-1].output) and held


def test_training_keeps_nothing_and_inference_counts_it():
    training, inference = _network(train=True), _network()
    rows = {train: [core.lib.get_layer_array(net.layers[0]._handle, i) for i in range(core.lib.count_layer_arrays(net.layers[0]._handle))]
            for train, net in ((True, training), (False, inference))}
    kept = {train: sum(r.bytes for r in found if r.role == core.lib.ARRAY_KEPT) for train, found in rows.items()}
    assert kept[True] == 0 and kept[False] >= inference.layers[0].weights.nbytes
    assert memory_totals(inference)["own"] > kept[False] + inference.layers[0].weights.nbytes
    assert not hasattr(inference.layers[0], "kept_weights")    # nobody's but the layer's
