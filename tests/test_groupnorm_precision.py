"""The kernels of group and layer normalization against float64: |error| <= 1e-6 times the largest value.

The exact values follow from the float32 x alone: a mean that float32 cannot hold must not show.
"""

from __future__ import annotations

import numpy as np
import pytest

from darknetpy import kernels
from darknetpy.bench import exact

BOUND = 1e-6
DATA = {"unit": (0, 1), "mean 1000, deviation 1e-2": (1000, 1e-2), "mean -3, deviation 1e-3": (-3, 1e-3)}
SHAPES = [  # batch, channels, h, w, groups
    (3, 6, 1, 1, 2),
    (40, 64, 1, 1, 2),
    (2, 5000, 1, 1, 1),
    (3, 8, 3, 3, 2),
    (2, 512, 7, 7, 32),
    (2, 512, 7, 7, 1),
    (1, 4, 97, 101, 2),
    (1, 3, 401, 299, 1),
]
LARGE = [(17, 1024, 16, 16, 1), (2, 11, 460, 457, 11), (1, 4, 1025, 1028, 1)]  # 16 MiB and more are streamed


def largest_errors(shape, groups, data, activation="linear"):
    """Run both kernels -> name of a result -> its largest error over the largest value."""
    given = exact.sample(shape, "groupnorm", *DATA[data], 10**8)
    n, c, spatial = shape[0], shape[1], shape[2] * shape[3]
    x, delta, scales, biases = (given[name] for name in ("x", "delta", "scales", "biases"))
    mean, variance = (np.zeros((n, groups), np.float32) for _ in range(2))
    found = {name: np.zeros(shape, np.float32) for name in ("y", "dx")}
    found.update({name: np.zeros(c, np.float32) for name in ("scale_updates", "bias_updates")})
    sizes, updates = (n, c, spatial, groups, scales, biases), (found["scale_updates"], found["bias_updates"])
    kernels.groupnorm_forward_cpu(x, *sizes, activation, mean, variance, found["y"])
    if activation != "linear":
        delta = found["dx"] = delta.copy()
    workspace = np.zeros(2 * n * c, np.float32)
    kernels.groupnorm_backward_cpu(
        x, found["y"], delta, *sizes, activation, mean, variance, *updates, 0, found["dx"], workspace
    )
    wanted = exact.normalization("groupnorm", groups, given)
    if activation == "swish":
        z = wanted["y"]
        s = 1 / (1 + np.exp(-z))
        given["delta"] = given["delta"] * (s + z * s * (1 - s))
        wanted = exact.normalization("groupnorm", groups, given)
        wanted["y"] = z * s
    return {name: error["largest"] for name, error in exact.errors(found, wanted).items()}


@pytest.mark.parametrize("activation", ["linear", "swish"])
@pytest.mark.parametrize("data", DATA)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_largest_error(shape, data, activation):
    errors = largest_errors(shape[:4], shape[4], data, activation)
    assert max(errors.values()) <= BOUND, errors


@pytest.mark.parametrize("activation", ["linear", "swish"])
@pytest.mark.parametrize("shape", LARGE, ids=str)
def test_results_beyond_the_caches(shape, activation):
    errors = largest_errors(shape[:4], shape[4], "mean 1000, deviation 1e-2", activation)
    assert max(errors.values()) <= BOUND, errors
