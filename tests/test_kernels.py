"""Every kernel of csrc/kernels.def against its float64 reference: values, guard zones, const arrays, 1, 2 and 3 threads."""

from __future__ import annotations

import types
import zlib

import kernel_cases_heads
import kernel_cases_maps
import numpy as np
import pytest
import reference
from activations import ELEMENTWISE, MIXING
from gate_cases import gates
from kernel_calls import KERNELS, Guarded, compare_threads, structure

from darknetpy.core import core
from darknetpy.layer import activation_number

SIZES = (1, 2, 3, 255, 256, 257, 20011)
PLANES = [
    (1, 1, 2),
    (1, 3, 35),
    (4, 3, 1),
    (2, 5, 7),
    (3, 1, 257),
    (2, 130, 1),
    (2, 7, 255),
    (5, 4, 1024),
]  # batch, filters, spatial
# Rows of more than a stretch (4096 values, csrc/normalize_rows.h): of few channels, whose images are cut into
# parts (batchnorm_fused_kernels.c), more of them than images and fewer; and of many channels.
LONG_ROWS = [(3, 2, 4099), (9, 1, 8200), (2, 9, 4113)]
BY_INPUT = ("gelu", "swish", "mish", "hard_mish")


def _rng(*key):
    return np.random.default_rng(zlib.crc32(repr(key).encode()))


def vectors():
    for n in SIZES:
        for incx, incy in ((1, 1), (3, 2)):
            r = _rng("vectors", n, incx)
            x, y = r.standard_normal((n - 1) * incx + 1), r.standard_normal((n - 1) * incy + 1)
            yield "copy_cpu", {"n": n, "x": x, "incx": incx, "y": y, "incy": incy}
            yield "fill_cpu", {"n": n, "alpha": 0.7, "x": x, "incx": incx}
            yield "scal_cpu", {"n": n, "alpha": -0.7, "x": x, "incx": incx}
            yield "axpy_cpu", {"n": n, "alpha": 0.3, "x": x, "incx": incx, "y": y, "incy": incy}
        for add in (0, 1):
            yield (
                "pass_delta_cpu",
                {"n": n, "alpha": 1.5, "delta": r.standard_normal(n), "add": add, "to": r.standard_normal(n)},
            )
        yield "sum_cpu", {"n": n, "x": 1 + r.standard_normal(n), "sum": "double"}
        yield "sum_squares_cpu", {"n": n, "x": r.standard_normal(n), "sum": "double"}
    for rows, columns, ldx, ldy in ((1, 1, 1, 1), (3, 5, 7, 9), (4, 257, 257, 300), (200, 101, 101, 101)):
        for add in (0, 1):
            r = _rng("rows", rows, add)
            yield (
                "copy_rows_cpu",
                {
                    "rows": rows,
                    "columns": columns,
                    "alpha": 0.6,
                    "x": r.standard_normal((rows - 1) * ldx + columns),
                    "ldx": ldx,
                    "add": add,
                    "y": r.standard_normal((rows - 1) * ldy + columns),
                    "ldy": ldy,
                },
            )


def biases():
    for batch, n, size in [*PLANES, (1, 1, 1), (9, 130, 1)]:
        r = _rng("biases", batch, n, size)
        x, d = r.standard_normal((batch, n, size)), r.standard_normal((batch, n, size))
        shape = {"batch": batch, "n": n, "size": size}
        yield "add_bias", {"output": x, "biases": r.standard_normal(n), **shape}
        yield "scale_bias", {"output": x, "scales": r.standard_normal(n), **shape}
        yield "backward_bias", {"bias_updates": r.standard_normal(n), "delta": d, **shape}
        yield "backward_scale_cpu", {"x_norm": x, "delta": d, "scale_updates": r.standard_normal(n), **shape}


def batchnorm():
    for batch, filters, spatial in [*PLANES, *LONG_ROWS]:
        for scale in (1.0, 1e-2):
            yield from _batchnorm(batch, filters, spatial, scale)


