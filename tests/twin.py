"""The float64 twin: the package's own C sources compiled with double, so that a gradient check means 1e-7 and not 1e-2.

The package carries such a core too (darknetpy._darknet_double, for `darknetpy gradcheck`); this one is of the checkout's sources, and
has the kernels' asserts on.  The library is made once per state of the sources and kept under build/twin, by a digest of everything
that goes into it.
"""

from __future__ import annotations

import concurrent.futures
import functools
import hashlib
import importlib.util
import os
import shutil
import subprocess
import tempfile
import time

import cffi
import numpy as np

from darknetpy.core import Core

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
CSRC = os.path.join(ROOT, "csrc")
CACHE = os.path.join(ROOT, "build", "twin")
# -UNDEBUG: the asserts of the kernels run. Plain code is what is wanted here, so little is optimized.
COMPILE = ["-std=gnu11", "-O1", "-fopenmp", "-fPIC", "-fvisibility=default", "-UNDEBUG", "-DDARKNET_DOUBLE"]
A_DAY = 24 * 3600


@functools.lru_cache(maxsize=1)
def _build_ffi():
    """The build module of this checkout, wherever the package under test is installed."""
    spec = importlib.util.spec_from_file_location(
        "_build_ffi_of_the_checkout", os.path.join(ROOT, "darknetpy", "_build_ffi.py")
    )
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _names(*suffixes):
    return sorted(name for name in os.listdir(CSRC) if name.endswith(suffixes))


def _digest(compiler):
    digest = hashlib.sha256(repr((compiler, COMPILE)).encode())
    for name in _names(".c", ".h", ".def"):
        with open(os.path.join(CSRC, name), "rb") as file:
            digest.update(name.encode() + b"\0" + file.read())
    return digest.hexdigest()[:16]


def _run(command):
    result = subprocess.run(command, capture_output=True, text=True)
    if result.returncode:
        raise RuntimeError(f"{' '.join(command)}\n{result.stderr}")


def _compile(compiler, folder):
    def one(name):
        target = os.path.join(folder, name[:-2] + ".o")
        _run([*compiler, *COMPILE, "-c", os.path.join(CSRC, name), "-o", target])
        return target

    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        objects = list(pool.map(one, _names(".c")))
    _run([*compiler, "-shared", "-fopenmp", "-o", os.path.join(folder, "twin.so"), *objects, "-lm"])
    with open(os.path.join(folder, "twin.h"), "w") as file:
        file.write(_build_ffi().declarations("DARKNET_DOUBLE"))
    for path in objects:
        os.remove(path)


def _sweep():
    """Remove the libraries of sources that have not been tested for a day."""
    for name in os.listdir(CACHE):
        folder = os.path.join(CACHE, name)
        if time.time() - os.stat(folder).st_mtime > A_DAY:
            shutil.rmtree(folder, ignore_errors=True)


def _built():
    """Return the folder with twin.so and twin.h, made now if need be; a run beside this one may make the same."""
    compiler = _build_ffi().compiler()
    folder = os.path.join(CACHE, _digest(compiler))
    if not os.path.isdir(folder):
        os.makedirs(CACHE, exist_ok=True)
        _sweep()
        work = tempfile.mkdtemp(dir=CACHE)
        _compile(compiler, work)
        try:
            os.rename(work, folder)
        except OSError:
            shutil.rmtree(work)
    return folder


@functools.lru_cache(maxsize=1)
def twin():
    """Return the float64 core: ``Layer(..., core=twin())``, ``Network(..., core=twin())``, ``load_network(..., core=twin())``."""
    folder, ffi = _built(), cffi.FFI()
    with open(os.path.join(folder, "twin.h")) as file:
        ffi.cdef(file.read())
    core = Core(ffi.dlopen(os.path.join(folder, "twin.so")), ffi, np.float64)
    core.lib.dn_set_num_threads(1)
    return core
