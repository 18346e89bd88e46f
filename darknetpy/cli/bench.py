"""``darknetpy bench``: whole networks beside other programs; its other subjects are in files of their own."""
from __future__ import annotations

import itertools
import json
import os
import shlex
from dataclasses import replace

from ..bench.process import PEERS, TRAINING_PEERS
from ..core import core
from . import bench_convolution, bench_kernels, bench_loading, bench_start
from .bench_options import DEVICES, check_output, check_plot, devices, names, progress_line, seconds, thread_counts
from .parser import positive


def add_parser(subparsers):
    """Add the command to the command line's parser and return its own parser."""
    parser = subparsers.add_parser("bench", help="speed and memory beside other programs",
                                   description="Measure beside other programs on this machine; figures are ratios within one run.",
                                   epilog="example: darknetpy bench network cifar.cfg --batch 32 --per-layer")
    subjects = parser.add_subparsers(dest="subject", metavar="SUBJECT", required=True)
    _add_network(subjects)
    bench_kernels.add_parser(subjects)
    bench_convolution.add_parser(subjects)
    bench_loading.add_parser(subjects)
    bench_start.add_parser(subjects)
    return parser


def _add_network(subparsers):
    parser = subparsers.add_parser(
        "network", help="whole networks: training steps or inference",
        description="Run a network in darknetpy and in other programs, in turns and in processes of their own, with "
                    "the same batch, parameters and threads: PyTorch (as users run it, and in its best mode), Debian's "
                    "Darknet, and for inference ncnn, onnxruntime and OpenCV's importer.",
        epilog="example: darknetpy bench network /usr/share/darknet/cfg/tiny.cfg:8@224 --rounds 3 --output bench.md")
    add = parser.add_argument
    add("cfg", nargs="+", metavar="CFG", help="a .cfg, or CFG:BATCH@SIZE, such as tiny.cfg:8@224")
    mode = parser.add_mutually_exclusive_group()
    mode.add_argument("--train", action="store_true", help="training steps (default)")
    mode.add_argument("--infer", action="store_true", help="inference")
    add("--batch", type=positive, metavar="N",
        help="rows of one step (default: batch / subdivisions of the cfg; with --infer: 1)")
    add("--size", metavar="W[xH]", help="width and height of the input (default: the cfg's)")
    add("--threads", metavar="LIST",
        help="threads of every program, with commas: one run each (default: the CPUs of this process)")
    add("--rounds", type=positive, default=5, metavar="N", help="turns of every program (default 5)")
    add("--seconds", type=seconds, default=2., metavar="S", help="how long a turn lasts at least (default 2)")
    add("--steps", type=positive, default=1, metavar="N", help="steps of a turn at least (default 1)")
    add("--peers", metavar="LIST",
        help=f"of {', '.join(PEERS)}, with commas; none (default: all that do such work)")
    add("--device", default="cpu", metavar="LIST",
        help=f"of {DEVICES}, with commas (default: cpu); darknetpy always runs on the CPU too, peers there where cpu is "
             "named, PyTorch on a GPU too")
    add("--per-layer", "--profile", action="store_true", dest="per_layer", help="also each layer alone, ours and PyTorch's")
    add("--json", action="store_true", help="print JSON")
    add("--plot", metavar="FILE.png",
        help="draw the programs' times, and where the time goes: each layer alone")
    add("--output", action="append", default=[], metavar="FILE", help="also write FILE.json or FILE.md; may be given again")
    parser.set_defaults(run=run)


def run(args):
    """Run the command; returns the exit status."""
    from ..bench.machine import machine_facts
    from ..bench.network import Settings, compare
    from ..bench.report import markdown, record, summary_text, text
    from ..bench.subject import parse_size, parse_subject

    for path in args.output:
        check_output("--output", path, (".json", ".md"))
    check_plot(args.plot)
    subjects, size = [parse_subject(text) for text in args.cfg], parse_size(args.size)
    threads = thread_counts(args.threads) if args.threads else (core.lib.dn_num_threads(),)
    settings = Settings(train=not args.infer, rounds=args.rounds, seconds=args.seconds, steps=args.steps,
                        peers=_peers(args.peers, not args.infer), per_layer=args.per_layer or bool(args.plot),
                        devices=devices(args.device))
    found, machine, command = [], machine_facts(max(threads)), _command(args)
    for (cfg, batch, own_size), n in itertools.product(subjects, threads):
        found.append(compare(cfg, replace(settings, threads=n), batch=batch or args.batch,
                             size=own_size or size, progress=progress_line(os.path.basename(cfg))))
        if not args.json:
            print(text(found[-1]) + "\n", flush=True)
    if args.json:
        print(json.dumps(record(found, machine, command), indent=2))
    elif len(found) > 1 and any(len(each.results) > 1 for each in found):
        print(summary_text(found))
    if args.plot:
        from ..bench.network_plot import plot_networks

        plot_networks(found, args.plot)
    for path in args.output:
        plot = args.plot and os.path.relpath(args.plot, os.path.dirname(path) or ".")
        with open(path, "w", encoding="utf-8") as file:
            file.write(markdown(found, machine, command, plot) if path.endswith(".md")
                       else json.dumps(record(found, machine, command), indent=2) + "\n")
    return 0


def _command(args):
    """Return the command line again, with the options that decide the figures."""
    words = ["darknetpy", "bench", "network", *args.cfg, "--infer" if args.infer else "--train"]
    for name in ("batch", "size", "threads", "rounds", "seconds", "steps", "peers", "device"):
        value = getattr(args, name)
        if value is not None:
            words += [f"--{name}", f"{value:g}" if isinstance(value, float) else str(value)]
    return shlex.join(words + ["--per-layer"] * args.per_layer)


def _peers(text, train):
    if text is None:
        return TRAINING_PEERS if train else tuple(PEERS)
    return names("--peers", text, tuple(PEERS), none=True)
