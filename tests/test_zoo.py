"""Recordings of whole networks: those of Debian's .cfgs agree; in one of our own every difference is found."""

from __future__ import annotations

import hashlib
import json
import os
import struct

import numpy as np
import pytest
import zoo
from darknet_peer import CFGS

import darknetpy as dn
from darknetpy.detection import decode
from darknetpy.weights import HEADER_BYTES, expected_bytes

RECORDED = os.path.join(os.path.dirname(os.path.abspath(__file__)), "golden", "zoo")
LARGEST = 120e6  # bytes of weights: beyond, drawing and reading them takes seconds
EVERYTHING = bool(os.environ.get("DARKNETPY_ALL_CFGS"))
# Arrays in which Darknet is wrong, named by the runner as those that it leaves out.
LEFT_OUT = {
    "yolo9000": "layer 24 [region]"
}  # on a CPU pjreddie's class tree divides by a temperature of 0: NaN


@pytest.mark.parametrize("path", zoo.find_tables(RECORDED), ids=lambda path: os.path.basename(path)[:-5])
def test_recorded_networks(path):
    with open(path) as file:
        table = json.load(file)
    if not os.path.exists(os.path.join(CFGS, table["cfg"])):
        pytest.skip(f"needs {CFGS}/{table['cfg']} (Debian package darknet)")
    if 4 * sum(row["parameters"] for row in table["layers"]) > LARGEST and not EVERYTHING:
        pytest.skip("large; DARKNETPY_ALL_CFGS=1 runs it too")
    result = zoo.compare(path, CFGS)
    assert result.status == "agrees", result
    left_out = LEFT_OUT.get(os.path.basename(path)[:-5], "")
    assert left_out in result.detail and ("left out" in result.detail) == bool(left_out), result


# ---- a recording of our own
DETECTOR = """[net]
batch=8
subdivisions=2
width=64
height=32
channels=3

[convolutional]
filters=8
size=3
stride=2
pad=1
batch_normalize=1
activation=leaky

[convolutional]
filters=8
size=3
pad=1
batch_normalize=1
{option}
activation=leaky

[convolutional]
filters=21
size=1
activation=linear

[yolo]
mask=0,1,2
anchors=10,14, 23,27, 37,58
classes=2
num=3
"""


def record(folder, dialect, option=""):
    """Write net.cfg, and net.json with net.npz: a recording of what the network computes at 32 x 32."""
    (folder / "net.cfg").write_text(DETECTOR.format(option=option))
    fork = {value: key for key, value in zoo.DIALECTS.items()}[dialect]
    table = {
        "cfg": "net.cfg",
        "fork": fork,
        "changes": ["batch 8->1", "subdivisions 2->1", "width 64->32"],
        "net": {"batch": 1, "inputs": 32 * 32 * 3, "time_steps": 1},
        "layers": [],
        "weights_order": [],
        "seed": 7,
        "input_seed": 8,
        "weights_version": [0, 2, 5],
    }
    net = zoo.build(table, folder / "net.cfg", dialect)
    for layer in net.layers:
        bits = 32 if option == "xnor=1" and layer.index == 1 else 1
        table["layers"].append(
            {
                "type": layer.type,
                "outputs": layer.outputs,
                "out_c": layer.out_c,
                "out_h": layer.out_h,
                "out_w": layer.out_w,
                "parameters": (expected_bytes(net, layer.index + 1, start=layer.index) - HEADER_BYTES) // 4,
                "bflops": round(layer.flops / 1e9 / bits, 6),
            }
        )
        for name, array in layer.arrays("parameter", "statistic").items():
            table["weights_order"].append([name, array.size, array[0].size, 1.0 + 5 * (layer.index == 2)])
    weights = np.random.default_rng(7)
    body = b"".join(zoo.draw(weights, *row[:4]).tobytes() for row in table["weights_order"])
    table["weights_sha256"] = hashlib.sha256(struct.pack("<iiiQ", 0, 2, 5, 0) + body).hexdigest()
    zoo.write_weights(table, folder / "net.weights")
    net.load_weights(folder / "net.weights")
    net.forward(zoo.draw_input(table), train=False)
    arrays, stats = {}, []
    for layer in net.layers:
        flat = layer.output.ravel()
        arrays[f"L{layer.index:03}"] = flat[::3].copy()
        stats.append(
            [
                layer.index,
                flat.mean(),
                flat.std(),
                np.sqrt((flat**2).sum()),
                flat.min(),
                flat.max(),
                flat.size,
                3,
            ]
        )
    rows = decode(net, 0, zoo.THRESH)
    table["boxes_above_0.6"] = len(rows)
    save(folder, table, dict(arrays, stats=np.array(stats, float), boxes=rows[:5]))
    return table, dict(np.load(folder / "net.npz"))


def save(folder, table, arrays):
    (folder / "net.json").write_text(json.dumps(table))
    np.savez(folder / "net.npz", **arrays)


@pytest.mark.parametrize("dialect, option", [("pjreddie", ""), ("alexeyab", ""), ("alexeyab", "xnor=1")])
def test_a_recording_agrees_with_itself(tmp_path, capsys, dialect, option):
    table, _ = record(tmp_path, dialect, option)
    assert table["boxes_above_0.6"] > 5
    assert zoo.main([str(tmp_path), "--cfgs", str(tmp_path)]) == 0
    line, total = capsys.readouterr().out.splitlines()
    assert line.startswith("agrees   net.json") and "4 layers, largest difference" in line
    assert total == "1 files: 1 agrees, 0 differs, 0 refused, 0 crashed"


