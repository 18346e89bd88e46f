"""Image kernels against recordings of Darknet, float64 references, and their own definitions at sizes that
hurt.
"""

from __future__ import annotations

import colorsys
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from darknetpy._darknet import ffi, lib

# Darknet's own outputs (pjreddie f6afaabc, AlexeyAB 59596d78; the same bits in both): inputs, arguments,
# results.
GOLDEN = np.load(Path(__file__).parent / "golden" / "images.npz")
CALLS = json.loads(GOLDEN["calls"].tobytes())
GUARD = 16  # floats around every output that must stay as they were


def floats(array):
    return ffi.from_buffer("float *", array)


class Guarded:
    """An array between two guard zones."""

    def __init__(self, shape):
        count = int(np.prod(shape))
        self.all = np.full(count + 2 * GUARD, 7e7, np.float32)
        self.array = self.all[GUARD : GUARD + count].reshape(shape)

    def check(self):
        assert (self.all[:GUARD] == 7e7).all() and (self.all[-GUARD:] == 7e7).all()
        assert np.isfinite(self.array).all()
        return self.array


def call(name, image, out_shape, *arguments, scratch=0):
    """Run a kernel that writes a new image of `out_shape` (c, h, w); scratch: its floats."""
    c, h, w = image.shape
    out, work = Guarded(out_shape), Guarded((scratch,))
    before = image.copy()
    extra = [floats(work.array)] if scratch else []
    getattr(lib, name)(floats(image), w, h, c, *arguments, *extra, floats(out.array))
    assert np.array_equal(image, before)
    if scratch:
        assert (work.all[:GUARD] == 7e7).all() and (work.all[-GUARD:] == 7e7).all()
    return out.check()


def resized(name, image, w, h):
    return call(name, image, (image.shape[0], h, w), w, h, scratch=2 * w)


def in_place(name, image, *arguments):
    guarded = Guarded(image.shape)
    guarded.array[:] = image
    c, h, w = image.shape
    getattr(lib, name)(
        floats(guarded.array), w, h, *([c] if name in ("flip_image", "distort_image") else []), *arguments
    )
    return guarded.check()


def run(name, image, arguments):
    """Darknet's function `name` by its name and arguments."""
    c, h, w = image.shape
    if name in ("resize_image", "letterbox_image", "center_crop_image"):
        return resized(name, image, *arguments)
    if name in ("resize_min", "resize_max"):
        size = ffi.new("int[2]")
        getattr(lib, name + "_size")(w, h, arguments[0], size, size + 1)
        return resized("resize_image", image, *size)
    if name == "crop_image":
        return call(name, image, (c, arguments[3], arguments[2]), *arguments)
    if name == "rotate_crop_image":
        return call(name, image, (c, arguments[3], arguments[2]), *arguments)
    return in_place(name, image, *arguments)


@pytest.fixture
def rng():
    return np.random.default_rng(5)


# ---- Darknet


@pytest.mark.parametrize("case", sorted(CALLS))
def test_darknet_recordings(case):
    source, arguments, _ = CALLS[case]
    result, expected = run(case.split("/")[1], GOLDEN[source], arguments), GOLDEN[case]
    assert result.shape == expected.shape
    exact = not any(word in case for word in ("rotate", "hsv", "distort"))
    np.testing.assert_allclose(result, expected, rtol=0, atol=0 if exact else 5e-7)


def test_last_row_is_the_inputs_last(rng):
    """Darknet weighs it with 1 - dy, which is nearly 0 where float rounds 27 * (63 / 27) to less than 63."""
    image = rng.random((1, 64, 4), np.float32)
    assert np.float32(27) * (np.float32(63) / np.float32(27)) < 63
    np.testing.assert_array_equal(resized("resize_image", image, 4, 28)[:, -1], image[:, -1])


# ---- resize and what is made of it


