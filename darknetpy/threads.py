"""How many threads the kernels use; no result depends on it."""
from __future__ import annotations

import os

import numpy as np

from darknetpy.core import core
from darknetpy.errors import ArgumentError

_MOST = core.lib.DN_MOST_THREADS


def set_num_threads(n: int) -> None:
    """Let every kernel use `n` threads.

    Parameters
    ----------
    n : int
        1 to 1024; more threads than processors only cost time.

    Raises
    ------
    ArgumentError
        `n` is not such an integer.
    """
    if isinstance(n, bool) or not isinstance(n, (int, np.integer)) or not 1 <= n <= _MOST:
        raise ArgumentError(f"n={n!r}: wanted a positive integer, at most {_MOST}")
    core.lib.dn_set_num_threads(int(n))


def get_num_threads() -> int:
    """Return the number of threads: what was set, else OMP_NUM_THREADS, else the CPUs of the affinity mask."""
    return core.lib.dn_num_threads()


def available_cpus() -> int:
    """Return how many CPUs this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _default():
    first = os.environ.get("OMP_NUM_THREADS", "").split(",")[0].strip()
    given = int(first) if first.isdecimal() else 0
    return min(given or available_cpus(), _MOST)


set_num_threads(_default())
