"""Convolutions class by class beside PyTorch, or beside ours as matrix products, pass by pass, in turns."""

from __future__ import annotations

import re
import statistics
from dataclasses import dataclass, field

from darknetpy.bench.process import Process, missing
from darknetpy.bench.report import columns, pipes
from darknetpy.errors import ArgumentError, DarknetError

PASSES = ("forward", "data", "weights")
PEERS = {"torch-best": "PyTorch", "gemm": "matrix products"}
CLASSES = {
    "first layer": "8x3x224x224-16k3 4x3x224x224-32k3 1x3x416x416-32k3 4x3x224x224-64k7s2 8x3x224x224-32k3s2",
    "3x3 by 2": "1x32x416x416-64k3s2 4x16x112x112-32k3s2 4x64x56x56-128k3s2 1x256x52x52-512k3s2",
    "narrow 1x1": "8x16x112x112-64k1 8x64x112x112-16k1 8x32x56x56-16k1 8x128x56x56-16k1 1x64x208x208-32k1",
    "1x1": "4x64x56x56-256k1 4x256x56x56-64k1 1x256x52x52-128k1 4x1024x14x14-256k1 4x256x56x56-512k1s2",
    "1x1, small map": "4x512x7x7-2048k1 4x2048x7x7-512k1 4x1024x7x7-512k1 1x1024x13x13-512k1 8x128x14x14-1000k1",
    "depthwise 3x3": "4x32x112x112-32k3g32 4x192x28x28-192k3g192 4x576x14x14-576k3g576 4x960x7x7-960k3g960",
    "depthwise 3x3 by 2": "4x96x112x112-96k3s2g96 4x192x28x28-192k3s2g192 4x576x14x14-576k3s2g576",
    "depthwise 5x5": "4x240x28x28-240k5g240 4x672x14x14-672k5g672 4x1152x7x7-1152k5g1152",
    "depthwise 5x5 by 2": "4x144x56x56-144k5s2g144 4x672x14x14-672k5s2g672",
    "32 groups": "4x128x56x56-128k3g32 4x256x56x56-256k3s2g32 4x512x14x14-512k3g32 4x1024x7x7-1024k3g32",
    "dilation 2": "4x64x56x56-64k3d2 4x256x28x28-256k3d2",
    "connected": "128x784x1x1-512k1 128x9216x1x1-4096k1 32x4096x1x1-4096k1 8x12544x1x1-1024k1 50x1024x1x1-1024k1 "
    "1x9216x1x1-4096k1",
    "3x3": "4x16x112x112-32k3 4x64x56x56-64k3 4x256x14x14-256k3 4x512x7x7-512k3 1x512x7x7-512k3",
}
_FORM = re.compile(r"(\d+)x(\d+)x(\d+)x(\d+)-(\d+)k(\d+)(?:s(\d+))?(?:g(\d+))?(?:d(\d+))?")
_NAMES = ("batch", "c", "h", "w", "n", "size", "stride", "groups", "dilation")


@dataclass
class Settings:
    """What runs: shapes in the form of :data:`CLASSES`; `seconds` are those of a turn."""

    shapes: tuple
    threads: tuple = (1, 2)
    peers: tuple = ("torch-best",)
    rounds: int = 5
    seconds: float = 0.03


@dataclass
class Row:
    """One pass of one shape: `seconds` of a call by program and form, a value per round."""

    shape: str
    name: str
    threads: int
    seconds: dict = field(default_factory=dict)

    def ours(self):
        """Return our times."""
        return self.seconds["darknetpy"]

    def peer(self):
        """Return the name and the times of the fastest peer, PyTorch in either memory format, or None."""
        others = [name for name in self.seconds if name != "darknetpy"]
        best = min(others, key=lambda name: statistics.median(self.seconds[name]), default=None)
        return best and (best, self.seconds[best])

    def ratios(self):
        """Return how many times as fast as the peer ours is, round by round."""
        peer = self.peer()
        return [theirs / own for own, theirs in zip(self.ours(), peer[1])] if peer else []


def parse_shape(text):
    """Return the sizes that BATCHxCxHxW-FILTERSkSIZE[sSTRIDE][gGROUPS][dDILATION] stands for, padded by half the size.

    Raises
    ------
    ArgumentError
    """
    match = _FORM.fullmatch(text)
    sizes = {name: int(value or 1) for name, value in zip(_NAMES, match.groups())} if match else {}
    if not sizes or min(sizes.values()) < 1:
        raise ArgumentError(
            f"{text}: wanted BATCHxCxHxW-FILTERSkSIZE[sSTRIDE][gGROUPS][dDILATION], such as 4x64x56x56-128k3s2"
        )
    if sizes["size"] % 2 == 0 or sizes["c"] % sizes["groups"] or sizes["n"] % sizes["groups"]:
        raise ArgumentError(f"{text}: wanted an odd size, and groups that divide channels and filters")
    return sizes


