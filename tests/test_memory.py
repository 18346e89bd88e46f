"""Activations that share memory: the plan, what can still be read, and that the numbers of `summary --memory` are true.

That sharing changes no bit of a gradient is checked with every gradient check (gradcheck.py).
"""

from __future__ import annotations

import gc
import json
import os
import subprocess
import sys

import numpy as np
import pytest
from gradcheck import build, randomize
from test_network import BATCH, EVERYTHING, SHAPE

import darknetpy as dn
from darknetpy import memory
from darknetpy.__main__ import main
from darknetpy.core import core
from darknetpy.memory_summary import memory_rows, memory_totals

ANY_SIZE = [layer for layer in EVERYTHING if not layer.startswith("connected")]
WEIGHTED = [  # its sources are read again by nobody else
    "upsample stride=1",
    "upsample stride=1",
    "shortcut from=-2 weights_type=per_feature activation=linear",
    "upsample stride=1",
    "upsample stride=1",
    "connected output=5 activation=linear",
    "softmax",
]
C4 = "convolutional filters=4 size=3 pad=1 activation=relu"
JOINED = {  # how outputs lie within one another at batch 1
    "densely": [C4, C4, "route layers=-1,-2", C4, "route layers=-1,-2", C4, "route layers=-1,-2", C4],
    "parted": [C4, C4, "route layers=-1 groups=2 group_id=1", C4, C4, "route layers=-1,-2", C4, "route layers=-6,-1", C4],
    "twice": [C4, C4, "route layers=-1,-1", C4, "route layers=1,3", C4, "route layers=1,0", C4],
    "alone": [C4, "route layers=-1", C4, "route layers=0", C4, "route layers=1,4", "upsample stride=2", "route layers=-1,-1", C4],
    "pooled": [C4, C4, "maxpool size=2 stride=2", C4, "route layers=-1,-2", C4],
    "unlike": [C4, "convolutional filters=5 size=3 stride=2 pad=1 activation=relu", "route layers=-1,-2", "connected output=4"],
    "ends": [C4, C4, "route layers=-1,-2"],
}
RECURRENT = [
    "connected output=6 activation=leaky",
    "lstm output=5",
    "connected output=5 activation=linear",
    "softmax",
]


def network(layers=EVERYTHING, shape=SHAPE, batch=BATCH, net="learning_rate=.05", train=True, **how):
    return build(layers, shape, batch, net, train, core, **how)


def _pair(layers=EVERYTHING, shape=SHAPE, net="learning_rate=.05", train=True):
    """Return two networks of the same numbers, the second of which shares memory and has NaN all over it."""
    nets = [network(layers, shape, net=net, train=train, keep_activations=keep) for keep in (True, False)]
    for n in nets:
        randomize(n, np.random.default_rng(0))
    _spoil(nets[1])
    return nets


def _spoil(net):
    kept = [(array, array.copy()) for layer in net.layers for array in layer.arrays("state").values()]
    net.predict(np.full((net.batch, net.inputs), np.nan, np.float32))
    for array, values in kept:
        array[...] = values


def _batch(rng, net):
    return rng.standard_normal((net.batch, net.inputs), np.float32), rng.integers(0, net.truths, net.batch)


def _parameters(net):
    return [a.tobytes() for l in net.layers for a in l.arrays("parameter", "statistic", "update").values()]


# ---- the same numbers
@pytest.mark.parametrize("net", ["", "fused=0", "adam=1", "subdivisions=2"])
@pytest.mark.parametrize("layers, shape", [(EVERYTHING, SHAPE), (RECURRENT, (7,)), (WEIGHTED, SHAPE)])
def test_training_is_the_same_bit_for_bit(layers, shape, net, rng):
    if layers is RECURRENT:
        net += " time_steps=2 batch=2"
    pair = _pair(layers, shape, f"learning_rate=.05 {net}")
    x, y = _batch(rng, pair[0])
    for _ in range(4):
        assert pair[0].train_batch(x, y) == pair[1].train_batch(x, y)
        _spoil(pair[1])
    assert _parameters(pair[0]) == _parameters(pair[1])
    np.testing.assert_array_equal(pair[0].predict(x), pair[1].predict(x))


