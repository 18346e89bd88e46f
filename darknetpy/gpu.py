"""The devices that networks run on: the CUDA kernels' libraries, built by nvcc (`make cuda`) or by g++ to run on the CPU, and
NVIDIA GPUs with PyCUDA.  Importing this needs none of them.
"""
from __future__ import annotations

import contextlib
import functools
import importlib
import re
from collections.abc import Iterator
from typing import Any, Optional

from darknetpy import gpu_libraries
from darknetpy.errors import DeviceError
from darknetpy.memory import human_bytes

MODULES = {"cuda": "darknetpy._darknet_cuda", "emulated": "darknetpy._darknet_cuda_emulated"}
_LARGE = 1 << 20        # bytes from which the driver is asked: the pool rounds sizes up, by a quarter at most
WANTED = "cpu, gpu (gpu:1 is the second) or emulated"


def parse_device(name: str) -> tuple[str, int]:
    """Return the kind of a device, cpu, gpu or emulated, and which one of them.

    Raises
    ------
    DeviceError
        There is no such device.
    """
    match = re.fullmatch(r"cpu|emulated|gpu(?::([0-9]{1,2}))?", name) if isinstance(name, str) else None
    if match is None:
        raise DeviceError(f"device={name!r}: wanted {WANTED}")
    return name.partition(":")[0], int(match[1] or 0)


class Device:
    """A device as networks see it; it lives as long as their arrays.

    Attributes
    ----------
    name : str
        ``"gpu:0"``, say.
    module : module
        Its kernels: ``module.lib``, ``module.ffi``.
    handle : cdata
        The ``dn_device`` of the core.
    model : str or None
        What a GPU calls itself.
    libraries, notes : tuple of str
        NVIDIA's libraries that its kernels use; what was found of them and cannot be used, and why.
    """

    model: Optional[str] = None
    libraries: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def __init__(self, name: str, module: Any) -> None:
        self.name, self.module, self.handle = name, module, module.lib.dn_gpu_device()

    def free_bytes(self) -> Optional[int]:
        """Return how much can be allocated; None: as much as the CPU has."""
        return None

    def interface(self, address: int, shape: tuple[int, ...], dtype: Any) -> dict[str, Any]:
        """Return the ``__cuda_array_interface__`` of an array, for other libraries that use the device."""
        raise DeviceError(f"device={self.name!r}: its arrays are for its kernels only")


