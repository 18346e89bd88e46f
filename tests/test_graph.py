"""Passes as CUDA graphs (csrc/network.c, cuda/graph.cu): the same bits as kernel by kernel, whatever changes from pass to pass."""

from __future__ import annotations

import re

import numpy as np
import pytest
from cuda_calls import DEVICE, ON_GPU, library
from gradcheck import build
from test_cli import TINY
from test_device import CASES, arrays_of, boxes, built, copy_of, load, step

import darknetpy as dn
from darknetpy import cli
from darknetpy.core import core


@pytest.fixture(scope="module", autouse=True)
def _built():
    library()


IMAGES = ("convolutional filters=6 size=3 pad=1 batch_normalize=1 activation=leaky", "maxpool size=2 stride=2")
CLASSES = ("connected output=5", "softmax")


def network(*lines, options="", shape=(2, 6, 6), batch=3, graph=True, seed=7):
    net = build(list(lines), shape, batch, options, core=core, device=DEVICE)
    net.seed, net.graph = seed, graph
    for layer in net.layers:
        rng = np.random.default_rng(layer.index)
        for name, array in layer.arrays("parameter").items():
            if name == "weights":
                array[...] = 0.3 * rng.standard_normal(array.shape)
    return net


def assert_same_bits(one, other):
    """Every array that two networks keep, and how far they are."""
    wanted, found = (arrays_of(net) for net in (one, other))
    assert found.keys() == wanted.keys() and (one.seen, one.updates) == (other.seen, other.updates)
    for name, values in wanted.items():
        assert values.tobytes() == found[name].tobytes(), name


def train(net, steps, change=None):
    """Train on numbers that depend on the step; `change(net, step)` comes first. Returns the losses."""
    losses = []
    for i in range(steps):
        if change:
            change(net, i)
        rng = np.random.default_rng(100 + i)
        x = rng.standard_normal((net.batch, net.inputs)).astype(np.float32)
        losses.append(net.train_batch(x, rng.integers(0, net.truths, net.batch)))
    return losses


def both(*lines, steps=7, change=None, **how):
    """Train with and without graphs; the bits must be the same. Returns the network with graphs."""
    nets = [network(*lines, graph=graph, **how) for graph in (True, False)]
    losses = [train(net, steps, change) for net in nets]
    assert losses[0] == losses[1] and len(set(losses[0])) == steps
    assert_same_bits(*nets)
    assert not nets[1].graphs
    return nets[0]


def test_a_step_is_made_a_graph_once_and_begun_again():
    net = both(*IMAGES, *CLASSES, options="learning_rate=.1 momentum=.9")
    told = net.graphs
    assert set(told) == {"training forward", "backward and update"}
    for of_pass in told.values():           # the first pass is learnt, all others are begun as a graph
        assert (of_pass.parts, of_pass.graphs, of_pass.begun, of_pass.reason) == (1, 1, 6, "") and of_pass.kernels > 5


OPTIONS = {
    "rates": "learning_rate=.1 policy=steps steps=2,4 scales=.5,.1 burn_in=2",
    "random rate": "learning_rate=.1 policy=random power=2",
    "adam": "learning_rate=.01 adam=1",
    "clipped": "learning_rate=.1 max_gradient=.5",
    "averages": "learning_rate=.1 ema_alpha=.9 max_batches=7",
    "decay_l1": "learning_rate=.1 decay_l1=.01 decay=.01",
    "subdivisions": "learning_rate=.1 batch=6 subdivisions=2",
}


@pytest.mark.parametrize("name", OPTIONS)
def test_optimizers(name):
    """Learning rates, Adam's count of steps, the clip, averages that begin late: none of them is an older step's."""
    net = both(*IMAGES, *CLASSES, options=OPTIONS[name])
    assert net.graphs["training forward"].begun == 6 and net.graphs["backward and update"].begun > 0


LAYERS = {
    "dropout": ["dropout probability=.4"],
    "dropblock": ["dropout probability=.3 dropblock=1 dropblock_size_abs=2"],
    "crop": ["crop crop_height=4 crop_width=4 flip=1"],
    "cumulative": ["batchnorm statistics=cumulative"],
    "last": ["batchnorm statistics=last"],
    "late": ["convolutional filters=4 size=1 stopbackward=3", "convolutional filters=4 size=1 dont_update=2"],
    "burnt in": ["convolutional filters=4 size=1 burnin_update=2"],
}


