"""Writes a page, all figures and two charts of `darknetpy bench kernels` and `bench network` on a device: `make bench-gpu`.

    python cuda/bench.py gpu                # docs/bench/gpu-nvidia-h100-80gb-hbm3.md, .json, .png and -networks.png, say
    python cuda/bench.py emulated           # the same commands over the emulator, on small shapes: build/bench/gpu-emulated.md
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile

from darknetpy.errors import DeviceError
from darknetpy.gpu import open_device

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
DEBIAN = "/usr/share/darknet/cfg"
# Debian's file, batch and size -> ours where it is not installed
NETWORKS = {"darknet19.cfg:128@224": "cfg/fashion-residual.cfg:128", "yolov3.cfg:16@416": "cfg/scenes-v3.cfg:16@416"}
SHAPES = "64x64x56x56,32x128x112x112,32x256x112x112"
SMALL_SHAPES, SMALL_NETWORKS = "3x4x5x6,2x8x14x14", ["cfg/fashion-mnist.cfg:2"]


def networks():
    """Return the networks to measure, Debian's where they are installed."""
    found = []
    for wanted, ours in NETWORKS.items():
        path = os.path.join(DEBIAN, wanted)
        found.append(path if os.path.exists(path.partition(":")[0]) else ours)
    return found


def commands(device):
    """Return the words of both commands, by the name of their part of the page."""
    small = device == "emulated"
    common = ["--device", f"cpu,{device}", "--peers", "torch", "--rounds", "1" if small else "3"]
    threads = str(len(os.sched_getaffinity(0)))
    seconds = ["--seconds", "0.001" if small else "0.1"]
    kernels = ["kernels", *common, *seconds, "--threads", threads, "--shapes", SMALL_SHAPES if small else SHAPES]
    # PyTorch runs on the GPU alone: on the CPU a step of these networks takes seconds.
    common[1] = device
    seconds = ["--seconds", "0.01" if small else "1"]
    subjects = SMALL_NETWORKS if small else networks()
    return {"kernels": kernels, "networks": ["network", *subjects, "--train", "--per-layer", *common, *seconds]}


def measure(part, words, folder, plot):
    """Run one command; return its page and its figures, or None where it failed: it has said why."""
    page, figures = (os.path.join(folder, f"{part}{ending}") for ending in (".md", ".json"))
    outputs = ["--output", page, "--json", figures] if part == "kernels" else ["--output", page, "--output", figures]
    line = [sys.executable, "-m", "darknetpy", "bench", *words, "--plot", plot, *outputs]
    if subprocess.run(line, cwd=ROOT).returncode:
        return None
    with open(page, encoding="utf-8") as file, open(figures, encoding="utf-8") as numbers:
        return file.read(), json.load(numbers)


def main():
    """Run the command line; return the exit status, 1 where a command failed: what the others found is written all the same."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("device")
    parser.add_argument("--folder", help="where to write (default: docs/bench, of the emulator build/bench)")
    args = parser.parse_args()
    try:
        model = open_device(args.device).model or "emulated"
    except DeviceError as error:
        print(error, file=sys.stderr)
        return 1
    folder = args.folder or os.path.join(ROOT, *(("build", "bench") if args.device == "emulated" else ("docs", "bench")))
    os.makedirs(folder, exist_ok=True)
    name = "gpu-" + re.sub(r"\W+", "-", model.lower()).strip("-")
    pages, figures = [f"# {model}\n\nWritten by `make bench-gpu`.\n"], {}
    plots = {"kernels": f"{name}.png", "networks": f"{name}-networks.png"}
    words = commands(args.device)
    for part in words:
        with tempfile.TemporaryDirectory(prefix="darknetpy-bench-") as scratch:
            found = measure(part, words[part], scratch, os.path.join(folder, plots[part]))
        if found:
            text = re.sub(r"\]\([^)]*\.png\)", f"]({plots[part]})", found[0])
            pages.append(re.sub("^#", "##", text, flags=re.MULTILINE))
            figures[part] = found[1]
    for ending, text in ((".md", "\n".join(pages)), (".json", json.dumps(figures, indent=1) + "\n")):
        with open(os.path.join(folder, name + ending), "w", encoding="utf-8") as file:
            file.write(text)
        print(os.path.relpath(os.path.join(folder, name + ending), ROOT))
    return 0 if len(figures) == len(words) else 1


if __name__ == "__main__":
    sys.exit(main())
