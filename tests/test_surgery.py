"""Commands that change or describe trained networks: what they do to outputs and files."""

from __future__ import annotations

import json
import subprocess

import numpy as np
import pytest
from darknet_peer import MISSING
from PIL import Image
from side_by_side import fill

import darknetpy as dn
from darknetpy import surgery
from darknetpy.cli import main
from darknetpy.errors import ArgumentError

CFG = """[net]
width=9
height=8
channels={channels}

[convolutional]
filters=4
size=3
{first}
activation=leaky

[convolutional]
filters=5
size=1
activation=linear

[connected]
output=6
batch_normalize=1
activation=relu

[softmax]
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def network(folder, first="batch_normalize=1", channels=3, seed=1, name="in"):
    """A network whose files in.cfg and in.weights are there."""
    (folder / "in.cfg").write_text(CFG.format(first=first, channels=channels))
    net = dn.load_network("in.cfg")
    fill(net, np.random.default_rng(seed))
    net.seen = 640
    net.save_weights(f"{name}.weights")
    return net


def images(net, seed=9):
    return np.random.default_rng(seed).uniform(0, 1, (2, net.inputs)).astype(np.float32)


def run(*words):
    return main([str(word) for word in words])


def test_average(folder):
    nets = [network(folder, seed=seed, name=f"w{seed}") for seed in range(3)]
    assert run("average", "in.cfg", "out.weights", "w0.weights", "w1.weights", "w2.weights") == 0
    mean = dn.load_network("in.cfg", "out.weights")
    assert mean.seen == 640
    for layer in mean.layers:
        for name, array in layer.arrays("parameter", "statistic").items():
            wanted = np.mean([net.layers[layer.index].arrays()[name] for net in nets], axis=0, dtype=float)
            np.testing.assert_allclose(array, wanted, rtol=1e-6, atol=1e-7, err_msg=name)
    assert mean.layers[0].arrays("statistic")


def test_rgbgr(folder):
    net = network(folder)
    x = images(net)
    assert run("rgbgr", "in.cfg", "in.weights", "out.weights") == 0
    turned = np.ascontiguousarray(x.reshape(2, 3, 8, 9)[:, ::-1])
    other = dn.load_network("in.cfg", "out.weights")
    np.testing.assert_allclose(other.predict(turned), net.predict(x), rtol=1e-5, atol=1e-6)
    assert np.abs(other.predict(x) - net.predict(x)).max() > 1e-3


@pytest.mark.parametrize("first", ["batch_normalize=1", ""])
def test_rescale(folder, first):
    net = network(folder, first)
    x = images(net)
    assert run("rescale", "in.cfg", "in.weights", "out.weights") == 0
    np.testing.assert_allclose(dn.load_network("in.cfg", "out.weights").predict(x), net.predict(2 * x - 1), rtol=1e-4, atol=1e-6)


def test_reset(folder):
    net = network(folder)
    x = images(net)
    assert run("reset", "in.cfg", "in.weights", "out.weights") == 0
    other = dn.load_network("in.cfg", "out.weights")
    np.testing.assert_allclose(other.predict(x), net.predict(x), rtol=1e-5, atol=1e-6)
    assert (other.layers[0].rolling_variance == 1).all() and not other.layers[2].rolling_mean.any()


@pytest.mark.parametrize("command, normalized", [("denormalize", 0), ("normalize", 3)])
def test_batch_normalization_out_and_in(folder, command, normalized):
    net = network(folder)
    x = images(net)
    assert run(command, "in.cfg", "in.weights", "out.weights") == 0
    other = dn.load_network("out.cfg", "out.weights")
    np.testing.assert_allclose(other.predict(x), net.predict(x), rtol=1e-5, atol=1e-6)
    assert (folder / "out.cfg").read_text().count("batch_normalize=1") == normalized and other.seen == 640


RECURRENT = """[net]
width=6
height=6
channels=3

[convolutional]
filters=4
size=3
activation=leaky

[deconvolutional]
filters=3
size=3
{normalize}
activation=leaky

[crnn]
output=3
hidden=2
pad=1
activation=tanh
{normalize}

[gru]
output=5

[lstm]
output=4
{normalize}

