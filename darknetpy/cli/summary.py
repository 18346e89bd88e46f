"""``darknetpy summary CFG [WEIGHTS]``: layers, sizes, operations and parameters of a network."""
from __future__ import annotations

from darknetpy.cli.common import CFG_HELP, WEIGHTS_HELP, add_network_options, load_for_inference, print_json
from darknetpy.cli.parser import positive
from darknetpy.summary import remarks, summary_rows

_EXAMPLE = """examples:
  darknetpy summary fashion-mnist.cfg
  darknetpy summary darknet19.cfg darknet19.weights --json"""


def add_parser(subparsers):
    """Add the command to the command line's parser and return its own parser."""
    parser = subparsers.add_parser(
        "summary", help="layers, sizes, operations and parameters of a network",
        description="Print one line per layer: type, filters, size and stride, input, output, billions of operations per image, and "
                    "how many of its numbers training changes by gradients (trainable) or otherwise (fixed: rolling statistics).",
        epilog=_EXAMPLE)
    parser.add_argument("cfg", metavar="CFG", help=CFG_HELP)
    parser.add_argument("weights", metavar="WEIGHTS", nargs="?", help=WEIGHTS_HELP + " to check against the network")
    parser.add_argument("--batch", type=positive, metavar="N", help="rows of one forward pass (default 1, or time_steps)")
    parser.add_argument("--json", action="store_true", help="print JSON")
    add_network_options(parser)
    parser.set_defaults(run=run)
    return parser


def run(args):
    """Run the command; returns the exit status."""
    net = load_for_inference(args, batch=args.batch, sequences=1)
    if not args.json:
        print(net.summary())
        if args.weights:
            print(f"{args.weights}: fits, {net.seen} images seen")
        return 0
    rows = summary_rows(net)
    totals = {key: sum(row[key] for row in rows) for key in ("bflops", "trainable", "non_trainable")}
    print_json({"cfg": args.cfg, "dialect": net.dialect, "batchnorm": net.batchnorm, "batch": net.batch, "layers": rows,
                "total": totals, "remarks": remarks(net), "seen": net.seen if args.weights else None})
    return 0
