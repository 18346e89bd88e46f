"""Training from image files beside training on one mini-batch in memory, and what each stage of a step costs.

Both loops make the same steps of the same network in turns.  The loader's threads and the kernels' share
the CPUs, so what tells the limit is CPU time: that of the loader per image against that of the step.
"""

from __future__ import annotations

import statistics
import tempfile
import textwrap
import time
from dataclasses import dataclass, field
from typing import Any, Callable, Optional

from darknetpy.bench.loader_stages import STAGES, loader_stages, step_stages
from darknetpy.bench.network import median_and_range
from darknetpy.bench.report import columns, pipes
from darknetpy.bench.subject import prepare_cfg
from darknetpy.builder import load_network
from darknetpy.core import core
from darknetpy.data import (
    DetectionView,
    Loader,
    View,
    head_specs,
    label_classes,
    open_data,
    open_detection_data,
    require_classes,
)
from darknetpy.data.dataset import ImageList
from darknetpy.data.detection_view import HEADS
from darknetpy.errors import ArgumentError
from darknetpy.evaluation import require_agreement
from darknetpy.threads import available_cpus

GOAL = 0.95  # share of the rate in memory from which on loading does not count as a limit
_SAMPLE = 32  # images whose loading is timed stage by stage
_WIDTH = 110  # of a page's text
_EXPLANATION = """\
Both loops make the same steps, in turns; rates are medians over the rounds, with the range, and the \
share is taken round by round. A turn of the loader ends when it has made as many batches as were trained \
on. Every image is decoded, as in a data set that the cache of decoded images does not hold. Stages are \
timed alone, the least of some passes: CPU seconds, those of the step over all its threads, which wait \
for one another by spinning. An image is written into its row of the mini-batch while it is resized: \
there is no copy."""


@dataclass
class Settings:
    """How the benchmark runs.

    Attributes
    ----------
    threads : int
        Of the kernels.
    workers : int or None
        Threads of the loader; None: the default.
    rounds : int
        Turns of each loop.
    seconds : float
        How long a turn lasts at least.
    """

    threads: int = 1
    workers: Optional[int] = None
    rounds: int = 5
    seconds: float = 2.0


@dataclass
class Loading:
    """What :func:`measure` found; rates are images per second of each round, stages CPU seconds per image.

    Attributes
    ----------
    loaded, memory : list of float
        Rates with the loader and on one mini-batch in memory.
    loaded_cpu, memory_cpu : list of float
        CPU seconds per image of the process in the same turns.
    stages : dict of str to float
        Of one image through the loader, in one thread; what does not occur is missing.
    step : dict of str to (float, float)
        Seconds and CPU seconds per image of forward, backward and update.
    """

    cfg: str
    data: str
    batch: int
    shape: list
    threads: int
    workers: int
    cpus: int
    files: bool
    loaded: list = field(default_factory=list)
    memory: list = field(default_factory=list)
    loaded_cpu: list = field(default_factory=list)
    memory_cpu: list = field(default_factory=list)
    stages: dict = field(default_factory=dict)
    step: dict = field(default_factory=dict)

    @property
    def shares(self) -> list:
        """Rate with the loader over the rate in memory, round by round."""
        return [loaded / memory for loaded, memory in zip(self.loaded, self.memory)]

    @property
    def loader_cpu(self) -> float:
        """CPU seconds per image of the loader."""
        return sum(self.stages.values())

    def verdict(self) -> str:
        """Return which stage is the limit, and why."""
        share, rate = statistics.median(self.shares), statistics.median(self.memory)
        if share >= GOAL:
            return f"data loading does not hold the step back: {share:.1%} of the rate in memory"
        slowest = max(self.stages, key=self.stages.get)
        loader, step = 1e3 * self.loader_cpu, 1e3 * statistics.median(self.memory_cpu)
        line = (
            f"data loading is the limit, {share:.1%} of the rate in memory, most of all {STAGES[slowest]}: "
        )
        line += f"{1e3 * self.stages[slowest]:.2f} of the loader's {loader:.2f} ms of CPU per image"
        threads = min(max(self.workers, 1), self.cpus)
        if self.loader_cpu * rate > threads:
            return line + f"; {threads} loader thread(s) alone make {threads / self.loader_cpu:.0f} images/s"
        best = step / (step + loader)
        share = f"so that {best:.1%} is what can be had"
        return line + f"; the step takes {step:.2f} ms of the same {self.cpus} CPU(s), {share}"