LINKED = {
    "route": ["route layers=-1,-2"],
    "alone": ["route layers=-1"],
    "early": ["route layers=2,3", C4],
    "shortcut": [C4, "shortcut from=2 activation=linear"],
}


@pytest.mark.parametrize("links", LINKED.values(), ids=LINKED)
def test_links_follow_when_a_layer_is_folded(links, rng):
    """The memory is planned by the links as they are once the layer has gone."""
    start = ["convolutional filters=4 size=3 pad=1 activation=linear", "batchnorm", C4, C4]
    layers = [*start, *links, "avgpool", "connected output=5 activation=linear", "softmax"]
    kept, shared = (network(layers, SHAPE, 1, train=False, keep_activations=keep) for keep in (True, False))
    for net in (kept, shared):
        randomize(net, np.random.default_rng(0))
    x = rng.standard_normal((1, kept.inputs), np.float32)
    before = kept.predict(x)
    for net in (kept, shared):
        assert len(net.fuse()) == len(layers) - 1
    np.testing.assert_array_equal(shared.predict(x), kept.predict(x))
    np.testing.assert_allclose(kept.predict(x), before, rtol=1e-5)


@pytest.mark.parametrize("layers, shape", [(EVERYTHING, SHAPE), (EVERYTHING[:-1], SHAPE), (RECURRENT, (7,))])
def test_inference_is_the_same_bit_for_bit(layers, shape, rng):
    kept, shared = _pair(layers, shape, train=False)
    x = rng.standard_normal((BATCH + 1 if layers is not RECURRENT else BATCH, kept.inputs), np.float32)
    np.testing.assert_array_equal(kept.predict(x), shared.predict(x))


def test_a_resized_network_is_planned_anew(rng):
    kept, shared = _pair(ANY_SIZE)
    for side in (20, 8):
        for net in (kept, shared):
            net.resize(side, side)
        _spoil(shared)
        x, y = _batch(rng, kept)
        assert kept.train_batch(x, y) == shared.train_batch(x, y)
    with pytest.raises(dn.DarknetError):
        shared.resize(1, 1)
    assert kept.train_batch(x, y) == shared.train_batch(x, y)


def test_a_network_that_loses_layers_is_planned_anew(rng):
    layers = ["convolutional filters=4 size=3 pad=1 activation=linear", "batchnorm"] * 3
    kept, shared = _pair(layers, train=False)
    x = rng.standard_normal((BATCH, kept.inputs), np.float32)
    gone, wanted = shared.layers[1], kept.fuse().predict(x)
    shared.fuse()
    assert len(shared) == 3
    _spoil(shared)
    np.testing.assert_array_equal(shared.predict(x), wanted)
    assert shared.layers[-1].output.shape == wanted.shape
    with pytest.raises(dn.DarknetError, match="no memory"):
        by_hand = dn.Network()
        by_hand.input = np.zeros(gone.input_shape, np.float32)
        dn.forward_layer(gone, by_hand)


@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("train", [False, True])
@pytest.mark.parametrize("layers", JOINED.values(), ids=JOINED)
def test_outputs_within_others_are_the_same_bit_for_bit(layers, train, batch, rng):
    pooled = [] if layers[-1].startswith("connected") else ["avgpool"]
    layers = [*layers, *pooled, "connected output=5 activation=linear", "softmax"]
    pair = [network(layers, SHAPE, batch, train=train, keep_activations=keep) for keep in (True, False)]
    for net in pair:
        randomize(net, np.random.default_rng(0))
    _spoil(pair[1])
    x, y = _batch(rng, pair[0])
    for _ in range(3 * train):
        assert pair[0].train_batch(x, y) == pair[1].train_batch(x, y)
    assert _parameters(pair[0]) == _parameters(pair[1])
    np.testing.assert_array_equal(pair[0].predict(x), pair[1].predict(x))


