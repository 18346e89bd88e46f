"""What cuda/emulator.h promises to find in a kernel, each shown by one that is wrong (emulator_faults.cu)."""

from __future__ import annotations

import os
import re

import cffi
import numpy as np
import pytest
from cuda_calls import build_module, need_compiler
from twin import ROOT

MEMORY, DEVICE = -3, -4
SOURCES = [os.path.join(ROOT, "tests", name) for name in ("emulator_faults.cu", "emulator_runtime.cu")]


@pytest.fixture(scope="module")
def faults(tmp_path_factory):
    """The wrong kernels and the emulator as a library."""
    need_compiler()
    build = build_module()
    objects = build.compile_all([*build.cxx(), *build.EMULATED, *build.INCLUDE], [*SOURCES, *build.sources(".cu", ".cpp")], ["-x", "c++"])
    path = str(tmp_path_factory.mktemp("faults") / "faults.so")
    build.run([*build.cxx(), "-shared", "-pthread", "-o", path, *objects])
    ffi = cffi.FFI()
    names = []
    for source in SOURCES:
        with open(source) as file:
            names += re.findall(r"^FAULT\((\w+),|^EXPORT void run_(\w+)\(", file.read(), re.MULTILINE)
    ffi.cdef("".join(f"void run_{one or other}(float *x);" for one, other in names) + """
        unsigned quotient(int n, int d); void *allocate(size_t bytes); void release(void *memory); void backwards(int on); int status(void);
        const char *last_error(void); int synchronize(void);
        int push(void *to, const void *from, size_t bytes); int pull(void *to, const void *from, size_t bytes);""")
    return Faults(ffi, ffi.dlopen(path))


class Faults:
    """Runs a kernel on an array of `size` values of 1."""

    def __init__(self, ffi, lib):
        self.ffi, self.lib = ffi, lib

    def run(self, name, size=1024, backwards=0):
        """Return (status, message, values)."""
        memory, values = self.lib.allocate(4 * size), np.ones(size, np.float32)
        pointer = self.ffi.cast("void *", values.ctypes.data)
        self.lib.push(memory, pointer, values.nbytes)
        self.lib.backwards(backwards)
        getattr(self.lib, f"run_{name}")(self.ffi.cast("float *", memory))
        self.lib.backwards(0)
        status, message = self.lib.status(), self.ffi.string(self.lib.last_error()).decode()
        self.lib.pull(pointer, memory, values.nbytes)
        self.lib.release(memory)
        assert self.lib.synchronize() == 0, "an error is reported once"
        return status, message, values


PLACE = r"block \(0, 0, 0\), thread "
FOUND = {
    "half_waits": PLACE + r"\(0, 0, 0\): waits at the barrier of .*emulator_faults.cu:8 for thread \(16, 0, 0\), which has ended",
    "some_have_ended": PLACE + r"\(0, 0, 0\): waits at the barrier of .*:13 for thread \(40, 0, 0\), which has ended",
    "two_barriers": PLACE + r"\(0, 0, 0\): waits at the barrier of .*:20 for thread \(1, 0, 0\), which waits at another barrier",
    "lane_stays_away": PLACE + r"\(0, 0, 0\): waits at its warp for thread \(5, 0, 0\), which has ended",
    "not_in_its_mask": PLACE + r"\(16, 0, 0\): lane 16 is not in the mask 0x0000ffff",
    "from_who_takes_no_part": PLACE + r"\(0, 0, 0\): a shuffle from lane 16, which takes no part",
    "beyond_shared": PLACE + r"\(40, 0, 0\): index 40 of the 40 values of `few` in shared memory",
    "before_shared": PLACE + r"\(0, 0, 0\): index -1 of the 8 values of `table` in shared memory",
    "beyond_row": PLACE + r"\(8, 0, 0\): index 8 of the 8 values of `table` in shared memory",
    "beyond_dynamic": PLACE + r"\(7, 7, 0\): index 63 of the 63 values of `some` in shared memory",
    "too_much_shared": PLACE + r"\(0, 0, 0\): more than 49152 bytes of shared memory",
    "reads_beyond": PLACE + r"\(0, 0, 0\): address 0x\w+ is not in device memory",
    "writes_before": PLACE + r"\(0, 0, 0\): address 0x\w+ is not in device memory",
    "reads_nothing": PLACE + r"\(0, 0, 0\): address .* is not in device memory",
    "lane_has_no_share": PLACE + r"\(0, 0, 0\): waits at its warp for thread \(5, 0, 0\), which has ended",
    "shares_of_two": PLACE + r"\(7, 0, 0\): load_matrix_sync: lane 0 does another thing, or at another place",
    "other_distances": PLACE + r"\(7, 0, 0\): load_matrix_sync: lane 0 does another thing, or at another place",
    "fragment_off_its_place": PLACE + r"\(0, 0, 0\): load_matrix_sync: place 0x\w+ is no multiple of 32 bytes",
    "rows_off_their_place": PLACE + r"\(0, 0, 0\): .* distance 20 none of 16",
    "fragment_beyond": PLACE + r"\(0, 0, 0\): load_matrix_sync: 512 bytes from byte 512 of an array of 992 in shared memory",
    "half_a_warp": PLACE + r"\(32, 0, 0\): load_matrix_sync: the warp has only 16 threads",
    "never_rounded": PLACE + r"\(0, 0, 0\): 0\.1\d* is no TF32 number",
    "large_block": r"invalid configuration: grid \(1, 1, 1\), block \(2048, 1, 1\), 0 bytes",
    "no_grid": r"invalid configuration: grid \(0, 1, 1\)",
    "much_dynamic": r"invalid configuration: .* 49153 bytes of shared memory",
}


