"""What the machine can do at most, as a program of the benchmark: numpy's matrix product, and a copy of memory."""
from __future__ import annotations

import time

import numpy as np

_SIDE = 1024
_COPIED = 1 << 27       # bytes: far beyond any cache


class Program:
    """Measures on request; numpy's BLAS takes its threads from OMP_NUM_THREADS."""

    def __init__(self, job, workload):
        self.threads = job["threads"]

    def facts(self):
        """Return what this program is."""
        return {"program": f"numpy {np.__version__}", "threads": self.threads}

    def limits(self, seconds):
        """Return the best GFLOP/s of a float32 matrix product, and the best GB/s (read and written) of a copy by one thread."""
        a, b, c = (np.ones((_SIDE, _SIDE), np.float32) for _ in range(3))
        source, target = np.ones(_COPIED // 4, np.float32), np.ones(_COPIED // 4, np.float32)
        product = _best(lambda: np.matmul(a, b, out=c), seconds)
        copy = _best(lambda: np.copyto(target, source), seconds)
        return {"sgemm_gflops": 2e-9 * _SIDE ** 3 / product, "copy_gbs": 2e-9 * _COPIED / copy}


def _best(call, seconds):
    """Return the shortest time of a call."""
    end, times = time.perf_counter() + seconds, []
    while len(times) < 3 or time.perf_counter() < end:
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return min(times[1:])
