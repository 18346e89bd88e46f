"""antialiasing, coordconv, maxpool_depth and dropblock: values and every gradient."""

from __future__ import annotations

import numpy as np
import pytest
from gradcheck import SCALES, Case, check

import darknetpy as dn

CONV = "convolutional filters={} size=3 pad=1 activation={}"


def _cases():
    for tail in ("antialiasing=1", "antialiasing=2", "coordconv=1", "antialiasing=1 coordconv=1"):
        for rest in (
            "activation=tanh",
            "activation=mish",
            "activation=leaky",
            "batch_normalize=1 activation=swish",
            "normalize=group activation=tanh",
            "batch_normalize=1 normalize_after_activation=1 activation=tanh",
            "activation=normalize_channels_softmax",
        ):
            yield Case(
                f"{tail} {rest}", [f"convolutional filters=4 size=3 pad=1 stride=2 {tail} {rest}"], (2, 5, 4)
            )
    yield Case(
        "antialiasing stride_x", [CONV.format(2, "tanh") + " antialiasing=1 stride_x=2 stride_y=3"], (2, 5, 4)
    )
    yield Case("coordconv of two channels", [CONV.format(2, "tanh") + " coordconv=1"], (2, 3, 3))
    yield Case(
        "antialiasing composed",
        [CONV.format(2, "tanh") + " antialiasing=1 batch_normalize=1"],
        (2, 4, 4),
        net="fused=0",
    )
    for size, kind, stride in ((2, 1, 2), (2, 2, 2), (3, 1, 2), (3, 2, 1)):
        yield Case(
            f"maxpool {size} antialiasing={kind} stride={stride}",
            [f"maxpool size={size} stride={stride} antialiasing={kind}"],
            (2, 5, 6),
        )
    for channels, out in ((4, 2), (6, 1), (6, 3)):
        yield Case(
            f"maxpool_depth {channels} {out}",
            [f"maxpool maxpool_depth=1 out_channels={out}"],
            (channels, 2, 3),
        )
    yield Case(
        "maxpool_depth antialiasing",
        ["maxpool maxpool_depth=1 out_channels=2 stride=2 antialiasing=1"],
        (4, 3, 4),
    )
    for sizes in ("", "dropblock_size_abs=2", "dropblock_size_rel=.5"):
        yield Case(f"dropblock {sizes}", [f"dropout dropblock=1 probability=.4 {sizes}"], (2, 4, 5))
    yield Case("dropblock inference", ["dropout dropblock=1"], (2, 3, 3), train=False)
    conv = CONV.format(4, "tanh")
    yield Case(
        "tails keep the delta of others",
        [
            conv,
            "maxpool maxpool_depth=1 out_channels=2",
            "route layers=0",
            "maxpool size=2 stride=1 antialiasing=1",
            "route layers=0",
            "dropout dropblock=1 dropblock_size_abs=2 probability=.3",
            "route layers=0",
            CONV.format(2, "tanh") + " antialiasing=1",
            "route layers=0,1,3,5,7",
        ],
        (2, 4, 4),
    )


GRADIENT_CASES = list(_cases())


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("case", GRADIENT_CASES, ids=str)
def test_gradient(case, scale):
    check(case, scale)


def blurred(x, kind, stride):
    """The blur by numpy: zeros around, a window that is a product of [1 2 1] / 4 or [1 1] / 2."""
    taps = np.array([1, 2, 1]) / 4 if kind == 1 else np.array([1, 1]) / 2
    x = np.pad(x.astype(float), ((0, 0), (0, 0), (1, 1), (1, 1))) if kind == 1 else x.astype(float)
    for axis in (2, 3):
        count = x.shape[axis] - len(taps) + 1
        x = sum(tap * np.take(x, range(k, k + count), axis) for k, tap in enumerate(taps))
    return x[:, :, ::stride, ::stride]


def run(layer, x, train=True):
    net = dn.Network(train=train)
    net.input = x
    dn.forward_layer(layer, net)
    return layer.output


@pytest.mark.parametrize("kind", [1, 2])
def test_the_blur_takes_over_the_stride(kind, rng):
    x = rng.standard_normal((2, 3, 7, 6)).astype(np.float32)
    plain = dn.make_convolutional_layer(2, 7, 6, 3, 4, size=3, padding=1, activation="leaky")
    smooth = dn.make_convolutional_layer(
        2, 7, 6, 3, 4, size=3, padding=1, stride=2, activation="leaky", antialiasing=kind
    )
    smooth.weights = plain.weights
    assert smooth.flops == plain.flops
    np.testing.assert_allclose(run(smooth, x), blurred(run(plain, x), kind, 2), rtol=1e-5, atol=1e-6)
    plain, smooth = (
        dn.make_maxpool_layer(2, 7, 6, 3, 3, 1),
        dn.make_maxpool_layer(2, 7, 6, 3, 3, 2, antialiasing=kind),
    )
    np.testing.assert_allclose(run(smooth, x), blurred(run(plain, x), kind, 2), rtol=1e-5, atol=1e-6)


