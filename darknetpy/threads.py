"""How many threads the kernels use; no result depends on it."""
from __future__ import annotations

import os

from darknetpy.core import core
from darknetpy.errors import ArgumentError


def set_num_threads(n):
    """Let every kernel use `n` threads.

    Parameters
    ----------
    n : int
        At least 1.

    Raises
    ------
    ArgumentError
        `n` is not a positive integer.
    """
    if isinstance(n, bool) or not isinstance(n, int) or n < 1:
        raise ArgumentError(f"n={n!r}: wanted a positive integer")
    core.lib.dn_set_num_threads(n)


def get_num_threads():
    """Return the number of threads: what was set, else OMP_NUM_THREADS, else the CPUs of the affinity mask."""
    return core.lib.dn_num_threads()


def _default():
    first = os.environ.get("OMP_NUM_THREADS", "").split(",")[0].strip()
    return int(first) if first.isdigit() and int(first) > 0 else len(os.sched_getaffinity(0))


set_num_threads(_default())
