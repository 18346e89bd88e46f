"""Calls the CUDA kernels of csrc/kernels.def by argument name, beside their CPU twins.

The library is built with g++ (cuda/emulator.h) when its sources have changed; DARKNETPY_TEST_DEVICE=gpu (gpu:1) takes the
one that nvcc built, on a GPU.  Cases are those of kernel_calls.py.  Arrays lie between guards, once at multiples of 256 bytes and once so
that their last value is the last of a page, which is where the emulator sees every access beyond it.
"""

from __future__ import annotations

import functools
import importlib.machinery
import importlib.util
import os
import re
import shutil

import kernel_calls
import numpy as np
import pytest
from twin import CSRC, ROOT

from darknetpy.core import core
from darknetpy.gpu import parse_device
from darknetpy.layer import activation_number

PAGE, GUARD = 4096, 64
HOST_LISTS = ("yolo_rules *", "region_rules *")     # structs whose lists are the host's
RTOL, ATOL = 1e-5, 1e-6
DEVICE = os.environ.get("DARKNETPY_TEST_DEVICE") or "emulated"     # conftest.py has looked at it
ON_GPU = DEVICE != "emulated"


def _read_rows():
    """Return [(member of the table, cpu function, CUDA function)] of kernels.def."""
    with open(os.path.join(CSRC, "kernels.def")) as file:
        return re.findall(r"^KERNEL\((\w+), (\w+), (\w+), ", file.read(), re.MULTILINE)


NAMES = {cpu: gpu for _, cpu, gpu in _read_rows()}
MEMBERS = {cpu: member for member, cpu, _ in _read_rows()}


