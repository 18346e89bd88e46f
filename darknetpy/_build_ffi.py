"""Builds darknetpy._darknet, and darknetpy._darknet_double from the same C sources with numbers of 64 bits.

The cdef is csrc/darknet.h itself, after the C preprocessor.
"""
from __future__ import annotations

import glob
import os
import shlex
import subprocess
import sysconfig

import cffi

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
CSRC = os.path.join(ROOT, "csrc")
# The GNU dialect: its default lets the compiler fuse a*b + c into one rounding, on which the kernels' speed rests.
# Python's own flags bring -fwrapv, which hides from the compiler that `2 * i` steps evenly, and comparisons count as trapping: either
# keeps loops scalar (max pooling ran at a fifth to a tenth of its speed). Neither flag changes a value.
COMPILE = ["-std=gnu11", "-O3", "-fno-wrapv", "-fno-trapping-math", "-fopenmp", "-fvisibility=hidden", "-Wall", "-Wextra"]
DOUBLE = ["-O2", "-DDARKNET_DOUBLE", "-g0"]     # for gradient checks: plain code, a fraction of the other's size
LINK = ["-fopenmp"]


def compiler():
    """Return the C compiler's command as a list: $CC, else the one Python was built with, else cc."""
    return shlex.split(os.environ.get("CC") or (sysconfig.get_config_var("CC") or "cc").split()[0])


def declarations(*defines, header="csrc/darknet.h"):
    """Return a header as cffi's cdef wants it; `defines` are preprocessor symbols, such as DARKNET_DOUBLE."""
    command = compiler() + ["-E", "-P", "-DDARKNET_CDEF", f"-I{CSRC}", *(f"-D{d}" for d in defines), os.path.join(ROOT, header)]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def sources(*endings):
    """Return the files of csrc/ with these endings, relative to the project's root, in a fixed order."""
    return sorted(os.path.relpath(path, ROOT) for ending in endings for path in glob.glob(os.path.join(CSRC, "*" + ending)))


def builder(name, flags=(), defines=()):
    """Return the cffi builder of one extension module."""
    ffi = cffi.FFI()
    ffi.cdef(declarations(*defines))
    extra = shlex.split(os.environ.get("DARKNETPY_CFLAGS", ""))   # the sanitizer and coverage builds of the Makefile
    ffi.set_source(name, '#include "darknet.h"', sources=sources(".c"), depends=sources(".h", ".def"),
                   include_dirs=["csrc"],
                   extra_compile_args=[*COMPILE, *flags, *extra], extra_link_args=LINK + extra, py_limited_api=True)
    return ffi


ffi = builder("darknetpy._darknet")
ffi_double = builder("darknetpy._darknet_double", DOUBLE, ["DARKNET_DOUBLE"])
