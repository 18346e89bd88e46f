"""``darknetpy bench loading``: whether data loading holds training back, and which of its stages."""

from __future__ import annotations

import json
import os
import shlex

from ..core import core
from .bench_options import check_output, progress_line, seconds, thread_counts
from .parser import not_negative, positive


def add_parser(subparsers):
    """Add the command."""
    parser = subparsers.add_parser(
        "loading",
        help="training from image files beside training in memory",
        description="Train a network from the loader and, in turns, on one mini-batch in memory; then time each "
        "stage of loading an image and of the step, and say which is the limit. Every image is decoded, as in a "
        "data set too large for the cache of decoded images.",
        epilog="example: darknetpy bench loading yolov3-tiny.cfg:4@416 mine.data --output loading.md",
    )
    add = parser.add_argument
    add(
        "cfg",
        metavar="CFG",
        help="a .cfg, or CFG:BATCH@SIZE, such as tiny.cfg:8@224; one with heads is a detector",
    )
    add("data", metavar="DATA", help="as classifier train and detector train take it")
    add(
        "--threads",
        metavar="LIST",
        help="threads of the kernels, with commas: one run each (default: the CPUs of this process)",
    )
    add("--workers", type=not_negative, metavar="N", help="threads of the loader (default: as in training)")
    add("--rounds", type=positive, default=5, metavar="N", help="turns of each (default 5)")
    add(
        "--seconds", type=seconds, default=2.0, metavar="S", help="how long a turn lasts at least (default 2)"
    )
    add("--json", action="store_true", help="print JSON")
    add(
        "--output",
        action="append",
        default=[],
        metavar="FILE",
        help="also write FILE.json or FILE.md; may be given again",
    )
    parser.set_defaults(run=run)


def run(args):
    """Run the command; returns the exit status."""
    from ..bench import loading
    from ..bench.machine import machine_facts
    from ..bench.subject import parse_subject

    for path in args.output:
        check_output("--output", path, (".json", ".md"))
    cfg, batch, size = parse_subject(args.cfg)
    threads = thread_counts(args.threads) if args.threads else (core.lib.dn_num_threads(),)
    found = []
    for n in threads:
        settings = loading.Settings(n, args.workers, args.rounds, args.seconds)
        progress = progress_line(os.path.basename(cfg))
        found.append(loading.measure(cfg, args.data, settings, batch=batch, size=size, progress=progress))
        if not args.json:
            print(loading.text(found[-1]) + "\n", flush=True)
    machine, command = machine_facts(max(threads)), _command(args)
    content = {
        ".json": lambda: json.dumps(loading.record(found, machine, command), indent=2) + "\n",
        ".md": lambda: loading.markdown(found, machine, command),
    }
    if args.json:
        print(content[".json"](), end="")
    for path in args.output:
        with open(path, "w", encoding="utf-8") as file:
            file.write(content[os.path.splitext(path)[1]]())
    return 0


def _command(args):
    """Return the command line again, with the options that decide the figures."""
    words = ["darknetpy", "bench", "loading", args.cfg, args.data]
    for name in ("threads", "workers", "rounds", "seconds"):
        value = getattr(args, name)
        if value is not None:
            words += [f"--{name}", f"{value:g}" if isinstance(value, float) else str(value)]
    return shlex.join(words)
