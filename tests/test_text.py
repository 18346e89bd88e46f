"""Networks of text: what they read, learn, foretell and write; exact resume; the commands end to end."""

from __future__ import annotations

import hashlib
import json
import shlex
import signal
from collections import Counter

import numpy as np
import pytest
from PIL import Image
from test_cli import check_signal, one_line, run

from darknetpy.builder import build_network
from darknetpy.cfg import parse_cfg_text
from darknetpy.data import Text, TextSource, read_text
from darknetpy.data.text import EMBEDDED_TEXT
from darknetpy.errors import ArgumentError, CfgError, DarknetError, DataError, WeightsError
from darknetpy.plots import plot_training
from darknetpy.sections import resolve
from darknetpy.text import TextMeasure, _choose, generate, measure
from darknetpy.text_training import TextTrainer
from darknetpy.training import TrainingOptions
from darknetpy.training_log import TextRecord

CFG = """[net]
inputs={inputs}
batch=8
subdivisions=2
{net}
adam=1
learning_rate=.02
max_batches={max_batches}
[{kind}]
output=24
{layer}
[connected]
output={inputs}
activation=linear
[softmax]
"""
SENTENCE = b"the quick brown fox jumps over the lazy dog; " * 40
LAYERS = {"rnn": "hidden=24\nactivation=tanh", "gru": "", "lstm": ""}


def cfg(kind="lstm", max_batches=10, inputs=256, net="time_steps=6"):
    return CFG.format(kind=kind, layer=LAYERS[kind], max_batches=max_batches, inputs=inputs, net=net)


def make_net(*arguments, train=True, batch=None, **options):
    return build_network(resolve(parse_cfg_text(cfg(*arguments, **options))), batch, train=train)


def make_trainer(folder, kind="lstm", max_batches=10, text=SENTENCE, net="time_steps=6", **options):
    options = {"folder": str(folder), "plot": False, **options}
    source = TextSource("dogs", Text("dogs", text))
    return TextTrainer(make_net(kind, max_batches, net=net), source, TrainingOptions(**options))


def table(folder, name="network"):
    names, *rows = [line.split(",") for line in (folder / f"{name}.csv").read_text().splitlines()]
    return {name: [row[i] for row in rows] for i, name in enumerate(names)}


# ---- the text
def test_embedded_text_is_the_one_its_licence_describes():
    text = read_text("text:")
    assert text.characters.tobytes().startswith(b"ADVENTURE I. A SCANDAL IN BOHEMIA\n")
    notes = (EMBEDDED_TEXT.parent.parent / "LICENSE.text").read_text()
    assert EMBEDDED_TEXT.name in notes and "public domain" in " ".join(notes.split())
    assert hashlib.sha256(text.characters).hexdigest() in notes


def test_sequences_read_on_and_begin_again():
    text = Text("alphabet", b"abcdefghij")

    def read(place):
        x, truth = text.batch(place, 3, 2)
        assert x.shape == (6, 256) and x.sum() == 6 and x.dtype == np.float32
        return bytes(x.argmax(1).astype(np.uint8)), bytes(truth.astype(np.uint8))

    assert read(0) == (b"afbgch", b"bgchdi")  # two sequences, time-major: abc and fgh
    assert read(3) == (b"diejfa", b"ejfagb")  # def and ija
    assert read(300) == read(0)


def test_a_tenth_is_held_out():
    source = TextSource("t", Text("t", bytes(range(100))))
    assert source.train.characters.tolist() == list(range(90))
    assert source.valid.characters.tolist() == list(range(90, 100)) and not source.notes
    own = TextSource("t", Text("t", b"abc"), Text("v", b"de"))
    assert (len(own.train), own.valid.name) == (3, "v")
    short = TextSource("t", Text("t", b"0123456789" + b"abcdefghi"))
    assert short.valid is None and len(short.train) == 19 and "too short" in short.notes[0]


