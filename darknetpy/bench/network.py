"""A whole network beside its peers: rounds in which every program runs for a while, one after another."""
from __future__ import annotations

import contextlib
import os
import statistics
import tempfile
from dataclasses import dataclass, field

from darknetpy.bench.process import PEERS, TRAINING_PEERS, Process, ProgramFailed, device_of, label_of, missing, on_device
from darknetpy.bench.subject import prepare_cfg

# Of the largest output: a program that differs more computes something else.
_SAME = {"fp32": 1e-2, "tf32": 1e-2, "fp16": 1e-2, "bf16": 5e-2}
_SLOW_BUDGET = 60       # seconds that the rounds of a program may take if one step is longer than a round's share
_PEAK_SECONDS = .05     # of a round, to measure what the processor can do at most
_PASSES = 3             # work of a training step in forward passes: forward, gradient of the input, gradient of the weights


@dataclass
class Settings:
    """How a benchmark runs: `seconds` per program and round, `rounds`, `threads`, which `peers`, on which `devices`
    (darknetpy on the CPU always), and whether to `train`.
    """

    threads: int = 1
    train: bool = True
    rounds: int = 5
    seconds: float = 2.0
    steps: int = 1
    peers: tuple = ("torch", "darknet")
    per_layer: bool = False
    devices: tuple = ("cpu",)


@dataclass
class Result:
    """One program's figures, with lists of a value per round.

    Attributes
    ----------
    step : list
        Seconds.
    peak_bytes : int
    speedup : list
        How many times as fast darknetpy is on the same device; None for darknetpy itself.
    beside_cpu : list
        Of darknetpy on another device: how many times as fast it is as on the CPU.
    device_bytes : int
        At most in the device's memory; None on the CPU and where it is not known.
    """

    name: str
    label: str
    facts: dict
    step: list
    peak_bytes: int
    speedup: list = None
    beside_cpu: list = None
    device_bytes: int = None
    check: dict = field(default_factory=dict)


@dataclass
class Comparison:
    """What :func:`compare` found for one network.

    `peak`: operations per second that the processor can do at most; `trips`: seconds in each round that a
    word took from one thread to another and back, none with one thread.
    """

    cfg: str
    batch: int
    shape: list
    train: bool
    threads: int
    flops: float
    peak: float
    trips: list
    results: list
    notes: list
    layers: list = None


def compare(cfg, settings, *, batch=None, size=None, progress=lambda text: None):
    """Measure a network in darknetpy and in the peers that can build it.

    Parameters
    ----------
    cfg : str
    settings : Settings
    batch : int, optional
        None: one for inference, batch / subdivisions of the cfg for training.
    size : (int, int), optional
        Width and height; None: the cfg's.
    progress : callable
        Gets a line of text as the work goes on.

    Returns
    -------
    Comparison
        Peers that could not run are missing from its results and named in its notes.
    """
    reasons = {peer: _reason(peer, settings.train) for peer in settings.peers}
    notes = [reason for reason in reasons.values() if reason]
    names = _names(settings, [peer for peer in settings.peers if not reasons[peer]])
    with tempfile.TemporaryDirectory(prefix="darknetpy-bench-") as folder:
        path, rows = prepare_cfg(cfg, folder, batch=batch if settings.train else batch or 1, size=size)
        job = {"cfg": path, "batch": rows, "train": settings.train, "threads": settings.threads, "folder": folder}
        progress("the network and its numbers")
        with Process("darknetpy", {**job, "keep_activations": True}) as ours:    # whose outputs are compared
            network = ours.ask("export", folder=folder, peers=names)
        names = [name for name in names if not _refused(name, network["files"][name], notes)]
        names, checks = _check(names, job, _SAME[network["precision"]], notes, progress)
        results, limits = _measure(["darknetpy", *names], job, settings, notes, progress)
        for result in results:
            result.check = checks.get(result.name, {})
        layers = _layers(names, job, network, settings, progress) if settings.per_layer else None
    work = network["flops"] * rows * (_PASSES if settings.train else 1)
    peak, trips = max(each["peak"] for each in limits), [each["trip"] for each in limits if each["trip"]]
    return Comparison(os.path.basename(cfg), rows, network["shape"], settings.train, settings.threads, work,
                      peak, trips, results, notes, layers)  # fmt: skip


def _names(settings, peers):
    """Return the programs besides darknetpy on the CPU: it and PyTorch on each device, other peers on the CPU."""
    names = []
    for device in settings.devices:
        names += [] if device == "cpu" else [on_device("darknetpy", device)]
        for peer in peers if device != "emulated" else ():
            names += [on_device(name, device) for name in PEERS[peer] if device == "cpu" or peer == "torch"]
    return names