@pytest.mark.parametrize("name", LAYERS)
def test_layers_that_change_from_step_to_step(name):
    both(*LAYERS[name], *CLASSES, options="learning_rate=.1 burn_in=2 max_batches=7")


@pytest.mark.parametrize("case", CASES[::7], ids=str)
def test_layer_types(case):
    """Passes of the gradient checks' networks, the second and third of them graphs."""
    (_, one, other), x, truth = built(case)
    other.graph = False
    one, other = (load_like(case, graph, other) for graph in (True, False))
    for _ in range(3):
        found = [step(net, x, truth, case.train) for net in (one, other)]
        assert found[0][0] == found[1][0] and found[0][1].tobytes() == found[1][1].tobytes()
        for net in (one, other):
            net.update()
    assert_same_bits(one, other)
    assert all(told.begun for told in one.graphs.values() if told.kernels > 1)


def load_like(case, graph, like):
    """A network of a gradient check with the numbers of another."""
    net = copy_of(case, like, DEVICE)
    net.graph = graph
    return net


# ---- what a network goes through between passes
def test_a_resize_between_steps():
    lines = [IMAGES[0], "convolutional filters=4 size=1", "avgpool", "softmax"]
    sizes = {3: (9, 7), 6: (6, 6), 7: (12, 12)}
    net = both(*lines, steps=10, options="learning_rate=.1",
               change=lambda net, i: i in sizes and net.resize(*sizes[i]))
    assert net.graphs["training forward"].begun > 5


def test_inference_and_training_take_turns():
    def predict(net, i):
        net.predict(np.full((4, net.inputs), i, np.float32))

    net = both(*IMAGES, "dropout probability=.5", *CLASSES, options="learning_rate=.1", change=predict)
    assert net.graphs["forward"].begun == 2 * 7 - 1 and net.graphs["training forward"].begun == 6


def test_other_layers_options_weights_and_frozen_statistics():
    def change(net, i):
        if i == 2:
            net.set_option("momentum", 0.5)
        if i == 3:
            net.layers[0].weights[...] = 0.1
        if i == 4:
            net.layers[0].statistics = "frozen"
        if i == 5:
            net.graph = not net.graph
        if i == 6:
            net.graph = not net.graph

    nets = [network(*IMAGES, *CLASSES, graph=graph, options="learning_rate=.1") for graph in (True, False)]
    assert train(nets[0], 9, change) == train(nets[1], 9, change)
    assert_same_bits(*nets)


def test_passes_of_their_own(rng):
    """forward, backward and update one by one, with an input's delta that is added to."""
    x, truth = rng.standard_normal((3, 72)).astype(np.float32), np.arange(3)
    nets = [network(*IMAGES, *CLASSES, graph=graph, options="learning_rate=.1") for graph in (True, False)]
    for net in nets:
        net.delta = np.zeros((3, 72), np.float32)
        for _ in range(5):
            net.forward(x, truth, train=True)
            net.backward()
            net.update()
    assert nets[0].delta.tobytes() == nets[1].delta.tobytes() and nets[0].delta.any()
    assert_same_bits(*nets)
    assert {name: told.begun for name, told in nets[0].graphs.items()} == {"training forward": 4, "backward": 4, "update": 4}


@pytest.mark.parametrize("cfg", ["scenes-v3.cfg", "scenes-v2.cfg"])
def test_detectors_with_shared_memory(cfg, tmp_path):
    replace = [("height=96", "height=32"), ("width=96", "width=32")]
    nets = [load(cfg, DEVICE, tmp_path, replace, batch=2, train=True, keep_activations=False) for _ in range(2)]
    nets[1].graph = False
    nets[0].seen = nets[1].seen = 12800 - 6      # [region] learns its priors until 12,800
    for i in range(5):
        rng = np.random.default_rng(i)
        x, truth = rng.standard_normal((2, nets[0].inputs)).astype(np.float32), boxes(rng, 2, nets[0].truths)
        losses = [net.train_batch(x, truth) for net in nets]
        assert losses[0] == losses[1]
    assert_same_bits(*nets)
    assert nets[0].graphs["training forward"].parts == 1