[rnn]
output=3
hidden=4
activation=relu
"""


@pytest.mark.parametrize("command, normalized", [("reset", 3), ("denormalize", 0), ("normalize", 6)])
def test_recurrent_and_transposed_layers(folder, command, normalized):
    (folder / "in.cfg").write_text(RECURRENT.format(normalize="batch_normalize=1"))
    net = dn.load_network("in.cfg")
    fill(net, np.random.default_rng(2))
    net.save_weights("in.weights")
    rows = images(net)
    wanted = [net.predict(row[None]) for row in rows]
    assert run(command, "in.cfg", "in.weights", "out.weights") == 0
    cfg = "in.cfg" if command == "reset" else "out.cfg"
    other = dn.load_network(cfg, "out.weights")
    assert (folder / cfg).read_text().count("batch_normalize=1") == normalized
    for row, before in zip(rows, wanted):
        np.testing.assert_allclose(other.predict(row[None]), before, rtol=1e-5, atol=1e-6)
    assert np.abs(wanted[1] - wanted[0]).max() > 1e-3
    if command == "reset":
        assert (other.layers[4].uf.rolling_variance == 1).all() and not other.layers[1].rolling_mean.any()


def test_partial(folder, capsys):
    net = network(folder)
    assert run("partial", "in.cfg", "in.weights", "out.conv", 1) == 0
    other = dn.load_network("in.cfg")
    other.load_weights("out.conv", cutoff=1)
    np.testing.assert_array_equal(other.layers[0].weights, net.layers[0].weights)
    assert other.seen == 0 and (folder / "out.conv").stat().st_size == 20 + 4 * (4 * 27 + 4 * 4)
    assert run("partial", "in.cfg", "in.weights", "out2.conv", 9) == 2
    assert "the network has 4 layers" in capsys.readouterr().err


# ---- oneoff
DETECTOR = """[net]
width=8
height=6
channels=3

[convolutional]
filters=4
size=3
pad=1
batch_normalize=1
activation=leaky

[convolutional]
filters={filters}
size={size}
{option}
activation=linear

