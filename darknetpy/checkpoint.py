"""Checkpoints: one file with all that training needs to go on as if it had never stopped, bit for bit.

Unlike a .weights file it also holds the optimizer's state, the counters, the options in effect and the network's .cfg.
Random numbers need no state: they are functions of the seed and of counters.  The file, little-endian:

    offset  bytes  content
    0       8      the magic number, which ends in the version
    8       8      n, the length of the header
    16      32     SHA-256 of the header
    48      n      the header: JSON, with the place, shape and SHA-256 of each array
    48 + n  ...    the arrays, without gaps, in the order of the header
"""
from __future__ import annotations

import hashlib
import json
import math
import os
import struct
from typing import TYPE_CHECKING, Any

import numpy as np

from darknetpy._types import Path
from darknetpy.cfg import parse_cfg_text
from darknetpy.errors import ArgumentError, DarknetError, DeviceError, WeightsError
from darknetpy.files import open_regular, write_atomically
from darknetpy.sections import POLICIES, SECTIONS, TRAINING_NUMBERS, check_number, resolve

if TYPE_CHECKING:
    from darknetpy.network import Network

_MAGIC = b"\x89DNCKPT1"
_HEAD = struct.Struct("<8sQ32s")
_MAX_HEADER = 256 << 20                 # bytes; a mistaken length must not fill the memory
_ROLES = ("parameter", "statistic", "counter", "state", "update", "moment")
_LIMITS = {"policy": sum(not policy.alias_of for policy in POLICIES), "averages": 2**31}
_OPTIONS = (*TRAINING_NUMBERS, *_LIMITS)


# ---- save
def save_checkpoint(net: Network, path: Path, extra: Any = None) -> None:
    """Write a checkpoint, whole or not at all; see :func:`darknetpy.files.write_atomically`.

    Parameters
    ----------
    net : Network
    path : str or path
    extra : dict, optional
        What else the caller needs to go on, such as the identity of the data set: anything that JSON can say.

    Raises
    ------
    ArgumentError
        The network has no layers, or JSON cannot say `extra`.
    OSError
        The file cannot be written; what stood there is as it was.
    """
    if not net.layers:
        raise ArgumentError("a checkpoint needs a network with layers")
    arrays = [(index, name, array) for index, layer in enumerate(net.layers) for name, array in layer.arrays(*_ROLES).items()]
    header = _describe(net, extra)
    header["arrays"] = [_describe_array(index, name, array) for index, name, array in arrays]
    try:
        text = json.dumps(header, ensure_ascii=False).encode("utf-8", "surrogatepass")
    except (TypeError, ValueError, RecursionError) as error:
        raise ArgumentError(f"extra: JSON cannot say it: {error}") from None
    head = _HEAD.pack(_MAGIC, len(text), hashlib.sha256(text).digest())
    write_atomically(path, [head, text, *(_little_endian(array) for _, _, array in arrays)])


def _describe(net, extra):
    return {
        "cfg": net.to_cfg(), "cfg_file": _cfg_file(net), "dialect": net.dialect, "batchnorm": net.batchnorm,
        "batch": net.batch, "width": net.w, "height": net.h, "train": net._built_for_training,
        "seen": net.seen, "updates": net.updates, "seed": net.seed, "pending": net._pending,
        "options": {name: net.option(name) for name in _OPTIONS},
        "fused": [layer.fused for layer in net.layers], "extra": extra,
    }


def _cfg_file(net):
    """Where the .cfg was read: files that it names are looked for beside it."""
    return os.path.abspath(net.sections.net_section.file) if net.sections is not None else "<network>"


def _describe_array(index, name, array):
    digest = hashlib.sha256(_little_endian(array)).hexdigest()
    return {"layer": index, "name": name, "dtype": array.dtype.newbyteorder("<").str, "shape": list(array.shape), "sha256": digest}


def _little_endian(array):
    return np.ascontiguousarray(array, array.dtype.newbyteorder("<"))


# ---- read
def is_checkpoint(path: Path) -> bool:
    """Return whether a file begins as a checkpoint does.

    Raises
    ------
    OSError
        The file cannot be read, or is not a regular file.
    """
    with open_regular(path) as file:
        return file.read(len(_MAGIC) - 1) == _MAGIC[:-1]


def read_header(path: Path) -> dict[str, Any]:
    """Return the header of a checkpoint as a dict: counters, options, cfg and ``extra``; the arrays are not read.

    Raises
    ------
    WeightsError
        The file is damaged or not a checkpoint.
    OSError
        It cannot be read, or is not a regular file.
    """
    with open_regular(path) as file:
        return _read_header(file, os.fsdecode(path))[0]


