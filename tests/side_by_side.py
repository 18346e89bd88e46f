"""A folder of .cfg files side by side with Debian's Darknet: seeded random weights, written by us, read by both.

    python tests/side_by_side.py /usr/share/darknet/cfg --side 64
    python tests/side_by_side.py my_cfgs other.cfg --rows 2 --json

One line per file: whether every output of every layer agrees to 1e-4 of the layer's largest value, the largest
difference and its layer.  Exit status 1 where a network differs or ends Darknet's process.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import sys
import tempfile

import numpy as np

if __name__ == "__main__":
    sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from cfg_runs import Result, find_files, tell, timed
from darknet_peer import CFGS, MISSING, DarknetPeer

from darknetpy.builder import build_network
from darknetpy.cfg import parse_cfg_text
from darknetpy.sections import resolve

TOLERANCE = 1e-4
FIXED_SIDE = ("connected", "local", "detection", "crop")  # these have weights or sizes for one input size only
RECURRENT = ("rnn", "gru", "lstm", "crnn", "conv_lstm")
RANGES = {
    "biases": (-0.3, 0.3),
    "scales": (0.5, 1.5),
    "rolling_mean": (-0.3, 0.3),
    "rolling_variance": (0.5, 1.5),
}


def compare(cfg, peer, side=0, rows=1, seed=5, tolerance=TOLERANCE):
    """Run one .cfg in both programs.

    Parameters
    ----------
    cfg : str
    peer : DarknetPeer
    side : int
        Width and height to run at where the layers allow another size; 0: the file's own.
    rows : int
        Random input rows; of a recurrent network the steps of one sequence.
    seed : int
        Of weights and input.
    tolerance : float
        Of a layer's largest value.

    Returns
    -------
    Result
    """
    with tempfile.TemporaryDirectory() as folder:
        return timed(_compare, cfg, peer, folder, side, rows, seed, tolerance)


def _compare(cfg, peer, folder, side, rows, seed, tolerance):
    text = read(cfg)
    kinds = {section.name for section in parse_cfg_text(text, cfg)}
    side = 0 if kinds & set(FIXED_SIDE) else side
    steps = rows if kinds & set(RECURRENT) else 1
    plan = resolve(
        parse_cfg_text(adapted(text, side, steps), cfg), dialect="pjreddie", batchnorm="darknet", lenient=True
    )
    net = build_network(plan, batch=rows)
    rng = np.random.default_rng(seed)
    fill(net, rng)
    theirs, weights = (os.path.join(folder, name) for name in ("theirs.cfg", "random.weights"))
    with open(theirs, "w", encoding="utf-8", errors="surrogateescape") as file:
        file.write(adapted(text, side))
    net.save_weights(weights)
    x = rng.uniform(0, 1, (rows, net.inputs)).astype(np.float32)
    net.forward(x, train=False)
    return judge(cfg, net, peer.outputs(theirs, weights, x), tolerance)


def judge(cfg, net, theirs, tolerance):
    """Compare every layer's output of a network that has run forward with the peer's."""
    if len(theirs) != len(net.layers):
        return Result(cfg, "differs", f"{len(net.layers)} layers here, {len(theirs)} there")
    worst = Result(cfg, "agrees", layers=len(net.layers), layer="no layer")
    for layer, other in zip(net.layers, theirs):
        name = f"layer {layer.index} [{layer.type}]"
        if layer.outputs != other.shape[1]:
            return Result(cfg, "differs", f"{name}: {layer.outputs} outputs here, {other.shape[1]} there")
        difference = float(np.abs(layer.output.reshape(other.shape) - other).max())
        scale = float(np.abs(other).max())
        share = difference / scale if difference and scale else difference
        if not share <= worst.difference:
            worst.difference, worst.layer = share, name
    if not worst.difference <= tolerance:
        worst.status = "differs"
    elif np.ptp(net._output_layer().output) == 0:
        worst.status, worst.detail = "differs", "the output is constant, so that agreement means nothing"
    return worst


def read(cfg):
    """Return a file's text, whatever its encoding."""
    with open(cfg, encoding="utf-8", errors="surrogateescape") as file:
        return file.read()


def adapted(text, side=0, time_steps=1):
    """Return a .cfg's text for a batch of one sequence, and for another side where one is wanted."""
    values = {"batch": 1, "subdivisions": 1, "time_steps": time_steps}
    if side:
        values.update(width=side, height=side)
    for key, value in values.items():
        text = re.sub(rf"(?m)^{key}\s*=.*$", f"{key}={value}", text)
    if time_steps > 1 and not re.search(r"(?m)^time_steps\s*=", text):
        text = re.sub(r"(?m)^(\[net(?:work)?\].*)$", rf"\1\ntime_steps={time_steps}", text, count=1)
    return text


def fill(net, rng):
    """Seeded values of the size that trained networks have."""
    for layer in net.layers:
        for name, array in layer.arrays("parameter", "statistic").items():
            kind = name.rpartition(".")[2]
            known = next((values for key, values in RANGES.items() if kind.endswith(key)), None)
            if known:
                array[:] = rng.uniform(*known, array.shape)
            elif kind.endswith("weights"):
                array[:] = rng.standard_normal(array.shape) * np.sqrt(2 / max(array[0].size, 1))


@contextlib.contextmanager
def renewed_peers():
    """Yield a function that returns a peer: the same until it has ended, then a new one."""
    peers = []

    def peer():
        if not peers or not peers[-1].alive():
            peers.append(DarknetPeer())
        return peers[-1]

    try:
        yield peer
    finally:
        for each in peers:
            each.close()


def main(argv=None):
    """Run the command; returns the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__.partition("\n")[0], epilog="example: python tests/side_by_side.py my_cfgs --side 96"
    )
    parser.add_argument("paths", nargs="*", default=[CFGS], metavar="PATH", help=".cfg files and folders of them")
    parser.add_argument("--side", type=int, default=0, help="width and height where the layers allow another")
    parser.add_argument("--rows", type=int, default=1, help="input rows (steps of a recurrent network)")
    parser.add_argument("--seed", type=int, default=5)
    parser.add_argument("--json", action="store_true", help="print one JSON list")
    args = parser.parse_args(argv)
    if MISSING:
        parser.error("Debian's package darknet is not installed")
    with renewed_peers() as peer:
        cfgs = find_files(args.paths, ".cfg")
        return tell((compare(cfg, peer(), args.side, args.rows, args.seed) for cfg in cfgs), args.json)


if __name__ == "__main__":
    sys.exit(main())
