"""NVIDIA's cuBLASLt and cuDNN themselves: our declarations beside their headers; the libraries opened; kernels and networks on a GPU.

What is not installed is skipped, and so is what needs a GPU (DARKNETPY_TEST_DEVICE=gpu).
"""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess

import pytest
import test_device
from cuda_calls import ON_GPU, build_module, compare, library
from fake_libraries import CUDA
from test_gpu_libraries import CONVOLUTIONS, PRODUCTS
from twin import CSRC

from darknetpy import gpu, gpu_libraries


def headers():
    """The folders with cublasLt.h, cudnn.h and cuda_runtime_api.h; None where one of them is missing."""
    spec = importlib.util.find_spec("nvidia")
    folders = [os.path.join(root, one, "include") for root in (spec.submodule_search_locations if spec else ()) for one in os.listdir(root)]
    build = build_module()
    if shutil.which(build.nvcc()[0]):
        folders.append(os.path.join(build.cuda_link_flags()[0][2:], "..", "include"))
    files = ("cublasLt.h", "cudnn.h", "cuda_runtime_api.h")
    return folders if all(any(os.path.exists(os.path.join(folder, file)) for folder in folders) for file in files) else None


ALIKE = """
#include "{ours}"
#include <cublasLt.h>
#include <cudnn.h>
#include <type_traits>
/* Do both travel between functions in the same way? An enum as an int, whatever a pointer points to. */
template <class A, class B> constexpr bool alike()
{{
    return sizeof(A) == sizeof(B) && std::is_pointer<A>::value == std::is_pointer<B>::value &&
           std::is_floating_point<A>::value == std::is_floating_point<B>::value;
}}
template <> constexpr bool alike<void, void>() {{ return true; }}
template <class A, class B> struct same_call {{ static constexpr bool value = false; }};
template <class R, class... A, class S, class... B> struct same_call<R (*)(A...), S (*)(B...)>
{{
    template <class X, class Y> struct lists {{ static constexpr bool value = false; }};
    template <class... X> struct list {{}};
    template <class... X, class... Y> struct lists<list<X...>, list<Y...>> {{ static constexpr bool value = (alike<X, Y>() && ...); }};
    static constexpr bool count = sizeof...(A) == sizeof...(B);
    static constexpr bool value = alike<R, S>() && lists<std::conditional_t<count, list<A...>, list<>>, list<B...>>::value;
}};
#define FIELD(ours, our, theirs, their) static_assert(offsetof(ours, our) == offsetof(theirs, their) && \\
    sizeof(ours::our) == sizeof(theirs::their) && sizeof(ours) == sizeof(theirs), #ours "." #our)
{checks}
"""
FIELDS = {
    "dn_cublas_choice": (["cublasLtMatmulHeuristicResult_t"], {"algorithm": "algo", "workspace": "workspaceSize", "status": "state",
                                                               "waves": "wavesCount", "reserved": "reserved"}),
    "dn_cublas_algorithm": (["cublasLtMatmulAlgo_t"], {"data": "data"}),
    "dn_cudnn_choice": ([f"cudnnConvolution{one}AlgoPerf_t" for one in ("Fwd", "BwdData", "BwdFilter")],
                        {"algorithm": "algo", "status": "status", "time": "time", "workspace": "memory", "determinism": "determinism",
                         "math": "mathType", "reserved": "reserved"}),
}


def checks():
    """One line of C++ for each constant, function and field that we declare."""
    with open(os.path.join(CUDA, "libraries.h")) as file:
        constants = re.findall(r"^    DN_(\w+) = ", file.read(), re.MULTILINE)
    lines = [f"static_assert((int)DN_{name} == (int){name}, \"{name}\");" for name in constants]
    for table in ("cublas", "cudnn"):
        with open(os.path.join(CUDA, f"{table}.def")) as file:
            names = re.findall(r"^FUNCTION\([^,]+, (\w+), ", file.read(), re.MULTILINE)
        assert len(names) > 8
        lines += [f'static_assert(same_call<decltype(dn_{table}::{name}), decltype(&{name})>::value, "{name}");' for name in names]
    lines += [f"FIELD({ours}, {our}, {theirs}, {their});" for ours, (types, fields) in FIELDS.items() for theirs in types
              for our, their in fields.items()]
    return lines


def test_declarations_are_nvidias(tmp_path):
    folders = headers()
    if folders is None or not shutil.which("g++"):
        pytest.skip("cublasLt.h, cudnn.h or cuda_runtime_api.h (nvidia-cublas, nvidia-cudnn-cu13, nvcc) or g++ is not installed: "
                    "cuda/libraries.h is not compared with NVIDIA's headers")
    lines = checks()
    source = tmp_path / "alike.cpp"
    source.write_text(ALIKE.format(ours=os.path.join(CUDA, "libraries.h"), checks="\n".join(lines)))
    include = [f"-I{folder}" for folder in (CSRC, *folders)]
    done = subprocess.run(["g++", "-std=c++17", "-fsyntax-only", "-Wno-deprecated-declarations", *include, str(source)],
                          capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert len(lines) > 50


def installed(known):
    """NVIDIA's library itself."""
    library()
    opened, problem = gpu_libraries.find(known)
    if opened is None and problem is None:
        pytest.skip(f"{known.title} is not installed ({known.package}): only fakes of it are tested")
    assert problem is None
    return opened


@pytest.mark.parametrize("known", gpu_libraries.LIBRARIES, ids=lambda one: one.name)
def test_nvidias_libraries_are_opened(known):
    """Neither a driver nor a GPU is needed to look at them, and every function that we call is there."""
    opened = installed(known)
    assert int(opened.version.split(".")[0]) >= known.oldest
    module = importlib.import_module(gpu.MODULES["cuda" if ON_GPU else "emulated"])
    functions = gpu_libraries.table(module, opened)
    assert all(getattr(functions, name) for name, _ in module.ffi.typeof(functions).item.fields)


@pytest.fixture
def nvidias():
    """The GPU's kernels use NVIDIA's libraries; they stop to."""
    if not ON_GPU:
        pytest.skip("without a GPU NVIDIA's libraries compute nothing")
    module = importlib.import_module(gpu.MODULES["cuda"])
    for known in gpu_libraries.LIBRARIES:
        gpu_libraries.hand_over(module, installed(known))
    yield
    module.lib.dn_gpu_use_cublas(module.ffi.NULL)
    module.lib.dn_gpu_use_cudnn(module.ffi.NULL)


def test_nvidias_kernels_agree_with_the_cpu(nvidias):
    for name, case in [*PRODUCTS, *CONVOLUTIONS]:
        compare(name, case, atol=1e-5)      # of values about 1, as networks are held to


@pytest.mark.parametrize("name", ["classifier", "yolo", "recurrent"])
def test_networks_train_by_nvidias_kernels(name, nvidias, tmp_path, rng):
    test_device.test_networks_train_as_on_the_cpu(name, False, tmp_path, rng)
