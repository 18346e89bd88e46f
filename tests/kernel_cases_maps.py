"""Cases of test_kernels.py for the kernels of reference_products.py: (kernel, arguments by name)."""

from __future__ import annotations

import zlib

import numpy as np
import reference_products as reference

PLANES = [
    (1, 1, 1),
    (1, 3, 35),
    (4, 3, 1),
    (2, 5, 7),
    (3, 1, 257),
    (2, 7, 255),
    (5, 4, 1024),
]  # batch, channels, spatial


def _rng(*key):
    return np.random.default_rng(zlib.crc32(repr(key).encode()))


def products():
    for n in (1, 3, 257, 20011):
        for add in (0, 1):
            r = _rng("multiply", n, add)
            a, b, y = r.standard_normal((3, n))
            yield "multiply_cpu", {"n": n, "a": a, "b": b, "add": add, "y": y}
    for batch, channels, spatial in PLANES:
        for per_pixel in (0, 1):
            for add in (0, 1):
                r = _rng("scale", batch, channels, spatial, per_pixel, add)
                x, d, y = r.standard_normal((3, batch * channels * spatial))
                s = r.standard_normal(batch * (spatial if per_pixel else channels))
                how = {
                    "batch": batch,
                    "channels": channels,
                    "spatial": spatial,
                    "per_pixel": per_pixel,
                    "add": add,
                }
                yield "scale_maps_cpu", {"x": x, "scales": s, "y": y, **how}
                yield "scale_maps_backward_cpu", {"x": x, "delta": d, "scales_delta": s, **how}


