"""The machine a benchmark ran on, in a few words."""
from __future__ import annotations

import os
import platform

import numpy as np

from darknetpy.bench.process import Process
from darknetpy.core import core
from darknetpy.threads import available_cpus


def machine_facts(threads):
    """Return processor, SIMD level, memory, versions, what others are doing and the machine's limits as a dict of text."""
    load = os.getloadavg()[0]
    with Process("limits", {"threads": threads}) as program:
        limits = program.ask("limits", seconds=.3)
    return {"processor": processor_name(), "CPUs": str(available_cpus()),
            "SIMD level": core.ffi.string(core.lib.dn_simd_level()).decode(), "memory": f"{_memory() / 1e9:.0f} GB",
            "load before the start": f"{load:.1f} of the last minute",
            f"SGEMM, {threads} threads": f"{limits['sgemm_gflops']:.0f} GFLOP/s (numpy, 1024^3)",
            "copy, 1 thread": f"{limits['copy_gbs']:.0f} GB/s read and written",
            "system": platform.platform(), "Python": platform.python_version(), "numpy": np.__version__}


def processor_name():
    """Return what the processor calls itself."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as file:
            return next(line.partition(":")[2].strip() for line in file if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def _memory():
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def cache_bytes():
    """Return the size of the last-level cache, 0 if the system does not tell."""
    folder = "/sys/devices/system/cpu/cpu0/cache"
    sizes = [0]
    for name in os.listdir(folder) if os.path.isdir(folder) else ():
        try:
            with open(os.path.join(folder, name, "size")) as file:
                sizes.append(int(file.read().strip().rstrip("K")) * 1024)
        except (OSError, ValueError):
            continue            # an entry without a size
    return max(sizes)
