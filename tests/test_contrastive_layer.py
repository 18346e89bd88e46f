"""[contrastive]: its loss beside numpy, every gradient, and which embeddings count."""

from __future__ import annotations

import numpy as np
import pytest
from gradcheck import SCALES, Boxes, Case, build, check
from test_golden import Recording

import darknetpy as dn

AB = "dialect=alexeyab"
YOLO = "yolo classes=2 max=6 num=4 anchors=.5,.6,1.1,1.3,.4,1.8,1.6,.9 mask={} ignore_thresh=.9"


class Tracks(Boxes):
    """Boxes of few classes and tracks, three per image; one track has no number."""

    def __init__(self):
        super().__init__(6, 2)

    def draw(self, batch, count, rng):
        rows = super().draw(batch, count, rng).reshape(batch, -1, 6)
        rows[:, :3, 5] = rng.integers(0, 3, (batch, 3))
        rows[0, 1, 5] = -1
        return rows.reshape(batch, count)


class Pairs(Boxes):
    """No image has a class."""

    def __init__(self):
        super().__init__(1, 1)

    def draw(self, batch, count, rng):
        return np.zeros((batch, count))


def boxes(options="", mask="0,1,2,3", iou_thresh=""):
    """Return layers whose first one gives embeddings of three values for each anchor of the third one."""
    anchors = len(mask.split(","))
    return [
        f"convolutional filters={3 * anchors} size=1 activation=linear",
        f"convolutional filters={7 * anchors} size=1 activation=tanh",
        f"{YOLO.format(mask)} {iou_thresh}",
        "route layers=0",
        f"contrastive yolo_layer=-2 {options}",
    ]


def _cases():
    for options in ("", "temperature=.3 cls_normalizer=.7", "contrastive_neg_max=1", "contrastive_neg_max=100"):
        yield Case(f"contrastive {options}", boxes(options), (2, 3, 2), batch=4, net=AB, truth=Tracks())
    more = boxes("contrastive_neg_max=5", "1,3", "iou_thresh=.2")
    yield Case("contrastive iou_thresh", more, (2, 3, 2), batch=3, net=AB, truth=Tracks())
    yield Case(
        "contrastive keeps the delta of others",
        [*boxes(), "route layers=0", "convolutional filters=28 size=1 activation=tanh", YOLO.format("0,1,2,3")],
        (2, 3, 2),
        batch=3,
        net=AB,
        truth=Tracks(),
    )
    for truth in ("labels", Pairs()):
        for options in ("", "temperature=.4 cls_normalizer=2"):
            lines = ["connected output=4 activation=tanh", f"contrastive classes=3 {options}"]
            yield Case(f"contrastive of images {truth} {options}", lines, (5,), batch=6, net=AB, truth=truth)
    yield Case("contrastive first", ["contrastive classes=2"], (4,), batch=5, net=AB, truth="labels")


GRADIENT_CASES = list(_cases())


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("case", GRADIENT_CASES, ids=str)
def test_gradient(case, scale):
    check(case, scale)


def wanted_loss(z, labels, kinds, temperature=1.0, most=10**6):
    """Return the loss of each embedding z[i], from the formula."""
    unit = z / np.linalg.norm(z, axis=1, keepdims=True)
    e = np.exp(unit @ unit.T / temperature)
    losses = np.zeros(len(z))
    for i in range(len(z)):
        alike = [j for j in range(len(z)) if j != i and (kinds[j], labels[j]) == (kinds[i], labels[i])]
        others = [k for k in range(len(z)) if kinds[k] == kinds[i] and labels[k] != labels[i]][:most]
        if alike and others:
            losses[i] = np.mean([-np.log(e[i, j] / (e[i, j] + e[i, others].sum())) for j in alike])
    return losses


