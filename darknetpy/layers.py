"""One documented constructor per layer type, by Darknet's names.

Constructors take pjreddie's arguments in his order, by position or by name; what AlexeyAB added is by name only.  They allocate
everything, gradients included.  What runs them: :mod:`darknetpy.passes`.
"""
from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Optional

import numpy as np

from darknetpy.arguments import require_integers, require_number
from darknetpy.builder import core_value, dialect_options
from darknetpy.errors import ArgumentError
from darknetpy.layer import Layer, shape_text


def _make(kind, batch, h, w, c, cfg_values, options=None, dialect="pjreddie", build=True):
    """Make a layer: `cfg_values` are its options as a .cfg has them, `options` what only the core knows."""
    layer = Layer(kind)
    layer.cfg_values = cfg_values
    translated = {key: core_value(key, value) for key, value in cfg_values.items()
                  if value is not None and key != "batch_normalize"}    # which is normalize=batch
    layer._set_options({**translated, **dialect_options(kind, dialect, "paper"), **(options or {})})
    return layer._build(batch, h, w, c) if build else layer


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
                             normalize_after_activation: int = 0) -> Layer:
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
    binary, xnor : 0
        Not built yet.
    adam : bool
        Keep Adam's moments.
    stride_x, stride_y : int, optional
        Steps of each direction (AlexeyAB); None: `stride`.
    dilation : int
        Distance of the taps; the padding grows with it and the output keeps the size it has without (AlexeyAB).
    normalize : {"none", "batch", "group", "layer", "instance"}, optional
        None: batch if `batch_normalize`, else none.
    norm_groups : int, optional
        Groups of ``normalize="group"``; None: the largest divisor of `n` up to 32.
    normalize_after_activation : bool
        Normalize what the activation makes of sums and inner biases, not the sums.

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
    require_integers(batch=batch, h=h, w=w, c=c, n=n, groups=groups, size=size, stride=stride, padding=padding, dilation=dilation)
    if binary or xnor:
        raise ArgumentError("binary and xnor convolutions are not built yet")
    values: dict[str, Any] = {
        "filters": n, "groups": groups, "size": size, "stride": stride, "dilation": dilation, "padding": padding,
        "stride_x": stride if stride_x is None else stride_x, "stride_y": stride if stride_y is None else stride_y,
        "activation": activation,
        **_normalization(batch_normalize, normalize, norm_groups, normalize_after_activation)}
    for key in ("stride_x", "stride_y", "dilation"):
        if values[key] < 1:
            raise ArgumentError(f"{key}={values[key]}: wanted at least 1")
    return _make("convolutional", batch, h, w, c, values, {"adam": bool(adam)})


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
    return _make("connected", batch, 0, 0, inputs, values, {"adam": bool(adam)})


def make_batchnorm_layer(batch: int, w: int, h: int, c: int) -> Layer:
    """Batch normalization: every channel gets zero mean and unit variance over the mini-batch, then a scale and a bias.

    Parameters
    ----------
    batch, w, h, c : int
        Rows of a pass; width, height and channels of input and output.

    Returns
    -------
    Layer
        scales (gamma), biases (beta), scale_updates, bias_updates, mean, variance, mean_delta, variance_delta, rolling_mean,
        rolling_variance, all (c,); x and x_norm (batch, c, h, w), the input and its normalized values.

    References
    ----------
    S. Ioffe and C. Szegedy, "Batch Normalization", arXiv:1502.03167, Algorithms 1 and 2.  Darknet: ``make_batchnorm_layer``.

    Examples
    --------
    >>> import numpy as np, darknetpy as dn
    >>> l = dn.make_batchnorm_layer(batch=8, w=5, h=4, c=3)
    >>> net = dn.Network(train=True)
    >>> net.input = np.random.default_rng(0).standard_normal((8, 3, 4, 5), np.float32)
    >>> dn.forward_batchnorm_layer(l, net)
    >>> bool(np.allclose(l.output.mean(axis=(0, 2, 3)), 0, atol=1e-6))
    True
    """
    require_integers(batch=batch, w=w, h=h, c=c)
    return _make("batchnorm", batch, h, w, c, {})