@pytest.mark.parametrize("name", FOUND)
def test_fault_is_reported(name, faults):
    status, message, _ = faults.run(name)
    assert status == DEVICE and re.fullmatch(f"{name}: {FOUND[name]}.*", message), message
    assert faults.run("votes")[0] == 0   # and what follows runs as if nothing had been


def test_value_written_behind_an_array_is_reported(faults):
    status, message, _ = faults.run("writes_behind", size=1000)
    assert status == DEVICE and "beyond the end of a device array of 4000 bytes" in message


@pytest.mark.parametrize("name", ["read_too_soon", "never_filled"])
def test_fragments_that_are_not_there_yet_are_nan(name, faults):
    assert np.isnan(faults.run(name)[2][:32]).any()


def test_shared_memory_begins_as_nan(faults):
    assert np.isnan(faults.run("not_written")[2][:64]).all()


@pytest.mark.parametrize("name", ["no_barrier", "reused_too_soon", "last_block_wins"])
def test_what_depends_on_the_order_changes_with_it(name, faults):
    forwards, backwards = (faults.run(name, backwards=on)[2] for on in (0, 1))
    assert forwards.tobytes() != backwards.tobytes()


def test_warps(faults):
    status, message, values = faults.run("votes")
    lane, warp = np.arange(64) % 32, np.arange(64) // 32 * 32
    down = np.where(lane % 16 + 3 < 16, lane + 3, lane) + warp
    expected = [np.full(64, 5.0), np.ones(64), np.where(lane, lane - 1, 0) + warp, down, 7 + warp, np.repeat([496, 1520], 32)]
    assert status == 0
    np.testing.assert_array_equal(values[: 6 * 64].reshape(6, 64), expected)


# ---- graphs
@pytest.mark.parametrize("name, value", [("in_order", 12), ("without_dependency", 6), ("renewed", 9)])
def test_graphs(name, value, faults):
    status, _, values = faults.run(name)
    assert status == 0 and values[0] == value


@pytest.mark.parametrize("name, message", [
    ("other_graphs_node", r"node: a dependency on 0x\w+, which is no node of the graph"),
    ("renewed_other_graphs_node", r"renewal: 0x\w+ is no node of the graph"),
    ("destroyed", r"graph: 0x\w+ is no graph"),
    ("no_kernel", r"node: 0x\w+ is no kernel"),
    ("fault_in_graph", r"graph: block \(0, 0, 0\), thread \(0, 0, 0\): address 0x\w+ is not in device memory"),
])
def test_what_graphs_refuse(name, message, faults):
    status, text, _ = faults.run(name)
    assert status == DEVICE and re.fullmatch(message, text), text
    assert faults.run("votes")[0] == 0


# ---- streams and events
@pytest.mark.parametrize("name, values", [
    ("not_waited_for", [5]),        # the copy comes last
    ("waited_for", [10]),
    ("source_changed_too_soon", [7]),
    ("waited_by_another_stream", [10, 5]),
])
def test_streams_work_as_late_as_they_may(name, values, faults):
    status, _, found = faults.run(name)
    assert status == 0 and found[: len(values)].tolist() == values


def test_time_between_events(faults):
    status, _, values = faults.run("time_between")
    assert status == 0 and 0 <= values[1] < 60_000


@pytest.mark.parametrize("name, message", [
    ("time_of_no_event", "time: the time between events that were not recorded"),
    ("time_of_untimed_event", "time: the time between events without one"),
    ("destroyed_stream", r"copy: 0x\w+ is no stream"),
    ("freed_no_pinned_memory", r"release: 0x\w+ is no pinned memory"),
])
def test_what_streams_refuse(name, message, faults):
    status, text, _ = faults.run(name)
    assert status == DEVICE and re.fullmatch(message, text), text
    assert faults.run("votes")[0] == 0


def test_memory_that_is_not_to_be_had(faults):
    assert faults.lib.allocate(2**60) == faults.ffi.NULL
    assert faults.lib.status() == MEMORY
    assert faults.ffi.string(faults.lib.last_error()).decode() == f"{2**60} bytes of device memory: no memory for {2**60} bytes"
    faults.lib.release(faults.ffi.cast("void *", 4096))
    assert faults.lib.status() == DEVICE and b"no array of the device" in faults.ffi.string(faults.lib.last_error())


def test_copies_stay_in_their_array(faults):
    values = np.zeros(9, np.float32)
    memory, pointer = faults.lib.allocate(32), faults.ffi.cast("void *", values.ctypes.data)
    assert faults.lib.push(memory, pointer, 32) == 0 and faults.lib.pull(pointer, memory, 32) == 0
    for copy in (lambda: faults.lib.push(memory, pointer, 36), lambda: faults.lib.pull(pointer, memory, 36)):
        assert copy() == faults.lib.status() == DEVICE
        assert b"36 bytes from byte 0 of a device array of 32" in faults.ffi.string(faults.lib.last_error())
    faults.lib.release(memory)


def test_division_by_multiplying(faults, rng):
    """The divider of product.cuh, whose factor is right for every n < 2^31."""
    divisors = [1, 2, 3, 5, 7, 9, 17, 127, 129, 1000, 65535, 65537, 2**20 + 1, 2**30 - 1, 2**30 + 1, 2**31 - 1]
    for d in divisors:
        near = [k * d + step for k in (1, 2, (2**31 - 1) // d) for step in (-1, 0, 1)]
        for n in [0, 2**31 - 1, *near, *rng.integers(0, 2**31, 50).tolist()]:
            if n < 2**31:
                assert faults.lib.quotient(n, d) == n // d, (n, d)
