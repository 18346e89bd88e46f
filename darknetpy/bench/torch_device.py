"""Where PyTorch runs as a program of the benchmark; imports torch and nothing of darknetpy."""

from __future__ import annotations

import contextlib

import torch

_OF_16_BITS = {"fp16": torch.float16, "bf16": torch.bfloat16}
_PRODUCTS = {"fp32": "float32 without TF32", "tf32": "float32 with TF32", "fp16": "autocast to float16, with loss scaling in training",
             "bf16": "autocast to bfloat16"}


def use_gpu(name, precision="fp32"):
    """Return the device of a job; on a GPU it becomes PyTorch's default, and products are TF32's if that is asked for.

    Parameters
    ----------
    name : str
        ``"cpu"``, ``"gpu"`` or ``"gpu:1"``.
    precision : {"fp32", "tf32", "fp16", "bf16"}
        As ``[net] precision=``; the last two act by :func:`mixed`.

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
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = precision == "tf32"
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


def mixed(device, precision):
    """Return the context of a forward pass: on a GPU autocast, where products are of 16 bits."""
    if device.type == "cpu" or precision not in _OF_16_BITS:
        return contextlib.nullcontext()
    return torch.autocast(device.type, _OF_16_BITS[precision])


def scaler(device, precision):
    """Return what scales losses: in training on a GPU in halves; else it does nothing."""
    return torch.amp.GradScaler("cuda", enabled=device.type != "cpu" and precision == "fp16")


def describe(device, precision="fp32"):
    """Return PyTorch's version, and on a GPU what it runs on and with."""
    text = f"PyTorch {torch.__version__}"
    if device.type == "cpu":
        return text
    cudnn = torch.backends.cudnn.version()
    return f"{text} on {torch.cuda.get_device_name(device)}, cuDNN {cudnn}, {_PRODUCTS[precision]}"