class Gpu(Device):
    """An NVIDIA GPU: its primary context, which PyCUDA shares with the CUDA runtime, and memory: PyCUDA's pool for small arrays.

    Attributes
    ----------
    used_bytes, peak_bytes : int
        Of the arrays there are, and at most so far.
    """

    def __init__(self, number: int, module: Any) -> None:
        super().__init__(f"gpu:{number}", module)
        driver = import_driver()
        self._driver, self._blocks, self.used_bytes, self.peak_bytes = driver, {}, 0, 0
        try:
            found = _device(driver, number, module)
            self.model = found.name()
            self._context = found.retain_primary_context()
            with self.current():
                self.pool = importlib.import_module("pycuda.tools").DeviceMemoryPool()
        except driver.Error as error:
            raise DeviceError(f"{self.name} cannot be used: {error}") from None
        module.lib.dn_gpu_select(number)
        _require_ok(module, self.name)
        self.libraries, problems = gpu_libraries.use_all(module)
        self.notes = tuple(f"{self.name}: {problem}" for problem in problems)
        self._describe(number)

    def _describe(self, number):
        """Tell the core: the library's functions, with memory of the pool."""
        ffi = self.module.ffi
        self._kept = (ffi.new("char[]", self.name.encode()), ffi.callback("void *(size_t)", self._allocate),
                      ffi.callback("void(void *)", self._release))
        self.handle = ffi.new("dn_device *", self.module.lib.dn_gpu_device()[0])
        self.handle.name, self.handle.allocate, self.handle.release = self._kept
        self.handle.number = number

    @contextlib.contextmanager
    def current(self) -> Iterator[None]:
        """Make the GPU's context the calling thread's, as calls of PyCUDA want it."""
        self._context.push()
        try:
            yield
        finally:
            self._driver.Context.pop()

    def _allocate(self, size):
        """Return memory with zeros; NULL where there is none, which the core adds to its error."""
        ffi = self.module.ffi
        try:
            with self.current():
                block = (self.pool.allocate if size < _LARGE else self._driver.mem_alloc)(max(size, 1))
                self._driver.memset_d8(int(block), 0, max(size, 1))
        except self._driver.Error as error:
            memory = isinstance(error, self._driver.MemoryError)
            why = f"{human_bytes(self.free_bytes())} of {human_bytes(self._memory()[1])} are free" if memory else str(error)
            self.module.lib.dn_gpu_no_memory(f"{self.name} ({self.model}): {why}".encode())
            return ffi.NULL
        self._blocks[int(block)] = block, size
        self.used_bytes += size
        self.peak_bytes = max(self.peak_bytes, self.used_bytes)
        return ffi.cast("void *", int(block))

    def _release(self, address):
        block, size = self._blocks.pop(int(self.module.ffi.cast("uintptr_t", address)), (None, 0))
        self.used_bytes -= size
        if block is not None:
            with self.current():
                block.free()        # which keeps it in the pool for others, or returns it to the driver

    def _memory(self):
        with self.current():
            return self._driver.mem_get_info()

    def free_bytes(self) -> int:
        """Return how much can be allocated: what the driver has free, and what the pool holds unused."""
        return self._memory()[0] + self.pool.managed_bytes - self.pool.active_bytes

    def total_bytes(self) -> int:
        """Return how much memory it has."""
        return self._memory()[1]

    def cache_bytes(self) -> int:
        """Return the size of its last-level cache."""
        with self.current():
            return self._context.get_device().get_attribute(self._driver.device_attribute.L2_CACHE_SIZE)

    def interface(self, address: int, shape: tuple[int, ...], dtype: Any) -> dict[str, Any]:
        """Return the ``__cuda_array_interface__`` of an array; kernels that write it run on the default stream."""
        return {"version": 3, "shape": shape, "typestr": dtype.str, "data": (address, False), "strides": None, "stream": 1}


def import_driver() -> Any:
    """Import ``pycuda.driver`` and wake the driver.

    Raises
    ------
    DeviceError
        PyCUDA, the driver or a GPU is missing.
    """
    try:
        importlib.import_module("pycuda")
    except ImportError:
        raise DeviceError("device='gpu' needs PyCUDA: pip install pycuda") from None
    try:
        driver = importlib.import_module("pycuda.driver")
    except ImportError as error:
        raise DeviceError(f"device='gpu': there is no NVIDIA driver here, or PyCUDA does not fit it ({error})") from None
    try:
        driver.init()
    except driver.Error as error:
        raise DeviceError(f"device='gpu': the driver has no GPU for us ({error}); nvidia-smi lists what it has") from None
    return driver


def _device(driver, number, module):
    """Return PyCUDA's device, if the library's kernels can run there."""
    lib, string = module.lib, module.ffi.string
    count = driver.Device.count()
    if number >= min(count, lib.DN_MOST_GPUS):
        raise DeviceError(f"device='gpu:{number}': there {'is' if count == 1 else 'are'} {count}, gpu:0 to gpu:{count - 1}"
                          if count else "device='gpu': the driver has no GPU")
    found = driver.Device(number)
    name = f"gpu:{number} ({found.name()})"
    require_driver(name, driver.get_driver_version(), string(lib.dn_gpu_target()).decode())
    require_architecture(name, found.compute_capability(), string(lib.dn_gpu_architectures()).decode())
    return found


