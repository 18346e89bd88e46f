"""Constructors of layers that work on values one by one or move them: [dropout], [activation], [crop], [upsample],
[reorg], [reorg3d], [empty]; and of [implicit], which makes them up."""
from __future__ import annotations

from darknetpy.arguments import require_integers, require_number
from darknetpy.errors import ArgumentError
from darknetpy.layer import Layer
from darknetpy.layers.making import image_shape, make


def make_dropout_layer(batch: int, inputs: int, probability: float = .5, *, w: int = 0, h: int = 0,
                       c: int = 0, dropblock: int = 0, dropblock_size_rel: float = 0.,
                       dropblock_size_abs: float = 0.) -> Layer:
    """In training drop each value with `probability` and scale the others by 1 / (1 - probability); in inference do nothing.

    Parameters
    ----------
    batch, inputs : int
    probability : float
        In [0, 1).
    w, h, c : int
        Shape of the input, where it is an image.
    dropblock : bool
        Drop square blocks of a map (AlexeyAB).  Probability and side grow over the first .85 max_batches updates.
    dropblock_size_rel, dropblock_size_abs : float
        Full side of a block, in map sides or in pixels; neither: 7 pixels.

    References
    ----------
    N. Srivastava et al., "Dropout", JMLR 15, 2014.  G. Ghiasi et al., "DropBlock", arXiv:1810.12890.
    """
    require_integers(batch=batch, inputs=inputs)
    values = {"probability": require_number("probability", probability)}
    if dropblock:
        values.update(dropblock=1,
                      dropblock_size_rel=require_number("dropblock_size_rel", dropblock_size_rel),
                      dropblock_size_abs=require_number("dropblock_size_abs", dropblock_size_abs))
    return make("dropout", batch, *image_shape(inputs, w, h, c), values)


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


def make_reorg_layer(batch: int, w: int, h: int, c: int, stride: int = 1, reverse: int = 0, flatten: int = 0,
                     extra: int = 0) -> Layer:
    """Move squares of `stride` x `stride` pixels into channels, in pjreddie's order; with `reverse` the other way round.

    Parameters
    ----------
    batch, w, h, c, stride : int
        `stride` divides w and h, and its square c.
    reverse : bool
    flatten : bool
        Instead put the channels last (with `reverse` first again).
    extra : int
        Instead append so many zeros to each row, which is then no image.
    """
    require_integers(batch=batch, w=w, h=h, c=c, stride=stride, extra=extra)
    return make("reorg", batch, h, w, c, {"stride": stride, "reverse": int(bool(reverse)),
                                          "flatten": int(bool(flatten)), "extra": extra})


def make_reorg3d_layer(batch: int, w: int, h: int, c: int, stride: int = 1, reverse: int = 0) -> Layer:
    """The pixels of each square of `stride` x `stride` become channels; with `reverse` the other way round.

    Parameters
    ----------
    batch, w, h, c, stride : int
    reverse : bool
    """
    require_integers(batch=batch, w=w, h=h, c=c, stride=stride)
    return make("reorg3d", batch, h, w, c, {"stride": stride, "reverse": int(bool(reverse))})


def make_empty_layer(batch: int, inputs: int, *, w: int = 0, h: int = 0, c: int = 0) -> Layer:
    """Hand the input on as it is.

    Parameters
    ----------
    batch, inputs : int
    w, h, c : int
        As in :func:`make_dropout_layer`.
    """
    require_integers(batch=batch, inputs=inputs)
    return make("empty", batch, *image_shape(inputs, w, h, c), {})


def make_implicit_layer(batch: int, index: int, mean_init: float = 0., std_init: float = .2,
                        filters: int = 128, atoms: int = 1) -> Layer:
    """A learned vector (filters, atoms), the same for every row; its input (by hand, one value per row) is not looked at.

    Parameters
    ----------
    batch, index : int
        Rows of a pass; Darknet's place of the layer, of no effect.
    mean_init, std_init : float
        The weights begin as mean_init + std_init * U(-1, 1).
    filters, atoms : int

    References
    ----------
    C.-Y. Wang et al., "You only learn one representation", arXiv:2105.04206.
    """
    require_integers(batch=batch, index=index, filters=filters, atoms=atoms)
    values = {"mean": require_number("mean_init", mean_init), "std": require_number("std_init", std_init),
              "filters": filters, "atoms": atoms}
    layer = make("implicit", batch, 0, 0, 1, values)
    layer.links = batch, []         # fits behind any layer
    return layer
