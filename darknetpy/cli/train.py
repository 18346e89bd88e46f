"""What the commands that train have in common: options, the run, the report."""

from __future__ import annotations

import contextlib
import os
import shlex
import sys

from darknetpy.builder import build_network
from darknetpy.checkpoint import is_checkpoint
from darknetpy.cli import common
from darknetpy.cli.parser import not_negative, positive
from darknetpy.errors import ArgumentError, DarknetError
from darknetpy.graphs import graph_lines
from darknetpy.progress import make_progress
from darknetpy.signals import StopSignals
from darknetpy.training import TrainingOptions

STOPPING = """\
Ctrl-C and SIGTERM finish the step, save, and leave with status 130 or 143; a second one stops at once."""


def add_options(parser, data_help, save_every):
    """Add DATA (without a `data_help` there is none), CFG, WEIGHTS and the options that every training has."""
    images = data_help is not None
    if images:
        parser.add_argument("data", metavar="DATA", help=data_help)
    parser.add_argument("cfg", metavar="CFG", help=common.CFG_HELP)
    parser.add_argument(
        "weights",
        metavar="WEIGHTS",
        nargs="?",
        help=".weights file to start from, or a checkpoint to go on from (default: random weights)",
    )
    parser.add_argument(
        "-clear",
        "--clear",
        action="store_true",
        help="count images and updates from 0, whatever WEIGHTS says",
    )
    parser.add_argument("--cutoff", type=positive, metavar="N", help="WEIGHTS holds the first N layers only")
    parser.add_argument(
        "--seed",
        type=not_negative,
        metavar="N",
        help="seed of all that is random (default: [net] seed=)",
    )
    parser.add_argument(
        "--max-batches", type=positive, metavar="N", help="updates to make (default: [net] max_batches=)"
    )
    parser.add_argument(
        "--stop-at",
        type=positive,
        metavar="N",
        help="stop after this update, to go on later from the checkpoint",
    )
    parser.add_argument(
        "--save-every",
        type=positive,
        metavar="N",
        default=save_every,
        help=f"updates between savings (default {save_every})",
    )
    parser.add_argument(
        "--log-every",
        type=positive,
        metavar="N",
        help="updates per row of the .csv (default: each, 10,000 rows at most)",
    )
    parser.add_argument(
        "--backup",
        metavar="FOLDER",
        help=f"folder for all files (default: {'backup= of DATA, else ' * images}./backup)",
    )
    parser.add_argument("--verbose", action="store_true", help="say at the end what became of CUDA graphs, and why")
    parser.add_argument("--no-plot", action="store_true", help="draw no chart")
    if images:
        parser.add_argument(
            "--no-check", action="store_true", help="do not look at every image of a list first"
        )
    common.add_run_options(parser, images)
    common.add_network_options(parser)


def build(args):
    """Build the network that is to learn."""
    resuming = args.weights is not None and is_checkpoint(args.weights)
    if resuming and (args.clear or args.cutoff):
        raise ArgumentError(
            f"{args.weights} is a checkpoint: training goes on from it; "
            "-clear and --cutoff are for .weights files"
        )
    seed = common.checkpoint_seed(args.weights) if resuming and args.seed is None else args.seed
    plan = common.read_plan(args, None if resuming else args.weights, seed=seed, max_batches=args.max_batches)
    net = build_network(plan, device=args.device, train=True, keep_activations=False)
    net.graph = not args.no_graph
    return net


def train(args, kind, net, source, check=None, words=(), **options):
    """Make a trainer of `kind`, run it, report; returns the exit status.

    Parameters
    ----------
    args : Namespace
    kind : type of Trainer
    net : Network
    source : DataSource
    check : callable, optional
        Looks at every image, and refuses what is wrong; called once all else is known to be right.
    words : list of str
        More of the command line, to say how to go on.
    **options
        More of TrainingOptions.
    """
    common.show_notes([*net.notes, *source.notes])
    name = os.path.basename(args.cfg).split(".")[0] or "network"
    trainer = kind(
        net,
        source,
        TrainingOptions(
            folder=args.backup,
            name=name,
            workers=getattr(args, "workers", None),
            on_bad_image=getattr(args, "on_bad_image", "error"),
            log_every=args.log_every,
            save_every=args.save_every,
            plot=not args.no_plot,
            **options,
        ),
        make_progress(sys.stderr if args.json else sys.stdout),
    )
    if args.weights is not None and is_checkpoint(args.weights):
        trainer.resume(args.weights)
    elif args.weights:
        trainer.load_weights(args.weights, args.clear, args.cutoff)
    if check and args.on_bad_image == "error" and not args.no_check:
        check()
    with StopSignals() as stop, _running():
        result = trainer.run(args.stop_at, stop)
    if args.verbose:
        common.show_notes(graph_lines(net))
    _report(args, kind, result, words)
    return 128 + stop.number if stop.number is not None and not result.finished else 0


@contextlib.contextmanager
def _running():
    """What goes wrong from here on is a failure, not a wrong input."""
    try:
        yield
    except (DarknetError, OSError) as error:
        error.while_running = True
        raise


def _report(args, kind, result, words):
    if args.json:
        common.print_json(
            {
                "iteration": result.iteration,
                "max_batches": result.max_batches,
                "finished": result.finished,
                "epoch": result.epoch,
                "loss": result.loss,
                "average": result.average,
                "seconds": result.seconds,
                f"{kind.record.unit}_per_second": result.images_per_second,
                **kind.report(result),
                "files": result.files,
                "skipped": list(result.skipped.values()),
            }
        )
        return
    for line in _lines(args, kind, result, words):
        print(line)


def _lines(args, kind, result, words):
    for reason in list(result.skipped.values())[:10]:
        yield f"skipped: {reason}"
    if len(result.skipped) > 10:
        yield f"skipped: {len(result.skipped)} images in all"
    done = "finished" if result.finished else "stopped"
    yield (
        f"{done}: {result.iteration} of {result.max_batches} updates, {result.epoch:.2f} epochs; in this run "
        f"{result.seconds:.1f} s of training, {result.images_per_second:.0f} {kind.record.unit}/s"
    )
    if result.accuracy:
        yield f"validation: {result.accuracy.text()}"
    if result.best is not None:
        yield f"best: {kind.best_text(result.best)} at iteration {result.best_iteration}"
    yield f"files: {' '.join(result.files)}"
    checkpoint = next((path for path in result.files if path.endswith(".checkpoint")), None)
    if not result.finished and checkpoint:
        names = [*([args.data] if hasattr(args, "data") else []), args.cfg, checkpoint]
        yield f"to go on: darknetpy {kind.command} {shlex.join([*names, *words, *_kept_options(args)])}"


def _kept_options(args):
    """The options given that make the training what it is."""
    for name in ("max_batches", "backup", "dialect", "batchnorm", "valid_every", "top"):
        if getattr(args, name, None) is not None:
            yield from (f"--{name.replace('_', '-')}", str(getattr(args, name)))
    if args.lenient:
        yield "--lenient"
    if args.device != "cpu":
        yield from ("--device", args.device)
    if args.no_graph:
        yield "--no-graph"
    if getattr(args, "on_bad_image", "error") != "error":
        yield from ("--on-bad-image", args.on_bad_image)
