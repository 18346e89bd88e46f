"""The CUDA kernels' libraries, where they have been built: by nvcc (`make cuda`), or by g++ to run on the CPU; and the
devices that networks run on with them.
"""
from __future__ import annotations

import importlib
from typing import Any, Optional

from darknetpy.errors import DeviceError

MODULES = {"cuda": "darknetpy._darknet_cuda", "emulated": "darknetpy._darknet_cuda_emulated"}
DEVICES = {"gpu": ("cuda", "cuda"), "emulated": ("emulated", "cuda-emulated")}    # device -> library, make's target


def open_device(name: str) -> tuple[Any, Any]:
    """Return the device that a network is to run on, and the library it belongs to, which must be kept.

    Parameters
    ----------
    name : {"gpu", "emulated"}

    Raises
    ------
    DeviceError
        There is no such device, its library has not been built, or the driver has no GPU.
    """
    if name not in DEVICES:
        raise DeviceError(f"device={name!r}: wanted cpu, {' or '.join(DEVICES)}")
    module_name, target = DEVICES[name]
    try:
        module = importlib.import_module(MODULES[module_name])
    except ImportError as error:
        raise DeviceError(f"device={name!r}: its kernels are not built ({error}); `make {target}` builds them") from None
    lib = module.lib
    memory = lib.dn_gpu_allocate(1)
    if lib.dn_gpu_status() != lib.DN_OK:
        raise DeviceError(f"device={name!r} cannot be used: {module.ffi.string(lib.dn_gpu_last_error()).decode()}")
    lib.dn_gpu_release(memory)
    return lib.dn_gpu_device(), lib


def use_device(net: Any, name: str) -> Any:
    """Let the arrays of a network's layers to come lie on a device; return the library, which must live as long."""
    if name == "cpu":
        return None
    device, library = open_device(name)
    if net._core.dtype.itemsize != 4:
        raise DeviceError(f"device={name!r}: its kernels work on float32")
    net._core.lib.set_network_device(net._handle, device)
    return library


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
