"""``darknetpy bench``: whole networks beside PyTorch and Debian's Darknet; ``bench kernels`` is in its own file."""
from __future__ import annotations

import json
import os
import shlex

from ..core import core
from ..errors import ArgumentError
from . import bench_convolution, bench_kernels
from .bench_options import check_output, progress_line, seconds
from .parser import positive

_PEERS = ("torch", "darknet")


def add_parser(subparsers):
    """Add the command to the command line's parser and return its own parser."""
    parser = subparsers.add_parser("bench", help="speed and memory beside other programs",
                                   description="Measure beside other programs on this machine; figures are ratios within one run.",
                                   epilog="example: darknetpy bench network cifar.cfg --batch 32 --per-layer")
    subjects = parser.add_subparsers(dest="subject", metavar="SUBJECT", required=True)
    _add_network(subjects)
    bench_kernels.add_parser(subjects)
    bench_convolution.add_parser(subjects)
    return parser


def _add_network(subparsers):
    parser = subparsers.add_parser(
        "network", help="whole networks: training steps or inference",
        description="Run a network in darknetpy, in PyTorch (as users run it, and in its best mode) and in Debian's Darknet, in turns and "
                    "in processes of their own, with the same batch, parameters and threads.",
        epilog="example: darknetpy bench network /usr/share/darknet/cfg/tiny.cfg:8@224 --rounds 3 --output bench.md")
    add = parser.add_argument
    add("cfg", nargs="+", metavar="CFG", help="a .cfg, or CFG:BATCH@SIZE, such as tiny.cfg:8@224")
    mode = parser.add_mutually_exclusive_group()
    mode.add_argument("--train", action="store_true", help="training steps (default)")
    mode.add_argument("--infer", action="store_true", help="inference")
    add("--batch", type=positive, metavar="N", help="rows of one step (default: batch / subdivisions of the cfg)")
    add("--size", metavar="W[xH]", help="width and height of the input (default: the cfg's)")
    add("--threads", type=positive, metavar="N", help="threads of every program (default: the CPUs of this process)")
    add("--rounds", type=positive, default=5, metavar="N", help="turns of every program (default 5)")
    add("--seconds", type=seconds, default=2., metavar="S", help="how long a turn lasts at least (default 2)")
    add("--steps", type=positive, default=1, metavar="N", help="steps of a turn at least (default 1)")
    add("--peers", default=",".join(_PEERS), metavar="LIST", help="of torch and darknet, with commas; none (default: both)")
    add("--per-layer", "--profile", action="store_true", dest="per_layer", help="also each layer alone, ours and PyTorch's")
    add("--json", action="store_true", help="print JSON")
    add("--output", action="append", default=[], metavar="FILE", help="also write FILE.json or FILE.md; may be given again")
    parser.set_defaults(run=run)


def run(args):
    """Run the command; returns the exit status."""
    from ..bench.machine import machine_facts
    from ..bench.network import Settings, compare
    from ..bench.report import markdown, record, text
    from ..bench.subject import parse_size, parse_subject

    for path in args.output:
        check_output("--output", path, (".json", ".md"))
    subjects, size = [parse_subject(text) for text in args.cfg], parse_size(args.size)
    settings = Settings(threads=args.threads or core.lib.dn_num_threads(), train=not args.infer, rounds=args.rounds, seconds=args.seconds,
                        steps=args.steps, peers=_peers(args.peers), per_layer=args.per_layer)
    found, machine, command = [], machine_facts(settings.threads), _command(args)
    for cfg, batch, own_size in subjects:
        found.append(compare(cfg, settings, batch=batch or args.batch, size=own_size or size,
                             progress=progress_line(os.path.basename(cfg))))
        if not args.json:
            print(text(found[-1]) + "\n", flush=True)
    if args.json:
        print(json.dumps(record(found, machine, command), indent=2))
    for path in args.output:
        with open(path, "w", encoding="utf-8") as file:
            file.write(markdown(found, machine, command) if path.endswith(".md")
                       else json.dumps(record(found, machine, command), indent=2) + "\n")
    return 0


def _command(args):
    """Return the command line again, with the options that decide the figures."""
    words = ["darknetpy", "bench", "network", *args.cfg, "--infer" if args.infer else "--train"]
    for name in ("batch", "size", "threads", "rounds", "seconds", "steps", "peers"):
        value = getattr(args, name)
        if value is not None:
            words += [f"--{name}", f"{value:g}" if isinstance(value, float) else str(value)]
    return shlex.join(words + ["--per-layer"] * args.per_layer)


def _peers(text):
    names = tuple(name for name in text.split(",") if name and name != "none")
    for name in names:
        if name not in _PEERS:
            raise ArgumentError(f"--peers {name}: wanted {', '.join(_PEERS)} or none")
    return names
