"""``darknetpy rnn train|valid|generate``: Darknet's networks of text, and a little more."""

from __future__ import annotations

from darknetpy.cli import rnn_generate, rnn_train, rnn_valid

_EPILOG = """examples:
  darknetpy rnn train text.cfg                           stories of Sherlock Holmes that come with the package
  darknetpy rnn train my.cfg -file my.txt                 files go to ./backup
  darknetpy rnn valid text.cfg backup/text_best.weights   bits per character of what was held out
  darknetpy rnn generate text.cfg backup/text_best.weights -seed "Sherlock Holmes " -temp .6"""


def add_parser(subparsers):
    """Add the command to the command line's parser and return its own parser."""
    parser = subparsers.add_parser(
        "rnn",
        help="train networks on text, let them write",
        description="Train and use networks that read text character by character.",
        epilog=_EPILOG,
    )
    commands = parser.add_subparsers(metavar="COMMAND", dest="subcommand", required=True)
    for module in (rnn_train, rnn_valid, rnn_generate):
        module.add_parser(commands)
    return parser
