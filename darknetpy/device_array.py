"""Arrays of a layer that lies on a device: copies that write assignments through, and views for other GPU libraries."""
from __future__ import annotations

from typing import Any

import numpy as np


class DeviceArray(np.ndarray):
    """The values that an array on a device had when it was asked for.

    ``a[...] = values`` and ``a[3] = 0`` are written to the device as well.  Everything else that would only change
    the copy is refused: it is read-only, and so are its views.
    """

    _pull: Any = None       # of a copy itself, not of its views: reads all values from the device, writes all to it
    _push: Any = None

    def __setitem__(self, key: Any, value: Any) -> None:
        """Set values here and on the device, where the others stay as they are by now."""
        if self._push is None and self.flags.writeable:     # what was made of such a copy is its own
            super().__setitem__(key, value)
            return
        if self._push is None:
            raise ValueError("this is part of a copy of a device's array: assign to the array itself, l.weights[key] = values")
        self.flags.writeable = True
        try:
            self._pull(self)
            super().__setitem__(key, value)
            self._push(self)
        finally:
            self.flags.writeable = False


def device_array(layer: Any, i: int, shape: tuple[int, ...], dtype: np.dtype) -> DeviceArray:
    """Return a copy of array `i` of a layer."""
    core = layer._core

    def all_of(copy: Any) -> Any:
        return lambda array: core.check(copy(layer._handle, i, core.ffi.cast("void *", array.ctypes.data)))

    values = np.empty(shape, dtype).view(DeviceArray)
    values._pull, values._push = all_of(core.lib.pull_layer_array), all_of(core.lib.push_layer_array)
    values._pull(values)
    values.flags.writeable = False
    return values


class DeviceView:
    """An array of a layer in a GPU's memory, by ``__cuda_array_interface__``: ``torch.as_tensor(view)``, ``cupy.asarray(view)``.

    It keeps the layer alive.  A resize, and a pass over a network with ``keep_activations=False``, give the memory to others.

    Attributes
    ----------
    shape : tuple of int
    dtype : dtype
    """

    def __init__(self, layer: Any, address: int, shape: tuple[int, ...], dtype: np.dtype) -> None:
        self._layer, self.shape, self.dtype = layer, shape, dtype
        self.__cuda_array_interface__ = layer._device.interface(address, shape, dtype)

    def gpuarray(self) -> Any:
        """Return it as PyCUDA's GPUArray; its operations want the GPU's context (:meth:`context`)."""
        from pycuda.gpuarray import GPUArray

        return GPUArray(self.shape, self.dtype, base=self, gpudata=self.__cuda_array_interface__["data"][0])

    def context(self) -> Any:
        """Return a context manager that makes the GPU's context the calling thread's, as PyCUDA wants it."""
        return self._layer._device.current()
