"""Training images of detectors: pixels and boxes against a float64 reference and Debian's Darknet."""

from __future__ import annotations

import darknet_peer
import numpy as np
import pytest
import reference_views

from darknetpy import data
from darknetpy._darknet import ffi, lib
from darknetpy.cfg import parse_cfg_text
from darknetpy.errors import ArgumentError, CfgError
from darknetpy.sections import resolve

HEADS = {
    "yolo": "[yolo]\nclasses=3\nnum=2\nanchors=4,4,9,9\n",
    "Gaussian_yolo": "[Gaussian_yolo]\nclasses=3\nnum=2\nanchors=4,4,9,9\n",
    "region": "[region]\nclasses=3\nnum=2\nanchors=1,1,2,2\n",
    "detection": "[detection]\nclasses=3\ncoords=4\nside=5\nnum=2\n",
}


def plan(head="yolo", options="", net="", dialect="pjreddie", c=3, w=40, h=30, classes=3):
    options += "" if "max=" in options else "\nmax=4"
    text = (
        f"[net]\nwidth={w}\nheight={h}\nchannels={c}\n{net}\n[convolutional]\nfilters=16\nactivation=linear\n"
    )
    text += HEADS[head].replace("classes=3", f"classes={classes}") + options + "\n"
    return resolve(parse_cfg_text(text), dialect=dialect)


def view_of(*arguments, **options):
    return data.DetectionView.training(plan(*arguments, **options))


def drawn(view, w, h, seed, place):
    """The numbers that C draws for a view."""
    numbers = ffi.new("detector_view *")
    lib.draw_detector_view(view.options, w, h, seed, place, numbers)
    return numbers


def some_boxes(rng, count=5):
    w, h = rng.uniform(0.05, 0.6, (2, count))
    boxes = [rng.uniform(w / 2, 1 - w / 2), rng.uniform(h / 2, 1 - h / 2), w, h, rng.integers(0, 3, count)]
    return np.stack(boxes, axis=1).astype(np.float32)


def sorted_rows(rows):
    return rows[np.lexsort(rows.T[::-1])]


CASES = [
    ("yolo", "pjreddie", "jitter=.3", ""),
    ("region", "pjreddie", "jitter=0", ""),
    ("detection", "pjreddie", "jitter=.2", ""),
    ("yolo", "alexeyab", "jitter=.3", ""),
    ("yolo", "alexeyab", "jitter=.1\nresize=1.5", ""),
    ("yolo", "alexeyab", "jitter=.2\nresize=.7", ""),
    ("region", "alexeyab", "jitter=.3", "letter_box=1"),
    ("yolo", "alexeyab", "jitter=0", "letter_box=1\nflip=0"),
    ("detection", "alexeyab", "jitter=.4", ""),
]


@pytest.mark.parametrize("net_w", [40, 140])  # 140: several strips, one of them narrow
@pytest.mark.parametrize("size", [(40, 30), (30, 40), (64, 64), (17, 90), (1, 1)])
@pytest.mark.parametrize("head, dialect, options, net", CASES)
def test_rows_are_the_reference(head, dialect, options, net, size, net_w, rng):
    view = view_of(head, options, net, dialect, w=net_w)
    (w, h), boxes = size, some_boxes(rng)
    pixels = rng.integers(0, 256, (h, w, 3), np.uint8)
    image = pixels.transpose(2, 0, 1) / 255.0
    place_kind = view.options.kind == lib.DETECTOR_PLACE
    for place in range(12):
        numbers = drawn(view, w, h, 7, place)
        x, truth, shown = view.row(pixels, boxes, 7, place)
        if place_kind:
            wanted = reference_views.placed(image, numbers, net_w, 30)
        else:
            wanted = reference_views.cropped(image, numbers, net_w, 30, bool(view.options.letterbox))
        wanted = wanted[:, :, ::-1] if numbers.flip else wanted
        np.testing.assert_allclose(x.reshape(3, 30, net_w), wanted, atol=2e-4)
        moved = reference_views.moved(boxes.astype(float), numbers, place_kind, net_w, 30, w, h)
        kept = moved[(moved[:, 2] >= view.options.least_w) & (moved[:, 3] >= view.options.least_h)]
        assert shown == len(kept)
        if head == "detection":
            check_grid(truth.reshape(5, 5, 8), kept)
        else:
            rows = truth.reshape(-1, view.options.size)
            got = rows[: min(shown, view.most), :5]
            assert len(got) == len(rows) or not rows[len(got) :].any()
            away = np.abs(kept[None] - got[:, None]).max(axis=2)  # (rows, boxes)
            assert (away.min(axis=1, initial=1) < 2e-6).all()
            assert len(set(away.argmin(axis=1).tolist() if len(got) else [])) == len(got)


