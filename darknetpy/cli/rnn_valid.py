"""``darknetpy rnn valid CFG WEIGHTS [-file TEXT]``."""

from __future__ import annotations

from darknetpy.cli import common, rnn_train
from darknetpy.cli.parser import positive
from darknetpy.data import TextSource, read_text
from darknetpy.errors import DataError
from darknetpy.text import measure, require_text

_DESCRIPTION = """Measure how well a network predicts text: the mean of -log2 of the probability that it
gave to the character that came, in bits per character. Of -file the last tenth is measured, which `rnn train`
holds out; with --all, all of it."""
_EXAMPLE = """examples:
  darknetpy rnn valid text.cfg backup/text_best.weights
  darknetpy rnn valid my.cfg my.weights -file other.txt --all --json"""


def add_parser(subparsers):
    """Add the command to the parser of ``rnn`` and return its own parser."""
    parser = subparsers.add_parser(
        "valid", help="measure bits per character", description=_DESCRIPTION, epilog=_EXAMPLE
    )
    parser.add_argument("cfg", metavar="CFG", help=common.CFG_HELP)
    parser.add_argument("weights", metavar="WEIGHTS", help=".weights file or checkpoint")
    parser.add_argument("-file", "--file", metavar="TEXT", default="text:", help=rnn_train.FILE_HELP)
    parser.add_argument("--all", action="store_true", help="measure all of it, not its last tenth")
    parser.add_argument(
        "--sequences",
        type=positive,
        metavar="N",
        help="equal shares of the text that are read side by side, each from a state of zeros (default: "
        "batch= of CFG / subdivisions; 1: as Darknet, slower)",
    )
    common.add_run_options(parser, images=False)
    common.add_network_options(parser)
    parser.set_defaults(run=run)
    return parser


def run(args):
    """Run the command; returns the exit status."""
    common.use_threads(args)
    text = read_text(args.file)
    if not args.all:
        text = TextSource(args.file, text).valid
    if text is None:
        raise DataError(f"{args.file}: too short to hold a tenth of it out; --all measures all of it")
    net = common.load_for_inference(args, sequences=args.sequences)
    require_text(net)
    found = measure(net, text)
    if args.json:
        common.print_json(found.figures())
    else:
        print(f"{text.name}: {found.text()}")
    return 0
