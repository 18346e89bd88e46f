"""Inputs and truths on their way to a device (csrc/staging.c, cuda/staging.cu).  The emulator copies as late as it may: who reads a lane
without waiting, or writes to one too soon, reads something else.
"""

from __future__ import annotations

import json

import numpy as np
import pytest
from cuda_calls import DEVICE, library
from test_cli import TINY
from test_graph import CLASSES, IMAGES, assert_same_bits, network

from darknetpy import cli
from darknetpy.classifier_training import ClassifierTrainer
from darknetpy.data.loader import Loader
from darknetpy.errors import ArgumentError, DataError, OutOfMemory
from darknetpy.memory_summary import memory_text, memory_totals
from darknetpy.network import Network


@pytest.fixture(scope="module", autouse=True)
def _built():
    library()


def batches(net, count, labels=True):
    r = np.random.default_rng(3)
    for _ in range(count):
        x = r.standard_normal((net.batch, net.inputs)).astype(np.float32)
        truth = r.integers(0, net.truths, net.batch)
        yield x, truth if labels else np.eye(net.truths, dtype=np.float32)[truth]


def pair():
    return [network(*IMAGES, *CLASSES, options="learning_rate=.1") for _ in range(2)]


@pytest.mark.parametrize("labels", [True, False])
def test_what_is_announced_is_what_is_trained_on(labels):
    plain, ahead = pair()
    for net in (plain, ahead):
        found, given = [], list(batches(net, 6, labels))
        for i, (x, truth) in enumerate(given):
            found.append(net.train_batch(x, truth))
            if net is ahead and i < 5:
                net.stage(*given[i + 1])
        if net is plain:
            wanted = found
    assert found == wanted and len(set(found)) == 6
    assert_same_bits(plain, ahead)


def test_an_announced_mini_batch_is_not_copied_again():
    plain, ahead = pair()
    (x, truth), = batches(plain, 1)
    wanted = plain.train_batch(x, truth)
    ahead.stage(x, truth)
    x[...] = 0
    assert ahead.train_batch(x, truth) == wanted
    assert ahead.forward(x, truth) == plain.forward(x, truth)       # an announcement holds for one pass


def test_other_passes_in_between():
    plain, ahead = pair()
    (x, truth), (other, _), (third, labels) = batches(plain, 3)
    wanted = [plain.train_batch(x, truth), *(plain.predict(a) for a in (other, x, other)), plain.train_batch(third, labels)]
    found = [ahead.train_batch(x, truth)]
    ahead.stage(third, labels)
    found += [ahead.predict(a) for a in (other, x, other)]
    found.append(ahead.train_batch(third, labels))
    for one, two in zip(wanted, found):
        np.testing.assert_array_equal(one, two)
    assert_same_bits(plain, ahead)


def test_arrays_that_change_between_passes():
    plain, net = pair()
    x, truth = np.zeros((3, 72), np.float32), np.zeros(3, int)
    for values, labels in batches(net, 5):
        x[...], truth[...] = values, labels
        assert net.train_batch(x, truth) == plain.train_batch(values.copy(), labels.copy())
    assert_same_bits(plain, net)


@pytest.mark.parametrize("views", [False, True])
def test_labels_may_change_once_a_pass_has_read_them(views):
    plain, ahead = pair()
    labels = np.zeros(3, int)
    for i, (x, truth) in enumerate(batches(ahead, 6)):
        labels[:] = truth
        if i in (0, 3):
            ahead.stage(x, labels)
        assert ahead.train_batch(x[:] if views else x, labels) == plain.train_batch(x, truth)
    assert_same_bits(plain, ahead)


def test_labels_that_are_announced_again():
    plain, ahead = pair()
    (x, truth), (_, others) = batches(plain, 2)
    labels = truth.copy()
    ahead.stage(x, labels)
    labels[:] = others
    ahead.stage(x, labels)
    assert (truth != others).any() and ahead.train_batch(x, labels) == plain.train_batch(x, others)


