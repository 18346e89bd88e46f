"""cuBLASLt and cuDNN for tests, without a GPU: fake_cublas.c and fake_cudnn.c, which work on the emulator's memory."""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import os
import shutil
import subprocess

import pytest
from cuda_calls import library
from twin import CSRC, ROOT

from darknetpy import gpu, gpu_libraries

TESTS = os.path.dirname(os.path.abspath(__file__))
CUDA = os.path.join(ROOT, "cuda")
_kept = []      # tables: the kernels know a library by the address of its table
FILES = {"cublas": "libcublasLt.so.13", "cudnn": "libcudnn.so.9"}


def make_library(folder, name, *defines):
    """Compile a fake library under its true name into a folder; return its path.  Skips the test without gcc."""
    if not shutil.which("gcc"):
        pytest.skip("gcc is not installed: calls of NVIDIA's libraries are not tested")
    path = os.path.join(folder, FILES[name])
    # Its own names first: it must not meet those of the test's process.
    flags = ["-shared", "-fPIC", "-O2", "-Wall", "-Wextra", "-Werror", "-Wno-misleading-indentation", "-Wl,-Bsymbolic"]
    defines = [f"-D{define}" for define in defines]
    subprocess.run(["gcc", *flags, f"-I{CUDA}", f"-I{CSRC}", *defines, os.path.join(TESTS, f"fake_{name}.c"), "-o", path], check=True)
    return path


class Fake:
    """A fake library that the emulated kernels use.

    Attributes
    ----------
    table : cdata
        Its functions and limits, as the kernels know them.
    """

    def __init__(self, path, name, **limits):
        library()
        self.module = importlib.import_module(gpu.MODULES["emulated"])
        known = next(one for one in gpu_libraries.LIBRARIES if one.name == name)
        opened = gpu_libraries.open_library(known, path)
        self.table = self.module.ffi.new(f"dn_{name} *", gpu_libraries.table(self.module, opened)[0])
        _kept.append(self.table)
        for key, value in limits.items():
            setattr(self.table, key, value)
        self._switch = getattr(self.module.lib, f"dn_gpu_use_{name}")
        self._library = ctypes.CDLL(path)
        self._library.fake_reset()

    def variable(self, name, kind=ctypes.c_int):
        """A variable of the library, as ctypes has it."""
        return kind.in_dll(self._library, "fake_" + name)

    def __getitem__(self, name):
        return self.variable(name).value

    def __setitem__(self, name, value):
        self.variable(name).value = value

    @property
    def passes(self):
        """How often each of the three passes was asked for."""
        return list(self.variable("passes", ctypes.c_int * 3))

    @property
    def last_workspace(self):
        """The bytes of workspace that the last pass was given."""
        return self.variable("last_workspace", ctypes.c_size_t).value

    def use(self):
        """Let the kernels use it; return what is wrong, None if nothing."""
        failed = self._switch(self.table)
        return self.module.ffi.string(self.module.lib.dn_gpu_last_error()).decode() if failed else None

    @contextlib.contextmanager
    def used(self):
        """Let the kernels use it; they stop to."""
        assert self.use() is None
        try:
            yield self
        finally:
            self._switch(self.module.ffi.NULL)