@pytest.mark.parametrize("content, what", [(b"", "empty"), (b"a", "1 characters")])
def test_a_text_of_less_than_two_characters_is_refused(content, what, tmp_path):
    (tmp_path / "t.txt").write_bytes(content)
    with pytest.raises(DataError, match=f"t.txt: {what}: wanted 2 to"):
        read_text(tmp_path / "t.txt")


# ---- measuring
def in_turn(net, characters):
    """The bits of each character but the first, one at a time, with `net` of one row."""
    net.reset_state()
    bits = []
    for now, after in zip(characters, characters[1:]):
        x = np.zeros((1, 256), np.float32)
        x[0, now] = 1
        bits.append(-np.log2(float(net.predict(x)[0, after])))
    return bits


def write_weights(folder, **options):
    net = make_net(**options)
    net.save_weights(folder / "w.weights")
    return net, str(folder / "w.weights")


@pytest.mark.parametrize("length", [2, 5, 24, 100])
def test_every_character_is_measured_once(length, tmp_path):
    """Four sequences of six time steps, against one character at a time over each share."""
    net, weights = write_weights(tmp_path)
    text = SENTENCE[:length]
    single = make_net(net="time_steps=1", train=False)
    single.load_weights(weights)
    share = -(-(length - 1) // 4)
    bits = [b for at in range(0, length - 1, share) for b in in_turn(single, text[at : at + share + 1])]
    net.layers[0].state[:] = 1  # of the training, which the text does not go on from
    found = measure(net, Text("t", text))
    assert found.characters == len(bits) == length - 1
    assert found.bits == pytest.approx(np.mean(bits), rel=1e-5)


def test_measuring_leaves_training_alone(tmp_path):
    one, two = make_trainer(tmp_path / "one", valid_every=2), make_trainer(tmp_path / "two", valid_every=10)
    one.run(), two.run()
    assert table(tmp_path / "one")["loss"] == table(tmp_path / "two")["loss"]
    assert np.abs(one.net.layers[0].state).max() > 0
    np.testing.assert_array_equal(one.net.layers[0].state, two.net.layers[0].state)


def test_a_measure_in_words():
    found = TextMeasure(2.0, 13382)
    assert found.text() == "2.000 bits per character (perplexity 4.00) of 13,382 characters"


# ---- training
@pytest.mark.parametrize("kind", sorted(LAYERS))
def test_it_learns(kind, tmp_path):
    result = make_trainer(tmp_path, kind, 300, net="time_steps=12", save_every=1000).run()
    columns = table(tmp_path)
    bits = [float(value) for value in columns["bits"]]
    assert bits[0] > 7 and np.mean(bits[-10:]) < 0.5
    assert result.finished and result.best < 1 and result.accuracy.characters == len(SENTENCE) // 10 - 1
    nats = np.array(columns["loss"], float)
    np.testing.assert_allclose(nats / np.log(2), bits, rtol=1e-4, atol=1e-4)


def test_the_best_is_the_lowest(tmp_path, monkeypatch):
    measured = iter([3.0, 2.0, 2.5])
    monkeypatch.setattr("darknetpy.text_training.measure", lambda *_: TextMeasure(next(measured), 9))
    result = make_trainer(tmp_path, max_batches=6, valid_every=2).run()
    assert (result.best, result.best_iteration, result.accuracy.bits) == (2.0, 4, 2.5)
    assert table(tmp_path)["valid_bits"] == ["", "3.0", "", "2.0", "", "2.5"]


@pytest.mark.parametrize("kind", sorted(LAYERS))
def test_resume_is_exact(kind, tmp_path):
    """The state of every sequence goes on as well."""
    make_trainer(tmp_path / "one", kind).run()
    make_trainer(tmp_path / "two", kind).run(stop_at=3)
    trainer = make_trainer(tmp_path / "two", kind)
    trainer.resume(tmp_path / "two/network.checkpoint")
    trainer.run()
    one, two = (table(tmp_path / folder) for folder in ("one", "two"))
    assert len(one["loss"]) == 10 and one["loss"] == two["loss"] and one["bits"] == two["bits"]
    for name in ("network_final.weights", "network.checkpoint"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes(), name


def test_a_checkpoint_of_other_text_is_refused(tmp_path):
    make_trainer(tmp_path).run(stop_at=1)
    with pytest.raises(WeightsError, match="trained on other data: the train characters of dogs"):
        make_trainer(tmp_path, text=SENTENCE[1:]).resume(tmp_path / "network.checkpoint")


@pytest.mark.parametrize(
    "text, pattern",
    [
        (cfg(net=""), r"\[net\] time_steps= is missing"),
        (cfg(net="time_steps=1"), r":5: \[net\] time_steps= is missing"),
        (cfg(inputs=255), r":2: \[net\] 255 inputs: wanted inputs=256"),
        (cfg().replace("output=256", "output=255"), "255 values of .softmax.: wanted the prob.* of 256"),
        (cfg().replace("[softmax]", "[logistic]"), "256 values of .logistic.: wanted the probabilities"),
        (cfg().replace("[softmax]", "[softmax]\ngroups=2"), "wanted the probabilities of 256"),
    ],
)
def test_networks_that_cannot_learn_text_are_refused(text, pattern, tmp_path):
    net = build_network(resolve(parse_cfg_text(text)), train=True)
    source, options = TextSource("dogs", Text("dogs", SENTENCE)), TrainingOptions(folder=str(tmp_path / "b"))
    with pytest.raises(CfgError, match=pattern):
        TextTrainer(net, source, options)
    assert not (tmp_path / "b").exists()


def test_an_output_that_is_not_finite_stops_the_measurement():
    net = make_net()
    net.layers[1].weights[:] = np.nan
    with pytest.raises(DarknetError, match="not finite"):
        measure(net, Text("t", SENTENCE))


@pytest.mark.parametrize("measured", [None, 3.0])
def test_a_chart_is_drawn(measured, tmp_path):
    pytest.importorskip("matplotlib")
    rows = [TextRecord(i, i / 9, 5.0, 5.0, 0.01, 9.0, 7.0, measured if i == 3 else None) for i in range(1, 5)]
    plot_training(rows, str(tmp_path / "t.png"), "t")
    assert Image.open(tmp_path / "t.png").size == (990, 880)


# ---- writing
@pytest.fixture(scope="module")
def writer(tmp_path_factory):
    """(folder, a network of one row that knows the sentence by heart)"""
    folder = tmp_path_factory.mktemp("writer")
    make_trainer(folder, "lstm", 300, net="time_steps=12", save_every=1000).run()
    net = make_net(net="time_steps=1", train=False)
    net.load_weights(folder / "network_final.weights")
    return folder, net


def test_it_writes_what_it_learned(writer):
    _, net = writer
    assert bytes(generate(net, b"the q", 38, 0.3, 1)) == b"uick brown fox jumps over the lazy dog"


def test_the_seed_decides(writer):
    _, net = writer
    texts = [bytes(generate(net, b"x", 80, 2.0, seed)) for seed in (1, 1, 2)]
    assert texts[0] == texts[1] != texts[2]


def test_the_choice_follows_the_probabilities(rng):
    """Temperature is softmax's: the exponent 1 / T of each probability; 1e-4 and less never comes."""
    p = np.zeros(256, np.float32)
    p[[10, 20, 30, 40]] = 0.6, 0.3, 0.09995, 0.00005
    draws = Counter(_choose(p, 0.5, number) for number in (np.arange(4000) + 0.5) / 4000)
    wanted = np.sqrt(p[[10, 20, 30, 40]])
    assert draws[40] > 0  # at temperature 2 it is likelier
    np.testing.assert_allclose([draws[c] / 4000 for c in (10, 20, 30, 40)], wanted / wanted.sum(), atol=1e-3)
    assert set(_choose(p, 1, number) for number in np.arange(0, 1, 1e-5)) == {10, 20, 30}
    assert {_choose(p, 50, number) for number in (0.0, 0.5, 0.999999)} == {10}


def test_temperature_replaces_that_of_the_cfg(writer, tmp_path):
    folder, net = writer
    other = build_network(
        resolve(parse_cfg_text(cfg(net="time_steps=1").replace("[softmax]", "[softmax]\ntemperature=3")))
    )
    other.load_weights(folder / "network_final.weights")
    assert bytes(generate(other, b"the", 50, 0.8, 5)) == bytes(generate(net, b"the", 50, 0.8, 5))


@pytest.mark.parametrize(
    "arguments, pattern",
    [
        ((b"", 5), "an empty seed"),
        ((b"a", 5, 0.0), "temperature 0.0: wanted more"),
        ((b"a", 5, float("nan")), "temperature nan"),
    ],
)
def test_what_cannot_be_written(writer, arguments, pattern):
    with pytest.raises(ArgumentError, match=pattern):
        next(generate(writer[1], *arguments))


def test_generating_wants_one_row():
    with pytest.raises(ArgumentError, match="24 rows"):
        next(generate(make_net(), b"a", 5))


# ---- the commands
@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A folder with t.cfg trained on t.txt: (folder, the finished process)."""
    folder = tmp_path_factory.mktemp("trained")
    (folder / "t.cfg").write_text(cfg(max_batches=6))
    (folder / "t.txt").write_bytes(SENTENCE)
    return folder, run("rnn", "train", "t.cfg", "-file", "t.txt", cwd=folder)


def test_train_writes_and_reports(trained):
    folder, result = trained
    assert result.returncode == 0 and result.stderr == ""
    names = {path.name for path in (folder / "backup").iterdir()} - {"t.png"}
    weights = {"t_last.weights", "t_best.weights", "t_final.weights", "t.backup"}
    assert names == {"t.csv", "t.checkpoint", *weights}
    assert list(table(folder / "backup", "t")) == [
        "iteration", "epoch", "loss", "average", "rate", "characters_per_second", "bits", "valid_bits",
    ]  # fmt: skip
    assert "bits/character" in result.stdout and "characters/s" in result.stdout
    assert "validation: " in result.stdout and " bits per character (perplexity " in result.stdout
    assert "best: " in result.stdout and "images" not in result.stdout


def test_train_stops_and_goes_on(trained, tmp_path):
    folder, _ = trained
    text = "a {text} of 6 words.txt"
    (tmp_path / "t.cfg").write_bytes((folder / "t.cfg").read_bytes().replace(b"max_batches=6", b"max_batches=9"))
    (tmp_path / text).write_bytes((folder / "t.txt").read_bytes())
    half = run("rnn", "train", "t.cfg", "-file", text, "--stop-at", 3, "--max-batches", 6, "--no-plot", cwd=tmp_path)
    words = shlex.split(half.stdout.split("to go on: darknetpy ")[1])
    assert words[:3] == ["rnn", "train", "t.cfg"] and words[3].endswith("t.checkpoint")
    assert words[4:] == ["-file", text, "--max-batches", "6"]
    rest = run(*words, "--json", "--no-plot", cwd=tmp_path)
    figures = json.loads(rest.stdout)
    assert figures["finished"] and figures["iteration"] == 6
    assert figures["characters"] == len(SENTENCE) // 10 - 1
    assert figures["best_bits_per_character"] <= 8.5 and figures["characters_per_second"] > 0
    name = "backup/t_final.weights"
    assert (tmp_path / name).read_bytes() == (folder / name).read_bytes()


def test_other_networks_are_refused_as_such(tmp_path):
    (tmp_path / "p.cfg").write_text("[net]\ninputs=4\n[connected]\noutput=3\n[softmax]\n")
    found = run("rnn", "train", "p.cfg", cwd=tmp_path)
    assert found.returncode == 2 and "max_batches" not in found.stderr and "wanted" in found.stderr


def test_a_signal_saves_and_stops(tmp_path):
    (tmp_path / "t.cfg").write_text(cfg(max_batches=1000000))
    (tmp_path / "t.txt").write_bytes(SENTENCE)
    check_signal(signal.SIGINT, 130, "t", "rnn", "train", "t.cfg", "-file", "t.txt", cwd=tmp_path)


def test_valid_measures_as_training_does(trained):
    folder, result = trained
    said = result.stdout.split("validation: ")[1].splitlines()[0]
    for weights in ("t_final.weights", "t.checkpoint"):
        found = run("rnn", "valid", "t.cfg", f"backup/{weights}", "-file", "t.txt", cwd=folder)
        assert found.returncode == 0 and said in found.stdout, weights
    words = ["rnn", "valid", "t.cfg", "backup/t.checkpoint", "--json", "--sequences", 1]
    whole = json.loads(run(*words, "-file", "t.txt", "--all", cwd=folder).stdout)
    net = make_net(net="time_steps=1", train=False)
    net.load_weights(folder / "backup/t_final.weights")
    assert whole["characters"] == len(SENTENCE) - 1
    assert whole["bits_per_character"] == pytest.approx(np.mean(in_turn(net, SENTENCE)), rel=1e-5)
    assert whole["perplexity"] == pytest.approx(2 ** whole["bits_per_character"])
    piped = run(*words, "-file", "-", "--all", cwd=folder, stdin=SENTENCE.decode())
    assert json.loads(piped.stdout) == whole


def test_generate_writes_the_seed_and_goes_on(trained):
    folder, _ = trained
    words = ["rnn", "generate", "t.cfg", "backup/t.checkpoint", "-seed", "the é", "-len", 30, "-temp", ".01"]
    first, again = (run(*words, "-srand", 4, cwd=folder) for _ in range(2))
    assert first.returncode == 0 and first.stdout == again.stdout and first.stderr == ""
    assert first.stdout.startswith("the é") and len(first.stdout.encode()) == 6 + 30 + 1
    found = json.loads(run(*words, "--random-seed", 4, "--json", cwd=folder).stdout)
    assert found["random_seed"] == 4 and found["text"] + "\n" == first.stdout
    noted = run(*words, cwd=folder).stderr
    assert noted.startswith("note: --random-seed ") and noted.endswith(" writes this text again\n")


@pytest.mark.parametrize(
    "words, wanted",
    [
        (["train", "t.cfg", "-file", "empty.txt"], ["empty.txt: empty: wanted 2 to"]),
        (["train", "t.cfg", "-file", "none.txt"], ["none.txt: No such file"]),
        (["train", "pictures.cfg", "-file", "t.txt"], ["pictures.cfg:2: [net] 255 inputs: wanted"]),
        (["train", "once.cfg", "-file", "t.txt"], ["once.cfg:1: [net] time_steps= is missing"]),
        (["valid", "t.cfg", "backup/t.backup", "-file", "short.txt"], ["short.txt: too short", "--all"]),
        (["valid", "pictures.cfg", "p.weights", "-file", "t.txt"], ["255 inputs: wanted inputs=256"]),
        (["generate", "t.cfg", "backup/t.backup", "-seed", ""], ["an empty seed"]),
        (["generate", "t.cfg", "backup/t.backup", "-temp", "0"], ["temperature 0.0: wanted more than 0"]),
    ],
)
def test_wrong_input_is_one_line(trained, words, wanted):
    folder, _ = trained
    files = {"empty.txt": "", "short.txt": "abcdef", "pictures.cfg": cfg(inputs=255), "once.cfg": cfg(net="")}
    for name, content in files.items():
        (folder / name).write_text(content)
    make_net(inputs=255).save_weights(folder / "p.weights")
    one_line(run("rnn", *words, cwd=folder), 2, *wanted)
