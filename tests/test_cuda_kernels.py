"""Every CUDA kernel of csrc/kernels.def beside its CPU twin, emulated on the CPU (with DARKNETPY_TEST_DEVICE=gpu, on a GPU).

The cases are those of the CPU kernels, the small ones, and such as take each way through the CUDA code.
"""

from __future__ import annotations

import itertools
import zlib

import kernel_cases_heads
import numpy as np
import pytest
import test_convolution
import test_gemm
import test_kernels
from cuda_calls import NAMES, DeviceArray, check, compare, library
from kernel_calls import KERNELS, ROOM, each_field

from darknetpy.core import core

MOST = 12_000   # values of a case's largest array: emulated threads are slow


def _rng(*key):
    return np.random.default_rng(zlib.crc32(repr(key).encode()))


def _size(case):
    sizes = [0]

    def see(_, value):
        if isinstance(value, tuple):
            each_field(value[1], see)
        elif isinstance(value, np.ndarray):
            sizes.append(value.size)

    each_field(case, see)
    return max(sizes)


def products():
    """Yield matrices: one tile and several, all transpositions, long sums that are cut; few rows, short sums and long."""
    sizes = [*test_gemm.SIZES[:7], (9, 12, 1500), (20, 70, 512), (3, 2, 2500)]
    for size, ta, tb in itertools.product(sizes, (0, 1), (0, 1)):
        yield "gemm", test_gemm._case(*size, ta, tb, beta=0.5, extra=3)
    for beta in (0.0, 1.0):
        yield "gemm", test_gemm._case(33, 65, 129, 0, 0, beta, extra=0)


def convolutions():
    """Yield the shapes of the CPU's convolutions, in every pass."""
    for label in test_convolution.SHAPES:
        s, r, x, w, dy, workspace = test_convolution._arrays(label)
        shape, workspace, places = ("conv_shape *", s), np.zeros(workspace.size), s["out_h"] * s["out_w"]
        ep = {"scale": r.uniform(0.5, 1.5, s["n"]), "shift": r.standard_normal(s["n"]), "activation": "leaky"}
        forward = {"s": shape, "x": x, "w": w, "y": np.zeros(dy.size), "workspace": workspace}
        yield "convolution_forward_cpu", {**forward, "ep": ("conv_epilogue *", ep)}
        if label == "3x3":
            statistics = {"mean": np.zeros(s["n"]), "mean_rest": np.zeros(s["n"]), "variance": np.zeros(s["n"])}
            yield "convolution_forward_cpu", {**forward, "ep": None}
            yield "convolution_forward_cpu", {**forward, "ep": ("conv_epilogue *", {"activation": "relu", **statistics})}
        backward = {"s": shape, "dy": dy, "workspace": workspace}
        yield "convolution_backward_data_cpu", {**backward, "w": w, "add": label[0] == "3", "dx": r.standard_normal(x.size)}
        yield "convolution_backward_weights_cpu", {**backward, "x": x, "dy": dy / places**0.5, "dw": r.standard_normal(w.size)}


def large_tiles():
    """Yield products of so many tiles that the large ones are taken: a filter for each of 256 places."""
    r = _rng("large tiles")
    fields = dict(zip(test_convolution.NAMES, (1, 2, 16, 16, 66, 1, 1, 1, 1, 1, 0)), out_h=16, out_w=16, algorithm=0)
    x, dy, w = r.standard_normal(2 * 256), r.standard_normal(66 * 256), r.standard_normal(256 * 66 * 2)
    work = np.zeros(256 * (2 + 66))
    s = ("conv_shape *", fields)
    yield "local_forward_cpu", {"s": s, "x": x, "w": w, "y": np.zeros(dy.size), "workspace": work}
    yield "local_backward_weights_cpu", {"s": s, "x": x, "dy": dy, "dw": w, "workspace": work}