def _read_header(file, path):
    """Return the header, and the offset of the first array."""
    size = os.fstat(file.fileno()).st_size
    head = file.read(_HEAD.size)
    if head[:7] != _MAGIC[:7]:
        raise WeightsError(f"{path}: not a checkpoint")
    if len(head) < _HEAD.size:
        raise WeightsError(f"{path}: {size} bytes: the file ends inside its head of {_HEAD.size} bytes")
    magic, length, digest = _HEAD.unpack(head)
    if magic != _MAGIC:
        raise WeightsError(f"{path}: byte 7: version {chr(magic[7])!r} of checkpoints is unknown, wanted {chr(_MAGIC[7])!r}")
    if length > min(size - _HEAD.size, _MAX_HEADER):
        raise WeightsError(f"{path}: byte 8: a header of {length} bytes, but the file has {size}")
    text = file.read(length)
    if hashlib.sha256(text).digest() != digest:
        raise WeightsError(f"{path}: bytes {_HEAD.size} to {_HEAD.size + length}: the header is damaged (checksum)")
    try:
        header = json.loads(text.decode("utf-8", "surrogatepass"))
        _check_header(header)
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
        raise WeightsError(f"{path}: byte {_HEAD.size}: the header makes no sense: {type(error).__name__} {error}") from None
    return header, _HEAD.size + length


_KINDS = {"cfg": str, "cfg_file": str, "dialect": str, "batchnorm": str, "batch": int, "width": int, "height": int, "train": bool,
          "seen": int, "updates": int, "seed": int, "pending": int, "options": dict, "fused": list, "arrays": list, "extra": object}
_ARRAY_KINDS = {"layer": int, "name": str, "dtype": str, "shape": list, "sha256": str}


def _check_header(header):
    """Check kinds and ranges, so that what follows can rely on them."""
    _check_kinds(header, _KINDS)
    for name in ("batch", "width", "height", "seen", "updates", "seed", "pending"):
        if not 0 <= header[name] < 2**64:
            raise ValueError(f"{name}={header[name]}")
    for name in _OPTIONS:
        value = float(header["options"][name])
        if name in _LIMITS and not (value.is_integer() and 0 <= value < _LIMITS[name]) or not math.isfinite(value):
            raise ValueError(f"{name}={value}")
        if name in TRAINING_NUMBERS and (name, value) != ("sgdr_cycle", 0):     # 0: as max_batches is
            check_number(SECTIONS["net"].options[name], value)
    for array in header["arrays"]:
        _check_kinds(array, _ARRAY_KINDS)


def _check_kinds(values, kinds):
    for name, kind in kinds.items():
        if not isinstance(values[name], kind) or kind is int and isinstance(values[name], bool):
            raise ValueError(f"{name} is no {kind.__name__}")


def _read_arrays(file, path, net, header, offset):
    """Return (array of the network, its values) for each array of the file, which must be the network's, all sound."""
    wanted = {(index, name): array for index, layer in enumerate(net.layers) for name, array in layer.arrays(*_ROLES).items()}
    found = {(row["layer"], row["name"]): row for row in header["arrays"]}
    for key, array in wanted.items():
        row = found.get(key)
        if row is None or row["shape"] != list(array.shape) or row["dtype"] != array.dtype.newbyteorder("<").str:
            raise WeightsError(f"{path}: layer {key[0]} [{net.layers[key[0]].type}] {key[1]}: wanted {array.dtype} {array.shape}, "
                               f"found {'nothing' if row is None else row['dtype'] + ' ' + str(tuple(row['shape']))}")
    if len(found) != len(wanted) or len(found) != len(header["arrays"]):
        raise WeightsError(f"{path}: {len(header['arrays'])} arrays, wanted the {len(wanted)} of the network")
    expected = offset + sum(array.nbytes for array in wanted.values())
    size = os.fstat(file.fileno()).st_size
    if size != expected:
        raise WeightsError(f"{path}: expected {expected} bytes, found {size}")
    pairs = []
    for row in header["arrays"]:
        array = wanted[row["layer"], row["name"]]
        values = np.empty(array.shape, array.dtype.newbyteorder("<"))
        got = file.readinto(memoryview(values).cast("B"))
        if got != values.nbytes or hashlib.sha256(values).hexdigest() != row["sha256"]:
            raise WeightsError(f"{path}: bytes {offset} to {offset + values.nbytes}: {row['name']} of layer {row['layer']} "
                               f"[{net.layers[row['layer']].type}] is damaged (checksum)")
        offset += values.nbytes
        pairs.append((array, values))
    return pairs


# ---- load
def load_checkpoint(path: Path, device: str = "cpu") -> Network:
    """Build the network of a checkpoint, in the state it was saved in.

    Parameters
    ----------
    path : str or path
    device : str
        Where its arrays are to lie, wherever they lay when it was saved; see :func:`darknetpy.load_network`.

    Returns
    -------
    Network
        On the device it was saved on it does with the next mini-batches, bit for bit, what the saved one would have done.

    Raises
    ------
    WeightsError
        The file is damaged or not a checkpoint.
    DeviceError
        The device cannot be used.
    OutOfMemory
        The network needs more memory than there is.
    OSError
        The file cannot be read, or is not a regular file.
    """
    path = os.fsdecode(path)
    with open_regular(path) as file:
        header, offset = _read_header(file, path)
        net = _build(path, header, device)
        _restore(file, path, net, header, offset)
    net.set_option("max_batches", header["options"]["max_batches"])
    return net


