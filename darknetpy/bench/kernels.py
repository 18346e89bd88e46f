"""Kernels and normalization layers beside other programs and beside what memory allows, in turns."""

from __future__ import annotations

import contextlib
import os
import statistics
import tempfile
from dataclasses import dataclass, field

import numpy as np

from darknetpy.bench.exact import errors, normalization, sample
from darknetpy.bench.forms import FORMS, LAYERS, SHAPES, TWINS, default_groups, forms_of
from darknetpy.bench.machine import cache_bytes
from darknetpy.bench.process import Process, ProgramFailed, label_of, missing, on_device

PEERS = ("torch-best", "torch", "darknet")
DATA = {"mean 0, deviation 1": (0, 1), "mean 1000, deviation 0.01": (1000, 0.01)}
_FLOAT = 4  # bytes
_SAMPLED = 1 << 21  # values of an accuracy check
_COPY_SECONDS = 0.03  # of each measurement of memory


@dataclass
class Settings:
    """What runs, and on which `devices`; shapes are (n, c, h, w), `seconds` those of a turn, `kernels`: single functions too."""

    layers: tuple = LAYERS
    shapes: tuple = SHAPES
    threads: tuple = (1, 2)
    peers: tuple = PEERS
    rounds: int = 5
    seconds: float = 0.03
    kernels: bool = True
    devices: tuple = ("cpu",)

    def places(self):
        """Return (device, number of threads) of all that is timed; a device other than the CPU has none, 0."""
        return [(d, n) for d in self.devices for n in (self.threads if d == "cpu" else (0,))]


@dataclass
class Row:
    """One form on one shape, device and number of threads; lists have a value per round.

    Attributes
    ----------
    form : str
    shape : tuple
    threads : int
        0 on a device other than the CPU.
    seconds : dict
        Program -> times of a call.
    memory : list of dict
        Bytes per second of streaming ``copy``, ``read`` and ``write``; on a device of ``copy``.
    cache : int
    device : str
    """

    form: str
    shape: tuple
    threads: int
    seconds: dict
    memory: list
    cache: int
    device: str = "cpu"

    @property
    def place(self):
        """Return (device, number of threads)."""
        return self.device, self.threads

    def bytes_per_second(self):
        """Return what ours moves, counting the least traffic."""
        return [FORMS[self.form].traffic * np.prod(self.shape) / s for s in self.seconds["darknetpy"]]

    def of_copy(self):
        """Return the share of the copy's bytes per second, counting the least traffic."""
        return [own / memory["copy"] for own, memory in zip(self.bytes_per_second(), self.memory)]

    def of_passes(self):
        """Return the share of what memory allows for the passes made; nothing where only the copy was measured."""
        if any("read" not in memory for memory in self.memory):
            return []
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
    """What :func:`compare_kernels` found: rows of times and of errors, facts of the programs, notes.

    Of a device the names of programs end with it: ``"torch@gpu"``.
    """

    settings: Settings
    rows: list = field(default_factory=list)
    accuracy: list = field(default_factory=list)
    facts: dict = field(default_factory=dict)
    notes: list = field(default_factory=list)
    cache: int = 0

    def beside_cpu(self, row):
        """Return how many times as fast as the CPU on most threads a device is, round by round; None without both."""
        form = TWINS.get(row.form, row.form)
        own = [
            r for r in self.rows if r.device == "cpu" and (r.form, r.shape) == (form, row.shape)
        ]
        if row.device == "cpu" or not own:
            return None
        cpu = max(own, key=lambda r: r.threads)
        return [there / here for there, here in zip(cpu.seconds["darknetpy"], row.seconds["darknetpy"])]


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
    with contextlib.ExitStack() as stack:
        programs = {device: _start(stack, settings, device, found) for device in settings.devices}
        for shape in settings.shapes:
            for device, own in programs.items():
                found.rows += _time_shape(own, shape, device, found, progress)
        found.accuracy = _check(programs, settings, progress)
    return found


def _peers_on(settings, device):
    """Return the peers that run on a device: on a GPU PyTorch, whose memory is always reused there."""
    if device == "cpu":
        return settings.peers
    return ("torch",) if device != "emulated" and any(p.startswith("torch") for p in settings.peers) else ()


def _start(stack, settings, device, found):
    """Start the programs of a device; return them by name, ours first."""
    programs, job, peers = {}, {"threads": max(settings.threads)}, _peers_on(settings, device)
    found.notes += [reason for reason in dict.fromkeys(map(missing, peers)) if reason and reason not in found.notes]
    for name in ("darknetpy", *(peer for peer in peers if not missing(peer))):
        kind = "device-kernels" if name == "darknetpy" and device != "cpu" else "kernels"
        try:
            programs[name] = stack.enter_context(Process(on_device(f"{name}-{kind}", device), job))
        except ProgramFailed as error:
            if name == "darknetpy":
                raise
            found.notes.append(f"left out: {error}")
    found.facts.update({on_device(name, device): program.facts for name, program in programs.items()})
    return programs


