"""The trainer and its parts: accuracy, log, progress, chart, signals, resume on the level of Python."""
from __future__ import annotations

import io
import os
import signal

import numpy as np
import pytest
from PIL import Image

from darknetpy import checkpoint, classifier_training, evaluation
from darknetpy.builder import build_network
from darknetpy.cfg import parse_cfg_text
from darknetpy.classifier_training import ClassifierTrainer
from darknetpy.data import Tree, open_data
from darknetpy.errors import ArgumentError, CfgError, DarknetError, DataError, WeightsError
from darknetpy.evaluation import Accuracy, best_count, evaluate, leaf_probabilities, ranks
from darknetpy.plots import plot_training
from darknetpy.progress import LiveProgress, PlainProgress, clock, make_progress, step_line
from darknetpy.sections import resolve
from darknetpy.signals import Interrupted, StopSignals
from darknetpy.training import TrainingOptions
from darknetpy.training_log import Record, TrainingLog

CFG = """[net]
batch=12
subdivisions=3
width=8
height=8
channels=1
max_crop=10
learning_rate=.05
max_batches={max_batches}
{net}
[convolutional]
batch_normalize=1
filters=3
size=3
pad=1
activation=leaky

[dropout]
probability=.3

[connected]
output=4
activation=linear

[softmax]
"""


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """DATA: 50 + 30 images of 8x8 in 4 classes, told apart by the bright quarter."""
    path = tmp_path_factory.mktemp("data") / "quarters.npz"
    rng, arrays = np.random.default_rng(1), {}
    for split, count in (("train", 50), ("test", 30)):
        labels = np.arange(count) % 4
        images = rng.integers(0, 90, (count, 8, 8))
        for image, label in zip(images, labels):
            image[4 * (label // 2):4 * (label // 2) + 4, 4 * (label % 2):4 * (label % 2) + 4] += 120
        arrays.update({f"x_{split}": images.astype(np.uint8), f"y_{split}": labels})
    np.savez(path, **arrays)
    return str(path)


def make_net(max_batches=10, net="", text=CFG):
    return build_network(resolve(parse_cfg_text(text.format(max_batches=max_batches, net=net))), train=True)


def make_trainer(data, folder, max_batches=10, net="", text=CFG, **options):
    options = {"folder": str(folder), "valid_every": 4, "plot": False, **options}
    return ClassifierTrainer(make_net(max_batches, net, text), open_data(data), TrainingOptions(**options))


def test_biases_that_no_weights_file_could_hold(data, tmp_path):
    text = CFG.replace("[dropout]", "[batchnorm]\n\n[dropout]")
    with pytest.raises(CfgError, match=r"\[batchnorm\] its biases are learned.* wanted dialect=alexeyab"):
        make_trainer(data, tmp_path, text=text)
    for fixed in (text.replace("{net}", "dialect=alexeyab"), text.replace("[batchnorm]", "[batchnorm]\nlearning_rate=0")):
        trainer = make_trainer(data, tmp_path, max_batches=2, text=fixed)
        assert trainer.run().finished and trainer.net["batchnorm_1"].biases.any() == (trainer.net.dialect == "alexeyab")


def losses(folder, name="network"):
    return [line.split(",")[2] for line in (folder / f"{name}.csv").read_text().splitlines()[1:]]


# ---- accuracy
def test_ranks_count_better_classes_and_ties_by_number():
    found = np.array([[.1, .6, .3], [.4, .4, .2], [.4, .4, .2], [.2, .2, .6], [.9, .1, 0]], np.float32)
    assert ranks(found, np.array([1, 0, 1, 1, -1])).tolist() == [0, 0, 1, 2, 3]


def test_leaf_probabilities_multiply_along_the_path():
    tree = Tree(["animal", "thing", "cat", "dog"], np.array([-1, -1, 0, 0], np.int32), np.array([0, 2]), np.array([2, 2]))
    found = leaf_probabilities(np.array([[.8, .2, .25, .75]]), tree)
    np.testing.assert_allclose(found, [[0, .2, .2, .6]])


def test_evaluate_counts_every_image_once_and_leaves_training_alone(data):
    net, source = make_net(), open_data(data)
    x = np.random.default_rng(0).random((4, 64), np.float32)
    net.train_batch(x, np.eye(4, dtype=np.float32))
    before = [array.copy() for layer in net.layers for array in layer.arrays("parameter", "statistic", "update").values()]
    accuracy = evaluate(net, source.valid, top=2)
    after = [array for layer in net.layers for array in layer.arrays("parameter", "statistic", "update").values()]
    assert accuracy.images == 30 and accuracy.k == 2 and 0 <= accuracy.top1 <= accuracy.topk <= 1
    assert all(np.array_equal(a, b) for a, b in zip(before, after)) and net.seen == 4 and net.train
    found = net.predict(source.valid.arrays.pixels.reshape(30, 64).astype(np.float32) / 255).reshape(30, 4)
    assert accuracy.top1 == np.mean(found.argmax(1) == source.valid.arrays.labels)


def test_evaluate_stops_when_asked_and_refuses_nan(data):
    net, source = make_net(), open_data(data)
    assert evaluate(net, source.valid, top=1, should_stop=lambda: True) is None
    net.layers[2].weights[:] = np.nan
    with pytest.raises(DarknetError, match="output is not finite"):
        evaluate(net, source.valid, top=1)


def test_accuracy_in_words():
    assert Accuracy(.881, .996, 5, 1000, {}).text() == "top-1 88.10 %, top-5 99.60 % of 1,000 images"
    assert Accuracy(.5, .5, 1, 2, {7: "x.list:8: broken"}).text() == "top-1 50.00 % of 2 images (1 skipped)"


def test_best_count(data):
    source = open_data(data)
    assert best_count(source) == 4 and best_count(source, 2) == 2
    with pytest.raises(ArgumentError, match="1 to 4"):
        best_count(source, 5)


# ---- log and chart
def _record(iteration, **values):
    return Record(iteration, iteration / 10, 1 / 3 + iteration, 1.5, .1, 100.0)._replace(**values)


def test_log_keeps_rows_up_to_the_iteration_it_goes_on_from(tmp_path):
    path = tmp_path / "x.csv"
    with TrainingLog(path) as log:
        for i in range(1, 6):
            log.add(_record(i, top1=.5, topk=.75) if i == 2 else _record(i))
    with TrainingLog(path, until=3) as log:
        assert [r.iteration for r in log.records] == [1, 2, 3]
        assert log.records[1].loss == 1 / 3 + 2 and log.records[1].top1 == .5 and log.records[0].top1 is None
        log.add(_record(4))
    assert [line.split(",")[0] for line in path.read_text().splitlines()] == ["iteration", "1", "2", "3", "4"]
    with TrainingLog(path):
        pass
    assert len(path.read_text().splitlines()) == 1          # a new run


@pytest.mark.parametrize("text", ["", "what,ever\n1,2\n", "iteration,epoch,loss,average,rate,images_per_second,top1,topk\n1,.1,x\n"])
def test_log_of_a_damaged_file_starts_anew(text, tmp_path):
    (tmp_path / "x.csv").write_text(text)
    with TrainingLog(tmp_path / "x.csv", until=5) as log:
        assert log.records == []


def test_chart_of_few_and_many_records(tmp_path):
    pytest.importorskip("matplotlib")
    for records in ([_record(1)], [_record(i, top1=.5) for i in range(1, 5000)]):
        plot_training(records, tmp_path / "x.png", "title")
        assert Image.open(tmp_path / "x.png").size == (990, 880)


# ---- progress
def test_plain_lines(capsys):
    progress = make_progress()
    assert type(progress) is PlainProgress
    progress.begin(0, 100)
    for i in range(1, 5):
        progress.step(_record(i), 64 * i, 3661)
    progress.validated(4, Accuracy(.5, .9, 5, 10, {}), True)
    progress.end()
    lines = capsys.readouterr().out.splitlines()
    assert lines == [step_line(_record(1), 64, 3661), step_line(_record(4), 256, 3661),
                     "4: validation top-1 50.00 %, top-5 90.00 % of 10 images, the best so far"]
    assert lines[0] == "1, 0.100: 1.333333, 1.500000 avg, 0.1 rate, 100 images/s, 64 images, ETA 1:01:01"


def test_live_line_shows_all_figures():
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    stream = Terminal()
    progress = make_progress(stream)
    assert type(progress) is LiveProgress
    progress.begin(0, 9)
    progress.step(_record(3), 192, 75)
    progress.note("a [note]")
    progress.end()
    text = stream.getvalue()
    assert "a [note]" in text
    for figure in ("3 epoch 0.30", "loss 3.333", "avg 1.500", "rate 0.1", "100 img/s", "ETA 0:01:15"):
        assert figure in text


def test_progress_goes_on_without_a_reader():
    class ClosedPipe(io.StringIO):
        def flush(self):
            raise BrokenPipeError

    stream = ClosedPipe()
    progress = PlainProgress(stream)
    progress.note("first")
    progress.note("second")
    assert stream.getvalue() == "first\n"


def test_clock():
    assert [clock(s) for s in (0, 59.6, 3600, 360000)] == ["0:00:00", "0:01:00", "1:00:00", "100:00:00"]


# ---- signals
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_first_signal_asks_second_stops(number, capfd):
    before = signal.getsignal(number)
    with pytest.raises(Interrupted) as stopped:
        with StopSignals() as stop:
            assert not stop()
            os.kill(os.getpid(), number)
            assert stop() and stop.number == number
            os.kill(os.getpid(), number)
            pytest.fail("the second signal did not stop")
    assert stopped.value.number == number and signal.getsignal(number) is before
    assert "once more stops at once" in capfd.readouterr().err


# ---- the trainer
def test_it_learns(data, tmp_path):
    result = make_trainer(data, tmp_path, max_batches=120, valid_every=40, net="flip=0").run()     # left and right tell classes apart
    assert result.finished and result.iteration == 120 and result.epoch == 120 * 12 / 50
    assert result.accuracy.top1 > .9 and result.best >= result.accuracy.top1
    assert result.average < .6 and result.skipped == {}


@pytest.mark.parametrize("net", ["", "adam=1", "policy=steps\nsteps=3,6\nscales=.5,.1", "max_gradient=.1"])
def test_resume_is_exact(net, data, tmp_path):
    make_trainer(data, tmp_path / "one", net=net).run()
    make_trainer(data, tmp_path / "two", net=net).run(stop_at=3)
    trainer = make_trainer(data, tmp_path / "two", net=net, workers=3)
    trainer.resume(tmp_path / "two/network.checkpoint")
    trainer.run()
    assert len(losses(tmp_path / "one")) == 10 and losses(tmp_path / "one") == losses(tmp_path / "two")
    for name in ("network_final.weights", "network_best.weights", "network.checkpoint"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes(), name


def test_resume_may_go_further_unless_the_rate_depends_on_the_end(data, tmp_path):
    make_trainer(data, tmp_path / "one").run()
    make_trainer(data, tmp_path / "two", max_batches=5).run()
    trainer = make_trainer(data, tmp_path / "two")
    trainer.resume(tmp_path / "two/network.checkpoint")
    trainer.run()
    assert losses(tmp_path / "one") == losses(tmp_path / "two")
    make_trainer(data, tmp_path / "poly", max_batches=5, net="policy=poly").run()
    with pytest.raises(WeightsError, match="max_batches=5, but the network has max_batches=10.*poly"):
        make_trainer(data, tmp_path / "poly", net="policy=poly").resume(tmp_path / "poly/network.checkpoint")


def test_resume_refuses_a_checkpoint_of_somebody_else(data, tmp_path):
    net = make_net()
    for extra in (None, {"data": {}}, {"data": {"train": "x", "valid": "y"}, "data_name": 3}):
        checkpoint.save_checkpoint(net, tmp_path / "x.checkpoint", extra)
        with pytest.raises(WeightsError, match="not written by `classifier train`"):
            make_trainer(data, tmp_path).resume(tmp_path / "x.checkpoint")


def test_best_is_kept_when_later_ones_are_worse(data, tmp_path, monkeypatch):
    shares = iter([.5, .75, .75, .25])
    monkeypatch.setattr(classifier_training, "evaluate", lambda *a, **k: Accuracy(next(shares), 1.0, 4, 30, {}))
    trainer = make_trainer(data, tmp_path, valid_every=3)
    result = trainer.run()
    assert (result.best, result.best_iteration, result.accuracy.top1) == (.75, 6, .25)
    assert (tmp_path / "network_best.weights").read_bytes() != (tmp_path / "network_final.weights").read_bytes()


def test_default_validation_is_once_an_epoch_and_at_the_end(data, tmp_path):
    make_trainer(data, tmp_path, max_batches=11, valid_every=None).run()
    rows = [line.split(",") for line in (tmp_path / "network.csv").read_text().splitlines()[1:]]
    assert [int(row[0]) for row in rows if row[6]] == [5, 10, 11]       # 50 images, 12 per update


def test_log_every(data, tmp_path):
    make_trainer(data, tmp_path, log_every=3, valid_every=100).run()
    rows = (tmp_path / "network.csv").read_text().splitlines()[1:]
    assert [int(row.split(",")[0]) for row in rows] == [3, 6, 9, 10]


def test_stop_before_the_first_update_saves_nothing(data, tmp_path):
    (tmp_path / "network.backup").write_bytes(b"what was there")
    result = make_trainer(data, tmp_path).run(should_stop=lambda: True)
    assert result.iteration == 0 and not result.finished and (tmp_path / "network.backup").read_bytes() == b"what was there"


def test_ruined_weights_are_not_saved(data, tmp_path):
    trainer = make_trainer(data, tmp_path)
    trainer.run(stop_at=4)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.suffix != ".csv"}
    trainer.net.layers[0].rolling_variance[1] = np.inf
    with pytest.raises(DarknetError, match=r"layer 0 \[convolutional\] rolling_variance is not finite after iteration 8"):
        trainer.run()
    assert before == {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.suffix != ".csv"}


def test_ruined_weights_are_not_saved_at_a_stop_either(data, tmp_path):
    trainer = make_trainer(data, tmp_path, valid_every=100)
    trainer.net.layers[0].rolling_variance[1] = np.inf
    with pytest.raises(DarknetError, match="rolling_variance is not finite after iteration 2; nothing was saved"):
        trainer.run(stop_at=2)
    assert os.listdir(tmp_path) == ["network.csv"]


def test_no_validation_images(data, tmp_path):
    with np.load(data) as arrays:
        np.savez(tmp_path / "train.npz", x=arrays["x_train"], y=arrays["y_train"])
    result = make_trainer(str(tmp_path / "train.npz"), tmp_path / "saved").run()
    assert result.accuracy is None and result.best is None and result.finished
    assert not (tmp_path / "saved/network_best.weights").exists()


@pytest.mark.parametrize("text, error, message", [
    (CFG.replace("output=4", "output=5"), DataError, "4 classes, but .* 5 outputs"),
    (CFG.replace("[softmax]\n", ""), ArgumentError, "no loss layer"),
    (CFG.replace("max_batches={max_batches}\n", ""), CfgError, "max_batches"),
    (CFG.replace("channels=1", "channels=2"), CfgError, "channels"),
])
def test_what_cannot_be_trained_is_refused_before_the_first_update(text, error, message, data, tmp_path):
    with pytest.raises(error, match=message):
        make_trainer(data, tmp_path / "saved", text=text)
    assert not (tmp_path / "saved").exists()


def test_weights_that_are_done_need_clear(data, tmp_path):
    make_trainer(data, tmp_path).run()
    trainer = make_trainer(data, tmp_path)
    with pytest.raises(WeightsError, match="-clear"):
        trainer.load_weights(tmp_path / "network.backup")
    trainer = make_trainer(data, tmp_path)
    trainer.load_weights(tmp_path / "network.backup", clear=True)
    assert trainer.net.iteration == 0
    trainer = make_trainer(data, tmp_path, max_batches=11)
    trainer.load_weights(tmp_path / "network.backup")
    assert trainer.net.iteration == 10 and trainer.run().iteration == 11


def test_scores_with_a_tree_come_from_leaves(data):
    net = make_net()
    tree = Tree(["a", "b", "c", "d"], np.array([-1, -1, 0, 0], np.int32), np.array([0, 2]), np.array([2, 2]))
    x = np.random.default_rng(3).random((5, 64), np.float32)
    found = evaluation.scores(net, x, tree)
    assert found.shape == (5, 4) and not found[:, 0].any()