def check_grid(grid, boxes):
    """Each box's cell holds one of the boxes that fall into it."""
    cells = {}
    for x, y, w, h, label in boxes:
        cells.setdefault((min(int(y * 5), 4), min(int(x * 5), 4)), []).append([x, y, w, h, label])
    for row in range(5):
        for column in range(5):
            cell = grid[row, column]
            if (row, column) not in cells:
                assert not cell.any()
                continue
            assert cell[0] == 1 and cell[1:4].sum() == 1
            got = [(cell[4] + column) / 5, (cell[5] + row) / 5, cell[6], cell[7], cell[1:4].argmax()]
            assert min(np.abs(np.subtract(got, box)).max() for box in cells[row, column]) < 2e-6


@pytest.mark.parametrize("head, dialect, options, net", CASES)
def test_boxes_follow_the_pixels(head, dialect, options, net, rng):
    """A white rectangle on black: after augmentation its edges are where its box says."""
    view = view_of(head, options, net, dialect, c=1, w=160, h=120)
    pixels = np.zeros((200, 200, 1), np.uint8)
    pixels[60:140, 40:120] = 255
    box = np.array([[0.4, 0.5, 0.4, 0.4, 1]], np.float32)
    for place in range(20):
        numbers = drawn(view, 200, 200, 1, place)
        x, _, _ = view.row(pixels, box, 1, place)
        wanted = reference_views.moved(
            box.astype(float), numbers, view.options.kind == lib.DETECTOR_PLACE, 160, 120, 200, 200
        )[0]
        bright = np.argwhere(x.reshape(120, 160) > 0.6)
        (top, left), (bottom, right) = bright.min(axis=0), bright.max(axis=0) + 1
        edges = [
            wanted[0] - wanted[2] / 2,
            wanted[1] - wanted[3] / 2,
            wanted[0] + wanted[2] / 2,
            wanted[1] + wanted[3] / 2,
        ]
        np.testing.assert_allclose(
            [left, top, right, bottom], np.multiply(edges, [160, 120, 160, 120]), atol=1.6
        )


@pytest.mark.parametrize("dialect", ["pjreddie", "alexeyab"])
def test_views_are_spread(dialect):
    """Random numbers reach both ends of what jitter allows, and mirror half of the images."""
    view = view_of("yolo", "jitter=.25", "hue=.1\nsaturation=1.5\nexposure=2", dialect, w=100, h=100)
    many = [drawn(view, 200, 100, 3, place) for place in range(2000)]
    if dialect == "pjreddie":
        ratios = [v.w / v.h for v in many]
        assert 1.2 <= min(ratios) < 1.4 and 3 < max(ratios) <= 3.45
        assert all(v.left == 0 and v.w == 100 for v in many) and {v.top for v in many} >= set(range(40))
    else:
        assert min(v.left for v in many) < -45 and max(v.left for v in many) > 45
        assert min(v.left + v.w for v in many) < 155 and max(v.left + v.w for v in many) > 245
        assert all(abs(v.left) <= 50 and abs(v.top) <= 25 for v in many)
    assert 900 < sum(v.flip for v in many) < 1100
    assert -0.1 <= min(v.hue for v in many) < -0.095 and 0.095 < max(v.hue for v in many) <= 0.1
    assert 1 / 1.5 <= min(v.saturation for v in many) < 0.68 and 1.48 < max(v.saturation for v in many) <= 1.5
    assert 0.5 <= min(v.value for v in many) < 0.52 and 1.95 < max(v.value for v in many) <= 2
    assert all(
        v.flip == 0 for v in (drawn(view_of(net="flip=0", dialect=dialect), 9, 9, 0, p) for p in range(50))
    )


