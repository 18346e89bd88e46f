"""Constructors of pooling layers: [maxpool], [local_avgpool], [avgpool]."""
from __future__ import annotations

from typing import Optional

from darknetpy.arguments import require_integers
from darknetpy.layer import Layer
from darknetpy.layers.making import make


def make_maxpool_layer(batch: int, h: int, w: int, c: int, size: int, stride: int,
                       padding: Optional[int] = None, *, stride_x: Optional[int] = None,
                       stride_y: Optional[int] = None, maxpool_depth: int = 0, out_channels: int = 1,
                       antialiasing: int = 0) -> Layer:
    """The largest value of each window of `size` x `size`, every `stride` pixels.

    Parameters
    ----------
    batch, h, w, c, size, stride : int
    padding : int, optional
        Pixels around the image, both sides together; windows count only what lies inside.  None: size - 1, as in a .cfg.
    stride_x, stride_y : int, optional
        Steps of each direction (AlexeyAB); None: `stride`.
    maxpool_depth : bool
        The largest value over channels instead (AlexeyAB): channel g's is that of g, g + out_channels, ...
    out_channels : int
        Channels that `maxpool_depth` leaves.
    antialiasing : {0, 1, 2}
        1, 2: pooling with stride 1, then a blur of 3x3 or 2x2 with the stride (AlexeyAB).

    Returns
    -------
    Layer
        output (batch, c, out_h, out_w) with out = (in + padding - size) // stride + 1; indexes, int32, the place of each maximum
        in the whole input.
    """
    require_integers(out_channels=out_channels, antialiasing=antialiasing)
    more = {"maxpool_depth": int(bool(maxpool_depth)), "out_channels": out_channels,
            "antialiasing": antialiasing}
    return _make_pool("maxpool", batch, h, w, c, size, stride, padding, stride_x, stride_y, more)


def make_local_avgpool_layer(batch: int, h: int, w: int, c: int, size: int, stride: int,
                             padding: Optional[int] = None, *, stride_x: Optional[int] = None,
                             stride_y: Optional[int] = None) -> Layer:
    """The mean of each window, over those of its values that lie in the image; arguments as in :func:`make_maxpool_layer`."""
    return _make_pool("local_avgpool", batch, h, w, c, size, stride, padding, stride_x, stride_y)


def _make_pool(kind, batch, h, w, c, size, stride, padding, stride_x, stride_y, more=None):
    padding = size - 1 if padding is None else padding
    require_integers(batch=batch, h=h, w=w, c=c, size=size, stride=stride, padding=padding)
    values = {"size": size, "stride": stride, "stride_x": stride if stride_x is None else stride_x,
              "stride_y": stride if stride_y is None else stride_y, "padding": padding, **(more or {})}
    return make(kind, batch, h, w, c, values)


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
    return make("avgpool", batch, h, w, c, {})