def flops(sizes):
    """Return additions and multiplications of one pass."""
    out = [-(-sizes[side] // sizes["stride"]) for side in "hw"]
    return (
        2 * sizes["batch"] * sizes["n"] * sizes["c"] // sizes["groups"] * sizes["size"] ** 2 * out[0] * out[1]
    )


def compare(settings, *, progress=lambda text: None):
    """Measure every pass of every shape; return rows, what the programs are, and notes on who is not here."""
    notes = [reason for reason in map(missing, settings.peers) if reason]
    names = ["darknetpy", *(peer for peer in settings.peers if not missing(peer))]
    rows, programs = [], {}
    try:
        for name in names:
            programs[name] = Process(f"{name}-convolutions", {"threads": max(settings.threads)})
        for shape in settings.shapes:
            progress(shape)
            rows += _time_shape(programs, shape, settings)
        return rows, {name: program.facts for name, program in programs.items()}, notes
    finally:
        for program in programs.values():
            program.close()


def _time_shape(programs, shape, settings):
    """Return the rows of one shape. All programs run in a round, every other one backwards."""
    made = {name: program.ask("make", **parse_shape(shape)) for name, program in programs.items()}
    _compare_numbers(shape, made)
    rows = {(p, n): Row(shape, p, n) for p in PASSES for n in settings.threads}
    order = [(name, form) for name in programs for form in made[name]["forms"]]
    for turn in range(settings.rounds):
        for (name, threads), row in rows.items():
            for program, form in order[:: 1 if turn % 2 else -1]:
                seconds = programs[program].ask(
                    "time", form=f"{name}{form}", threads=threads, seconds=settings.seconds
                )
                row.seconds.setdefault(f"{program}{form}", []).append(seconds)
    return list(rows.values())


def _compare_numbers(shape, made):
    """All programs must have computed the same: the norm of each pass's result tells."""
    wanted = made["darknetpy"]["norms"]
    for name, reply in made.items():
        for p, norm in reply["norms"].items():
            if abs(norm - wanted[p]) > 1e-3 * wanted[p]:
                raise DarknetError(f"{shape}, {p}: the result's norm is {wanted[p]:g}, {name}'s {norm:g}")


# ---- report
def table(rows, shapes):
    """Return a table of some shapes, the head first: GFLOP/s of ours, times as fast as the peer, its range."""
    threads = sorted({row.threads for row in rows})
    found = {(row.shape, row.name, row.threads): row for row in rows}
    table = [["shape", "threads", *PASSES]]
    for shape in shapes:
        for n in threads:
            table.append([shape, str(n), *(_cell(found[shape, p, n]) for p in PASSES)])
    return table


def _cell(row):
    ratios, speed = row.ratios(), flops(parse_shape(row.shape)) / statistics.median(row.ours()) / 1e9
    beside = f", {statistics.median(ratios):.2f}x ({min(ratios):.2f} to {max(ratios):.2f})" if ratios else ""
    return f"{speed:.0f}{beside}"


def class_table(rows):
    """Return the geometric means of the classes measured, the head first."""
    threads = sorted({row.threads for row in rows})
    table = [["class", *(f"{p}, {n} thread{'s' * (n > 1)}" for p in PASSES for n in threads)]]
    for name, shapes in _classes(rows):
        cells = []
        for p in PASSES:
            for n in threads:
                chosen = [
                    r for r in rows if r.shape in shapes and r.name == p and r.threads == n and r.peer()
                ]
                means = [statistics.median(r.ratios()) for r in chosen]
                cells.append(
                    f"{statistics.geometric_mean(means):.2f}x (least {min(means):.2f})" if means else ""
                )
        table.append([name, *cells])
    return table


def _classes(rows):
    """Return pairs of a class's name and those of its shapes that were measured; the others are one class."""
    here = list(dict.fromkeys(row.shape for row in rows))
    named = [(name, [s for s in text.split() if s in here]) for name, text in CLASSES.items()]
    known = {shape for _, shapes in named for shape in shapes}
    return [(n, s) for n, s in [*named, ("others", [s for s in here if s not in known])] if s]


def text(rows, notes):
    """Return the tables for a terminal."""
    parts = [columns(table(rows, shapes)) for _, shapes in _classes(rows)]
    if any(row.peer() for row in rows):
        parts.append(columns(class_table(rows)))
    return "\n\n".join([*parts, *(f"note: {note}" for note in notes)])


def markdown(rows, facts, notes, machine, command):
    """Return the page: the command, the machine, classes, and every shape."""
    programs = [fact["program"] for name, fact in facts.items() if name != "darknetpy"]
    beside = " and ".join(label for name, label in PEERS.items() if name in facts)
    parts = [f"# Convolutions {beside and f'beside {beside}, '}class by class", "", f"`{command}`", ""]
    parts += [f"- {name}: {value}" for name, value in machine.items()]
    parts += [f"- beside {program}" for program in programs] + [f"- {note}" for note in notes]
    parts += ["", _EXPLANATION]
    if any(row.peer() for row in rows):
        parts += ["", pipes(class_table(rows))]
    for name, shapes in _classes(rows):
        parts += ["", f"## {name}", "", pipes(table(rows, shapes))]
    return "\n".join(parts) + "\n"


_EXPLANATION = """\
A shape is batch x channels x height x width - filters, k size, s stride, g groups, d dilation; the padding is
half the size; 1x1 filters on one pixel are a connected layer, a matrix product. Cells: GFLOP/s of ours, counted
as plain sums, and how many times as fast as the peer it is: median and range over the rounds, each program in a
process of its own, in turns. PyTorch is called beneath its modules, without autograd, with glibc told to keep
freed memory, in NCHW and channels_last; the faster of both counts. The peer gemm is ours with convolution=gemm.
Ours packs or transforms its weights in each call, and adds to the weights' gradient. A class's figure is the
geometric mean of its shapes."""