# ---- what can be read
def test_what_other_layers_overwrite_cannot_be_read(rng):
    net = network(keep_activations=False)
    net.train_batch(*_batch(rng, net))
    for name in ("output", "delta", "x", "mean"):
        with pytest.raises(AttributeError, match=rf"no '{name}'.*keep_activations=False"):
            getattr(net.layers[0], name)
    with pytest.raises(AttributeError, match="keep_activations"):
        net["batchnorm_7"].x  # noqa: B018
    assert net.layers[0].arrays("activation") == {}
    assert net.layers[0].weights.any() and net.layers[0].weight_updates.any()
    assert net.layers[-1].output.shape == net.layers[-1].delta.shape == (BATCH, 5)


def test_what_a_user_looks_at_can_be_read(rng):
    layers = [
        "connected output=6 activation=relu",
        "lstm output=5",
        "connected output=4 activation=linear",
        "cost",
    ]
    net = network(layers, (7,), keep_activations=False)
    net.forward(rng.standard_normal((BATCH, 7), np.float32), np.zeros((BATCH, 4), np.float32))
    assert [hasattr(layer, "output") for layer in net.layers] == [False, True, True, True]
    assert np.isfinite(net.layers[1].wf.output).all()


def test_shared_layers_stay_as_they_were_made():
    net = network(keep_activations=False)
    for name, value in (("fused", False), ("keep_x_norm", True)):
        with pytest.raises(dn.ArgumentError, match="keep_activations=False"):
            setattr(net.layers[0], name, value)
        assert getattr(net.layers[0], name) is not value
    with pytest.raises(dn.ArgumentError, match="takes no more layers"):
        net.add(dn.make_activation_layer(BATCH, 5, "linear"))
    with pytest.raises(dn.ArgumentError, match="fixed"):
        net.set_option("keep_activations", 1)


def test_shared_memory_is_written_in_the_plans_order_only(rng):
    net = network(keep_activations=False)
    x, y = _batch(rng, net)
    net.forward(x, y, train=True)
    net.backward()
    with pytest.raises(dn.ArgumentError, match=r"layer 15 \[softmax\] has not run forward"):
        net.backward()
    net.forward(x, y, train=True)
    net.backward()
    for run in (dn.forward_layer, dn.backward_layer):
        with pytest.raises(dn.ArgumentError, match=r"\[maxpool\] layer 1 shares memory"):
            run(net.layers[1], net)


def test_layers_outlive_the_memory_that_they_shared():
    net = network(keep_activations=False)
    layers = list(net.layers)
    del net
    gc.collect()
    for layer in layers:  # under AddressSanitizer a use after free
        assert all(np.isfinite(array).all() for array in layer.arrays().values())
    with pytest.raises(dn.ArgumentError, match="shares memory"):
        dn.forward_layer(layers[0], dn.Network())


def test_a_loss_that_is_not_finite_still_names_the_layer(rng):
    net = network(keep_activations=False)
    net.layers[4].weights[0] = np.nan
    before = _parameters(net)
    with pytest.raises(dn.DarknetError, match=r"not finite is layer 4 \[convolutional\]'s; nothing was updated"):
        net.train_batch(*_batch(rng, net))
    once = network(keep_activations=True)
    once.layers[4].weights[0] = np.nan
    assert _parameters(once) == before
    once.forward(*_batch(np.random.default_rng(0), net), train=True)
    count = net["convolutional_0"].statistics_count
    assert count == once["convolutional_0"].statistics_count == 1


# ---- the figures
def test_the_workspace_is_made_for_the_largest_layer(rng):
    """A composed [batchnorm] wants two maps in its backward pass."""
    net = network(["batchnorm", "avgpool", "softmax"], SHAPE, net="fused=0")
    assert memory_totals(net)["workspace"] == 2 * 4 * BATCH * np.prod(SHAPE)
    planned = memory_totals(network(["batchnorm", "avgpool", "softmax"], SHAPE, train=False, net="fused=0"))
    assert planned["workspace"] == 0


