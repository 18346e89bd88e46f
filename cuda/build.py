"""Builds the GPU library: with nvcc darknetpy/_darknet_cuda, or with g++ over emulator.h _darknet_cuda_emulated.

    python cuda/build.py                 # what `make cuda` runs; CUDA_ARCHS="90 120" names other architectures than all
    python cuda/build.py --emulated
    python cuda/build.py --resources     # prints each kernel's registers and spills, builds nothing

Both have the face of cuda/darknet_cuda.h and import like any module. Objects are kept in build/cuda by a digest of what
goes into them, so that only what changed is compiled again.
"""
from __future__ import annotations

import argparse
import concurrent.futures
import filecmp
import functools
import glob
import hashlib
import importlib.util
import os
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tempfile

import cffi
import cffi.recompiler

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
CUDA, CSRC = os.path.join(ROOT, "cuda"), os.path.join(ROOT, "csrc")
CACHE = os.path.join(ROOT, "build", "cuda")
OLDEST = 75   # Turing: nvcc 13 knows no older one
INCLUDE = [f"-I{CUDA}", f"-I{CSRC}"]
EMULATED = ["-std=c++17", "-O2", "-fPIC", "-fvisibility=hidden", "-Wall", "-Wextra", "-Wno-unknown-pragmas"]
NVCC = ["-std=c++17", "-O3", "-Werror", "all-warnings", "-Xcompiler", "-fPIC,-fvisibility=hidden,-Wall,-Wextra", "-Xptxas", "-v"]


class BuildError(Exception):
    """A compiler is missing or has refused a file."""


