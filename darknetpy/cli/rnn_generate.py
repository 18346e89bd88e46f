"""``darknetpy rnn generate CFG WEIGHTS [-seed TEXT]``."""

from __future__ import annotations

import os
import secrets
import sys

from darknetpy.cli import common
from darknetpy.cli.parser import not_negative
from darknetpy.text import generate, require_text

_DESCRIPTION = "Print a seed and how a network goes on with it, character by character."
_EXAMPLE = """examples:
  darknetpy rnn generate text.cfg backup/text_best.weights -seed "Sherlock Holmes " -temp .6
  darknetpy rnn generate text.cfg backup/text_best.weights -len 300 --random-seed 1"""


def add_parser(subparsers):
    """Add the command to the parser of ``rnn`` and return its own parser."""
    parser = subparsers.add_parser(
        "generate", help="let a network write", description=_DESCRIPTION, epilog=_EXAMPLE
    )
    parser.add_argument("cfg", metavar="CFG", help=common.CFG_HELP)
    parser.add_argument("weights", metavar="WEIGHTS", help=".weights file or checkpoint")
    parser.add_argument(
        "-seed", "--seed", metavar="TEXT", default="\n\n", help="what it reads first (default: two line ends)"
    )
    parser.add_argument(
        "-len",
        "--length",
        type=not_negative,
        metavar="N",
        dest="length",
        default=1000,
        help="characters to write (default 1000)",
    )
    parser.add_argument(
        "-temp",
        "--temperature",
        type=float,
        metavar="T",
        dest="temperature",
        default=.7,
        help="above 0: the lower, the more often the likeliest character comes (default .7)",
    )
    parser.add_argument(
        "-srand",
        "--random-seed",
        type=not_negative,
        metavar="N",
        dest="random_seed",
        help="the same N gives the same text (default: another one each time, printed on standard error)",
    )
    common.add_run_options(parser, images=False)
    common.add_network_options(parser)
    parser.set_defaults(run=run)
    return parser


def run(args):
    """Run the command; returns the exit status."""
    common.use_threads(args)
    net = common.load_for_inference(args, batch=1, time_steps=1)
    require_text(net)
    number = secrets.randbits(32) if args.random_seed is None else args.random_seed
    seed = os.fsencode(args.seed)
    characters = generate(net, seed, args.length, args.temperature, number)
    if args.json:
        text = (seed + bytes(characters)).decode("utf-8", "replace")
        common.print_json({"text": text, "random_seed": number})
        return 0
    if args.random_seed is None:
        common.show_notes([f"--random-seed {number} writes this text again"])
    _print(seed, characters)
    return 0


def _print(seed, characters):
    """Bytes as they come: on a terminal each at once."""
    out, live = sys.stdout.buffer, sys.stdout.isatty()
    out.write(seed)
    for character in characters:
        out.write(bytes([character]))
        if live:
            out.flush()
    out.write(b"\n")
    out.flush()
