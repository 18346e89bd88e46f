"""Detectors as whole networks: every head learns a scene by its own gradient, and survives what networks go through."""

from __future__ import annotations

import numpy as np
import pytest
from test_darknet_peer import fill

import darknetpy as dn

BODY = """[net]
batch=4
width=32
height=32
channels=3
learning_rate={rate}
momentum=.9
decay=0
max_batches=1000
dialect={dialect}

[convolutional]
batch_normalize=1
filters=8
size=3
stride=2
pad=1
activation=leaky

[convolutional]
batch_normalize=1
filters=16
size=3
stride=2
pad=1
activation=leaky

[convolutional]
batch_normalize=1
filters=24
size=3
stride=2
pad=1
activation=leaky

[convolutional]
filters={filters}
size=1
activation={last}

"""
ANCHORS = "anchors=8,8,16,12\nnum=2\nclasses=2\n"
YOLO = f"[yolo]\n{ANCHORS}ignore_thresh=.7\nmax=4\n"
HEADS = {  # head, channels, dialect, activation before it
    "yolo": (YOLO, 14, "pjreddie", "linear"),
    "yolo ciou": (YOLO + "iou_loss=ciou\niou_normalizer=.5\niou_thresh=.3\n", 14, "alexeyab", "linear"),
    "yolo giou": (YOLO + "iou_loss=giou\niou_normalizer=.5\nscale_x_y=1.1\n", 14, "alexeyab", "linear"),
    "yolo new_coords": (YOLO + "iou_loss=ciou\niou_normalizer=.5\nnew_coords=1\nscale_x_y=2\n", 14, "alexeyab", "logistic"),
    "region": ("[region]\nanchors=1,1,2,1.5\nnum=2\nclasses=2\nsoftmax=1\nbias_match=1\nmax=4\n", 14, "pjreddie", "linear"),
    "region alexeyab": (
        "[region]\nanchors=1,1,2,1.5\nnum=2\nclasses=2\nsoftmax=1\nrescore=0\nobject_scale=5\nmax=4\n", 14, "alexeyab", "linear"
    ),
    "gaussian": (f"[Gaussian_yolo]\n{ANCHORS}ignore_thresh=.7\nmax=4\nmax_delta=5\nuc_normalizer=.3\n", 22, "alexeyab", "linear"),
    "detection": ("[detection]\nclasses=2\ncoords=4\nnum=1\nside=4\nsqrt=1\ncoord_scale=5\nnoobject_scale=.5\n", 7, "pjreddie", "linear"),
}
SCENES = [  # class, x, y, w, h of two objects in each of four images
    [(0, 0.3, 0.35, 0.25, 0.25), (1, 0.7, 0.6, 0.5, 0.35)],
    [(1, 0.4, 0.3, 0.45, 0.4), (0, 0.65, 0.8, 0.3, 0.25)],
    [(0, 0.2, 0.7, 0.25, 0.3), (0, 0.8, 0.2, 0.25, 0.25)],
    [(1, 0.55, 0.55, 0.5, 0.4), (0, 0.15, 0.15, 0.2, 0.2)],
]


def image(scene):
    """A grey square with a red or a blue rectangle for each object."""
    pixels = np.full((32, 32, 3), 96, np.uint8)
    for c, x, y, w, h in scene:
        rows, columns = (slice(round(32 * (p - s / 2)), round(32 * (p + s / 2))) for p, s in ((y, h), (x, w)))
        pixels[rows, columns] = [(230, 40, 40), (40, 40, 230)][c]
    return pixels


