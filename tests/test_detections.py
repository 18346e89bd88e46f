"""Overlaps of boxes, boxes out of heads, and what removes doubles: against recordings of the real programs."""

from __future__ import annotations

import os

import numpy as np
import pytest
from darknet_peer import MISSING, DarknetPeer
from PIL import Image
from side_by_side import adapted, read

import darknetpy as dn
from darknetpy.core import core
from darknetpy.detection import decode, suppress, to_image, uses_letterbox

MICRO = os.path.join(os.path.dirname(os.path.abspath(__file__)), "golden", "micro")
HEADS = [name for name in sorted(os.listdir(MICRO)) if "yolo" in name or "region" in name or "detection" in name]


def recorded(name):
    with np.load(os.path.join(MICRO, name, "ref.npz")) as file:
        return {key: file[key] for key in file.files}


def box(values):
    return core.ffi.new("box *", [float(v) for v in values])[0]


# ---- overlaps
@pytest.mark.parametrize("name", ["box_iou", "box_intersection", "box_union", "box_rmse", "box_giou", "box_diou", "box_ciou"])
def test_overlaps(name):
    file = recorded("ab-_kernels")
    pairs = zip(file["boxes/in/a"], file["boxes/in/b"])
    ours = [getattr(core.lib, name)(box(a), box(b)) for a, b in pairs]
    wanted = file[f"boxes/out/{name}"]
    if name == "box_intersection":
        wanted = np.maximum(wanted, 0)
    np.testing.assert_allclose(ours, wanted, rtol=1e-5, atol=1e-6)


def test_diounms_overlap():
    file = recorded("ab-_kernels")
    ours = [core.lib.box_diounms(box(a), box(b), 0.6) for a, b in zip(file["boxes/in/a"], file["boxes/in/b"])]
    np.testing.assert_allclose(ours, file["boxes/out/box_diounms_beta0.6"], rtol=1e-5, atol=1e-6)


# ---- heads
def network(name, monkeypatch):
    monkeypatch.chdir(os.path.join(MICRO, name))
    fork = {"pj": "pjreddie", "ab": "alexeyab"}[name[:2]]
    net = dn.load_network("net.cfg", weights="net.weights", dialect=fork, batchnorm="darknet", batch=4)
    net.forward(np.ascontiguousarray(recorded(name)["input"], np.float32), train=False)
    return net