@pytest.mark.parametrize("resize, least, most", [(1.5, -25, 17), (0.5, -50, 0), (1, 0, 0)])
def test_resize_zooms_in_and_out(resize, least, most):
    """Edges move inwards by side (1 - 1 / resize) / 2 at most, outwards by side (resize - 1) / 2; below 1 only outwards."""
    view = view_of("yolo", f"jitter=0\nresize={resize}", "", "alexeyab")
    many = [drawn(view, 100, 100, 3, place) for place in range(1000)]
    edges = [(v.left, v.top, 100 - v.left - v.w, 100 - v.top - v.h) for v in many]
    assert all(left == top and right == bottom for left, top, right, bottom in edges)
    for moved in np.array(edges).T:
        assert least <= moved.min() <= least + 1 and most - 1 <= moved.max() <= most


@pytest.mark.parametrize(
    "size, window", [((100, 30), (0, -22, 100, 74)), ((30, 60), (-25, 0, 80, 60)), ((40, 30), (0, 0, 40, 30))]
)
def test_letterbox_widens_the_window_on_both_sides(size, window):
    """Without jitter it has the network's proportions, 4:3, and the image in its middle."""
    v = drawn(view_of("yolo", "jitter=0", "letter_box=1", "alexeyab"), *size, 0, 0)
    assert (v.left, v.top, v.w, v.h) == window


def test_colours_are_changed_after_the_geometry(rng):
    pixels, boxes = rng.integers(0, 256, (20, 30, 3), np.uint8), some_boxes(rng)
    plain, colourful = view_of(), view_of(net="hue=.1\nsaturation=1.5\nexposure=1.5")
    for place in range(5):
        numbers = drawn(colourful, 30, 20, 2, place)
        x = plain.row(pixels, boxes, 2, place)[0]
        lib.distort_image(
            ffi.from_buffer("float *", x), 40, 30, 3, numbers.hue, numbers.saturation, numbers.value
        )
        np.testing.assert_array_equal(colourful.row(pixels, boxes, 2, place)[0], x)


def test_more_boxes_than_the_truth_has_room_for(rng):
    """Which of them are taken changes from place to place; each is taken equally often."""
    view, pixels = view_of("yolo", "jitter=0", w=40, h=40), np.zeros((9, 9, 3), np.uint8)
    boxes = np.array([[0.5, 0.5, 0.1, 0.1, i % 3] for i in range(7)], np.float32)
    boxes[:, 3] = np.linspace(0.1, 0.7, 7)
    counts, first = np.zeros(7), np.zeros(7)
    for place in range(700):
        _, truth, shown = view.row(pixels, boxes, 0, place)
        rows = truth.reshape(4, 5)
        assert shown == 7 and (rows[:, 2] > 0).all()
        ranks = np.abs(rows[:, 3:4] - boxes[:, 3]).argmin(axis=1)
        assert len(set(ranks)) == 4
        counts[ranks] += 1
        first[ranks[0]] += 1
    assert (np.abs(counts - 400) < 65).all() and (np.abs(first - 100) < 40).all()


