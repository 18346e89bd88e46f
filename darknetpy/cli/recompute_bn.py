"""``darknetpy recompute-bn CFG WEIGHTS DATA OUT``: moving statistics of trained weights over a data set."""

from __future__ import annotations

import sys

from darknetpy.builder import build_network
from darknetpy.cli import common
from darknetpy.cli.parser import positive
from darknetpy.data import Loader, View, open_data
from darknetpy.errors import DataError
from darknetpy.moving_statistics import batch_normalized, refuse_single_values
from darknetpy.progress import counted
from darknetpy.weights import save_weights

_DESCRIPTION = """Recompute the statistics that inference normalizes by: the plain average over mini-batches of
the training images of DATA, with the weights as they are (arXiv:1502.03167, Algorithm 2). Moving averages lag
behind the weights, most of all early in training. Images come in the training's order, not augmented; dropout is
off. OUT is a .weights file that differs from WEIGHTS in the statistics only."""
_EXAMPLE = """examples:
  darknetpy recompute-bn fashion-mnist.cfg backup/fashion-mnist_last.weights fashion-mnist: recomputed.weights
  darknetpy recompute-bn mine.cfg mine.weights mine.data out.weights --batch 64 --batches 100"""


def add_parser(subparsers):
    """Add the command to the command line's parser and return its own parser."""
    parser = subparsers.add_parser(
        "recompute-bn",
        help="recompute batch normalization's statistics over a data set",
        description=_DESCRIPTION,
        epilog=_EXAMPLE,
    )
    parser.add_argument("cfg", metavar="CFG", help=common.CFG_HELP)
    parser.add_argument("weights", metavar="WEIGHTS", help=common.WEIGHTS_HELP)
    parser.add_argument("data", metavar="DATA", help=common.DATA_HELP)
    parser.add_argument("out", metavar="OUT", help=".weights file to write; may be WEIGHTS")
    parser.add_argument(
        "--batch", type=positive, metavar="N", help="images of a mini-batch (default: a mini-batch of CFG)"
    )
    parser.add_argument(
        "--batches",
        type=positive,
        metavar="N",
        help="mini-batches (default: as many as the data has, whole ones)",
    )
    common.add_run_options(parser)
    common.add_network_options(parser)
    parser.set_defaults(run=run)
    return parser


def run(args):
    """Run the command; returns the exit status."""
    common.use_threads(args)
    source = open_data(args.data)
    plan = common.read_plan(args, args.weights)
    net = build_network(
        plan,
        batch=args.batch or max(plan.net["batch"] // plan.net["subdivisions"], 1) * plan.net["time_steps"],
        device=args.device,
        weights=args.weights,
    )
    net.graph = not args.no_graph
    refuse_single_values(net)
    common.show_notes([*net.notes, *source.notes])
    batches = args.batches or len(source.train) // net.batch
    if not batches:
        raise DataError(
            f"{source.name}: {len(source.train)} training images are less than a mini-batch of {net.batch}; "
            f"--batch takes another size"
        )
    view = View.validation(net.w, net.h, net.c, net.dialect)
    with Loader(
        source.train,
        view,
        net.batch,
        seed=net.seed,
        stop=batches * net.batch,
        workers=args.workers,
        on_bad_image=args.on_bad_image,
    ) as loader:
        rows = (batch.x for batch in loader)
        net.recompute_statistics(
            counted(rows, batches, "mini-batches", sys.stderr if args.json else sys.stdout)
        )
    save_weights(net, args.out)
    _report(args, net, batches, loader.skipped)
    return 0


def _report(args, net, batches, skipped):
    layers = len(batch_normalized(net))
    if args.json:
        common.print_json(
            {
                "layers": layers,
                "mini_batches": batches,
                "batch": net.batch,
                "seen": net.seen,
                "file": args.out,
                "skipped": list(skipped.values()),
            }
        )
        return
    for reason in skipped.values():
        print(f"skipped: {reason}")
    print(
        f"statistics of {layers} layers, the average of {batches} mini-batches of {net.batch} images: "
        f"{args.out}"
    )
