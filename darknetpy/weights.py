"""Darknet's .weights files: a header, then the parameters and rolling statistics of each layer, float32, little-endian.

Which arrays a layer stores, and in which order, its array table says; see :meth:`darknetpy.layer.Layer.arrays`.
"""
from __future__ import annotations

import os
import struct
from typing import TYPE_CHECKING, Any, NamedTuple, Optional

import numpy as np

from darknetpy._types import Path
from darknetpy.dialects import dialect_value
from darknetpy.errors import ArgumentError, CfgError, WeightsError
from darknetpy.files import open_regular, write_atomically

if TYPE_CHECKING:
    from darknetpy.layer import Layer
    from darknetpy.network import Network

HEADER_BYTES = 20                   # of the files that are written today: three int32 and a uint64
_VALUE = np.dtype("<f4")
_NORMALIZATION = ("scales", "rolling_mean", "rolling_variance")
_WITH_SCALES = ("convolutional", "connected")       # the sections that dontloadscales concerns, as in Darknet


class Header(NamedTuple):
    """The head of a .weights file.

    Attributes
    ----------
    major, minor, revision : int
        Version of the format; revision 0 is pjreddie's, 5 AlexeyAB's and hank-ai's.  Before there were versions, three
        floats stood here (learning rate, momentum, decay), which read as very large integers.
    seen : int
        Images that the network was trained on.
    bytes : int
        Length of the header: 16 or 20.
    """

    major: int
    minor: int
    revision: int
    seen: int
    bytes: int

    @property
    def transposed(self) -> bool:
        """Whether the file is of the time when [connected] weights were stored (inputs, outputs)."""
        return self.major > 1000 or self.minor > 1000


class _Piece(NamedTuple):
    """One array in a file: the layer's array that it goes to, where it stands, and whether it stands there transposed."""

    layer: Any
    name: str
    array: np.ndarray
    offset: int
    transposed: bool

    @property
    def end(self):
        return self.offset + self.array.size * _VALUE.itemsize


# ---- the header
_FOREIGN = {
    b"\x89DNCKPT": "a checkpoint of darknetpy: load_checkpoint reads it",
    b"version https://git-lfs": "a Git LFS pointer, not the file it stands for",
    b"PK\x03\x04": "a zip archive", b"\x1f\x8b\x08": "a gzip file", b"\x89PNG": "a PNG image", b"\xff\xd8\xff": "a JPEG image",
    b"\x89HDF": "an HDF5 file", b"\x7fELF": "a program", b"GGUF": "a GGUF model",
}


def read_header(path: Path) -> Header:
    """Read the header of a .weights file.

    Parameters
    ----------
    path : str or path

    Returns
    -------
    Header

    Raises
    ------
    WeightsError
        The file has no header of a known version.
    OSError
        It cannot be read, or is not a regular file.
    """
    with open_regular(path) as file:
        return _read_header(file, os.fsdecode(path))


def _read_header(file, path):
    start = file.read(64)
    foreign = _foreign(start)
    if foreign:
        raise WeightsError(f"{path}: not a .weights file but {foreign}")
    if len(start) < 12:
        raise WeightsError(f"{path}: {len(start)} bytes, wanted a .weights header of 16 or {HEADER_BYTES}")
    major, minor, revision = struct.unpack_from("<iii", start)
    old = min(major, minor, revision) >= 0 and max(major, minor) > 1000
    if not old and (major != 0 or minor not in (1, 2) or not 0 <= revision <= 5):
        raise WeightsError(f"{path}: byte 0: unknown version {major}.{minor}.{revision} of .weights, wanted 0.1.0 to 0.2.5")
    form = "<Q" if not old and major * 10 + minor >= 2 else "<I"
    size = 12 + struct.calcsize(form)
    if len(start) < size:
        raise WeightsError(f"{path}: {len(start)} bytes, wanted a .weights header of {size}")
    return Header(major, minor, revision, *struct.unpack_from(form, start, 12), size)


