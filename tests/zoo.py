"""Recordings of whole networks replayed: the table of layers, sampled outputs, their statistics, and boxes.

    python tests/zoo.py tests/golden/zoo --cfgs /usr/share/darknet/cfg
    python tests/zoo.py recordings/ab --cfgs AlexeyAB/cfg --json

A recording is NAME.json, the table that Darknet made of NAME.cfg, and NAME.npz, what an inference gave with
seeded weights and input.  The weights are drawn again here, and their SHA-256 compared.  A table without a seed
is compared alone.  One line per network, with the largest difference of a sampled output in standard deviations
of its layer; exit status 1 unless all agree.
"""

from __future__ import annotations

import argparse
import glob
import hashlib
import json
import os
import struct
import sys
import tempfile

import numpy as np

if __name__ == "__main__":
    sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from cfg_runs import Result, tell, timed

from darknetpy.builder import build_network
from darknetpy.cfg import Option, parse_cfg
from darknetpy.detection import BOX, decode
from darknetpy.errors import DataError
from darknetpy.sections import resolve
from darknetpy.weights import HEADER_BYTES, expected_bytes

DIALECTS = {"pj": "pjreddie", "ab": "alexeyab"}
SAMPLE, STATISTIC = 1e-3, 1e-4  # of a layer's standard deviation: random weights make rounding grow with depth
BOX_LIMIT, THRESH = 1e-3, 0.6  # of a coordinate or probability; the objectness from which boxes were recorded


# ---- the start values of a recording
def draw(rng, kind, count, fan_in, gain):
    """Return one array of a .weights file, float32, from the generator that all of a file share."""
    if kind == "weights":
        return rng.standard_normal(count, np.float32) * np.float32(np.sqrt(2 / fan_in) * gain)
    if kind in ("scales", "rolling_variance"):
        low, width = (0.8, 0.4) if kind == "scales" else (0.5, 1)
        return np.float32(low) + np.float32(width) * rng.random(count, np.float32)
    mean, deviation = {"shortcut_weights": (1, 0.1), "implicit_weights": (1, 0.02)}.get(kind, (0, 0.05))
    return np.float32(mean) + np.float32(deviation) * rng.standard_normal(count, np.float32)


def write_weights(table, path):
    """Write the .weights file of a table; refuse it unless it is the one that was recorded."""
    rng, digest = np.random.default_rng(table["seed"]), hashlib.sha256()
    with open(path, "wb") as file:
        chunks = (draw(rng, *row[:4]).astype("<f4").tobytes() for row in table["weights_order"])
        for chunk in (struct.pack("<iiiQ", *table["weights_version"], 0), *chunks):
            digest.update(chunk)
            file.write(chunk)
    if digest.hexdigest() != table["weights_sha256"]:
        raise DataError(
            f"{table['cfg']}: the weights that were drawn are not those of the recording (SHA-256)"
        )


def draw_input(table):
    """Return the input, uniform in [0, 1): (batch, inputs)."""
    rows = table["net"]["batch"], table["net"]["inputs"]
    return np.random.default_rng(table["input_seed"]).random(rows, np.float32)


# ---- one network
def compare(table, cfgs, dialect=None):
    """Replay one recording.

    Parameters
    ----------
    table : str
        The .json file; the .npz file is beside it.
    cfgs : str
        Folder of the .cfg files.
    dialect : str, optional
        None: the one of the table's fork.

    Returns
    -------
    Result
    """
    return timed(_compare, table, cfgs, dialect)


def _compare(path, cfgs, dialect):
    with open(path) as file:
        table = json.load(file)
    net = build(table, find_cfg(table, cfgs), dialect or DIALECTS[table["fork"]])
    wrong = table_difference(net, table)
    if wrong or "seed" not in table:
        return Result(
            path, "differs" if wrong else "agrees", wrong or f"{len(net.layers)} layers, the table alone"
        )
    with tempfile.TemporaryDirectory() as folder:
        weights = os.path.join(folder, "seeded.weights")
        write_weights(table, weights)
        net.load_weights(weights)
    if any(layer.type == "convolutional" and layer.option("xnor") for layer in net.layers):
        net.fuse()  # as AlexeyAB's detector runs such networks, and as they were recorded
    net.forward(draw_input(table), train=False)
    with np.load(f"{path[:-5]}.npz") as file:
        return judge(path, net, table, dict(file))


def find_cfg(table, cfgs):
    """Return the path of the table's .cfg in the folder or below it."""
    name = os.path.basename(table["cfg"])
    likely = [table.get("source", "").rpartition("/cfg/")[2], table["cfg"]]  # two folders may have one name
    found = [os.path.join(cfgs, path) for path in likely]
    found += sorted(glob.glob(os.path.join(cfgs, "**", name), recursive=True))
    cfg = next(filter(os.path.isfile, found), None)
    if cfg is None:
        raise DataError(f"{name} is not in {cfgs}")
    return cfg


def build(table, cfg, dialect):
    """Return the network of a .cfg with the changes that it was recorded with."""
    sections = parse_cfg(cfg)
    values = {
        key: after for key, _, after in (change.replace("->", " ").split() for change in table["changes"])
    }
    values.update(batch=1, subdivisions=1, time_steps=table["net"]["time_steps"])
    for key, value in values.items():
        sections[0].options[key] = Option(key, str(value), sections[0].line)
    plan = resolve(sections, dialect=dialect, batchnorm="darknet", lenient=True)
    return build_network(plan, batch=table["net"]["batch"])


