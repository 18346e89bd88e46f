"""What the commands share: options about the network, loading it, printing JSON."""
from __future__ import annotations

import argparse
import json
import sys

from darknetpy.builder import build_network
from darknetpy.cfg import Option, parse_cfg, parse_cfg_text
from darknetpy.checkpoint import is_checkpoint, restore
from darknetpy.checkpoint import read_header as read_checkpoint_header
from darknetpy.cli.parser import positive
from darknetpy.dialects import DIALECTS
from darknetpy.errors import DeviceError
from darknetpy.gpu import WANTED, parse_device
from darknetpy.paths import find_cfg
from darknetpy.sections import resolve
from darknetpy.threads import set_num_threads
from darknetpy.weights import read_header

DATA_HELP = ".data file, packed arrays, a folder of them, fashion-mnist: or fashion-mnist:full"
CFG_HELP = "network file; a bare name may be one of those that come with the package"
WEIGHTS_HELP = ".weights file"
DEVICE_HELP = ("where the network runs: cpu (default), gpu (NVIDIA's; gpu:1 is the second), or emulated, the GPU's kernels on the CPU: "
               "slow, for checks")


def add_network_options(parser):
    """Add the options that say how a .cfg is read."""
    group = parser.add_argument_group("network")
    group.add_argument("--dialect", choices=list(DIALECTS), help="fork whose conventions hold (default: what cfg and weights say)")
    group.add_argument("--batchnorm", choices=["paper", "darknet"], help="formulas of batch normalization (default: what [net] says)")
    group.add_argument("--lenient", action="store_true", help="unknown keys in CFG are warnings")


def add_run_options(parser, images=True):
    """Add the options of commands that pass images, or something else, through a network."""
    parser.add_argument("--threads", type=positive, metavar="N", help="threads of the kernels (default: every CPU); changes no result")
    add_device_option(parser)
    if images:
        _add_image_options(parser)
    parser.add_argument("--json", action="store_true", help="print figures as JSON, nothing else on standard output")


def add_device_option(parser):
    """Add --device; whether there is such a one is seen when a network is made."""
    parser.add_argument("--device", type=_device, metavar="DEVICE", default="cpu", help=DEVICE_HELP)
    parser.add_argument("--no-graph", action="store_true",
                        help="on a device, begin each kernel on its own, no pass as a CUDA graph; changes no result")


def _device(text):
    try:
        parse_device(text)
    except DeviceError:
        raise argparse.ArgumentTypeError(f"{text!r}: wanted {WANTED}") from None
    return text


def _add_image_options(parser):
    parser.add_argument("--workers", type=positive, metavar="N", help="threads that load images; changes no result")
    parser.add_argument("--on-bad-image", choices=["error", "skip"], default="error", help="stop (default), or leave it out and count it")


def use_threads(args):
    """Obey --threads."""
    if args.threads:
        set_num_threads(args.threads)


def read_plan(args, weights=None, **net_options):
    """Read args.cfg; options given on the command line stand in its [net] from there on.

    Parameters
    ----------
    args : Namespace
        With cfg, dialect, batchnorm, lenient.
    weights : str, optional
        A .weights file, whose header helps to tell the dialect.
    **net_options : int, str or None
        Values for keys of [net]; None leaves the key alone.
    """
    sections = parse_cfg(find_cfg(args.cfg))
    for key, value in net_options.items():
        if value is not None and sections:
            sections[0].options[key] = Option(key, str(value), sections[0].line)
    revision = read_header(weights).revision if weights else None
    return resolve(sections, dialect=args.dialect, batchnorm=args.batchnorm, lenient=args.lenient, weights_revision=revision)


def load_for_inference(args, batch=None, sequences=None, time_steps=None):
    """Build the network of args.cfg and load args.weights, a .weights file or a checkpoint; None loads nothing.

    Parameters
    ----------
    args : Namespace
    batch : int, optional
        Rows of one pass; None: `sequences` times the time steps.
    sequences : int, optional
        Sequences side by side; None: a mini-batch of the .cfg.
    time_steps : int, optional
        Of one pass, for recurrent networks; None: as the .cfg says.
    """
    trained, device_name = None, getattr(args, "device", "cpu")
    as_trained = batch is sequences is time_steps is None
    if args.weights is not None and is_checkpoint(args.weights):
        plan = read_plan(args, seed=checkpoint_seed(args.weights))
        trained = build_network(plan, device=device_name if as_trained else "cpu", train=True, keep_activations=False)
        restore(trained, args.weights)
    if trained and as_trained:
        net = trained
    else:
        plan = read_plan(args, None if trained else args.weights, time_steps=time_steps)
        sequences = sequences or max(plan.net["batch"] // plan.net["subdivisions"], 1)
        net = build_network(plan, batch=batch or sequences * plan.net["time_steps"], device=device_name,
                            keep_activations=False, weights=None if trained else args.weights)
        if trained:
            _copy_parameters(trained, net)
    net.graph = not getattr(args, "no_graph", False)
    show_notes(net.notes)
    return net


def _copy_parameters(trained, net):
    for before, after in zip(trained.layers, net.layers):
        arrays = after.arrays("parameter", "statistic", "counter")
        for name, values in before.arrays("parameter", "statistic", "counter").items():
            arrays[name][...] = values
    net.seen = trained.seen


def checkpoint_seed(path):
    """Return the text of the seed that a checkpoint's network was built with; None: the default."""
    option = parse_cfg_text(read_checkpoint_header(path)["cfg"])[0].options.get("seed")
    return None if option is None else option.text


def show_notes(notes):
    """Print remarks, one line each, where they do not disturb figures."""
    for note in notes:
        print(f"note: {note}", file=sys.stderr)


def print_json(value):
    """Print figures for programs."""
    print(json.dumps(value, indent=1, allow_nan=False))
