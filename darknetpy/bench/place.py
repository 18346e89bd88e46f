"""A device that programs of the benchmark run on: its memory, its end of work, and what it is."""

from __future__ import annotations

import numpy as np

from darknetpy.errors import DarknetError, DeviceError
from darknetpy.gpu import open_device
from darknetpy.memory import human_bytes


class Place:
    """A device with arrays of the benchmark's own.

    Parameters
    ----------
    name : str
        ``"gpu"``, ``"gpu:1"``, ``"emulated"``.

    Attributes
    ----------
    device : darknetpy.gpu.Device
    lib : cdata
        Its kernels by name, ``lib.mean_gpu``.
    """

    def __init__(self, name):
        self.device = open_device(name)
        self.lib, self._ffi, self._taken = self.device.module.lib, self.device.module.ffi, []

    def take(self, count):
        """Return the address of `count` floats, all zero."""
        memory = self.device.handle.allocate(4 * count)
        if memory == self._ffi.NULL:
            self.lib.dn_gpu_status()
            raise DeviceError(f"no memory for {4 * count} bytes: {self._last_error()}")
        self._taken.append(memory)
        return self._ffi.cast("float *", memory)

    def put(self, array):
        """Return the address of a copy of an array, as float32."""
        values = np.ascontiguousarray(array, np.float32)
        there = self.take(values.size)
        self.lib.dn_gpu_push(there, self._ffi.cast("void *", values.ctypes.data), values.nbytes)
        self.wait()
        return there

    def release(self, count=None):
        """Give back the last `count` arrays; None: all."""
        for _ in range(len(self._taken) if count is None else count):
            self.device.handle.release(self._taken.pop())

    def wait(self):
        """Wait until all that was begun is done.

        Raises
        ------
        DarknetError
            A kernel has failed.
        """
        self.lib.dn_gpu_synchronize()
        if self.lib.dn_gpu_status() != self.lib.DN_OK:
            raise DarknetError(f"{self.device.name}: {self._last_error()}")

    def marks(self, count):
        """Return so many marks of the device's own clock, between which its time is told."""
        return _Marks(self, count)

    def _last_error(self):
        return self._ffi.string(self.lib.dn_gpu_last_error()).decode()

    def facts(self):
        """Return what the device is, in words, and the bytes of its last-level cache; None: the CPU's."""
        string = self._ffi.string
        if self.device.model is None:
            return {"device": "the CUDA kernels on the CPU: times are the emulator's, not a GPU's", "cache": None}
        built = f"kernels of {string(self.lib.dn_gpu_target()).decode()}"
        memory = human_bytes(self.device.total_bytes())
        return {"device": f"{self.device.model}, {memory}, {built}", "cache": self.device.cache_bytes()}


class _Marks:
    """CUDA events: what lies between two of them is timed by the device."""

    def __init__(self, place, count):
        self._place, lib = place, place.lib
        self._marks = [lib.dn_gpu_make_mark() for _ in range(count)]

    def set(self, i):
        """Set mark `i` behind all that was begun so far."""
        self._place.lib.dn_gpu_set_mark(self._marks[i])

    def seconds(self):
        """Wait; return the seconds from each mark to the next.

        Raises
        ------
        DarknetError
            A kernel has failed.
        """
        times = [self._place.lib.dn_gpu_seconds_between(*pair) for pair in zip(self._marks, self._marks[1:])]
        self._place.wait()
        return times

    def free(self):
        """Give the marks back."""
        for mark in self._marks:
            self._place.lib.dn_gpu_free_mark(mark)
