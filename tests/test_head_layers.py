"""[yolo], [Gaussian_yolo], [region], [detection], [iseg]: losses, deltas and every gradient.

Loss of the gradient checks: the sum of the layer's ``loss``, which the head of each C file states.  Weights and targets that
depend on the output (an IoU as target, a focal weight) are constants there, so those options are checked by what the loss
and delta of each value say about its weight and target.
"""

from __future__ import annotations

import os

import heads
import numpy as np
import pytest
from gradcheck import SCALES, Boxes, Case, build, check
from twin import twin

import darknetpy as dn

MICRO = os.path.join(os.path.dirname(__file__), "golden", "micro")
AB = "dialect=alexeyab"
ANCHORS = "anchors=3,4,6,7,9,14,15,8 num=4"


def _through_convolution(options, net=AB):
    """The network's input is in pixels that the anchors count in; the head's map is a third and a half of it."""
    layers = [
        "convolutional filters=24 size=2 stride=2 activation=linear",
        f"yolo classes=3 max=5 {ANCHORS} mask=0,1,2 ignore_thresh=.4 {options}",
    ]
    return Case(f"conv, yolo {options} {net}", layers, (2, 6, 4), net=net, truth=Boxes(6, 3), spread=0.5)


def _yolo_cases():
    for net in ("", AB):
        tiny = "anchors=.5,.6,1.1,1.3,.4,1.8,1.6,.9 num=4"
        yield Case(
            f"yolo truth_thresh {net}",
            [f"yolo classes=3 max=5 {tiny} ignore_thresh=.2 truth_thresh=.3"],
            (32, 3, 2),
            net=net,
            truth=Boxes(6 if net else 5, 3),
        )
        yield Case(
            f"yolo keeps the delta of others {net}",
            [
                "convolutional filters=16 size=1 activation=tanh",
                f"yolo classes=3 max=5 {tiny} mask=0,2 ignore_thresh=.9",
                "convolutional filters=16 size=1 activation=tanh",
                f"yolo classes=3 max=5 {tiny} mask=1,3 ignore_thresh=.9",
            ],
            (2, 3, 2),
            net=net,
            truth=Boxes(6 if net else 5, 3),
        )
        yield Case(
            f"yolo without truth {net}",
            [f"yolo classes=3 {tiny} scale_x_y=1.2", "activation activation=tanh"],
            (32, 3, 2),
            net=net,
            truth=None,
        )
    for kind in ("iou", "giou", "diou", "ciou"):
        yield _through_convolution(f"iou_loss={kind}")
        yield _through_convolution(f"iou_loss={kind} new_coords=1 scale_x_y=2")
    yield _through_convolution("iou_loss=ciou iou_thresh=.2 iou_thresh_kind=giou scale_x_y=1.1 iou_normalizer=.07")
    yield _through_convolution("scale_x_y=1.2 iou_normalizer=.3 obj_normalizer=.4 cls_normalizer=.5")
    yield _through_convolution("counters_per_class=10,5,2 cls_normalizer=.5 label_smooth_eps=.1")
    yield _through_convolution("new_coords=1 scale_x_y=2 iou_thresh=.3")


def _region_cases():
    anchors = "anchors=.7,.8,1.3,1.1,.5,1.6 num=3 classes=4 max=5"
    ours, shape = Boxes(5, 4), (27, 3, 2)
    for options in ("softmax=1", "softmax=0", "softmax=1 bias_match=1 thresh=.3 object_scale=5 coord_scale=2"):
        for seen in (0, 20000):
            yield Case(f"region {options} seen {seen}", [f"region {anchors} {options}"], shape, truth=ours, seen=seen)
    theirs = Boxes(6, 4)
    for options in ("softmax=1", "softmax=0", "softmax=1 focal_loss=1", "softmax=1 classfix=1 thresh=.1"):
        yield Case(f"region {options} {AB}", [f"region {anchors} {options}"], shape, truth=theirs, seen=20000, net=AB)
    for softmax in (0, 1):
        yield Case(
            f"region background softmax={softmax}",
            [f"region {anchors} background=1 softmax={softmax}"],
            shape,
            truth=ours,
            seen=20000,
        )
    yield Case(
        "region mask",
        [f"region {anchors} coords=6 softmax=1 mask_scale=.7"],
        (33, 3, 2),
        truth=Boxes(7, 4, class_at=6),
        seen=20000,
    )
    tree = os.path.join(MICRO, "ab-softmax_tree", "t.tree")
    eight = "anchors=.7,.8,1.3,1.1,.5,1.6 num=3 classes=8 max=5"
    yield Case("region tree", [f"region {eight} tree={tree}"], (39, 3, 2), truth=Boxes(5, 8), seen=20000)
    for net in ("", AB):
        for softmax in ("softmax=1", "softmax=0", f"tree={tree}"):
            size = (27, 4) if softmax != f"tree={tree}" else (39, 8)
            line = f"region anchors=.7,.8,1.3,1.1,.5,1.6 num=3 classes={size[1]} {softmax}"
            yield Case(
                f"region without truth {softmax.split('/')[0]} {net}",
                [line, "activation activation=tanh"],
                (size[0], 3, 2),
                net=net,
                truth=None,
            )
    yield Case(
        "region keeps the delta of others",
        ["region " + anchors + " softmax=1", "convolutional filters=27 size=1 activation=tanh", "region " + anchors],
        shape,
        truth=ours,
        seen=20000,
    )


