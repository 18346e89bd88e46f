"""Kernels and normalization layers beside other programs and beside what memory allows, in turns."""

from __future__ import annotations

import contextlib
import os
import statistics
import tempfile
from dataclasses import dataclass, field

import numpy as np

from darknetpy.bench.exact import errors, normalization, sample
from darknetpy.bench.forms import FORMS, LAYERS, SHAPES, default_groups, forms_of
from darknetpy.bench.machine import cache_bytes
from darknetpy.bench.process import PROGRAMS, Process, ProgramFailed, missing

PEERS = ("torch-best", "torch", "darknet")
DATA = {"mean 0, deviation 1": (0, 1), "mean 1000, deviation 0.01": (1000, 0.01)}
_FLOAT = 4  # bytes
_SAMPLED = 1 << 21  # values of an accuracy check
_COPY_SECONDS = 0.03  # of each measurement of memory


@dataclass
class Settings:
    """What runs; shapes are (n, c, h, w), `seconds` those of a turn, `kernels`: single functions too."""

    layers: tuple = LAYERS
    shapes: tuple = SHAPES
    threads: tuple = (1, 2)
    peers: tuple = PEERS
    rounds: int = 5
    seconds: float = 0.03
    kernels: bool = True


@dataclass
class Row:
    """One form on one shape and number of threads; lists have a value per round.

    Attributes
    ----------
    form : str
    shape : tuple
    threads : int
    seconds : dict
        Program -> times of a call.
    memory : list of dict
        Bytes per second of streaming ``copy``, ``read`` and ``write``.
    """

    form: str
    shape: tuple
    threads: int
    seconds: dict
    memory: list
    cache: int

    def bytes_per_second(self):
        """Return what ours moves, counting the least traffic."""
        return [FORMS[self.form].traffic * np.prod(self.shape) / s for s in self.seconds["darknetpy"]]

    def of_copy(self):
        """Return the share of the copy's bytes per second, counting the least traffic."""
        return [own / memory["copy"] for own, memory in zip(self.bytes_per_second(), self.memory)]

    def of_passes(self):
        """Return the share of what memory allows for the passes made."""
        least = (
            FORMS[self.form].least_seconds(self.shape, self.threads, memory, self.cache)
            for memory in self.memory
        )
        return [bound / own for bound, own in zip(least, self.seconds["darknetpy"])]

    def beyond_cache(self):
        """Return whether one tensor exceeds the cache."""
        return _FLOAT * np.prod(self.shape) > self.cache

    def ratio(self, peer):
        """Return how many times as fast as a peer ours is, round by round; None without the peer."""
        if peer not in self.seconds:
            return None
        return [theirs / own for theirs, own in zip(self.seconds[peer], self.seconds["darknetpy"])]


@dataclass
class Found:
    """What :func:`compare_kernels` found: rows of times and of errors, facts of the programs, notes."""

    settings: Settings
    rows: list = field(default_factory=list)
    accuracy: list = field(default_factory=list)
    facts: dict = field(default_factory=dict)
    notes: list = field(default_factory=list)
    cache: int = 0


def compare_kernels(settings, *, progress=lambda text: None):
    """Measure kernels and layers of darknetpy and of its peers.

    Parameters
    ----------
    settings : Settings
    progress : callable
        Gets a line of text as the work goes on.

    Returns
    -------
    Found
        What the build or a peer lacks is missing from its rows; who is not installed is named in its notes.
    """
    found = Found(settings, cache=cache_bytes())
    found.notes = [reason for reason in dict.fromkeys(map(missing, settings.peers)) if reason]
    with contextlib.ExitStack() as stack:
        programs = _start(stack, settings, found.notes)
        found.facts = {name: program.facts for name, program in programs.items()}
        layers = [layer for layer in settings.layers if layer in programs["darknetpy"].facts["layers"]]
        for shape in settings.shapes:
            found.rows += _time_shape(programs, shape, layers, settings, found.cache, progress)
        found.accuracy = _check(programs, layers, settings, progress)
    return found


def _start(stack, settings, notes):
    """Start the programs; return them by name, ours first."""
    programs, job = {}, {"threads": max(settings.threads)}
    for name in ("darknetpy", *(peer for peer in settings.peers if not missing(peer))):
        try:
            programs[name] = stack.enter_context(Process(f"{name}-kernels", job))
        except ProgramFailed as error:
            if name == "darknetpy":
                raise
            notes.append(f"left out: {error}")
    return programs