def test_files_of_one_name(tmp_path):
    for folder in ("", "old/", "odd/"):
        os.makedirs(tmp_path / folder, exist_ok=True)
        (tmp_path / folder / "a.cfg").touch()
    (tmp_path / "odd" / "b.cfg").touch()
    for table, path in (
        ({"cfg": "a.cfg"}, "a.cfg"),
        ({"cfg": "a.cfg", "source": "fork/cfg/old/a.cfg"}, "old/a.cfg"),
        ({"cfg": "b.cfg", "source": "fork/cfg/b.cfg"}, "odd/b.cfg"),
    ):
        assert zoo.find_cfg(table, str(tmp_path)) == str(tmp_path / path)


def test_a_recording_without_numbers_agrees_with_nothing(tmp_path):
    table, arrays = record(tmp_path, "pjreddie")
    save(tmp_path, table, {key: value * (1 if key == "stats" else np.nan) for key, value in arrays.items()})
    assert zoo.compare(str(tmp_path / "net.json"), str(tmp_path)).status == "differs"


def test_the_dialect_matters(tmp_path):
    record(tmp_path, "alexeyab", "xnor=1")  # outside the image AlexeyAB's bits are -1, pjreddie's values 0
    assert zoo.compare(str(tmp_path / "net.json"), str(tmp_path)).status == "agrees"
    assert zoo.compare(str(tmp_path / "net.json"), str(tmp_path), "pjreddie").status == "differs"


def changed(where, value):
    """Return a function that changes one entry of (table, arrays)."""

    def change(table, arrays):
        *path, last = where
        place = {"table": table, "arrays": arrays}
        for key in path:
            place = place[key]
        place[last] = place[last] + value if not isinstance(value, str) else value

    return change


@pytest.mark.parametrize(
    "change, status, message",
    [
        (
            changed(["table", "layers", 1, "type"], "maxpool"),
            "differs",
            "type convolutional here, maxpool there",
        ),
        (changed(["table", "layers", 1, "outputs"], 1), "differs", "layer 1 [convolutional]: outputs"),
        (
            changed(["table", "layers", 2, "out_w"], 1),
            "differs",
            "layer 2 [convolutional]: shape (21, 16, 16) here, (21, 16, 17) there",
        ),
        (
            changed(["table", "layers", 0, "parameters"], -1),
            "differs",
            "layer 0 [convolutional]: parameters 248 here, 247 there",
        ),
        (changed(["table", "layers", 0, "bflops"], 3e-6), "differs", "layer 0 [convolutional]: BFLOPs"),
        (changed(["arrays", "stats", (1, 1)], 1e-3), "differs", "layer 1 [convolutional]: mean"),
        (changed(["arrays", "stats", (1, 2)], 1e-3), "differs", "standard deviation"),
        (changed(["arrays", "stats", (1, 3)], 1e-1), "differs", "norm"),
        (changed(["arrays", "stats", (1, 4)], 1e-2), "differs", "minimum"),
        (changed(["arrays", "stats", (1, 5)], 1e-2), "differs", "maximum"),
        (changed(["arrays", "stats", (1, 6)], 1), "differs", "size"),
        (changed(["arrays", "L001", 5], 1e-2), "differs", "at layer 1 [convolutional]"),
        (
            changed(["arrays", "L003", 0], np.nan),
            "agrees",
            "left out, since Darknet's is not a number: layer 3 [yolo]",
        ),
        (changed(["table", "boxes_above_0.6"], 9), "differs", "boxes here"),
        (changed(["arrays", "boxes", (3, 2)], 1e-2), "differs", "box 3: value 2 is"),
        (changed(["arrays", "boxes", (3, 4)], -1e-2), "differs", "box 3: value 4 is"),
        (changed(["arrays", "boxes", (0, 5)], 0.9), "differs", "box 0: value 5 is"),
        (changed(["table", "weights_order", 4, 3], 1e-3), "refused", "not those of the recording (SHA-256)"),
        (changed(["table", "cfg"], "other.cfg"), "refused", "other.cfg is not in"),
    ],
)
def test_a_difference_is_found(tmp_path, capsys, change, status, message):
    table, arrays = record(tmp_path, "alexeyab")
    change(table, arrays)
    save(tmp_path, table, arrays)
    result = zoo.compare(str(tmp_path / "net.json"), str(tmp_path))
    assert result.status == status and message in str(result), result
    assert zoo.main([str(tmp_path), "--cfgs", str(tmp_path), "--json"]) == int(status != "agrees")
    assert json.loads(capsys.readouterr().out)[0]["status"] == status


def test_an_output_of_ours_that_differs(tmp_path, monkeypatch):
    record(tmp_path, "pjreddie")
    load = dn.Network.load_weights

    def other_bias(net, path):
        load(net, path)
        net.layers[2].biases[3] += np.float32(2e-2)

    monkeypatch.setattr(dn.Network, "load_weights", other_bias)
    result = zoo.compare(str(tmp_path / "net.json"), str(tmp_path))
    assert result.status == "differs" and result.layer != "no layer", result
