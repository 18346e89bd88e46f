"""``darknetpy classifier train DATA CFG [WEIGHTS]``."""

from __future__ import annotations

from darknetpy.classifier_training import ClassifierTrainer
from darknetpy.cli import common, train
from darknetpy.cli.parser import positive
from darknetpy.data import ListDataset, check_data, open_data

_DESCRIPTION = (
    """Train a classifier. NAME being the name of CFG up to its first dot, the backup folder gets

  NAME.csv, NAME.png          loss, accuracy on the validation images, learning rate
  NAME_best.weights           the weights of the best validation
  NAME_last.weights           the newest weights, also as NAME.backup, Darknet's name
  NAME_final.weights          the weights after max_batches updates
  NAME.checkpoint             all that training needs to go on later, bit for bit

"""
    + train.STOPPING
)
_EXAMPLE = """examples:
  darknetpy classifier train fashion-mnist: fashion-mnist.cfg
  darknetpy classifier train mine.data mine.cfg darknet19_448.conv.23 --cutoff 23 -clear
  darknetpy classifier train mine.data mine.cfg backup/mine.checkpoint"""


def add_parser(subparsers):
    """Add the command to the parser of ``classifier`` and return its own parser."""
    parser = subparsers.add_parser(
        "train", help="train a network on labelled images", description=_DESCRIPTION, epilog=_EXAMPLE
    )
    train.add_options(parser, common.DATA_HELP, save_every=1000)
    parser.add_argument(
        "-t",
        "-top",
        "--top",
        type=positive,
        metavar="N",
        dest="top",
        help="how many best classes count as a hit (default: top= of DATA, else 5)",
    )
    parser.add_argument(
        "--valid-every",
        type=positive,
        metavar="N",
        help="updates between validations, each of which saves (default: one epoch)",
    )
    parser.add_argument(
        "-topk",
        "-dont_show",
        "-nogpu",
        action="store_true",
        dest="ignored",
        help="accepted as Darknet's: top-k is always measured, no window opened; --device chooses a GPU",
    )
    parser.set_defaults(run=run)
    return parser


def run(args):
    """Run the command; returns the exit status."""
    common.use_threads(args)
    net, source = train.build(args), open_data(args.data)

    def check():
        if any(isinstance(source.dataset(split), ListDataset) for split in source.splits):
            check_data(args.data).refuse()

    return train.train(
        args, ClassifierTrainer, net, source, check, valid_every=args.valid_every, top=args.top
    )
