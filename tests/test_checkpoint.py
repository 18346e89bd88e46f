"""Checkpoints: resuming is exact, bit for bit, and damaged files are refused without touching the network."""
from __future__ import annotations

import hashlib
import json
import os
import pickle
import struct
import subprocess
import sys

import numpy as np
import pytest

import darknetpy as dn
from darknetpy import checkpoint
from darknetpy.errors import ArgumentError, WeightsError

STEPS, CLASSES = 14, 5
NET = ("[net]\nbatch={batch}\nsubdivisions={subdivisions}\nwidth=8\nheight=7\nchannels=2\n"
       "learning_rate=.05\nmomentum=.9\ndecay=.001\nseed=7\n{more}\n")
LAYERS = """
[convolutional]
filters=6
size=3
pad=1
batch_normalize=1
activation=leaky
[maxpool]
size=2
stride=2
[convolutional]
filters=4
activation=elu
[batchnorm]
[shortcut]
from=-3
activation=linear
[connected]
output=10
batch_normalize=1
activation=relu
[dropout]
probability=.4
[connected]
output=5
activation=linear
learning_rate=2
[softmax]
"""
SGD = NET.format(batch=4, subdivisions=1, more="") + LAYERS
# name: (what stands in [net], subdivisions, mini-batches before the stop)
CASES = {
    "sgd": ("", 1, 5),
    "adam": ("adam=1\nB1=.8\neps=1e-4", 1, 6),
    "clipped": ("max_gradient=.05\ndecay_l1=1e-4", 1, 3),
    "random": ("policy=random\npower=2", 1, 5),
    "subdivisions": ("policy=steps\nsteps=2,3\nscales=.5,.5", 3, 7),
    "adam in subdivisions": ("adam=1\nmax_gradient=.05\npolicy=poly\npower=2\nmax_batches=9\nburn_in=2", 3, 5),
    "sgdr": ("policy=sgdr\nsgdr_cycle=3\nmax_batches=20", 1, 4),
    "cumulative": ("statistics=cumulative", 1, 5),
    "last and momentum": ("statistics=last\nrolling_momentum=.7", 2, 5),
    "composed": ("fused=0\nbatchnorm=darknet\ndialect=alexeyab", 1, 4),
}


def cfg_text(name):
    more, subdivisions, _ = CASES[name]
    return NET.format(batch=4 * subdivisions, subdivisions=subdivisions, more=more) + LAYERS


def batches(first, last):
    """Mini-batches `first` to `last` of an endless run, the same wherever it is joined."""
    for step in range(first, last):
        rng = np.random.default_rng(step)
        yield rng.normal(size=(4, 2 * 7 * 8)).astype(np.float32), rng.integers(0, CLASSES, 4)


def train(net, first, last):
    return [net.train_batch(x, labels) for x, labels in batches(first, last)]


def state(net):
    """All that training changes, as bytes."""
    roles = "parameter", "statistic", "counter", "update", "moment"
    arrays = [array.tobytes() for layer in net.layers for array in layer.arrays(*roles).values()]
    return b"".join(arrays) + repr((net.seen, net.updates, net.learning_rate)).encode()


def digest(net):
    return hashlib.sha256(state(net)).hexdigest()