@pytest.mark.parametrize("device", ["cpu", DEVICE])
def test_nothing_is_not_announced(device):
    net = Network(2, c=3, device=device)
    with pytest.raises(ArgumentError, match="^stage needs an input$"):
        net.stage(None)


def test_a_later_announcement_and_a_resize_replace_one():
    plain, net = (network("convolutional filters=5 size=3 pad=1", "avgpool", "softmax") for _ in range(2))
    (x, truth), (other, labels) = batches(plain, 2)
    net.stage(x, truth)
    net.stage(other, labels)
    assert net.train_batch(x, truth) == plain.train_batch(x, truth)
    assert net.train_batch(other, labels) == plain.train_batch(other, labels)
    net.stage(x, truth)
    for each in (plain, net):
        each.resize(9, 9)
    (x, truth), = batches(net, 1)
    assert net.train_batch(x, truth) == plain.train_batch(x, truth)
    assert_same_bits(plain, net)


def test_the_lanes_are_counted():
    net = network(*IMAGES, *CLASSES)
    totals = memory_totals(net)
    assert totals["staged"] == 2 * 4 * 3 * (72 + 5)
    assert totals["peak"] == totals["own"] + totals["arena"] + totals["workspace"] + totals["staged"]
    assert " of inputs and truths: " in memory_text(net)


# ---- the training loop
def run(tmp_path, monkeypatch, capsys, *options):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiny.cfg").write_text(TINY.format(max_batches=6, outputs=10))
    words = ["classifier", "train", "fashion-mnist:", "tiny.cfg", "--no-plot", "--json", "--device", DEVICE, *options]
    status = cli.main(words)
    printed = capsys.readouterr()
    return status, json.loads(printed.out) if printed.out else printed.err


def test_the_loop_announces_each_mini_batch_but_the_first(tmp_path, monkeypatch, capsys):
    announced, trained = [], []
    stage, train_batch = Network.stage, Network.train_batch
    monkeypatch.setattr(Network, "stage", lambda net, x, truth: announced.append((x, truth)))
    _, wanted = run(tmp_path, monkeypatch, capsys)
    announced.clear()

    def staged(net, x, truth):
        announced.append((x, truth))
        stage(net, x, truth)

    def trains(net, x, truth):
        trained.append((x, truth))
        return train_batch(net, x, truth)

    monkeypatch.setattr(Network, "stage", staged)
    monkeypatch.setattr(Network, "train_batch", trains)
    status, found = run(tmp_path, monkeypatch, capsys)
    assert status == 0 and found["loss"] == wanted["loss"] and len(trained) >= 6
    assert [(id(x), id(truth)) for x, truth in announced] == [(id(x), id(truth)) for x, truth in trained[1:]]


@pytest.mark.parametrize("where, what, wrong", [
    (Loader, "__next__", DataError("a.png: broken")),
    (ClassifierTrainer, "truth", ArgumentError("truth: broken")),
    (Network, "stage", OutOfMemory("an input: no memory")),
], ids=["image", "truth", "memory"])
def test_what_is_wrong_with_the_next_mini_batch_is_said_in_its_turn(where, what, wrong, tmp_path, monkeypatch, capsys):
    """The third is the next one when the first update, of two, is made and goes into the record."""
    third, calls, works = 3 - (what == "stage"), [], getattr(where, what)        # the first mini-batch is not announced

    def fails(*arguments):
        calls.append(1)
        if len(calls) == third:
            raise wrong
        return works(*arguments)

    monkeypatch.setattr(where, what, fails)
    status, said = run(tmp_path, monkeypatch, capsys)
    (record,) = tmp_path.rglob("*.csv")
    assert status == 1 and str(wrong) in said
    assert [row.split(",")[0] for row in record.read_text().splitlines()] == ["iteration", "1"]