def table_difference(net, table):
    """Return the first difference between the network and the table of its layers, "" without one."""
    if len(net.layers) != len(table["layers"]):
        return f"{len(net.layers)} layers here, {len(table['layers'])} there"
    for layer, row in zip(net.layers, table["layers"]):
        for what, ours, theirs in _facts(net, layer, row):
            if ours != theirs:
                return f"layer {layer.index} [{layer.type}]: {what} {ours} here, {theirs} there"
    return ""


def _facts(net, layer, row):
    """Yield (what, ours, theirs) of a layer: type, shape, parameters and statistics in a file, operations."""
    yield "type", layer.type.lower(), row["type"].lower()
    yield "outputs", layer.outputs, row["outputs"]
    if row["out_h"] and layer.out_h:  # Darknet gives plain values 1 x 1 maps, and some layers no shape
        yield "shape", (layer.out_c, layer.out_h, layer.out_w), (row["out_c"], row["out_h"], row["out_w"])
    values = (expected_bytes(net, layer.index + 1, start=layer.index) - HEADER_BYTES) // 4
    yield "parameters", values, row["parameters"]
    if row["bflops"]:  # Darknet counts nothing for connected layers, among others
        bits = 32 if layer.type == "convolutional" and layer.option("xnor") else 1  # that it works on at once
        near = abs(layer.flops / 1e9 / bits - row["bflops"]) <= 1e-6 + 1e-6 * row["bflops"]
        yield "BFLOPs", row["bflops"] if near else layer.flops / 1e9 / bits, row["bflops"]


# ---- what it computed
def judge(path, net, table, recorded):
    """Compare a network that has run forward with the arrays that were recorded."""
    rows = {int(row[0]): row for row in recorded["stats"]}
    worst, left_out = Result(path, "agrees", layers=len(net.layers), layer="no layer"), []
    for index, row in rows.items():
        layer, samples = net.layers[index], recorded[f"L{index:03}"]
        name = f"layer {index} [{layer.type}]"
        if not np.isfinite(samples).all():
            left_out.append(name)
            continue
        ours = layer.output.ravel()
        difference = float(np.abs(ours[:: int(row[7])][: len(samples)] - samples).max() / scale_of(row))
        if not difference <= worst.difference:
            worst.difference, worst.layer = difference, name
        worst.detail = worst.detail or statistic_difference(name, ours, row)
    worst.detail = worst.detail or boxes_difference(net, table, recorded)
    if worst.detail or not worst.difference <= SAMPLE or len(left_out) == len(rows):
        worst.status = "differs"
    if left_out and not worst.detail:
        worst.detail = f"left out, since Darknet's is not a number: {', '.join(left_out)}"
    return worst


def scale_of(row):
    """What a layer's differences are measured by: its standard deviation, or its mean where that is 0."""
    return row[2] or abs(row[1]) or 1.0


def statistic_difference(name, values, row):
    """Return the first statistic of a layer's whole output that is not the recorded one, "" without one."""
    values = values.astype(float)
    scale = scale_of(row)
    for what, ours, theirs, allowed in (
        ("mean", values.mean(), row[1], STATISTIC * scale),
        ("standard deviation", values.std(), row[2], STATISTIC * scale),
        ("norm", np.sqrt((values**2).sum()), row[3], STATISTIC * row[3]),
        ("minimum", values.min(), row[4], SAMPLE * scale),
        ("maximum", values.max(), row[5], SAMPLE * scale),
        ("size", values.size, row[6], 0),
    ):
        if not abs(ours - theirs) <= allowed:
            return f"{name}: {what} {ours:g} here, {theirs:g} there"
    return ""


def boxes_difference(net, table, recorded):
    """Compare the number of boxes, and the first ones; what is close to the threshold may be on either side."""
    if "boxes" not in recorded:
        return ""
    rows = decode(net, 0, THRESH - BOX_LIMIT)
    least, most = int((rows[:, BOX - 1] > THRESH + BOX_LIMIT).sum()), len(rows)
    if not least <= table[f"boxes_above_{THRESH}"] <= most:
        return f"{most} boxes here, {table[f'boxes_above_{THRESH}']} there"
    for number, theirs in enumerate(recorded["boxes"]):
        differences = np.abs(rows - theirs) / np.maximum(np.abs(theirs), 1)  # random weights make large boxes
        nearest = differences[:, :BOX].max(axis=1).argmin()
        ours, wrong = rows[nearest], differences[nearest] > BOX_LIMIT
        wrong[BOX:] &= np.maximum(ours, theirs)[BOX:] > THRESH + BOX_LIMIT
        if wrong.any():
            place = wrong.argmax()
            return f"box {number}: value {place} is {ours[place]:g} here, {theirs[place]:g} there"
    return ""


def find_tables(folder):
    """Return the tables in a folder and below it."""
    return sorted(glob.glob(os.path.join(folder, "**", "*.json"), recursive=True))


def main(argv=None):
    """Run the command; returns the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__.partition("\n")[0],
        epilog="example: python tests/zoo.py tests/golden/zoo --cfgs /usr/share/darknet/cfg",
    )
    parser.add_argument("folder", metavar="FOLDER", help="recordings: .json files, each with its .npz file")
    parser.add_argument("--cfgs", required=True, metavar="DIR", help="where the .cfg files are")
    parser.add_argument(
        "--dialect", choices=sorted({*DIALECTS.values(), "hankai"}), help="default: the fork's of each table"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON list")
    args = parser.parse_args(argv)
    tables = find_tables(args.folder)
    if not tables:
        parser.error(f"no .json file in {args.folder}")
    return tell(
        (compare(table, args.cfgs, args.dialect) for table in tables),
        args.json,
        ("differs", "refused", "crashed"),
    )


if __name__ == "__main__":
    sys.exit(main())
