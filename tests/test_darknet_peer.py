"""Side by side with Debian's Darknet: the same files, the same numbers."""
from __future__ import annotations

import numpy as np
import pytest
from darknet_peer import MISSING, DarknetPeer
from side_by_side import fill

import darknetpy as dn
from darknetpy.weights import expected_bytes

pytestmark = pytest.mark.skipif(MISSING, reason="needs /usr/lib/darknet/libdarknet.so (Debian package darknet)")

BATCH, INPUTS, CLASSES, STEPS = 4, 2 * 9 * 7, 5, 8
CFG = """[net]
batch=4
subdivisions=1
width=9
height=7
channels=2
learning_rate=0.05
momentum=0.9
decay=0.0005
policy=steps
steps=3,6
scales=.5,.1
max_batches=100

[convolutional]
batch_normalize=1
filters=6
size=3
stride=1
pad=1
activation=leaky

[maxpool]
size=2
stride=2

[convolutional]
filters=4
size=3
stride=2
pad=1
activation=linear

[connected]
batch_normalize=1
output=12
activation=relu

[connected]
output=5
activation=linear

[softmax]
"""


@pytest.fixture(scope="module")
def peer():
    peer = DarknetPeer()
    yield peer
    peer.close()


@pytest.fixture
def cfg(tmp_path):
    path = tmp_path / "net.cfg"
    path.write_text(CFG)
    return str(path)


@pytest.fixture
def data(rng):
    labels = rng.integers(0, CLASSES, (STEPS, BATCH))
    x = rng.normal(size=(STEPS, BATCH, INPUTS)).astype(np.float32)
    x[..., :CLASSES] += 2 * np.eye(CLASSES, dtype=np.float32)[labels]
    return x, labels


@pytest.fixture
def rng():
    return np.random.default_rng(5)


def load(cfg, weights=None, train=False, batch=None):
    return dn.load_network(cfg, weights, batch=batch, train=train, batchnorm="darknet")


def train_here(cfg, data, weights=None):
    net = load(cfg, weights, train=True)
    losses = [net.train_batch(x, labels) for x, labels in zip(*data)]
    return net, losses


def test_trained_here_predicts_the_same_there(peer, cfg, data, tmp_path):
    net, _ = train_here(cfg, data)
    net.save_weights(tmp_path / "ours.weights")
    x = data[0].reshape(-1, INPUTS)
    theirs = peer.outputs(cfg, str(tmp_path / "ours.weights"), x)[-1]
    assert np.abs(net.predict(x).reshape(theirs.shape) - theirs).max() <= 1e-5
    assert np.ptp(theirs, axis=0).max() > .1, "the network has learned nothing, so that agreement means little"


def test_trained_there_predicts_the_same_here(peer, cfg, data, tmp_path):
    x, labels = data
    weights = str(tmp_path / "theirs.weights")
    peer.train(cfg, None, x, np.eye(CLASSES, dtype=np.float32)[labels], weights)
    net = load(cfg, weights, batch=3)
    assert net.seen == STEPS * BATCH
    rows = x.reshape(-1, INPUTS)
    theirs = peer.outputs(cfg, weights, rows)[-1]
    assert np.abs(net.predict(rows).reshape(theirs.shape) - theirs).max() <= 1e-5
    assert np.ptp(theirs, axis=0).max() > .1


def test_files_are_the_same_bytes(peer, cfg, data, tmp_path):
    """Darknet reads ours and writes it back; we read Darknet's and write it back."""
    net, _ = train_here(cfg, data)
    ours, theirs, again = (str(tmp_path / name) for name in ("ours", "theirs", "again"))
    net.save_weights(ours)
    assert peer.resave(cfg, ours, theirs) == net.seen == STEPS * BATCH
    load(cfg, theirs).save_weights(again)
    contents = [open(path, "rb").read() for path in (ours, theirs, again)]
    assert contents[0] == contents[1] == contents[2]
    assert len(contents[0]) == expected_bytes(net)


def test_training_gives_the_same_losses_and_weights(peer, cfg, data, tmp_path):
    """The same start, the same mini-batches: Darknet's own update, step by step."""
    start, ours, theirs = (str(tmp_path / name) for name in ("start", "ours", "theirs"))
    load(cfg, train=True).save_weights(start)
    net, losses = train_here(cfg, data, start)
    net.save_weights(ours)
    x, labels = data
    expected = peer.train(cfg, start, x, np.eye(CLASSES, dtype=np.float32)[labels], theirs)
    assert losses == pytest.approx(expected, rel=1e-5)
    a, b = (np.fromfile(path, "<f4", offset=20) for path in (ours, theirs))
    assert np.abs(a - b).max() <= 1e-5 * np.abs(b).max()
    assert np.abs(b - np.fromfile(start, "<f4", offset=20)).max() > .01, "nothing was trained"


RARE = """[net]
batch=1
width=8
height=6
channels=3
[convolutional]
filters=8
size=5
pad=1
activation=leaky
[lrn]
size=5
alpha=.1
kappa=2
[lrn]
size=4
beta=.5
[reorg]
stride=2
[reorg]
stride=2
reverse=1
[local]
filters=3
size=3
pad=1
activation=leaky
[local]
filters=8
size=2
stride=2
activation=linear
[l2norm]
[reorg]
flatten=1
[reorg]
flatten=1
reverse=1
[reorg]
stride=1
extra=5
"""


def test_every_output_of_rare_layers(peer, rng, tmp_path):
    cfg, weights = str(tmp_path / "rare.cfg"), str(tmp_path / "rare.weights")
    with open(cfg, "w") as file:
        file.write(RARE)
    net = load(cfg)
    fill(net, rng)
    net.save_weights(weights)
    x = rng.normal(size=(1, net.inputs)).astype(np.float32)
    net.predict(x)
    for layer, theirs in zip(net.layers, peer.outputs(cfg, weights, x)):
        ours = layer.output.reshape(theirs.shape)
        assert np.abs(ours - theirs).max() <= 1e-5 * np.abs(theirs).max(), f"layer {layer.index} [{layer.type}]"


# ---- recurrent networks: Darknet keeps the state from row to row. Its [crnn] asks for no workspace, and crashes
# unless another layer needs a larger one.
RECURRENT = """[net]
batch=1
width=4
height=4
channels=2
[convolutional]
filters=2
size=7
pad=1
activation=leaky
[crnn]
hidden_filters=3
output_filters=2
activation=leaky
batch_normalize=1
shortcut=1
[lstm]
output=7
[rnn]
output=6
activation=tanh
shortcut=1
[gru]
output=5
tanh=1
batch_normalize=1
[gru]
output=8
[lstm]
output=5
batch_normalize=1
"""


def test_every_output_of_recurrent_layers(peer, rng, tmp_path):
    cfg, weights = str(tmp_path / "net.cfg"), str(tmp_path / "random.weights")
    (tmp_path / "net.cfg").write_text(RECURRENT)
    net = load(cfg)
    fill(net, rng)
    net.save_weights(weights)
    x = rng.normal(size=(6, net.inputs)).astype(np.float32)
    theirs = peer.outputs(cfg, weights, x)
    for row in range(6):
        net.predict(x[row:row + 1])
        for layer, wanted in zip(net.layers, theirs):
            ours = layer.output.reshape(wanted[row].shape)
            where = f"row {row}, layer {layer.index} [{layer.type}]"
            assert np.abs(ours - wanted[row]).max() <= 1e-5 * np.abs(wanted).max(), where
    assert np.ptp(theirs[-1], axis=0).max() > .001