def _foreign(start):
    """Say what a file is that begins with `start`, or return None where it may be a .weights file."""
    for magic, kind in _FOREIGN.items():
        if start.startswith(magic):
            return kind
    if not start:
        return "an empty one"
    if any(byte < 32 and byte not in b"\t\n\r" for byte in start):     # a header has bytes that are zero
        return None
    return "a web page (a download that failed?)" if start.lstrip().startswith(b"<") else "text"


# ---- what a network expects in its file
def _stored(net, layer, averaged=False):
    """The arrays of a layer that a .weights file holds, by name, in its order; `averaged`: parameters' moving averages."""
    if layer.parts:
        order = dialect_value(f"{layer.type}_order", net.dialect).split() if layer.type in ("gru", "lstm") else layer.parts
        return {f"{name}.{key}": array for name in order
                for key, array in _stored(net, layer.parts[name], averaged).items()}
    arrays = layer.arrays("parameter", "statistic")
    if averaged:
        arrays.update((name, layer.arrays("moment")[f"{name}_ema"]) for name in layer.arrays("parameter"))
    if "inner_biases" in arrays or "scales" in arrays and "rolling_mean" not in arrays and "weights" in arrays:
        arrays["weights"] = arrays.pop("weights")   # what Darknet does not know: [connected] in [convolutional]'s order
    if _lacks_biases(net, layer):
        del arrays["biases"]
    return arrays


def _lacks_biases(net, layer):
    return layer.type == "batchnorm" and not dialect_value("batchnorm_biases_saved", net.dialect)


def _switches(layer):
    """The options of the layer's section; none where it was not made from a .cfg."""
    spec = getattr(layer, "spec", None)
    return spec.values if spec is not None else {}


def _flipped(layer):
    return layer.type == "convolutional" and bool(_switches(layer).get("flipped"))


def _pieces(net, start, cutoff, offset, transposed=False):
    """List the arrays that a load reads, minding the switches dontload, dontloadscales, numload and flipped."""
    pieces = []
    for layer in net.layers[start:cutoff]:
        switches = _switches(layer)
        if switches.get("dontload"):
            continue
        without = _NORMALIZATION if switches.get("dontloadscales") and layer.type in _WITH_SCALES else ()
        for name, array in _stored(net, layer).items():
            part, _, own = name.rpartition(".")
            if own in without:
                continue
            array = _first_filters(layer, array, switches.get("numload") or 0)
            turned = own == "weights" and (_flipped(layer) or transposed and layer.parts.get(part, layer).type == "connected")
            pieces.append(_Piece(layer, name, array, offset, turned))
            offset = pieces[-1].end
    return pieces


def _first_filters(layer, array, numload):
    if layer.type != "convolutional" or not numload:
        return array
    if numload > len(array):
        raise layer.spec.error(f"numload={numload}: wanted at most filters={len(array)}", "numload")
    return array[:numload]


def is_filled(layer: Layer) -> bool:
    """Whether a whole .weights file holds all arrays of a layer that start with random values; scales start at 1."""
    switches = _switches(layer)
    return not (switches.get("dontload") or switches.get("numload"))


def expected_bytes(net: Network, cutoff: Optional[int] = None, *, start: int = 0) -> int:
    """Return the size of the .weights file that :func:`load_weights` wants, with today's header of 20 bytes."""
    start, cutoff = _range(net, start, cutoff)
    pieces = _pieces(net, start, cutoff, HEADER_BYTES)
    return pieces[-1].end if pieces else HEADER_BYTES


def _range(net, start, cutoff):
    cutoff = len(net.layers) if cutoff is None else cutoff
    for name, value in (("start", start), ("cutoff", cutoff)):
        if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < 0:
            raise ArgumentError(f"{name}={value!r}: wanted the number of a layer, 0 or more")
    return int(start), int(cutoff)


