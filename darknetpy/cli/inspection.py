"""Commands that look at a network: ``darknetpy statistics``, ``ops``, ``speed``, ``visualize``."""
from __future__ import annotations

import os
import statistics as numbers
import time

import numpy as np

from darknetpy import surgery
from darknetpy.builder import build_network
from darknetpy.cli import common
from darknetpy.cli.parser import not_negative, positive
from darknetpy.errors import ArgumentError

_SECONDS = 2.0      # that `speed` measures for unless told how often


def add_parser(subparsers):
    """Add the commands to the command line's parser."""
    _add_statistics(subparsers)
    _add_ops(subparsers)
    _add_speed(subparsers)
    _add_visualize(subparsers)


def _parser(subparsers, name, help, description, example, run, weights=None):
    parser = subparsers.add_parser(name, help=help, description=description, epilog=f"example: darknetpy {example}")
    parser.add_argument("cfg", metavar="CFG", help=common.CFG_HELP)
    if weights:
        parser.add_argument("weights", metavar="WEIGHTS", nargs=weights, help=".weights file or checkpoint")
    else:
        parser.set_defaults(weights=None)
    common.add_network_options(parser)
    parser.set_defaults(run=run)
    return parser


def _add_json(parser):
    parser.add_argument("--json", action="store_true", help="print figures as JSON, nothing else on standard output")


def _choose(net, index):
    """Return layer `index`, or refuse."""
    if index >= len(net.layers):
        raise ArgumentError(f"--layer {index}: the network has layers 0 to {len(net.layers) - 1}")
    return net.layers[index]


# ---- statistics
def _add_statistics(subparsers):
    parser = _parser(subparsers, "statistics", "mean, deviation and range of every array of a .weights file",
                     "Print a line per array: values, mean, standard deviation, smallest, largest, share of exact zeros.",
                     "statistics fashion-mnist.cfg backup/fashion-mnist_best.weights", _run_statistics, weights=1)
    parser.add_argument("--layer", type=not_negative, metavar="N", help="this layer only")
    _add_json(parser)


def _run_statistics(args):
    args.weights = args.weights[0]
    net = common.load_for_inference(args)
    if args.layer is not None:
        _choose(net, args.layer)
    rows = [row for row in surgery.statistics(net) if args.layer in (None, row.layer)]
    if args.json:
        common.print_json([row._asdict() for row in rows])
        return 0
    print(f"{'layer':24} {'array':18} {'values':>10} {'mean':>11} {'deviation':>11} {'smallest':>11} {'largest':>11} {'zeros':>7}")
    for row in rows:
        print(f"{f'{row.layer} [{row.type}]':24} {row.array:18} {row.values:10} {row.mean:11.4g} {row.deviation:11.4g} "
              f"{row.smallest:11.4g} {row.largest:11.4g} {row.zeros / row.values:7.1%}")
    return 0


# ---- ops
def _add_ops(subparsers):
    parser = _parser(subparsers, "ops", "floating-point operations of a forward pass",
                     "Print how many additions and multiplications one image takes, by layer type (groups are minded).",
                     "ops darknet19.cfg", _run_ops)
    _add_json(parser)


def _run_ops(args):
    net = build_network(common.read_plan(args), batch=1, allocate=False)
    common.show_notes(net.notes)
    totals = surgery.operations(net)
    if args.json:
        common.print_json({"operations": sum(totals.values()), "by_type": totals})
        return 0
    for name, flops in totals.items():
        print(f"{name:16} {flops / 1e9:12.6f} Bn")
    print(f"Floating Point Operations: {sum(totals.values()):.0f}, {sum(totals.values()) / 1e9:.2f} Bn")
    return 0


# ---- speed
def _add_speed(subparsers):
    parser = _parser(subparsers, "speed", "how fast a forward pass is",
                     "Time forward passes of one image; the median counts. `darknetpy bench network` compares with others.",
                     "speed darknet19.cfg 20", _run_speed)
    parser.add_argument("passes", metavar="TICS", nargs="?", type=positive,
                        help="passes (default: as many as two seconds allow)")
    parser.add_argument("--batch", type=positive, metavar="N", help="images of one pass (default 1)")
    parser.add_argument("--threads", type=positive, metavar="N", help="threads of the kernels (default: every CPU)")
    _add_json(parser)


def _run_speed(args):
    common.use_threads(args)
    net = common.load_for_inference(args, batch=args.batch or 1)
    net.input = np.random.default_rng(0).uniform(0, 1, (net.batch, net.inputs)).astype(np.float32)
    net.forward(train=False)        # the first pass touches fresh memory
    times, end = [], time.perf_counter() + _SECONDS
    while len(times) < args.passes if args.passes else time.perf_counter() < end or not times:
        start = time.perf_counter()
        net.forward(train=False)
        times.append(time.perf_counter() - start)
    median, flops = numbers.median(times), net.batch * sum(surgery.operations(net).values())
    if args.json:
        common.print_json({"passes": len(times), "batch": net.batch, "seconds": median, "per_second": net.batch / median,
                           "flops": flops / median})
        return 0
    print(f"{len(times)} passes of {net.batch}: median {median * 1e3:.3f} ms, {net.batch / median:.2f} per second, "
          f"{flops / median / 1e9:.2f} GFLOPS")
    return 0


# ---- visualize
def _add_visualize(subparsers):
    parser = _parser(subparsers, "visualize", "a picture of a layer's filters",
                     "Draw the filters of a convolution, each scaled to its own range: in colour where they have three "
                     "channels, else every channel in grey, a row per filter.",
                     "visualize darknet19.cfg darknet19.weights --out filters.png", _run_visualize, weights="?")
    parser.add_argument("--layer", type=not_negative, metavar="N", help="layer (default: the first convolution)")
    parser.add_argument("--zoom", type=positive, metavar="N", default=8, help="pixels per weight, at most 64 (default 8)")
    parser.add_argument("--out", metavar="FILE", help="picture (default NAME_layer_N.png)")


def _run_visualize(args):
    if args.zoom > 64:
        raise ArgumentError(f"--zoom {args.zoom}: wanted at most 64")
    net = common.load_for_inference(args)
    layer = surgery.first_convolution(net) if args.layer is None else _choose(net, args.layer)
    picture = surgery.filter_picture(layer, args.zoom)
    name = os.path.splitext(os.path.basename(args.cfg))[0]
    out = args.out or f"{name}_layer_{layer.index}.png"
    _write_picture(out, picture)
    print(f"{out}: {len(layer.weights)} filters of {layer.weights.shape[1]} channels, {picture.shape[1]} x {picture.shape[0]} pixels")
    return 0


def _write_picture(path, picture):
    import io

    from PIL import Image

    from darknetpy.files import write_atomically

    extension = os.path.splitext(path)[1].lower()
    form = Image.registered_extensions().get(extension)
    if form is None:
        raise ArgumentError(f"--out {path}: wanted an ending such as .png or .jpg")
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, form)
    write_atomically(path, [buffer.getvalue()])
