"""[net] ema_alpha: moving averages of the parameters in the second half of training; label_smooth_eps."""

from __future__ import annotations

import numpy as np
import pytest
from gradcheck import cfg_text

import darknetpy as dn
from darknetpy.classifier_training import ClassifierTrainer as Trainer
from darknetpy.data import open_data
from darknetpy.data.loader import Batch
from darknetpy.errors import ArgumentError, CfgError
from darknetpy.training import TrainingOptions

LAYERS = [
    "convolutional filters=4 size=3 activation=leaky batch_normalize=1 dont_update=6",
    "connected output=5 activation=linear",
    "softmax",
]
SHAPE, BATCH, LAST = (2, 6, 6), 4, 8
ALPHA = .7


@pytest.fixture
def make(tmp_path):
    def made(net=f"ema_alpha={ALPHA}", layers=LAYERS, batch=BATCH):
        path = tmp_path / "net.cfg"
        path.write_text(cfg_text(layers, SHAPE, batch, f"learning_rate=.1\nmax_batches={LAST}\n{net}"))
        return dn.load_network(path, train=True)
    return made


def data():
    rng = np.random.default_rng(0)
    return rng.standard_normal((LAST, BATCH, *SHAPE)).astype(np.float32), rng.integers(0, 5, (LAST, BATCH))


def train(net, first=0, last=LAST):
    """Yield the parameters after each update."""
    x, labels = data()
    for i in range(first, last):
        net.train_batch(x[i], labels[i])
        yield {(layer.index, name): array.copy() for layer in net.layers for name, array in layer.arrays("parameter").items()}


def test_averages_begin_as_a_copy_half_way_and_then_move(make):
    net, wanted = make(), None
    for iteration, values in enumerate(train(net), 1):
        if iteration >= LAST / 2:
            wanted = values if wanted is None else {key: ALPHA * wanted[key] + (1 - ALPHA) * values[key] for key in values}
        assert net.option("averages") == max(0, iteration - LAST // 2 + 1)
    for (index, name), array in wanted.items():
        np.testing.assert_allclose(getattr(net.layers[index], f"{name}_ema"), array, rtol=1e-5, atol=1e-7, err_msg=name)
    assert np.abs(wanted[1, "weights"] - net.layers[1].weights).max() > 1e-3
    assert wanted[0, "weights"].any(), "a layer that does not learn has its average too"


RECURRENT = ["convolutional filters=2 size=3 pad=1 activation=tanh", "conv_lstm output=2 pad=1 peephole=1 batch_normalize=1",
             "lstm output=3", "connected output=5 activation=linear", "softmax"]


def test_parts_of_recurrent_layers_are_averaged(make, tmp_path):
    """Half way, in files in their order, and on from a checkpoint."""
    net = make(f"ema_alpha={ALPHA}\ntime_steps=2", RECURRENT, BATCH // 2)
    values = list(train(net))
    wanted = values[LAST // 2 - 1]
    for later in values[LAST // 2:]:
        wanted = {key: ALPHA * wanted[key] + (1 - ALPHA) * later[key] for key in later}
    moments = {(layer.index, name): array for layer in net.layers for name, array in layer.arrays("moment").items()}
    assert {name for index, name in moments if index == 2} >= {"uf.weights_ema", "wo.biases_ema"}
    for (index, name), array in wanted.items():
        np.testing.assert_allclose(moments[index, f"{name}_ema"], array, rtol=1e-5, atol=1e-7, err_msg=name)
    net.save_weights(tmp_path / "ema", averaged=True)
    other = make("time_steps=2", RECURRENT, BATCH // 2)
    other.load_weights(tmp_path / "ema")
    for layer in other.layers:
        for name, array in layer.arrays("parameter").items():
            np.testing.assert_array_equal(array, moments[layer.index, f"{name}_ema"], err_msg=name)
    net.save_checkpoint(tmp_path / "c")
    np.testing.assert_array_equal(dn.load_checkpoint(tmp_path / "c").layers[1].wf.weights_ema, net.layers[1].wf.weights_ema)


def test_files(make, tmp_path):
    net = make()
    assert list(train(net))
    net.save_weights(tmp_path / "ema", averaged=True)
    net.save_weights(tmp_path / "now")
    other = make()
    other.load_weights(tmp_path / "ema")
    np.testing.assert_array_equal(other.layers[1].weights, net.layers[1].weights_ema)
    np.testing.assert_array_equal(other.layers[0].rolling_mean, net.layers[0].rolling_mean)
    assert (tmp_path / "ema").read_bytes() != (tmp_path / "now").read_bytes()


@pytest.mark.parametrize("stop", [2, 6])
def test_resuming_is_exact(make, tmp_path, stop):
    whole, first = make(), make()
    assert list(train(whole)) and list(train(first, 0, stop))
    first.save_checkpoint(tmp_path / "c")
    second = dn.load_checkpoint(tmp_path / "c")
    assert list(train(second, stop))
    for index, name in ((0, "weights_ema"), (1, "biases_ema")):
        assert getattr(second.layers[index], name).tobytes() == getattr(whole.layers[index], name).tobytes()


def test_averages_that_were_asked_for_later(make, tmp_path):
    net = make("")
    net.set_option("ema_alpha", .5)
    assert list(train(net, 0, 5)) and net.option("averages") == 2
    net.save_checkpoint(tmp_path / "c")
    again = dn.load_checkpoint(tmp_path / "c")
    assert again.option("averages") == 2
    np.testing.assert_array_equal(again.layers[1].weights_ema, net.layers[1].weights_ema)


def test_without_averages(make, tmp_path):
    net = make("")
    assert list(train(net)) and not net.layers[0].arrays("moment")
    for none_yet in (net, make()):
        with pytest.raises(ArgumentError, match="there are no averages of the parameters"):
            none_yet.save_weights(tmp_path / "w", averaged=True)


# ---- the trainer
def trainer(folder, options, layers="connected output=10 activation=linear\nsoftmax"):
    path = folder / "t.cfg"
    path.write_text(cfg_text(layers.split("\n"), (1, 28, 28), 8, options))
    net = dn.load_network(path, train=True)
    return Trainer(net, open_data("fashion-mnist:"), TrainingOptions(folder=str(folder / "out"), plot=False))


def test_the_trainer_saves_averages(tmp_path):
    (tmp_path / "out").mkdir()
    made = trainer(tmp_path, "max_batches=4\nema_alpha=.9\nlearning_rate=.01")
    result = made.run()
    assert any(path.endswith("network_ema.weights") for path in result.files)
    assert np.fromfile(tmp_path / "out/network_ema.weights", "<f4", offset=20).size == 7850


def test_label_smoothing(tmp_path):
    (tmp_path / "out").mkdir()
    made = trainer(tmp_path, "max_batches=4\nlabel_smooth_eps=.1")
    truth = made.truth(Batch(None, np.eye(10, dtype=np.float32)[[3, 7]], None, None))
    np.testing.assert_allclose(truth.sum(axis=1), 1, rtol=1e-6)
    np.testing.assert_allclose([truth[0, 3], truth[0, 0]], [.9, .1 / 9], rtol=1e-6)
    plain = trainer(tmp_path, "max_batches=4")
    assert made.run().loss != plain.run().loss
    with pytest.raises(CfgError, match="label_smooth_eps= spreads"):
        made.source.train.tree = object()
        made._label_smoothing()
