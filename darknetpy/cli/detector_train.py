"""``darknetpy detector train DATA CFG [WEIGHTS]``."""

from __future__ import annotations

from darknetpy.cli import common, train
from darknetpy.data import (
    DetectionView,
    ListBoxDataset,
    check_detection_data,
    head_specs,
    label_classes,
    open_detection_data,
)
from darknetpy.detector_training import DetectorTrainer

DATA_HELP = "fashion-scenes:, or a .data file: lists of images with label files beside them, or .npz files"
_DESCRIPTION = (
    """Train a detector. NAME being the name of CFG up to its first dot, the backup folder gets

  NAME.csv, NAME.png          loss, learning rate; IoU, objectness and recall of the boxes trained on
  NAME_last.weights           the newest weights, also as NAME.backup, Darknet's name
  NAME_final.weights          the weights after max_batches updates
  NAME.checkpoint             all that training needs to go on later, bit for bit

"""
    + train.STOPPING
)
_EXAMPLE = """examples:
  darknetpy detector train fashion-scenes: scenes-v3.cfg
  darknetpy detector train mine.data mine.cfg darknet53.conv.74 --cutoff 75 -clear
  darknetpy detector train mine.data mine.cfg backup/mine.checkpoint"""


def add_parser(subparsers):
    """Add the command to the parser of ``detector`` and return its own parser."""
    parser = subparsers.add_parser(
        "train", help="train a network on images with boxes", description=_DESCRIPTION, epilog=_EXAMPLE
    )
    train.add_options(parser, DATA_HELP, save_every=100)
    parser.add_argument(
        "-map",
        action="store_true",
        help="accepted as Darknet's, with a note: mean average precision is not measured yet",
    )
    parser.add_argument(
        "-dont_show",
        "-nogpu",
        action="store_true",
        dest="ignored",
        help="accepted as Darknet's: no window is opened; --device chooses a GPU",
    )
    parser.set_defaults(run=run)
    return parser


def run(args):
    """Run the command; returns the exit status."""
    common.use_threads(args)
    net = train.build(args)
    plan = net.sections
    if args.map:
        common.show_notes(["-map: mean average precision is not measured yet"])
    view = DetectionView.training(plan)
    source = open_detection_data(
        args.data, plan.dialect, view.class_only, label_classes(head_specs(plan)[-1])
    )

    def check():
        if isinstance(source.train, ListBoxDataset):
            report = check_detection_data(args.data, plan)
            report.refuse()
            known = {*source.notes, *view.notes, f"{source.name}: no valid images"}
            common.show_notes(note for note in report.notes if note not in known)

    return train.train(args, DetectorTrainer, net, source, check)
