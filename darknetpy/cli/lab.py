"""``darknetpy lab NAME``: experiments on batch normalization and its neighbours."""

from __future__ import annotations

import sys

from darknetpy.cli import common
from darknetpy.cli.parser import positive
from darknetpy.lab import experiments
from darknetpy.progress import make_progress

_DESCRIPTION = """\
Experiments on real images: each trains small networks that differ in one thing, and writes NAME.csv (all that
was measured) and NAME.png (a chart). docs/lab.md explains what one sees."""
_EPILOG = """examples:
  darknetpy lab list
  darknetpy lab batchnorm
  darknetpy lab learning-rate --full --seeds 3 --out results"""


def add_parser(subparsers):
    """Add the command to the command line's parser and return its own parser."""
    parser = subparsers.add_parser(
        "lab", help="experiments on batch normalization", description=_DESCRIPTION, epilog=_EPILOG
    )
    names = parser.add_subparsers(dest="experiment", metavar="NAME", required=True)
    listing = names.add_parser(
        "list",
        help="what experiments there are",
        description="List the experiments and their sources.",
        epilog="example: darknetpy lab list",
    )
    listing.set_defaults(run=run_list)
    for experiment in experiments().values():
        _add_experiment(names, experiment)
    return parser


def _add_experiment(names, experiment):
    parser = names.add_parser(
        experiment.name,
        help=experiment.title,
        description=f"{experiment.title}\n\n{experiment.question}\n\nSource: {experiment.source}.",
        epilog=f"example: darknetpy lab {experiment.name} --seeds 2 --out results",
    )
    add = parser.add_argument
    add(
        "--full",
        action="store_true",
        help="all 60,000 + 10,000 images of Fashion-MNIST (default: 7,000 + 1,000, which are embedded)",
    )
    add(
        "--iterations",
        type=positive,
        metavar="N",
        default=experiment.iterations,
        help=f"updates of each training (default {experiment.iterations:,})",
    )
    add(
        "--seeds",
        type=positive,
        metavar="N",
        default=experiment.seeds,
        help=f"repetitions with other random numbers (default {experiment.seeds})",
    )
    add("--out", metavar="FOLDER", default="lab", help="where the .csv and the .png go (default: lab)")
    add(
        "--threads",
        type=positive,
        metavar="N",
        help="threads of the kernels (default: every CPU); changes no result but times",
    )
    add("--json", action="store_true", help="print the results as JSON, nothing else on standard output")
    parser.set_defaults(run=run)


def run_list(args):
    """Print the experiments; returns the exit status."""
    for name, experiment in experiments().items():
        print(f"{name:16} {experiment.title}\n{'':16} {experiment.source}")
    return 0


def run(args):
    """Run an experiment; returns the exit status."""
    from darknetpy.data import ensure_backup
    from darknetpy.lab.runner import run_experiment
    from darknetpy.lab.table import text_table
    from darknetpy.lab.training import Data

    common.use_threads(args)
    experiment = experiments()[args.experiment]
    ensure_backup(args.out, "--out")
    progress = make_progress(sys.stderr if args.json else sys.stdout)
    progress.note(f"{experiment.title}\n{experiment.source}\n")
    rows, files = run_experiment(
        experiment, Data.load(args.full), args.out, progress, iterations=args.iterations, seeds=args.seeds
    )
    results = experiment.summarize(rows)
    if args.json:
        common.print_json(
            {
                "experiment": experiment.name,
                "source": experiment.source,
                "full": args.full,
                "iterations": args.iterations,
                "seeds": args.seeds,
                "results": _without_nan(results),
                "files": files,
            }
        )
        return 0
    print(f"\n{text_table(results)}\nfiles: {' '.join(files)}")
    return 0


def _without_nan(rows):
    """JSON has no NaN: what a diverged network lacks is null."""
    return [{key: None if value != value else value for key, value in row.items()} for row in rows]
