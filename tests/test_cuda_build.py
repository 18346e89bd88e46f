"""What nvcc makes of cuda/: every kernel for sm_90 and as PTX, warnings as errors; and the library where there is no driver."""

from __future__ import annotations

import importlib.machinery
import importlib.util
import os
import re
import shutil

import pytest
from cuda_calls import NAMES, ON_GPU, build_module, library
from twin import CSRC, ROOT

from darknetpy import gpu
from darknetpy.core import core

CUDA = os.path.join(ROOT, "cuda")
build = build_module()
needs_nvcc = pytest.mark.skipif(shutil.which(build.nvcc()[0]) is None, reason="nvcc is not installed: cuda/ is tested emulated only")


def _text(path):
    with open(path) as file:
        return file.read()


@needs_nvcc
def test_no_kernel_spills_registers():
    found = build.resources()
    assert len(found) > len(NAMES)
    assert [row for row in found if row[3] or row[4]] == []


@needs_nvcc
def test_products_compile_where_tensor_cores_know_less():
    """tensor_cores.cuh for sm_75, which has halves only, and for sm_80."""
    assert build.compile_all([*build.nvcc(), *build.NVCC, *build.INCLUDE, *build.targets(["75", "80"])], [os.path.join(CUDA, "gemm.cu")])


@needs_nvcc
def test_library_says_that_there_is_no_gpu(tmp_path):
    """It is linked and imported without a driver; the first call fails, with a status and a reason."""
    objects, path = build.cuda_objects(["90"]), str(tmp_path / "_darknet_cuda.abi3.so")
    build._link("_darknet_cuda", objects, build.cuda_link_flags(), path)
    loader = importlib.machinery.ExtensionFileLoader("darknetpy._darknet_cuda", path)
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader("darknetpy._darknet_cuda", loader))
    loader.exec_module(module)
    lib = module.lib
    assert re.fullmatch(r"CUDA \d+\.\d+", core.ffi.string(lib.dn_gpu_target()).decode())
    memory = lib.dn_gpu_allocate(64)
    if memory != core.ffi.NULL:
        lib.dn_gpu_release(memory)
        pytest.skip("a GPU is here")
    assert lib.dn_gpu_status() == core.lib.DN_ERR_DEVICE
    assert core.ffi.string(lib.dn_gpu_last_error()).decode().startswith("64 bytes of device memory: ")
    lib.dn_gpu_set_backwards(1)


def test_architectures_can_be_chosen(monkeypatch):
    monkeypatch.setenv("CUDA_ARCHS", "120 90a")
    assert build.architectures() == ["90a", "120"]
    assert build.targets(["90a", "120"])[-1] == "arch=compute_120,code=compute_120"
    monkeypatch.setenv("CUDA_ARCHS", "90 hopper")
    with pytest.raises(build.BuildError, match="CUDA_ARCHS=90 hopper: wanted numbers such as 90, got hopper"):
        build.architectures()


def test_missing_compiler_is_named(monkeypatch):
    monkeypatch.setenv("NVCC", "no-such-nvcc")
    monkeypatch.delenv("CUDA_ARCHS", raising=False)
    with pytest.raises(build.BuildError, match="no-such-nvcc: not found"):
        build.architectures()


def test_files_are_twins():
    """Every file of csrc/ that has kernels has one of the same stem in cuda/, with the same kernels in the same order."""
    bodies = {path: _text(os.path.join(CSRC, path)) for path in os.listdir(CSRC) if path.endswith(".c")}
    for name, text in bodies.items():
        here = [NAMES[kernel] for kernel in re.findall(r"^(?:MULTIVERSION )?void (\w+)\(", text, re.MULTILINE) if kernel in NAMES]
        if here:
            twin = _text(os.path.join(CUDA, name[:-2] + ".cu"))
            assert [kernel for kernel in re.findall(r"^void (\w+_gpu)\(", twin, re.MULTILINE) if kernel in here] == here, name


def test_kernels_leave_printing_and_exits_to_others():
    for name in os.listdir(CUDA):
        if name.endswith((".cu", ".cuh", ".cpp", ".h")):
            code = re.sub(r'/\*.*?\*/|"(?:\\.|[^"\\])*"', " ", _text(os.path.join(CUDA, name)), flags=re.DOTALL)
            assert not re.findall(r"\b(v?f?printf|puts|perror|exit|abort|atomic\w+)\s*\(", code), name
            assert _text(os.path.join(CUDA, name)).count("\n") <= 600


def test_libraries_say_what_they_are(monkeypatch):
    assert ON_GPU or core.ffi.string(library().dn_gpu_target()) == b"emulated"
    monkeypatch.setitem(gpu.MODULES, "cuda", "darknetpy.no_such_module")
    assert gpu.builds()["cuda"] is None
