"""``darknetpy bench start``: the import, and a network with its weights."""

from __future__ import annotations

import shlex

from .bench_options import check_output, progress_line
from .parser import positive


def add_parser(subparsers):
    """Add the command."""
    parser = subparsers.add_parser(
        "start",
        help="from a fresh interpreter to a network with its weights",
        description="Time the import, and parsing and building a network and reading its weights, each time in a "
        "process of its own.",
        epilog="example: darknetpy bench start /usr/share/darknet/cfg/yolov3.cfg",
    )
    add = parser.add_argument
    add("cfg", nargs="+", metavar="CFG", help="a .cfg")
    add("--weights", metavar="FILE", help="a .weights file, with one CFG (default: random ones, written first)")
    add("--rounds", type=positive, default=5, metavar="N", help="processes (default 5)")
    add("--output", metavar="FILE.md", help="write a page with the table")
    parser.set_defaults(run=run)


def run(args):
    """Run the command; returns the exit status."""
    from ..bench.machine import machine_facts
    from ..bench.start import markdown, measure, text
    from ..errors import ArgumentError

    if args.weights and len(args.cfg) > 1:
        raise ArgumentError(f"--weights {args.weights}: wanted one CFG, got {len(args.cfg)}")
    if args.output:
        check_output("--output", args.output, (".md",))
    found = {}
    for cfg in args.cfg:
        progress_line("start")(cfg)
        found[cfg] = measure(cfg, args.weights, args.rounds)
    print(text(found))
    if args.output:
        words = ["darknetpy", "bench", "start", *args.cfg, *(["--weights", args.weights] if args.weights else [])]
        command = shlex.join([*words, "--rounds", str(args.rounds)])
        with open(args.output, "w", encoding="utf-8") as file:
            file.write(markdown(found, machine_facts(1), command))
    return 0
