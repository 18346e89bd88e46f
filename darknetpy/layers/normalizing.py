"""Constructors of layers that normalize: [batchnorm], [groupnorm], [layernorm]."""
from __future__ import annotations

from typing import Optional

from darknetpy.arguments import require_integers, require_number
from darknetpy.errors import ArgumentError
from darknetpy.layer import Layer
from darknetpy.layers.making import image_shape, make


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
    return make("batchnorm", batch, h, w, c, {})


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
    return make("groupnorm", batch, h, w, c, {"groups": groups})


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
    return make("layernorm", batch, h, w, c, {})


def make_normalization_layer(batch: int, w: int, h: int, c: int, size: int = 5, alpha: float = .0001,
                             beta: float = .75, kappa: float = 1.) -> Layer:
    """Local response normalization: x / (kappa + alpha * sum of squares)^beta, over Darknet's windows of channels.

    Parameters
    ----------
    batch, w, h, c : int
    size : int
        Channels in the sum: from (size - 1) / 2 before to size / 2 behind.  Channel size / 2 counts one time
        less than it should, as in Darknet.
    alpha, beta, kappa : float

    References
    ----------
    A. Krizhevsky et al., "ImageNet classification with deep convolutional neural networks", 2012, 3.3.
    """
    require_integers(batch=batch, w=w, h=h, c=c, size=size)
    values = {"size": size, **{name: require_number(name, value) for name, value in
                               (("alpha", alpha), ("beta", beta), ("kappa", kappa))}}
    return make("normalization", batch, h, w, c, values)


def make_l2norm_layer(batch: int, inputs: int, *, w: int = 0, h: int = 0, c: int = 0) -> Layer:
    """Each pixel's channels divided by their length; without an image, each row.  Zeros stay zeros.

    Parameters
    ----------
    batch, inputs : int
    w, h, c : int
        Shape of the input, where it is an image.
    """
    require_integers(batch=batch, inputs=inputs)
    return make("l2norm", batch, *image_shape(inputs, w, h, c), {})