def _gaussian_cases():
    tiny = "Gaussian_yolo classes=3 max=5 anchors=.5,.6,1.1,1.3,.4,1.8,1.6,.9 num=4"
    both = "iou_normalizer=.6 uc_normalizer=.6"  # with unlike ones each sees the other as a constant
    rest = "label_smooth_eps=.1 obj_normalizer=.7"
    more = ("iou_thresh=.2 iou_thresh_kind=giou", "yolo_point=left_top", "yolo_point=right_bottom iou_thresh=.3")
    for options in ("", rest, "scale_x_y=1.1", *more):
        yield Case(f"gaussian {options}", [f"{tiny} ignore_thresh=.4 {both} {options}"], (48, 3, 2), truth=Boxes(6, 3))
    for kind, point in (("giou", "center"), ("ciou", "left_top"), ("iou", "right_bottom")):
        options = f"iou_loss={kind} yolo_point={point} uc_normalizer=0 counters_per_class=10,5,2 cls_normalizer=.5"
        yield Case(f"gaussian {options}", [f"{tiny} ignore_thresh=.9 {options}"], (48, 3, 2), truth=Boxes(6, 3))
    yield Case(
        "gaussian keeps the delta of others",
        [
            f"{tiny} mask=0,2 ignore_thresh=.9 {both}",
            "convolutional filters=24 size=1 activation=tanh",
            f"{tiny} mask=1,3 ignore_thresh=.9 {both}",
        ],
        (24, 3, 2),
        truth=Boxes(6, 3),
    )
    yield Case("gaussian without truth", [f"{tiny} scale_x_y=1.2", "activation activation=tanh"], (48, 3, 2), truth=None)


def _detection_cases():
    scales = "object_scale=1.5 noobject_scale=.5 class_scale=.7 coord_scale=5"
    for options in ("", "sqrt=1", "softmax=1", "forced=1", "random=1"):
        line = f"detection classes=3 coords=4 num=2 side=2 {scales} {options}"
        yield Case(f"detection {options}", [line], (52,), truth=Cells(4, 3), spread=0.5)
    for options in ("softmax=1", "sqrt=1 rescore=0"):
        line = f"detection classes=3 coords=4 num=2 side=2 {options}"
        more = [line, "connected output=52 activation=tanh", line]
        yield Case(f"detection keeps the delta of others {options}", more, (52,), truth=Cells(4, 3), spread=0.5)
        yield Case(f"detection without truth {options}", [line, "activation activation=tanh"], (52,), truth=None)


def _iseg_cases():
    yield Case("iseg without instances", ["iseg classes=2 ids=3"], (5, 3, 2), truth=NoInstances())
    more = ["iseg classes=2 ids=3", "convolutional filters=5 size=1 activation=tanh", "iseg classes=1 ids=4"]
    yield Case("iseg keeps the delta of others", more, (5, 3, 2), truth=NoInstances())
    yield Case("iseg without truth", ["iseg classes=2 ids=3", "activation activation=tanh"], (5, 3, 2), truth=None)