def mixtures():
    for rows, columns, ldx, ldy, step in (
        (1, 1, 1, 1, 1),
        (3, 12, 12, 15, 4),
        (2, 10, 13, 10, 4),
        (40, 600, 600, 600, 600),
    ):
        r = _rng("mix", rows, columns)
        x, y = r.standard_normal((rows - 1) * ldx + columns), r.standard_normal((rows - 1) * ldy + columns)
        w = r.standard_normal((columns - 1) // step + 1)
        how = {"rows": rows, "columns": columns, "step": step, "ldx": ldx}
        for add in (0, 1):
            yield "mix_rows_cpu", {"x": x, "weights": w, "add": add, "y": y, "ldy": ldy, **how}
        yield "mix_rows_backward_cpu", {"x": x, "delta": y, "ldd": ldy, "weights_delta": w, **how}
    for n, length in ((1, 1), (2, 1), (3, 5), (7, 64)):
        for kind in (0, 1, 2):
            r = _rng("weights", n, length, kind)
            w, d, u = r.standard_normal((3, n * length))
            mixed = np.zeros(w.size)
            yield "mix_weights_cpu", {"weights": w, "n": n, "length": length, "kind": kind, "mixed": mixed}
            mixed = mixed.copy()
            reference.mix_weights_cpu(w, n, length, kind, mixed)
            how = {"n": n, "length": length, "kind": kind}
            if kind != 1 or (w.reshape(n, length) > 0.1).any(axis=0).all():
                yield (
                    "mix_weights_backward_cpu",
                    {"weights": w, "mixed": mixed, "delta": d, "updates": u, **how},
                )


def places():
    for w, h, c, batch, stride in (
        (1, 1, 4, 1, 2),
        (3, 2, 9, 2, 3),
        (5, 4, 8, 3, 2),
        (2, 3, 3, 2, 1),
        (40, 30, 16, 2, 2),
    ):
        for forward in (0, 1):
            for add in (0, 1):
                r = _rng("reorg", w, forward, add)
                x, out = r.standard_normal((2, batch * c * h * w))
                yield (
                    "reorg_cpu",
                    {
                        "x": x,
                        "w": w,
                        "h": h,
                        "c": c,
                        "batch": batch,
                        "stride": stride,
                        "forward": forward,
                        "add": add,
                        "out": out,
                    },
                )
    for batch, rows, columns in ((1, 1, 1), (2, 3, 5), (3, 33, 70), (1, 200, 130)):
        for add in (0, 1):
            r = _rng("transpose", rows, add)
            x, y = r.standard_normal((2, batch * rows * columns))
            yield (
                "transpose_cpu",
                {"x": x, "batch": batch, "rows": rows, "columns": columns, "add": add, "y": y},
            )


def channel_norms():
    for batch, channels, spatial in PLANES:
        r = _rng("lrn", batch, channels, spatial)
        x, d, dx = r.standard_normal((3, batch * channels * spatial))
        shape = {"batch": batch, "channels": channels, "spatial": spatial}
        for size, beta in ((5, 0.75), (4, 0.6), (1, 0.75)):
            how = {**shape, "size": size, "alpha": 0.05, "beta": beta}
            y, norms = np.zeros(x.size), np.zeros(x.size)
            for wanted in (norms, None):
                yield "lrn_forward_cpu", {"x": x, "kappa": 2.0, "norms": wanted, "y": np.zeros(x.size), **how}
            reference.lrn_forward_cpu(x, kappa=2.0, norms=norms, y=y, **how)
            for add in (0, 1):
                yield (
                    "lrn_backward_cpu",
                    {
                        "x": x,
                        "y": y,
                        "norms": norms,
                        "delta": d,
                        "add": add,
                        "dx": dx,
                        "workspace": np.zeros(3 * x.size),
                        **how,
                    },
                )
        yield "l2norm_forward_cpu", {"x": x, "y": np.zeros(x.size), **shape}
        y = np.zeros(x.size)
        reference.l2norm_forward_cpu(x, y=y, **shape)
        if channels > 1:  # of one channel nothing is left
            for add in (0, 1):
                yield "l2norm_backward_cpu", {"x": x, "y": y, "delta": d, "add": add, "dx": dx, **shape}


def local_convolutions():
    for h, w, c, n, size, stride, pad in (
        (3, 4, 2, 3, 3, 1, 1),
        (5, 4, 3, 2, 2, 2, 0),
        (1, 1, 1, 1, 1, 1, 0),
        (9, 8, 4, 17, 3, 2, 1),
    ):
        for batch in (1, 3):
            r = _rng("local", h, n, batch)
            out_h, out_w = ((side + 2 * pad - size) // stride + 1 for side in (h, w))
            fields = {
                "batch": batch,
                "c": c,
                "h": h,
                "w": w,
                "n": n,
                "groups": 1,
                "size": size,
                "stride_x": stride,
                "stride_y": stride,
                "dilation": 1,
                "pad": pad,
                "out_h": out_h,
                "out_w": out_w,
            }
            s, places = ("conv_shape *", fields), out_h * out_w
            x, dy = r.standard_normal(batch * c * h * w), r.standard_normal(batch * n * places)
            weights, work = (
                r.standard_normal(places * n * c * size**2),
                np.zeros(places * batch * (c * size**2 + n)),
            )
            yield (
                "local_forward_cpu",
                {"s": s, "x": x, "w": weights, "y": np.zeros(dy.size), "workspace": work},
            )
            yield "local_backward_weights_cpu", {"s": s, "x": x, "dy": dy, "dw": weights, "workspace": work}
            for add in (0, 1):
                yield (
                    "local_backward_data_cpu",
                    {"s": s, "dy": dy, "w": weights, "add": add, "dx": x, "workspace": work},
                )


def tails():
    for batch, channels, spatial, groups in ((1, 1, 1, 1), (2, 5, 7, 2), (3, 64, 300, 4), (1, 6, 4, 6)):
        r = _rng("depth", channels, groups)
        x, out = r.permutation(np.linspace(-1, 1, batch * channels * spatial)), batch * groups * spatial
        for indexes in (np.zeros(out, np.int32), None):
            yield (
                "maxpool_depth_cpu",
                {
                    "x": x,
                    "batch": batch,
                    "channels": channels,
                    "spatial": spatial,
                    "groups": groups,
                    "y": np.zeros(out),
                    "indexes": indexes,
                },
            )
        from_channels = np.arange(batch * channels * spatial, dtype=np.int32).reshape(batch, channels, spatial)
        chosen = r.integers(0, channels // groups, out).reshape(batch, groups, spatial) * groups
        chosen = np.take_along_axis(from_channels, chosen + np.arange(groups)[None, :, None], 1).ravel()
        for add in (0, 1):
            yield (
                "maxpool_depth_backward_cpu",
                {
                    "delta": r.standard_normal(out),
                    "indexes": chosen,
                    "batch": batch,
                    "channels": channels,
                    "spatial": spatial,
                    "groups": groups,
                    "add": add,
                    "dx": r.standard_normal(x.size),
                },
            )
    for batch, most, size, h, w in ((1, 1, 5, 1, 1), (2, 4, 5, 7, 9), (3, 3, 6, 40, 30)):
        r = _rng("boxes", most, h)
        rows = np.concatenate([r.uniform(-0.2, 1.2, (batch, most, 2)), r.uniform(0, 0.6, (batch, most, size - 2))], 2)
        rows[-1, most // 2 :, 0] = 0  # no more boxes
        truth = {"truth": rows.ravel(), "batch": batch, "truths": most * size, "size": size}
        yield "mark_boxes_cpu", {**truth, "h": h, "w": w, "value": 1.5, "plane": np.ones(batch * h * w)}
    for size, offset, stride_x, stride_y, h, w in (
        (3, 1, 2, 2, 5, 6),
        (2, 0, 2, 1, 4, 7),
        (3, 1, 1, 3, 1, 1),
        (2, 0, 2, 2, 60, 50),
    ):
        r = _rng("blur", size, h)
        fields = {
            "batch": 2,
            "c": 3,
            "h": h,
            "w": w,
            "size": size,
            "stride_x": stride_x,
            "stride_y": stride_y,
            "offset": offset,
            "out_h": (h + 2 * offset - size) // stride_y + 1,
            "out_w": (w + 2 * offset - size) // stride_x + 1,
        }
        outputs = 6 * fields["out_h"] * fields["out_w"]
        x, d = r.standard_normal(6 * h * w), r.standard_normal(outputs)
        yield "blur_forward_cpu", {"x": x, "s": ("pool_shape *", fields), "y": np.zeros(outputs)}
        for add in (0, 1):
            yield "blur_backward_cpu", {"delta": d, "s": ("pool_shape *", fields), "add": add, "dx": x}
    for channels in (1, 2, 5):
        for zero in (0, 1):
            y = _rng("coordinates", channels).standard_normal(2 * channels * 12)
            yield "coordinates_cpu", {"batch": 2, "channels": channels, "h": 3, "w": 4, "zero": zero, "y": y}
    for batch, channels, spatial in ((1, 1, 1), (2, 3, 65), (3, 5, 64), (2, 90, 130)):
        r = _rng("excite", channels)
        x, weights = r.standard_normal(batch * channels * spatial), r.uniform(0, 2, batch * spatial)
        weights *= r.random(weights.shape) < 0.5
        case = {"x": x, "batch": batch, "channels": channels, "spatial": spatial, "weights": weights}
        yield "excite_cpu", case
    for batch, channels, h, w, size, p in (
        (1, 1, 3, 3, 1, 0.5),
        (2, 3, 7, 9, 3, 0.05),
        (3, 2, 5, 5, 2, 0.0),
        (4, 5, 30, 41, 7, 0.01),
    ):
        yield (
            "dropblock_mask_cpu",
            {
                "batch": batch,
                "channels": channels,
                "h": h,
                "w": w,
                "size": size,
                "probability": p,
                "seed": 2**40 + 11,
                "purpose": 5,
                "first_row": 2**32 - 1,
                "mask": np.zeros(batch * channels * h * w),
            },
        )


FAMILIES = (products, mixtures, places, channel_norms, local_convolutions, tails)