def same_rows(ours, wanted):
    """The rows that have some probability, in any order."""
    wanted = wanted[(wanted[:, 5:] > 0).any(axis=1)].copy()
    ours = ours[(ours[:, 5:] > 0).any(axis=1)].copy()
    if (wanted[:, 4] == 1).all():  # AlexeyAB's [region] does not say how sure it is of an object
        ours[:, 4] = 1
    assert len(ours) == len(wanted) > 0
    order = [rows[np.lexsort(np.round(rows[:, ::-1], 4).T)] for rows in (ours, wanted)]
    np.testing.assert_allclose(order[0], order[1], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", HEADS)
def test_boxes_of_heads(name, monkeypatch):
    net, file = network(name, monkeypatch), recorded(name)
    rows = decode(net, 0, 0.2)
    if "detection" in name:  # those were recorded in pixels of the network's input, and stretched
        for key in ("boxes/raw", "boxes/nms45"):
            file[key] = file[key] / np.array([net.w, net.h, net.w, net.h, 1, 1, 1, 1], np.float32)
    same_rows(rows, file["boxes/raw"])
    same_rows(suppress(rows.copy(), 0.45), file["boxes/nms45"])
    if "boxes/diounms45" in file:
        same_rows(suppress(rows.copy(), 0.45, "greedynms"), file["boxes/diounms45"])
    same_rows(to_image(rows.copy(), net, 100, 60, "detection" not in name), file["boxes/img_abs"])


# ---- beside Debian's Darknet, on its own photos
CFGS, PHOTOS = "/usr/share/darknet/cfg", "/usr/share/darknet/data"
needs_darknet = pytest.mark.skipif(MISSING, reason="needs /usr/lib/darknet/libdarknet.so (Debian package darknet)")


@pytest.fixture(scope="module")
def peer():
    peer = DarknetPeer()
    yield peer
    peer.close()


def table(found):
    return np.array([(d.class_id, d.confidence, *d.box) for d in found]).reshape(-1, 6)


def assert_same(ours, theirs, thresh, confidence=1e-4, pixels=0.1):
    """Every row clearly above the threshold has one like it on the other side."""
    for rows, others in ((ours, theirs), (theirs, ours)):
        for row in rows[rows[:, 1] > thresh + confidence]:
            near = others[others[:, 0] == row[0]]
            off = np.abs(near[:, 1:] - row[1:]) / (confidence, pixels, pixels, pixels, pixels)
            assert len(near) and off.max(axis=1).min() <= 1, (row, near)


def fill(net, rng):
    """Seeded normalizations on the first weights: such heads find much."""
    ranges = {"biases": (-0.3, 0.3), "scales": (0.5, 1.5), "rolling_mean": (-0.3, 0.3), "rolling_variance": (0.5, 1.5)}
    for layer in net.layers:
        for name, array in layer.arrays("parameter", "statistic").items():
            if name in ranges:
                array[:] = rng.uniform(*ranges[name], array.shape)


def random_detector(tmp_path, name, side, seed=3):
    """A published .cfg at a small size with seeded weights, whose heads find something."""
    cfg, weights = str(tmp_path / name), str(tmp_path / "random.weights")
    with open(cfg, "w") as file:
        file.write(adapted(read(f"{CFGS}/{name}"), side))
    net = dn.load_network(cfg, batchnorm="darknet", batch=1)
    fill(net, np.random.default_rng(seed))
    net.save_weights(weights)
    return net, cfg, weights


@needs_darknet
@pytest.mark.parametrize("photo", ["dog.jpg", "person.jpg", "scream.jpg"])  # wide, wide, tall
@pytest.mark.parametrize(
    "name, side, thresh",
    [("yolov3-tiny.cfg", 160, 0.2), ("yolov2-tiny-voc.cfg", 160, 0.2), ("yolov2-tiny.cfg", 96, 0.2)],
)
def test_same_detections_as_darknet(peer, tmp_path, name, side, thresh, photo):
    net, cfg, weights = random_detector(tmp_path, name, side)
    image = f"{PHOTOS}/{photo}"
    with Image.open(image) as opened:
        w, h = opened.size
    for nms in (0, 0.45):
        theirs, ours = peer.detect(cfg, weights, image, thresh, nms), table(net.detect(image, thresh, nms))
        assert len(theirs) > 3
        assert_same(ours, theirs, thresh, pixels=1e-4 * max(np.abs(theirs[:, 2:]).max(), w, h))


# ---- a real detector
ASSETS = os.environ.get("DARKNETPY_TEST_ASSETS", "")
FASTEST = os.path.join(ASSETS, "weights", "yolo-fastest-1.1")
needs_model = pytest.mark.skipif(
    not ASSETS or not os.path.exists(FASTEST), reason="needs weights/yolo-fastest-1.1 where DARKNETPY_TEST_ASSETS points"
)
ON_DOG = [  # class, confidence, x, y, w, h: Debian's darknet, thresh .3, nms .45
    (16, 0.6077781, 260.596, 348.951, 291.318, 317.728),
    (1, 0.5955439, 414.341, 310.919, 354.987, 252.489),
    (2, 0.5415395, 562.243, 117.555, 186.608, 89.586),
    (1, 0.4282922, 265.187, 345.624, 319.636, 319.959),
    (2, 0.3731423, 658.369, 145.814, 54.758, 50.223),
]


@needs_model
def test_a_real_detector():
    files = [os.path.join(FASTEST, f"yolo-fastest-1.1.{kind}") for kind in ("cfg", "weights")]
    net = dn.load_network(*files, dialect="pjreddie", batchnorm="darknet")
    found = table(net.detect(os.path.join(FASTEST, "dog.jpg"), thresh=0.3, nms=0.45))
    assert found.shape == (5, 6)
    np.testing.assert_array_equal(found[:, 0], [row[0] for row in ON_DOG])
    np.testing.assert_allclose(found[:, 1], [row[1] for row in ON_DOG], atol=1e-4)
    np.testing.assert_allclose(found[:, 2:], [row[2:] for row in ON_DOG], atol=0.1)


@needs_model
@needs_darknet
def test_a_real_detector_beside_darknet(peer):
    cfg, weights = (os.path.join(FASTEST, f"yolo-fastest-1.1.{kind}") for kind in ("cfg", "weights"))
    net = dn.load_network(cfg, weights, dialect="pjreddie", batchnorm="darknet")
    total = 0
    for photo in ("dog", "eagle", "giraffe", "horses", "person", "scream"):
        image = f"{PHOTOS}/{photo}.jpg"
        ours, theirs = table(net.detect(image, 0.25)), peer.detect(cfg, weights, image, 0.25, 0.45)
        assert len(ours) == len(theirs)
        assert_same(ours, theirs, 0.25)
        total += len(theirs)
    assert total > 15


# ---- images in, and what is refused
@pytest.fixture
def tiny(tmp_path):
    """A detector of two classes with weights that find something everywhere."""
    path = tmp_path / "tiny.cfg"
    path.write_text(TINY)
    net = dn.load_network(path)
    fill(net, np.random.default_rng(1))
    net.layers[0].biases[:] = 2
    return net


TINY = """[net]
width=32
height=32
channels=3

[convolutional]
filters=14
size=3
stride=8
pad=1
activation=linear

[yolo]
classes=2
num=2
anchors=6,8,12,10
"""


def test_kinds_of_image(tiny, rng, tmp_path):
    pixels = rng.integers(0, 256, (20, 30, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    wanted = tiny.detect(pixels, 0.1)
    assert wanted and wanted == tiny.detect(str(tmp_path / "a.png"), 0.1) == tiny.detect(Image.fromarray(pixels), 0.1)
    assert [d.confidence for d in wanted] == sorted((d.confidence for d in wanted), reverse=True)
    assert tiny.detect(pixels, 0.1, names=["cat", "dog"])[0].label in ("cat", "dog") and wanted[0].label in "01"
    grey = tiny.detect(pixels[:, :, 0], 0.1)
    assert grey == tiny.detect(np.repeat(pixels[:, :, :1], 3, axis=2), 0.1)
    first = wanted[0].box
    assert (first.left, first.bottom) == (first.x - first.w / 2, first.y + first.h / 2)


def test_boxes_are_mapped_back(tiny, rng):
    """Stretched and letterboxed, a box covers the same share of the network's input."""
    pixels = rng.integers(0, 256, (16, 64, 3), np.uint8)
    for letterbox in (False, True):
        found = tiny.detect(pixels, 0.1, nms=0, letterbox=letterbox)
        rows = decode(tiny, 0, 0.1)
        confidence = max(rows[:, 5:].max(axis=1))
        row = rows[np.argmax(rows[:, 5:].max(axis=1))]
        assert found[0].confidence == pytest.approx(confidence)
        height = 8 if letterbox else 32  # the image is 4 times as wide as high
        wanted = (row[0] * 64, (row[1] * 32 - (32 - height) / 2) * 16 / height, row[2] * 64, row[3] * 32 * 16 / height)
        assert found[0].box == pytest.approx(wanted, rel=1e-5)


def test_a_batch_finds_the_same(tiny, rng, tmp_path):
    pixels = rng.integers(0, 256, (20, 30, 3), np.uint8)
    tiny.save_weights(tmp_path / "w")
    several = dn.load_network(tmp_path / "tiny.cfg", tmp_path / "w", batch=3)
    assert several.detect(pixels, 0.1) == tiny.detect(pixels, 0.1)


def test_nms():
    """The surest of several that overlap stays, class by class."""
    rows = np.array(
        [[0.5, 0.5, 0.4, 0.4, 0.9, 0.8, 0], [0.52, 0.5, 0.4, 0.4, 0.9, 0.9, 0.3], [0.1, 0.1, 0.1, 0.1, 0.9, 0.5, 0]], np.float32
    )
    kept = suppress(rows.copy(), 0.45)
    np.testing.assert_array_equal(kept[:, 5:] > 0, [[False, False], [True, True], [True, False]])
    kept = suppress(rows.copy(), 0.95)
    np.testing.assert_array_equal(kept, rows)
    by_object = suppress(rows.copy(), 0.45, "objectness")
    np.testing.assert_array_equal(by_object[:, 4] > 0, [True, False, True])
    assert (by_object[1, 5:] == 0).all()
    far = np.array([[0.3, 0.5, 0.4, 0.4, 0.9, 0.9], [0.45, 0.5, 0.4, 0.4, 0.9, 0.8]], np.float32)  # IoU .4545
    assert suppress(far.copy(), 0.45)[1, 5] == 0 and suppress(far.copy(), 0.45, "cornersnms")[1, 5] == 0
    assert suppress(far.copy(), 0.45, "greedynms")[1, 5] > 0 and suppress(far.copy(), 0.4, "diounms", 2.0)[1, 5] == 0
    with pytest.raises(dn.ArgumentError, match="kind='soft': wanted one of default"):
        suppress(rows, 0.4, "soft")


def test_class_tree(tmp_path):
    """From the root to the most probable child while the product of the probabilities, products themselves, exceeds hier."""
    (tmp_path / "t.tree").write_text("animal -1\nthing -1\ndog 0\ncat 0\nterrier 2\npoodle 2\n")
    path = tmp_path / "t.cfg"
    path.write_text(f"[net]\nwidth=1\nheight=1\nchannels=11\n[region]\nclasses=6\ntree={tmp_path}/t.tree\n")
    net = dn.load_network(path)
    p = np.array([0.9, 0.1, 0.8, 0.2, 0.7, 0.3])
    net.predict(np.array([0, 0, 0, 0, 3, *np.log(p)], np.float32))
    absolute = np.array([0.9, 0.72, 0.504])  # animal, dog, terrier
    for hier, wanted in ((0.95, 0), (0.7, 0), (0.6, 2), (0.33, 2), (0.32, 4)):
        assert np.argmax(decode(net, 0, 0.2, hier)[0, 5:]) == wanted
        assert np.prod(absolute[: 1 + wanted // 2]) > hier or wanted == 0
    row = decode(net, 0, 0.2, 0.3)[0]
    assert row[4] == pytest.approx(1 / (1 + np.exp(-3))) == row[9] and (row[5:] > 0).sum() == 1


def test_refusals(tiny, rng, tmp_path):
    pixels = rng.integers(0, 256, (9, 9, 3), np.uint8)
    (tmp_path / "not.jpg").write_text("hello")
    (tmp_path / "c.cfg").write_text("[net]\nwidth=4\nheight=4\nchannels=3\n[avgpool]\n")
    for wrong, message in (
        (lambda: tiny.detect(pixels, thresh=1.5), "thresh=1.5: wanted a number in 0..1"),
        (lambda: tiny.detect(pixels.astype(float)), "image: wanted uint8"),
        (lambda: tiny.detect(7), "image: wanted a path"),
        (lambda: tiny.detect(pixels, names=["one"]), "names: 1 of them for 2 classes"),
        (lambda: tiny.detect(tmp_path / "not.jpg"), "not.jpg: is no JPEG"),
        (lambda: dn.load_network(tmp_path / "c.cfg").detect(pixels), "the network is no detector"),
    ):
        with pytest.raises(dn.DarknetError, match=message):
            wrong()


GAUSSIAN = TINY.replace("[yolo]", "[Gaussian_yolo]").replace("filters=14", "filters=22")


@pytest.mark.parametrize("text", [TINY + "nms_kind=greedynms\nbeta_nms=.5\n", GAUSSIAN + "nms_kind=greedynms\nbeta_nms=.5\n"])
def test_nms_kind_acts_in_its_forks_dialect(tmp_path, text):
    (tmp_path / "t.cfg").write_text(text)
    net = dn.load_network(tmp_path / "t.cfg")
    assert (net.dialect, net.layers[1].cfg_options["nms_kind"]) == ("alexeyab", "greedynms")
    net = dn.load_network(tmp_path / "t.cfg", dialect="pjreddie")
    assert net.layers[1].cfg_options["nms_kind"] == "default" and any("nms_kind=greedynms has no effect here" in n for n in net.notes)


def test_letter_box_keeps_proportions(tmp_path, rng):
    pixels, found = rng.integers(0, 256, (20, 60, 3), np.uint8), []
    for option in ("letter_box=1\n", "letter_box=0\n"):
        (tmp_path / "t.cfg").write_text(TINY.replace("[net]\n", f"[net]\ndialect=alexeyab\n{option}"))
        net = dn.load_network(tmp_path / "t.cfg")
        found.append([uses_letterbox(net), *net.detect(pixels, thresh=0.0)])
    assert found[0][0] and not found[1][0] and found[0][1:] != found[1][1:]
