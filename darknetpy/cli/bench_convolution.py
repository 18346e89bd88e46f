"""``darknetpy bench convolution``: the passes of convolutions, class by class, beside PyTorch or matrix products."""

from __future__ import annotations

import json
import shlex
from dataclasses import asdict

from ..errors import ArgumentError
from .bench_options import check_output, names, parts, progress_line, seconds, thread_counts
from .parser import positive


def add_parser(subparsers):
    """Add the command."""
    from ..bench.convolutions import CLASSES, PEERS

    parser = subparsers.add_parser(
        "convolution",
        help="convolutions, class by class",
        description="Time the forward pass and both gradients of convolutions beside PyTorch's (the faster of "
        "NCHW and channels_last), or our own as matrix products, in turns and in processes of their own.",
        epilog="example: darknetpy bench convolution --shapes 4x64x56x56-128k3s2 --threads 2",
    )
    add = parser.add_argument
    add("--classes", metavar="LIST", help=f"of {'; '.join(CLASSES)}; with semicolons (default: all)")
    add("--shapes", metavar="LIST", help="BATCHxCxHxW-FILTERSkSIZE[sSTRIDE][gGROUPS][dDILATION], with commas")
    add("--threads", default="1,2", metavar="LIST", help="with commas (default: %(default)s)")
    add(
        "--peers",
        default="torch-best",
        metavar="LIST",
        help=f"of {', '.join(PEERS)}, or none (default: %(default)s); gemm is ours with convolution=gemm",
    )
    add("--rounds", type=positive, default=5, metavar="N", help="turns of every program (default 5)")
    add(
        "--seconds",
        type=seconds,
        default=0.03,
        metavar="S",
        help="how long a turn lasts at least (default 0.03)",
    )
    add("--json", metavar="FILE.json", help="write all figures as JSON")
    add("--output", metavar="FILE.md", help="write a page of tables")
    parser.set_defaults(run=run)


def run(args):
    """Run the command; returns the exit status."""
    from ..bench.convolutions import PEERS, Settings, compare, markdown, text
    from ..bench.machine import machine_facts

    settings = Settings(
        shapes=_shapes(args),
        threads=thread_counts(args.threads),
        peers=names("--peers", args.peers, tuple(PEERS), none=True),
        rounds=args.rounds,
        seconds=args.seconds,
    )
    for option, path, ending in (("--json", args.json, ".json"), ("--output", args.output, ".md")):
        if path:
            check_output(option, path, (ending,))
    machine, command = machine_facts(max(settings.threads)), _command(args)
    rows, facts, notes = compare(settings, progress=progress_line("convolution"))
    print(text(rows, notes))
    record = {
        "command": command,
        "machine": machine,
        "programs": facts,
        "rows": [asdict(row) for row in rows],
    }
    for path, content in (
        (args.output, lambda: markdown(rows, facts, notes, machine, command)),
        (args.json, lambda: json.dumps(record, indent=1) + "\n"),
    ):
        if path:
            with open(path, "w", encoding="utf-8") as file:
                file.write(content())
    return 0


def _shapes(args):
    from ..bench.convolutions import CLASSES, parse_shape

    shapes = parts("--shapes", args.shapes) if args.shapes else ()
    classes = [part.strip() for part in args.classes.split(";")] if args.classes else () if shapes else CLASSES
    for name in classes:
        if name not in CLASSES:
            raise ArgumentError(f"--classes {name}: wanted {'; '.join(CLASSES)}")
        shapes += tuple(CLASSES[name].split())
    for shape in shapes:
        parse_shape(shape)
    return tuple(dict.fromkeys(shapes))


def _command(args):
    """Return the command line again, with the options that decide the figures."""
    words = ["darknetpy", "bench", "convolution"]
    for name in ("classes", "shapes", "threads", "peers", "rounds", "seconds"):
        if getattr(args, name) is not None:
            words += [f"--{name}", str(getattr(args, name))]
    return shlex.join(words)
