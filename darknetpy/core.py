"""The compiled core as Python sees it: one object that joins the library, its number type and its errors.

The package has two cores from the same C sources: `core` (float32), and for gradient checks `double_core()`.
"""
from __future__ import annotations

import functools
import os

import numpy as np

from darknetpy.errors import ArgumentError, DarknetError, DeviceError, OutOfMemory


class OptionError(ArgumentError):
    """An option of a layer is wrong; `key` names it (a cfg's reader adds file and line)."""

    def __init__(self, message, key):
        self.key = key
        super().__init__(message)


class Core:
    """A compiled core: `lib` and `ffi` of cffi, and `dtype`, the numpy type of its arrays."""

    def __init__(self, lib, ffi, dtype):
        self.lib, self.ffi, self.dtype = lib, ffi, np.dtype(dtype)
        self.pointer = f"{'double' if self.dtype == np.float64 else 'float'} *"

    def check(self, status):
        """Raise the exception that belongs to a failed status; return None on success."""
        lib = self.lib
        if status == lib.DN_OK:
            return
        message = self.ffi.string(lib.dn_last_error()).decode(errors="replace")
        if status == lib.DN_ERR_MEMORY:
            raise OutOfMemory(message)
        if status == lib.DN_ERR_DEVICE:
            raise DeviceError(message)
        if status == lib.DN_ERR_OPTION:
            raise OptionError(message, self.ffi.string(lib.dn_last_error_key()).decode())
        raise (ArgumentError if status == lib.DN_ERR_ARGUMENT else DarknetError)(message)

    def array(self, name, value, count=None, writable=False, shape=None):
        """Check that `value` is an array the kernels can work on; return it.

        Parameters
        ----------
        name : str
            What to call it in a message.
        value : object
            Must be an ndarray of the core's dtype, C-contiguous.
        count : int, optional
            Number of values wanted.
        writable : bool
            Whether the kernel writes it.
        shape : tuple of int, optional
            How to say the size wanted.

        Raises
        ------
        ArgumentError
            Naming what was wanted and what came.
        """
        wanted = f"{self.dtype.name} array" + (f" of {count} values" if count is not None else "")
        if shape is not None:
            wanted += f" {shape}"
        if not isinstance(value, np.ndarray):
            raise ArgumentError(f"{name}: wanted a {wanted}, got {type(value).__name__}")
        if value.dtype != self.dtype:
            raise ArgumentError(f"{name}: wanted a {wanted}, got dtype {value.dtype}")
        if count is not None and value.size != count:
            raise ArgumentError(f"{name}: wanted a {wanted}, got {value.size} values {value.shape}")
        if not value.flags.c_contiguous:
            raise ArgumentError(f"{name}: wanted a C-contiguous array, got strides {value.strides}")
        if writable and not value.flags.writeable:
            raise ArgumentError(f"{name}: wanted a writable array, got a read-only one")
        return value

    def address(self, array):
        """Return the C pointer to a checked array's values; the caller keeps the array alive."""
        return self.ffi.cast(self.pointer, array.ctypes.data) if array is not None else self.ffi.NULL


# GNU OpenMP's threads spin for milliseconds at the end of each loop. On a machine that others use too they then keep the very
# processors busy that the slowest thread waits for; a short spin costs little on an idle one.
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")

try:
    from darknetpy._darknet import ffi, lib
except ImportError as error:
    raise ImportError(f"the compiled core of darknetpy is missing ({error}); build it with `pip install .` or `make build`") from error

@functools.lru_cache(maxsize=1)
def double_core():
    """Return the core whose numbers have 64 bits; slow, for gradient checks."""
    from darknetpy import _darknet_double

    return Core(_darknet_double.lib, _darknet_double.ffi, np.float64)


core = Core(lib, ffi, np.float32)