@functools.lru_cache(maxsize=1)
def build_module():
    """cuda/build.py of this checkout."""
    spec = importlib.util.spec_from_file_location("cuda_build", os.path.join(ROOT, "cuda", "build.py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@functools.lru_cache(maxsize=1)
def _library():
    """Build and load once; return the library, or the reason why there is none, which every test then gives."""
    try:
        return _load(), None
    except build_module().BuildError as error:
        return None, error


def library():
    """The library with the kernels, built if need be."""
    if not ON_GPU:
        need_compiler()
    lib, error = _library()
    if error:
        raise error
    return lib


def need_compiler():
    """Skip the test where nothing can build the emulated kernels."""
    compiler = build_module().cxx()[0]
    if shutil.which(compiler) is None:
        pytest.skip(f"{compiler} is not installed: the CUDA kernels are not tested")


def _load():
    name = "darknetpy._darknet_cuda" if ON_GPU else "darknetpy._darknet_cuda_emulated"
    path = os.path.join(ROOT, "darknetpy", "_darknet_cuda.abi3.so") if ON_GPU else build_module().build_emulated()
    lib = load_library(name, path)
    if ON_GPU:
        lib.dn_gpu_select(parse_device(DEVICE)[1])
        for turn in (lib.dn_gpu_use_cublas, lib.dn_gpu_use_cudnn):      # conftest.py has opened the GPU with them
            turn(core.ffi.NULL)
    return lib


def load_library(name, path):
    """Import a library of kernels by its file."""
    loader = importlib.machinery.ExtensionFileLoader(name, path)
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader(name, loader))
    loader.exec_module(module)
    return module.lib


def check():
    """Raise what the kernels since the last call have left."""
    lib = library()
    if lib.dn_gpu_synchronize() or lib.dn_gpu_status():
        lib.dn_gpu_status()
        raise AssertionError(core.ffi.string(lib.dn_gpu_last_error()).decode())


class DeviceArray:
    """A copy of an array in device memory, between guards of NaN."""

    def __init__(self, values, flush):
        self.dtype = {np.dtype(np.float64): np.dtype(np.float32)}.get(values.dtype, values.dtype)
        size, page = values.size, PAGE // self.dtype.itemsize
        front = -(size + GUARD) % page + GUARD if flush else GUARD
        self.whole = np.full(front + size + (GUARD if ON_GPU else 0), np.nan if self.dtype.kind == "f" else -(2**31) + 7, self.dtype)
        self.part = slice(front, front + size)
        self.whole[self.part] = values.ravel()
        self.before = self.whole.copy()
        self.memory = library().dn_gpu_allocate(self.whole.nbytes)
        library().dn_gpu_push(self.memory, core.ffi.cast("void *", self.whole.ctypes.data), self.whole.nbytes)
        kind = "float *" if self.dtype.kind == "f" else "int *"
        self.pointer = core.ffi.cast(kind, int(core.ffi.cast("uintptr_t", self.memory)) + front * self.dtype.itemsize)

    def pull(self, name):
        """Return the values; fail where a guard has changed."""
        library().dn_gpu_pull(core.ffi.cast("void *", self.whole.ctypes.data), self.memory, self.whole.nbytes)
        for guard in (slice(None, self.part.start), slice(self.part.stop, None)):
            assert self.whole[guard].tobytes() == self.before[guard].tobytes(), f"{name}: written beyond its ends"
        return self.whole[self.part]

    def release(self):
        library().dn_gpu_release(self.memory)


def call(name, case, flush):
    """Run the CUDA kernel, by its name or with `flush` by its place in the table; return {array: its values}."""
    arrays, fields_of, keep, arguments = {}, {}, [], []

    def handed(key, value, kind=None):
        if isinstance(value, np.ndarray) and kind in HOST_LISTS:
            keep.append(kernel_calls.Guarded(value))
            return keep[-1].pointer
        if isinstance(value, np.ndarray):
            arrays[key] = DeviceArray(value, flush)
            return arrays[key].pointer
        if value is None:
            return core.ffi.NULL
        return activation_number(value) if isinstance(value, str) else value

    for argument, _, _ in kernel_calls.KERNELS[name]:
        value = case[argument]
        if isinstance(value, tuple):
            keep.append(core.ffi.new(value[0], kernel_calls.each_field(value[1], functools.partial(handed, kind=value[0]))))
            arguments.append(keep[-1])
        elif isinstance(value, str) and value == "double":
            fields_of[argument] = library().dn_gpu_allocate(8)
            arguments.append(core.ffi.cast("double *", fields_of[argument]))
        else:
            arguments.append(handed(argument, value))
    function = getattr(library().gpu_kernels(), MEMBERS[name]) if flush else getattr(library(), NAMES[name])
    function(*arguments)
    check()
    found = {key: array.pull(f"{name}: {key}") for key, array in arrays.items()}
    for array in arrays.values():
        array.release()
    for key, memory in fields_of.items():
        found[key] = np.full(1, np.nan)
        library().dn_gpu_pull(core.ffi.cast("void *", found[key].ctypes.data), memory, 8)
        library().dn_gpu_release(memory)
    check()
    const = {argument for argument, _, is_const in kernel_calls.KERNELS[name] if is_const}
    for key in const & set(arrays):
        assert found[key].tobytes() == arrays[key].before[arrays[key].part].tobytes(), f"{name}: const {key} was changed"
    return found


def _host_lists(case):
    return {key for value in case.values() if isinstance(value, tuple) and value[0] in HOST_LISTS for key in value[1]}


def compare(name, case, skip=kernel_calls.ROOM, rtol=RTOL, atol=ATOL, exact=False):
    """Run both kernels, the CUDA one in both places and both orders; check values, guards and bits.

    With `exact` the values are those of the float64 reference, not of the CPU's kernel: where both sum in orders of
    their own, each may be off by the tolerance.
    """
    wanted = {key: values.ravel() for key, values in kernel_calls.expected(name, case).items()} if exact else {}
    for key, array in ({} if exact else kernel_calls.call(name, case)).items():
        if isinstance(array, (kernel_calls.Guarded, kernel_calls.Double)) and key not in _host_lists(case):
            wanted[key] = array.values if isinstance(array, kernel_calls.Guarded) else np.array([array.pointer[0]])
    for flush in (False, True):
        bits = []
        for backwards in (0, 1):
            library().dn_gpu_set_backwards(backwards)
            found = call(name, case, flush)
            library().dn_gpu_set_backwards(0)
            bits.append(b"".join(values.tobytes() for key, values in sorted(found.items()) if key not in skip))
        assert bits[0] == bits[1], f"{name}: the result depends on the order of blocks and threads"
        for key, values in wanted.items():
            if key not in skip:
                np.testing.assert_allclose(found[key], values, rtol=rtol, atol=atol, err_msg=f"{NAMES[name]}: {key}")
