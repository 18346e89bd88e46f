"""The convolution and matrix kernels against float64: shapes that hurt, every SIMD level, guard zones, 1, 2 and 3 threads."""

from __future__ import annotations

import itertools
import os
import shutil
import subprocess
import sys
import zlib

import kernel_calls
import numpy as np
import pytest

from darknetpy.core import core

# batch, c, h, w, n, groups, size, stride_x, stride_y, dilation, pad; computed as matrix products, whose sums hold
# the tolerances of kernel_calls.py
SHAPES = {
    "1x1": (1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 0),
    "1x1 many": (2, 33, 7, 9, 35, 1, 1, 1, 1, 1, 0),
    "1x1 strided": (2, 5, 9, 8, 7, 1, 1, 2, 2, 1, 0),
    "1x1 padded": (1, 3, 4, 4, 2, 1, 1, 1, 1, 1, 2),
    "3x3": (2, 3, 13, 15, 17, 1, 3, 1, 1, 1, 1),
    "3x3 bare": (1, 4, 5, 5, 3, 1, 3, 1, 1, 1, 0),
    "3x3 strided": (2, 8, 15, 13, 9, 1, 3, 2, 2, 1, 1),
    "3x3 stride 3": (1, 2, 11, 10, 5, 1, 3, 3, 3, 1, 1),
    "5x5 on 2x2": (2, 3, 2, 2, 4, 1, 5, 1, 1, 1, 2),
    "7x7 stem": (1, 3, 32, 31, 16, 1, 7, 2, 2, 1, 3),
    "4x4": (2, 3, 9, 8, 4, 1, 4, 2, 2, 1, 1),
    "beyond": (1, 2, 13, 11, 3, 1, 2, 5, 5, 1, 0),
    "phases deep": (1, 53, 7, 11, 70, 1, 3, 2, 2, 1, 1),
    "phases in blocks": (2, 3, 70, 61, 9, 1, 3, 2, 2, 1, 1),
    "phases apart": (1, 1, 3, 400, 700, 1, 3, 2, 2, 1, 1),
    "unequal": (2, 3, 9, 12, 5, 1, 3, 2, 1, 1, 1),
    "groups": (2, 6, 8, 7, 9, 3, 3, 1, 1, 1, 1),
    "groups strided": (1, 8, 9, 9, 4, 4, 3, 2, 2, 1, 1),
    "depthwise": (2, 19, 9, 17, 19, 19, 3, 1, 1, 1, 1),
    "depthwise strided": (1, 8, 10, 11, 8, 8, 3, 2, 2, 1, 1),
    "depthwise 5x5": (2, 5, 9, 17, 5, 5, 5, 1, 1, 1, 2),
    "depthwise 5x5 strided": (2, 5, 13, 38, 5, 5, 5, 2, 2, 1, 2),
    "depthwise 7x7 strided": (1, 3, 12, 35, 3, 3, 7, 2, 2, 1, 3),
    "depthwise bare": (1, 3, 9, 37, 3, 3, 3, 2, 2, 1, 0),
    "depthwise unequal": (1, 3, 9, 20, 3, 3, 3, 2, 1, 1, 1),
    "depthwise dilated": (1, 3, 12, 20, 3, 3, 3, 1, 1, 2, 2),
    "depthwise 1x1 strided": (1, 3, 7, 9, 3, 3, 1, 2, 2, 1, 0),
    "depthwise padded": (1, 2, 3, 2, 2, 2, 3, 1, 1, 1, 40),
    "depthwise padded strided": (1, 2, 3, 2, 2, 2, 5, 2, 2, 1, 41),
    "depthwise small": (1, 3, 2, 3, 3, 3, 3, 2, 2, 1, 1),
    "depthwise pixel": (3, 5, 1, 1, 5, 5, 3, 1, 1, 1, 1),
    "depthwise pixel 5x5 strided": (2, 3, 1, 1, 3, 3, 5, 2, 2, 1, 2),
    "depthwise on 7x7": (3, 18, 7, 7, 18, 18, 3, 1, 1, 1, 1),
    "depthwise on 14x13 strided": (3, 4, 14, 13, 4, 4, 3, 2, 2, 1, 1),
    "depthwise wide strided": (2, 2, 9, 75, 2, 2, 3, 2, 2, 1, 1),
    "depthwise 32 strided": (1, 2, 32, 32, 2, 2, 3, 2, 2, 1, 1),
    "depthwise 5x5 on 7x7": (3, 4, 7, 7, 4, 4, 5, 1, 1, 1, 2),
    "depthwise 5x5 narrow": (3, 2, 11, 2, 2, 2, 5, 1, 1, 1, 2),
    "depthwise 5x5 on 13x14 strided": (3, 4, 13, 14, 4, 4, 5, 2, 2, 1, 2),
    "depthwise 9x16 strided": (3, 4, 9, 16, 4, 4, 3, 2, 2, 1, 1),
    "depthwise 10x31 strided": (2, 3, 10, 31, 3, 3, 3, 2, 2, 1, 1),
    "depthwise 5x5 on 9x16 strided": (3, 4, 9, 16, 4, 4, 5, 2, 2, 1, 2),
    "depthwise 5x5 on 10x32 strided": (2, 3, 10, 32, 3, 3, 5, 2, 2, 1, 2),
    "depthwise 5x5 bare": (2, 2, 9, 12, 2, 2, 5, 1, 1, 1, 0),
    "doubled": (1, 4, 6, 6, 12, 4, 3, 1, 1, 1, 1),
    "dilation": (1, 3, 11, 12, 5, 1, 3, 1, 1, 2, 2),
    "dilation strided": (2, 3, 11, 12, 5, 1, 3, 2, 2, 3, 3),
    "255": (1, 2, 3, 255, 3, 1, 3, 1, 1, 1, 1),
    "256": (1, 2, 3, 256, 3, 1, 3, 1, 1, 1, 1),
    "257": (1, 2, 3, 257, 3, 1, 3, 1, 1, 1, 1),
    "deep": (1, 70, 6, 5, 65, 1, 3, 1, 1, 1, 1),
    "one column": (3, 2, 40, 1, 3, 1, 3, 1, 1, 1, 1),
    "many rows": (12, 3, 12, 12, 4, 1, 3, 1, 1, 1, 1),
}
# batch, c, h, w, n, pad of 3x3 filters that move by one: for Winograd's tiles
TILED = {
    "1x1": (1, 1, 1, 1, 1, 1),
    "one output": (2, 3, 3, 3, 2, 0),
    "one row": (2, 5, 1, 9, 4, 1),
    "one column": (3, 2, 40, 1, 3, 1),
    "padded by 2": (1, 4, 6, 5, 3, 2),
    "padded by 5": (2, 3, 2, 3, 4, 5),
    "7x7": (9, 17, 7, 7, 33, 1),
    "13x13": (2, 33, 13, 13, 47, 1),
    "14x12": (3, 16, 14, 12, 16, 1),
    "strips": (1, 3, 9, 131, 5, 1),
    "many filters": (1, 12, 5, 6, 230, 1),
    "many channels": (2, 260, 4, 5, 7, 1),
    "parts": (1, 101, 8, 7, 99, 0),
    "many blocks": (30, 2, 13, 13, 3, 1),
    "groups": (3, 60, 7, 9, 66, 1),
    "many groups": (2, 153, 9, 8, 162, 1),
}
# batch, c, h, w, n of 3x3 filters that move by two, padded by 1: for Winograd's tiles too. With 16 channels each,
# both ways; with 20 of one, in two of the three passes.
BY_TWO = {
    "by two": (2, 16, 12, 14, 32),
    "by two on 2x3": (3, 32, 2, 3, 16),
    "by two on 1x1": (2, 16, 1, 1, 16),
    "by two, one row": (1, 16, 1, 37, 16),
    "by two, odd": (5, 48, 13, 27, 16),
    "by two, strips": (1, 16, 9, 131, 48),
    "by two, parts": (2, 80, 17, 15, 144),
    "by two, shares": (1, 160, 19, 18, 208),
    "by two, many blocks": (9, 16, 33, 30, 16),
    "by two, 20 filters": (2, 16, 12, 14, 20),
    "by two, 20 channels": (2, 20, 12, 14, 16),
    "by two, groups": (2, 48, 12, 14, 96),
    "by two, many groups": (3, 144, 9, 10, 144),
}
GROUPS = {"groups": 3, "many groups": 9, "by two, groups": 3, "by two, many groups": 9}  # of tiles; 1 else
# batch, c, h, w, n, groups, pad of 3x3 filters that move by one, of few channels: for bands of four rows, along y alone
BANDS = {
    "image": (8, 3, 13, 47, 7, 1, 1),
    "one channel": (1, 1, 8, 64, 41, 1, 1),
    "fifteen": (8, 15, 7, 30, 14, 1, 1),
    "groups": (2, 8, 12, 48, 20, 4, 1),
    "groups of 15": (1, 45, 14, 14, 45, 3, 1),
    "bare": (8, 4, 10, 34, 9, 1, 0),
    "padded by 5": (8, 4, 6, 22, 9, 1, 5),
    "padded by 33": (1, 15, 20, 20, 4, 1, 33),
    "wide": (1, 3, 4, 416, 5, 1, 1),
    "tall": (1, 3, 258, 100, 5, 1, 1),
}
# Largest error in units of the answers' root mean square. An output is a difference of terms that are larger than it: the sums over
# the points 0, +-sqrt(1/2), +-sqrt(2) lose a digit, those over 0, +-1, +-2, +-1/2 two (docs/convolution.md).
TOLERANCE = {"winograd4": 2e-5, "winograd6": 2e-4}
TILES = [(label, algorithm) for label in TILED for algorithm in TOLERANCE] + [(label, "winograd4") for label in BY_TWO]
ALGORITHMS = ("auto", "gemm", "winograd4", "winograd6")
NAMES = ("batch", "c", "h", "w", "n", "groups", "size", "stride_x", "stride_y", "dilation", "pad")
ACTIVATIONS = ("linear", "relu", "leaky")


