"""What annotations call the kinds of arrays and paths that functions take and return."""
from __future__ import annotations

import os
from typing import Any, Union

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]                    # of a layer: float32, or int32 for indexes
Floats = npt.NDArray[np.float32]
Integers = npt.NDArray[np.integer]          # labels and numbers of images, of any width
Pixels = npt.NDArray[np.uint8]
Path = Union[str, "os.PathLike[str]"]
