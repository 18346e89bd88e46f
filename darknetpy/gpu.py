"""The CUDA kernels' libraries, where they have been built: by nvcc (`make cuda`), or by g++ to run on the CPU."""
from __future__ import annotations

import importlib
from typing import Optional

MODULES = {"cuda": "darknetpy._darknet_cuda", "emulated": "darknetpy._darknet_cuda_emulated"}


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
