"""``darknetpy check DATA [CFG]``: find all that is wrong with data before a training run does."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict

from ..data import HEADS, NetInput, check_data, check_detection_data

_EXAMPLE = """examples:
  darknetpy check mine.data                 the .data file, its lists, every image's class and header
  darknetpy check mine.data mine.cfg        and whether they fit the network, a detector's label files too
  darknetpy check fashion-mnist:            the embedded images"""


def add_parser(subparsers):
    """Add the command to the command line's parser and return its own parser."""
    parser = subparsers.add_parser(
        "check",
        help="find what is wrong with data before training",
        description="Check a .data file and all that it names: lists, images, classes, names, tree, backup "
        "folder; with CFG also that the network fits. Every problem is reported with its file and line; the "
        "exit status is 2 if there is any.",
        epilog=_EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "data", metavar="DATA", help=".data file, packed arrays, a folder of them, or fashion-mnist:"
    )
    parser.add_argument("cfg", metavar="CFG", nargs="?", help="the network that is to learn from the data")
    parser.add_argument("--full", action="store_true", help="decode every image, not only its header")
    parser.add_argument("--lenient", action="store_true", help="unknown keys in CFG are warnings")
    parser.add_argument("--json", action="store_true", help="print the report as JSON")
    parser.set_defaults(run=run)
    return parser


def run(args):
    """Run the command; returns the exit status, 2 if there is a problem."""
    if args.cfg is None:
        report = check_data(args.data, full=args.full)
    else:
        report = _check_with_network(args)
    print(json.dumps({**asdict(report), "ok": report.ok}, indent=1) if args.json else report.text())
    return 0 if report.ok else 2


def _check_with_network(args):
    """The report on data and the network of a .cfg file; it raises what load_network raises."""
    from ..builder import load_network

    net = load_network(args.cfg, batch=1, lenient=args.lenient)
    if any(layer.type in HEADS for layer in net.layers):
        return check_detection_data(args.data, net.sections, full=args.full)
    return check_data(args.data, NetInput(net.w, net.h, net.c, net.outputs), full=args.full)