def _batchnorm(batch, filters, spatial, scale):
    r = _rng("batchnorm", batch, filters, spatial, scale)
    m = batch * spatial
    x, d = (
        scale * (r.standard_normal((batch, filters, spatial)) + 0.5),
        r.standard_normal((batch, filters, spatial)) / m,
    )
    mean, variance = x.mean(axis=(0, 2)), x.var(axis=(0, 2)) + 0.1 * scale**2
    shape = {"batch": batch, "filters": filters, "spatial": spatial}
    empty = np.full(filters, 0.25)
    yield "mean_cpu", {"x": x, "mean": empty, **shape}
    yield "variance_cpu", {"x": x, "mean": mean, "variance": empty, **shape}
    statistics = {"mean": empty, "variance": empty.copy()}
    yield "batchnorm_statistics_cpu", {"x": x, "p": ("batchnorm_arrays *", statistics), **shape}
    for name in ("normalize_cpu", "normalize_pjreddie_cpu"):
        yield name, {"x": x, "mean": mean, "variance": variance, **shape}
    small = scale**3 * d
    yield "mean_delta_cpu", {"delta": small, "variance": variance, "mean_delta": empty, **shape}
    yield (
        "variance_delta_cpu",
        {"x": x, "delta": small, "mean": mean, "variance": variance, "variance_delta": empty, **shape},
    )
    for name in ("normalize_delta_cpu", "normalize_delta_alexeyab_cpu"):
        yield (
            name,
            {
                "x": x,
                "mean": mean,
                "variance": variance,
                "mean_delta": r.standard_normal(filters),
                "variance_delta": r.standard_normal(filters),
                "delta": small,
                **shape,
            },
        )
    yield from _fused(shape, x, small, mean, variance, r)


def _fused(shape, x, d, mean, variance, r):
    f = shape["filters"]
    for a in ELEMENTWISE if f == 5 else ("linear", "leaky", "mish"):
        p = {
            "scales": r.uniform(0.5, 1.5, f),
            "biases": r.standard_normal(f),
            "mean": mean,
            "variance": variance,
        }
        z = (
            p["scales"][:, None] * (x - mean[:, None]) / np.sqrt(variance[:, None] + 1e-5)
            + p["biases"][:, None]
        )
        if min(np.min(np.abs(z - k)) for k in (-4, -3, -2, -1, 0, 1, 2, 3, 4, 6)) < 1e-5:
            z = None  # float32 may fall on the other side of a kink: values only
        arrays = {
            **p,
            "scale_updates": None,
            "bias_updates": None,
            "mean_delta": None,
            "variance_delta": None,
        }
        yield (
            "batchnorm_forward_cpu",
            {"x": x, "p": ("batchnorm_arrays *", arrays), "a": a, "y": np.zeros_like(x), **shape},
        )
        folded = {"scale": np.zeros(f), "shift": np.zeros(f)}
        yield "batchnorm_fold_cpu", {"p": ("batchnorm_arrays *", arrays), "filters": f, **folded}
        arrays = {**arrays, "mean": np.zeros(f), "variance": np.zeros(f)}
        yield (
            "batchnorm_forward_train_cpu",
            {"x": x, "p": ("batchnorm_arrays *", arrays), "a": a, "y": np.zeros_like(x), **shape},
        )
        if z is None:
            continue
        y = reference.activate(a, z)
        for frozen, add in ((0, 0), (1, 0), (0, 1)):
            if add and a != "linear":
                continue  # with an activation dx is delta itself: test_backward_in_place
            updates = {
                "scale_updates": r.standard_normal(f),
                "bias_updates": r.standard_normal(f),
                "mean_delta": np.ones(f),
                "variance_delta": np.ones(f),
            }
            if a == "linear":
                yield (
                    "batchnorm_backward_cpu",
                    {
                        "x": x,
                        "y": y,
                        "delta": d,
                        "p": ("batchnorm_arrays *", {**p, **updates}),
                        "a": a,
                        "frozen": frozen,
                        "add": add,
                        "dx": r.standard_normal(x.shape),
                        **shape,
                    },
                )


GROUPED = [  # batch, channels, spatial, groups
    (3, 4, 1, 2),
    (2, 35, 1, 5),
    (2, 300, 1, 1),
    (2, 6, 2, 3),
    (3, 4, 5, 4),
    (1, 8, 49, 2),
    (40, 4, 9, 2),
    (2, 3, 600, 1),
    (1, 6, 1500, 2),
    (1, 300, 70, 1),
    (2, 5000, 1, 1),
    (33, 40, 1, 2),
    (2, 600, 7, 1),
    (1, 2, 70001, 1),
]


