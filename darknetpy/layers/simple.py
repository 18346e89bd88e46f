"""Constructors of layers that work on values one by one or move them: [dropout], [activation], [crop], [upsample]."""
from __future__ import annotations

from darknetpy.arguments import require_integers, require_number
from darknetpy.errors import ArgumentError
from darknetpy.layer import Layer
from darknetpy.layers.making import image_shape, make


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
    return make("dropout", batch, *image_shape(inputs, w, h, c), {"probability": require_number("probability", probability)})


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
    return make("activation", batch, *image_shape(inputs, w, h, c), {"activation": activation})


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
    return make("crop", batch, h, w, c, values)


def make_upsample_layer(batch: int, w: int, h: int, c: int, stride: int = 2, *, scale: float = 1.) -> Layer:
    """Every value fills a square of `stride` x `stride`, times `scale`; a negative stride sums squares up instead.

    Parameters
    ----------
    batch, w, h, c, stride : int
    scale : float
    """
    require_integers(batch=batch, w=w, h=h, c=c, stride=stride)
    return make("upsample", batch, h, w, c, {"stride": stride, "scale": require_number("scale", scale)})