def test_a_pass_that_ends_earlier_than_the_one_before(rng):
    """Without a truth the loss is not worked out: the last kernels of the graph must not run."""
    nets = [network(*IMAGES, *CLASSES, graph=graph) for graph in (True, False)]
    for i in range(8):
        x, truth = rng.standard_normal((3, 72)).astype(np.float32), None if i in (4, 5) else np.arange(3)
        for net in nets:
            net.forward(x, truth, train=True)
        assert_same_bits(*nets)
    assert nets[0].graphs["training forward"].begun == 5


# ---- what is no graph, or not one
def test_what_the_host_looks_at_parts_the_pass(tmp_path):
    head = "yolo num=1 classes=2 anchors=2,2 mask=0 max=4 iou_loss=giou show_details=1"
    nets = [network("convolutional filters=7 size=1", head, options="dialect=alexeyab", graph=graph) for graph in (True, False)]
    for i in range(4):
        rng = np.random.default_rng(i)
        x, truth = rng.standard_normal((3, 72)).astype(np.float32), np.zeros((3, nets[0].truths), np.float32)
        truth[:, :5] = .5, .5, .3, .3, 1
        losses = [net.train_batch(x, truth) for net in nets]
        assert losses[0] == losses[1] > 0
    assert_same_bits(*nets)
    told = nets[0].graphs["training forward"]
    assert told.reason == "layer 1 [yolo]: the host looks at values of the device" and told.parts > 0
    assert nets[0].graphs["backward and update"].reason == ""


def test_a_clipped_gradient_says_so():
    net = both(*IMAGES, *CLASSES, options="learning_rate=.1 max_gradient=.5")
    told = net.graphs["backward and update"]
    assert told.reason == "the norm of the gradient (max_gradient): the host looks at values of the device"
    assert told.text() == f"2 graphs and 2 parts of {told.kernels} kernels; {told.reason}" and told.begun == 12


@pytest.mark.skipif(ON_GPU, reason="the emulator refuses")
@pytest.mark.parametrize("how", [1, 2], ids=["made", "begun"])
def test_graphs_that_cuda_refuses(how):
    """The pass goes on kernel by kernel, and says so."""
    def change(net, i):
        library().dn_gpu_refuse_graphs(how if i >= how else 0)

    try:
        nets = [network(*IMAGES, *CLASSES, graph=graph, options="learning_rate=.1") for graph in (True, False)]
        losses = [train(net, 6, change) for net in nets]
        assert losses[0] == losses[1]
        assert_same_bits(*nets)
        for told in nets[0].graphs.values():
            assert (told.graphs, told.begun, told.reason) == (0, how - 1, "the pass: CUDA makes no graph of it: graphs are refused")
    finally:
        library().dn_gpu_refuse_graphs(0)


@pytest.mark.skipif(ON_GPU, reason="the emulator refuses")
def test_graphs_that_cuda_does_not_renew_are_made_anew():
    """Other arguments than before are refused: the graph is made again with them, and begun."""
    try:
        library().dn_gpu_refuse_graphs(3)
        net = both(*IMAGES, "dropout probability=.4", *CLASSES, options="learning_rate=.1 policy=random power=2")
    finally:
        library().dn_gpu_refuse_graphs(0)
    for told in net.graphs.values():
        assert (told.graphs, told.begun, told.reason) == (1, 6, "") and told.renewed > 0


def test_a_loss_that_is_not_finite_leaves_everything():
    net = network(*IMAGES, *CLASSES, options="learning_rate=.1 momentum=.9")
    train(net, 4)
    before = arrays_of(net, "parameter", "update", "counter")
    with pytest.raises(dn.DarknetError, match="first output that is not finite is layer 0"):
        net.train_batch(np.full((3, 72), np.nan, np.float32), np.arange(3))
    for name, values in arrays_of(net, "parameter", "update", "counter").items():
        assert values.tobytes() == before[name].tobytes(), name
    assert np.isfinite(train(net, 3)).all()


