"""The named kernels of batch normalization against their formulas in float64, at the edge of float32.

Sums: |error| <= 1e-6 times the sum of the |terms|, 10^7 of them included.  Arrays: <= 1e-6 times the largest value.  Formulas
work on what the float32 arrays hold, statistics included, so that only the kernel's own rounding is measured.
"""

from __future__ import annotations

import numpy as np
import pytest
from darknet_peer import MISSING, DarknetPeer

from darknetpy import kernels
from darknetpy.core import core

BOUND, EPSILON = 1e-6, 1e-5
SHAPES = [  # batch, filters, spatial: one filter, one image, one pixel, odd sizes, sizes around the lanes of a sum
    (2, 1, 1),
    (1, 1, 2),
    (1, 3, 35),
    (3, 1, 257),
    (7, 5, 1),
    (301, 67, 1),
    (2, 130, 15),
    (5, 3, 16),
    (3, 2, 17),
    (9, 4, 1023),
]
DATA = {"unit": (0, 1), "mean 1000, deviation 1e-2": (1000, 1e-2), "mean -3, deviation 1e-3": (-3, 1e-3)}
CHANNEL = (slice(None), None)


class Planes:
    """x, delta (batch, filters, spatial) and the statistics of x, as float32; `sizes` are the kernels' arguments."""

    def __init__(self, rng, shape, mean=0.0, deviation=1.0):
        self.shape, self.sizes, self.m = shape, shape, shape[0] * shape[2]
        self.x = rng.standard_normal(shape, np.float32)
        self.x *= np.float32(deviation)
        self.x += np.float32(mean)
        self.delta = rng.standard_normal(shape, np.float32)
        self.delta += np.float32(0.5)
        self.mean = self.x.mean(axis=(0, 2), dtype=float).astype(np.float32)
        self.variance = self.x.var(axis=(0, 2), dtype=float).astype(np.float32)
        self.scales = rng.uniform(0.5, 1.5, shape[1]).astype(np.float32)
        self.biases = rng.standard_normal(shape[1], np.float32)

    def channels(self, start=0.0):
        return np.full(self.shape[1], start, np.float32)

    @property
    def centred(self):
        return self.x.astype(float) - self.mean[CHANNEL]

    @property
    def inverse(self):
        return 1 / np.sqrt(self.variance.astype(float) + EPSILON)


# Each sum: the array that the kernel wrote, its terms in float64 (batch, filters, spatial), what stood there before, and a factor
# per filter.
def mean_cpu(p):
    mean = p.channels(9)
    kernels.mean_cpu(p.x, *p.sizes, mean)
    return mean, p.x.astype(float), 0, 1 / p.m


def variance_cpu(p):
    variance = p.channels(9)
    kernels.variance_cpu(p.x, p.mean, *p.sizes, variance)
    return variance, p.centred**2, 0, 1 / (p.m - 1)


def backward_bias(p):
    updates = p.channels(0.25)
    kernels.backward_bias(updates, p.delta, *p.sizes)
    return updates, p.delta.astype(float), 0.25, 1


def backward_scale_cpu(p):
    updates, x_norm = p.channels(0.25), (p.centred * p.inverse[CHANNEL]).astype(np.float32)
    kernels.backward_scale_cpu(x_norm, p.delta, *p.sizes, updates)
    return updates, x_norm.astype(float) * p.delta, 0.25, 1


def mean_delta_cpu(p):
    mean_delta = p.channels(9)
    kernels.mean_delta_cpu(p.delta, p.variance, *p.sizes, mean_delta)
    return mean_delta, p.delta.astype(float), 0, -p.inverse


def variance_delta_cpu(p):
    variance_delta = p.channels(9)
    kernels.variance_delta_cpu(p.x, p.delta, p.mean, p.variance, *p.sizes, variance_delta)
    return variance_delta, p.centred * p.delta, 0, -0.5 * p.inverse**3


SUMS = [mean_cpu, variance_cpu, backward_bias, backward_scale_cpu, mean_delta_cpu, variance_delta_cpu]


def sum_error(found, terms, before, factor):
    """Largest |error|, in units of the sum of the |terms|; of zeros only an exact 0 will do."""
    wanted = before + factor * terms.sum(axis=(0, 2))
    scale = np.abs(before) + np.abs(factor) * np.abs(terms).sum(axis=(0, 2))
    return np.max(np.abs(found - wanted) / np.maximum(scale, 1e-30))


# Each array: what the kernel wrote, and the terms in float64 whose sum it is.
def normalize_cpu(p):
    y = p.x.copy()
    kernels.normalize_cpu(y, p.mean, p.variance, *p.sizes)
    return y, [p.centred * p.inverse[CHANNEL]]


def scale_bias(p):
    y = p.x.copy()
    kernels.scale_bias(y, p.scales, *p.sizes)
    return y, [p.scales[CHANNEL].astype(float) * p.x]


def add_bias(p):
    y = p.x.copy()
    kernels.add_bias(y, p.biases, *p.sizes)
    return y, [p.x.astype(float), p.biases[CHANNEL].astype(float)]


