"""darknetpy: Darknet's networks, trained, run and measured from Python.

>>> import numpy as np, darknetpy as dn
>>> l = dn.make_batchnorm_layer(batch=4, w=6, h=6, c=3)       # one layer, by hand
>>> net = dn.load_network("fashion-mnist.cfg")                # a network from a .cfg

Layers by hand: :mod:`darknetpy.layers`, run by :mod:`darknetpy.passes`; single kernels: :mod:`darknetpy.kernels`; the command line:
``darknetpy --help``.
"""
from __future__ import annotations

from darknetpy import kernels
from darknetpy._types import Path
from darknetpy.builder import load_network
from darknetpy.errors import ArgumentError, CfgError, DarknetError, DataError, DeviceError, OutOfMemory, WeightsError
from darknetpy.layer import Layer
from darknetpy.layers import *  # noqa: F403  make_ of every layer type
from darknetpy.layers import __all__ as _constructors
from darknetpy.network import Network
from darknetpy.passes import *  # noqa: F403  forward_, backward_, update_ and resize_ of every layer type
from darknetpy.passes import __all__ as _passes  # type: ignore[attr-defined]
from darknetpy.threads import get_num_threads, set_num_threads

__version__ = "0.1.0"


def load_checkpoint(path: Path, device: str = "cpu") -> Network:
    """Load what :meth:`Network.save_checkpoint` wrote: a network ready to go on training, bit for bit.

    Parameters
    ----------
    path : str or path
    device : str
        Where its arrays are to lie, wherever they lay when it was saved; see :func:`load_network`.

    Returns
    -------
    Network

    Raises
    ------
    WeightsError
        The file is damaged or not a checkpoint.
    """
    from darknetpy.checkpoint import load_checkpoint as load

    return load(path, device)


__all__ = ["ArgumentError", "CfgError", "DarknetError", "DataError", "DeviceError", "Layer", "Network", "OutOfMemory", "WeightsError",
           "get_num_threads", "kernels", "load_checkpoint", "load_network", "set_num_threads", *_constructors, *_passes]
