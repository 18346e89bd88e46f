"""``darknetpy fuse CFG WEIGHTS OUT``: a network without batch normalization that does the same."""

from __future__ import annotations

import os

from darknetpy.builder import build_network
from darknetpy.cli import common
from darknetpy.errors import ArgumentError
from darknetpy.files import write_atomically
from darknetpy.moving_statistics import batch_normalized
from darknetpy.paths import find_cfg
from darknetpy.weights import save_weights

_DESCRIPTION = """Fold batch normalization into the weights before it; write OUT.cfg and OUT.weights: the same outputs up
to rounding, faster and smaller, for every Darknet. What cannot be folded stays and is named. The pair is for
inference: trained on, it would be a network without batch normalization."""
_EXAMPLE = """examples:
  darknetpy fuse fashion-mnist.cfg backup/fashion-mnist_best.weights fashion-mnist-fused
  darknetpy fuse darknet19.cfg darknet19.weights fused.weights     writes fused.cfg and fused.weights"""


def add_parser(subparsers):
    """Add the command to the command line's parser and return its own parser."""
    parser = subparsers.add_parser(
        "fuse", help="fold batch normalization into the weights", description=_DESCRIPTION, epilog=_EXAMPLE
    )
    parser.add_argument("cfg", metavar="CFG", help=common.CFG_HELP)
    parser.add_argument("weights", metavar="WEIGHTS", help=common.WEIGHTS_HELP)
    parser.add_argument(
        "out", metavar="OUT", help="name of the two files; an ending .cfg or .weights is left off"
    )
    parser.add_argument(
        "--json", action="store_true", help="print figures as JSON, nothing else on standard output"
    )
    common.add_network_options(parser)
    parser.set_defaults(run=run)
    return parser


def run(args):
    """Run the command; returns the exit status."""
    out_cfg, out_weights = _targets(args)
    net = build_network(common.read_plan(args, args.weights), weights=args.weights)
    before, noted = len(batch_normalized(net)), len(net.notes)
    common.show_notes(net.fuse().notes[:noted])
    common.show_notes(kept := net.notes[noted:])
    save_weights(net, out_weights)
    write_atomically(out_cfg, [net.to_cfg().encode()])
    folded = before - len(batch_normalized(net))
    if args.json:
        common.print_json({"folded": folded, "kept": kept, "files": [out_cfg, out_weights]})
    else:
        print(f"folded {folded} of {before} batch normalizations: {out_cfg} {out_weights}")
    return 0


def _targets(args):
    """Return the names of the two files; they may not be the ones that are read."""
    base, ending = os.path.splitext(args.out)
    base = base if ending in (".cfg", ".weights") else args.out
    if os.path.basename(base) in ("", os.curdir, os.pardir):
        raise ArgumentError(f"OUT={args.out} is a folder; wanted the name of a file")
    for target, source in ((f"{base}.cfg", find_cfg(args.cfg)), (f"{base}.weights", args.weights)):
        if os.path.realpath(target) == os.path.realpath(source):
            raise ArgumentError(f"OUT={args.out}: {target} is the file that is read; wanted another name")
    return f"{base}.cfg", f"{base}.weights"