def make_groupnorm_layer(batch: int, w: int, h: int, c: int, groups: Optional[int] = None) -> Layer:
    """Group normalization: every group of channels of every sample gets zero mean and unit variance, then every channel a scale
    and a bias; in training and inference alike.

    Parameters
    ----------
    batch, w, h, c : int
        Rows of a pass; width, height and channels of input and output.
    groups : int, optional
        Divides `c`; None: its largest divisor up to 32 that leaves a group more than one value.  `c` groups are instance
        normalization.

    Returns
    -------
    Layer
        scales (gamma), biases (beta), scale_updates, bias_updates (c,); mean, variance (batch, groups); x and x_norm
        (batch, c, h, w), the input and its normalized values.

    Raises
    ------
    ArgumentError
        `groups` does not divide `c`, or a group would be a single value.

    References
    ----------
    Y. Wu and K. He, "Group Normalization", arXiv:1803.08494.

    Examples
    --------
    >>> import numpy as np, darknetpy as dn
    >>> l = dn.make_groupnorm_layer(batch=2, w=5, h=4, c=6, groups=3)
    >>> net = dn.Network(train=True)
    >>> net.input = np.random.default_rng(0).standard_normal((2, 6, 4, 5), np.float32)
    >>> dn.forward_groupnorm_layer(l, net)
    >>> bool(np.allclose(l.output.reshape(2, 3, -1).mean(axis=2), 0, atol=1e-6))
    True
    """
    require_integers(batch=batch, w=w, h=h, c=c)
    if groups is not None:
        require_integers(groups=groups)
        if groups < 1:
            raise ArgumentError(f"groups={groups}: wanted a divisor of the {c} channels")
    return _make("groupnorm", batch, h, w, c, {"groups": groups})


def make_layernorm_layer(batch: int, w: int, h: int, c: int) -> Layer:
    """Layer normalization: all values of every sample together get zero mean and unit variance, then every channel a scale and a
    bias; group normalization with one group.

    Parameters
    ----------
    batch, w, h, c : int

    Returns
    -------
    Layer
        As :func:`make_groupnorm_layer`; mean, variance (batch, 1).

    References
    ----------
    J. L. Ba, J. R. Kiros and G. E. Hinton, "Layer Normalization", arXiv:1607.06450.
    """
    require_integers(batch=batch, w=w, h=h, c=c)
    return _make("layernorm", batch, h, w, c, {})


def make_maxpool_layer(batch: int, h: int, w: int, c: int, size: int, stride: int,
                       padding: Optional[int] = None, *, stride_x: Optional[int] = None,
                       stride_y: Optional[int] = None) -> Layer:
    """The largest value of each window of `size` x `size`, every `stride` pixels.

    Parameters
    ----------
    batch, h, w, c, size, stride : int
    padding : int, optional
        Pixels around the image, both sides together; windows count only what lies inside.  None: size - 1, as in a .cfg.
    stride_x, stride_y : int, optional
        Steps of each direction (AlexeyAB); None: `stride`.

    Returns
    -------
    Layer
        output (batch, c, out_h, out_w) with out = (in + padding - size) // stride + 1; indexes, int32, the place of each maximum
        in the whole input.
    """
    return _make_pool("maxpool", batch, h, w, c, size, stride, padding, stride_x, stride_y)


def make_local_avgpool_layer(batch: int, h: int, w: int, c: int, size: int, stride: int,
                             padding: Optional[int] = None, *, stride_x: Optional[int] = None,
                             stride_y: Optional[int] = None) -> Layer:
    """The mean of each window, over those of its values that lie in the image; arguments as in :func:`make_maxpool_layer`."""
    return _make_pool("local_avgpool", batch, h, w, c, size, stride, padding, stride_x, stride_y)


def _make_pool(kind, batch, h, w, c, size, stride, padding, stride_x, stride_y):
    padding = size - 1 if padding is None else padding
    require_integers(batch=batch, h=h, w=w, c=c, size=size, stride=stride, padding=padding)
    values = {"size": size, "stride": stride, "stride_x": stride if stride_x is None else stride_x,
              "stride_y": stride if stride_y is None else stride_y, "padding": padding}
    return _make(kind, batch, h, w, c, values)


def make_avgpool_layer(batch: int, w: int, h: int, c: int) -> Layer:
    """The mean of each channel over the whole image.

    Parameters
    ----------
    batch, w, h, c : int

    Returns
    -------
    Layer
        output (batch, c, 1, 1).
    """
    require_integers(batch=batch, w=w, h=h, c=c)
    return _make("avgpool", batch, h, w, c, {})


