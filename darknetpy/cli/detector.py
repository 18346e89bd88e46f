"""``darknetpy detector test``: Darknet's detectors, word for word, and a little more."""
from __future__ import annotations

from darknetpy.cli import detector_test

_EPILOG = """examples:
  darknetpy detector test coco.data yolov3.cfg yolov3.weights dog.jpg
  darknetpy detector test coco.data yolov3.cfg yolov3.weights photos/ -thresh .5 -out found/"""


def add_parser(subparsers):
    """Add the command to the command line's parser and return its own parser."""
    parser = subparsers.add_parser("detector", help="find objects in images",
                                   description="Use detectors.", epilog=_EPILOG)
    commands = parser.add_subparsers(metavar="COMMAND", dest="subcommand", required=True)
    detector_test.add_parser(commands)
    return parser