@pytest.mark.parametrize("most", [1, 3, 100])
def test_loss_of_boxes(most):
    """Only anchors that learn a box have an embedding at work; boxes without a track number have none."""
    net, rng = build(boxes(f"contrastive_neg_max={most} temperature=.5"), (2, 6, 5), 4, AB), np.random.default_rng(1)
    truth = Tracks().draw(4, net.truths, rng)
    net.forward(rng.standard_normal((4, 2, 6, 5)), truth, train=True)
    layer, (yolo, first) = net.layers[4], (net.layers[2], net.layers[0])
    labels = layer.labels.reshape(4, 4, 6, 5)
    learned = np.abs(yolo.delta.reshape(4, 4, 7, 6, 5)[:, :, 0]) > 0
    numbered = truth.reshape(4, -1, 6)[:, :3, 5].ravel()
    assert learned.sum() == 12 and (labels >= 0).sum() == 11 == (numbered >= 0).sum()
    assert learned[labels >= 0].all() and sorted(labels[labels >= 0]) == sorted(numbered[numbered >= 0])
    at = np.nonzero(labels >= 0)
    z = np.moveaxis(first.output.reshape(4, 4, 3, 6, 5), 2, -1)[at]
    kinds = layer.kinds.reshape(labels.shape)[at]
    losses = wanted_loss(z, labels[at], kinds, 0.5, most)
    assert (losses > 0).any()
    np.testing.assert_allclose(layer.loss.reshape(4, 4, 3, 6, 5)[:, :, 0][at], losses, rtol=1e-12)
    assert layer.cost == pytest.approx(losses.sum()) and (layer.output == 0).all()
    delta = np.moveaxis(layer.delta.reshape(4, 4, 3, 6, 5), 2, -1)
    assert (delta[labels < 0] == 0).all()


def test_loss_of_images(rng):
    x = rng.standard_normal((6, 5)).astype(np.float32)
    layer, net = dn.make_contrastive_layer(6, 1, 1, 5, 3, 5, temperature=0.5), dn.Network(train=True)
    net.input, net.truth = x, np.eye(3, dtype=np.float32)[[0, 1, 0, 2, 1, 1]]
    dn.forward_contrastive_layer(layer, net)
    assert layer.labels.tolist() == [0, 1, 0, 2, 1, 1]
    np.testing.assert_allclose(layer.loss.reshape(6, -1)[:, 0], wanted_loss(x, layer.labels, np.zeros(6), 0.5), rtol=1e-5)
    net.truth[2:4] = 0  # a pair without a class
    dn.forward_contrastive_layer(layer, net)
    assert layer.labels.tolist() == [0, 1, 4, 4, 1, 1]
    dn.backward_contrastive_layer(layer, net)
    assert (net.delta.ravel() == layer.delta.ravel()).all() and np.abs(layer.delta).max() > 0


def test_small_temperature_and_zero_embeddings_stay_finite():
    """exp(1 / temperature) is beyond float32 here; an embedding of zeros points nowhere, and gets no delta."""
    layer, net = dn.make_contrastive_layer(4, 1, 1, 2, 2, 2, temperature=0.005), dn.Network(train=True)
    net.input = np.array([[1, 0], [-1, 0], [1, 0.1], [0, 0]], np.float32)
    net.truth = np.eye(2, dtype=np.float32)[[0, 0, 1, 1]]
    dn.forward_contrastive_layer(layer, net)
    assert np.isfinite(layer.delta).all() and np.isfinite(layer.loss).all()
    assert layer.loss.reshape(4, 2)[0, 0] == pytest.approx((1 / np.hypot(1, 0.1) + 1) / 0.005, rel=1e-5)
    assert (layer.delta.reshape(4, 2)[3] == 0).all()


def test_delta_is_clipped(rng):
    x, truth = rng.standard_normal((6, 5)).astype(np.float32), np.eye(2, dtype=np.float32)[[0, 1, 0, 1, 1, 0]]
    free, clipped = (dn.make_contrastive_layer(6, 1, 1, 5, 2, 5, **more) for more in ({}, {"max_delta": 0.05}))
    for layer in (free, clipped):
        net = dn.Network(train=True)
        net.input, net.truth = x, truth
        dn.forward_contrastive_layer(layer, net)
    assert np.abs(free.delta).max() > 0.05
    assert (clipped.delta == np.clip(free.delta, np.float32(-0.05), np.float32(0.05))).all()


