"""``darknetpy rnn train CFG [WEIGHTS] [-file TEXT]``."""

from __future__ import annotations

from darknetpy.cli import common, train
from darknetpy.cli.parser import positive
from darknetpy.data import TextSource, read_text
from darknetpy.text import require_text
from darknetpy.text_training import TextTrainer

FILE_HELP = (
    "a file of any encoding; text: (default), stories of Sherlock Holmes that come with the package; "
    "- for standard input"
)
_DESCRIPTION = (
    """Train a network to predict each character (byte) of a text from those before it. NAME being the name
of CFG up to its first dot, the backup folder gets

  NAME.csv, NAME.png          loss (Darknet's, in nats), bits per character learned and held out, rate
  NAME_best.weights           the weights of the best validation
  NAME_last.weights           the newest weights, also as NAME.backup, Darknet's name
  NAME_final.weights          the weights after max_batches updates
  NAME.checkpoint             all that training needs to go on later, bit for bit

"""
    + train.STOPPING
)
_EXAMPLE = """examples:
  darknetpy rnn train text.cfg
  darknetpy rnn train my.cfg -file my.txt --valid other.txt
  darknetpy rnn train my.cfg backup/my.checkpoint -file my.txt"""


def add_parser(subparsers):
    """Add the command to the parser of ``rnn`` and return its own parser."""
    parser = subparsers.add_parser(
        "train", help="train a network on text", description=_DESCRIPTION, epilog=_EXAMPLE
    )
    train.add_options(parser, None, save_every=100)
    parser.add_argument("-file", "--file", metavar="TEXT", default="text:", help=FILE_HELP)
    parser.add_argument(
        "--valid", metavar="TEXT", help="text to measure on (default: the last tenth of -file, held out)"
    )
    parser.add_argument(
        "--valid-every",
        type=positive,
        metavar="N",
        help="updates between validations, each of which saves (default: one pass through the text)",
    )
    parser.add_argument(
        "-nogpu", action="store_true", dest="ignored", help="accepted as Darknet's: --device chooses a GPU"
    )
    parser.set_defaults(run=run)
    return parser


def run(args):
    """Run the command; returns the exit status."""
    common.use_threads(args)
    net, valid = train.build(args), args.valid and read_text(args.valid)
    require_text(net)
    source = TextSource(args.file, read_text(args.file), valid)
    texts = {"-file": args.file, "--valid": args.valid}
    words = [word for option, name in texts.items() if name not in (None, "text:") for word in (option, name)]
    return train.train(args, TextTrainer, net, source, words=words, valid_every=args.valid_every)
