"""gemm against float64: both transpositions, leading dimensions, beta, few rows and many, every SIMD level."""

from __future__ import annotations

import zlib

import kernel_calls
import numpy as np
import pytest
from test_convolution import simd  # noqa: F401  a fixture

import darknetpy as dn

SIZES = [
    (1, 1, 1),
    (5, 17, 9),
    (1, 257, 3),
    (255, 1, 7),
    (16, 16, 16),
    (33, 65, 129),
    (3, 2, 1000),
    (130, 257, 66),
    (128, 160, 120),
    (1, 100, 1050),
    (7, 2500, 150),
    (20, 131, 1100),
    (64, 50, 2050),
    (65, 50, 300),
    (300, 500, 20),
]


def _case(M, N, K, TA, TB, beta, extra):
    r = np.random.default_rng(zlib.crc32(repr((M, N, K, TA, TB)).encode()))
    lda, ldb, ldc = (M if TA else K) + extra, (K if TB else N) + extra, N + extra
    a = r.standard_normal(((K if TA else M) - 1) * lda + (M if TA else K)) / np.sqrt(K)
    b = r.standard_normal(((N if TB else K) - 1) * ldb + (K if TB else N))
    c = r.standard_normal((M - 1) * ldc + N)
    return {
        "TA": TA,
        "TB": TB,
        "M": M,
        "N": N,
        "K": K,
        "ALPHA": 0.7,
        "A": a,
        "lda": lda,
        "B": b,
        "ldb": ldb,
        "BETA": beta,
        "C": c,
        "ldc": ldc,
    }


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("TA", [0, 1])
@pytest.mark.parametrize("TB", [0, 1])
def test_product(size, TA, TB, simd, threads):  # noqa: F811
    for beta in (0.0, 1.0, 0.5):
        for extra in (0, 3):
            kernel_calls.compare_threads("gemm", _case(*size, TA, TB, beta, extra), threads)


def test_beta_zero_reads_nothing():
    """As in BLAS, beta = 0 writes C whatever stood there."""
    c = np.full((2, 2), np.nan, np.float32)
    dn.kernels.gemm(
        0, 0, 2, 2, 1, 1.0, np.ones((2, 1), np.float32), 1, np.ones((1, 2), np.float32), 2, 0.0, c, 2
    )
    assert (c == 1).all()


def test_long_products_of_small_matrices():
    """What is counted are the values of each matrix, not the 2^31 products."""
    size = 1400
    a = np.ones((size, size), np.float32)
    c = np.empty_like(a)
    dn.kernels.gemm(0, 0, size, size, size, 1.0, a, size, a, size, 0.0, c, size)
    assert size**3 > 2**31 and (c == size).all()