def groupnorm():
    for batch, channels, spatial, groups in GROUPED:
        for scale in (1.0, 1e-2):
            yield from _groupnorm(batch, channels, spatial, groups, scale)


def _groupnorm(batch, channels, spatial, groups, scale):
    r = _rng("groupnorm", batch, channels, spatial, groups, scale)
    x = scale * (r.standard_normal((batch, channels, spatial)) + 0.5)
    slices = x.reshape(batch, groups, -1)
    statistics = {"mean": slices.mean(axis=2), "variance": slices.var(axis=2)}
    shape = {"batch": batch, "channels": channels, "spatial": spatial, "groups": groups}
    p = {"scales": r.uniform(0.5, 1.5, channels), "biases": r.standard_normal(channels)}
    empty = {name: np.ones((batch, groups)) for name in statistics}
    for a in ("linear", "tanh", "mish"):
        yield "groupnorm_forward_cpu", {"x": x, **p, **empty, "a": a, "y": np.zeros_like(x), **shape}
    for add, wanted in ((0, 1), (1, 1), (0, 0)):
        updates = {name: r.standard_normal(channels) for name in ("scale_updates", "bias_updates")}
        yield (
            "groupnorm_backward_cpu",
            {
                "x": x,
                "y": np.zeros_like(x),
                "delta": scale**2 * r.standard_normal(x.shape) / np.sqrt(x.size),
                **p,
                "a": "linear",
                **statistics,
                **updates,
                "add": add,
                "dx": r.standard_normal(x.shape) if wanted else None,
                "workspace": np.zeros(2 * batch * channels),
                **shape,
            },
        )


def activations():
    for n in SIZES:
        r = _rng("activations", n)
        x = _off_kinks(4 * r.standard_normal(n))
        for a in ELEMENTWISE:
            yield "activate_array", {"x": x, "n": n, "a": a}
            if a in BY_INPUT:
                yield "gradient_input_array", {"x": x, "n": n, "a": a, "delta": r.standard_normal(n)}
    for n in (1, 3, 300):
        r = _rng("gradients", n)
        x = _off_kinks(1.5 * r.standard_normal(n))
        for a in ELEMENTWISE:
            if a not in BY_INPUT:
                yield (
                    "gradient_array",
                    {"y": reference.activate(a, x), "n": n, "a": a, "delta": r.standard_normal(n)},
                )
    for batch, channels, spatial in PLANES:
        for a in MIXING:
            r = _rng("channels", batch, channels, a)
            x = r.standard_normal((batch, channels, spatial))
            shape = {"batch": batch, "channels": channels, "spatial": spatial}
            y = np.zeros_like(x)
            reference.activate_channels_cpu(x, batch, channels, spatial, a, y)
            yield "activate_channels_cpu", {"x": x, "a": a, "y": np.zeros_like(x), **shape}
            if 1 < channels < 100 and spatial < 300:  # of one channel, 1 - y is left: few digits in float32
                yield (
                    "gradient_channels_cpu",
                    {"x": x, "y": y, "a": a, "delta": r.standard_normal(x.shape), **shape},
                )


def _off_kinks(x):
    return np.where(np.abs(x - np.round(x)) < 1e-3, x + 2e-3, x)


POOLS = {  # size, stride_x, stride_y, padding, h, w
    "2x2": (2, 2, 2, 1, 6, 8),
    "2x2 odd": (2, 2, 2, 1, 5, 7),
    "2x2 cut": (2, 2, 2, 0, 5, 7),
    "3x3": (3, 2, 2, 2, 9, 7),
    "stride 1": (2, 1, 1, 1, 6, 5),
    "13x13": (13, 1, 1, 12, 5, 6),
    "beyond": (2, 5, 5, 0, 13, 12),
    "1x1": (1, 1, 1, 0, 3, 4),
    "unequal": (3, 2, 1, 2, 6, 7),
    "dot": (2, 2, 2, 1, 1, 1),
    "257": (2, 2, 2, 1, 3, 257),
    "large": (2, 2, 2, 0, 64, 66),
}


