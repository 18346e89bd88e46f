"""The moving statistics of batch normalization, which inference normalizes by, recomputed over a data set."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np

from darknetpy._types import Floats
from darknetpy.errors import ArgumentError, DarknetError

if TYPE_CHECKING:
    from darknetpy.layer import Layer
    from darknetpy.network import Network


def batch_normalized(net: Network) -> list[Layer]:
    """Return the layers that keep moving statistics."""
    return [
        part
        for layer in net.layers
        for part in (layer, *layer.parts.values())
        if "statistics_count" in part.arrays("counter")
    ]


def refuse_single_values(net: Network) -> None:
    """Refuse a network that cannot train: a mini-batch gives a batch-normalized channel a single value.

    Raises
    ------
    CfgError, ArgumentError
        Naming the layer.
    """
    for layer in batch_normalized(net):
        if layer.batch * layer.out_h * layer.out_w > 1 or layer.statistics == "frozen":
            continue
        message = (
            "batch normalization cannot train on one value per channel (mini-batch 1, 1x1 map): its variance would be "
            "zero and every output the bias; wanted a larger mini-batch, or statistics=frozen"
        )
        raise (
            layer.spec.error(message)
            if hasattr(layer, "spec")
            else ArgumentError(f"layer {layer.index} [{layer.type}] {message}")
        )


def recompute_statistics(net: Network, batches: Iterable[Floats]) -> int:
    """Replace the moving statistics by the plain average over mini-batches of the network as it is.

    Every batch-normalized layer normalizes with the mini-batch's own mean and variance, as in training, and
    averages them, the variance unbiased; dropout and random crops are off, parameters stay.

    Parameters
    ----------
    net : Network
    batches : iterable of ndarray
        Mini-batches of ``net.batch`` rows; they must be of mixed classes, as in training.

    Returns
    -------
    int
        How many there were.

    Raises
    ------
    ArgumentError
        The network has no batch normalization, there is no mini-batch, or one gives a channel a single value.
    DarknetError
        A statistic is not finite.

    Notes
    -----
    On any error the statistics are what they were.

    References
    ----------
    S. Ioffe and C. Szegedy, arXiv:1502.03167, Algorithm 2, lines 8 to 10.
    """
    layers = batch_normalized(net)
    if not layers:
        raise ArgumentError("the network has no batch normalization: there are no statistics to recompute")
    arrays = [array for layer in layers for array in layer.arrays("statistic", "counter").values()]
    before = [array.copy() for array in arrays]
    try:
        count = _average(net, layers, batches)
        _refuse_nonfinite(layers)
    except BaseException:
        for array, values in zip(arrays, before):
            array[...] = values
        raise
    return count


def _average(net, layers, batches):
    """Pass the mini-batches forward while the core averages their statistics; return how many there were."""
    state, count = (net.train, net.input, net.truth), 0
    for layer in layers:
        layer.statistics_count[:] = 0
    net._set_options({"recompute": 1})
    try:
        for x in batches:
            net.forward(x, train=False)
            count += 1
    finally:
        net._set_options({"recompute": 0})
        net.train, net.input, net.truth = state
    if not count:
        raise ArgumentError(f"wanted at least one mini-batch of {net.batch} rows, got none")
    return count


def _refuse_nonfinite(layers):
    for layer in layers:
        if not all(np.isfinite(array).all() for array in layer.arrays("statistic").values()):
            raise DarknetError(
                f"layer {layer.index} [{layer.type}]: its statistics are not finite: nothing was changed"
            )