def make_dropout_layer(batch: int, inputs: int, probability: float = .5, *, w: int = 0, h: int = 0,
                       c: int = 0) -> Layer:
    """In training drop each value with `probability` and scale the others by 1 / (1 - probability); in inference do nothing.

    Parameters
    ----------
    batch, inputs : int
    probability : float
        In [0, 1).
    w, h, c : int
        Shape of the input, where it is an image.

    References
    ----------
    N. Srivastava et al., "Dropout", JMLR 15, 2014.
    """
    require_integers(batch=batch, inputs=inputs)
    return _make("dropout", batch, *_image(inputs, w, h, c), {"probability": require_number("probability", probability)})


def make_activation_layer(batch: int, inputs: int, activation: str = "linear", *, w: int = 0, h: int = 0,
                          c: int = 0) -> Layer:
    """One function of every value.

    Parameters
    ----------
    batch, inputs : int
    activation : str
        Name, such as ``"leaky"``.
    w, h, c : int
        As in :func:`make_dropout_layer`.
    """
    require_integers(batch=batch, inputs=inputs)
    return _make("activation", batch, *_image(inputs, w, h, c), {"activation": activation})


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
    return _make("softmax", batch, 0, 0, inputs, values)


def make_logistic_layer(batch: int, inputs: int) -> Layer:
    """1 / (1 + exp(-x)); with a truth the binary cross-entropy, whose delta is t - output.

    Parameters
    ----------
    batch, inputs : int
    """
    require_integers(batch=batch, inputs=inputs)
    return _make("logistic", batch, 0, 0, inputs, {})


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
    return _make("cost", batch, 0, 0, inputs,
                 {"type": cost_type, "scale": require_number("scale", scale), "noobj": require_number("noobj", noobj)})


def make_crop_layer(batch: int, h: int, w: int, c: int, crop_height: int, crop_width: int, flip: int = 0,
                    angle: float = 0., saturation: float = 1., exposure: float = 1., *,
                    noadjust: int = 0) -> Layer:
    """A part of the image: at a random place, mirrored at random, in training; the middle in inference.

    Parameters
    ----------
    batch, h, w, c, crop_height, crop_width : int
    flip : bool
        In training mirror half of the images.
    angle, saturation, exposure : 0, 1, 1
        They act in Darknet on a GPU only.
    noadjust : bool
        Keep the values x; otherwise they become 2 x - 1.
    """
    require_integers(batch=batch, h=h, w=w, c=c, crop_height=crop_height, crop_width=crop_width)
    if (angle, saturation, exposure) != (0, 1, 1):
        raise ArgumentError(f"angle={angle} saturation={saturation} exposure={exposure}: wanted 0, 1, 1 (they act on a GPU only)")
    values = {"crop_height": crop_height, "crop_width": crop_width, "flip": int(flip), "noadjust": int(noadjust)}
    return _make("crop", batch, h, w, c, values)


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
    layer = _make("route", batch, 0, 0, 0, values, build=False)
    layer.links = batch, [(int(index), str(size)) for index, size in zip(input_layers, input_sizes)]
    return layer


def make_shortcut_layer(batch: int, index: int, w: int, h: int, c: int, w2: int, h2: int, c2: int, *,
                        activation: str = "linear", alpha: float = 1., beta: float = 1.) -> Layer:
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
    """
    require_integers(batch=batch, index=index, w=w, h=h, c=c, w2=w2, h2=h2, c2=c2)
    values = {"from": [index], "activation": activation, "alpha": require_number("alpha", alpha), "beta": require_number("beta", beta)}
    layer = _make("shortcut", batch, h, w, c, values, build=False)
    layer.links = batch, [(index, shape_text(c2, h2, w2, c2)), (None, shape_text(c, h, w, c))]
    return layer


def make_upsample_layer(batch: int, w: int, h: int, c: int, stride: int = 2, *, scale: float = 1.) -> Layer:
    """Every value fills a square of `stride` x `stride`, times `scale`; a negative stride sums squares up instead.

    Parameters
    ----------
    batch, w, h, c, stride : int
    scale : float
    """
    require_integers(batch=batch, w=w, h=h, c=c, stride=stride)
    return _make("upsample", batch, h, w, c, {"stride": stride, "scale": require_number("scale", scale)})


def _image(inputs, w, h, c):
    """(h, w, c) of an image, or (0, 0, inputs) without one."""
    if not (w or h or c):
        return 0, 0, inputs
    if w * h * c != inputs:
        raise ArgumentError(f"w={w} h={h} c={c}: wanted {inputs} values, got {w * h * c}")
    return h, w, c


if not TYPE_CHECKING:       # to a type checker every name above is public that begins without an underscore
    __all__ = [name for name in dir() if name.startswith("make_")]
