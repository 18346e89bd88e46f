"""``darknetpy info``: versions, threads, SIMD level, devices, CUDA kernels and NVIDIA's libraries."""
from __future__ import annotations

import importlib.metadata
import platform

import darknetpy
from darknetpy import gpu, gpu_libraries
from darknetpy.cli.common import print_json
from darknetpy.core import core
from darknetpy.paths import cfg_folder
from darknetpy.threads import available_cpus

_PACKAGES = ("numpy", "cffi", "Pillow", "rich", "matplotlib", "pycuda")


def add_parser(subparsers):
    """Add the command to the command line's parser and return its own parser."""
    parser = subparsers.add_parser(
        "info", help="versions, threads, SIMD level, devices, CUDA kernels, NVIDIA's libraries",
        description="Print what darknetpy runs on; please add it to reports of faults.", epilog="example: darknetpy info --json")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(run=run)
    return parser


def run(args):
    """Run the command; returns the exit status."""
    facts = collect()
    if args.json:
        print_json(facts)
        return 0
    packages = facts.pop("packages")
    facts["devices"] = ", ".join(facts["devices"])
    built = [target for target in facts["cuda_kernels"].values() if target]
    facts["cuda_kernels"] = ", ".join(built) or "not built (make cuda; make cuda-emulated)"
    facts.update(facts.pop("gpu_libraries"))
    lines = {**facts, **{name: version or "not installed" for name, version in packages.items()}}
    width = max(map(len, lines))
    for name, value in lines.items():
        print(f"{name.replace('_', ' '):{width}}  {value}")
    return 0


def collect():
    """Return the facts as a dict."""
    from darknetpy.bench.machine import processor_name

    return {
        "darknetpy": darknetpy.__version__, "python": platform.python_version(), "system": platform.platform(),
        "processor": processor_name(), "cpus": available_cpus(), "threads": darknetpy.get_num_threads(),
        "simd": core.ffi.string(core.lib.dn_simd_level()).decode(),
        "devices": ["cpu", *gpu.devices()], "cuda_kernels": gpu.builds(),
        "gpu_libraries": gpu_libraries.describe(), "cfgs": cfg_folder(),
        "packages": {name: _version(name) for name in _PACKAGES},
    }


def _version(name):
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None