# ---- load
def load_weights(net: Network, path: Path, cutoff: Optional[int] = None, *, start: int = 0,
                 allow_nonfinite: bool = False, clear: bool = False) -> None:
    """Read a .weights file into a network: all of it, or on any error nothing.

    Parameters
    ----------
    net : Network
    path : str or path
    cutoff : int, optional
        Read the layers before this one only.
    start : int
        Read the layers from this one on; the file has theirs right after its header.
    allow_nonfinite : bool
        Accept values that are NaN or infinite.
    clear : bool
        Start to count images anew: ``net.seen`` becomes 0, whatever the file says.

    Raises
    ------
    WeightsError
        The file is not exactly this network's (longer is fine with `cutoff` or `start`), is no .weights file, holds
        NaN or infinite values, or a count of images beyond 2^63.
    OSError
        It cannot be read, or is not a regular file.

    Notes
    -----
    The options of a layer's section act as in Darknet: ``dontload`` (the file lacks the layer), ``dontloadscales`` (it
    lacks the scales and rolling statistics of this [convolutional] or [connected]), ``numload`` (it has only so many
    filters), ``flipped`` (its weights are stored transposed).  Files older than version 0.1 have [connected] weights transposed.

    The file does not say how many mini-batches its moving statistics come from: the next one is counted as the first,
    and under ``statistics=cumulative`` replaces them.
    """
    first, last = _range(net, start, cutoff)
    path = os.fsdecode(path)
    with open_regular(path) as file:
        header = _read_header(file, path)
        if header.seen >= (2**63 if header.bytes == HEADER_BYTES else 2**31) and not clear:
            raise WeightsError(f"{path}: byte 12: {header.seen} images seen is out of range; -clear (clear=True) counts from 0")
        pieces = _pieces(net, first, last, header.bytes, header.transposed)
        _check_size(net, path, header, pieces, os.fstat(file.fileno()).st_size, exact=cutoff is None and start == 0)
        values = _read_values(file, path, header, pieces)
    if not allow_nonfinite:
        _refuse_nonfinite(path, pieces, values)
    for piece, value in zip(pieces, values):
        piece.array[...] = value
        if _lacks_biases(net, piece.layer):
            piece.layer.biases[...] = 0         # what such a file means
    for layer in net.layers[first:last]:
        for count in layer.arrays("counter").values():
            count[:] = 0
    net.seen = 0 if clear else header.seen


def _check_size(net, path, header, pieces, found, exact):
    expected = pieces[-1].end if pieces else header.bytes
    if found == expected or found > expected and not exact:
        return
    message = f"{path}: expected {expected} bytes for {_name(net)}, found {found}"
    if found < expected:
        message += _where_it_ends(pieces, found)
    elif pieces:
        message += f": {_title(pieces[-1].layer)}, the last with weights, ends at byte {expected}"
    raise WeightsError(message + _dialect_hint(net, header))


def _where_it_ends(pieces, found):
    ends = {piece.layer.index: piece for piece in pieces}       # the last array of each layer
    complete = [piece.layer for piece in ends.values() if piece.end == found]
    if complete:
        return f": the file ends after {_title(complete[0])}; cutoff={complete[0].index + 1} loads the layers up to it"
    last = next(piece for piece in ends.values() if piece.end > found)
    return f": the file ends inside {_title(last.layer)}, which ends at byte {last.end}"


def _dialect_hint(net, header):
    """Files of the forks differ in [batchnorm]: the likely reason where the header contradicts the dialect."""
    wanted = dialect_value("weights_revision", net.dialect)
    if header.transposed or header.revision == wanted or not any(layer.type == "batchnorm" for layer in net.layers):
        return ""
    return (f" (its header says revision {header.revision}, but the network is of dialect {net.dialect}, revision {wanted}: "
            f"[batchnorm] is stored differently)")


