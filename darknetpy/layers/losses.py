"""Constructors of layers that end a classifier: [softmax], [logistic], [cost]."""
from __future__ import annotations

from darknetpy.arguments import require_integers, require_number
from darknetpy.builder import core_value
from darknetpy.layer import Layer
from darknetpy.layers.making import make


def make_softmax_layer(batch: int, inputs: int, groups: int = 1, *, temperature: float = 1.,
                       noloss: int = 0) -> Layer:
    """exp(x / temperature), normalized to a sum of 1 in each of `groups` equal parts; with a truth the cross-entropy.

    Parameters
    ----------
    batch, inputs : int
    groups : int
        Equal parts of each row; divides `inputs`.
    temperature : float
        More than 0.
    noloss : bool
        Leave the truth aside.

    Returns
    -------
    Layer
        output, loss (batch, inputs); after a forward pass with a truth t, delta = (t - output) / temperature.
    """
    require_integers(batch=batch, inputs=inputs, groups=groups)
    values = {"groups": groups, "temperature": require_number("temperature", temperature), "noloss": int(noloss)}
    return make("softmax", batch, 0, 0, inputs, values)


def make_logistic_layer(batch: int, inputs: int) -> Layer:
    """1 / (1 + exp(-x)); with a truth the binary cross-entropy, whose delta is t - output.

    Parameters
    ----------
    batch, inputs : int
    """
    require_integers(batch=batch, inputs=inputs)
    return make("logistic", batch, 0, 0, inputs, {})


def make_cost_layer(batch: int, inputs: int, cost_type: str = "sse", scale: float = 1., *,
                    noobj: float = 1.) -> Layer:
    """The loss between input and truth, value by value.

    Parameters
    ----------
    batch, inputs : int
    cost_type : {"sse", "masked", "L1", "smooth", "seg", "wgan"}
    scale : float
        Factor of the delta that the layer before gets.
    noobj : float
        ``seg``: weight of values whose truth is 0.
    """
    require_integers(batch=batch, inputs=inputs)
    core_value("type", cost_type, "cost_type")
    return make("cost", batch, 0, 0, inputs,
                 {"type": cost_type, "scale": require_number("scale", scale), "noobj": require_number("noobj", noobj)})
