"""Image files: bytes of a JPEG, PNG, BMP or PPM file to pixels.  Pillow decodes; limits are checked before it
does.

As in Darknet: 16-bit images keep their upper bytes, an alpha channel is dropped, palettes are looked up, the
EXIF orientation is not applied.  CMYK, which Darknet's decoder refuses, becomes RGB.
"""

from __future__ import annotations

import contextlib
import struct
import zlib

import numpy as np
from PIL import Image

from .._types import Path, Pixels
from ..errors import DataError
from ..files import open_regular

FORMATS = ("JPEG", "PNG", "BMP", "PPM")
MAX_SIDE = 1 << 20  # DN_IMAGE_SIDE
MAX_PIXELS = 1 << 26  # 8192 x 8192: 200 MB as RGB bytes
_GREY_MODES = ("1", "L", "LA", "La", "I", "I;16", "I;16B", "I;16L", "I;16N")
# What Pillow's decoders raise on damaged files, beside OSError.
_DECODER_ERRORS = (
    SyntaxError,
    ValueError,
    IndexError,
    KeyError,
    TypeError,
    OverflowError,
    EOFError,
    struct.error,
    zlib.error,
)


@contextlib.contextmanager
def _opened(path):
    """Open an image file; only its header is parsed. Whatever is wrong, also later while it is open, is a
    DataError.
    """
    try:
        with open_regular(path) as file:
            image = Image.open(file, formats=FORMATS)
            w, h = image.size
            if w < 1 or h < 1 or max(w, h) > MAX_SIDE or w * h > MAX_PIXELS:
                raise DataError(f"has {w}x{h} pixels; at most {MAX_PIXELS} are allowed")
            if image.mode == "F":
                raise DataError("has floating-point pixels; 8 or 16 bits are supported")
            yield image
    except DataError:
        raise
    except Image.UnidentifiedImageError as error:
        raise DataError(
            f"is no {', '.join(FORMATS[:-1])} or {FORMATS[-1]} image, or its header is damaged"
        ) from error
    except Image.DecompressionBombError as error:
        raise DataError(f"has too many pixels; at most {MAX_PIXELS} are allowed") from error
    except OSError as error:
        raise DataError(
            f"cannot be read: {error.strerror}" if error.strerror else f"is damaged: {error}"
        ) from error
    except _DECODER_ERRORS as error:
        raise DataError(f"is damaged: {error}") from error


def image_size(path: Path) -> tuple[int, int]:
    """Return (w, h) of an image file from its header.

    Raises
    ------
    DataError
        Why the file is no image that can be used; the message lacks the path, which the caller knows with its
        line.
    """
    with _opened(path) as image:
        return image.size


def decode_image(path: Path) -> Pixels:
    """Decode an image file.

    Returns
    -------
    ndarray of uint8, (h, w, 1) for grey images and (h, w, 3), RGB, for all others

    Raises
    ------
    DataError
        As image_size; also a truncated or damaged file.
    """
    with _opened(path) as image:
        return image_pixels(image)


def image_pixels(image: Image.Image) -> Pixels:
    """Return the pixels of a Pillow image: uint8, (h, w, 1) or (h, w, 3)."""
    if image.mode in _GREY_MODES:
        if image.mode.startswith("I"):  # 16 bits; "I" is how older versions of Pillow hold them
            return (np.asarray(image).astype(np.int64) >> 8).clip(0, 255).astype(np.uint8)[:, :, None]
        return np.asarray(image.convert("L"))[:, :, None]
    return np.asarray(image if image.mode == "RGB" else image.convert("RGB"))
