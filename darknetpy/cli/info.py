"""``darknetpy info``: versions, threads, SIMD level, devices, CUDA kernels and NVIDIA's libraries."""
from __future__ import annotations

import importlib.metadata
import platform

import numpy as np

import darknetpy
from darknetpy import gpu, gpu_libraries
from darknetpy.builder import load_network
from darknetpy.cfg import parse_cfg
from darknetpy.cli import common
from darknetpy.cli.common import print_json
from darknetpy.core import core
from darknetpy.errors import ArgumentError
from darknetpy.graphs import NONE_ON_CPU, graph_lines
from darknetpy.paths import cfg_folder, find_cfg
from darknetpy.sections import resolve
from darknetpy.threads import available_cpus

_PACKAGES = ("numpy", "cffi", "Pillow", "rich", "matplotlib", "pycuda")


def add_parser(subparsers):
    """Add the command to the command line's parser and return its own parser."""
    parser = subparsers.add_parser(
        "info", help="versions, threads, SIMD level, devices, CUDA kernels, NVIDIA's libraries",
        description="Print what darknetpy runs on; please add it to reports of faults.  With CFG also which passes of the network are one "
                    "CUDA graph on a device, and why others are not: it trains four mini-batches of noise there.",
        epilog="example: darknetpy info --json")
    parser.add_argument("cfg", metavar="CFG", nargs="?", help=common.CFG_HELP)
    common.add_device_option(parser)
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(run=run)
    return parser


def run(args):
    """Run the command; returns the exit status."""
    if args.cfg is None and (args.device != "cpu" or args.no_graph):
        option = "--no-graph" if args.no_graph else f"--device {args.device}"
        raise ArgumentError(f"{option} without CFG: wanted a network to run there")
    facts = collect()
    if args.cfg is not None:
        facts["graphs"] = graphs(args)
    if args.json:
        print_json(facts)
        return 0
    packages, of_passes = facts.pop("packages"), facts.pop("graphs", [])
    facts["devices"] = ", ".join(facts["devices"])
    built = [target for target in facts["cuda_kernels"].values() if target]
    facts["cuda_kernels"] = ", ".join(built) or "not built (make cuda; make cuda-emulated)"
    facts.update(facts.pop("gpu_libraries"))
    lines = {**facts, **{name: version or "not installed" for name, version in packages.items()}}
    width = max(map(len, lines))
    for name, value in lines.items():
        print(f"{name.replace('_', ' '):{width}}  {value}")
    for line in of_passes:
        print(line)
    return 0


def graphs(args):
    """Return what becomes of the passes of a network on a device, a line each."""
    if args.device == "cpu":
        resolve(parse_cfg(find_cfg(args.cfg)), lenient=True)      # a mistake in it is one here, too
        return [NONE_ON_CPU]
    net = load_network(args.cfg, device=args.device, train=True, lenient=True, keep_activations=False)
    net.graph = not args.no_graph
    x = np.random.default_rng(0).standard_normal((net.batch, net.inputs), np.float32)
    for _ in range(4):
        if net.truths:
            net.train_batch(x, np.zeros((net.batch, net.truths), np.float32))
        else:
            net.predict(x)
    return graph_lines(net)


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
