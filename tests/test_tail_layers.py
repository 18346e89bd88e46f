"""antialiasing, coordconv, maxpool_depth and dropblock: values and every gradient."""

from __future__ import annotations

import numpy as np
import pytest
from gradcheck import SCALES, Boxes, Case, build, check

import darknetpy as dn

CONV = "convolutional filters={} size=3 pad=1 activation={}"


ANCHORS = "anchors=.5,.6,1.1,1.3 num=2 classes=2 max=5"


def _excited(options, head=f"yolo {ANCHORS}", channels=14, row=6, excited=9, net="dialect=alexeyab"):
    """Three updates on: (seen - 1) / batch."""
    layers = [
        f"convolutional filters=4 size=3 pad=1 assisted_excitation={excited} {options}",
        f"convolutional filters={channels} size=1 activation=linear",
        head,
    ]
    name = f"assisted_excitation {options} {head.split()[0]} {excited}"
    return Case(name, layers, (2, 5, 4), net=net, truth=Boxes(row, 2), seen=7)


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
    for options in ("", "antialiasing=1 stride=2", "coordconv=1", "batch_normalize=1", "normalize=group"):
        yield _excited(f"{options} activation=mish")
    yield _excited("activation=leaky", "region anchors=.7,.8,1.3,1.1 num=2 classes=2 max=5 softmax=1", 14, 5, net="dialect=pjreddie")
    yield _excited("activation=tanh", f"Gaussian_yolo {ANCHORS} iou_normalizer=.6 uc_normalizer=.6", 22, 6)
    yield _excited("activation=tanh", excited=1, net="dialect=alexeyab max_batches=20")
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


# ---- assisted excitation
TRUTH = [[0.5, 0.5, 0.3, 0.6, 1, 0], [0.95, 0.1, 0.4, 0.3, 0, 1], [0.1, 0.9, 0.5, 0.1, 1, 2]]  # two cross the map's edge


def excite(excited=8, seen=1, train=True, net="dialect=alexeyab", truth=TRUTH):
    """Return the same convolution's output with and without excitation, on 5 x 4 cells and the twin."""
    outputs = []
    for option in (excited, 0):
        lines = [
            f"convolutional filters=3 size=3 pad=1 activation=leaky assisted_excitation={option}",
            "convolutional filters=14 size=1",
            f"yolo {ANCHORS}",
        ]
        network, rng = build(lines, (2, 4, 5), 2, net), np.random.default_rng(1)
        network.seen = seen
        rows = np.zeros((2, 5, 6))
        rows[1, : len(truth)] = truth
        network.forward(rng.standard_normal((2, 2, 4, 5)), rows, train=train)
        outputs.append(network.layers[0].output.copy())
    return outputs


def test_cells_that_boxes_touch_are_excited():
    ours, plain = excite()
    wanted = plain.copy()
    for place in ((slice(0, 4), slice(1, 4)), (slice(0, 1), slice(3, 5)), (slice(3, 4), slice(0, 2))):
        here = (1, slice(None), *place)
        wanted[here] = plain[here] + 2 * plain[here].mean(axis=0)
    np.testing.assert_allclose(ours, wanted, rtol=1e-12)


@pytest.mark.parametrize(
    "excited, seen, net, alpha",
    [
        (8, 1, "", 2),
        (8, 2, "", 2),
        (8, 5, "", 1 + np.cos(np.pi / 4)),
        (8, 9, "", 1),
        (8, 17, "", 0),
        (8, 99, "", 0),
        (1, 9, "max_batches=8", 1),
        (1, 9, "max_batches=0", 0),
    ],
)
def test_excitation_fades(excited, seen, net, alpha):
    """From 2 to 0 over the updates; seen counts the rows of the mini-batch at work, here two."""
    ours, plain = excite(excited, seen, net=f"dialect=alexeyab {net}", truth=[[0.5, 0.5, 2, 2, 0, 0]])
    np.testing.assert_allclose(ours[1], plain[1] + alpha * plain[1].mean(axis=0), rtol=1e-12, atol=1e-12)
    assert (ours[0] == plain[0]).all()


def test_excitation_is_for_training():
    ours, plain = excite(train=False)
    assert (ours == plain).all()


def test_idle_excitation_is_noted(tmp_path):
    path = tmp_path / "a.cfg"
    start = "[net]\nwidth=4\nheight=4\nchannels=3\ndialect=alexeyab\n[convolutional]\nfilters={}\nassisted_excitation={}\n"
    yolo = "[yolo]\nclasses=2\nnum=2\n"
    for filters, excited, end, said in ((4, 9, "", ["has boxes"]), (14, 1, yolo, ["max_batches, which is 0"]), (14, 9, yolo, [])):
        path.write_text(start.format(filters, excited) + end)
        net = dn.load_network(path, train=True)
        notes = [note for note in net.notes if "assisted_excitation" in note]
        assert len(notes) == len(said) and all(text in note for text, note in zip(said, notes)), notes
        x = np.ones((1, 3, 4, 4), np.float32)
        net.forward(x, train=True)
        plain = net.layers[0].output.copy()
        net.forward(x, np.ones((1, net.truths), np.float32) if not net.truths else None, train=True)
        assert (net.layers[0].output == plain).all()
    with pytest.raises(dn.ArgumentError, match="assisted_excitation"):
        dn.make_convolutional_layer(1, 4, 4, 3, 2, assisted_excitation=-1)


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