def batch_normalizations():
    """Yield channels that are cut into parts, in single values and in fours; many rows without a plane."""
    for batch, filters, spatial in ((3, 2, 4099), (3, 2, 4100), (900, 33, 1), (2, 3, 1020)):
        r = _rng("batchnorm", batch, filters, spatial)
        x, d = r.standard_normal((2, batch, filters, spatial))
        shape = {"batch": batch, "filters": filters, "spatial": spatial}
        p = {"scales": r.uniform(0.5, 1.5, filters), "biases": r.standard_normal(filters), "mean": x.mean(axis=(0, 2)),
             "variance": x.var(axis=(0, 2)), "mean_rest": np.zeros(filters)}
        yield "batchnorm_statistics_cpu", {"x": x, "p": ("batchnorm_arrays *", p), **shape}
        for a in ("linear", "leaky", "mish"):
            case = {"x": x, "p": ("batchnorm_arrays *", p), "a": a, "y": np.zeros(x.shape), **shape}
            yield "batchnorm_forward_cpu", case
            yield "batchnorm_forward_train_cpu", case
        updates = {name: np.ones(filters) for name in ("scale_updates", "bias_updates", "mean_delta", "variance_delta")}
        backward = {"x": x, "y": x, "delta": d / x[:, 0].size, "p": ("batchnorm_arrays *", {**p, **updates}), "a": "linear", **shape}
        for frozen, add, dx in ((0, 0, d), (1, 1, d), (0, 0, None)):
            yield "batchnorm_backward_cpu", {**backward, "frozen": frozen, "add": add, "dx": dx}
    for name, shape in itertools.product(("mean_cpu", "backward_bias"), ((1, 1, 3 * 4096 + 1), (3, 2, 300), (5, 3, 90))):
        x = _rng(name, *shape).standard_normal(shape) + 1
        arrays = {"x": x, "delta": x, "mean": np.zeros(shape[1]), "bias_updates": np.zeros(shape[1])}
        names = ("batch", "filters", "spatial") if name == "mean_cpu" else ("batch", "n", "size")
        yield name, {**arrays, **dict(zip(names, shape))}


def others():
    """Yield a slice of several parts, sets of a softmax in pieces, sums of several parts and of nothing."""
    yield from test_kernels._groupnorm(1, 2, 5000, 1, 1.0)
    r = _rng("others")
    sets = {"n": 300, "batch": 3, "batch_offset": 620, "groups": 2, "group_offset": 310, "stride": 1, "temp": 2.0}
    x = 3 * r.standard_normal(2 * 620 + 310 + 300)
    yield "softmax_cpu", {"input": x, "output": np.zeros(x.size), **sets}
    yield "softmax_backward_cpu", {"output": r.uniform(0, 0.01, x.size), "delta": x, "dx": np.zeros(x.size), **sets}
    for n in (0, 9000):
        yield "sum_cpu", {"n": n, "x": np.ones(n) + 0.5, "sum": "double"}
        yield "sum_squares_cpu", {"n": n, "x": np.ones(n) + 0.5, "sum": "double"}


def long_masks():
    """Yield instances of more pixels than a block has threads."""
    yield from kernel_cases_heads.masks([{"batch": 1, "h": 17, "w": 31, "classes": 1, "ids": 2}])


FAMILIES = (products, convolutions, large_tiles, batch_normalizations, others, long_masks)
CASES = [(name, case) for name, case in test_kernels.CASES if _size(case) <= MOST]
CASES += [case for family in FAMILIES for case in family()]


@pytest.mark.parametrize("name", KERNELS)
def test_kernel(name):
    cases = [case for kernel, case in CASES if kernel == name]
    assert cases, f"{name} has no case"
    for case in cases:
        compare(name, case, skip=(*ROOM, "mean_rest"), exact=name == "gemm")


def test_every_kernel_has_a_cuda_function():
    assert len(NAMES) == len(KERNELS) == len(set(NAMES.values()))
    assert [name for name in NAMES.values() if not hasattr(library(), name)] == []


@pytest.mark.parametrize("a", ["logistic", "leaky", "gelu", "mish", "selu"])
@pytest.mark.parametrize("shape", [(3, 4, 1), (2, 3, 35), (2, 2, 4100), (3, 2, 8)], ids=str)
def test_backward_in_place(a, shape):
    """With an activation dx is the array of delta."""
    batch, filters, spatial = shape
    r, c = _rng("in place", a, *shape), (slice(None), None)
    p = {"scales": r.uniform(0.5, 1.5, filters), "biases": r.standard_normal(filters), "mean": r.standard_normal(filters),
         "variance": r.uniform(0.5, 1.5, filters)}
    x, delta = r.standard_normal((2, *shape)).astype(np.float32)
    z = p["scales"][c] * (x - p["mean"][c]) / np.sqrt(p["variance"][c] + 1e-5) + p["biases"][c]
    y = z.astype(np.float32).copy()
    found = {}
    core.lib.activate_array(core.address(y), y.size, test_kernels.activation_number(a))
    updates = {name: np.ones(filters) for name in ("scale_updates", "bias_updates", "mean_delta", "variance_delta")}
    for where in ("cpu", "gpu"):
        arrays = {name: (test_kernels.Guarded if where == "cpu" else _on_device)(value) for name, value in {**p, **updates}.items()}
        xs, ys, d = ((test_kernels.Guarded if where == "cpu" else _on_device)(value) for value in (x, y, delta))
        fields = core.ffi.new("batchnorm_arrays *", {name: array.pointer for name, array in arrays.items()})
        function = getattr(core.lib if where == "cpu" else library(), f"batchnorm_backward_{where}")
        function(xs.pointer, ys.pointer, d.pointer, *shape, fields, test_kernels.activation_number(a), 0, 0, d.pointer)
        check()
        found[where] = {name: array.values if where == "cpu" else array.pull(name) for name, array in {**arrays, "dx": d}.items()}
    for name, wanted in found["cpu"].items():
        np.testing.assert_allclose(found["gpu"][name], wanted, rtol=1e-5, atol=1e-5 * spatial**0.5, err_msg=name)