def measure(
    cfg: str,
    data: str,
    settings: Settings,
    *,
    batch: Optional[int] = None,
    size: Optional[tuple] = None,
    progress: Callable[[str], None] = lambda text: None,
) -> Loading:
    """Train in turns from a loader and on one mini-batch in memory; time the stages of both.

    Parameters
    ----------
    cfg, data : str
        As ``classifier train`` and ``detector train`` take them; which of the two, the cfg's heads say.
    settings : Settings
    batch : int, optional
        None: batch / subdivisions of the cfg.
    size : (int, int), optional
        Width and height; None: the cfg's.
    progress : callable
        Gets a line of text as the work goes on.

    Raises
    ------
    CfgError, DataError, ArgumentError, OSError
        As in training.
    """
    core.lib.dn_set_num_threads(settings.threads)
    with tempfile.TemporaryDirectory(prefix="darknetpy-bench-") as folder:
        path, batch = prepare_cfg(cfg, folder, batch=batch, size=size)
        net = load_network(path, batch=batch, train=True, lenient=True, keep_activations=False)
        dataset, view = _open(net, data)
    files = isinstance(dataset, ImageList)
    if files:
        dataset.cache_room = 0  # as for a set larger than the cache: every image is decoded
    with Loader(dataset, view, batch, workers=settings.workers) as loader:
        found = Loading(cfg, data, batch, [net.c, net.h, net.w], settings.threads, loader.workers,
                        available_cpus(), files)  # fmt: skip
        progress("warming up")
        kept = next(loader)
        steps = _steps_of(net, kept, settings.seconds)
        for turn in range(settings.rounds):
            progress(f"round {turn + 1} of {settings.rounds}")
            loader.wait()
            turns = [(lambda: next(loader), loader.wait, found.loaded, found.loaded_cpu),
                     (lambda: kept, lambda: None, found.memory, found.memory_cpu)]  # fmt: skip
            for source, settle, rates, cpu in turns if turn % 2 == 0 else turns[::-1]:
                _turn(net, source, settle, steps, rates, cpu)
    progress("stage by stage")
    found.stages = loader_stages(dataset, view, min(_SAMPLE, len(dataset)))
    found.step = step_stages(net, kept, settings.rounds)
    return found


def _open(net, data):
    """Return the images to train on and their view, as the training commands make them."""
    if any(spec.type in HEADS for spec in net.sections.layers):
        view = DetectionView.training(net.sections)
        classes = label_classes(head_specs(net.sections)[-1])
        source = open_detection_data(data, net.sections.dialect, view.class_only, classes)
        require_classes(net.sections, source)
    else:
        source = open_data(data)
        require_agreement(net, source)
        view = View.training(net.w, net.h, net.c, net.sections.net, net.dialect)
        if net.truths != source.classes:
            raise ArgumentError(f"{data}: {source.classes} classes, the network's loss wants {net.truths}")
    return source.train, view


def _steps_of(net, kept, seconds):
    """Warm up; return how many steps fill `seconds`."""
    net.train_batch(kept.x, kept.truth)
    start = time.perf_counter()
    net.train_batch(kept.x, kept.truth)
    return max(3, round(seconds / (time.perf_counter() - start)))


def _turn(net, source, settle, steps, rates, cpu):
    """Make steps; what the loader began for them counts to its end: it makes as many batches as it gives."""
    wall, used = time.perf_counter(), time.process_time()
    for _ in range(steps):
        batch = source()
        net.train_batch(batch.x, batch.truth)
    settle()
    images = steps * net.batch
    rates.append(images / (time.perf_counter() - wall))
    cpu.append((time.process_time() - used) / images)


# ---- what is shown
def title(found: Loading) -> str:
    """Return what was measured, in a line."""
    c, h, w = found.shape
    return (
        f"{found.cfg}, batch {found.batch} of {w}x{h}x{c}, {found.threads} kernel thread(s) and "
        f"{found.workers} loader thread(s) on {found.cpus} CPU(s)"
    )


def tables(found: Loading) -> list[list[list[str]]]:
    """Return two tables, the head first: the rates, and the stages per image."""

    def row(name, rates, cpu, share):
        middle, least, most = median_and_range(rates)
        return [
            name,
            f"{middle:.1f}",
            f"{least:.1f} to {most:.1f}",
            f"{1e3 * statistics.median(cpu):.2f}",
            share,
        ]

    share, least, most = median_and_range(found.shares)
    rates = [["training on", "images/s", "range", "CPU ms/image", "of the rate in memory"],
             row("one mini-batch in memory", found.memory, found.memory_cpu, ""),
             row("the default loader" if found.files else "the loader", found.loaded, found.loaded_cpu,
                 f"{share:.1%} ({least:.1%} to {most:.1%})")]  # fmt: skip
    total = found.loader_cpu + sum(cpu for _, cpu in found.step.values())
    stages = [["stage", "in", "CPU ms/image", "of all CPU time"]]
    for name, seconds in found.stages.items():
        stages.append([STAGES[name], "loader threads", f"{1e3 * seconds:.3f}", f"{seconds / total:.1%}"])
    for name, (_, seconds) in found.step.items():
        stages.append([name, "kernel threads", f"{1e3 * seconds:.3f}", f"{seconds / total:.1%}"])
    return [rates, stages]


def text(found: Loading) -> str:
    """Return the report for a terminal."""
    return "\n\n".join([title(found), *map(columns, tables(found)), found.verdict()])


def record(comparisons: list[Loading], machine: dict, command: str) -> dict[str, Any]:
    """Return all figures as a dict fit for JSON."""
    runs = [
        {**vars(found), "shares": found.shares, "loader_cpu": found.loader_cpu, "verdict": found.verdict()}
        for found in comparisons
    ]
    return {"command": command, "machine": machine, "runs": runs}


def markdown(comparisons: list[Loading], machine: dict, command: str) -> str:
    """Return the page: the command, the machine, and the tables of each run."""
    parts = ["# Training from image files", "", f"`{command}`", ""]
    parts += [f"- {name}: {value}" for name, value in machine.items()]
    parts += ["", textwrap.fill(_EXPLANATION, _WIDTH)]
    for found in comparisons:
        parts += ["", f"## {title(found)}", "", "\n\n".join(map(pipes, tables(found))), ""]
        parts += [f"- {found.verdict()}"]
    return "\n".join(parts) + "\n"