def _time_shape(programs, shape, layers, settings, cache, progress):
    """Return the rows of one shape: in a round each form is timed in all programs and numbers of threads."""
    progress(f"{shape_text(shape)}: making the layers")
    groups, able = default_groups(shape[1]), {}
    for name, program in programs.items():
        common = [layer for layer in layers if layer in program.facts["layers"]]
        able[name] = program.ask("prepare", shape=shape, layers=common, groups=groups)
    forms = [form for form in forms_of(layers, settings.kernels) if form in able["darknetpy"]]
    rows = {(form, n): Row(form, shape, n, {}, [], cache) for form in forms for n in settings.threads}
    for turn in range(-1, settings.rounds):  # the first does not count
        progress(f"{shape_text(shape)}: round {max(turn, 0) + 1} of {settings.rounds}")
        for n in settings.threads:
            memory = programs["darknetpy"].ask("bandwidth", threads=n, seconds=_COPY_SECONDS)
            for form in forms if turn >= 0 else ():
                rows[form, n].memory.append(memory)
        for form in forms:
            names = [name for name in programs if form in able[name]]
            times = _time_form(programs, names, form, settings, turn)
            for (name, n), seconds in times.items() if turn >= 0 else ():
                rows[form, n].seconds.setdefault(name, []).append(seconds)
    return list(rows.values())


def _time_form(programs, names, form, settings, turn):
    """Return (program, threads) -> seconds of a call; every other turn runs backwards."""
    times, seconds = {}, settings.seconds if turn >= 0 else 0
    for n in settings.threads[:: 1 if turn % 2 == 0 else -1]:
        for name in names[:: 1 if turn % 2 == 0 else -1]:
            if name == "darknet" and n != settings.threads[0]:  # built without threads
                continue
            times[name, n] = programs[name].ask("time", form=form, threads=n, seconds=seconds)
    if "darknet" in names:
        times.update({("darknet", n): times["darknet", settings.threads[0]] for n in settings.threads})
    return times


# ---- accuracy
def _check(programs, layers, settings, progress):
    """Return rows of errors against float64 of ours and PyTorch's, on the same data."""
    names = ["darknetpy", *[name for name in programs if name.startswith("torch")][:1]]
    rows = []
    with tempfile.TemporaryDirectory(prefix="darknetpy-bench-") as folder:
        for shape in settings.shapes:
            for layer in layers:
                progress(f"{shape_text(shape)}: errors of {layer}")
                for data in DATA:
                    rows += _check_layer(programs, names, layer, shape, data, folder)
    return rows


def _check_layer(programs, names, layer, shape, data, folder):
    given, rows = sample(shape, layer, *DATA[data], _SAMPLED), []
    groups = default_groups(given["x"].shape[1])
    np.savez(os.path.join(folder, "given.npz"), **given)
    for train in (True, False) if layer == "batchnorm" else (True,):
        exact, row = normalization(layer, groups, given, train), {}
        for name in names:
            path = os.path.join(folder, "found.npz")
            programs[name].ask(
                "numbers",
                given=os.path.join(folder, "given.npz"),
                path=path,
                layer=layer,
                groups=groups,
                train=train,
            )
            with np.load(path) as arrays:
                row["darknetpy" if name == "darknetpy" else "torch"] = errors(arrays, exact)
        rows.append(
            {
                "layer": layer,
                "train": train,
                "shape": shape,
                "checked": given["x"].shape,
                "data": data,
                "errors": row,
            }
        )
    return rows


# ---- figures
def geometric_mean(values):
    """Return the geometric mean."""
    return float(np.exp(np.mean(np.log(values))))


def shape_text(shape):
    """Return a shape as it is written on the command line."""
    return "x".join(map(str, shape))


def medians(rows, form, threads, peer):
    """Return a form's ratio to a peer on every shape, medians over the rounds."""
    chosen = [row.ratio(peer) for row in rows if row.form == form and row.threads == threads]
    return [statistics.median(ratio) for ratio in chosen if ratio]


def label(name):
    """Return what a program is called in tables."""
    return PROGRAMS[f"{name}-kernels"][3]