def normalize_delta_cpu(p):
    y, c = p.delta.copy(), CHANNEL
    mean_delta = (-p.delta.sum(axis=(0, 2), dtype=float) * p.inverse).astype(np.float32)
    variance_delta = (-0.5 * (p.delta * p.centred).sum(axis=(0, 2)) * p.inverse**3).astype(np.float32)
    kernels.normalize_delta_cpu(p.x, p.mean, p.variance, mean_delta, variance_delta, *p.sizes, y)
    return y, [
        p.delta * p.inverse[c],
        variance_delta.astype(float)[c] * 2 * p.centred / p.m,
        mean_delta.astype(float)[c] / p.m,
    ]


ARRAYS = [normalize_cpu, scale_bias, add_bias, normalize_delta_cpu]


def array_error(found, terms):
    """Largest |error|, in units of the largest value, or of the largest term where terms cancel."""
    return np.max(np.abs(found - sum(terms))) / max(1e-30, *(np.max(np.abs(term)) for term in terms))


@pytest.mark.parametrize("data", DATA)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("kernel", SUMS, ids=lambda kernel: kernel.__name__)
def test_sum(kernel, shape, data, rng):
    assert sum_error(*kernel(Planes(rng, shape, *DATA[data]))) <= BOUND


@pytest.mark.parametrize("data", DATA)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("kernel", ARRAYS, ids=lambda kernel: kernel.__name__)
def test_array(kernel, shape, data, rng):
    assert array_error(*kernel(Planes(rng, shape, *DATA[data]))) <= BOUND


@pytest.mark.parametrize("data", [(1, 1), (1000, 1e-2)], ids=str)
@pytest.mark.parametrize("shape", [(10, 1, 10**6), (10**7, 1, 1), (3163, 2, 3163)], ids=str)
def test_ten_million_values_per_channel(shape, data, rng):
    planes = Planes(rng, shape, *data)
    errors = {kernel.__name__: sum_error(*kernel(planes)) for kernel in SUMS}
    assert max(errors.values()) <= BOUND, errors


@pytest.mark.parametrize("kernel", [normalize_delta_cpu], ids=lambda kernel: kernel.__name__)
def test_terms_that_cancel(kernel, rng):
    """A delta that only shifts and scales the channel moves nothing: mean and variance undo it."""
    p = Planes(rng, (6, 3, 50))
    p.delta = (0.5 + 2 * p.centred * p.inverse[CHANNEL]).astype(np.float32)
    found, terms = kernel(p)
    assert array_error(found, terms) <= BOUND
    assert np.max(np.abs(found)) <= 1e-4 * np.max(np.abs(p.delta))  # epsilon's share is what is left


def test_one_value_per_filter(rng):
    """m = 1: there is no variance, the others follow their formulas."""
    for kernel in SUMS:
        if kernel is not variance_cpu:
            assert sum_error(*kernel(Planes(rng, (1, 4, 1)))) <= BOUND, kernel.__name__
    for kernel in ARRAYS:
        assert array_error(*kernel(Planes(rng, (1, 4, 1)))) <= BOUND, kernel.__name__
    with pytest.raises(ValueError, match="one value per filter"):
        variance_cpu(Planes(rng, (1, 4, 1)))


# ---- Debian's Darknet. Its normalize_cpu divides by sqrt(variance) + 1e-6, which is what batchnorm=darknet does, not normalize_cpu
# here; the others agree with the paper.
def _arguments(name, p):
    b, f, n = p.sizes
    return {
        "mean_cpu": (p.x, b, f, n, p.channels()),
        "variance_cpu": (p.x, p.mean, b, f, n, p.channels()),
        "normalize_cpu": (p.x, p.mean, p.variance, b, f, n),
        "scale_bias": (p.x, p.scales, b, f, n),
        "add_bias": (p.x, p.biases, b, f, n),
        "backward_bias": (p.channels(0.25), p.delta, b, f, n),
        "backward_scale_cpu": (p.x, p.delta, b, f, n, p.channels(0.25)),
        "mean_delta_cpu": (p.delta, p.variance, b, f, n, p.channels()),
        "variance_delta_cpu": (p.x, p.delta, p.mean, p.variance, b, f, n, p.channels()),
        "normalize_delta_cpu": (p.x, p.mean, p.variance, p.scales, p.biases, b, f, n, p.delta),
    }[name]


NAMES = [kernel.__name__ for kernel in SUMS + ARRAYS]


@pytest.fixture(scope="module")
def peer():
    if MISSING:
        pytest.skip("needs /usr/lib/darknet/libdarknet.so (Debian package darknet)")
    peer = DarknetPeer()
    yield peer
    peer.close()


def normalize_as_pjreddie(*arguments):
    core.lib.normalize_pjreddie_cpu(*(core.address(a) if isinstance(a, np.ndarray) else a for a in arguments))


@pytest.mark.parametrize("shape", [(3, 5, 7), (1, 1, 2), (4, 3, 1), (2, 2, 257)], ids=str)
@pytest.mark.parametrize("name", NAMES)
def test_debians_darknet(name, shape, peer, rng):
    """Largest difference 1e-5 of the largest value: Darknet adds in float32, in the order that -Ofast finds."""
    arguments = _arguments(name, Planes(rng, shape))
    theirs = peer.kernel(name, *arguments)
    ours = normalize_as_pjreddie if name == "normalize_cpu" else getattr(kernels, name)
    ours(*arguments)
    for a, b in zip(arguments, theirs):
        assert np.max(np.abs(np.subtract(a, b))) <= 1e-5 * np.max(np.abs(b)) + 1e-7
