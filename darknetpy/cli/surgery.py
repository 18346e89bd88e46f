"""Commands that read a network's weights and write changed ones: ``darknetpy average``, ``oneoff``, ..."""
from __future__ import annotations

import os
from typing import Callable, NamedTuple

from darknetpy import surgery
from darknetpy.builder import build_network
from darknetpy.cli import common
from darknetpy.cli.parser import positive
from darknetpy.errors import ArgumentError
from darknetpy.files import write_atomically
from darknetpy.network import Network
from darknetpy.paths import find_cfg
from darknetpy.weights import load_weights, save_weights

NOTE = "OUT may not be a file that is read."


class Change(NamedTuple):
    """A command CFG IN OUT: `apply(net)` returns the network to save; `cfg`: whether that needs another .cfg."""

    name: str
    help: str
    description: str
    apply: Callable[[Network], Network]
    cfg: bool = False


CHANGES = (
    Change("rgbgr", "swap red and blue in the first layer's weights",
           "Make a network for RGB images one for BGR images, or back: swap channels 0 and 2 of the first convolution.",
           surgery.swap_colours),
    Change("rescale", "make a network for inputs in [-1, 1] one for [0, 1]",
           "Let the first convolution see 2 x - 1: its weights are doubled and their sum taken off its bias, or added to its "
           "moving mean where it is batch-normalized. Exact but at the image's border.", surgery.rescale),
    Change("reset", "fold batch normalization into the weights, leaving one that changes nothing",
           "Fold each layer's batch normalization into its weights and biases; scales, means and variances that change nothing "
           "stay in the file, which suits the same CFG.", surgery.reset),
    Change("denormalize", "fold batch normalization into the weights: OUT and its .cfg",
           "Fold batch normalization into the weights before it, as `darknetpy fuse`; write OUT without it, and the .cfg that "
           "goes with it under OUT's name.", Network.fuse, cfg=True),
    Change("normalize", "give every layer batch normalization that changes nothing yet: OUT and its .cfg",
           "Give convolutional, deconvolutional, connected and recurrent layers that have none a batch normalization with scale "
           "1, mean 0 and variance 1, to train on from there; write OUT, and the .cfg that goes with it under OUT's name.",
           surgery.normalize, cfg=True),
)


def add_parser(subparsers):
    """Add the commands to the command line's parser."""
    for change in CHANGES:
        parser = _parser(subparsers, change.name, change.help, change.description,
                         f"example: darknetpy {change.name} my.cfg my.weights out.weights")
        parser.add_argument("weights", metavar="IN", help=common.WEIGHTS_HELP + " that is read")
        parser.add_argument("out", metavar="OUT", help=".weights file that is written")
        parser.set_defaults(run=_run_change, change=change)
    _add_average(subparsers)
    _add_partial(subparsers)
    _add_oneoff(subparsers)


def _parser(subparsers, name, help, description, example):
    parser = subparsers.add_parser(name, help=help, description=f"{description} {NOTE}", epilog=example)
    parser.add_argument("cfg", metavar="CFG", help=common.CFG_HELP)
    common.add_network_options(parser)
    return parser


def _add_average(subparsers):
    parser = _parser(subparsers, "average", "the mean of several .weights files",
                     "Write the mean of the parameters and statistics of several .weights files of one network, those of a "
                     "training run's last iterations, say.",
                     "example: darknetpy average my.cfg out.weights my_8000.weights my_9000.weights my_10000.weights")
    parser.add_argument("out", metavar="OUT", help=".weights file that is written")
    parser.add_argument("weights", metavar="IN", nargs="+", help=".weights files that are read")
    parser.set_defaults(run=_run_average)


def _add_partial(subparsers):
    parser = _parser(subparsers, "partial", "the weights of the first layers only, to train another network from",
                     "Write the weights of the layers before LAYER (counted from 0), with no images seen: what a network that "
                     "begins with the same layers is trained from.",
                     "example: darknetpy partial darknet19.cfg darknet19.weights darknet19.conv.23 23")
    parser.add_argument("weights", metavar="IN", help=common.WEIGHTS_HELP + " that is read; longer than needed is fine")
    parser.add_argument("out", metavar="OUT", help=".weights file that is written")
    parser.add_argument("layers", metavar="LAYER", type=positive, help="number of layers to keep")
    parser.set_defaults(run=_run_partial)


def _add_oneoff(subparsers):
    parser = _parser(
        subparsers,
        "oneoff",
        "make a detector of a classifier: its class filters go to every anchor",
        "CFG is a detector's, IN the weights of a classifier with the same layers up to its last convolution "
        "of one filter per class. In OUT these are the class filters of every anchor of the [region] or "
        "[yolo] at the end; the filters of the boxes keep a tenth of their start values.",
        "example: darknetpy oneoff yolo9000.cfg darknet9000.weights yolo9000.weights",
    )
    parser.add_argument("weights", metavar="IN", help="the classifier's .weights file that is read")
    parser.add_argument("out", metavar="OUT", help=".weights file that is written, with no images seen")
    parser.set_defaults(run=_run_oneoff)


def _run_change(args):
    _refuse_same(args.out, [args.weights, find_cfg(args.cfg)])
    net = _load(args, args.weights)
    out_cfg = f"{os.path.splitext(args.out)[0]}.cfg" if args.change.cfg else None
    if out_cfg:
        _refuse_same(out_cfg, [find_cfg(args.cfg), args.weights, args.out])
    noted = len(net.notes)
    result = args.change.apply(net)
    common.show_notes(result.notes[noted:] if result is net else ())
    save_weights(result, args.out)
    if out_cfg:
        write_atomically(out_cfg, [result.to_cfg().encode()])
    print(args.out, out_cfg or "", sep=" " if out_cfg else "")
    return 0


def _run_average(args):
    _refuse_same(args.out, [*args.weights, find_cfg(args.cfg)])
    net = build_network(common.read_plan(args, args.weights[0]))
    common.show_notes(net.notes)
    save_weights(surgery.average(net, args.weights), args.out)
    print(f"{args.out}: the mean of {len(args.weights)} files")
    return 0


def _run_partial(args):
    _refuse_same(args.out, [args.weights, find_cfg(args.cfg)])
    net = build_network(common.read_plan(args, args.weights))
    common.show_notes(net.notes)
    if args.layers > len(net.layers):
        raise ArgumentError(f"LAYER={args.layers}: the network has {len(net.layers)} layers")
    load_weights(net, args.weights, cutoff=args.layers, clear=True)
    save_weights(net, args.out, cutoff=args.layers)
    print(f"{args.out}: layers 0 to {args.layers - 1}")
    return 0


def _run_oneoff(args):
    _refuse_same(args.out, [args.weights, find_cfg(args.cfg)])
    net = surgery.oneoff(common.read_plan(args, args.weights), args.weights)
    common.show_notes(net.notes)
    save_weights(net, args.out)
    print(f"{args.out}: {int(net.layers[-1].option('classes'))} class filters for each anchor")
    return 0


def _load(args, weights):
    net = build_network(common.read_plan(args, weights), weights=weights)
    common.show_notes(net.notes)
    return net


def _refuse_same(out, sources):
    if not os.path.basename(out) or os.path.isdir(out):
        raise ArgumentError(f"OUT={out} is a folder; wanted the name of a file")
    for source in sources:
        if os.path.realpath(out) == os.path.realpath(source):
            raise ArgumentError(f"OUT={out} is a file that is read; wanted another name")