class Cells(Boxes):
    """Truth of [detection]: about every other cell has an object."""

    def __init__(self, cells, classes):
        super().__init__(5 + classes, classes)
        self.cells = cells

    def draw(self, batch, count, rng):
        rows = np.zeros((batch, self.cells, self.size))
        rows[..., 0] = rng.random((batch, self.cells)) < 0.6
        rows[..., 1:-4] = np.eye(self.classes)[rng.integers(0, self.classes, (batch, self.cells))]
        rows[..., -4:] = rng.uniform(0.1, 0.9, (batch, self.cells, 4))
        return (rows * rows[..., :1]).reshape(batch, count)


class NoInstances(Boxes):
    """Truth of [iseg] without an instance: the means of instances are constants of a pass, and so not differentiable here."""

    def __init__(self):
        super().__init__(1, 1)

    def draw(self, batch, count, rng):
        return np.full((batch, count), -1.0)


GRADIENT_CASES = [*_yolo_cases(), *_region_cases(), *_gaussian_cases(), *_detection_cases(), *_iseg_cases()]


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("case", GRADIENT_CASES, ids=str)
def test_gradient(case, scale):
    check(case, scale)


def test_iou_gradients():
    """Every kind of overlap on the twin: boxes that cross, contain each other, share no point."""
    rng, lib, ffi = np.random.default_rng(1), twin().lib, twin().ffi
    draw = rng.uniform(0.1, 1, (300, 2, 4)) * rng.choice([1, 0.1], (300, 2, 1))
    for a, b in draw:
        for kind, name in enumerate(("mse", "iou", "giou", "diou", "ciou")):
            two = ffi.new("box *", b.tolist())[0]

            def value(change, a=a, two=two, kind=kind):
                return lib.box_overlap(ffi.new("box *", (a + change).tolist())[0], two, kind)

            if kind:
                assert value(0) == pytest.approx(heads.overlap(a, b, name), abs=1e-12)
            got = lib.box_overlap_gradient(ffi.new("box *", a.tolist())[0], two, kind)
            steps = 1e-6 * np.eye(4)
            slopes = [(value(step) - value(-step)) / 2e-6 for step in steps]
            np.testing.assert_allclose([got.x, got.y, got.w, got.h], slopes, rtol=1e-6, atol=1e-7)


# ---- weights and targets that depend on the output
def run(lines, shape, truth, net="", classless=()):
    """Return a network of one head and the head, after a pass on the twin; anchors `classless` expect no class anywhere."""
    network, rng = build(lines, shape, 2, net), np.random.default_rng(3)
    x = rng.standard_normal((2, *shape))
    for slot in classless:
        x[:, 8 * slot + 5 : 8 * slot + 8] -= 5
    network.seen = 20000
    network.forward(x, truth.draw(2, network.truths, rng), train=True)
    return network, network.layers[-1]


def shares(layer, z, k):
    """Weight and target of value k of every anchor, from its loss w (log(1 + e^z) - t z) and delta w (t - p)."""
    anchors = layer.loss.size // layer.batch // layer.h // layer.w // int(layer.option("classes") + 5)
    z, loss, delta = (np.asarray(a, float).reshape(2, anchors, -1, layer.h, layer.w)[:, :, k] for a in (z, layer.loss, layer.delta))
    p = heads.logistic(z)
    weight = (loss + z * delta) / (np.log1p(np.exp(z)) - z * p)
    with np.errstate(invalid="ignore", divide="ignore"):
        return weight, np.where(np.abs(weight) > 1e-9, delta / weight + p, 0)


SMALL = "anchors=.5,.6,1.1,1.3,.4,1.8,1.6,.9 num=4 classes=3 max=5"


def best_overlaps(network):
    boxes = heads.decode(network, 0)
    rows = heads.truth_boxes(network, 0)
    return np.stack([heads.overlap(b[..., None, :], t[:, :4]).max(axis=-1) for b, t in zip(boxes, rows)])


def matched(network):
    """(image, anchor, row, column) that each truth is learned in."""
    layer, anchors = network.layers[-1], heads.anchors_of(network, 0)
    for b, truth in enumerate(heads.truth_boxes(network, 0)):
        for row in truth:
            fits = heads.overlap(np.pad(anchors, ((0, 0), (2, 0))), np.array([0, 0, *row[2:4]]))
            yield b, int(np.argmax(fits)), int(row[1] * layer.h), int(row[0] * layer.w)


