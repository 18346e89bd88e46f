"""Constructors of layers with weights: [convolutional], [deconvolutional], [local], [connected]."""
from __future__ import annotations

from typing import Any, Optional

from darknetpy.arguments import require_integers
from darknetpy.builder import core_value
from darknetpy.errors import ArgumentError
from darknetpy.layer import Layer, shape_text
from darknetpy.layers.making import make


def _normalization(batch_normalize, normalize, norm_groups, after):
    """The four options of what normalizes a layer's sums, as a .cfg has them."""
    kind = ("batch" if batch_normalize else "none") if normalize is None else normalize
    core_value("normalize", kind)
    if batch_normalize and kind != "batch":
        raise ArgumentError(f"normalize={kind!r} contradicts batch_normalize={batch_normalize!r}")
    if norm_groups is not None:
        require_integers(norm_groups=norm_groups)
        if norm_groups < 1 or kind != "group":
            raise ArgumentError(f"norm_groups={norm_groups}: wanted a positive number, with normalize='group'")
    if after and kind == "none":
        raise ArgumentError("normalize_after_activation: there is no normalization")
    return {"batch_normalize": int(kind == "batch"), "normalize": kind, "norm_groups": norm_groups,
            "normalize_after_activation": int(bool(after))}


def make_convolutional_layer(batch: int, h: int, w: int, c: int, n: int, groups: int = 1, size: int = 1,
                             stride: int = 1, padding: int = 0, activation: str = "logistic",
                             batch_normalize: int = 0, binary: int = 0, xnor: int = 0, adam: int = 0, *,
                             stride_x: Optional[int] = None, stride_y: Optional[int] = None,
                             dilation: int = 1, normalize: Optional[str] = None,
                             norm_groups: Optional[int] = None,
                             normalize_after_activation: int = 0, antialiasing: int = 0,
                             coordconv: int = 0, assisted_excitation: int = 0, share_index: Optional[int] = None,
                             grad_centr: int = 0, convolution: str = "auto") -> Layer:
    """Convolution with `n` filters of `size` x `size`, then a normalization or a bias, then the activation.

    Parameters
    ----------
    batch, h, w, c : int
        Rows of a pass; height, width and channels of the input.
    n : int
        Filters, which are the output's channels.
    groups : int
        Groups of channels that are convolved apart; divides `c` and `n`.
    size, stride, padding : int
        Side of the filters, step, and zeros around the image, in pixels.
    activation : str
        Name, such as ``"leaky"``.
    batch_normalize : bool
    binary : bool
        Without effect, as in Darknet's CPU code.
    xnor : bool
        Take sums over the signs of weights and input, times each filter's mean |weight|.
    adam : bool
        Keep Adam's moments.
    stride_x, stride_y : int, optional
        Steps of each direction (AlexeyAB); None: `stride`.
    dilation : int
        Distance of the taps; the padding grows with it and the output keeps the size it has without (AlexeyAB).
    normalize : {"none", "batch", "group", "layer", "instance"}, optional
        None: batch if `batch_normalize`, else none.
    norm_groups : int, optional
        Groups of ``normalize="group"``; None: the largest divisor of `n` up to 32 that leaves a group
        more than one value.
    normalize_after_activation : bool
        Normalize what the activation makes of sums and inner biases, not the sums.
    antialiasing : {0, 1, 2}
        1, 2: convolve with stride 1, then blur by 3x3 or 2x2 with the stride (AlexeyAB).
    coordconv : bool
        The first three channels of the output become coordinates (AlexeyAB).
    assisted_excitation : int
        Updates of training in which what lies in boxes of the truth is amplified; 1: the network's max_batches (AlexeyAB).
    share_index : int, optional
        Place in the network of an earlier convolution whose parameters and statistics are this one's too
        (AlexeyAB); the layer is then allocated when it is added to a network.
    grad_centr : bool
        Subtract the mean from each filter's gradient before an update (AlexeyAB).
    convolution : {"auto", "gemm", "winograd4", "winograd6"}
        The algorithm, as ``[net] convolution=``.

    Returns
    -------
    Layer
        weights (n, c/groups, size, size), biases (n,); with a normalization scales (n,), after the activation also
        inner_biases (n,); rolling_mean, rolling_variance (n,) of batch normalization; mean and variance (n,), or (batch, groups)
        of the others; output (batch, n, out_h, out_w) with out = (in + 2 padding - size) // stride + 1.

    Raises
    ------
    ArgumentError
        A size is out of range; the message names it.
    """
    require_integers(batch=batch, h=h, w=w, c=c, n=n, groups=groups, size=size, stride=stride, padding=padding,
                     dilation=dilation, antialiasing=antialiasing, assisted_excitation=assisted_excitation)
    values: dict[str, Any] = {
        "filters": n, "groups": groups, "size": size, "stride": stride, "dilation": dilation, "padding": padding,
        "stride_x": stride if stride_x is None else stride_x, "stride_y": stride if stride_y is None else stride_y,
        "activation": activation, "antialiasing": antialiasing, "coordconv": int(bool(coordconv)),
        "binary": bool(binary), "xnor": bool(xnor), "grad_centr": bool(grad_centr),
        "assisted_excitation": assisted_excitation,
        **_normalization(batch_normalize, normalize, norm_groups, normalize_after_activation)}
    for key in ("stride_x", "stride_y", "dilation"):
        if values[key] < 1:
            raise ArgumentError(f"{key}={values[key]}: wanted at least 1")
    options = {"adam": bool(adam), "convolution": core_value("convolution", convolution)}
    if share_index is None:
        return make("convolutional", batch, h, w, c, values, options)
    require_integers(share_index=share_index)
    options["share_index"] = [share_index]
    layer = make("convolutional", batch, h, w, c, values, options, build=False)
    layer.cfg_values["share_index"] = share_index
    layer.links = batch, [(None, shape_text(c, h, w, c))]
    return layer


