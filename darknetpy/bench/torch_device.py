"""Where PyTorch runs as a program of the benchmark; imports torch and nothing of darknetpy."""

from __future__ import annotations

import torch


def use_gpu(name):
    """Return the device of a job; on a GPU it becomes PyTorch's default, and products are float32 throughout.

    Parameters
    ----------
    name : str
        ``"cpu"``, ``"gpu"`` or ``"gpu:1"``.

    Raises
    ------
    RuntimeError
        PyTorch has no such GPU.
    """
    if name == "cpu":
        return torch.device("cpu")
    number = int(name.partition(":")[2] or 0)
    if not torch.cuda.is_available():
        raise RuntimeError(f"PyTorch {torch.__version__} has no GPU here: torch.cuda.is_available() is False")
    if number >= torch.cuda.device_count():
        raise RuntimeError(f"PyTorch has {torch.cuda.device_count()} GPU(s), no cuda:{number}")
    device = torch.device("cuda", number)
    torch.cuda.set_device(device)
    torch.set_default_device(device)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    return device


class Marks:
    """CUDA events on PyTorch's stream, as darknetpy's own (place.py)."""

    def __init__(self, count):
        self._events = [torch.cuda.Event(enable_timing=True) for _ in range(count)]

    def set(self, i):
        """Set mark `i` behind all that was begun so far."""
        self._events[i].record()

    def seconds(self):
        """Wait; return the seconds from each mark to the next."""
        torch.cuda.synchronize()
        return [one.elapsed_time(other) / 1000 for one, other in zip(self._events, self._events[1:])]

    def free(self):
        """Give the marks back, which PyTorch does."""


def describe(device):
    """Return PyTorch's version, and on a GPU what it runs on and with."""
    text = f"PyTorch {torch.__version__}"
    if device.type == "cpu":
        return text
    cudnn = torch.backends.cudnn.version()
    return f"{text} on {torch.cuda.get_device_name(device)}, cuDNN {cudnn}, float32 without TF32"
