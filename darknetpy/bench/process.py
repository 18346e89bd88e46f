"""A program of the benchmark in its own process, as an object that sends requests and reads replies."""
from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import tempfile

from darknetpy.errors import DarknetError

_HERE = os.path.dirname(os.path.abspath(__file__))
_ROOT = os.path.dirname(os.path.dirname(_HERE))
# glibc keeps freed memory instead of giving it back: PyTorch otherwise pays page faults on every large tensor.
_KEEP_MEMORY = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": "4000000000", "MALLOC_TOP_PAD_": "268435456"}

# name -> (file, what the job says besides, environment, label); "torch@gpu" is torch there: see on_device()
PROGRAMS = {
    "darknetpy": ("ours", {}, {}, "darknetpy"),
    "torch": ("torch_peer", {"best": False}, {}, "PyTorch"),
    "torch-best": ("torch_peer", {"best": True}, _KEEP_MEMORY, "PyTorch, best"),
    "ncnn": ("ncnn_peer", {}, {}, "ncnn"),
    "onnxruntime": ("onnxruntime_peer", {}, {}, "onnxruntime"),
    "opencv": ("opencv_peer", {}, {}, "OpenCV"),
    "darknet": ("darknet_peer", {}, {}, "Darknet (Debian)"),
    "darknetpy-kernels": ("ours_kernels", {}, {}, "darknetpy"),
    "darknetpy-device-kernels": ("ours_device_kernels", {}, {}, "darknetpy"),
    "torch-kernels": ("torch_kernels", {}, {}, "PyTorch"),
    "torch-best-kernels": ("torch_kernels", {}, _KEEP_MEMORY, "PyTorch, memory reused"),
    "darknet-kernels": ("darknet_peer", {"program": "Kernels"}, {}, "Darknet (Debian)"),
    "darknetpy-convolutions": ("ours_convolutions", {}, {}, "darknetpy"),
    "gemm-convolutions": ("ours_convolutions", {"convolution": "gemm"}, {}, "darknetpy, gemm"),
    "torch-best-convolutions": ("torch_convolutions", {}, _KEEP_MEMORY, "PyTorch, memory reused"),
    "limits": ("limits", {}, {}, "numpy"),
}
# peer -> its programs
PEERS = {"torch": ("torch", "torch-best"), "ncnn": ("ncnn",), "onnxruntime": ("onnxruntime",),
         "opencv": ("opencv",), "darknet": ("darknet",)}  # fmt: skip
TRAINING_PEERS = ("torch", "darknet")
# peer -> (label, modules and their packages)
_PACKAGES = {
    "torch": ("PyTorch", {"torch": "torch"}),
    "ncnn": ("ncnn", {"ncnn": "ncnn"}),
    "onnxruntime": ("onnxruntime", {"onnxruntime": "onnxruntime", "onnx": "onnx"}),
    "opencv": ("OpenCV", {"cv2": "opencv-python-headless, before version 5"}),
}
_DARKNET_FILES = ("/usr/lib/darknet/libdarknet.so", "/usr/lib/darknet/include/darknet.h")


class ProgramFailed(DarknetError):
    """A program of the benchmark ended; the message is its last word."""


def on_device(name, device):
    """Return the name of a program that runs on a device: ``"darknetpy@gpu:1"``; on the CPU it keeps its own."""
    return name if device == "cpu" else f"{name}@{device}"


def device_of(name):
    """Return the device of a program's name."""
    return name.partition("@")[2] or "cpu"


def label_of(name):
    """Return what a program is called in tables: ``"darknetpy, gpu:1"``."""
    program, _, device = name.partition("@")
    return PROGRAMS[program][3] + (f", {device}" if device else "")


def missing(peer):
    """Return why a peer cannot run here, in a line, or None."""
    label, modules = _PACKAGES.get(peer.partition("-")[0], ("", {}))
    for module, package in modules.items():
        if importlib.util.find_spec(module) is None:
            return f"{label} is left out: the package {package} is not installed"
    if peer == "darknet":
        for path in _DARKNET_FILES:
            if not os.path.exists(path):
                return f"Darknet is left out: no {path} (Debian's package darknet)"
    return None


def how_it_ended(status, errors):
    """Return the last word of a process that failed, from its exit status and what it wrote to standard error."""
    if status < 0:
        return f"killed by signal {-status}" + (" (is the memory too small?)" if status == -9 else "")
    last = [text for text in errors.splitlines() if text.strip()][-1:]
    return last[0] if last else f"ended with status {status}"


class Process:
    """A running program; a context manager that ends it.

    Attributes
    ----------
    label : str
    facts : dict
        What the program says of itself: ``program``, ``threads``, ``bytes_before`` and more.
    """

    def __init__(self, name, job):
        file, more, environment, _ = PROGRAMS[name.partition("@")[0]]
        self.name, self.label = name, label_of(name)
        self._errors = tempfile.TemporaryFile("w+")
        self._job = tempfile.NamedTemporaryFile("w", suffix=".json")
        json.dump({**job, **more, "device": device_of(name)}, self._job)
        self._job.flush()
        env = {**os.environ, **environment, "OMP_NUM_THREADS": str(job["threads"])}
        if file.startswith("ours"):
            env["PYTHONPATH"] = os.pathsep.join([_ROOT, *filter(None, [os.environ.get("PYTHONPATH")])])
        self._process = subprocess.Popen([sys.executable, os.path.join(_HERE, "worker.py"), file, self._job.name], env=env,
                                         stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._errors, text=True)
        try:
            self.facts = self._read()
        except BaseException:
            self.close()
            raise

    def ask(self, command, **arguments):
        """Send a request; return the reply."""
        try:
            self._process.stdin.write(json.dumps({"command": command, **arguments}) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            pass                            # the reply's absence says more
        return self._read()

    def _read(self):
        line = self._process.stdout.readline()
        if line:
            return json.loads(line)
        status = self._process.wait()
        self._errors.seek(0)
        raise ProgramFailed(f"{self.label}: {how_it_ended(status, self._errors.read())}")

    def close(self):
        """End the process."""
        self._process.kill()
        self._process.wait()
        self._process.stdin.close()
        self._process.stdout.close()
        self._errors.close()
        self._job.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()
