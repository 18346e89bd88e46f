"""``darknetpy detector test|train``: Darknet's detectors, word for word, and a little more."""
from __future__ import annotations

from darknetpy.cli import detector_test, detector_train

_EPILOG = """examples:
  darknetpy detector test coco.data yolov3.cfg yolov3.weights dog.jpg
  darknetpy detector test coco.data yolov3.cfg yolov3.weights photos/ -thresh .5 -out found/
  darknetpy detector train mine.data mine.cfg                           files go to the backup folder of mine.data
  darknetpy detector train mine.data mine.cfg backup/mine.checkpoint    go on as if training had never stopped"""


def add_parser(subparsers):
    """Add the command to the command line's parser and return its own parser."""
    parser = subparsers.add_parser("detector", help="train detectors, find objects in images",
                                   description="Train and use detectors.", epilog=_EPILOG)
    commands = parser.add_subparsers(metavar="COMMAND", dest="subcommand", required=True)
    for module in (detector_test, detector_train):
        module.add_parser(commands)
    return parser