def make_connected_layer(batch: int, inputs: int, outputs: int, activation: str = "logistic",
                         batch_normalize: int = 0, adam: int = 0, *, normalize: Optional[str] = None,
                         norm_groups: Optional[int] = None, normalize_after_activation: int = 0) -> Layer:
    """Every output a weighted sum of all inputs, then a normalization or a bias, then the activation.

    Parameters
    ----------
    batch, inputs, outputs : int
    activation : str
    batch_normalize, adam : bool
    normalize, norm_groups, normalize_after_activation
        As in :func:`make_convolutional_layer`; a channel is one output.

    Returns
    -------
    Layer
        weights (outputs, inputs), biases (outputs,), and what a normalization brings; output (batch, outputs, 1, 1).
    """
    require_integers(batch=batch, inputs=inputs, outputs=outputs)
    values = {"output": outputs, "activation": activation,
              **_normalization(batch_normalize, normalize, norm_groups, normalize_after_activation)}
    return make("connected", batch, 0, 0, inputs, values, {"adam": bool(adam)})


def make_deconvolutional_layer(batch: int, h: int, w: int, c: int, n: int, size: int = 1, stride: int = 1,
                               padding: int = 0, activation: str = "logistic", batch_normalize: int = 0,
                               adam: int = 0, *, normalize: Optional[str] = None,
                               norm_groups: Optional[int] = None,
                               normalize_after_activation: int = 0) -> Layer:
    """The transpose of a convolution: every input value spreads `n` filters of `size` x `size`.

    Parameters
    ----------
    batch, h, w, c, n, size, stride : int
    padding : int
        Pixels cut off the output, each side.
    activation : str
    batch_normalize, adam : bool
    normalize, norm_groups, normalize_after_activation
        As in :func:`make_convolutional_layer`.

    Returns
    -------
    Layer
        weights (c, n, size, size), biases (n,), and what a normalization brings; output (batch, n, out_h, out_w)
        with out = (in - 1) * stride + size - 2 padding.
    """
    require_integers(batch=batch, h=h, w=w, c=c, n=n, size=size, stride=stride, padding=padding)
    values = {"filters": n, "size": size, "stride": stride, "padding": padding, "activation": activation,
              **_normalization(batch_normalize, normalize, norm_groups, normalize_after_activation)}
    return make("deconvolutional", batch, h, w, c, values, {"adam": bool(adam)})


def make_local_layer(batch: int, h: int, w: int, c: int, n: int, size: int = 1, stride: int = 1, pad: int = 0,
                     activation: str = "logistic") -> Layer:
    """A convolution whose filters and biases differ from place to place, then the activation.

    Parameters
    ----------
    batch, h, w, c, n, size, stride : int
    pad : int
        Zeros around the image, in pixels: 0, or so many that every pixel is the middle of a window.
    activation : str

    Returns
    -------
    Layer
        weights (out_h * out_w, n, c, size, size), biases (outputs,); output (batch, n, out_h, out_w).
    """
    require_integers(batch=batch, h=h, w=w, c=c, n=n, size=size, stride=stride, pad=pad)
    return make("local", batch, h, w, c, {"filters": n, "size": size, "stride": stride, "pad": pad,
                                          "activation": activation})
