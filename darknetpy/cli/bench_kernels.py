"""``darknetpy bench kernels``: normalization, kernel by kernel, beside other programs and the memory."""

from __future__ import annotations

import json
import os
import re
import shlex

from ..errors import ArgumentError
from .bench_options import (
    DEVICES,
    check_output,
    check_plot,
    devices,
    names,
    parts,
    progress_line,
    seconds,
    thread_counts,
)
from .parser import positive

_MOST_VALUES = 2**31 - 1  # what a kernel takes


def add_parser(subparsers):
    """Add the command."""
    from ..bench.forms import LAYERS, SHAPES
    from ..bench.kernels import PEERS

    parser = subparsers.add_parser(
        "kernels",
        help="normalization, kernel by kernel",
        description="Time every kernel of batch, group and layer normalization, single and fused, with its "
        "memory traffic beside a streaming copy, and beside PyTorch and Debian's Darknet, in turns and in "
        "processes of their own.",
        epilog="example: darknetpy bench kernels --layers batchnorm --shapes 64x64x56x56 --plot kernels.png",
    )
    add = parser.add_argument
    add(
        "--layers",
        default=",".join(LAYERS),
        metavar="LIST",
        help=f"of {', '.join(LAYERS)}, with commas (default: all)",
    )
    add(
        "--shapes",
        default=",".join(map(_shape_text, SHAPES)),
        metavar="LIST",
        help="NxCxHxW, with commas (default: %(default)s)",
    )
    add(
        "--threads",
        default="1,2",
        metavar="LIST",
        help="numbers of threads, with commas (default: %(default)s)",
    )
    add(
        "--device",
        default="cpu",
        metavar="LIST",
        help=f"of {DEVICES}, with commas: arrays lie there; PyTorch runs on a GPU too (default: cpu)",
    )
    add(
        "--peers",
        default=",".join(PEERS),
        metavar="LIST",
        help="of torch-best (memory reused), torch (as users run it), darknet; none (default: all)",
    )
    add("--fused", action="store_true", help="only whole layers, not Darknet's single functions")
    add("--rounds", type=positive, default=5, metavar="N", help="turns of every program (default 5)")
    add(
        "--seconds",
        type=seconds,
        default=0.03,
        metavar="S",
        help="how long a turn lasts at least (default 0.03)",
    )
    add(
        "--json",
        nargs="?",
        const="-",
        metavar="FILE",
        help="write all figures as JSON; without FILE print them, and nothing else",
    )
    add("--plot", metavar="FILE.png", help="draw a roofline and the GB/s of every kernel")
    add("--output", metavar="FILE.md", help="write a page of tables")
    parser.set_defaults(run=run)


def run(args):
    """Run the command; returns the exit status."""
    from ..bench.forms import LAYERS
    from ..bench.kernels import PEERS, Settings, compare_kernels
    from ..bench.kernels_report import markdown, record, text
    from ..bench.machine import machine_facts

    settings = Settings(
        layers=names("--layers", args.layers, LAYERS),
        shapes=tuple(_shape(text) for text in parts("--shapes", args.shapes)),
        threads=thread_counts(args.threads),
        devices=devices(args.device),
        peers=names("--peers", args.peers, PEERS, none=True),
        rounds=args.rounds,
        seconds=args.seconds,
        kernels=not args.fused,
    )
    _check_outputs(args)
    machine, command = machine_facts(max(settings.threads)), _command(args)
    found = compare_kernels(settings, progress=progress_line("kernels"))
    if args.json == "-":
        print(json.dumps(record(found, machine, command), indent=1))
    else:
        print(text(found))
    if args.plot:
        from ..bench.kernels_plot import plot_kernels

        plot_kernels(found, args.plot)
    plot = args.plot and args.output and os.path.relpath(args.plot, os.path.dirname(args.output) or ".")
    for path, content in (
        (args.output, lambda: markdown(found, machine, command, plot)),
        (args.json, lambda: json.dumps(record(found, machine, command), indent=1) + "\n"),
    ):
        if path and path != "-":
            with open(path, "w", encoding="utf-8") as file:
                file.write(content())
    return 0


# ---- options
def _shape(text):
    match = re.fullmatch(r"([1-9]\d*)x([1-9]\d*)x([1-9]\d*)x([1-9]\d*)", text)
    if not match:
        raise ArgumentError(f"--shapes {text}: wanted BATCHxCHANNELSxHEIGHTxWIDTH, such as 64x64x56x56")
    n, c, h, w = shape = tuple(map(int, match.groups()))
    if n * c * h * w > _MOST_VALUES:
        raise ArgumentError(f"--shapes {text}: {n * c * h * w} values, wanted at most {_MOST_VALUES}")
    if n * h * w == 1 or c * h * w == 1:
        raise ArgumentError(
            f"--shapes {text}: wanted at least two values per channel and per sample to normalize"
        )
    return shape


def _shape_text(shape):
    return "x".join(map(str, shape))


def _check_outputs(args):
    """Find what cannot be written before minutes of measuring, not after."""
    if args.json and args.json != "-":
        check_output("--json", args.json, (".json",))
    if args.output:
        check_output("--output", args.output, (".md",))
    check_plot(args.plot)


def _command(args):
    """Return the command line again, with the options that decide the figures."""
    words = ["darknetpy", "bench", "kernels"]
    for name in ("layers", "shapes", "threads", "device", "peers", "rounds", "seconds"):
        words += [f"--{name}", str(getattr(args, name))]
    return shlex.join(words + ["--fused"] * args.fused)
