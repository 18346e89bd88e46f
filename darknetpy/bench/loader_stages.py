"""The stages of a training step, each alone: of an image in the loader, and of the network."""

from __future__ import annotations

import concurrent.futures
import contextlib
import time
from typing import Any

import numpy as np

from darknetpy.data.dataset import Dataset, ImageList
from darknetpy.data.images import decode_image
from darknetpy.data.loader import Batch
from darknetpy.data.view import View

STAGES = {
    "read": "reading the file",
    "decode": "decoding the image",
    "resize": "cropping and resizing",
    "colour": "changing colours",
}
_PASSES = 3  # over the images; the least time counts
_NEUTRAL = {"hue": 0, "saturation": 1, "exposure": 1}


def loader_stages(dataset: Dataset, view: View, count: int) -> dict[str, float]:
    """Return the CPU seconds per image that the loader spends, by stage, in one thread.

    Images are written into their row of the mini-batch as they are resized: there is no copy to count.  The
    thread is not the main one, whose freed memory goes back to the system after each image.
    """
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        return pool.submit(_loader_stages, dataset, view, count).result()


def _loader_stages(dataset, view, count):
    images = [(dataset.pixels(index), dataset.annotation(index)) for index in range(count)]
    truths = view.truths or dataset.classes
    row = Batch(
        np.empty((1, view.size), np.float32), np.zeros((1, truths), np.float32), *np.zeros((2, 1), np.int64)
    )

    def fill():
        for place, image in enumerate(images):
            view.fill(row, 0, *image, dataset, 0, place)

    stages = {}
    if isinstance(dataset, ImageList):
        paths = [dataset.path(index) for index in range(count)]
        stages["read"] = _least(lambda: [_read(path) for path in paths])
        stages["decode"] = max(_least(lambda: [decode_image(path) for path in paths]) - stages["read"], 0)
    with _colours_off(view.options):
        stages["resize"] = _least(fill)
    stages["colour"] = max(_least(fill) - stages["resize"], 0)
    return {name: seconds / count for name, seconds in stages.items()}


def _read(path):
    with open(path, "rb") as file:
        return file.read()


def _least(work):
    times = []
    for _ in range(_PASSES):
        start = time.thread_time()
        work()
        times.append(time.thread_time() - start)
    return min(times)


@contextlib.contextmanager
def _colours_off(options):
    before = {name: getattr(options, name) for name in _NEUTRAL}
    try:
        for name, value in _NEUTRAL.items():
            setattr(options, name, value)
        yield
    finally:
        for name, value in before.items():
            setattr(options, name, value)


def step_stages(net: Any, batch: Batch, rounds: int) -> dict[str, tuple[float, float]]:
    """Return (seconds, CPU seconds of all threads) per image of each of the network's passes."""
    passes = {
        "forward": lambda: net.forward(batch.x, batch.truth, train=True),
        "backward": net.backward,
        "update": net.update,
    }
    found = {name: [] for name in passes}
    for _ in range(max(rounds, 3)):
        for name, work in passes.items():
            wall, used = time.perf_counter(), time.process_time()
            work()
            found[name].append(
                ((time.perf_counter() - wall) / net.batch, (time.process_time() - used) / net.batch)
            )
    return {name: min(times) for name, times in found.items()}
