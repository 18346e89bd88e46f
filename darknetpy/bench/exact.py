"""Normalization in float64, straight from the formulas, and how far other results lie from it."""

from __future__ import annotations

import numpy as np

_EPSILON = 1e-5
_AXES = {"batchnorm": (0, 2, 3), "groupnorm": (2, 3, 4), "layernorm": (2, 3, 4)}


def normalization(layer, groups, given, train=True):
    """Return y, and in training dx and the gradients of scales and biases, all float64.

    Parameters
    ----------
    layer : str
        ``"batchnorm"``, ``"groupnorm"`` or ``"layernorm"``.
    groups : int
        Of group normalization.
    given : dict
        x and delta (n, c, h, w), scales and biases (c,), and for inference mean and variance (c,).
    train : bool
        False: batch normalization with given statistics.
    """
    x, delta, scales, biases = (given[name].astype(np.float64) for name in ("x", "delta", "scales", "biases"))
    n, c, h, w = x.shape
    shape = x.shape if layer == "batchnorm" else (n, groups if layer == "groupnorm" else 1, -1, h, w)
    axes, gain = _AXES[layer], scales.reshape(1, -1, 1, 1)
    sets = x.reshape(shape)
    mean, variance = sets.mean(axes, keepdims=True), sets.var(axes, keepdims=True)
    if not train:
        mean, variance = (
            given[name].astype(np.float64).reshape(1, -1, 1, 1) for name in ("mean", "variance")
        )
    inverse = 1 / np.sqrt(variance + _EPSILON)
    x_norm = (sets - mean) * inverse
    found = {"y": x_norm.reshape(x.shape) * gain + biases.reshape(1, -1, 1, 1)}
    if train:
        d = (delta * gain).reshape(shape)
        slope = (d * x_norm).mean(axes, keepdims=True)
        found["dx"] = ((d - d.mean(axes, keepdims=True) - x_norm * slope) * inverse).reshape(x.shape)
        found["scale_updates"] = (delta * x_norm.reshape(x.shape)).sum((0, 2, 3))
        found["bias_updates"] = delta.sum((0, 2, 3))
    return found


def errors(found, exact):
    """Return name -> the largest difference over the largest exact value, and its norm over the norm."""
    result = {}
    for name in found:
        array = exact[name]
        difference = np.abs(found[name].reshape(array.shape) - array)
        result[name] = {
            "largest": float(difference.max() / np.abs(array).max()),
            "norm": float(np.linalg.norm(difference) / np.linalg.norm(array)),
        }
    return result


def sample(shape, layer, mean, deviation, most):
    """Return arrays to compute from: x of a mean and deviation, at most about `most` values.

    A large shape keeps what one mean is taken over: batch normalization gets fewer channels, the others fewer
    samples.
    """
    n, c, h, w = shape
    if layer == "batchnorm":
        c = max(1, min(c, most // (n * h * w)))
    else:
        n = max(1, min(n, most // (c * h * w)))
    rng = np.random.default_rng(22)
    found = {
        "x": rng.standard_normal((n, c, h, w)) * deviation + mean,
        "delta": rng.standard_normal((n, c, h, w)),
        "scales": rng.uniform(0.5, 1.5, c),
        "biases": rng.standard_normal(c),
        "mean": mean + deviation * rng.standard_normal(c) / 10,
        "variance": deviation**2 * rng.uniform(0.5, 1.5, c),
    }
    return {name: array.astype(np.float32) for name, array in found.items()}