@pytest.mark.parametrize("train", [False, True])
@pytest.mark.parametrize("layers, shape", [(EVERYTHING, SHAPE), (RECURRENT, (7,))])
def test_figures_need_no_arrays_and_add_up(layers, shape, train):
    planned, made = (
        network(layers, shape, train=train, keep_activations=False, allocate=allocate)
        for allocate in (False, True)
    )
    assert memory_rows(planned) == memory_rows(made) and memory_totals(planned) == memory_totals(made)
    totals, rows = memory_totals(made), memory_rows(made)
    everything = sum(sum(row[c] for c in ("parameters", "updates", "outputs", "deltas", "work")) for row in rows)
    assert totals["own"] + totals["shared"] == everything
    assert totals["shared"] == sum(row["shared"] for row in rows)
    assert totals["peak"] == totals["own"] + totals["arena"] + totals["workspace"]
    assert totals["peak_kept"] == everything + totals["workspace"]
    kept = network(layers, shape, train=train)
    assert memory_totals(kept)["peak"] == totals["peak_kept"]
    assert layers is RECURRENT or totals["peak"] < totals["peak_kept"]
    arrays = sum(a.nbytes for l in kept.layers for n, a in l.arrays().items() if not (l.type == "batchnorm" and n == "x"))
    lib = core.lib
    rows = [lib.get_layer_array(l._handle, i) for l in kept.layers for i in range(lib.count_layer_arrays(l._handle))]
    hidden = sum(row.bytes for row in rows if row.role == lib.ARRAY_KEPT)  # of these there are no views
    assert arrays + hidden == everything and (hidden > 0) == (not train and layers is EVERYTHING)
    with pytest.raises(dn.DarknetError, match="no memory for its arrays"):
        planned.predict(np.zeros((BATCH, planned.inputs), np.float32))


def test_a_chain_of_layers_takes_turns():
    """Inference of equal layers needs two maps, training without slopes that read them one map and one more delta."""
    layers = ["upsample stride=1"] * 8
    shape, size = (4, 16, 16), BATCH * 4 * 16 * 16 * 4
    assert memory_totals(network(layers, shape, train=False, keep_activations=False))["arena"] == 2 * size
    assert memory_totals(network(layers, shape, train=True, keep_activations=False))["arena"] == 2 * size
    layers = ["convolutional filters=4 size=3 pad=1 activation=relu"] * 8
    arena = memory_totals(network(layers, shape, train=True, keep_activations=False))["arena"]
    assert 9 * size <= arena < 9.5 * size  # seven outputs, which backward passes read, and two deltas


def test_routes_take_no_place_of_their_own():
    """At batch 1 a dense block is one array; an only input is read where it is at any batch, a group of it at batch 1."""
    shape, row = (4, 16, 16), 4 * 16 * 16 * 4

    def arena(layers, batch):
        return memory_totals(network([*layers, "avgpool"], shape, batch, train=False, keep_activations=False))["arena"]

    dense = [C4, *2 * [C4, "route layers=-1,-2"]]
    assert arena(dense, 1) == 3 * row
    assert arena(dense, 2) == 2 * 6 * row  # what enters the last route, and it
    assert arena([C4, "route layers=-1"], 2) == 2 * row
    assert arena([C4, "route layers=-1 groups=2"], 1) == row
    assert arena([C4, "route layers=-1 groups=2"], 2) == 2 * 1.5 * row


MEASURE = """
import sys, numpy as np
import darknetpy as dn
from darknetpy.memory_summary import memory_totals

def most():
    fields = dict(line.split(":", 1) for line in open("/proc/self/status"))
    return int(fields["VmHWM"].split()[0]) * 1024

cfg, train, keep = sys.argv[1], sys.argv[2] == "train", sys.argv[3] == "keep"
x, y = np.zeros((8, 3 * 96 * 96), np.float32), np.zeros(8, int)
dn.make_convolutional_layer(8, 96, 96, 3, 8, 1, 3, 1, 1, "leaky", 1)      # what a program takes for itself
before = most()
net = dn.load_network(cfg, batch=8, train=train, keep_activations=keep)
for _ in range(2):
    net.train_batch(x, y) if train else net.predict(x)
print(most() - before, memory_totals(net)["peak"])
"""
CFG = """[net]
batch=8
height=96
width=96
channels=3
[convolutional]
filters=64
size=3
pad=1
batch_normalize=1
activation=leaky
[convolutional]
filters=64
size=3
pad=1
batch_normalize=1
activation=mish
[maxpool]
size=2
stride=2
[convolutional]
filters=256
size=3
pad=1
batch_normalize=1
activation=leaky
[shortcut]
from=-1
activation=leaky
[upsample]
stride=2
[avgpool]
[connected]
output=10
activation=linear
[softmax]
"""