def _reason(peer, train):
    """Return why a peer is left out, in a line, or None."""
    if train and peer not in TRAINING_PEERS:
        return f"{label_of(PEERS[peer][0])} is left out: it does not train"
    return missing(peer)


def _refused(name, file, notes):
    """Note why darknetpy could not write what a peer reads."""
    if "refused" in file:
        notes.append(f"left out: {label_of(name)}: {file['refused']}")
    return "refused" in file


def _check(names, job, same, notes, progress):
    """Let every peer compare its numbers with ours, in processes of their own; return those whose outputs are the `same`, and what
    they found.
    """
    able, checks = [], {}
    for name in names:
        progress(f"same numbers? {label_of(name)}")
        if name.startswith("torch-best"):       # the same model as torch
            if name.replace("-best", "") in able:
                able.append(name)
                checks[name] = {}
            continue
        try:
            with Process(name, job) as peer:
                found = peer.ask("check")
            if not found["output"] <= same:    # NaN too
                raise ProgramFailed(f"{peer.label}: its outputs differ by {found['output']:.1e} of the largest")
            checks[name] = found
            able.append(name)
        except ProgramFailed as error:
            notes.append(f"left out: {error}")
    return able, checks


def _measure(names, job, settings, notes, progress):
    """Run the rounds; return a Result per program, and what the processor could do in each round."""
    times, counts, limits = {name: [] for name in names}, {}, []
    with contextlib.ExitStack() as stack:
        programs = {name: stack.enter_context(Process(name, job)) for name in names}
        for name, program in programs.items():
            progress(f"warming up {program.label}")
            counts[name] = _rounds_of(program, settings)
        for turn in range(settings.rounds):
            progress(f"round {turn + 1} of {settings.rounds}")
            limits.append(programs["darknetpy"].ask("processor", seconds=_PEAK_SECONDS))
            for name in _order([name for name in names if turn < counts[name]], turn):
                found = programs[name].ask("steps", seconds=settings.seconds, least=settings.steps)
                times[name].append(found["seconds"] / found["steps"])
        peaks = {name: program.ask("peak") for name, program in programs.items()}
        results = [Result(name, p.label, p.facts, times[name], peaks[name]["bytes"], device_bytes=peaks[name]["device"])
                   for name, p in programs.items()]
    for result in results[1:]:
        device = device_of(result.name)
        if result.name == on_device("darknetpy", device):
            result.beside_cpu = [cpu / own for cpu, own in zip(times["darknetpy"], result.step)]
        elif own := times.get(on_device("darknetpy", device)):
            result.speedup = [theirs / ours for ours, theirs in zip(own, result.step)]
        if device == "cpu" and result.facts["threads"] != job["threads"]:
            notes.append(f"{result.label} runs on {result.facts['threads']} thread(s): it is built so")
    return results, limits


def _order(names, turn):
    """Every other round runs backwards, so that nobody always follows the same neighbour."""
    return names if turn % 2 == 0 else names[::-1]


def _rounds_of(program, settings):
    """Warm up; return in how many rounds the program takes part: in all, or, if a step is very long, in fewer."""
    first = program.ask("steps", seconds=0, least=1)["seconds"]
    if first < settings.seconds:
        program.ask("steps", seconds=settings.seconds / 2, least=2)
        return settings.rounds
    return max(1, min(settings.rounds, int(_SLOW_BUDGET / (first * settings.steps))))


def _layers(names, job, network, settings, progress):
    """Return a dict per layer with the least seconds of its passes over the rounds, in ours and in PyTorch's best mode,
    on every device.
    """
    found = {}
    for name in ["darknetpy", *(name for name in names if name.partition("@")[0] in ("darknetpy", "torch-best"))]:
        progress(f"layer by layer: {label_of(name)}")
        with Process(name, {**job, "keep_activations": True}) as program:    # each layer's input, at any time
            found[name] = program.ask("layers", rounds=max(settings.rounds, 3))
    rows = []
    for i, layer in enumerate(network["layers"]):
        times = {name: {which: part[which][i] for which in ("forward", "backward") if i < len(part[which])}
                 for name, part in found.items()}
        rows.append({"index": i, "type": layer["type"], "input": layer["input"] if layer["input"][1] else [layer["inputs"]],
                     "output": layer["output"] if layer["output"][1] else [layer["outputs"]], "size": layer.get("size"),
                     "flops": layer["flops"] * network["batch"], "seconds": times})
    if settings.train:
        rows.append({"index": None, "type": "update", "seconds": {name: {"forward": part["update"]} for name, part in found.items()}})
    return rows


def median_and_range(values):
    """Return (median, smallest, largest)."""
    return statistics.median(values), min(values), max(values)