def _on_device(values):
    return DeviceArray(values, flush=False)


@pytest.mark.parametrize("shape", [(64, 5, 16), (3, 2, 4100), (700, 3, 1), (2, 1, 9001)], ids=str)
@pytest.mark.parametrize("kind", ["far", "outlier"])
def test_channels_keep_their_digits(kind, shape):
    """Where |mean| is 1e5 deviations, and where a channel begins with a value far from all others; in both passes."""
    batch, filters, spatial = shape
    r, axes, c = _rng("digits", *shape), (0, 2), (slice(None), None)
    x = (1000 + 1e-2 * r.standard_normal(shape)).astype(np.float32)
    if kind == "outlier":
        x = r.standard_normal(shape).astype(np.float32)
        x[0, :, 0] = 1e4
    delta = (1 + r.standard_normal(shape)).astype(np.float32)
    mean, variance = x.astype(float).mean(axis=axes), x.astype(float).var(axis=axes)
    inverse = 1 / np.sqrt(variance + 1e-5)
    x_hat = (x - mean[c]) * inverse[c]
    along = (delta * x_hat).mean(axis=axes)
    dx = inverse[c] * (delta - delta.astype(float).mean(axis=axes)[c] - x_hat * along[c])
    names = ("mean", "mean_rest", "variance", "biases", "bias_updates", "scale_updates", "mean_delta", "variance_delta")
    arrays = {name: _on_device(np.zeros(filters)) for name in names} | {"scales": _on_device(np.ones(filters))}
    fields = core.ffi.new("batchnorm_arrays *", {name: array.pointer for name, array in arrays.items()})
    on, y, d, n = _on_device(x), _on_device(x), _on_device(delta), test_kernels.activation_number("linear")
    for function, more in (("statistics", ()), ("forward_train", (n, y.pointer))):
        getattr(library(), f"batchnorm_{function}_gpu")(on.pointer, *shape, fields, *more)
        check()
        found = {name: array.pull(name).astype(float) for name, array in arrays.items()}
        assert (abs(found["mean"] + found["mean_rest"] - mean) < 1e-7 * np.sqrt(variance)).all()
        np.testing.assert_allclose(found["variance"], variance, rtol=1e-6)
    np.testing.assert_allclose(y.pull("y"), x_hat.ravel(), rtol=1e-5, atol=1e-5)
    library().batchnorm_backward_gpu(on.pointer, y.pointer, d.pointer, *shape, fields, n, 0, 0, d.pointer)
    check()
    np.testing.assert_allclose(d.pull("dx"), dx.ravel(), rtol=0, atol=1e-5 * np.abs(dx).max())
    along *= batch * spatial
    np.testing.assert_allclose(arrays["scale_updates"].pull("scale_updates"), along, rtol=1e-5, atol=1e-5 * batch * spatial)


@pytest.mark.parametrize("name", ["mean", "variance", "mean_delta", "variance_delta"])
def test_darknets_fast_names(name):
    """fast_mean_gpu and its like give mean_gpu's bits."""
    cases = [case for kernel, case in CASES if kernel == f"{name}_cpu"]
    shape = {key: cases[3][key] for key in ("batch", "filters", "spatial")}
    bits = []
    for prefix in ("", "fast_"):
        arrays = {argument: _on_device(cases[3][argument]) for argument, is_array, _ in KERNELS[f"{name}_cpu"] if is_array}
        handed = [arrays[argument].pointer if is_array else shape[argument] for argument, is_array, _ in KERNELS[f"{name}_cpu"]]
        getattr(library(), f"{prefix}{name}_gpu")(*handed)
        check()
        bits.append(arrays[name].pull(name).tobytes())
    assert bits[0] == bits[1]


