"""The parser of the whole command line."""
from __future__ import annotations

import argparse
import importlib

import darknetpy

COMMANDS = ("classifier", "detector", "rnn", "recompute-bn", "fuse", "summary", "explain", "check", "info", "gradcheck", "bench",
            "lab", "inspection", "surgery")     # the last two: several commands each
_DESCRIPTION = "Darknet's networks, trained, run and measured."
_EPILOG = """examples:
  darknetpy classifier train fashion-mnist: fashion-mnist.cfg     train a network on the images that come with the package
  darknetpy detector test coco.data yolov3.cfg yolov3.weights dog.jpg     find objects in images
  darknetpy summary fashion-mnist.cfg                             its layers, sizes and parameters
  darknetpy explain convolutional                                 what a section of a .cfg may say

DATA is a .data file as Darknet's, packed arrays (IDX, .npz, CIFAR binaries), a folder of them, 'fashion-mnist:' (embedded) or
'fashion-mnist:full'.  Exit status: 0 done, 1 failed while running, 2 the input or the command is wrong."""


class CommandParser(argparse.ArgumentParser):
    """An ArgumentParser that takes options anywhere among the positional words, as Darknet does, and complains in one line."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **{"allow_abbrev": False, "formatter_class": argparse.RawDescriptionHelpFormatter, **kwargs})
        self._intermixing = False

    def parse_known_args(self, args=None, namespace=None):
        """As ArgumentParser's; a command without subcommands allows options between its positional words."""
        if self._subparsers is not None or self._intermixing:
            return super().parse_known_args(args, namespace)
        self._intermixing = True
        try:
            return self.parse_known_intermixed_args(args, namespace)
        finally:
            self._intermixing = False

    def error(self, message):
        """Print one line and exit with status 2."""
        self.exit(2, f"{self.prog}: error: {' '.join(message.split())} (see {self.prog} --help)\n")


def make_parser():
    """Return the parser; each command's module adds its own."""
    parser = CommandParser(prog="darknetpy", description=_DESCRIPTION, epilog=_EPILOG)
    parser.add_argument("--version", action="version", version=f"darknetpy {darknetpy.__version__}")
    subparsers = parser.add_subparsers(metavar="COMMAND", dest="command", required=True)
    for name in COMMANDS:
        importlib.import_module(f"darknetpy.cli.{name.replace('-', '_')}").add_parser(subparsers)
    return parser


def positive(text):
    """A whole number of at least 1, for argparse."""
    return _integer(text, 1)


def not_negative(text):
    """A whole number of at least 0, for argparse."""
    return _integer(text, 0)


def share(text):
    """A number in 0..1, for argparse."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"wanted a number in 0..1, got {text[:40]!r}")
    return value


def _integer(text, least):
    if not (text.isascii() and text.isdigit() and least <= int(text[:20]) < 2**63):
        raise argparse.ArgumentTypeError(f"wanted a whole number of at least {least}, got {text[:40]!r}")
    return int(text)