def _build(path, header, device):
    """Build the network of the .cfg in a checkpoint."""
    from darknetpy.builder import build_network

    sections = _parse_cfg(path, header)
    try:
        plan = resolve(sections, dialect=header["dialect"], batchnorm=header["batchnorm"])
        net = build_network(plan, batch=header["batch"], device=device, train=header["train"])
        _keep_moments(net, header)
        if header["width"] and (header["width"], header["height"]) != (net.w, net.h):
            net.resize(header["width"], header["height"])
    except (DeviceError, MemoryError):
        raise
    except DarknetError as error:
        raise WeightsError(f"{path}: its network cannot be built: {error}") from None
    return net


def _keep_moments(net, header):
    """Layers keep velocities once max_gradient has been set, and averages once ema_alpha has, be it after they were made."""
    for index, name in {(row["layer"], row["name"]) for row in header["arrays"]}:
        option = "velocity" if name.endswith("_m") else "averaged" if name.endswith("_ema") else None
        if option and 0 <= index < len(net.layers) and header["train"]:
            layer = net.layers[index]
            layer._set_options({option: 1})
            net._core.check(net._core.lib.allocate_layer(layer._handle, True))


def _parse_cfg(path, header):
    try:
        return parse_cfg_text(header["cfg"], header["cfg_file"])
    except DarknetError as error:
        raise WeightsError(f"{path}: its network cannot be read: {error}") from None


def restore(net: Network, path: Path) -> Any:
    """Put a network that was built from the same .cfg into the state of a checkpoint: all of it, or on any error nothing.

    ``max_batches``, where training ends, stays the network's own; all other options become the checkpoint's.

    Parameters
    ----------
    net : Network
    path : str or path

    Returns
    -------
    object
        The ``extra`` that :func:`save_checkpoint` was given.

    Raises
    ------
    WeightsError
        The file is damaged, not a checkpoint, or another network's: the message names the first difference.
    OSError
        It cannot be read, or is not a regular file.
    """
    path = os.fsdecode(path)
    with open_regular(path) as file:
        header, offset = _read_header(file, path)
        _refuse_other_network(path, net, header)
        _restore(file, path, net, header, offset)
    return header["extra"]


def _refuse_other_network(path, net, header):
    for name, ours in (("batch", net.batch), ("width", net.w), ("height", net.h), ("dialect", net.dialect), ("batchnorm", net.batchnorm)):
        if header[name] != ours:
            raise WeightsError(f"{path}: a checkpoint with {name}={header[name]}, but the network has {name}={ours}")
    there, here = _options_of(_parse_cfg(path, header)), _options_of(parse_cfg_text(net.to_cfg()))
    for number, (a, b) in enumerate(zip(there, here)):
        if a == b:
            continue
        where = f"layer {number - 1} [{b[0]}]" if number else "[net]"
        raise WeightsError(f"{path}: a checkpoint of another network: {where} has {_difference(a, b)}")
    if len(there) != len(here):
        raise WeightsError(f"{path}: a checkpoint of another network: {len(there) - 1} layers there, {len(here) - 1} here")


def _options_of(sections):
    """Return (name, options) of each section of a .cfg, without max_batches."""
    return [(section.name, {key: option.text for key, option in section.options.items() if key != "max_batches"})
            for section in sections]


def _difference(there, here):
    if there[0] != here[0]:
        return f"the type {there[0]} there"
    keys = [key for key in {**there[1], **here[1]} if there[1].get(key) != here[1].get(key)]
    return f"{keys[0]}={there[1].get(keys[0], '(default)')} there, {keys[0]}={here[1].get(keys[0], '(default)')} here"


def _restore(file, path, net, header, offset):
    if len(header["fused"]) != len(net.layers):
        raise WeightsError(f"{path}: {len(header['fused'])} layers, wanted the {len(net.layers)} of the network")
    differing = [(layer, bool(fused)) for layer, fused in zip(net.layers, header["fused"]) if layer.fused != bool(fused)]
    for layer, fused in differing:
        if layer._shares_memory():
            raise WeightsError(f"{path}: fused={fused} in layer {layer.index} [{layer.type}]: a network loaded with "
                               "keep_activations=False cannot change it")
    pairs = _read_arrays(file, path, net, header, offset)
    for layer, fused in differing:
        layer.fused = fused
    for array, values in pairs:
        array[...] = values
    net._set_options({name: header["options"][name] for name in _OPTIONS if name != "max_batches"})
    net.seen, net.updates, net.seed, net._pending = (header[name] for name in ("seen", "updates", "seed", "pending"))
