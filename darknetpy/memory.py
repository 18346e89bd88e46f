"""How much memory this process may still take."""
from __future__ import annotations

import os


def available_bytes():
    """Return the bytes that can be allocated now: the least of the system's estimate, the control group's and RLIMIT_AS."""
    return min(_system(), _control_group(), _limit())


def _system():
    try:
        with open("/proc/meminfo") as file:
            fields = dict(line.split(":", 1) for line in file)
        return int(fields["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError, ValueError):
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def _control_group():
    """What is left under memory.max, version 2, or memory.limit_in_bytes, version 1; without a limit 2^63."""
    for limit, used in (("memory.max", "memory.current"), ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes")):
        try:
            with open(f"/sys/fs/cgroup/{limit}") as file, open(f"/sys/fs/cgroup/{used}") as now:
                return max(int(file.read()) - int(now.read()), 0)
        except (OSError, ValueError):
            continue
    return 2**63


def _limit():
    import resource

    soft, _ = resource.getrlimit(resource.RLIMIT_AS)
    if soft == resource.RLIM_INFINITY:
        return 2**63
    try:
        with open("/proc/self/statm") as file:
            return max(soft - int(file.read().split()[0]) * os.sysconf("SC_PAGE_SIZE"), 0)
    except OSError:
        return soft


def human_bytes(count):
    """Return a byte count for people, such as ``"61.4 GB"`` (powers of ten)."""
    for unit in ("bytes", "kB", "MB", "GB", "TB"):
        if count < 1000 or unit == "TB":
            return f"{count:.0f} {unit}" if unit == "bytes" else f"{count:.1f} {unit}"
        count /= 1000
    raise AssertionError
