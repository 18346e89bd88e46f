"""Constructors of layers that read earlier ones: [route], [shortcut], [scale_channels], [sam]."""
from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from darknetpy.arguments import require_integers, require_number
from darknetpy.errors import ArgumentError
from darknetpy.layer import Layer, shape_text
from darknetpy.layers.making import make


def make_route_layer(batch: int, n: int, input_layers: Sequence[int], input_sizes: Sequence[int], *,
                     groups: int = 1, group_id: int = 0) -> Layer:
    """The outputs of earlier layers one after another; shaped and allocated when it is added to a network.

    Parameters
    ----------
    batch, n : int
        Rows of a pass; number of layers.
    input_layers : sequence of int
        Their places in the network.
    input_sizes : sequence of int
        Their outputs per row; checked when the layer is added.
    groups, group_id : int
        Take part `group_id` of `groups` of each (AlexeyAB).
    """
    require_integers(batch=batch, n=n, groups=groups, group_id=group_id)
    input_layers, input_sizes = list(np.atleast_1d(input_layers)), list(np.atleast_1d(input_sizes))
    if len(input_layers) != n or len(input_sizes) != n:
        raise ArgumentError(f"n={n}: got {len(input_layers)} layers and {len(input_sizes)} sizes")
    for index, size in zip(input_layers, input_sizes):
        require_integers(input_layers=index, input_sizes=size)
    values = {"layers": [int(index) for index in input_layers], "groups": groups, "group_id": group_id}
    layer = make("route", batch, 0, 0, 0, values, build=False)
    layer.links = batch, [(int(index), str(size)) for index, size in zip(input_layers, input_sizes)]
    return layer


def make_shortcut_layer(batch: int, index: int, w: int, h: int, c: int, w2: int, h2: int, c2: int, *,
                        activation: str = "linear", alpha: float = 1., beta: float = 1.,
                        weights_type: str = "none", weights_normalization: str = "none") -> Layer:
    """Add the output (w2, h2, c2) of layer `index` to the input (w, h, c); shaped and allocated when added to a network.

    Parameters
    ----------
    batch, index : int
        Rows of a pass; place of the other layer in the network.
    w, h, c, w2, h2, c2 : int
        Shapes of the input and of the other layer's output; checked when the layer is added.
    activation : str
    alpha, beta : float
        Factors of the input and of the other layer's output (pjreddie).
    weights_type : {"none", "per_feature", "per_channel"}
        Learned weights instead of the factors (AlexeyAB): one per summed layer, or one per layer and channel.
    weights_normalization : {"none", "relu", "softmax"}
        What makes those of one sum add up to 1.

    Returns
    -------
    Layer
        With weights_type, weights (2, 1 or c), those of the input first.
    """
    require_integers(batch=batch, index=index, w=w, h=h, c=c, w2=w2, h2=h2, c2=c2)
    values = {"from": [index], "activation": activation, "alpha": require_number("alpha", alpha), "beta": require_number("beta", beta)}
    if weights_type != "none":
        values.update(weights_type=weights_type, weights_normalization=weights_normalization)
    weighted = {"prefix": 1} if weights_type != "none" else None       # AlexeyAB's rule
    layer = make("shortcut", batch, h, w, c, values, weighted, build=False)
    layer.links = batch, [(index, shape_text(c2, h2, w2, c2)), (None, shape_text(c, h, w, c))]
    return layer


def make_scale_channels_layer(batch: int, index: int, w: int, h: int, c: int, w2: int, h2: int, c2: int,
                              scale_wh: int = 0, *, activation: str = "linear") -> Layer:
    """The output (w2, h2, c2) of layer `index` times the input; shaped and allocated when added to a network.

    Parameters
    ----------
    batch, index : int
        Rows of a pass; place of the other layer in the network.
    w, h, c, w2, h2, c2 : int
        Shapes of the input and of the other layer's output; checked when the layer is added.
    scale_wh : bool
        False: the input is (1, 1, c2), a factor per channel.  True: it is (w2, h2, 1), a factor per pixel.
    activation : str

    References
    ----------
    J. Hu et al., "Squeeze-and-excitation networks", arXiv:1709.01507.
    """
    values = {"from": [index], "scale_wh": int(bool(scale_wh)), "activation": activation}
    return _make_product("scale_channels", batch, index, (w, h, c), (w2, h2, c2), values)


def make_sam_layer(batch: int, index: int, w: int, h: int, c: int, w2: int, h2: int, c2: int, *,
                   activation: str = "linear") -> Layer:
    """The output of layer `index` times the input, element by element; both have one shape.

    Parameters
    ----------
    batch, index, w, h, c, w2, h2, c2, activation
        As in :func:`make_scale_channels_layer`.

    References
    ----------
    A. Bochkovskiy et al., "YOLOv4", arXiv:2004.10934, the modified spatial attention module.
    """
    values = {"from": [index], "activation": activation}
    return _make_product("sam", batch, index, (w, h, c), (w2, h2, c2), values)


def _make_product(kind, batch, index, shape, other, values):
    (w, h, c), (w2, h2, c2) = shape, other
    require_integers(batch=batch, index=index, w=w, h=h, c=c, w2=w2, h2=h2, c2=c2)
    layer = make(kind, batch, h, w, c, values, build=False)
    layer.links = batch, [(index, shape_text(c2, h2, w2, c2)), (None, shape_text(c, h, w, c))]
    return layer