def build_ffi():
    """Return darknetpy's own build module, from this checkout."""
    spec = importlib.util.spec_from_file_location("_build_ffi_of_cuda", os.path.join(ROOT, "darknetpy", "_build_ffi.py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def run(command):
    """Run a compiler; return what it says on stderr."""
    try:
        result = subprocess.run(command, capture_output=True, text=True)
    except FileNotFoundError:
        raise BuildError(f"{command[0]}: not found") from None
    if result.returncode:
        raise BuildError(f"{shlex.join(command)}\n{result.stdout}{result.stderr}")
    return result.stderr + result.stdout


def sources(*endings):
    """Return the files of cuda/ with these endings, in a fixed order."""
    return sorted(path for ending in endings for path in glob.glob(os.path.join(CUDA, "*" + ending)))


def cxx():
    """Return the C++ compiler's command as a list: $CXX, else g++."""
    return shlex.split(os.environ.get("CXX") or "g++")


def nvcc():
    """Return nvcc's command as a list: $NVCC, else the one on the PATH, else CUDA's usual place."""
    usual = "/usr/local/cuda/bin/nvcc"
    return shlex.split(os.environ.get("NVCC") or shutil.which("nvcc") or (usual if os.path.exists(usual) else "nvcc"))


def architectures():
    """Return the numbers of CUDA_ARCHS ("90 120"), else all that nvcc knows from OLDEST on."""
    asked = os.environ.get("CUDA_ARCHS", "").replace(",", " ").split()
    wrong = [text for text in asked if not re.fullmatch(r"\d+a?", text)]
    if wrong:
        raise BuildError(f"CUDA_ARCHS={' '.join(asked)}: wanted numbers such as 90, got {wrong[0]}")
    known = asked or [text for text in re.findall(r"sm_(\d+)$", run([*nvcc(), "--list-gpu-code"]), re.MULTILINE)
                      if int(text) >= OLDEST]
    return sorted(known, key=lambda text: int(text.rstrip("a")))


def targets(found):
    """Return nvcc's options for machine code of these architectures, and PTX of the last for those to come."""
    codes = [option for text in found for option in ("-gencode", f"arch=compute_{text},code=sm_{text}")]
    return [*codes, "-gencode", f"arch=compute_{found[-1]},code=compute_{found[-1]}"]


@functools.cache
def _included(path):
    """Return this file and all that it includes of ours."""
    with open(path) as file:
        names = re.findall(r'^#include "([^"]+)"', file.read(), re.MULTILINE)
    near = [os.path.join(folder, name) for name in names for folder in (os.path.dirname(path), CUDA, CSRC)]
    return {path}.union(*(_included(name) for name in near if os.path.exists(name)))


def _digest(command, path):
    digest = hashlib.sha256(repr(command).encode())
    for name in sorted(_included(path)):
        with open(name, "rb") as file:
            digest.update(name.encode() + b"\0" + file.read())
    return digest.hexdigest()[:16]


def compile_all(command, paths, language=()):
    """Compile the files side by side; return their objects, beside each a .txt of what the compiler said."""
    os.makedirs(CACHE, exist_ok=True)

    def one(path):
        target = os.path.join(CACHE, f"{os.path.basename(path)}-{_digest(command, path)}.o")
        if not os.path.exists(target):
            with tempfile.TemporaryDirectory(dir=CACHE) as folder:
                made = os.path.join(folder, "one.o")
                said = run([*command, *language, "-c", path, "-o", made])
                with open(target + ".txt", "w") as file:
                    file.write(said)
                os.replace(made, target)
        return target

    with concurrent.futures.ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        return list(pool.map(one, paths))


def _link(name, objects, flags, target):
    """Make the Python module darknetpy.<name> of compiled kernels."""
    make = build_ffi()
    ffi, shared = cffi.FFI(), make.declarations()
    whole = make.declarations(header="cuda/darknet_cuda.h")
    if not whole.startswith(shared):
        raise BuildError("darknet_cuda.h does not begin with darknet.h")
    ffi.include(make.ffi)     # the types are the core's, so that its structs can be handed over
    ffi.cdef(whole[len(shared):])
    with tempfile.TemporaryDirectory(dir=CACHE) as folder:
        glue, made = os.path.join(folder, name + ".c"), os.path.join(folder, "made.so")
        cffi.recompiler.make_c_source(ffi, f"darknetpy.{name}", '#include "darknet_cuda.h"', glue)
        python = ["-I" + sysconfig.get_path("include"), "-DPy_LIMITED_API=0x03090000"]
        run([*make.compiler(), *INCLUDE, *python, "-O1", "-fPIC", "-c", glue, "-o", glue + ".o"])
        run([*cxx(), "-shared", "-o", made, glue + ".o", *objects, *flags])
        os.replace(made, target)


def link(name, objects, flags):
    """Link what has not been linked yet, and put it into the package; return the module's path."""
    digest = hashlib.sha256(repr((objects, flags)).encode())
    for path in (__file__, os.path.join(ROOT, "darknetpy", "_build_ffi.py")):
        with open(path, "rb") as file:
            digest.update(file.read())
    kept = os.path.join(CACHE, f"{name}-{digest.hexdigest()[:16]}.so")
    target = os.path.join(ROOT, "darknetpy", name + ".abi3.so")
    if not os.path.exists(kept):
        _link(name, objects, flags, kept)
    if not os.path.exists(target) or not filecmp.cmp(kept, target, shallow=False):
        copy = f"{target}.{os.getpid()}"
        shutil.copyfile(kept, copy)
        os.replace(copy, target)
    return target


def build_emulated():
    """Build darknetpy._darknet_cuda_emulated; return its path."""
    objects = compile_all([*cxx(), *EMULATED, *INCLUDE], sources(".cu", ".cpp"), ["-x", "c++"])
    return link("_darknet_cuda_emulated", objects, ["-pthread"])


def cuda_objects(found=None):
    """Compile the kernels with nvcc for these architectures, or all; return their objects."""
    return compile_all([*nvcc(), *NVCC, *INCLUDE, *targets(found or architectures())], sources(".cu"))


def cuda_link_flags():
    """Return what the linker wants for the runtime library, which becomes part of ours."""
    said = run([*nvcc(), "-dryrun", "-E", "-x", "cu", os.devnull])
    top = re.search(r"TOP=(\S+)", said)
    folder = os.path.normpath(os.path.join(top[1] if top else "/usr/local/cuda", "lib64"))
    return [f"-L{folder}", "-lcudart_static", "-ldl", "-lrt", "-pthread"]


def build_cuda():
    """Build darknetpy._darknet_cuda; return its path."""
    return link("_darknet_cuda", cuda_objects(), cuda_link_flags())


def resources(arch="90"):
    """Return [(kernel, registers, bytes of stack, of spilled stores, of spilled loads, of shared memory)]."""
    said = ""
    for path in cuda_objects([arch]):
        with open(path + ".txt") as file:
            said += file.read()
    pattern = (r"Compiling entry function '(\w+)'.*?(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads"
               r".*?Used (\d+) registers(.*?)$")
    found = []
    for name, stack, stores, loads, registers, rest in re.findall(pattern, said, re.DOTALL | re.MULTILINE):
        shared = re.search(r"(\d+) bytes smem", rest)
        found.append((name, int(registers), int(stack), int(stores), int(loads), int(shared[1]) if shared else 0))
    names = run(["c++filt", *(row[0] for row in found)]).splitlines()
    return sorted((re.sub(r"^void |\(.*", "", name), *row[1:]) for name, row in zip(names, found))


def main():
    """Build what the command line asks for; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--emulated", action="store_true", help="with g++, to run on the CPU")
    what.add_argument("--resources", action="store_true", help="print registers and spills of each kernel for sm_90")
    args = parser.parse_args()
    try:
        if args.resources:
            print(f"{'registers':>9} {'stack':>6} {'stores':>6} {'loads':>6} {'shared':>6}  kernel (bytes; sm_90)")
            for name, *figures in resources():
                print("{:9} {:6} {:6} {:6} {:6}  ".format(*figures) + name)
        else:
            print(os.path.relpath(build_emulated() if args.emulated else build_cuda(), ROOT))
    except BuildError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