def reference_resize(image, w, h):
    """Corners on corners, in float64."""

    def axis(data, new):
        old = data.shape[-1]
        at = np.arange(new) * (old - 1) / (new - 1) if new > 1 else np.array([old - 1.0])
        low = np.clip(np.floor(at + 1e-9).astype(int), 0, max(old - 2, 0))
        part = at - low
        return data[..., low] * (1 - part) + data[..., np.minimum(low + 1, old - 1)] * part

    across = axis(image.astype(np.float64), w)
    return axis(across.swapaxes(1, 2), h).swapaxes(1, 2)


SIZES = [(1, 1), (1, 7), (7, 1), (2, 2), (3, 5), (28, 28), (17, 40)]


@pytest.mark.parametrize("from_size", SIZES)
@pytest.mark.parametrize("to_size", SIZES)
def test_resize(from_size, to_size, rng):
    (w, h), (new_w, new_h) = from_size, to_size
    image = rng.random((3, h, w), np.float32)
    np.testing.assert_allclose(
        resized("resize_image", image, new_w, new_h), reference_resize(image, new_w, new_h), rtol=0, atol=4e-6
    )


def test_sizes_never_vanish():
    size = ffi.new("int[2]")
    for function, w, h, expected in (
        (lib.resize_max_size, 900, 1, [7, 1]),
        (lib.resize_max_size, 1, 900, [1, 7]),
        (lib.resize_min_size, 900, 1, [6300, 7]),
        (lib.resize_min_size, 20, 30, [7, 10]),
    ):
        function(w, h, 7, size, size + 1)
        assert list(size) == expected


def test_resize_to_the_same_size_is_exact(rng):
    image = rng.random((2, 9, 13), np.float32)
    np.testing.assert_array_equal(resized("resize_image", image, 13, 9), image)


