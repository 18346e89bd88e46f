"""Arguments for the kernels of csrc/recurrent_kernels.c."""

from __future__ import annotations


def gates(sizes, rng):
    """Yield (kernel, arguments) for arrays of several sizes; `rng`: seeded by what is given to it."""
    for n in sizes:
        r = rng("gates", n)
        a, b, c, d, e, f = r.standard_normal((6, n))
        s = r.uniform(0, 1, n)
        for second in (None, b):
            yield "weighted_sum_cpu", {"a": a, "b": second, "s": s, "n": n, "c": c}
        for da in (None, d):
            yield (
                "weighted_delta_cpu",
                {"a": a, "b": b, "s": s, "da": da, "db": e, "ds": f, "n": n, "dc": c},
            )
        yield "constrain_cpu", {"n": n, "limit": 0.5, "x": a}
        yield "constrain_delta_cpu", {"n": n, "limit": 0.5, "x": a, "delta": c}