def test_yolo_ignores_good_boxes():
    """pjreddie: a box that overlaps a truth is not taught to be none; the anchor that fits a truth best is."""
    network, layer = run([f"yolo {SMALL} ignore_thresh=.2"], (32, 3, 2), Boxes(5, 3))
    weight, target = shares(layer, network.input, 4)
    wanted = np.where(best_overlaps(network) > 0.2, 0.0, 1.0)
    positive = np.zeros(wanted.shape)
    for place in matched(network):
        wanted[place] = positive[place] = 1
    np.testing.assert_allclose(weight, wanted, atol=1e-9)
    np.testing.assert_allclose(target, positive, atol=1e-9)
    assert (wanted == 0).any() and positive.sum() == 6 == layer.matches[:, 0].sum()


def test_yolo_ignores_only_boxes_with_a_class():
    """AlexeyAB: only where some class has more than 0.25."""
    network, layer = run([f"yolo {SMALL} ignore_thresh=.2"], (32, 3, 2), Boxes(6, 3), AB, classless=(1, 3))
    weight, _ = shares(layer, network.input, 4)
    classes = heads.logistic(heads.inputs_of(network, 0)[:, :, 5:]).max(axis=2) > 0.25
    wanted = np.where((best_overlaps(network) > 0.2) & classes, 0.0, 1.0)
    assert ((best_overlaps(network) > 0.2) & ~classes).any()
    for place in matched(network):
        wanted[place] = 1
    np.testing.assert_allclose(weight, wanted, atol=1e-9)


def test_objectness_smooth_learns_the_iou():
    network, layer = run([f"yolo {SMALL} ignore_thresh=.2 objectness_smooth=1"], (32, 3, 2), Boxes(6, 3), AB)
    weight, target = shares(layer, network.input, 4)
    best = best_overlaps(network)
    classes = heads.logistic(heads.inputs_of(network, 0)[:, :, 5:]).max(axis=2) > 0.25
    np.testing.assert_allclose(weight, 1, atol=1e-9)
    np.testing.assert_allclose(target, np.where((best > 0.2) & classes, best, 0), atol=1e-9)


def test_gaussian_objectness_smooth_learns_the_square_of_the_iou():
    network, layer = run([f"Gaussian_yolo {SMALL} ignore_thresh=.2 objectness_smooth=1"], (48, 3, 2), Boxes(6, 3), AB)
    best, z = best_overlaps(network), heads.inputs_of(network, 0)
    classes = heads.logistic(z[:, :, 9:]).max(axis=2) > 0.25
    wanted = np.where((best > 0.2) & classes, best**2, 0)
    for place in matched(network):
        wanted[place] = 1
    delta = layer.delta.reshape(2, 4, 12, 3, 2)[:, :, 8]
    np.testing.assert_allclose(delta, wanted - heads.logistic(z[:, :, 8]), atol=1e-12)
    assert ((wanted > 0) & (wanted < 1)).any()