@pytest.mark.parametrize("from_size", SIZES + [(1, 900), (900, 1)])
@pytest.mark.parametrize("to_size", SIZES)
def test_views_are_made_of_resize_and_crop(from_size, to_size, rng):
    (w, h), (out_w, out_h) = from_size, to_size
    image = rng.random((1, h, w), np.float32)

    side = min(w, h)
    middle = run("crop_image", image, [(w - side) // 2, (h - side) // 2, side, side])
    np.testing.assert_array_equal(
        resized("center_crop_image", image, out_w, out_h), resized("resize_image", middle, out_w, out_h)
    )

    full = ffi.new("int[2]")
    lib.resize_min_size(w, h, out_w, full, full + 1)
    large = resized("resize_image", image, *full)
    window = [int((full[0] - out_w) / 2), int((full[1] - out_h) / 2), out_w, out_h]  # C's division: towards 0
    np.testing.assert_array_equal(
        resized("resize_min_crop_image", image, out_w, out_h), run("crop_image", large, window)
    )

    box = resized("letterbox_image", image, out_w, out_h)
    narrow = out_w / w < out_h / h
    new_w, new_h = (out_w, max(1, h * out_w // w)) if narrow else (max(1, w * out_h // h), out_h)
    x, y = (out_w - new_w) // 2, (out_h - new_h) // 2
    expected = np.full_like(box, 0.5)
    expected[:, y : y + new_h, x : x + new_w] = resized("resize_image", image, new_w, new_h)
    np.testing.assert_array_equal(box, expected)


def test_crop_repeats_the_border(rng):
    image = rng.random((2, 3, 4), np.float32)
    np.testing.assert_array_equal(
        run("crop_image", image, [-3, -2, 10, 8]), np.pad(image, ((0, 0), (2, 3), (3, 3)), "edge")
    )


@pytest.mark.parametrize("w", [1, 2, 5])
def test_flip(w, rng):
    image = rng.random((3, 4, w), np.float32)
    np.testing.assert_array_equal(in_place("flip_image", image), image[:, :, ::-1])


def reference_rotate_crop(image, rad, scale, w, h, dx, dy, aspect):
    """Each pixel by itself, in float64; 0 outside."""
    c, old_h, old_w = image.shape
    padded = np.zeros((c, old_h + 4, old_w + 4))
    padded[:, 2:-2, 2:-2] = image
    out = np.zeros((c, h, w))
    for y in range(h):
        for x in range(w):
            u, v = (x - w / 2 + dx) / scale * aspect, (y - h / 2 + dy) / scale
            fx = np.clip(np.cos(rad) * u - np.sin(rad) * v + old_w / 2, -2, old_w) + 2
            fy = np.clip(np.sin(rad) * u + np.cos(rad) * v + old_h / 2, -2, old_h) + 2
            ix, iy = int(fx), int(fy)
            rows = padded[:, iy : iy + 2, ix : ix + 2]
            out[:, y, x] = rows @ [1 - fx + ix, fx - ix] @ [1 - fy + iy, fy - iy]
    return out


@pytest.mark.parametrize("out", [(8, 7), (130, 3)])  # 130: several runs of points
@pytest.mark.parametrize("size", [(1, 1), (6, 9), (28, 28)])
@pytest.mark.parametrize(
    "arguments", [(0, 1, 0, 0, 1), (0.4, 1.7, 2.5, -3, 0.8), (-2, 0.3, 40, 1, 1.5), (0, 2, 14, -14, 1)]
)
def test_rotate_crop(size, arguments, out, rng):
    (w, h), (rad, scale, dx, dy, aspect) = size, arguments
    image = rng.random((3, h, w), np.float32)
    result = run("rotate_crop_image", image, [rad, scale, *out, dx, dy, aspect])
    np.testing.assert_allclose(
        result,
        reference_rotate_crop(image, np.float32(rad), np.float32(scale), *out, dx, dy, np.float32(aspect)),
        rtol=0,
        atol=2e-5,
    )  # sharp edge at 0


def test_rotate_crop_without_change_is_exact(rng):
    image = rng.random((1, 28, 28), np.float32)
    np.testing.assert_array_equal(run("rotate_crop_image", image, [0, 1, 28, 28, 0, 0, 1]), image)


# ---- colours and bytes


def test_hsv_is_colorsys_and_back(rng):
    image = rng.random((3, 8, 9), np.float32)
    image[:, 0] = [[0], [0], [0]]
    image[:, 1] = [[0.5], [0.5], [0.5]]
    image[:, 2] = [[1], [0], [0.25]]
    hsv = in_place("rgb_to_hsv", image)
    expected = np.array([colorsys.rgb_to_hsv(*map(float, p)) for p in image.reshape(3, -1).T]).T.reshape(
        image.shape
    )
    np.testing.assert_allclose(hsv, expected, rtol=0, atol=1e-6)
    np.testing.assert_allclose(in_place("hsv_to_rgb", hsv), image, rtol=0, atol=1e-6)


def test_distort_without_colour_changes_the_value_only(rng):
    image = rng.random((1, 5, 5), np.float32)
    np.testing.assert_array_equal(
        in_place("distort_image", image, 0.3, 2, 1.5), np.minimum(image * np.float32(1.5), 1)
    )


def to_image(pixels, c):
    h, w, channels = pixels.shape
    out = Guarded((c, h, w))
    lib.bytes_to_image(ffi.from_buffer("unsigned char *", pixels), w, h, channels, c, floats(out.array))
    return out.check()


def test_every_byte_as_darknet_divides_it():
    pixels = np.arange(256, dtype=np.uint8).reshape(16, 16, 1)
    np.testing.assert_array_equal(to_image(pixels, 1)[0], (pixels[:, :, 0] / 255.0).astype(np.float32))


def test_channels(rng):
    colour = rng.integers(0, 256, (40, 50, 3), np.uint8)
    np.testing.assert_array_equal(to_image(colour, 3), (colour.transpose(2, 0, 1) / 255.0).astype(np.float32))
    luma = np.asarray(Image.fromarray(colour).convert("L"))
    np.testing.assert_array_equal(to_image(colour, 1)[0], (luma / 255.0).astype(np.float32))
    np.testing.assert_array_equal(
        to_image(luma[:, :, None].copy(), 3), np.repeat(to_image(luma[:, :, None].copy(), 1), 3, 0)
    )


# ---- random numbers


@pytest.mark.parametrize(
    "counter, key, expected",
    [  # the vectors published with Random123
        ([0] * 4, [0] * 2, [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]),
        ([0xFFFFFFFF] * 4, [0xFFFFFFFF] * 2, [0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD]),
        (
            [0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344],
            [0xA4093822, 0x299F31D0],
            [0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1],
        ),
    ],
)
def test_philox_vectors(counter, key, expected):
    out = ffi.new("uint32_t[4]")
    lib.philox4x32(counter, key, out)
    assert list(out) == expected


def order(kind, seed, first, count, n):
    index = np.empty(count, np.int64)
    lib.sample_order(kind, seed, first, count, n, ffi.from_buffer("int64_t *", index))
    return index


@pytest.mark.parametrize("n", [1, 2, 3, 4, 5, 16, 17, 1000, 4097])
def test_shuffled_order_is_a_permutation_of_every_epoch(n):
    places = order(lib.DN_ORDER_SHUFFLED, 7, 0, 5 * n, n).reshape(5, n)
    for epoch in places:
        np.testing.assert_array_equal(np.sort(epoch), np.arange(n))
    if n >= 16:
        assert len({tuple(epoch) for epoch in places}) == 5
        assert abs(np.corrcoef(places[0], np.arange(n))[0, 1]) < 6 / np.sqrt(n)
        assert abs(np.corrcoef(places[0], places[1])[0, 1]) < 6 / np.sqrt(n)
        assert not np.array_equal(places[0], order(lib.DN_ORDER_SHUFFLED, 8, 0, n, n))


@pytest.mark.parametrize("kind", [0, 1, 2])
def test_order_is_a_function_of_the_place(kind):
    whole = order(kind, 3, 0, 1000, 77)
    np.testing.assert_array_equal(order(kind, 3, 123, 400, 77), whole[123:523])
    if kind == 2:
        np.testing.assert_array_equal(whole, np.arange(1000) % 77)


def test_replacement_draws_evenly():
    counts = np.bincount(order(lib.DN_ORDER_REPLACEMENT, 1, 0, 100_000, 10), minlength=10)
    assert abs(counts - 10_000).max() < 5 * np.sqrt(9_000)  # five standard deviations
    tried = {lib.replacement_sample(1, 5, attempt, 1000) for attempt in range(20)}
    assert len(tried) > 15 and max(tried) < 1000


# ---- views


def options(**given):
    return ffi.new(
        "view_options *",
        {
            **dict(
                kind=lib.VIEW_RANDOM,
                w=28,
                h=28,
                c=1,
                low=28,
                high=56,
                flip=1,
                inside=0,
                aspect=1,
                angle=0,
                hue=0,
                saturation=1,
                exposure=1,
            ),
            **given,
        },
    )


def draw(o, w, h, place, seed=1):
    view = ffi.new("random_view *")
    lib.draw_view(o, w, h, seed, place, view)
    return {name: getattr(view, name) for name, _ in ffi.typeof("random_view").fields}


def test_draw_view_ranges():
    """pjreddie's rules: shorter side of low..high pixels, window anywhere on the enlarged image, factors f to
    1/f.
    """
    o = options(low=30, high=56, aspect=0.75, angle=7, hue=0.1, saturation=1.5, exposure=0.75)
    views = [draw(o, 50, 40, place) for place in range(4000)]
    side = [
        view["scale"] * int(min(np.float32(40), np.float32(50) * np.float32(view["aspect"])))
        for view in views
    ]
    assert set(np.round(side, 3)) == set(range(30, 57))
    for view in views:
        assert abs(view["dx"]) <= abs(50 * view["scale"] / view["aspect"] - 28) / 2 + 1e-4
        assert abs(view["dy"]) <= abs(40 * view["scale"] - 28) / 2 + 1e-4
    for name, low, high in (
        ("aspect", 0.75, 4 / 3),
        ("rad", -np.radians(7), np.radians(7)),
        ("hue", -0.1, 0.1),
        ("saturation", 1 / 1.5, 1.5),
        ("value", 0.75, 4 / 3),
    ):
        values = np.array([view[name] for view in views])
        assert (
            low - 1e-6 <= values.min() < low + 0.02 * (high - low)
            and high - 0.02 * (high - low) < values.max() <= high + 1e-6
        )
    assert abs(np.mean([view["flip"] for view in views]) - 0.5) < 0.04
    assert not any(draw(options(flip=0), 28, 28, place)["flip"] for place in range(50))


def test_inside_keeps_a_window_larger_than_the_image_in_its_middle():
    wander = [draw(options(low=20, high=20), 30, 60, place) for place in range(50)]
    stay = [draw(options(low=20, high=20, inside=1), 30, 60, place) for place in range(50)]
    assert max(abs(view["dx"]) for view in wander) > 1 and all(view["dx"] == 0 for view in stay)
    assert max(abs(view["dy"]) for view in stay) > 1


def views_of(o, pixels, index, seed=1, first=0):
    n, h, w, channels = pixels.shape
    out = Guarded((len(index), o.c, o.h, o.w))
    scratch = Guarded((lib.classifier_scratch(o, w, h),))
    lib.classifier_images(
        o,
        ffi.from_buffer("unsigned char *", pixels),
        ffi.from_buffer("int64_t *", np.array(index, np.int64)),
        len(index),
        w,
        h,
        channels,
        seed,
        first,
        floats(scratch.array),
        floats(out.array),
    )
    assert (scratch.all[:GUARD] == 7e7).all() and (scratch.all[-GUARD:] == 7e7).all()
    return out.check()


@pytest.mark.parametrize("channels, c", [(1, 1), (3, 3), (1, 3), (3, 1)])
def test_classifier_images_are_their_parts(channels, c, rng):
    pixels = rng.integers(0, 256, (3, 9, 12, channels), np.uint8)
    o = options(w=7, h=6, c=c, low=6, high=12, angle=20, hue=0.1, saturation=1.5, exposure=1.5, aspect=1.3)
    for row, index in enumerate((2, 0, 1, 1)):
        view = draw(o, 12, 9, 100 + row)
        expected = run(
            "rotate_crop_image",
            to_image(pixels[index], c),
            [view["rad"], view["scale"], 7, 6, view["dx"], view["dy"], view["aspect"]],
        )
        expected = in_place("flip_image", expected) if view["flip"] else expected
        expected = in_place("distort_image", expected, view["hue"], view["saturation"], view["value"])
        np.testing.assert_array_equal(views_of(o, pixels, [2, 0, 1, 1], first=100)[row], expected)


@pytest.mark.parametrize(
    "kind, name",
    [
        ("VIEW_LETTERBOX", "letterbox_image"),
        ("VIEW_CENTER_CROP", "center_crop_image"),
        ("VIEW_RESIZE_MIN_CROP", "resize_min_crop_image"),
    ],
)
def test_fixed_views(kind, name, rng):
    pixels = rng.integers(0, 256, (2, 9, 12, 3), np.uint8)
    result = views_of(options(kind=getattr(lib, kind), w=7, h=6, c=3), pixels, [1, 0])
    np.testing.assert_array_equal(result[0], resized(name, to_image(pixels[1], 3), 7, 6))


def test_center_view_mirrors_and_colours(rng):
    pixels = rng.integers(0, 256, (1, 9, 12, 3), np.uint8)
    middle = resized("center_crop_image", to_image(pixels[0], 3), 8, 8)
    rows = views_of(options(kind=lib.VIEW_CENTER_RANDOM, w=8, h=8, c=3), pixels, [0] * 20)
    assert {True, False} == {bool(np.array_equal(row, middle)) for row in rows}
    assert all(np.array_equal(row, middle) or np.array_equal(row, middle[:, :, ::-1]) for row in rows)
