"""How much memory this process may still take."""
from __future__ import annotations

import os

_CONTROL_GROUP = "/sys/fs/cgroup"


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
    """What is left under the limit of version 2 or 1; without one 2^63.  Pages of files read before are given up when needed."""
    for prefix, names, cache in (("", ("max", "current"), "inactive_file"),
                                 ("memory/", ("limit_in_bytes", "usage_in_bytes"), "total_inactive_file")):
        try:
            limit, used = (int(_read(f"{prefix}memory.{name}")) for name in names)
        except (OSError, ValueError):
            continue
        return max(limit - used + _cached(f"{prefix}memory.stat", cache), 0)
    return 2**63


def _cached(stat, name):
    try:
        return int(dict(line.split() for line in _read(stat).splitlines()).get(name, 0))
    except (OSError, ValueError):
        return 0


def _read(name):
    with open(f"{_CONTROL_GROUP}/{name}") as file:
        return file.read()


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
    names, power = ("bytes", "kB", "MB", "GB", "TB"), 0
    while count >= 1000 and power < len(names) - 1:
        count, power = count / 1000, power + 1
    return f"{count:.{min(power, 1)}f} {names[power]}"