def _name(net):
    return net.sections.net_section.file if net.sections is not None else "this network"


def _title(layer):
    return f"layer {layer.index} [{layer.type}]"


def _read_values(file, path, header, pieces):
    """Return the values of each piece in the shape of its array, as the file has them."""
    body = np.empty(sum(piece.array.size for piece in pieces), _VALUE)
    file.seek(header.bytes)
    got = file.readinto(memoryview(body).cast("B")) if body.size else 0
    if got != body.nbytes:
        raise WeightsError(f"{path}: the file ended at byte {header.bytes + got} while it was read")
    values, at = [], 0
    for piece in pieces:
        flat = body[at:at + piece.array.size]
        at += flat.size
        rows = len(piece.array)
        values.append((flat.reshape(-1, rows).T if piece.transposed else flat).reshape(piece.array.shape))
    return values


def _refuse_nonfinite(path, pieces, values):
    for piece, value in zip(pieces, values):
        bad = ~np.isfinite(value)
        if not bad.any():
            continue
        order = bad.reshape(len(value), -1).T if piece.transposed else bad
        first = int(order.ravel().argmax())
        number = value.reshape(len(value), -1).T.ravel()[first] if piece.transposed else value.ravel()[first]
        raise WeightsError(f"{path}: byte {piece.offset + first * _VALUE.itemsize}: {number} in {_title(piece.layer)} {piece.name}; "
                           f"allow_nonfinite=True loads it all the same")


# ---- save
def save_weights(net: Network, path: Path, cutoff: Optional[int] = None, *, averaged: bool = False) -> None:
    """Write a network's .weights file, whole or not at all; see :func:`darknetpy.files.write_atomically`.

    Parameters
    ----------
    net : Network
    path : str or path
    cutoff : int, optional
        Write the layers before this one only.
    averaged : bool
        Write the moving averages of the parameters ([net] ema_alpha=), beside the statistics as they are.

    Raises
    ------
    ArgumentError
        There are no averages (yet).
    WeightsError
        A [batchnorm] layer has biases, and the dialect's files have no place for them.
    OSError
        The file cannot be written; what stood there is as it was.

    Notes
    -----
    Layers with ``dontsave`` are left out, weights of layers with ``flipped`` are stored transposed.
    """
    _, last = _range(net, 0, cutoff)
    if averaged and not net.option("averages"):
        raise ArgumentError("there are no averages of the parameters: [net] ema_alpha= keeps them in the second half of training")
    layers = [layer for layer in net.layers[:last] if not _switches(layer).get("dontsave")]
    for layer in layers:
        if _lacks_biases(net, layer) and layer.biases.any():
            raise WeightsError(f"{os.fsdecode(path)}: {_title(layer)} has biases that are not zero, and .weights files of dialect "
                               f"{net.dialect} have no place for them: use dialect=alexeyab, or set them to zero")
    write_atomically(path, _chunks(net, layers, averaged))


def refuse_unsavable(net: Network) -> None:
    """Raise CfgError where training would change numbers that the dialect's .weights files have no place for."""
    for layer in net.layers:
        fixed = _switches(layer).get("dontsave") or layer.option("learning_rate") == 0
        if _lacks_biases(net, layer) and not fixed:
            message = (f"its biases are learned, and .weights files of dialect {net.dialect} have no place for them; "
                       "wanted dialect=alexeyab in [net], or learning_rate=0 here")
            raise layer.spec.error(message) if _switches(layer) else CfgError(f"layer {layer.index}: {message}", section=layer.type)


def _chunks(net, layers, averaged):
    yield struct.pack("<iiiQ", 0, 2, dialect_value("weights_revision", net.dialect), net.seen)
    for layer in layers:
        for name, array in _stored(net, layer, averaged).items():
            if name == "weights" and _flipped(layer):
                array = array.reshape(len(array), -1).T
            yield np.ascontiguousarray(array, _VALUE)