@pytest.mark.skipif(sys.platform != "linux", reason="/proc")
@pytest.mark.skipif("DARKNETPY_SANITIZED" in os.environ, reason="the sanitizers take memory of their own")
@pytest.mark.parametrize("mode", ["train", "inference"])
@pytest.mark.parametrize("keep", ["keep", "share"])
def test_the_peak_is_what_the_process_takes(tmp_path, mode, keep):
    (tmp_path / "net.cfg").write_text(CFG)
    command = [sys.executable, "-c", MEASURE, tmp_path / "net.cfg", mode, keep]
    result = subprocess.run(command, capture_output=True, text=True, check=True, env={"PYTHONPATH": ":".join(sys.path)})
    measured, planned = map(int, result.stdout.split())
    assert abs(measured - planned) <= 0.1 * planned, (measured, planned)


HUGE = "[net]\nheight=8192\nwidth=8192\nchannels=3\n" + 6 * "[convolutional]\nfilters=30\nsize=3\npad=1\nactivation=mish\n"


def test_a_network_beyond_the_machine_is_summarized(tmp_path, capsys, monkeypatch):
    cfg = tmp_path / "huge.cfg"
    cfg.write_text(HUGE)
    assert main(["summary", str(cfg), "--memory", "--train"]) == 0
    text = capsys.readouterr().out
    assert "training at batch 1" in text and "8.1 GB" in text
    assert main(["summary", str(cfg), "--memory", "--json"]) == 0
    peak = json.loads(capsys.readouterr().out)["memory"]["peak"]
    monkeypatch.setattr("darknetpy.builder.available_bytes", lambda: peak - 1)
    with pytest.raises(dn.OutOfMemory, match=rf"needs {peak / 1e9:.1f} GB, {(peak - 1) / 1e9:.1f} GB are available"):
        dn.load_network(cfg, keep_activations=False)


def test_the_summary_of_memory_as_text(tmp_path, capsys):
    (tmp_path / "net.cfg").write_text(CFG)
    assert main(["summary", str(tmp_path / "net.cfg"), "--memory"]) == 0
    text = capsys.readouterr().out
    assert text.splitlines()[0].split() == "layer type parameters updates outputs deltas work shared".split()
    assert "inference at batch 1: " in text and " share " in text and " with keep_activations" in text
    kept = dn.load_network(tmp_path / "net.cfg").summary(memory=True)
    assert "share " not in kept.splitlines()[-1]


@pytest.mark.parametrize(
    "files, left",
    [
        ({"memory.max": "1000\n", "memory.current": "900\n", "memory.stat": "anon 500\ninactive_file 300\n"}, 400),
        ({"memory.max": "max\n", "memory.current": "900\n", "memory.stat": ""}, 2**63),
        (
            {
                "memory/memory.limit_in_bytes": "1000\n",
                "memory/memory.usage_in_bytes": "900\n",
                "memory/memory.stat": "inactive_file 7\ntotal_inactive_file 200\n",
            },
            300,
        ),
        ({"memory.max": "1000\n", "memory.current": "1100\n", "memory.stat": "anon 1100\n"}, 0),
        ({}, 2**63),
    ],
)
def test_pages_of_files_count_as_free_in_a_control_group(files, left, tmp_path, monkeypatch):
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.setattr(memory, "_CONTROL_GROUP", str(tmp_path))
    assert memory._control_group() == left