@pytest.mark.parametrize(
    "line, channels", [(f"yolo {SMALL} map=a.map", 32), (f"Gaussian_yolo {SMALL} map=a.map", 48), (f"region {SMALL} map=a.map", 32)]
)
def test_map_renumbers_the_classes(line, channels, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.map").write_text("2\n0\n1\n1\n")
    truth, rng = Boxes(6, 4), np.random.default_rng(5)
    deltas, x, rows = [], rng.standard_normal((2, channels, 3, 2)), truth.draw(2, 30, rng)
    assert len(set(rows.reshape(2, 5, 6)[:, :3, 4].ravel())) > 2
    for head in (line, line.replace("map=a.map", "")):
        network = build([head], (channels, 3, 2), 2, AB)
        network.seen = 20000
        network.forward(x, rows, train=True)
        deltas.append(network.layers[0].delta.copy())
        rows = rows.reshape(2, 5, 6)
        rows[:, :3, 4] = np.array([2, 0, 1, 1])[rows[:, :3, 4].astype(int)]  # the second time without a map
        rows = rows.reshape(2, 30)
    assert (deltas[0] == deltas[1]).all() and np.abs(deltas[0]).max() > 0


def test_yolo_focal_loss():
    network, layer = run([f"yolo {SMALL} ignore_thresh=.2 focal_loss=1"], (32, 3, 2), Boxes(6, 3), AB)
    p = heads.logistic(heads.inputs_of(network, 0))
    truths = [row for rows in heads.truth_boxes(network, 0) for row in rows]
    places = list(matched(network))
    for place, row in zip(places, truths):
        if places.count(place) > 1:
            continue
        b, n, j, i = place
        own = p[b, n, 5 + int(row[4]), j, i]
        focal = 0.5 * (1 - own) * (1 - own - 2 * own * np.log(own))
        for c in range(3):
            weight, target = shares(layer, network.input, 5 + c)
            assert weight[place] == pytest.approx(focal) and target[place] == pytest.approx(float(c == int(row[4])), abs=1e-9)


def test_second_label_of_a_box():
    """Two truths in one place with two classes: both are labels; the same class twice is one."""
    for net, size in (("", 5), (AB, 6)):
        network = build([f"yolo {SMALL} ignore_thresh=.2"], (32, 3, 2), 1, net)
        truth = np.zeros((1, 5, size))
        truth[0, :3, :5] = [[0.4, 0.4, 0.5, 0.5, 2], [0.4, 0.4, 0.5, 0.5, 0], [0.4, 0.4, 0.5, 0.5, 2]]
        z = np.random.default_rng(2).standard_normal((1, 32, 3, 2))
        network.forward(z, truth, train=True)
        layer = network.layers[0]
        (_, n, j, i), *_ = matched(network)
        p = heads.logistic(heads.inputs_of(network, 0)[0, n, 5:, j, i])
        delta = layer.delta.reshape(4, 8, 3, 2)[n, 5:, j, i]
        np.testing.assert_allclose(delta, np.array([1, 0, 1]) - p, atol=1e-12)


def test_rescore_and_classfix_learn_the_iou():
    anchors = "anchors=.7,.8,1.3,1.1,.5,1.6 num=3 classes=4 max=5 softmax=1 bias_match=1"
    network, layer = run([f"region {anchors} rescore=1 object_scale=5 thresh=.3"], (27, 3, 2), Boxes(5, 4))
    best, z = best_overlaps(network), heads.inputs_of(network, 0)
    p, delta = heads.logistic(z[:, :, 4]), layer.delta.reshape(2, 3, 9, 3, 2)[:, :, 4]
    wanted = np.where(best > 0.3, 0, -p)
    boxes = heads.decode(network, 0)
    rows = [row for rows in heads.truth_boxes(network, 0) for row in rows]
    for place, row in zip(matched(network), rows):
        wanted[place] = 5 * (heads.overlap(boxes[place], row[:4]) - p[place])
    np.testing.assert_allclose(delta, wanted, atol=1e-12)
    network, layer = run([f"region {anchors} classfix=-1 noobject_scale=2"], (27, 3, 2), Boxes(6, 4), AB)
    best, p = best_overlaps(network), heads.logistic(heads.inputs_of(network, 0)[:, :, 4])
    wanted = 2 * (best - p) * p * (1 - p)
    for place in matched(network):
        wanted[place] = (1 - p[place]) * p[place] * (1 - p[place])
    np.testing.assert_allclose(layer.delta.reshape(2, 3, 9, 3, 2)[:, :, 4], wanted, atol=1e-12)


def test_only_a_class_is_known():
    """yolo9000: an image with a class and no box teaches the most probable anchor the path of that class."""
    tree = os.path.join(MICRO, "ab-softmax_tree", "t.tree")
    line = f"region anchors=.7,.8,1.3,1.1,.5,1.6 num=3 classes=8 max=2 tree={tree}"
    network = build([line], (39, 3, 2), 1)
    network.seen = 20000
    truth = np.array([[999999, 999999, 0, 0, 6, 0, 0, 0, 0, 0]], float)
    network.forward(np.random.default_rng(4).standard_normal((1, 39, 3, 2)), truth, train=True)
    delta = network.layers[0].delta.reshape(3, 13, 3, 2)
    learns = np.abs(delta[:, 5:]).max(axis=1) > 0
    assert learns.sum() == 1 and (delta[:, :4] == 0).all()
    place = tuple(np.argwhere(learns)[0])
    assert delta[place[0], 4, place[1], place[2]] == 0 and (delta[:, 4] < 0).sum() == 17
    classes = delta[place[0], 5:, place[1], place[2]]
    assert classes[6] > 0 and classes[classes != 0].sum() == pytest.approx(0, abs=1e-12)


# ---- refusals
@pytest.mark.parametrize(
    "row, wrong",
    [
        ([1.5, 0.5, 0.1, 0.1, 0], "wrong x"),
        ([0.5, -0.5, 0.1, 0.1, 0], "wrong y"),
        ([0.5, 0.5, 0.0, 0.1, 0], "wrong w"),
        ([0.5, 0.5, 0.1, np.nan, 0], "wrong h"),
        ([0.5, 0.5, 0.1, 0.1, 3], "wrong class"),
        ([0.5, 0.5, 0.1, 0.1, -1], "wrong class"),
    ],
)
def test_wrong_truth_is_refused(row, wrong):
    for line in (f"yolo {SMALL}", "region anchors=1,1,2,2,1,2,2,1 num=4 classes=3 max=5"):
        network = build([line], (32, 3, 2), 1)
        truth = np.zeros((1, network.truths))
        truth[0, 5:10] = row
        truth[0, :5] = [0.5, 1, 0.5, 0.5, 2]  # y = 1 belongs to the last row of cells
        with pytest.raises(dn.ArgumentError, match=f"image 0, box 1: .*{wrong}"):
            network.forward(np.zeros((1, 32, 3, 2)), truth, train=True)


@pytest.mark.parametrize(
    "line, message",
    [
        ("yolo classes=3 num=2 anchors=1,2,3", "anchors: 3 numbers, wanted width and height of num=2"),
        ("yolo classes=3 num=4 mask=0,0,1,2", "mask: anchor 0: wanted 0 to 3, each once"),
        ("yolo classes=3 num=4 mask=0,1,2,4", "mask: anchor 4"),
        ("yolo classes=3 num=3", "an input of 32 channels: wanted 24 = 3 anchors"),
        ("yolo classes=3 num=4 counters_per_class=1,2", "counters_per_class: 2 numbers for 3 classes"),
        ("region classes=3 num=3", "an input of 32 channels: wanted 24"),
        ("region classes=3 num=4 anchors=1,1", "anchors: 2 numbers"),
        ("region classes=3 num=4 coords=3", "coords=3: wanted 4"),
    ],
)
def test_wrong_options_are_refused(line, message):
    with pytest.raises(dn.CfgError, match=message):
        build([line], (32, 3, 2))


# ---- by hand, resized, and whole
def test_by_hand(rng):
    net = dn.Network(w=64, h=48, c=3, train=True)
    head = dn.make_yolo_layer(2, 4, 3, 2, 3, [0, 2], 3, anchors=[10, 14, 23, 27, 37, 58], ignore_thresh=0.7)
    net.input = rng.standard_normal((2, 16, 3, 4)).astype(np.float32)
    dn.forward_yolo_layer(head, net)
    assert head.cost == 0
    rows, lib = np.zeros((24, 8), np.float32), head._core.lib
    assert lib.get_detections(head._handle, 0, 0, 0, head._core.address(rows)) == 24
    assert np.isfinite(rows).all() and (rows[:, 2:4] > 0).all()
    truth = np.zeros((2, 90, 5), np.float32)
    truth[:, 0] = 0.5, 0.5, 0.2, 0.3, 1
    net.truth = truth
    dn.forward_yolo_layer(head, net)
    assert head.cost == pytest.approx(float((head.delta.astype(float) ** 2).sum()))
    dn.backward_yolo_layer(head, net)
    np.testing.assert_array_equal(net.delta, head.delta)
    region = dn.make_region_layer(2, 4, 3, 2, 3, anchors=[1, 2, 2, 1], softmax=True)
    net.truth = np.zeros((2, 30, 5), np.float32)
    dn.forward_region_layer(region, net)
    assert region.output.shape == (2, 16, 3, 4) and region.cost > 0


def test_a_head_by_hand_needs_the_networks_size(rng):
    net = dn.Network(train=True)
    head = dn.make_yolo_layer(1, 2, 2, 1, 1, classes=1, anchors=[10, 14])
    net.input, net.truth = np.zeros((1, 6, 2, 2), np.float32), np.zeros((1, 450), np.float32)
    with pytest.raises(dn.ArgumentError, match="needs a network with a width and a height"):
        dn.forward_yolo_layer(head, net)


def test_detection_learns_the_iou():
    line = "detection classes=3 coords=4 num=2 side=2 rescore=1 sqrt=1 noobject_scale=.5 object_scale=2"
    network = build([line], (52,), 1)
    truth, rng = np.zeros((4, 8)), np.random.default_rng(6)
    truth[2] = [1, 0, 1, 0, 0.4, 0.6, 0.5, 0.3]
    z = rng.uniform(0.3, 0.8, (1, 52))
    network.forward(z, truth.reshape(1, 32), train=True)
    boxes = z[0, 20:].reshape(4, 2, 4)[2].copy()
    boxes[:, :2] /= 2
    boxes[:, 2:] **= 2
    overlaps = heads.overlap(boxes, truth[2, 4:] / [2, 2, 1, 1])
    wanted = -0.5 * z[0, 12:20].reshape(4, 2)
    best = int(np.argmax(overlaps))
    wanted[2, best] = 2 * (overlaps[best] - z[0, 12:20].reshape(4, 2)[2, best])
    np.testing.assert_allclose(network.layers[0].delta[0, 12:20].reshape(4, 2), wanted, atol=1e-12)


def test_detection_draws_the_box_while_young():
    """random=1: any box, the same in every run, until 64000 images have been seen."""
    line = "detection classes=1 coords=4 num=3 side=1 random=1"
    network = build([line], (16,), 1)
    truth = np.array([[1, 1, 0.5, 0.5, 0.4, 0.4]])
    z = np.concatenate([[0.5], [0.1] * 3, [0.5, 0.5, 0.4, 0.4], [0.1] * 8])[None]

    def responsible(seen):
        network.seen = seen
        network.forward(z, truth, train=True)
        return int(np.argmax(network.layers[0].delta[0, 1:4]))

    young = [responsible(n) for n in range(60)]
    assert set(young) == {0, 1, 2} and young == [responsible(n) for n in range(60)]
    assert {responsible(n) for n in range(64000, 64010)} == {0}


def test_iseg():
    """Every delta from the stated losses, the means of the instances held; two instances overlap, one is empty."""
    rng, h, w, classes, ids = np.random.default_rng(5), 3, 4, 2, 3
    network = build([f"iseg classes={classes} ids={ids}"], (classes + ids, h, w), 1)
    z, truth = rng.standard_normal((classes + ids, h * w)), np.zeros((90, 1 + h * w))
    truth[:, 0] = [0, 1, 1, 0] + [-1] * 86
    truth[0, 1:6] = truth[1, 5:9] = truth[2, 9:11] = 1
    network.forward(z.reshape(1, -1, h, w), truth.reshape(1, -1), train=True)
    masks = truth[:3, 1:] > 0
    means = [z[classes:, mask].mean(axis=1)[:, None] for mask in masks]

    def loss(x):
        targets = np.stack([masks[0], masks[1] | masks[2]])
        total = np.sum(np.log1p(np.exp(x[:classes])) - targets * x[:classes]) + 0.0005 * np.sum(x[classes:] ** 2)
        for i, mask in enumerate(masks):
            for j, mean in enumerate(means):
                total += (0.001 if i == j else -0.001) * np.sum(np.abs(mean - x[classes:, mask]))
        return total

    layer = network.layers[0]
    slopes = [(loss(z + step) - loss(z - step)) / 2e-5 for step in 1e-5 * np.eye(z.size).reshape(-1, *z.shape)]
    np.testing.assert_allclose(-layer.delta.ravel(), slopes, atol=1e-9)
    assert layer.loss.sum() == pytest.approx(loss(z)) and layer.cost == pytest.approx(np.sum(layer.delta**2))
    np.testing.assert_allclose(layer.means[0, :3], np.squeeze(means, -1))
    assert layer.sizes[0, :6].tolist() == [5, 4, 2, 0, -1, -1]


def test_gaussian_normalizers():
    """The likelihood counts iou_normalizer times for a number and uc_normalizer times for its uncertainty; with an IoU loss the
    uncertainties learn the same.
    """
    tiny = "Gaussian_yolo classes=3 max=5 anchors=.5,.6,1.1,1.3,.4,1.8,1.6,.9 num=4 ignore_thresh=.9"

    def deltas(options):
        _, layer = run([f"{tiny} {options}"], (48, 3, 2), Boxes(6, 3))
        return layer.delta.reshape(2, 4, 12, 3, 2)[:, :, :8]

    plain = deltas("iou_normalizer=1 uc_normalizer=1")
    both = deltas("iou_normalizer=.3 uc_normalizer=.7")
    np.testing.assert_allclose(both[:, :, ::2], 0.3 * plain[:, :, ::2], atol=1e-12)
    np.testing.assert_allclose(both[:, :, 1::2], 0.7 * plain[:, :, 1::2], atol=1e-12)
    overlaps = deltas("iou_loss=giou uc_normalizer=1")
    np.testing.assert_allclose(overlaps[:, :, 1::2], plain[:, :, 1::2], atol=1e-12)
    assert np.abs(overlaps[:, :, ::2]).max() > 0 and np.abs(deltas("max_delta=.01")).max() == 0.01


@pytest.mark.parametrize("target", [0.5, 0.2])
def test_gaussian_without_uncertainty(target):
    """A logit of -200 is an uncertainty of 0 among floats: towards x = .5, which is met, and away from it."""
    net = dn.Network(w=8, h=8, c=3, train=True)
    head = dn.make_Gaussian_yolo_layer(1, 1, 1, 1, 1, None, 1, anchors=[4, 4])
    net.input, net.truth = np.zeros((1, 10, 1, 1), np.float32), np.zeros((1, 200, 6), np.float32)
    net.input[0, [1, 3, 5, 7]] = -200
    net.truth[0, 0] = target, 0.5, 0.5, 0.5, 0, 0
    dn.forward_Gaussian_yolo_layer(head, net)
    dn.backward_Gaussian_yolo_layer(head, net)
    assert head.output[0, 1, 0, 0] == 0 and np.isfinite(head.delta).all() and np.isfinite(net.delta).all()
    assert np.isfinite(head.cost) and np.isfinite(head.loss).all()


@pytest.mark.parametrize(
    "line, shape, message",
    [
        ("detection classes=3 coords=4 num=2 side=3", (52,), "52 inputs: wanted 117 = 3 x 3 cells"),
        ("detection classes=3 coords=5 num=2 side=2", (52,), "coords=5: wanted 4"),
        ("iseg classes=2 ids=4", (5, 3, 2), "5 channels: wanted 6 = 2 classes"),
        ("Gaussian_yolo classes=3 num=4", (32, 3, 2), "32 channels: wanted 48 = 4 anchors"),
    ],
)
def test_more_wrong_options(line, shape, message):
    with pytest.raises(dn.CfgError, match=message):
        build([line], shape)


def test_wrong_truth_of_cells_and_masks():
    network = build(["detection classes=3 coords=4 num=2 side=2"], (52,), 1)
    truth = np.zeros((1, 32))
    truth[0, 8:16] = [1, 0, 0, 1, 0.5, 1.5, 0.2, 0.2]
    with pytest.raises(dn.ArgumentError, match="image 0, cell 1: object=1 x=0.5 y=1.5"):
        network.train_batch(np.zeros((1, 52)), truth)
    assert network.seen == 0
    network = build(["iseg classes=2 ids=3"], (5, 3, 2), 1)
    truth = np.full((1, network.truths), -1.0)
    truth[0, 0] = 2
    with pytest.raises(dn.ArgumentError, match="instance 0: class 2: wanted 0 to 1"):
        network.forward(np.zeros((1, 5, 3, 2)), truth, train=True)


def test_more_heads_by_hand(rng):
    net = dn.Network(w=64, h=48, c=3, train=True)
    cells = dn.make_detection_layer(2, 52, 2, 2, 3)
    net.input, net.truth = rng.standard_normal((2, 52)).astype(np.float32), np.zeros((2, 32), np.float32)
    dn.forward_detection_layer(cells, net)
    dn.backward_detection_layer(cells, net)
    np.testing.assert_array_equal(net.delta, cells.delta)
    net = dn.Network(w=64, h=48, c=3, train=True)
    head = dn.make_Gaussian_yolo_layer(2, 4, 3, 2, 3, [0, 2], 3, anchors=[10, 14, 23, 27, 37, 58])
    net.input, net.truth = rng.standard_normal((2, 24, 3, 4)).astype(np.float32), np.zeros((2, 1200), np.float32)
    dn.forward_Gaussian_yolo_layer(head, net)
    assert head.output.shape == (2, 24, 3, 4) and head.cost > 0
    masks = dn.make_iseg_layer(2, 4, 3, 2, 3)
    net.input, net.truth = rng.standard_normal((2, 5, 3, 4)).astype(np.float32), np.full((2, 1170), -1, np.float32)
    dn.forward_iseg_layer(masks, net)
    assert masks.cost > 0