{head}
"""
REGION = "[region]\nanchors=1,1, 2,2, 3,3\nnum=3\nclasses={classes}\ncoords={coords}"
YOLO = "[yolo]\nmask=1,2\nanchors=4,4, 8,8, 9,9\nnum=3\nclasses={classes}"


def detector(folder, filters, head, size=1, option="", classes=7, seed=5):
    """Write det.cfg, and class.weights of a classifier of as many classes; return the classifier."""
    (folder / "det.cfg").write_text(DETECTOR.format(filters=filters, size=size, option=option, head=head))
    (folder / "class.cfg").write_text(
        DETECTOR.format(filters=classes, size=size, option=option, head="[avgpool]\n[softmax]")
    )
    net = dn.load_network("class.cfg")
    fill(net, np.random.default_rng(seed))
    net.seen = 640
    net.save_weights("class.weights")
    return net


@pytest.mark.parametrize(
    "head, anchors, box, size",
    [
        (REGION.format(classes=7, coords=4), 3, 5, 1),
        (REGION.format(classes=7, coords=6), 3, 7, 3),
        (YOLO.format(classes=7), 2, 5, 1),
    ],
)
def test_oneoff(folder, capsys, head, anchors, box, size):
    classifier = detector(folder, anchors * (box + 7), head, size)
    start = dn.load_network("det.cfg").layers[1].weights
    assert run("oneoff", "det.cfg", "class.weights", "det.weights") == 0
    assert capsys.readouterr().out == "det.weights: 7 class filters for each anchor\n"
    net = dn.load_network("det.cfg", "det.weights")
    assert net.seen == 0
    for name, array in classifier.layers[0].arrays("parameter", "statistic").items():
        np.testing.assert_array_equal(net.layers[0].arrays("parameter", "statistic")[name], array)
    weights = net.layers[1].weights.reshape(anchors, box + 7, -1)
    biases = net.layers[1].biases.reshape(anchors, box + 7)
    wanted = classifier.layers[1]
    for anchor in range(anchors):
        np.testing.assert_array_equal(weights[anchor, box:], wanted.weights.reshape(7, -1))
        np.testing.assert_array_equal(biases[anchor, box:], wanted.biases)
        np.testing.assert_allclose(weights[anchor, :box], start[:box].reshape(box, -1) / 10, rtol=1e-6)
    assert not biases[:, :box].any() and weights[:, :box].any()
    rows = images(net)
    both = [other.forward(rows[:1], train=False) or other.layers[1].output[0] for other in (net, classifier)]
    np.testing.assert_allclose(
        both[0].reshape(anchors, box + 7, -1)[1, box:], both[1].reshape(7, -1), rtol=1e-5, atol=1e-6
    )


@pytest.mark.skipif(MISSING, reason="needs the program darknet (Debian package darknet)")
def test_oneoff_as_darknet(folder):
    """Its command has 11921 classes in its source; all that it does not draw at random is the same."""
    detector(folder, 3 * (5 + 11921), REGION.format(classes=11921, coords=4), classes=11921)
    subprocess.run(
        ["darknet", "oneoff", "det.cfg", "class.weights", "theirs.weights"], capture_output=True, check=True
    )
    assert run("oneoff", "det.cfg", "class.weights", "ours.weights") == 0
    ours, theirs = (np.fromfile(f"{name}.weights", np.uint8) for name in ("ours", "theirs"))
    assert len(ours) == len(theirs)
    ours, theirs = (dn.load_network("det.cfg", f"{name}.weights") for name in ("ours", "theirs"))
    assert ours.seen == theirs.seen == 0
    for layer, other in zip(ours.layers, theirs.layers):
        for name, array in layer.arrays("parameter", "statistic").items():
            wanted = other.arrays("parameter", "statistic")[name]
            if name == "weights" and layer.index == 1:
                array, wanted = (values.reshape(3, 5 + 11921, 4) for values in (array, wanted))
                for boxes in (array[:, :5], wanted[:, :5]):
                    assert (boxes[1:] == boxes[0]).all() and 0 < boxes.std() < 0.2
                array, wanted = array[:, 5:], wanted[:, 5:]
            np.testing.assert_array_equal(array, wanted)


@pytest.mark.parametrize(
    "filters, head, option, message",
    [
        (
            7,
            "[softmax]",
            "",
            "det.cfg:19: [softmax] the last layer is [softmax]: wanted a detector",
        ),
        (36, f"[maxpool]\nsize=1\n\n{REGION}", "", "wanted a [convolutional] before the [region] at the end"),
        (
            36,
            REGION,
            "batch_normalize=1",
            "det.cfg:16: [convolutional] the convolution before the head has a normalization",
        ),
        (36, REGION, "groups=2", "det.cfg:16: [convolutional] groups=2: wanted 1"),
        (35, REGION, "", "wanted 36 = 3 anchors * (4 coords + 1 + 7 classes)"),
    ],
)
def test_oneoff_wants_a_detector(folder, capsys, filters, head, option, message):
    detector(folder, 36, REGION.format(classes=7, coords=4))
    head = head.format(classes=7, coords=4)
    (folder / "det.cfg").write_text(DETECTOR.format(filters=filters, size=1, option=option, head=head))
    assert run("oneoff", "det.cfg", "class.weights", "det.weights") == 2
    assert message in capsys.readouterr().err and not (folder / "det.weights").exists()


@pytest.mark.parametrize(
    "classes, figures",
    [
        (
            8,
            "expected 656 bytes for det.cfg, found 676: layer 1 [convolutional], the last",
        ),
        (
            6,
            "expected 656 bytes for det.cfg, found 636: the file ends inside layer 1 [convol",
        ),
    ],
)
def test_oneoff_wants_a_classifier_of_as_many_classes(folder, capsys, classes, figures):
    detector(folder, 36, REGION.format(classes=7, coords=4), classes=classes)
    assert run("oneoff", "det.cfg", "class.weights", "det.weights") == 2
    error = capsys.readouterr().err
    assert figures in error and "a classifier of 7 classes: layers 0 to 1, the last with 7 filters" in error
    assert not (folder / "det.weights").exists()


def test_statistics(folder, capsys):
    net = network(folder)
    net.layers[1].weights[0, :2] = 0
    net.save_weights("in.weights")
    assert run("statistics", "in.cfg", "in.weights", "--json") == 0
    rows = {(row["layer"], row["array"]): row for row in json.loads(capsys.readouterr().out)}
    weights, row = net.layers[1].weights, rows[1, "weights"]
    assert (row["zeros"], row["values"]) == (2, 20)
    assert row["mean"] == pytest.approx(weights.mean(), rel=1e-4) and row["deviation"] == pytest.approx(weights.std(), rel=1e-5)
    assert (row["smallest"], row["largest"]) == (weights.min(), weights.max())
    assert {name for layer, name in rows if layer == 0} == {"biases", "scales", "rolling_mean", "rolling_variance", "weights"}
    assert run("statistics", "in.cfg", "in.weights", "--layer", 1) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3 and "10.0%" in lines[2]


def test_ops(folder, capsys):
    network(folder)
    assert run("ops", "in.cfg", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    convolutions = 2 * 4 * 27 * 6 * 7 + 2 * 5 * 4 * 6 * 7
    assert found["by_type"]["convolutional"] == convolutions and found["by_type"]["connected"] == 2 * 6 * 5 * 6 * 7
    assert found["operations"] == sum(found["by_type"].values())
    assert run("ops", "in.cfg") == 0
    assert f"Floating Point Operations: {found['operations']:.0f}" in capsys.readouterr().out


def test_speed(folder, capsys):
    network(folder)
    assert run("speed", "in.cfg", 3, "--batch", 2, "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["passes"], found["batch"]) == (3, 2) and found["per_second"] == pytest.approx(2 / found["seconds"])
    assert run("speed", "in.cfg", 2) == 0 and "2 passes of 1: median" in capsys.readouterr().out


def test_visualize_colours(folder, capsys):
    net = network(folder)
    net.layers[0].weights[:] = 0
    net.layers[0].weights[2, 1] = 1         # the third filter is all green
    net.save_weights("in.weights")
    assert run("visualize", "in.cfg", "in.weights", "--zoom", 4) == 0
    assert "in_layer_0.png: 4 filters of 3 channels, 27 x 27 pixels" in capsys.readouterr().out
    picture = np.asarray(Image.open("in_layer_0.png"))
    assert picture.shape == (27, 27, 3)
    assert (picture[14:26, 1:13] == (0, 255, 0)).all(), "the tile in the second row, first column"
    assert (picture[1:13, 1:13] == 128).all() and (picture[13] == 32).all(), "a filter of one value is grey; borders are dark"


def test_visualize_other_layers(folder):
    network(folder)
    assert run("visualize", "in.cfg", "--layer", 1, "--zoom", 2, "--out", "f.png") == 0
    assert Image.open("f.png").size == (4 * 3 + 1, 5 * 3 + 1), "a row per filter, a column per channel"


@pytest.mark.parametrize("words, message", [
    (("rgbgr", "in.cfg", "in.weights", "in.weights"), "OUT=in.weights is a file that is read"),
    (("average", "in.cfg", "in.weights", "in.weights"), "OUT=in.weights is a file that is read"),
    (("oneoff", "in.cfg", "in.weights", "in.cfg"), "OUT=in.cfg is a file that is read"),
    (("denormalize", "in.cfg", "in.weights", "in.w"), "OUT=in.cfg is a file that is read"),
    (("fuse", "in.cfg", "in.weights", "out/"), "OUT=out/ is a folder"),
    (("average", "in.cfg", ".", "in.weights"), "OUT=. is a folder"),
    (("visualize", "in.cfg", "--zoom", "100000"), "--zoom 100000: wanted at most 64"),
    (("visualize", "in.cfg", "--layer", "2"), "layer 2 is [connected]: wanted a convolutional layer"),
    (("visualize", "in.cfg", "--layer", "7"), "the network has layers 0 to 3"),
    (("visualize", "in.cfg", "--out", "x.cfg"), "wanted an ending such as .png"),
])
def test_refusals(folder, capsys, words, message):
    network(folder)
    before = (folder / "in.weights").read_bytes()
    assert run(*words) == 2
    assert message in capsys.readouterr().err
    assert (folder / "in.weights").read_bytes() == before


def test_networks_without_what_is_changed(folder, capsys):
    network(folder, channels=2)
    assert run("rgbgr", "in.cfg", "in.weights", "out.weights") == 2
    assert "sees 2 channels: wanted 3 colours" in capsys.readouterr().err
    with pytest.raises(ArgumentError, match="the first layer is no convolution"):
        surgery.first_convolution(dn.Network(1, c=4))
    network(folder, "normalize=group")
    assert run("rescale", "in.cfg", "in.weights", "out.weights") == 2
    assert "no bias before its normalization" in capsys.readouterr().err and not (folder / "out.weights").exists()
