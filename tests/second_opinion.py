"""A folder of .cfg files beside interpreter.py, a second implementation of AlexeyAB's dialect, with seeded random weights.

    python tests/second_opinion.py my_cfgs other.cfg --side 64 --rows 2

One line per file, as side_by_side.py prints them: whether every output of every layer agrees to 1e-4 of the layer's largest
value, the largest difference and its layer.  In deep networks with random weights that may be rounding: --double tells.  Exit
status 1 where a network differs.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile

import numpy as np

if __name__ == "__main__":
    sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from cfg_runs import find_files, tell, timed
from interpreter import Interpreter
from side_by_side import FIXED_SIDE, RECURRENT, TOLERANCE, adapted, fill, judge, read

from darknetpy.builder import build_network
from darknetpy.cfg import parse_cfg_text
from darknetpy.core import core, double_core
from darknetpy.sections import resolve


def compare(cfg, side=0, rows=2, seed=5, double=False):
    """Run one .cfg here and in the interpreter.

    Parameters
    ----------
    cfg : str
    side : int
        Width and height to run at where the layers allow another size; 0: the file's own.
    rows : int
        Random input rows; of a recurrent network the steps of two sequences.
    seed : int
        Of weights and input.
    double : bool
        Run the core in double precision, which leaves no room for rounding: then 1e-9 is the limit.

    Returns
    -------
    cfg_runs.Result
    """
    return timed(_compare, cfg, side, rows, seed, double)


def _compare(cfg, side, rows, seed, double):
    text = read(cfg)
    kinds = {section.name for section in parse_cfg_text(text, cfg)}
    recurrent = bool(kinds & {*RECURRENT, "history"})
    text = adapted(text, 0 if kinds & set(FIXED_SIDE) else side, rows if recurrent else 1)
    plan, rows = resolve(parse_cfg_text(text, cfg), dialect="alexeyab"), rows * (2 if recurrent else 1)
    net = build_network(plan, batch=rows, core=double_core() if double else core)
    rng = np.random.default_rng(seed)
    fill(net, rng)
    x = rng.uniform(0, 1, (rows, net.inputs)).astype(np.float32)
    with tempfile.TemporaryDirectory() as folder:
        weights = os.path.join(folder, "random.weights")
        net.save_weights(weights)
        net.load_weights(weights)  # as rounded in the file
        net.forward(x.astype(net._core.dtype), train=False)
        other = Interpreter(text, weights, x, (".", os.path.dirname(cfg), os.path.dirname(os.path.dirname(cfg))))
    return judge(cfg, net, [output.reshape(len(x), -1) for output in other.outputs], 1e-9 if double else TOLERANCE)


def main(argv=None):
    """Run the command; returns the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__.partition("\n")[0], epilog="example: python tests/second_opinion.py my_cfgs --side 96"
    )
    parser.add_argument("paths", nargs="+", metavar="PATH", help=".cfg files and folders of them")
    parser.add_argument("--side", type=int, default=0, help="width and height where the layers allow another")
    parser.add_argument("--rows", type=int, default=2, help="input rows (steps of a recurrent network)")
    parser.add_argument("--seed", type=int, default=5)
    parser.add_argument("--double", action="store_true", help="the core in double precision: agreement to 1e-9")
    parser.add_argument("--json", action="store_true", help="print one JSON list")
    args = parser.parse_args(argv)
    cfgs = find_files(args.paths, ".cfg")
    return tell((compare(cfg, args.side, args.rows, args.seed, args.double) for cfg in cfgs), args.json)


if __name__ == "__main__":
    sys.exit(main())