def test_truth_is_all_there_is_of_a_row(rng):
    """No box, one box, boxes too small to learn; arrays that are given are written whole."""
    view, pixels = view_of("yolo", "jitter=0", dialect="alexeyab"), rng.integers(0, 256, (8, 8, 1), np.uint8)
    x, truth = np.full(3600, 7, np.float32), np.full(24, 7, np.float32)
    assert view.row(pixels, np.empty((0, 5), np.float32), 0, 0, x, truth)[2] == 0
    assert not truth.any() and x.max() <= 1
    small = np.array([[0.5, 0.5, 0.02, 0.5, 1], [0.5, 0.5, 0.5, 0.5, 2]], np.float32)
    assert view.row(pixels, small)[2] == 1
    assert view.row(pixels, small)[1].reshape(4, 6)[0, 4:].tolist() == [2, 0]
    kept = small.copy()
    view.row(pixels, kept)
    np.testing.assert_array_equal(kept, small)


def test_a_class_without_a_box(tmp_path):
    """x = y = 0, as for YOLO9000: nothing moves it."""
    (tmp_path / "t.tree").write_text("a -1\nb -1\nc -1\n")
    view = view_of("region", f"tree={tmp_path}/t.tree\n")
    assert view.class_only and not view_of("region").class_only and not view_of("yolo").class_only
    truth = view.row(np.zeros((8, 8, 3), np.uint8), np.array([[0, 0, 0, 0, 2]], np.float32))[1]
    assert truth[:5].tolist() == [999999, 999999, 999999, 999999, 2] and not truth[5:].any()


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"head": "yolo", "options": "jitter=1"}, "jitter: expected less than 1, got 1"),
        ({"head": "detection", "options": "jitter=.5"}, "jitter=0.5 can leave nothing"),
        (
            {"dialect": "alexeyab", "options": "jitter=.3\nresize=2.5"},
            "jitter=0.3 and resize=2.5 can leave nothing",
        ),
        ({"dialect": "alexeyab", "options": "jitter=.1\nresize=20"}, "resize: expected 1/16 to 16, got 20"),
        ({"c": 2}, "channels=2"),
        ({"head": "detection", "options": HEADS["yolo"]}, "learn from different truths"),
        ({"options": "max=4\n" + HEADS["yolo"] + "max=5"}, "max=4, but the last head has max=5"),
        (
            {"options": "max=4\n" + HEADS["yolo"].replace("classes=3", "classes=2")},
            "classes=3, but the last head has classes=2",
        ),
        ({"head": "region", "options": "coords=18\n"}, "4 numbers of a box, got coords=18"),
    ],
)
def test_cfgs_that_cannot_be_trained(arguments, message):
    with pytest.raises(CfgError, match=message):
        view_of(**arguments)


def test_no_head():
    with pytest.raises(CfgError, match="no detector: it has none of"):
        data.DetectionView.training(
            resolve(parse_cfg_text("[net]\nwidth=8\nheight=8\nchannels=3\n[maxpool]\nsize=2\n"))
        )


def test_what_is_not_done_is_noted():
    for head in ("yolo", "region", "Gaussian_yolo"):
        dialect = "alexeyab" if head == "Gaussian_yolo" else "pjreddie"
        (note,) = view_of(head, "random=1", dialect=dialect).notes
        assert f"[{head}] random= asks for training at several sizes, which is not done" in note
        assert view_of(head, dialect=dialect).notes == []
    assert view_of("detection", "random=1").notes == []  # means another thing there, and acts


def test_arguments(rng):
    view, pixels, boxes = view_of(), rng.integers(0, 256, (5, 5, 3), np.uint8), some_boxes(rng)
    for call, message in (
        (lambda: view.row(pixels.astype(float), boxes), "pixels: expected"),
        (lambda: view.row(pixels[:, ::2], boxes), "pixels: expected"),
        (lambda: view.row(pixels, boxes[:, :4]), "boxes: expected"),
        (lambda: view.row(pixels, boxes * np.nan), "boxes: expected finite"),
        (lambda: view.row(pixels, boxes + 3), "boxes: expected classes 0 to 2"),
        (lambda: view.row(pixels, boxes, x=np.empty(5, np.float32)), "x: expected"),
        (lambda: view.row(pixels, boxes, truth=np.empty(20)), "truth: expected"),
    ):
        with pytest.raises(ArgumentError, match=message):
            call()