def truth_of(net, scene):
    head = net.layers[-1]
    if head.type != "detection":
        rows = np.zeros((4, head.truths // 4), np.float32)
        for row, (c, *box) in zip(rows, scene):
            row[:5] = *box, c
        return rows.ravel()
    cells = np.zeros((4, 4, 7), np.float32)
    for c, x, y, w, h in scene:
        cells[int(4 * y), int(4 * x)] = 1, c == 0, c == 1, 4 * x % 1, 4 * y % 1, w, h
    return cells.ravel()


def load(tmp_path, name, rate=0.01, **how):
    head, filters, dialect, last = HEADS[name]
    path = tmp_path / "d.cfg"
    path.write_text(BODY.format(filters=filters, dialect=dialect, last=last, rate=rate) + head)
    return dn.load_network(path, **how)


def batch_of(net):
    x = np.stack([image(scene).transpose(2, 0, 1) for scene in SCENES]).astype(np.float32) / 255
    return np.ascontiguousarray(x), np.stack([truth_of(net, scene) for scene in SCENES])


@pytest.mark.parametrize("name", HEADS)
def test_learns_the_scenes(tmp_path, name):
    """Four images by heart: every object found with its class, its box close, nothing else found."""
    net = load(tmp_path, name, rate={"detection": 0.002, "gaussian": 0.005}.get(name, 0.02), train=True, batch=4)
    net.seen = 12800  # [region] pulls boxes to its anchors before
    x, truth = batch_of(net)
    losses = []
    for _ in range(800):
        net.train_batch(x, truth)
        losses.append(net.layers[-1].loss.sum())
    assert np.mean(losses[-20:]) < 0.5 * losses[0]
    net.save_weights(tmp_path / "w")
    ready = load(tmp_path, name, weights=tmp_path / "w")
    for scene in SCENES:
        found = ready.detect(image(scene), thresh=0.4, letterbox=False)
        assert len(found) == len(scene), (name, found)
        for c, x, y, w, h in scene:
            off = min(np.abs(np.array(d.box) / 32 - (x, y, w, h)).max() for d in found if d.class_id == c)
            assert off < 0.06, (name, found, scene)


@pytest.mark.parametrize("name", HEADS)
def test_threads_change_no_bit(tmp_path, name, threads):
    results = []
    for n in (1, 3):
        threads(n)
        net = load(tmp_path, name, train=True, batch=4)
        x, truth = batch_of(net)
        losses = [net.train_batch(x, truth) for _ in range(3)]
        results.append((losses, net.layers[0].weights.tobytes(), net.layers[-1].output.tobytes()))
    assert results[0] == results[1]


@pytest.mark.parametrize("name", HEADS)
def test_cfg_and_checkpoint_carry_the_head(tmp_path, name):
    net = load(tmp_path, name, train=True, batch=4)
    x, truth = batch_of(net)
    net.train_batch(x, truth)
    net.save_checkpoint(tmp_path / "c")
    again = dn.load_checkpoint(tmp_path / "c")
    assert net.train_batch(x, truth) == again.train_batch(x, truth)
    (tmp_path / "e.cfg").write_text(net.to_cfg())
    net.save_weights(tmp_path / "w")
    copy = dn.load_network(tmp_path / "e.cfg", tmp_path / "w", batch=4)
    assert copy.layers[-1].cfg_options == net.layers[-1].cfg_options
    np.testing.assert_array_equal(copy.predict(x), load(tmp_path, name, weights=tmp_path / "w", batch=4).predict(x))


@pytest.mark.parametrize("name", [name for name in HEADS if name != "detection"])
def test_resize(tmp_path, name, rng):
    """At another size the head gives what a network built so gives, boxes by its own input's size."""
    net = load(tmp_path, name)
    fill(net, rng)
    net.save_weights(tmp_path / "w")
    net.resize(64, 48)
    (tmp_path / "f.cfg").write_text((tmp_path / "d.cfg").read_text().replace("width=32\nheight=32", "width=64\nheight=48"))
    other = dn.load_network(tmp_path / "f.cfg", tmp_path / "w")
    pixels = rng.integers(0, 256, (50, 70, 3), np.uint8)
    assert net.detect(pixels, 0.1) == other.detect(pixels, 0.1) != []
    net = load(tmp_path, name, train=True, batch=1)
    net.resize(64, 48)
    net.train_batch(rng.random((1, 3, 48, 64)).astype(np.float32), truth_of(net, SCENES[0])[None])


def test_a_head_by_hand_in_a_network(rng):
    net = dn.Network(2, w=16, h=16, c=3, train=True)
    net.add(dn.make_convolutional_layer(2, 16, 16, 3, n=14, size=3, stride=4, padding=1, activation="linear"))
    net.add(dn.make_yolo_layer(2, 4, 4, 2, 2, classes=2, anchors=[4, 4, 8, 6], max=3))
    truth = np.zeros((2, 15), np.float32)
    truth[:, :5] = 0.4, 0.6, 0.3, 0.3, 1
    x = rng.random((2, 3, 16, 16)).astype(np.float32)
    losses = [net.train_batch(x, truth) for _ in range(20)]
    assert losses[-1] < losses[0]
    assert "anchors=4,4,8,6" in net.to_cfg() and "max=3" in net.to_cfg()
