"""``darknetpy summary CFG [WEIGHTS]``: layers, sizes, operations, parameters and memory of a network."""
from __future__ import annotations

from darknetpy.builder import build_network
from darknetpy.checkpoint import is_checkpoint
from darknetpy.cli.common import CFG_HELP, WEIGHTS_HELP, add_network_options, load_for_inference, print_json, read_plan, show_notes
from darknetpy.cli.parser import positive
from darknetpy.memory_summary import memory_rows, memory_totals
from darknetpy.summary import remarks, summary_rows

_EXAMPLE = """examples:
  darknetpy summary fashion-mnist.cfg
  darknetpy summary darknet19.cfg darknet19.weights --json
  darknetpy summary yolov3.cfg --memory --train"""


def add_parser(subparsers):
    """Add the command to the command line's parser and return its own parser."""
    parser = subparsers.add_parser(
        "summary", help="layers, sizes, operations, parameters and memory of a network",
        description="Print one line per layer: type, filters, size and stride, input, output, billions of operations per image, and "
                    "how many of its numbers training changes by gradients (trainable) or otherwise (fixed: rolling statistics). "
                    "Without WEIGHTS nothing is allocated for it: a network of any size can be looked at.",
        epilog=_EXAMPLE)
    parser.add_argument("cfg", metavar="CFG", help=CFG_HELP)
    parser.add_argument("weights", metavar="WEIGHTS", nargs="?", help=WEIGHTS_HELP + " to check against the network")
    parser.add_argument("--batch", type=positive, metavar="N",
                        help="rows of one forward pass (default 1, or time_steps; with --train as CFG says)")
    parser.add_argument("--memory", action="store_true", help="the bytes of every layer's arrays, and the peak, as the commands run it")
    parser.add_argument("--train", action="store_true", help="of a network that learns")
    parser.add_argument("--json", action="store_true", help="print JSON")
    add_network_options(parser)
    parser.set_defaults(run=run)
    return parser


def run(args):
    """Run the command; returns the exit status."""
    seen = load_for_inference(args, sequences=1).seen if args.weights else None
    plan = read_plan(args, None if not args.weights or is_checkpoint(args.weights) else args.weights)
    net = build_network(plan, batch=args.batch, train=args.train, keep_activations=False, allocate=False)
    if not args.weights:
        show_notes(net.notes)
    if not args.json:
        print(net.summary(memory=args.memory))
        if args.weights:
            print(f"{args.weights}: fits, {seen} images seen")
        return 0
    rows = summary_rows(net)
    totals = {key: sum(row[key] for row in rows) for key in ("bflops", "trainable", "non_trainable")}
    figures = {"cfg": args.cfg, "dialect": net.dialect, "batchnorm": net.batchnorm, "batch": net.batch, "layers": rows,
               "total": totals, "remarks": remarks(net), "seen": seen}
    if args.memory:
        figures["memory"] = {"layers": memory_rows(net), **memory_totals(net)}
    print_json(figures)
    return 0