def _layers_of(settings, program):
    """Return the layers that are asked for and that a program has."""
    return [layer for layer in settings.layers if layer in program.facts["layers"]]


def _time_shape(programs, shape, device, found, progress):
    """Return the rows of one shape: in a round each form is timed in all programs and numbers of threads."""
    settings, where = found.settings, shape_text(shape) + ("" if device == "cpu" else f" on {device}")
    progress(f"{where}: making the layers")
    layers = _layers_of(settings, programs["darknetpy"])
    cache = programs["darknetpy"].facts.get("cache") or found.cache
    groups, able, threads = default_groups(shape[1]), {}, [n for d, n in settings.places() if d == device]
    for name, program in programs.items():
        common = [layer for layer in layers if layer in program.facts["layers"]]
        able[name] = program.ask("prepare", shape=shape, layers=common, groups=groups)
    forms = [form for form in forms_of(layers, settings.kernels, device) if form in able["darknetpy"]]
    rows = {(form, n): Row(form, shape, n, {}, [], cache, device) for form in forms for n in threads}
    for turn in range(-1, settings.rounds):  # the first does not count
        progress(f"{where}: round {max(turn, 0) + 1} of {settings.rounds}")
        for n in threads:
            memory = programs["darknetpy"].ask("bandwidth", threads=n, seconds=_COPY_SECONDS)
            for form in forms if turn >= 0 else ():
                rows[form, n].memory.append(memory)
        for form in forms:
            names = [name for name in programs if _asked(name, form) in able[name]]
            times = _time_form(programs, names, form, threads, settings, turn)
            for (name, n), seconds in times.items() if turn >= 0 else ():
                rows[form, n].seconds.setdefault(name, []).append(seconds)
    return list(rows.values())


def _asked(name, form):
    """Return what a program calls a form: Darknet's names of the CUDA functions are ours alone."""
    return form if name == "darknetpy" else TWINS.get(form, form)


def _time_form(programs, names, form, threads, settings, turn):
    """Return (program, threads) -> seconds of a call; every other turn runs backwards."""
    times, seconds = {}, settings.seconds if turn >= 0 else 0
    for n in threads[:: 1 if turn % 2 == 0 else -1]:
        for name in names[:: 1 if turn % 2 == 0 else -1]:
            if name == "darknet" and n != threads[0]:  # built without threads
                continue
            asked = _asked(name, form)
            times[name, n] = programs[name].ask("time", form=asked, threads=n, seconds=seconds)
    if "darknet" in names:
        times.update({("darknet", n): times["darknet", threads[0]] for n in threads})
    return times


# ---- accuracy
def _check(programs, settings, progress):
    """Return rows of errors against float64 of ours on every device and of PyTorch's, on the same data."""
    checked = {on_device("darknetpy", device): own["darknetpy"] for device, own in programs.items()}
    peers = [program for own in programs.values() for name, program in own.items() if name.startswith("torch")]
    if peers:
        checked["torch"] = peers[0]
    layers, rows = _layers_of(settings, next(iter(checked.values()))), []
    with tempfile.TemporaryDirectory(prefix="darknetpy-bench-") as folder:
        for shape in settings.shapes:
            for layer in layers:
                progress(f"{shape_text(shape)}: errors of {layer}")
                for data in DATA:
                    rows += _check_layer(checked, layer, shape, data, folder)
    return rows


def _check_layer(programs, layer, shape, data, folder):
    given, rows = sample(shape, layer, *DATA[data], _SAMPLED), []
    groups = default_groups(given["x"].shape[1])
    np.savez(os.path.join(folder, "given.npz"), **given)
    for train in (True, False) if layer == "batchnorm" else (True,):
        exact, row = normalization(layer, groups, given, train), {}
        for name, program in programs.items():
            path = os.path.join(folder, "found.npz")
            program.ask(
                "numbers",
                given=os.path.join(folder, "given.npz"),
                path=path,
                layer=layer,
                groups=groups,
                train=train,
            )
            with np.load(path) as arrays:
                row[name] = errors(arrays, exact)
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


def medians(rows, form, place, peer):
    """Return a form's ratio to a peer on every shape, medians over the rounds."""
    chosen = [row.ratio(peer) for row in rows if row.form == form and row.place == place]
    return [statistics.median(ratio) for ratio in chosen if ratio]


def label(name):
    """Return what a program is called in tables."""
    return label_of(f"{name}-kernels")


def place_text(place):
    """Return a device, or the CPU's number of threads, in words."""
    device, threads = place
    return f"{threads} thread" + "s" * (threads > 1) if device == "cpu" else device
