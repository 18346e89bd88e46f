"""Whether kernels can be built for a device and run there, before minutes are spent: silent, or one line and exit status 1.

    python cuda/ready.py gpu                    # or gpu:1, emulated
    python cuda/ready.py gpu --arch             # prints its architecture as CUDA_ARCHS wants it: 90
    python cuda/ready.py gpu --environment DIR  # makes DIR, an environment that has this Python's packages too

Needs Python's own library alone.
"""

from __future__ import annotations

import argparse
import ctypes
import os
import re
import shlex
import shutil
import subprocess
import sys
import venv

_MAJOR, _MINOR = 75, 76  # the driver's numbers of a GPU's compute capability


class NotReady(Exception):
    """What is missing."""


def architecture(number):
    """Return the architecture of a GPU, ``"90"``."""
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        raise NotReady("no NVIDIA driver here (libcuda.so.1 is not found)") from None
    count, part = ctypes.c_int(), ctypes.c_int()
    status = driver.cuInit(0) or driver.cuDeviceGetCount(ctypes.byref(count))
    if status or not count.value:
        raise NotReady(f"the NVIDIA driver has no GPU here (its status: {status})")
    if number >= count.value:
        raise NotReady(f"the NVIDIA driver has {count.value} GPU(s), gpu:0 to gpu:{count.value - 1}")
    found = ""
    for attribute in (_MAJOR, _MINOR):
        driver.cuDeviceGetAttribute(ctypes.byref(part), attribute, number)
        found += str(part.value)
    return found


def check(device):
    """Return the architecture of a device, "" of the emulated one.

    Raises
    ------
    NotReady
        It is not there, or its compiler is not.
    """
    match = re.fullmatch(r"emulated|gpu(?::([0-9]{1,2}))?", device)
    if match is None:
        raise NotReady("wanted gpu, gpu:1 (the second) or emulated")
    if device == "emulated":
        _require(shlex.split(os.environ.get("CXX") or "g++")[0])
        return ""
    found = architecture(int(match[1] or 0))
    _require(shlex.split(os.environ.get("NVCC") or "nvcc")[0], "/usr/local/cuda/bin/nvcc")
    return found


def _require(compiler, usual=None):
    if not shutil.which(compiler) and not (usual and os.path.exists(usual)):
        raise NotReady(f"{compiler} is not installed, which compiles the kernels")


def make_environment(folder):
    """Make a virtual environment in which packages of this Python count as installed, and pip runs."""
    venv.create(folder, clear=True)
    python = os.path.join(folder, "bin", "python")
    script = "import sysconfig; print(sysconfig.get_path('purelib'))"
    where = subprocess.run([python, "-c", script], capture_output=True, text=True, check=True)
    own = [path for path in sys.path if os.path.basename(path) in ("site-packages", "dist-packages")]
    with open(os.path.join(where.stdout.strip(), "outer.pth"), "w") as file:
        file.write("".join(f"{path}\n" for path in own))
    if subprocess.run([python, "-m", "pip", "--version"], capture_output=True).returncode:
        subprocess.run([python, "-m", "ensurepip", "-q"], check=True)


def main():
    """Run the command line; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("device")
    parser.add_argument("--arch", action="store_true", help="print the GPU's architecture")
    parser.add_argument("--environment", metavar="DIR", help="make a virtual environment there")
    args = parser.parse_args()
    try:
        found = check(args.device)
    except NotReady as error:
        print(f"DEVICE={args.device}: {error}", file=sys.stderr)
        return 1
    if args.environment:
        make_environment(args.environment)
    if args.arch:
        print(found)
    return 0


if __name__ == "__main__":
    sys.exit(main())