def require_driver(name: str, version: int, target: str) -> None:
    """Refuse a driver that is older than the CUDA (``"CUDA 13.0"``) that kernels were built with; of one main version all do.

    Raises
    ------
    DeviceError
    """
    match = re.fullmatch(r"CUDA (\d+)\.\d+", target)
    if match and version // 1000 < int(match[1]):
        raise DeviceError(f"{name}: the driver knows CUDA up to {version // 1000}.{version % 1000 // 10}, the kernels were built with "
                          f"{target}; wanted a newer driver, or kernels built by an nvcc of CUDA {version // 1000} (`make cuda`)")


def require_architecture(name: str, capability: tuple[int, int], architectures: str) -> None:
    """Refuse a GPU that no kernel was compiled for; `architectures` as ``"750,800"``, the last of them as PTX too.

    Raises
    ------
    DeviceError
    """
    major, minor = capability
    compiled = [divmod(int(number) // 10, 10) for number in architectures.split(",") if number]
    runs = [(a, b) for a, b in compiled if a == major and b <= minor]
    if compiled and not runs and capability < max(compiled):
        names = ", ".join(f"{a}.{b}" for a, b in compiled)
        raise DeviceError(f"{name} has compute capability {major}.{minor}, the kernels were compiled for {names}; "
                          f'`make cuda CUDA_ARCHS="{major}{minor}"` compiles them for it, if nvcc knows it')


def open_device(name: str) -> Device:
    """Return a device to run on, other than the CPU.

    Parameters
    ----------
    name : str
        ``"gpu"``, ``"gpu:1"``, ``"emulated"``.

    Raises
    ------
    DeviceError
        There is no such device; its library has not been built; PyCUDA, the driver or the GPU is missing; the driver is too
        old, or no kernel was compiled for the GPU.
    """
    kind, number = parse_device(name)
    library, target = ("cuda", "cuda") if kind == "gpu" else ("emulated", "cuda-emulated")
    try:
        module = importlib.import_module(MODULES[library])
    except ImportError as error:
        raise DeviceError(f"device={name!r}: its kernels are not built ({error}); `make {target}` builds them") from None
    return _gpu(number, module) if kind == "gpu" else Device(name, module)


@functools.cache
def _gpu(number, module):
    """One object for each GPU: all networks share its pool."""
    return Gpu(number, module)


def _require_ok(module, name):
    if module.lib.dn_gpu_status() != module.lib.DN_OK:
        raise DeviceError(f"{name} cannot be used: {module.ffi.string(module.lib.dn_gpu_last_error()).decode()}")


def use_device(net: Any, name: str) -> Optional[Device]:
    """Let the arrays of a network's layers to come lie on a device; return it, since it must live as long."""
    if parse_device(name)[0] == "cpu":
        return None
    device = open_device(name)
    if net._core.dtype.itemsize != 4:
        raise DeviceError(f"device={name!r}: its kernels work on float32")
    net._core.lib.set_network_device(net._handle, device.handle)
    return device


def devices() -> list[str]:
    """Return the names of the GPUs that the driver has, ``"gpu:0 (NVIDIA H100)"``, say; none where PyCUDA or a driver is missing."""
    try:
        driver = import_driver()
    except DeviceError:
        return []
    try:
        found = [driver.Device(i) for i in range(driver.Device.count())]
        return [f"gpu:{i} ({one.name()}, {human_bytes(one.total_memory())})" for i, one in enumerate(found)]
    except driver.Error:
        return []


def builds() -> dict[str, Optional[str]]:
    """Return what each library's kernels were compiled for, None where it has not been built.

    Returns
    -------
    dict
        ``{"cuda": "CUDA 13.0", "emulated": None}``, say.  Neither needs a GPU or a driver to be looked at.
    """
    return {name: _target(module) for name, module in MODULES.items()}


def _target(name):
    try:
        module = importlib.import_module(name)
    except ModuleNotFoundError:
        return None
    except ImportError as error:
        return f"unusable ({error}); build it again"
    return module.ffi.string(module.lib.dn_gpu_target()).decode()
