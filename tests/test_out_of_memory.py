"""Every allocation of the core fails once, and from there on: each time OutOfMemory, and the network stays whole."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys

import pytest

REFUSE = """
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stddef.h>
static long left = -1;
static int for_good;
void refuse(long after, int all) { left = after, for_good = all; }
int posix_memalign(void **memory, size_t alignment, size_t size)
{
    int (*real)(void **, size_t, size_t) = (int (*)(void **, size_t, size_t))dlsym(RTLD_NEXT, "posix_memalign");
    if (left > 0) --left;
    else if (left == 0) {
        if (!for_good) left = -1;
        return ENOMEM;
    }
    return real(memory, alignment, size);
}
"""

SCRIPT = """
import ctypes, itertools, sys
import numpy as np
import darknetpy as dn
from test_network import BATCH, EVERYTHING, SHAPE, network

refuse = ctypes.CDLL(None).refuse
refuse.argtypes = ctypes.c_long, ctypes.c_int
rng = np.random.default_rng(0)
x, y = rng.standard_normal((BATCH, *SHAPE), np.float32), rng.integers(0, 5, BATCH)
ANY_SIZE = [layer for layer in EVERYTHING if not layer.startswith("connected")]


def build():
    options = "max_gradient=1 fused=0 policy=steps steps=1,2 scales=.1,.1"
    yield network(EVERYTHING, SHAPE, BATCH, options)


def change():
    net = network(EVERYTHING, SHAPE, BATCH)
    yield net
    for layer in net.layers:
        layer.fused = False
    net.set_option("max_gradient", 1)
    net.train_batch(x, y)


def resize():
    net = network(ANY_SIZE, SHAPE, BATCH)
    yield net
    net.resize(16, 16)


def shared():
    net = network(ANY_SIZE, SHAPE, BATCH, keep_activations=False)
    yield net
    net.resize(16, 16)


for steps in (build, change, resize, shared):
    for for_good in (False, True):
        for i in itertools.count():
            run, net = steps(), None
            try:
                if steps is not build:
                    net = next(run)
                refuse(i, for_good)
                for _ in run:
                    pass
                break
            except dn.OutOfMemory as error:
                assert str(error), i
                if net is not None:
                    try:
                        net.forward(x, train=True), net.backward()      # still without memory: refused, or done
                    except (dn.OutOfMemory, dn.ArgumentError):
                        pass
                    refuse(-1, False)
                    if steps is shared:
                        net.set_option("max_gradient", 1), net.update()             # gives layers more memory, but no place
                        try:
                            net.forward(x, train=True)
                        except (dn.OutOfMemory, dn.ArgumentError):
                            pass
                    if steps in (resize, shared):
                        net.resize(SHAPE[2], SHAPE[1])
                        net.forward(x, train=True)
            finally:
                refuse(-1, False)
        print(steps.__name__, i)
        assert i > (4 if steps in (resize, shared) else 5)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="LD_PRELOAD")
@pytest.mark.skipif("DARKNETPY_SANITIZED" in os.environ, reason="the sanitizers bring an allocator of their own")
def test_every_allocation_may_fail(tmp_path):
    (tmp_path / "refuse.c").write_text(REFUSE)
    library = tmp_path / "refuse.so"
    compiler = shlex.split(os.environ.get("CC", "cc"))
    subprocess.run([*compiler, "-shared", "-fPIC", "-o", library, tmp_path / "refuse.c", "-ldl"], check=True)
    preload = f"{library} {os.environ.get('LD_PRELOAD', '')}"
    environment = {**os.environ, "LD_PRELOAD": preload, "PYTHONPATH": os.pathsep.join([os.path.dirname(__file__), *sys.path])}
    result = subprocess.run([sys.executable, "-c", SCRIPT], env=environment, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr
