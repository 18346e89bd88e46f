"""``darknetpy classifier train DATA CFG [WEIGHTS]``."""
from __future__ import annotations

import contextlib
import os
import sys

from darknetpy.builder import build_network
from darknetpy.checkpoint import is_checkpoint
from darknetpy.cli import common
from darknetpy.cli.parser import not_negative, positive
from darknetpy.data import ListDataset, check_data, open_data
from darknetpy.errors import ArgumentError, DarknetError
from darknetpy.progress import make_progress
from darknetpy.signals import StopSignals
from darknetpy.training import Trainer, TrainingOptions

_DESCRIPTION = """Train a classifier. NAME being the name of CFG up to its first dot, the backup folder gets

  NAME.csv, NAME.png          loss, accuracy on the validation images, learning rate
  NAME_best.weights           the weights of the best validation
  NAME_last.weights           the newest weights, also as NAME.backup, Darknet's name
  NAME_final.weights          the weights after max_batches updates
  NAME.checkpoint             all that training needs to go on later, bit for bit

Ctrl-C and SIGTERM finish the step, save, and leave with status 130 or 143; a second one stops at once."""
_EXAMPLE = """examples:
  darknetpy classifier train fashion-mnist: fashion-mnist.cfg
  darknetpy classifier train mine.data mine.cfg darknet19_448.conv.23 --cutoff 23 -clear
  darknetpy classifier train mine.data mine.cfg backup/mine.checkpoint"""


def add_parser(subparsers):
    """Add the command to the parser of ``classifier`` and return its own parser."""
    parser = subparsers.add_parser("train", help="train a network on labelled images", description=_DESCRIPTION, epilog=_EXAMPLE)
    parser.add_argument("data", metavar="DATA", help=common.DATA_HELP)
    parser.add_argument("cfg", metavar="CFG", help=common.CFG_HELP)
    parser.add_argument("weights", metavar="WEIGHTS", nargs="?",
                        help=".weights file to start from, or a checkpoint to go on from (default: random weights)")
    parser.add_argument("-clear", "--clear", action="store_true", help="count images and updates from 0, whatever WEIGHTS says")
    parser.add_argument("--cutoff", type=positive, metavar="N", help="WEIGHTS holds the first N layers only")
    parser.add_argument("-t", "-top", "--top", type=positive, metavar="N", dest="top",
                        help="how many best classes count as a hit (default: top= of DATA, else 5)")
    parser.add_argument("--seed", type=not_negative, metavar="N", help="seed of weights, order, augmentation (default: [net] seed=)")
    parser.add_argument("--max-batches", type=positive, metavar="N", help="updates to make (default: [net] max_batches=)")
    parser.add_argument("--stop-at", type=positive, metavar="N", help="stop after this update, to go on later from the checkpoint")
    parser.add_argument("--valid-every", type=positive, metavar="N", help="updates between validations (default: one epoch)")
    parser.add_argument("--save-every", type=positive, metavar="N", default=1000,
                        help="updates between savings, besides those at each validation (default 1000)")
    parser.add_argument("--log-every", type=positive, metavar="N", help="updates per row of the .csv (default: each, 10,000 rows at most)")
    parser.add_argument("--backup", metavar="FOLDER", help="folder for all files (default: backup= of DATA, else ./backup)")
    parser.add_argument("--no-plot", action="store_true", help="draw no chart")
    parser.add_argument("--no-check", action="store_true", help="do not look at every image of a list first")
    parser.add_argument("-topk", "-dont_show", "-nogpu", action="store_true", dest="ignored",
                        help="accepted as Darknet's: top-k is always measured, no window opened, no GPU used")
    common.add_run_options(parser)
    common.add_network_options(parser)
    parser.set_defaults(run=run)
    return parser


def run(args):
    """Run the command; returns the exit status."""
    common.use_threads(args)
    resuming = args.weights is not None and is_checkpoint(args.weights)
    if resuming and (args.clear or args.cutoff):
        raise ArgumentError(f"{args.weights} is a checkpoint: training goes on from it; -clear and --cutoff are for .weights files")
    net = _build(args, resuming)
    source = open_data(args.data)
    common.show_notes([*net.notes, *source.notes])
    trainer = _make_trainer(args, net, source)
    if resuming:
        trainer.resume(args.weights)
    elif args.weights:
        trainer.load_weights(args.weights, args.clear, args.cutoff)
    _check_images(args, source)
    with StopSignals() as stop, _running():
        result = trainer.run(args.stop_at, stop)
    _report(args, result)
    return 128 + stop.number if stop.number is not None and not result.finished else 0


def _build(args, resuming):
    seed = common.checkpoint_seed(args.weights) if resuming and args.seed is None else args.seed
    plan = common.read_plan(args, None if resuming else args.weights, seed=seed, max_batches=args.max_batches)
    return build_network(plan, train=True)


def _make_trainer(args, net, source):
    options = TrainingOptions(
        folder=args.backup, name=os.path.basename(args.cfg).split(".")[0] or "network", workers=args.workers,
        on_bad_image=args.on_bad_image, valid_every=args.valid_every, log_every=args.log_every, save_every=args.save_every,
        top=args.top, plot=not args.no_plot)
    return Trainer(net, source, options, make_progress(sys.stderr if args.json else sys.stdout))


def _check_images(args, source):
    """Every image of a list is looked at before training counts on it."""
    lists = any(isinstance(source.dataset(split), ListDataset) for split in source.splits)
    if lists and args.on_bad_image == "error" and not args.no_check:
        check_data(args.data).refuse()


@contextlib.contextmanager
def _running():
    """What goes wrong from here on is a failure, not a wrong input."""
    try:
        yield
    except (DarknetError, OSError) as error:
        error.while_running = True
        raise


def _report(args, result):
    if args.json:
        common.print_json({
            "iteration": result.iteration, "max_batches": result.max_batches, "finished": result.finished, "epoch": result.epoch,
            "loss": result.loss, "average": result.average, "seconds": result.seconds, "images_per_second": result.images_per_second,
            **(result.accuracy.figures() if result.accuracy else {"top1": None, "topk": None, "k": None, "images": None}),
            "best_top1": result.best_top1, "best_iteration": result.best_iteration, "files": result.files,
            "skipped": list(result.skipped.values())})
        return
    for line in _lines(args, result):
        print(line)


def _lines(args, result):
    for reason in list(result.skipped.values())[:10]:
        yield f"skipped: {reason}"
    if len(result.skipped) > 10:
        yield f"skipped: {len(result.skipped)} images in all"
    done = "finished" if result.finished else "stopped"
    yield (f"{done}: {result.iteration} of {result.max_batches} updates, {result.epoch:.2f} epochs; in this run {result.seconds:.1f} s of "
           f"training, {result.images_per_second:.0f} images/s")
    if result.accuracy:
        yield f"validation: {result.accuracy.text()}"
    if result.best_top1 is not None:
        yield f"best: top-1 {100 * result.best_top1:.2f} % at iteration {result.best_iteration}"
    yield f"files: {' '.join(result.files)}"
    checkpoint = next((path for path in result.files if path.endswith(".checkpoint")), None)
    if not result.finished and checkpoint:
        yield f"to go on: darknetpy classifier train {args.data} {args.cfg} {checkpoint}"
