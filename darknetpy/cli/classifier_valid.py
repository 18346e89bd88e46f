"""``darknetpy classifier valid DATA CFG WEIGHTS``."""
from __future__ import annotations

from darknetpy.cli import common
from darknetpy.cli.parser import positive
from darknetpy.data import open_data
from darknetpy.errors import DataError
from darknetpy.evaluation import best_count, evaluate, require_agreement

_EXAMPLE = """examples:
  darknetpy classifier valid fashion-mnist: fashion-mnist.cfg backup/fashion-mnist_best.weights
  darknetpy classifier valid mine.data mine.cfg mine.weights -t 3 --json"""


def add_parser(subparsers):
    """Add the command to the parser of ``classifier`` and return its own parser."""
    parser = subparsers.add_parser("valid", help="measure the accuracy on the validation images",
                                   description="Measure top-1 and top-k accuracy on the validation images of DATA.", epilog=_EXAMPLE)
    parser.add_argument("data", metavar="DATA", help=common.DATA_HELP)
    parser.add_argument("cfg", metavar="CFG", help=common.CFG_HELP)
    parser.add_argument("weights", metavar="WEIGHTS", help=".weights file or checkpoint")
    parser.add_argument("-t", "-top", "--top", type=positive, metavar="N", dest="top",
                        help="how many best classes count as a hit (default: top= of DATA, else 5)")
    parser.add_argument("--batch", type=positive, metavar="N", help="rows of one forward pass (default: a mini-batch of CFG)")
    parser.add_argument("-topk", "-dont_show", "-nogpu", action="store_true", dest="ignored",
                        help="accepted as Darknet's: top-k is always measured, no window opened; --device chooses a GPU")
    common.add_run_options(parser)
    common.add_network_options(parser)
    parser.set_defaults(run=run)
    return parser


def run(args):
    """Run the command; returns the exit status."""
    common.use_threads(args)
    source = open_data(args.data)
    top = best_count(source, args.top)
    net = common.load_for_inference(args, args.batch)
    require_agreement(net, source)
    if "valid" not in source.splits:
        raise DataError(f"{args.data}: it has no validation images")
    accuracy = evaluate(net, source.valid, top=top, workers=args.workers, on_bad_image=args.on_bad_image)
    if args.json:
        common.print_json(accuracy.figures())
        return 0
    for reason in accuracy.skipped.values():
        print(f"skipped: {reason}")
    print(f"validation: {accuracy.text()}")
    return 0