# ---- beside Debian's Darknet


@pytest.fixture(scope="module")
def peer():
    if darknet_peer.MISSING:
        pytest.skip("Debian's package darknet is not installed")
    peer = darknet_peer.DarknetPeer()
    yield peer
    peer.close()


@pytest.mark.parametrize("head", ["yolo", "detection"])
def test_darknet_makes_the_same_truth(head, peer, tmp_path, rng):
    view, boxes = view_of(head, "jitter=.2\nmax=9"), some_boxes(rng, 6)
    (tmp_path / "labels").mkdir()
    path, pixels = str(tmp_path / "images" / "a.png"), np.zeros((50, 70, 3), np.uint8)
    lines = [f"{int(c)} {x:.9g} {y:.9g} {w:.9g} {h:.9g}\n" for x, y, w, h, c in boxes]
    (tmp_path / "labels" / "a.txt").write_text("".join(lines))
    for place in range(20):
        numbers = drawn(view, 70, 50, 5, place)
        shift = numbers.flip, -numbers.dx, -numbers.dy, numbers.sx, numbers.sy
        ours = view.row(pixels, boxes, 5, place)[1]
        theirs = np.zeros_like(ours)
        if head == "yolo":
            peer_truth = peer.kernel("fill_truth_detection", path.encode(), 9, theirs, 3, *shift)[2]
            np.testing.assert_allclose(
                sorted_rows(ours.reshape(9, 5).round(5)),
                sorted_rows(peer_truth.reshape(9, 5).round(5)),
                atol=2e-5,
            )
        else:
            peer_truth = peer.kernel("fill_truth_region", path.encode(), theirs, 3, 5, *shift)[1].reshape(
                5, 5, 8
            )
            cells = ours.reshape(5, 5, 8)
            np.testing.assert_array_equal(cells[..., 0], peer_truth[..., 0])
            kept = reference_views.moved(boxes.astype(float), numbers, False, 40, 30, 70, 50)
            check_grid(peer_truth, kept[(kept[:, 2:4] >= 0.005).all(axis=1)])


@pytest.mark.parametrize("size", [(12, 9), (40, 30), (55, 70)])
def test_darknet_places_the_same_pixels(size, peer, rng):
    (w, h), view = size, view_of("yolo", "jitter=.3", net="flip=0")
    pixels = rng.integers(0, 256, (h, w, 3), np.uint8)
    image = np.ascontiguousarray(pixels.transpose(2, 0, 1), np.float32) / np.float32(255)
    for place in range(5):
        v = drawn(view, w, h, 1, place)
        wanted = peer.placed(image, v.w, v.h, v.left, v.top, np.full((3, 30, 40), 0.5, np.float32))
        np.testing.assert_allclose(
            view.row(pixels, some_boxes(rng), 1, place)[0].reshape(3, 30, 40), wanted, atol=2e-5
        )


@pytest.mark.parametrize("size", [(12, 9), (40, 30), (55, 70)])
def test_darknet_crops_the_same_pixels(size, peer, rng):
    (w, h), view = size, view_of("detection", "jitter=.3", net="flip=0")
    pixels = rng.integers(0, 256, (h, w, 3), np.uint8)
    image = np.ascontiguousarray(pixels.transpose(2, 0, 1), np.float32) / np.float32(255)
    for place in range(5):
        v = drawn(view, w, h, 1, place)
        wanted = peer.cropped(image, v.left, v.top, v.w, v.h, 40, 30)[
            :, :-1
        ]  # its last row may be almost black
        got = view.row(pixels, some_boxes(rng), 1, place)[0].reshape(3, 30, 40)[:, :-1]
        np.testing.assert_allclose(got, wanted, atol=2e-4)