def pools():
    for label, (size, stride_x, stride_y, padding, h, w) in POOLS.items():
        r = _rng("pools", label)
        s = {
            "batch": 2,
            "c": 3,
            "h": h,
            "w": w,
            "size": size,
            "stride_x": stride_x,
            "stride_y": stride_y,
            "offset": padding // 2,
            "out_h": (h + padding - size) // stride_y + 1,
            "out_w": (w + padding - size) // stride_x + 1,
        }
        shape, outputs = ("pool_shape *", s), 6 * s["out_h"] * s["out_w"]
        x = r.permutation(np.linspace(-1, 1, 6 * h * w))
        indexes = np.zeros(outputs, np.int32)
        yield "maxpool_forward_cpu", {"x": x, "s": shape, "y": np.zeros(outputs), "indexes": indexes}
        yield "maxpool_forward_cpu", {"x": x, "s": shape, "y": np.zeros(outputs), "indexes": None}
        yield "local_avgpool_forward_cpu", {"x": x, "s": shape, "y": np.zeros(outputs)}
        reference.maxpool_forward_cpu(x, _namespace(s), np.zeros(outputs), indexes)
        for add in (0, 1):
            d, dx = r.standard_normal(outputs), r.standard_normal(x.size)
            yield "maxpool_backward_cpu", {"delta": d, "indexes": indexes, "s": shape, "add": add, "dx": dx}
            yield "local_avgpool_backward_cpu", {"delta": d, "s": shape, "add": add, "dx": dx}
    for rows, spatial in ((1, 1), (3, 49), (7, 257), (64, 1024)):
        r = _rng("avgpool", rows)
        yield (
            "avgpool_forward_cpu",
            {"x": r.standard_normal(rows * spatial), "rows": rows, "spatial": spatial, "y": np.zeros(rows)},
        )
        for add in (0, 1):
            yield (
                "avgpool_backward_cpu",
                {
                    "delta": r.standard_normal(rows),
                    "rows": rows,
                    "spatial": spatial,
                    "add": add,
                    "dx": r.standard_normal(rows * spatial),
                },
            )


def _namespace(fields):
    return types.SimpleNamespace(**fields)


def maps():
    for planes, h, w, stride in ((1, 1, 1, 2), (3, 2, 5, 2), (6, 3, 4, 3), (2, 5, 3, 1), (8, 33, 31, 2)):
        for add in (0, 1):
            r = _rng("upsample", planes, h, add)
            shape = {"planes": planes, "h": h, "w": w, "stride": stride, "scale": 0.75, "add": add}
            small, large = r.standard_normal(planes * h * w), r.standard_normal(planes * h * w * stride**2)
            yield "upsample_forward_cpu", {"x": small, "y": large, **shape}
            yield "upsample_backward_cpu", {"delta": large, "dx": small, **shape}
    for w1, h1, c1, w2, h2, c2 in (
        (4, 4, 3, 4, 4, 3),
        (6, 6, 3, 3, 3, 5),
        (3, 3, 4, 6, 6, 2),
        (4, 3, 2, 4, 3, 7),
        (5, 5, 2, 2, 2, 3),
        (40, 40, 9, 40, 40, 9),
    ):
        r = _rng("overlap", w1, c1, w2)
        shape = ("overlap_shape *", {"batch": 2, "w1": w1, "h1": h1, "c1": c1, "w2": w2, "h2": h2, "c2": c2})
        source, own = r.standard_normal(2 * w1 * h1 * c1), r.standard_normal(2 * w2 * h2 * c2)
        yield "shortcut_overlap_cpu", {"s": shape, "from": source, "alpha": 0.7, "beta": -0.4, "out": own}
        yield "shortcut_overlap_from_cpu", {"s": shape, "delta": own, "beta": -0.4, "to": source}
        yield (
            "shortcut_overlap_input_cpu",
            {"s": shape, "delta": own, "alpha": 0.7, "to": r.standard_normal(own.size)},
        )
    for planes, h, w, out_h, out_w, top, left in (
        (2, 5, 7, 3, 4, 2, 1),
        (1, 1, 1, 1, 1, 0, 0),
        (12, 40, 41, 39, 40, 1, 1),
    ):
        for flip in (0, 1):
            r = _rng("crop", planes, flip)
            shape = {
                "planes": planes,
                "h": h,
                "w": w,
                "out_h": out_h,
                "out_w": out_w,
                "top": top,
                "left": left,
                "flip": flip,
                "scale": 2.0,
            }
            yield (
                "crop_forward_cpu",
                {
                    "x": r.standard_normal(planes * h * w),
                    "shift": -1.0,
                    "y": np.zeros(planes * out_h * out_w),
                    **shape,
                },
            )
            for add in (0, 1):
                yield (
                    "crop_backward_cpu",
                    {
                        "delta": r.standard_normal(planes * out_h * out_w),
                        "add": add,
                        "dx": r.standard_normal(planes * h * w),
                        **shape,
                    },
                )