def test_coordinates_replace_three_channels(rng):
    x = rng.standard_normal((2, 3, 4, 5)).astype(np.float32)
    y = run(dn.make_convolutional_layer(2, 4, 5, 3, 4, activation="leaky", coordconv=1), x)
    u, v = np.meshgrid(2 * np.arange(5) / 5 - 1, 2 * np.arange(4) / 4 - 1)
    for c, wanted in enumerate((u, v, np.hypot(u, v))):
        np.testing.assert_allclose(y[:, c], np.broadcast_to(wanted, (2, 4, 5)), atol=1e-6)
    assert y[:, 3].std() > 0.1


def test_maxpool_depth(rng):
    x = rng.standard_normal((2, 7, 3, 4)).astype(np.float32)
    y = run(dn.make_maxpool_layer(2, 3, 4, 7, 1, 1, maxpool_depth=1, out_channels=3), x)
    assert (y == np.stack([x[:, g::3].max(axis=1) for g in range(3)], axis=1)).all()
    for out in (0, 8):
        with pytest.raises(dn.ArgumentError, match="out_channels"):
            dn.make_maxpool_layer(2, 3, 4, 7, 1, 1, maxpool_depth=1, out_channels=out)


def test_nothing_of_the_tail_is_stored_in_weights(tmp_path, rng):
    plain, smooth = (dn.Network(1, 6, 6, 3, train=True) for _ in range(2))
    for net, kind in ((plain, 0), (smooth, 1)):
        net.add(dn.make_convolutional_layer(1, 6, 6, 3, 4, size=3, padding=1, antialiasing=kind, stride=2))
    smooth.save_weights(tmp_path / "a.weights")
    plain.load_weights(tmp_path / "a.weights")
    assert (plain.layers[0].weights == smooth.layers[0].weights).all()


def test_resized_tails_give_the_same(rng):
    x = rng.standard_normal((1, 3, 5, 7)).astype(np.float32)
    make = {"size": 3, "padding": 1, "stride": 2, "activation": "mish", "antialiasing": 1}
    layer, fresh = (
        dn.make_convolutional_layer(1, 8, 8, 3, 4, **make),
        dn.make_convolutional_layer(1, 5, 7, 3, 4, **make),
    )
    dn.resize_convolutional_layer(layer, 7, 5)
    layer.weights = fresh.weights
    assert (run(layer, x) == run(fresh, x)).all()


# ---- dropblock
def dropped(updates=0, max_batches=0, train=True, **options):
    net = dn.Network(4, 20, 10, 3, train=True)
    layer = net.add(dn.make_dropout_layer(4, 600, w=20, h=10, c=3, dropblock=1, **options))
    net._set_options({"max_batches": max_batches})
    net._core.lib.set_updates(net._handle, updates)
    net.forward(np.ones((4, 3, 10, 20), np.float32), train=train)
    return layer.output


def test_blocks_are_dropped_whole():
    """At full size each zero belongs to a square of zeros, cut off by the border alone; an image keeps its sum."""
    y = dropped(probability=0.2, dropblock_size_abs=3)
    zeros = y == 0
    begins = np.zeros_like(zeros)
    for i in range(10):
        for j in range(20):
            begins[:, :, i, j] = zeros[:, :, i : i + 3, j : j + 3].all(axis=(2, 3))
    covered = np.zeros_like(zeros)
    for i in range(10):
        for j in range(20):
            covered[:, :, i : i + 3, j : j + 3] |= begins[:, :, i, j][:, :, None, None]
    assert (covered == zeros).all() and 0.05 < zeros.mean() < 0.3
    np.testing.assert_allclose(y.sum(axis=(1, 2, 3)), 600, rtol=1e-5)
    assert len({image.tobytes() for image in zeros}) == 4


def test_blocks_grow():
    """Probability and side grow over .85 max_batches: nothing is dropped by the first update."""
    assert (dropped(0, 100, probability=0.5) == 1).all()
    early, late = ((dropped(n, 100, probability=0.5, dropblock_size_abs=4) == 0).mean() for n in (20, 85))
    assert 0 < early < late
    assert (dropped(85, 100, probability=0.5) == dropped(500, 100, probability=0.5)).all()
    assert (dropped(probability=0.5, train=False) == 1).all()


def test_dropblock_needs_a_map():
    with pytest.raises(dn.ArgumentError, match="needs an image"):
        dn.make_dropout_layer(2, 7, 0.5, dropblock=1)