def resume_all(folder):
    """Resume every case in this process; print the losses and the digest of the state of each."""
    answers = {}
    for name, (_, _, stop) in CASES.items():
        net = dn.load_checkpoint(f"{folder}/{name}.checkpoint")
        answers[name] = [[loss.hex() for loss in train(net, stop, STEPS)], digest(net)]
    print(json.dumps(answers))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with a checkpoint of every case, and what training without a stop gives."""
    folder = tmp_path_factory.mktemp("checkpoints")
    straight = {}
    for name, (_, _, stop) in CASES.items():
        cfg = folder / f"{name}.cfg"
        cfg.write_text(cfg_text(name))
        net = dn.load_network(cfg, train=True)
        train(net, 0, stop)
        net.save_checkpoint(folder / f"{name}.checkpoint", {"stop": stop})
        straight[name] = [[loss.hex() for loss in train(net, stop, STEPS)], digest(net)]
    return folder, straight


@pytest.mark.parametrize("threads", [1, 2])
def test_resume_in_another_process_is_exact(folder, threads):
    folder, straight = folder
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", f"import test_checkpoint; test_checkpoint.resume_all({str(folder)!r})"]
    answer = subprocess.run(command, env=environment, cwd=os.path.dirname(__file__), capture_output=True, text=True, timeout=100)
    assert answer.returncode == 0, answer.stderr
    resumed = json.loads(answer.stdout)
    for name in CASES:
        assert resumed[name] == straight[name], name
    assert len({digest for _, digest in straight.values()}) == len(CASES)


@pytest.mark.parametrize("name", CASES)
def test_restore_into_a_network_of_the_same_cfg(folder, name):
    folder, straight = folder
    net = dn.load_network(folder / f"{name}.cfg", train=True)
    _, subdivisions, stop = CASES[name]
    train(net, 100, 103)        # a state that must not matter
    assert checkpoint.restore(net, folder / f"{name}.checkpoint") == {"stop": stop}
    assert net._pending == stop % subdivisions      # mini-batches of an update that is not complete
    assert [[loss.hex() for loss in train(net, stop, STEPS)], digest(net)] == straight[name]


def test_a_weights_file_alone_does_not_resume(folder, tmp_path):
    """That the states above matter: with the weights only, training goes another way."""
    folder, straight = folder
    net = dn.load_checkpoint(folder / "sgd.checkpoint")
    net["batchnorm_3"].biases[:] = 0
    net.save_weights(tmp_path / "x.weights")
    other = dn.load_network(folder / "sgd.cfg", tmp_path / "x.weights", train=True)
    stop = CASES["sgd"][2]
    assert train(other, stop, STEPS) != train(net, stop, STEPS)


# ---- what a checkpoint keeps
@pytest.fixture
def make(tmp_path):
    def make(text=SGD, **options):
        path = tmp_path / "net.cfg"
        path.write_text(text)
        return dn.load_network(path, **{"train": True, **options})
    return make


@pytest.fixture
def file(tmp_path):
    return tmp_path / "x.checkpoint"


def test_counters_seed_and_extra(make, file):
    net = make()
    net.seen, net.updates, net.seed = 2**63 + 1, 2**53 + 1, 2**64 - 1
    extra = {"data": "fashion-mnist: é \ud800", "place": 12, "rate": .1, "list": [None, True]}
    net.save_checkpoint(file, extra)
    other = dn.load_checkpoint(file)
    assert (other.seen, other.updates, other.seed) == (2**63 + 1, 2**53 + 1, 2**64 - 1)
    assert checkpoint.read_header(file)["extra"] == extra and checkpoint.is_checkpoint(file)
    net.save_weights(file)
    assert not checkpoint.is_checkpoint(file)


def test_options_in_effect(make, file):
    net = make()
    net.set_option("learning_rate", .0123)
    net.set_option("max_batches", 77)
    net.layers[0].fused = False
    net.save_checkpoint(file)
    other = dn.load_checkpoint(file)
    assert other.option("learning_rate") == net.option("learning_rate") and other.option("max_batches") == 77
    assert [layer.fused for layer in other.layers] == [False] + [True] * (len(net.layers) - 1)
    other = make()
    checkpoint.restore(other, file)
    assert other.option("learning_rate") == net.option("learning_rate") and other.option("max_batches") != 77


def test_options_of_shared_memory_are_refused_before_anything_changes(make, file):
    source = make()
    train(source, 0, 1)
    source.layers[0].fused = False
    source.save_checkpoint(file)
    net = make(keep_activations=False)
    before = state(net)
    with pytest.raises(WeightsError, match=r"fused=False in layer 0 \[convolutional\]: .*keep_activations=False"):
        checkpoint.restore(net, file)
    assert state(net) == before


def test_gradient_clipping_that_was_set_later(make, file):
    net = make()
    train(net, 0, 2)
    net.set_option("max_gradient", .05)
    train(net, 2, 4)
    net.save_checkpoint(file)
    other = dn.load_checkpoint(file)
    assert state(other) == state(net) and train(other, 4, 6) == train(net, 4, 6) and state(other) == state(net)


def test_max_batches_may_differ(make, file):
    make(SGD.replace("seed=7", "seed=7\nmax_batches=10")).save_checkpoint(file)
    net = make(SGD.replace("seed=7", "seed=7\nmax_batches=20"))
    checkpoint.restore(net, file)
    assert net.option("max_batches") == 20


def test_a_batch_of_its_own_and_inference(make, file):
    net = make(batch=3, train=False)
    net.save_checkpoint(file)
    other = dn.load_checkpoint(file)
    x = np.random.default_rng(0).normal(size=(5, net.inputs)).astype(np.float32)
    assert other.batch == 3 and np.array_equal(net.predict(x), other.predict(x))
    with pytest.raises(ArgumentError, match="train=False"):
        train(other, 0, 1)


def test_a_resized_network(make, file):
    text = SGD[:SGD.index("[connected]")] + "[avgpool]\n[softmax]\n"
    net = make(text)
    net.resize(12, 10)
    net.save_checkpoint(file)
    other = dn.load_checkpoint(file)
    assert (other.w, other.h) == (12, 10) and state(other) == state(net)
    with pytest.raises(WeightsError, match="width=12, but the network has width=8"):
        checkpoint.restore(make(text), file)


def test_a_network_made_by_hand(file):
    net = dn.Network(4, 8, 7, 2, train=True)
    net.add(dn.make_convolutional_layer(4, 7, 8, 2, CLASSES, size=3, stride=2, activation="leaky", batch_normalize=1))
    net.add(dn.make_avgpool_layer(4, 3, 3, CLASSES))
    net.add(dn.make_softmax_layer(4, CLASSES, 1))
    train(net, 0, 3)
    net.save_checkpoint(file)
    other = dn.load_checkpoint(file)
    assert train(other, 3, 6) == train(net, 3, 6) and state(other) == state(net)


def test_what_cannot_be_saved(make, file, tmp_path):
    for extra in ({"a": np.float32(1)}, {"a": {1, 2}}, {"a": b"bytes"}):
        with pytest.raises(ArgumentError, match="extra: JSON cannot say it"):
            make().save_checkpoint(file, extra)
    with pytest.raises(ArgumentError, match="needs a network with layers"):
        dn.Network().save_checkpoint(file)
    assert not file.exists()
    with pytest.raises(FileNotFoundError):
        make().save_checkpoint(tmp_path / "missing" / "x")


# ---- refusals
@pytest.mark.parametrize("old, new, match", [
    ("filters=6", "filters=8", r"layer 0 \[convolutional\] has filters=6 there, filters=8 here"),
    ("[dropout]\nprobability=.4", "[dropout]", r"layer 6 \[dropout\] has probability=0.4 there, probability=\(default\) here"),
    ("momentum=.9", "momentum=.8", r"\[net\] has momentum=\S+ there, momentum=0.8 here"),
    ("seed=7", "seed=8", r"\[net\] has seed=7 there, seed=8 here"),
    ("[dropout]\nprobability=.4\n", "[activation]\nactivation=relu\n", r"layer 6 \[activation\] has the type dropout there"),
    ("[dropout]\nprobability=.4\n[connected]\noutput=5\nactivation=linear\nlearning_rate=2\n[softmax]\n", "", "9 layers there, 6 here"),
    ("batch=4", "batch=8", "batch=4, but the network has batch=8"),
    ("seed=7", "seed=7\ndialect=alexeyab", "dialect=pjreddie, but the network has dialect=alexeyab"),
    ("seed=7", "seed=7\nbatchnorm=darknet", "batchnorm=paper, but the network has batchnorm=darknet"),
])
def test_another_network_is_refused(make, file, old, new, match):
    make().save_checkpoint(file)
    assert old in SGD
    net = make(SGD.replace(old, new))
    before = state(net)
    with pytest.raises(WeightsError, match=match):
        checkpoint.restore(net, file)
    assert state(net) == before


def test_inference_and_training_differ(make, file):
    make(train=False, batch=4).save_checkpoint(file)
    with pytest.raises(WeightsError, match=r"layer 0 \[convolutional\] bias_updates: wanted float32 \(6,\), found nothing"):
        checkpoint.restore(make(), file)
    make().save_checkpoint(file)
    with pytest.raises(WeightsError, match=r"arrays, wanted the \d+ of the network"):
        checkpoint.restore(make(train=False, batch=4), file)


def refuse(net, file, data, match="x.checkpoint: "):
    file.write_bytes(data)
    with pytest.raises(WeightsError, match=match) as caught:
        checkpoint.restore(net, file)
    assert "\n" not in str(caught.value)
    with pytest.raises(WeightsError):
        dn.load_checkpoint(file)


def test_every_damage_is_refused(make, file):
    """Any length but the right one, and any bit of any byte: a sample, and all places where something begins or ends."""
    source, net = make(), make()
    train(source, 0, 2)
    source.save_checkpoint(file, {"data": "x"})
    good, before, rng = file.read_bytes(), state(net), np.random.default_rng(0)
    length = struct.unpack_from("<Q", good, 8)[0]
    edges = [at + offset for at in (0, 8, 16, 48, 48 + length, len(good)) for offset in (-1, 0, 1) if 0 <= at + offset < len(good)]
    for at in [*edges, *rng.integers(0, len(good), 30)]:
        refuse(net, file, good[:at])
        damaged = bytearray(good)
        damaged[at] ^= 1 << int(rng.integers(8))
        refuse(net, file, damaged)
    for more in (1, 2, 64):
        refuse(net, file, good + bytes(more), f"expected {len(good)} bytes, found {len(good) + more}")
    assert state(net) == before
    file.write_bytes(good)
    checkpoint.restore(net, file)
    assert state(net) == state(source)


def test_damage_is_named(make, file):
    net = make()
    net.save_checkpoint(file)
    good = file.read_bytes()
    length = struct.unpack_from("<Q", good, 8)[0]
    damaged = bytearray(good)
    damaged[48 + length + 4 * 6 + 3] ^= 1
    refuse(net, file, damaged, rf"bytes {48 + length + 24} to {48 + length + 48}: bias_updates of layer 0 \[convolutional\] is damaged")
    refuse(net, file, good[:60] + b"?" + good[61:], f"bytes 48 to {48 + length}: the header is damaged")
    refuse(net, file, good[:7] + b"2" + good[8:], "byte 7: version '2' of checkpoints is unknown, wanted '1'")
    refuse(net, file, good[:8] + b"\xff" * 8 + good[16:], f"byte 8: a header of {2**64 - 1} bytes, but the file has {len(good)}")
    refuse(net, file, good[:30], "30 bytes: the file ends inside its head of 48 bytes")
    refuse(net, file, pickle.dumps(good), "not a checkpoint")
    refuse(net, file, b"", "not a checkpoint")


def changed(good, **changes):
    """The file with another header, checksum and all."""
    length = struct.unpack_from("<Q", good, 8)[0]
    text = json.dumps({**json.loads(good[48:48 + length]), **changes}).encode()
    return struct.pack("<8sQ32s", good[:8], len(text), hashlib.sha256(text).digest()) + text + good[48 + length:]


@pytest.mark.parametrize("name, value", [("subdivisions", 0), ("policy", -1), ("step", .5), ("step", 1e300), ("B1", 10**400), ("B1", None),
                                         ("max_batches", float("nan")), ("learning_rate", float("inf")),
                                         ("learning_rate", 1e39), ("momentum", 1), ("policy", 8)])
def test_options_that_make_no_sense(make, file, name, value):
    net = make()
    net.save_checkpoint(file)
    options = {**checkpoint.read_header(file)["options"], name: value}
    before = state(net)
    refuse(net, file, changed(file.read_bytes(), options=options), "the header makes no sense")
    assert state(net) == before


@pytest.mark.parametrize("changes", [
    {"seen": -1}, {"seen": 2**64}, {"seen": 1.5}, {"seen": True}, {"seed": "1"}, {"batch": 0}, {"batch": 2**40}, {"width": 20},
    {"train": 1}, {"pending": -1}, {"options": {}}, {"options": []}, {"fused": [True]}, {"fused": "yes"}, {"arrays": []}, {"arrays": [1]},
    {"arrays": [{"layer": 0}]}, {"cfg": 5}, {"cfg": "[net]\n"}, {"cfg": "nonsense"}, {"dialect": "x"}, {"batchnorm": "x"},
    {"cfg": "[net]\nbatch=4\nwidth=8\nheight=7\nchannels=2\n[connected]\noutput=5\n"}])
def test_headers_that_make_no_sense(make, file, changes):
    """Somebody wrote such a file on purpose: its checksums are right."""
    net = make()
    net.save_checkpoint(file)
    before = state(net)
    refuse(net, file, changed(file.read_bytes(), **changes))
    assert state(net) == before


def test_deep_json_is_refused(make, file):
    text = b"[" * 200000
    head = struct.pack("<8sQ32s", b"\x89DNCKPT1", len(text), hashlib.sha256(text).digest())
    refuse(make(), file, head + text, "the header makes no sense")