@pytest.mark.parametrize("sizes", [(1, 1, 1, 1, 1, 0), (3, 7, 5, 3, 2, 1), (2, 4, 6, 2, 1, 0), (2, 5, 5, 4, 3, 2)], ids=str)
def test_columns(sizes):
    channels, height, width, size, stride, pad = sizes
    out = ((height + 2 * pad - size) // stride + 1) * ((width + 2 * pad - size) // stride + 1)
    r = _rng("columns", *sizes)
    image = r.standard_normal(channels * height * width).astype(np.float32)
    col = r.standard_normal(channels * size * size * out).astype(np.float32)
    for name, source, target in (("im2col", image, col), ("col2im", col, image)):
        wanted = target.copy()
        getattr(core.lib, f"{name}_cpu")(core.address(source), *sizes, core.address(wanted))
        for flush in (False, True):
            one, other = DeviceArray(source, flush), DeviceArray(target, flush)
            getattr(library(), f"{name}_gpu")(one.pointer, *sizes, other.pointer)
            check()
            np.testing.assert_allclose(other.pull(name), wanted, rtol=1e-6, atol=1e-6)


def test_convolution_that_cannot_be_counted_is_refused():
    fields = dict(zip(test_convolution.NAMES, (70000, 1, 200, 200, 1, 1, 1, 1, 1, 1, 0)), out_h=200, out_w=200, algorithm=0)
    s, nothing = core.ffi.new("conv_shape *", fields), core.ffi.NULL
    for call in (
        lambda: library().convolution_forward_gpu(s, nothing, nothing, nothing, nothing, nothing),
        lambda: library().convolution_backward_data_gpu(s, nothing, nothing, 0, nothing, nothing),
        lambda: library().convolution_backward_weights_gpu(s, nothing, nothing, nothing, nothing),
    ):
        call()
        assert library().dn_gpu_status() == core.lib.DN_ERR_ARGUMENT
        assert core.ffi.string(library().dn_gpu_last_error()) == b"convolution: a mini-batch of more than 2^31 places"
    check()


@pytest.mark.parametrize("a", ["linear", "mish"])
@pytest.mark.parametrize("shape", [(2, 6, 100), (1, 2, 4500)], ids=str)
def test_groups_keep_their_digits(shape, a):
    """Where |mean| is 1e5 deviations the part of the mean that its float does not hold counts, forward and backward."""
    batch, channels, spatial = shape
    r, groups = _rng("groups", *shape), 2
    x = (1000 + 1e-2 * r.standard_normal(shape)).astype(np.float32)
    delta = r.standard_normal(shape).astype(np.float32)
    scales, biases, statistics = np.ones(channels), np.zeros(channels), np.zeros(batch * groups)
    y, dx, updates = np.zeros(shape), np.zeros(shape), np.zeros((2, channels))
    wanted = [array.copy() for array in (y, dx, *updates)]
    mean, variance = statistics.copy(), statistics.copy()
    test_kernels.reference.groupnorm_forward_cpu(x.astype(float), *shape, groups, scales, biases, a, mean, variance, wanted[0])
    wanted[1][:] = delta   # with an activation dx is delta
    test_kernels.reference.groupnorm_backward_cpu(
        x.astype(float), wanted[0], wanted[1], *shape, groups, scales, biases, a, mean, variance, *wanted[2:], 0, wanted[1], None)
    n = test_kernels.activation_number(a)
    on = {name: _on_device(value) for name, value in {
        "x": x, "y": y, "dx": delta, "scales": scales, "biases": biases, "mean": statistics, "variance": statistics,
        "scale_updates": updates[0], "bias_updates": updates[1], "work": np.zeros(2 * batch * channels)}.items()}
    at = {name: array.pointer for name, array in on.items()}
    library().groupnorm_forward_gpu(at["x"], *shape, groups, at["scales"], at["biases"], n, at["mean"], at["variance"], at["y"])
    library().groupnorm_backward_gpu(
        at["x"], at["y"], at["dx"], *shape, groups, at["scales"], at["biases"], n, at["mean"], at["variance"],
        at["scale_updates"], at["bias_updates"], 0, at["dx"], at["work"])
    check()
    for name, values in zip(("y", "dx", "scale_updates", "bias_updates"), wanted):
        close = 1e-5 * max(1, np.abs(values).max())
        np.testing.assert_allclose(on[name].pull(name), values.ravel(), rtol=0, atol=close, err_msg=name)


def test_product_without_beta_reads_nothing():
    """As in BLAS, beta = 0 writes C whatever stood there."""
    a, b, c = (_on_device(values) for values in (np.ones(12), np.ones(30), np.full(90, np.nan)))
    for m, k in ((9, 1), (3, 1)):   # by tiles, and by threads
        library().gemm_gpu(0, 0, m, 10, k, 1.0, a.pointer, 1, b.pointer, 10, 0.0, c.pointer, 10)
        check()
        assert (c.pull("C")[: 10 * m] == 1).all()