def test_the_same_places_as_in_darknet(monkeypatch):
    """AlexeyAB's delta, not 0 where an embedding counts; a class without a second box of its track has none there."""
    recording = Recording("ab-contrastive")
    net = recording.load(monkeypatch)
    net.forward(np.ascontiguousarray(recording["input"]), np.ascontiguousarray(recording["truth"]), train=True)
    recorded = recording["train/L07/delta_fwd"].reshape(4, 2, 5, 16).any(axis=2)
    assert (recorded == (net.layers[7].labels.reshape(4, 2, 16) >= 0)).all() and recorded.sum() == 16


# ---- options
KIND, *REST = YOLO.format("0,1,2,3").split()
HEAD = "[net]\nbatch=2\nwidth=2\nheight=2\nchannels=28\ndialect={}\n" + "\n".join([f"[{KIND}]", *REST, ""])


@pytest.mark.parametrize(
    "text, message",
    [
        ("[route]\nlayers=-1\n[contrastive]\nyolo_layer=-1\n", "means layer 2, which is [route]; wanted a [yolo]"),
        ("[contrastive]\nyolo_layer=-3\n", "is not before layer"),
        ("[contrastive]\nyolo_layer=0,1\n", "names 2 layers; wanted one"),
        ("[contrastive]\ntemperature=0\n", "temperature=0: out of range"),
        ("[contrastive]\n", "a map of 2x2 without yolo_layer"),
        ("[maxpool]\nsize=2\nstride=2\n[contrastive]\nyolo_layer=-2\n", "an input of 1x1x28"),
        ("[convolutional]\nfilters=6\n[contrastive]\nyolo_layer=-2\n", "a multiple of its 4 anchors"),
    ],
)
def test_wrong_options(text, message, tmp_path):
    path = tmp_path / "a.cfg"
    first = "[maxpool]\nsize=1\nstride=1\n"
    path.write_text(HEAD.format("alexeyab").replace("[yolo]", first + "[yolo]") + text)
    with pytest.raises(dn.CfgError, match=r"a\.cfg:\d+.*") as caught:
        dn.load_network(path)
    assert message in str(caught.value)


def test_tracks_need_the_dialect_that_has_them(tmp_path):
    path = tmp_path / "a.cfg"
    first = "[maxpool]\nsize=1\nstride=1\n"
    path.write_text(HEAD.format("pjreddie").replace("[yolo]", first + "[yolo]") + "[contrastive]\nyolo_layer=-1\n")
    with pytest.raises(dn.CfgError, match="wanted dialect=alexeyab"):
        dn.load_network(path)


def test_round_trip_and_resize(tmp_path):
    path = tmp_path / "a.cfg"
    first = "[maxpool]\nsize=1\nstride=1\n"
    path.write_text(HEAD.format("alexeyab").replace("[yolo]", first + "[yolo]") + "[contrastive]\nyolo_layer=-1\ntemperature=.5\n")
    net = dn.load_network(path, train=True)
    assert "yolo_layer=1\n" in net.to_cfg() and "temperature=0.5" in net.to_cfg()
    net.resize(4, 3)
    assert net.layers[2].labels.shape == (2 * 4 * 3 * 4,) and net.outputs == net.layers[1].outputs
    net.summary()
    net = dn.Network(2, 2, 2, 28, train=True)
    net.add(dn.make_yolo_layer(2, 2, 2, 4, 4, classes=2, anchors=[1] * 8, dialect="alexeyab"))
    with pytest.raises(dn.ArgumentError, match="not 2x2x27"):
        net.add(dn.make_contrastive_layer(2, 2, 2, 27, 2, 108, 0))
    assert net.add(dn.make_contrastive_layer(2, 2, 2, 28, 2, 112, 0)).truths == net.layers[0].truths


def test_sizes_of_the_constructor():
    with pytest.raises(dn.ArgumentError, match="wanted w"):
        dn.make_contrastive_layer(2, 1, 1, 5, 3, 6)
