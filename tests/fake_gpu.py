"""A GPU for tests: a driver that gives PyCUDA host memory, and PyTorch's CPU under the name of one."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess

import pytest
from cuda_calls import library

from darknetpy.gpu_libraries import VARIABLE

TESTS = os.path.dirname(os.path.abspath(__file__))
# Read by every Python process of a test: the library of nvcc is the emulated one.
_SITE = """
import importlib, importlib.util, sys
class Loader:
    def create_module(self, spec): return importlib.import_module("darknetpy._darknet_cuda_emulated")
    def exec_module(self, module): pass
class Finder:
    def find_spec(self, name, path=None, target=None):
        return importlib.util.spec_from_loader(name, Loader()) if name == "darknetpy._darknet_cuda" else None
sys.meta_path.insert(0, Finder())
"""
# Hides darknetpy/bench/torch_device.py.
_TORCH = """
import time
import torch
class Device(str):
    type = "cuda"
class Marks:
    def __init__(self, count): self._times = [None] * count
    def set(self, i): self._times[i] = time.perf_counter()
    def seconds(self): return [other - one for one, other in zip(self._times, self._times[1:])]
    def free(self): pass
def use_gpu(name, precision="fp32"):
    return torch.device("cpu") if name == "cpu" else Device("cpu")
def describe(device, precision="fp32"):
    return "PyTorch" if device.type == "cpu" else "PyTorch on a fake, " + {"fp32": "float32 without TF32"}.get(precision, precision)
def mixed(device, precision):
    return torch.autocast("cpu", torch.bfloat16, enabled=device.type != "cpu" and precision == "bf16")
def scaler(device, precision):
    return torch.amp.GradScaler("cpu", enabled=False)
torch.cuda.synchronize = lambda: None
torch.cuda.max_memory_reserved = lambda device: 12345678
torch.Tensor.pin_memory = lambda tensor: tensor
"""


def make_driver(folder):
    """Return a folder with libcuda.so.1: fake_driver.c, and an entry that refuses (801) for every other name that PyCUDA wants.

    Skips the test without PyCUDA, gcc or nm.
    """
    spec = importlib.util.find_spec("pycuda")
    if spec is None or not shutil.which("gcc") or not shutil.which("nm"):
        pytest.skip("PyCUDA, gcc or nm is not installed: the GPU's side of Python is not tested")
    library()
    home = spec.submodule_search_locations[0]
    binary = next(os.path.join(home, name) for name in os.listdir(home) if name.startswith("_driver."))
    wanted = subprocess.run(["nm", "-D", "--undefined-only", binary], capture_output=True, text=True, check=True).stdout
    with open(os.path.join(TESTS, "fake_driver.c")) as file:
        code = file.read()
    here = set(re.findall(r"^int (cu\w+)\(", code, re.MULTILINE))
    rest = sorted(set(re.findall(r" (cu[A-Z]\w*)$", wanted, re.MULTILINE)) - here)
    (folder / "driver.c").write_text(code + "".join(f"int {name}(void) {{ return 801; }}\n" for name in rest))
    subprocess.run(["gcc", "-shared", "-fPIC", "-O1", "-Wl,-soname,libcuda.so.1", "driver.c", "-o", "libcuda.so.1"], cwd=folder, check=True)
    return folder


def environment(folder, torch=False):
    """Return the variables under which every process has the GPU of a driver's folder; with `torch` PyTorch too."""
    (folder / "site").mkdir(exist_ok=True)
    (folder / "site" / "sitecustomize.py").write_text(_SITE)
    if torch:
        (folder / "site" / "torch_device.py").write_text(_TORCH)
    path = os.pathsep.join(filter(None, [str(folder / "site"), os.environ.get("PYTHONPATH")]))
    # NVIDIA's own libraries, where they are installed, would look for NVIDIA's driver.
    return {"LD_LIBRARY_PATH": str(folder), "PYTHONPATH": path, VARIABLE: "none"}
