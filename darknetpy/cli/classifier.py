"""``darknetpy classifier train|predict|valid``: Darknet's trainer of image classifiers, word for word, and a little more."""
from __future__ import annotations

from darknetpy.cli import classifier_predict, classifier_train, classifier_valid

_EPILOG = """examples:
  darknetpy classifier train mine.data mine.cfg                      train; files go to the backup folder of mine.data
  darknetpy classifier train mine.data mine.cfg backup/mine.checkpoint    go on as if training had never stopped
  darknetpy classifier valid mine.data mine.cfg backup/mine_best.weights
  darknetpy classifier predict mine.data mine.cfg backup/mine_best.weights dog.jpg"""


def add_parser(subparsers):
    """Add the command to the command line's parser and return its own parser."""
    parser = subparsers.add_parser("classifier", help="train, measure and use image classifiers",
                                   description="Train, measure and use image classifiers.", epilog=_EPILOG)
    commands = parser.add_subparsers(metavar="COMMAND", dest="subcommand", required=True)
    for module in (classifier_train, classifier_predict, classifier_valid):
        module.add_parser(commands)
    return parser