def test_a_refused_truth_leaves_the_next_pass_alone(tmp_path):
    head = "yolo num=1 classes=2 anchors=2,2 mask=0 max=4"
    nets = [network("convolutional filters=7 size=1", head, graph=graph) for graph in (True, False)]
    for i in range(5):
        x, truth = np.full((3, 72), .1 * i, np.float32), np.zeros((3, nets[0].truths), np.float32)
        truth[:, :5] = .5, .5, .3, .3, 1
        for net in nets:
            if i == 3:
                with pytest.raises(dn.ArgumentError, match="wrong w"):
                    net.train_batch(x, np.where(truth == np.float32(.3), -1, truth))
        assert len({net.train_batch(x, truth) for net in nets}) == 1
    assert_same_bits(*nets)


def test_commands_say_what_became_of_graphs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiny.cfg").write_text(TINY.format(max_batches=4, outputs=10))
    said = {}
    for options in ("--verbose", "--verbose --no-graph", "--verbose --device cpu", ""):
        words = ["classifier", "train", "fashion-mnist:", "tiny.cfg", "--device", DEVICE, "--no-plot", "--json", *options.split()]
        assert cli.main(words) == 0
        said[options] = re.findall("note: (graphs:.*)\n", capsys.readouterr().err)
    passes = [re.fullmatch(r"graphs: (.*): one graph of \d+ kernels", line)[1] for line in said["--verbose"]]
    assert passes == ["forward", "training forward", "backward", "backward and update"]
    assert said["--verbose --no-graph"] == ["graphs: turned off"] and said["--verbose --device cpu"] == ["graphs: none on the CPU"]
    assert said[""] == []


def test_info_says_what_becomes_of_a_networks_passes(tmp_path, capsys):
    head = "[yolo]\nnum=1\nclasses=2\nanchors=2,2\nmask=0\nmax=4\niou_loss=giou\nshow_details=1\n"
    (tmp_path / "a.cfg").write_text("[net]\nbatch=2\nwidth=8\nheight=8\nchannels=3\ndialect=alexeyab\n"
                                    f"[convolutional]\nsize=3\npad=1\nfilters=7\nactivation=linear\n{head}")
    said = {}
    for words in ([], [str(tmp_path / "a.cfg"), "--device", DEVICE], [str(tmp_path / "a.cfg"), "--device", DEVICE, "--no-graph"]):
        assert cli.main(["info", *words]) == 0
        said[len(words)] = re.findall("^(graphs: .*)$", capsys.readouterr().out, re.MULTILINE)
    assert said[0] == [] and said[4] == ["graphs: turned off"] and len(said[3]) == 2
    why = r"layer 1 \[yolo\]: the host looks at values of the device"
    assert re.fullmatch(rf"graphs: training forward: .* of \d+ kernels; {why}", said[3][0])
    assert re.fullmatch(r"graphs: backward and update: one graph of \d+ kernels", said[3][1])


@pytest.mark.parametrize("options", ["--device emulated", "--device gpu:1 --json", "--no-graph"])
def test_info_wants_a_network_for_a_device(options, capsys):
    assert cli.main(["info", *options.split()]) == 2
    said = capsys.readouterr()
    option = options.removesuffix(" --json")
    assert said.out == "" and said.err == f"darknetpy: error: {option} without CFG: wanted a network to run there\n"


def test_info_builds_no_network_for_the_cpu(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("darknetpy.cli.info.load_network", None)
    (tmp_path / "a.cfg").write_text("[net]\ninputs=4\n[connected]\noutput=3\n[softmax]\n")
    assert cli.main(["info", str(tmp_path / "a.cfg")]) == 0
    assert capsys.readouterr().out.endswith("\ngraphs: none on the CPU\n")
    (tmp_path / "a.cfg").write_text("[net]\ninputs=4\n[conected]\noutput=3\n")
    assert cli.main(["info", str(tmp_path / "a.cfg")]) == 2 and "conected" in capsys.readouterr().err


def test_the_cpu_has_none():
    net = build(["connected output=3", "softmax"], (4,), 2)
    assert net.graph and not net.graphs
