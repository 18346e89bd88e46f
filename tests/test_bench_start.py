"""The benchmark of the start: that it runs in processes of its own and refuses what it cannot; never how fast."""

from __future__ import annotations

import pytest

import darknetpy
from darknetpy.bench import start
from darknetpy.bench.process import how_it_ended
from darknetpy.cli import main
from darknetpy.errors import DarknetError

CFG = "[net]\nwidth=4\nheight=4\nchannels=2\n[connected]\noutput=3\nactivation=linear\n"


@pytest.fixture
def cfg(tmp_path):
    path = tmp_path / "a.cfg"
    path.write_text(CFG)
    return str(path)


def test_stages_add_up(cfg):
    size, rounds = start.measure(cfg, None, 2)
    assert size == 5 * 4 + (3 * 32 + 3) * 4 and len(rounds) == 2
    for *stages, whole in rounds:
        assert min(stages) > 0 and sum(stages) == pytest.approx(whole)


def test_page(cfg, tmp_path, capsys):
    darknetpy.load_network(cfg).save_weights(tmp_path / "a.weights")
    out = tmp_path / "start.md"
    words = [cfg, "--weights", str(tmp_path / "a.weights"), "--rounds", "1"]
    assert main(["bench", "start", *words, "--output", str(out)]) == 0
    assert "a.cfg" in capsys.readouterr().out
    page = out.read_text()
    assert f"`darknetpy bench start {' '.join(words)}`" in page and f"| {cfg} | 0 MB |" in page


def test_a_recurrent_network_starts_too(tmp_path):
    path = tmp_path / "b.cfg"
    path.write_text("[net]\ninputs=4\nbatch=3\ntime_steps=3\n[rnn]\noutput=3\nhidden=2\n")
    assert len(start.measure(str(path), None, 1)[1]) == 1


def test_errors_are_one_line(cfg, tmp_path, capsys):
    assert how_it_ended(-9, "") == "killed by signal 9 (is the memory too small?)"
    assert how_it_ended(1, "") == "ended with status 1" and how_it_ended(1, "a\nb\n\n") == "b"
    with pytest.raises(DarknetError, match="none.weights"):
        start.measure(cfg, str(tmp_path / "none.weights"), 1)
    assert main(["bench", "start", cfg, cfg, "--weights", "x"]) == 2
    assert "wanted one CFG, got 2" in capsys.readouterr().err