def losses():
    for n in SIZES:
        r = _rng("losses", n)
        x, p, t = 1.5 * r.standard_normal(n), r.uniform(0.02, 0.98, n), r.integers(0, 2, n).astype(float)
        out = {"n": n, "delta": np.zeros(n), "error": np.zeros(n)}
        masked = np.where(r.random(n) < 0.3, -1234.0, t)
        yield "softmax_x_ent_cpu", {"pred": p, "truth": masked, **out}
        yield "logistic_x_ent_cpu", {"pred": p, "truth": r.uniform(0, 1, n), **out}
        yield "logistic_loss_cpu", {"n": n, "x": 3 * x, "truth": r.uniform(0, 1, n), "error": np.zeros(n)}
        for name in ("l2_cpu", "l1_cpu", "smooth_l1_cpu"):
            yield name, {"pred": x, "truth": r.standard_normal(n), **out}
        yield "wgan_cpu", {"pred": x, "truth": t, **out}
        yield "mask_loss_cpu", {"n": n, "truth": t, "value": 0.0, "factor": 0.3, "delta": x, "error": p}
    for batch, inputs, p in ((1, 1, 0.5), (3, 7, 0.25), (2, 257, 0.0), (40, 513, 0.9)):
        for add in (0, 1):
            r = _rng("dropout", inputs, add)
            yield (
                "dropout_cpu",
                {
                    "x": r.standard_normal(batch * inputs),
                    "batch": batch,
                    "inputs": inputs,
                    "probability": p,
                    "seed": 2**40 + 11,
                    "purpose": 5,
                    "first_row": 2**32 - 1,
                    "add": add,
                    "y": r.standard_normal(batch * inputs),
                },
            )
    for n, batch, batch_offset, groups, group_offset, stride, temp in (
        (7, 1, 7, 1, 7, 1, 1.0),
        (4, 3, 8, 2, 4, 1, 3.0),
        (5, 2, 30, 6, 1, 6, 0.5),
        (1, 2, 1, 1, 1, 1, 1.0),
        (1000, 20, 1000, 1, 0, 1, 1.0),
    ):
        r = _rng("softmax", n, batch)
        count = (batch - 1) * batch_offset + (groups - 1) * group_offset + (n - 1) * stride + 1
        shape = {
            "n": n,
            "batch": batch,
            "batch_offset": batch_offset,
            "groups": groups,
            "group_offset": group_offset,
            "stride": stride,
            "temp": temp,
        }
        x = 3 * r.standard_normal(count)
        yield "softmax_cpu", {"input": x, "output": np.zeros(count), **shape}
        p = np.zeros(count)
        reference.softmax_cpu(x, output=p, **shape)
        yield (
            "softmax_backward_cpu",
            {"output": p, "delta": r.standard_normal(count), "dx": np.zeros(count), **shape},
        )


def optimizer():
    for sizes in (*((n,) for n in SIZES), (30000, 64, 1), tuple(range(1, 19))):
        r, n = _rng("optimizer", *sizes), sum(sizes)
        parameters = [
            {
                "n": n,
                "w": r.standard_normal(n),
                "updates": r.standard_normal(n),
                "m": r.standard_normal(n),
                "v": r.uniform(0.1, 1, n),
                "decay": 0.3 / (i + 1),
            }
            for i, n in enumerate(sizes)
        ]
        step = {"count": len(sizes), "p": ("parameter_arrays[]", parameters), "rate": 0.01}
        yield "sgd_update_cpu", {**step, "momentum": 0.9}
        yield "momentum_update_cpu", {**step, "clip": 0.2, "momentum": 0.9}
        for t in (1.0, 50.0):
            yield (
                "adam_update_cpu",
                {**step, "gradient_scale": 0.1, "b1": 0.9, "b2": 0.999, "eps": 1e-4, "t": t},
            )
        yield "soft_threshold_cpu", {"n": n, "threshold": 0.3, "w": r.standard_normal(n)}
    for rows, columns in ((1, 1), (3, 27), (64, 301), (5, 4609)):
        x = _rng("rows", rows, columns).standard_normal(rows * columns)
        yield "center_rows_cpu", {"rows": rows, "columns": columns, "x": x}


