"""``darknetpy classifier predict DATA CFG WEIGHTS IMAGE...``."""
from __future__ import annotations

import sys

import numpy as np

from darknetpy.cli import common
from darknetpy.cli.parser import positive
from darknetpy.data import View, decode_image, open_data
from darknetpy.errors import DataError
from darknetpy.evaluation import best_count, require_agreement, scores

_EXAMPLE = """examples:
  darknetpy classifier predict mine.data mine.cfg mine.weights dog.jpg cat.png -t 3
  ls *.jpg | darknetpy classifier predict mine.data mine.cfg mine.weights"""


def add_parser(subparsers):
    """Add the command to the parser of ``classifier`` and return its own parser."""
    parser = subparsers.add_parser("predict", help="say what images show",
                                   description="Print the best classes of each image with their probabilities.", epilog=_EXAMPLE)
    parser.add_argument("data", metavar="DATA", help=common.DATA_HELP)
    parser.add_argument("cfg", metavar="CFG", help=common.CFG_HELP)
    parser.add_argument("weights", metavar="WEIGHTS", help=".weights file or checkpoint")
    parser.add_argument("images", metavar="IMAGE", nargs="*", help="JPEG, PNG, BMP or PPM file (default: names on standard input)")
    parser.add_argument("-t", "-top", "--top", type=positive, metavar="N", dest="top",
                        help="how many classes to print (default: top= of DATA, else 5)")
    parser.add_argument("-dont_show", "-nogpu", action="store_true", dest="ignored",
                        help="accepted as Darknet's: no window is opened; --device chooses a GPU")
    parser.add_argument("--threads", type=positive, metavar="N", help="threads of the kernels (default: every CPU)")
    common.add_device_option(parser)
    parser.add_argument("--json", action="store_true", help="print JSON")
    common.add_network_options(parser)
    parser.set_defaults(run=run)
    return parser


def run(args):
    """Run the command; returns the exit status."""
    common.use_threads(args)
    source = open_data(args.data)
    top = best_count(source, args.top)
    net = common.load_for_inference(args, batch=1, time_steps=1)
    require_agreement(net, source)
    view = View.prediction(net.w, net.h, net.c, net.dialect)
    paths = args.images or filter(None, map(str.strip, sys.stdin))
    results = (predict(net, view, source, path, top) for path in paths)
    if args.json:
        common.print_json(list(results))
        return 0
    for result in results:
        if len(args.images) != 1:
            print(f"{result['image']}:")
        for found in result["predictions"]:
            print(f"{100 * found['probability']:6.2f}%: {found['name']}", flush=True)
    return 0


def predict(net, view, source, path, top):
    """Return the best classes of one image file, best first.

    Raises
    ------
    DataError
        It is no image that can be used; no class is named then.
    """
    try:
        pixels = decode_image(path)
    except DataError as error:
        raise DataError(f"{path}: {error}") from error
    found = scores(net, view.apply(np.ascontiguousarray(pixels)), source.tree)[0]
    order = np.argsort(-found, kind="stable")[:top]
    return {"image": path, "predictions": [
        {"class": int(i), "name": source.names[i], "probability": float(found[i])} for i in order]}
