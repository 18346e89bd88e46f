"""Calls kernels of csrc/kernels.def by argument name, on guarded arrays, beside the float64 reference of the same name.

A case is a dict of arguments.  Float arrays are given as float64 and handed over as float32 inside a larger array whose other
values are NaN: a read beyond the ends spoils the result, a write is seen.  Arrays that the kernel takes as const must not change.
"""

from __future__ import annotations

import os
import re
import types

import numpy as np
import reference
from twin import CSRC

from darknetpy.core import core
from darknetpy.layer import activation_number

GUARD = 67  # values before and after; odd, so that arrays are aligned to 4 bytes only
RTOL, ATOL = 1e-5, 1e-6


def _read_kernels():
    """Return {cpu function: [(argument, is array, is const)]} from kernels.def."""
    found = {}
    with open(os.path.join(CSRC, "kernels.def")) as file:
        for match in re.finditer(r"^KERNEL\(\w+, (\w+), \w+, \((.*)\)\)$", file.read(), re.MULTILINE):
            arguments = [
                re.fullmatch(r"(const )?(\w+) (\*?)(\w+)", text.strip()) for text in match[2].split(",")
            ]
            found[match[1]] = [
                (m[4], bool(m[3]) and m[2] in ("real", "int", "double"), bool(m[1])) for m in arguments
            ]
    return found


KERNELS = _read_kernels()
STRUCTS = {"conv_shape": "conv_shape *", "pool_shape": "pool_shape *", "overlap_shape": "overlap_shape *"}


class Guarded:
    """A copy of an array between guards."""

    def __init__(self, values):
        dtype = {np.dtype(np.float64): np.float32}.get(values.dtype, values.dtype)
        self.whole = np.full(
            values.size + 2 * GUARD, np.nan if np.dtype(dtype).kind == "f" else -(2**31) + 7, dtype
        )
        self.values = self.whole[GUARD : GUARD + values.size]
        self.values[:] = values.ravel()
        self.before = self.whole.copy()
        kind = {np.dtype(np.float32): "float *", np.dtype(np.int32): "int *"}[self.whole.dtype]
        self.pointer = core.ffi.cast(kind, self.values.ctypes.data)

    def check_guards(self, name):
        for part in (slice(None, GUARD), slice(-GUARD, None)):
            assert self.whole[part].tobytes() == self.before[part].tobytes(), (
                f"{name}: written beyond its ends"
            )

    def check_unchanged(self, name):
        assert self.whole.tobytes() == self.before.tobytes(), f"{name} is const and was changed"


class Double:
    """A double that a kernel writes."""

    def __init__(self):
        self.pointer = core.ffi.new("double *")


def each_field(fields, handed):
    """Return the fields of a struct, or of each in a list of them, as handed(name, value) gives them: w, or w[0] and w[1]."""
    if isinstance(fields, dict):
        return {name: handed(name, value) for name, value in fields.items()}
    return [
        {name: handed(f"{name}[{i}]", value) for name, value in one.items()} for i, one in enumerate(fields)
    ]


def structure(kind, fields, keep):
    """A C struct from a dict, or an array of them from a list; their arrays are guarded and kept in `keep`."""

    def handed(name, value):
        if isinstance(value, np.ndarray):
            keep[name] = Guarded(value)
            return keep[name].pointer
        if value is None:
            return core.ffi.NULL
        return activation_number(value) if isinstance(value, str) else value

    return core.ffi.new(kind, each_field(fields, handed))


def call(name, case):
    """Run the C kernel; return {array: Guarded or Double} of everything handed over."""
    handed, arguments = {}, []
    for argument, _, _ in KERNELS[name]:
        value = case[argument]
        if isinstance(value, np.ndarray):
            handed[argument] = Guarded(value)
            value = handed[argument].pointer
        elif isinstance(value, tuple):  # (C type, fields)
            value = structure(value[0], value[1], handed)
            handed[f"struct {argument}"] = value
        elif value == "double":
            handed[argument] = Double()
            value = handed[argument].pointer
        elif argument == "a":
            value = activation_number(value)
        elif value is None:
            value = core.ffi.NULL
        arguments.append(value)
    getattr(core.lib, name)(*arguments)
    return handed


def expected(name, case):
    """Run the reference on float64 copies of what float32 holds; return {array: values}."""
    arrays, arguments = {}, {}

    def taken(key, value):
        if isinstance(value, np.ndarray):
            value = (
                value.astype(np.float32).astype(float).ravel()
                if value.dtype.kind == "f"
                else value.ravel().copy()
            )
            arrays[key] = value
        elif isinstance(value, float):
            value = float(np.float32(value))
        return value

    for argument, _, _ in KERNELS[name]:
        value = case[argument]
        if isinstance(value, tuple):
            fields = each_field(value[1], taken)
            value = (
                types.SimpleNamespace(**fields)
                if isinstance(fields, dict)
                else [types.SimpleNamespace(**one) for one in fields]
            )
        elif isinstance(value, str) and value == "double":
            value = arrays[argument] = np.zeros(1)
        else:
            value = taken(argument, value)
        arguments[argument] = value
    getattr(reference, name)(*arguments.values())
    return arrays


ROOM = ("workspace", "samples", "partners")  # what a kernel leaves there is its own


def compare(name, case, skip=ROOM, rtol=RTOL, atol=ATOL):
    """Run kernel and reference; check results, guards and const arrays; return the bytes of all results."""
    handed, wanted, bits = call(name, case), expected(name, case), []
    const = {argument for argument, _, is_const in KERNELS[name] if is_const}
    for key, array in handed.items():
        if isinstance(array, Guarded):
            array.check_guards(f"{name}: {key}")
            if key in const:
                array.check_unchanged(f"{name}: {key}")
            if key in skip:
                continue
            bits.append(array.values.tobytes())
            np.testing.assert_allclose(
                array.values, wanted[key].ravel(), rtol=rtol, atol=atol, err_msg=f"{name}: {key}"
            )
        elif isinstance(array, Double):
            bits.append(np.float64(array.pointer[0]).tobytes())
            np.testing.assert_allclose(array.pointer[0], wanted[key][0], rtol=1e-12, err_msg=f"{name}: {key}")
    return bits


def compare_threads(name, case, set_threads, **tolerances):
    """The same with 1, 2 and 3 threads: the reference's numbers, and the same bits."""
    bits = {}
    for n in (1, 2, 3):
        set_threads(n)
        bits[n] = compare(name, case, **tolerances)
    assert bits[1] == bits[2] == bits[3], f"{name}: the result depends on the number of threads"