def bits():
    for n, size in ((1, 1), (4, 9), (33, 288), (3, 20000)):
        weights = _rng("bits", n, size).standard_normal(n * size)
        weights[0] = 0
        yield "binarize_weights", {"weights": weights, "n": n, "size": size, "binary": np.zeros(n * size)}
    for planes, h, w, pad in ((1, 1, 1, 0), (3, 4, 5, 0), (2, 5, 3, 2), (7, 61, 45, 1)):
        x = _rng("signs", planes, h, w).standard_normal(planes * h * w)
        x[-1] = 0
        binary = np.zeros(planes * (h + 2 * pad) * (w + 2 * pad))
        shape = {"planes": planes, "h": h, "w": w, "pad": pad}
        yield "binarize_cpu", {"input": x, "outside": -1.0, "binary": binary, **shape}


CASES = [
    case
    for family in (
        vectors, biases, batchnorm, groupnorm, activations, pools, maps, losses, optimizer, bits, *kernel_cases_maps.FAMILIES,
        *kernel_cases_heads.FAMILIES,
    )
    for case in family()
]
CASES += gates(SIZES, _rng)


@pytest.mark.parametrize(
    "name", [name for name in KERNELS if name != "gemm" and not name.startswith("convolution_")]
)
def test_kernel(name, threads):
    cases = [case for kernel, case in CASES if kernel == name]
    assert cases, f"{name} has no case"
    # targets less values, slopes of overlaps and of cosines are differences of numbers above 1: rounding is absolute
    tolerance = {"atol": 1e-5} if name in ("yolo_train_cpu", "region_train_cpu", "contrastive_train_cpu") else {}
    for case in cases:
        compare_threads(name, case, threads, **tolerance)


@pytest.mark.parametrize("frozen", [0, 1])
@pytest.mark.parametrize("shape", [(3, 2, 1), (2, 130, 1), (2, 3, 35), (2, 2, 1100), *LONG_ROWS], ids=str)
@pytest.mark.parametrize("a", ELEMENTWISE)
def test_backward_in_place(a, shape, frozen, threads):
    """With an activation dx is the array of delta, which holds the activation's gradient meanwhile."""
    batch, filters, spatial = shape
    r, c = _rng("in place", a, *shape), (slice(None), None)
    names = (
        "scales",
        "biases",
        "mean",
        "variance",
        "scale_updates",
        "bias_updates",
        "mean_delta",
        "variance_delta",
    )
    p = {name: r.uniform(0.5, 1.5, filters).astype(np.float32).astype(float) for name in names}
    z = _off_kinks(2 * r.standard_normal(shape))
    x = ((z - p["biases"][c]) / p["scales"][c] * np.sqrt(p["variance"][c] + 1e-5) + p["mean"][c]).astype(
        np.float32
    )
    y, delta = reference.activate(a, z), r.standard_normal(shape).astype(np.float32)
    bits = set()
    for n in (1, 2, 3):
        threads(n)
        updates, (xs, ys, d) = {}, (Guarded(array) for array in (x, y, delta))
        arrays = structure("batchnorm_arrays *", p, updates)
        core.lib.batchnorm_backward_cpu(
            xs.pointer, ys.pointer, d.pointer, *shape, arrays, activation_number(a), frozen, 0, d.pointer
        )
        d.check_guards("dx")
        bits.add(b"".join(array.values.tobytes() for array in (d, *updates.values())))
    assert len(bits) == 1, "the result depends on the number of threads"
    wanted, q = np.zeros(shape), types.SimpleNamespace(**{name: value.copy() for name, value in p.items()})
    reference.batchnorm_backward_cpu(x.astype(float), y, delta.astype(float), *shape, q, a, frozen, 0, wanted)
    np.testing.assert_allclose(d.values, wanted.ravel(), rtol=1e-5, atol=1e-5)
    for name in names:
        np.testing.assert_allclose(
            updates[name].values, getattr(q, name), rtol=1e-5, atol=1e-5 * spatial**0.5, err_msg=name
        )