@pytest.fixture(params=[0, 1, 2], ids=["baseline", "avx2", "avx512"])
def simd(request):
    """Each level that this processor has."""
    if core.lib.dn_set_simd_level(request.param) != request.param:
        core.lib.dn_set_simd_level(-1)
        pytest.skip("not on this processor")
    yield request.param
    core.lib.dn_set_simd_level(-1)


def _shape(label, algorithm="gemm"):
    if algorithm == "gemm":
        s = dict(zip(NAMES, SHAPES[label]))
    elif algorithm == "auto":
        s = dict(zip(("batch", "c", "h", "w", "n", "groups", "pad"), BANDS[label]))
        s.update(size=3, stride_x=1, stride_y=1, dilation=1)
    else:
        stride = 2 if label in BY_TWO else 1
        s = dict(zip(("batch", "c", "h", "w", "n", "pad"), (*BY_TWO[label], 1) if label in BY_TWO else TILED[label]))
        s.update(groups=GROUPS.get(label, 1), size=3, stride_x=stride, stride_y=stride, dilation=1)
    s["algorithm"] = ALGORITHMS.index(algorithm)
    s["out_h"] = (s["h"] + 2 * (s["pad"] // s["dilation"]) - s["size"]) // s["stride_y"] + 1
    s["out_w"] = (s["w"] + 2 * (s["pad"] // s["dilation"]) - s["size"]) // s["stride_x"] + 1
    return s


def _arrays(label, algorithm="gemm"):
    r = np.random.default_rng(zlib.crc32(label.encode()))
    s = _shape(label, algorithm)
    depth = s["c"] // s["groups"] * s["size"] ** 2
    x = r.standard_normal(s["batch"] * s["c"] * s["h"] * s["w"])
    w = r.standard_normal(s["n"] * depth) / np.sqrt(depth)
    dy = r.standard_normal(s["batch"] * s["n"] * s["out_h"] * s["out_w"]) / np.sqrt(
        max(s["n"] // s["groups"] * s["size"] ** 2, 1)
    )
    workspace = np.full(core.lib.convolution_workspace(core.ffi.new("conv_shape *", s), 3), 0.5)
    return s, r, x, w, dy, workspace


@pytest.mark.parametrize("label", SHAPES)
def test_forward(label, simd, threads):
    s, r, x, w, dy, workspace = _arrays(label)
    case = {"s": ("conv_shape *", s), "x": x, "w": w, "y": np.full(dy.size, np.nan), "workspace": workspace}
    kernel_calls.compare_threads("convolution_forward_cpu", {**case, "ep": None}, threads)
    scale, shift = r.uniform(0.5, 1.5, s["n"]), r.standard_normal(s["n"])
    for a, (first, second) in itertools.product(ACTIVATIONS, ((scale, shift), (None, shift))):
        ep = ("conv_epilogue *", {"scale": first, "shift": second, "activation": a})
        kernel_calls.compare("convolution_forward_cpu", {**case, "ep": ep})


@pytest.mark.parametrize("label", SHAPES)
@pytest.mark.parametrize("a", ACTIVATIONS)
def test_forward_takes_statistics(label, a, simd, threads):
    """Mean and variance of what is stored, gathered on the way; |mean| is 30 deviations."""
    s, r, x, w, dy, workspace = _arrays(label)
    mean, rest, variance = np.full((3, s["n"]), np.nan)
    shift = 30 * r.choice([-1.0, 1.0], s["n"])
    ep = {"scale": None, "shift": shift, "activation": a, "mean": mean, "mean_rest": rest, "variance": variance}
    case = {"s": ("conv_shape *", s), "x": x, "w": w, "y": np.full(dy.size, np.nan), "workspace": workspace}
    bits = []
    for n in (1, 2, 3):
        threads(n)
        case["ep"] = ("conv_epilogue *", dict(ep))
        bits.append(kernel_calls.compare("convolution_forward_cpu", case, skip=("workspace", "mean_rest")))
    assert bits[0] == bits[1] == bits[2]


def test_statistics_keep_what_the_float_mean_leaves_out(threads):
    """mean + mean_rest is the mean of the stored values to double precision's digits; the variance as good."""
    s = _shape("3x3") | {"algorithm": 0, "batch": 4, "h": 40, "w": 40, "out_h": 40, "out_w": 40}
    r = np.random.default_rng(5)
    keep = {}
    arrays = {"mean": np.zeros(17), "mean_rest": np.zeros(17), "variance": np.zeros(17), "shift": np.full(17, 1000.0)}
    ep = kernel_calls.structure("conv_epilogue *", {"scale": None, "activation": "linear", **arrays}, keep)
    shape = core.ffi.new("conv_shape *", s)
    x, w, y, workspace = (
        kernel_calls.Guarded(a)
        for a in (
            r.standard_normal(4 * 3 * 1600),
            0.01 * r.standard_normal(17 * 27),
            np.zeros(4 * 17 * 1600),
            np.zeros(core.lib.convolution_workspace(shape, 3)),
        )
    )
    core.lib.convolution_forward_cpu(shape, x.pointer, w.pointer, ep, y.pointer, workspace.pointer)
    stored = y.values.astype(float).reshape(4, 17, 1600)
    mean = keep["mean"].values.astype(float) + keep["mean_rest"].values
    assert np.abs(mean - stored.mean((0, 2))).max() < 1e-7
    np.testing.assert_allclose(keep["variance"].values, stored.var((0, 2)), rtol=1e-5)


@pytest.mark.parametrize("label", SHAPES)
def test_backward_data(label, simd, threads):
    s, r, x, w, dy, workspace = _arrays(label)
    for add, dx in ((0, np.full(x.size, np.nan)), (1, r.standard_normal(x.size))):
        case = {"s": ("conv_shape *", s), "dy": dy, "w": w, "add": add, "dx": dx, "workspace": workspace}
        kernel_calls.compare_threads("convolution_backward_data_cpu", case, threads)


@pytest.mark.parametrize("label", SHAPES)
def test_backward_weights(label, simd, threads):
    s, r, x, w, dy, workspace = _arrays(label)
    case = {
        "s": ("conv_shape *", s),
        "x": x,
        "dy": dy / np.sqrt(s["out_h"] * s["out_w"]),
        "dw": r.standard_normal(w.size),
        "workspace": workspace,
    }
    kernel_calls.compare_threads("convolution_backward_weights_cpu", case, threads)


@pytest.mark.parametrize(
    "shape",
    [
        (2, 3, 260, 280, 2, 1, 3, 1, 1, 1, 1),
        (1, 2, 300, 290, 2, 2, 3, 1, 1, 1, 1),
        (1, 2, 301, 560, 2, 2, 3, 2, 2, 1, 1),
        (1, 2, 350, 345, 2, 2, 3, 1, 1, 1, 1),
        (2, 2, 113, 112, 2, 2, 3, 2, 2, 1, 1),
    ],
    ids=["bands of blocks", "long row", "bands strided", "bands", "parts, data in bands"],
)
def test_planes_beyond_the_scratch_memory(shape, monkeypatch, threads):
    """Images and planes cut into bands, in all passes."""
    monkeypatch.setitem(SHAPES, "large", shape)
    s, r, x, w, dy, workspace = _arrays("large")
    case = {"s": ("conv_shape *", s), "workspace": workspace}
    forward = {"x": x, "w": w, "ep": None, "y": np.full(dy.size, np.nan)}
    kernel_calls.compare_threads("convolution_forward_cpu", {**case, **forward}, threads)
    data = {"dy": dy, "w": w, "add": 0, "dx": np.full(x.size, np.nan)}
    kernel_calls.compare_threads("convolution_backward_data_cpu", {**case, **data}, threads)
    weights = {"x": x, "dy": dy / np.sqrt(s["out_h"] * s["out_w"]), "dw": np.zeros(w.size)}
    # A float32 sum of n terms of either sign is off by about 6e-8 sqrt(n) of its size: here n is up to 145,600.
    kernel_calls.compare_threads("convolution_backward_weights_cpu", {**case, **weights}, threads, atol=2e-5)


@pytest.mark.parametrize(("label", "algorithm"), TILES)
def test_winograd_forward(label, algorithm, simd, threads):
    s, r, x, w, dy, workspace = _arrays(label, algorithm)
    case = {"s": ("conv_shape *", s), "x": x, "w": w, "y": np.full(dy.size, np.nan), "workspace": workspace}
    near = {"rtol": 0, "atol": TOLERANCE[algorithm]}
    kernel_calls.compare_threads("convolution_forward_cpu", {**case, "ep": None}, threads, **near)
    scale, shift = r.uniform(0.5, 1.5, s["n"]), r.standard_normal(s["n"])
    for a, (first, second) in itertools.product(ACTIVATIONS, ((scale, shift), (None, shift))):
        ep = ("conv_epilogue *", {"scale": first, "shift": second, "activation": a})
        kernel_calls.compare("convolution_forward_cpu", {**case, "ep": ep}, **near)


def _compare_epilogue(case, ep, threads):
    """Outputs, and their mean and variance: those of the reference, and the same bits with any number of threads."""
    bits = []
    for n in (1, 2, 3):
        threads(n)
        case["ep"] = ("conv_epilogue *", dict(ep))
        skip = ("workspace", "mean_rest")
        bits.append(kernel_calls.compare("convolution_forward_cpu", case, skip, rtol=1e-5, atol=2e-5))
    assert bits[0] == bits[1] == bits[2]


@pytest.mark.parametrize("label", [*TILED, *BY_TWO])
@pytest.mark.parametrize("a", ACTIVATIONS)
def test_winograd_takes_statistics(label, a, simd, threads):
    """Mean and variance of what is stored; |mean| is 30 deviations, so that plain sums of squares would show."""
    s, r, x, w, dy, workspace = _arrays(label, "winograd4")
    mean, rest, variance = np.full((3, s["n"]), np.nan)
    shift = 30 * r.choice([-1.0, 1.0], s["n"])
    ep = {"scale": None, "shift": shift, "activation": a, "mean": mean, "mean_rest": rest, "variance": variance}
    case = {"s": ("conv_shape *", s), "x": x, "w": w, "y": np.full(dy.size, np.nan), "workspace": workspace}
    _compare_epilogue(case, ep, threads)


POOLED = [case for case in TILES if case[0] != "by two, 20 channels"] + [(label, "auto") for label in BANDS]


@pytest.mark.parametrize(("label", "algorithm"), POOLED)
def test_pooling_on_the_way(label, algorithm, simd, threads):
    """Of 2 x 2 outputs the largest is stored, behind scale, shift and activation; nothing else, and for even sides alone."""
    s, r, _, w, _, _ = _arrays(label, algorithm)
    even = s["out_h"] % 2 == s["out_w"] % 2 == 0
    assert core.lib.convolution_takes_pool(core.ffi.new("conv_shape *", s)) == even
    for side, stride in (("h", s["stride_y"]), ("w", s["stride_x"])):
        s[side] += s[f"out_{side}"] % 2 * stride
        s[f"out_{side}"] += s[f"out_{side}"] % 2
    x, values = r.standard_normal(s["batch"] * s["c"] * s["h"] * s["w"]), s["batch"] * s["n"] * s["out_h"] * s["out_w"]
    workspace = np.full(core.lib.convolution_workspace(core.ffi.new("conv_shape *", s), 3), 0.5)
    case = {"s": ("conv_shape *", s), "x": x, "w": w, "y": np.full(values // 4, np.nan), "workspace": workspace}
    arrays = {"scale": r.uniform(-1, 1.5, s["n"]), "shift": r.standard_normal(s["n"])}
    near = {"rtol": 0, "atol": TOLERANCE.get(algorithm, 2e-5)}
    for a in ACTIVATIONS:
        ep = {**arrays, "activation": a, "pool": 1}
        kernel_calls.compare_threads("convolution_forward_cpu", {**case, "ep": ("conv_epilogue *", ep)}, threads, **near)


def test_plain_sums_do_not_pool():
    s = _shape("3x3") | {"h": 12, "w": 14, "out_h": 12, "out_w": 14}
    assert not core.lib.convolution_takes_pool(core.ffi.new("conv_shape *", s))


@pytest.mark.parametrize(("label", "algorithm"), TILES)
def test_winograd_backward_data(label, algorithm, simd, threads):
    s, r, x, w, dy, workspace = _arrays(label, algorithm)
    near = {"rtol": 0, "atol": TOLERANCE[algorithm]}
    for add, dx in ((0, np.full(x.size, np.nan)), (1, r.standard_normal(x.size))):
        case = {"s": ("conv_shape *", s), "dy": dy, "w": w, "add": add, "dx": dx, "workspace": workspace}
        kernel_calls.compare_threads("convolution_backward_data_cpu", case, threads, **near)


@pytest.mark.parametrize("label", [*TILED, *BY_TWO])
def test_winograd_backward_weights(label, simd, threads):
    s, r, x, w, dy, workspace = _arrays(label, "winograd4")
    case = {
        "s": ("conv_shape *", s),
        "x": x,
        "dy": dy / np.sqrt(s["out_h"] * s["out_w"]),
        "dw": r.standard_normal(w.size),
        "workspace": workspace,
    }
    kernel_calls.compare_threads("convolution_backward_weights_cpu", case, threads, rtol=0, atol=1e-5)


# batch, c, h, w, n, dilation, pad of 3x3 filters: an image comes apart into dilation^2 images, for Winograd's tiles
DILATED = {
    "by 2": (3, 17, 12, 14, 33, 2, 2),
    "by 3": (2, 5, 9, 12, 7, 3, 3),
    "by 4, pixels": (2, 16, 4, 4, 16, 4, 4),
    "bare": (1, 20, 14, 12, 18, 2, 0),
    "padded by 4": (2, 3, 10, 8, 4, 2, 4),
}


def _dilated(sizes, monkeypatch, algorithm="winograd4"):
    """Return the arrays of a dilated convolution, and its C struct."""
    batch, c, h, w, n, dilation, pad = sizes
    monkeypatch.setitem(SHAPES, "dilated", (batch, c, h, w, n, 1, 3, 1, 1, dilation, pad))
    s, *arrays = _arrays("dilated")
    s["algorithm"] = ALGORITHMS.index(algorithm)
    arrays[-1] = np.full(core.lib.convolution_workspace(core.ffi.new("conv_shape *", s), 3), 0.5)
    return s, *arrays


@pytest.mark.parametrize("label", DILATED)
def test_dilation_comes_apart(label, monkeypatch, simd, threads):
    s, r, x, w, dy, workspace = _dilated(DILATED[label], monkeypatch)
    near = {"rtol": 0, "atol": TOLERANCE["winograd4"]}
    case = {"s": ("conv_shape *", s), "workspace": workspace}
    scale, shift = r.uniform(0.5, 1.5, s["n"]), r.standard_normal(s["n"])
    forward = {**case, "x": x, "w": w, "y": np.full(dy.size, np.nan)}
    kernel_calls.compare_threads("convolution_forward_cpu", {**forward, "ep": None}, threads, **near)
    for a, (first, second) in itertools.product(ACTIVATIONS, ((scale, shift), (None, 30 * shift))):
        mean, rest, variance = np.full((3, s["n"]), np.nan)
        ep = {"scale": first, "shift": second, "activation": a, "mean": mean, "mean_rest": rest, "variance": variance}
        _compare_epilogue(forward, ep, threads)
    for add, dx in ((0, np.full(x.size, np.nan)), (1, r.standard_normal(x.size))):
        data = {**case, "dy": dy, "w": w, "add": add, "dx": dx}
        kernel_calls.compare_threads("convolution_backward_data_cpu", data, threads, **near)
    weights = {**case, "x": x, "dy": dy / np.sqrt(s["out_h"] * s["out_w"]), "dw": r.standard_normal(w.size)}
    kernel_calls.compare_threads("convolution_backward_weights_cpu", weights, threads, rtol=0, atol=1e-5)


@pytest.mark.parametrize(("h", "w", "pad", "apart"), [(16, 16, 2, True), (15, 16, 2, False), (16, 15, 2, False), (16, 16, 1, False)])
def test_only_equal_parts_are_winograds(h, w, pad, apart, monkeypatch, threads):
    """By the last digits: Winograd's differ from those of the plain sums."""
    threads(1)
    s, r, x, weights, dy, workspace = _dilated((2, 32, h, w, 32, 2, pad), monkeypatch)
    assert _last_digits(s, x, weights, dy) == [apart] * 3


def test_dilated_weights_are_kept(monkeypatch, threads):
    """The same bits from weights in the order in which inference keeps them."""
    threads(2)
    s, r, x, w, dy, _ = _dilated((1, 64, 28, 28, 64, 2, 2), monkeypatch, "auto")
    shape = core.ffi.new("conv_shape *", s)
    kept, found = kernel_calls.Guarded(np.zeros(core.lib.convolution_kept_values(shape))), []
    x, w, y = map(kernel_calls.Guarded, (x, w, dy))
    core.lib.convolution_keep_weights(shape, w.pointer, kept.pointer)
    for shape.kept, weights in ((0, w), (1, kept)):
        workspace = kernel_calls.Guarded(np.zeros(core.lib.convolution_workspace(shape, 2)))
        core.lib.convolution_forward_cpu(shape, x.pointer, weights.pointer, core.ffi.NULL, y.pointer, workspace.pointer)
        found.append(y.values.tobytes())
    assert kept.values.any() and found[0] == found[1]


@pytest.mark.parametrize("label", BANDS)
def test_bands(label, simd, threads):
    """Few channels by Winograd's algorithm along y: all passes, with what is done to outputs and their moments."""
    s, r, x, w, dy, workspace = _arrays(label, "auto")
    near = {"rtol": 0, "atol": TOLERANCE["winograd4"]}
    case = {"s": ("conv_shape *", s), "x": x, "w": w, "y": np.full(dy.size, np.nan), "workspace": workspace}
    kernel_calls.compare_threads("convolution_forward_cpu", {**case, "ep": None}, threads, **near)
    scale, shift = r.uniform(0.5, 1.5, s["n"]), r.standard_normal(s["n"])
    for a, (first, second) in itertools.product(ACTIVATIONS, ((scale, shift), (None, 30 * shift))):
        mean, rest, variance = np.full((3, s["n"]), np.nan)
        ep = {"scale": first, "shift": second, "activation": a, "mean": mean, "mean_rest": rest, "variance": variance}
        _compare_epilogue(case, ep, threads)
    for add, dx in ((0, np.full(x.size, np.nan)), (1, r.standard_normal(x.size))):
        case = {"s": ("conv_shape *", s), "dy": dy, "w": w, "add": add, "dx": dx, "workspace": workspace}
        kernel_calls.compare_threads("convolution_backward_data_cpu", case, threads, **near)
    dy /= np.sqrt(s["out_h"] * s["out_w"])
    case = {"s": ("conv_shape *", s), "x": x, "dy": dy, "dw": r.standard_normal(w.size), "workspace": workspace}
    kernel_calls.compare_threads("convolution_backward_weights_cpu", case, threads, rtol=0, atol=1e-5)


def _last_digits(s, x, w, dy):
    """Return for each pass whether `auto` and `gemm` differ: they compute in other ways."""
    results = []
    for algorithm in ("auto", "gemm"):
        shape = core.ffi.new("conv_shape *", {**s, "algorithm": ALGORITHMS.index(algorithm)})
        work = kernel_calls.Guarded(np.zeros(core.lib.convolution_workspace(shape, 3)))
        inputs, weights, delta = (kernel_calls.Guarded(a) for a in (x, w, dy))
        y, dx, dw = (kernel_calls.Guarded(np.zeros(a.size)) for a in (dy, x, w))
        core.lib.convolution_forward_cpu(
            shape, inputs.pointer, weights.pointer, core.ffi.NULL, y.pointer, work.pointer
        )
        core.lib.convolution_backward_data_cpu(shape, delta.pointer, weights.pointer, 0, dx.pointer, work.pointer)
        core.lib.convolution_backward_weights_cpu(shape, inputs.pointer, delta.pointer, dw.pointer, work.pointer)
        results.append((y, dx, dw))
    return [bool((a.values != b.values).any()) for a, b in zip(*results)]


@pytest.mark.parametrize("label", BANDS)
def test_bands_are_taken(label, threads):
    """With `auto` these shapes have other last digits than plain sums: they are computed in bands."""
    threads(1)
    s, r, x, w, dy, workspace = _arrays(label, "auto")
    forward, _, weights = _last_digits(s, x, w, dy)
    assert forward
    few_columns_or_sums = ("groups of 15", "one channel")
    assert weights != (label in few_columns_or_sums)


@pytest.mark.parametrize(
    ("sizes", "taken"),
    [
        ((4, 64, 28, 28, 64), [True] * 3),
        ((1, 16, 112, 112, 32), [True] * 3),
        ((1, 64, 14, 14, 64), [False] * 3),  # tiles of 4x4 fill 7x7 badly
        ((4, 60, 28, 28, 60), [False] * 3),  # channels that fill no vectors
    ],
    ids=lambda value: "x".join(map(str, value)),
)
def test_by_two_is_taken(sizes, taken, monkeypatch, threads):
    threads(1)
    monkeypatch.setitem(BY_TWO, "shape", sizes)
    s, r, x, w, dy, workspace = _arrays("shape", "winograd4")
    assert _last_digits(s, x, w, dy) == taken


@pytest.mark.parametrize("sizes", [(4, 1024, 7, 7, 1024, 32, 3, 1, 1, 1, 1), (4, 256, 14, 14, 256, 8, 3, 2, 2, 1, 1)], ids=str)
def test_groups_are_taken(sizes, monkeypatch, threads):
    """Groups of 32 maps are not plain sums; at 7x7, and by two, they cannot be bands."""
    threads(1)
    monkeypatch.setitem(SHAPES, "shape", sizes)
    s, r, x, w, dy, workspace = _arrays("shape")
    assert _last_digits(s, x, w, dy) == [True] * 3


COUNTED = """
import ctypes
from test_convolution import SHAPES, _arrays, _last_digits
import darknetpy as dn
dn.set_num_threads(2)
created = ctypes.CDLL(None).created_threads
for shape in [(1, 64, 14, 14, 64, 1, 3, 1, 1, 1, 1), (4, 64, 28, 28, 64, 1, 3, 2, 2, 1, 1), (4, 64, 28, 28, 64, 2, 3, 1, 1, 1, 1),
              (4, 256, 14, 14, 256, 8, 3, 1, 1, 1, 1), (4, 64, 28, 28, 64, 64, 3, 2, 2, 1, 1), (1, 64, 28, 28, 64, 1, 1, 1, 1, 1, 0)]:
    SHAPES["shape"] = shape
    s, r, x, w, dy, workspace = _arrays("shape")
    _last_digits(s, x, w, dy)
    before = created()
    _last_digits(s, x, w, dy)
    print(shape, created() - before)
"""


@pytest.mark.skipif(sys.platform != "linux" or "DARKNETPY_SANITIZED" in os.environ, reason="counts threads through LD_PRELOAD")
def test_threads_wait_for_the_next_pass(tmp_path):
    """No pass starts threads anew, as one within another's parallel region would."""
    compiler = shutil.which("cc") or pytest.skip("no C compiler")
    (tmp_path / "count.c").write_text("""
        #define _GNU_SOURCE
        #include <dlfcn.h>
        #include <pthread.h>
        static int created;
        int created_threads(void) { return created; }
        int pthread_create(pthread_t *t, const pthread_attr_t *a, void *(*f)(void *), void *x)
        {
            int (*real)(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *) = dlsym(RTLD_NEXT, "pthread_create");
            __atomic_add_fetch(&created, 1, __ATOMIC_RELAXED);
            return real(t, a, f, x);
        }
    """)
    counter = tmp_path / "count.so"
    subprocess.run([compiler, "-shared", "-fPIC", "-o", counter, tmp_path / "count.c", "-ldl"], check=True)
    here = os.path.dirname(__file__)
    paths = os.pathsep.join([here, os.path.dirname(here), os.environ.get("PYTHONPATH", "")])
    env = {**os.environ, "LD_PRELOAD": str(counter), "PYTHONPATH": paths}
    said = subprocess.run([sys.executable, "-c", COUNTED], env=env, capture_output=True, text=True, check=True).stdout
    assert said.count("\n") == 6 and all(line.endswith(" 0") for line in said.splitlines()), said


@pytest.mark.parametrize("change", [{"dilation": 2, "pad": 2}, {"pad": 0}, {"pad": 2}, {"stride_y": 1}], ids=str)
def test_other_strides_are_plain_sums(change, monkeypatch, threads):
    """A shape that is taken as it stands (above), and is not with another padding, dilation or step."""
    threads(1)
    shape = dict(zip(NAMES, (4, 64, 28, 28, 64, 1, 3, 2, 2, 1, 1))) | change
    monkeypatch.setitem(SHAPES, "shape", tuple(shape.values()))
    s, r, x, w, dy, workspace = _arrays("shape")
    assert _last_digits(s, x, w, dy) == [False] * 3


def test_workspace_beyond_counting():
    """A shape whose workspace cannot be counted says so instead of wrapping round."""
    huge = {**_shape("3x3"), "c": 2**30, "n": 2**30, "size": 255}
    assert core.lib.convolution_workspace(core.ffi.new("conv_shape *", huge), 1) == 2**64 - 1


@pytest.mark.parametrize(
    "ksize, stride, pad, h, w",
    [(3, 1, 1, 5, 6), (3, 2, 1, 7, 6), (2, 2, 0, 6, 6), (5, 1, 2, 6, 5), (1, 1, 0, 3, 4), (4, 3, 3, 5, 9)],
)
def test_columns(rng, ksize, stride, pad, h, w):
    """im2col_cpu against windows of the padded image; col2im_cpu is its transpose, <im2col(a), b> = <a, col2im(b)>, and adds."""
    import reference

    import darknetpy as dn

    out = ((h + 2 * pad - ksize) // stride + 1) * ((w + 2 * pad - ksize) // stride + 1)
    image, col = (
        rng.standard_normal((3, h, w)).astype(np.float32),
        np.full((3 * ksize * ksize, out), np.nan, np.float32),
    )
    wanted = np.zeros(col.shape)
    dn.kernels.im2col_cpu(image, 3, h, w, ksize, stride, pad, col)
    reference.im2col_cpu(image, 3, h, w, ksize, stride, pad, wanted)
    assert (col == wanted).all()
    other, back = rng.standard_normal(col.shape).astype(np.float32), np.ones_like(image)
    dn.kernels.col2im_cpu(other, 3, h, w, ksize, stride, pad, back)
    assert np.sum(wanted * other) == pytest.approx(
        np.sum(image.astype(float) * (back - 1)), rel=1e-4, abs=1e-4
    )
