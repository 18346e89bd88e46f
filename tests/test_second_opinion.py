"""Networks in AlexeyAB's dialect (cfgs/alexeyab): outputs beside a second implementation, gradients beside differences."""

from __future__ import annotations

import os

import numpy as np
import pytest
import second_opinion
from cfg_runs import find_files
from test_layout import TESTS

import darknetpy as dn
from darknetpy.cfg import parse_cfg
from darknetpy.core import double_core
from darknetpy.gradcheck import LIMIT, check_gradients, randomize, replace_constants
from darknetpy.sections import SECTIONS

FOLDER = os.path.join(TESTS, "cfgs", "alexeyab")
CFGS = find_files([FOLDER], ".cfg")
SIGNS = "xnor.cfg"  # signs have no derivative
# What a loader of training images does.
HEADS = ("detection", "region", "yolo", "Gaussian_yolo")
OF_A_LOADER = {"net": {"flip", "letter_box"}, **dict.fromkeys(HEADS, {"jitter", "resize", "random"})}


@pytest.mark.parametrize("double", [False, True], ids=["float", "double"])
@pytest.mark.parametrize("cfg", CFGS, ids=os.path.basename)
def test_outputs(cfg, double):
    result = second_opinion.compare(cfg, double=double)
    assert result.status == "agrees" and result.difference < (1e-12 if double else 1e-5), result


@pytest.mark.parametrize("cfg", [cfg for cfg in CFGS if os.path.basename(cfg) != SIGNS], ids=os.path.basename)
def test_gradients(cfg):
    net = dn.load_network(cfg, train=True, core=double_core())
    randomize(net, np.random.default_rng(1))
    replace_constants(net)
    checks = list(check_gradients(net, samples=3, seed=1))
    worst = max(checks, key=lambda check: check.error)
    assert worst.error < LIMIT, worst
    assert sum(check.checked for check in checks) > 0.9 * sum(check.checked + check.kinks for check in checks)
    assert sum(check.backward != 0 for check in checks) > 0.7 * len(checks)


@pytest.mark.parametrize("cfg", CFGS, ids=os.path.basename)
def test_what_networks_go_through(cfg, tmp_path, rng):
    """The dialect shows; training runs, and goes on from a checkpoint; .cfg and .weights give the same network back."""
    net = dn.load_network(cfg, train=True)
    assert net.dialect == "alexeyab"
    x = rng.random((net.batch, net.inputs)).astype(np.float32)
    truth = boxes_of(net, rng)
    for _ in range(net.subdivisions):
        assert np.isfinite(net.train_batch(x, truth))
    net.save_checkpoint(tmp_path / "c")
    again = dn.load_checkpoint(tmp_path / "c")
    assert again.train_batch(x, truth) == net.train_batch(x, truth)
    net.save_weights(tmp_path / "w")
    (tmp_path / "again.cfg").write_text(net.to_cfg())
    (tmp_path / "classes.map").write_text("1\n0\n")
    paths = cfg, tmp_path / "again.cfg"
    first, second = (dn.load_network(path, weights=tmp_path / "w", batch=net.batch) for path in paths)
    np.testing.assert_array_equal(first.predict(x), second.predict(x))


def boxes_of(net, rng):
    """A truth that every loss of the network takes."""
    rows = np.zeros((net.batch, net.truths), np.float32)
    head = next((layer for layer in net.layers if layer.type in HEADS), None)
    if head is None:
        rows[np.arange(net.batch), np.arange(net.batch) % net.truths] = 1
    else:
        rows[:, :6], rows[:, 6:12] = (0.4, 0.6, 0.3, 0.4, 1, 1), (0.7, 0.3, 0.5, 0.6, 1, 2)
    return rows


def test_they_cover_what_only_alexeyab_has():
    """Every type and every acting option that pjreddie's program lacks."""
    written = {}
    for cfg in CFGS:
        for section in parse_cfg(cfg):
            written.setdefault({"silence": "empty"}.get(section.name, section.name), set()).update(section.options)
    common = set.intersection(*(set(kind.options) for name, kind in SECTIONS.items() if name != "net"))
    missing = []
    for name, kind in SECTIONS.items():
        acting = {key: row for key, row in kind.options.items() if row.effect != "note"}
        ours = {key for key, row in acting.items() if "a" in row.forks and "p" not in row.forks}
        if "a" in kind.forks and "p" not in kind.forks and name not in written:
            missing.append(name)
        missing += [(name, key) for key in ours - common - OF_A_LOADER.get(name, set()) - written.get(name, set())]
    assert not missing, missing
    assert {"clip", "dont_update", "burnin_update", "train_only_bn"} <= set.union(*written.values())


@pytest.mark.parametrize("lists", ["steps=4,6,8", "scales=.1,.5", "steps=4,6,8\nscales=.1"])
def test_a_policy_that_reads_no_lists_takes_any(lists, tmp_path):
    head = f"[net]\ninputs=3\npolicy=sgdr\nmax_batches=10\n{lists}\n"
    (tmp_path / "s.cfg").write_text(head + "[connected]\noutput=2\n[cost]\n")
    net = dn.load_network(tmp_path / "s.cfg", train=True)
    assert np.isfinite(net.train_batch(np.ones((1, 3), np.float32), np.ones((1, 2), np.float32)))


def test_a_batch_that_only_inference_takes(tmp_path):
    """AlexeyAB's program replaces batch= in inference, so that published files go together with any subdivisions=."""
    (tmp_path / "s.cfg").write_text("[net]\ninputs=3\nbatch=1\nsubdivisions=8\n[connected]\noutput=2\n[cost]\n")
    (note,) = dn.load_network(tmp_path / "s.cfg").notes
    assert "s.cfg:4: [net] subdivisions=8 leaves no image of batch=1 per forward pass: good for inference only" in note
    with pytest.raises(dn.CfgError, match=r"s.cfg:4: \[net\] subdivisions=8 leaves no image per forward pass; batch=1"):
        dn.load_network(tmp_path / "s.cfg", train=True)
    assert dn.load_network(tmp_path / "s.cfg", train=True, batch=2).batch == 2


def test_a_residual_of_unlike_maps(tmp_path, rng):
    """AlexeyAB's program refuses what pjreddie's resnet50.cfg, which both ship, does: here it means the same in both dialects."""
    text = "[net]\nwidth=8\nheight=8\nchannels=3\n[conv]\nfilters=4\n"
    text += "[conv]\nfilters=6\nsize=3\nstride={}\npad=1\n[shortcut]\nfrom=0\n"
    outputs = {}
    for stride in (1, 2):
        (tmp_path / "r.cfg").write_text(text.format(stride))
        x = rng.random((1, 192)).astype(np.float32)
        for dialect in ("pjreddie", "alexeyab"):
            net = dn.load_network(tmp_path / "r.cfg", dialect=dialect)
            if dialect == "pjreddie":
                second_opinion.fill(net, rng)
                net.save_weights(tmp_path / "w")
            net.load_weights(tmp_path / "w")
            outputs[dialect] = net.predict(x)
        np.testing.assert_array_equal(outputs["pjreddie"], outputs["alexeyab"])
        assert len(net.notes) == stride - 1 and all("adds maps of unlike sizes, which AlexeyAB's" in note for note in net.notes)


def test_classes_that_were_never_counted(tmp_path):
    """calc_anchors of AlexeyAB's program writes zeros for classes without objects; as there they count as one."""
    text = "[net]\nwidth=8\nheight=8\nchannels=3\ndialect=alexeyab\n[convolutional]\nfilters=7\n"
    text += "activation=linear\n[yolo]\nanchors=4,4\nnum=1\nclasses=2\ncounters_per_class={}\n"
    losses = []
    for counts in ("5,0", "5,1", "5,5"):
        (tmp_path / "c.cfg").write_text(text.format(counts))
        net, rows = dn.load_network(tmp_path / "c.cfg", train=True), np.zeros((1, 1200), np.float32)
        rows[0, :5] = 0.4, 0.6, 0.5, 0.5, 1
        losses.append(net.train_batch(np.ones((1, 192), np.float32), rows))
    assert losses[0] == losses[1] > losses[2] > 0


def test_a_difference_is_found(monkeypatch):
    cfg = os.path.join(FOLDER, "implicit.cfg")
    def spoilt(text, weights, x, folders, original=second_opinion.Interpreter):
        return original(text, weights, x + np.float32(1e-3), folders)

    monkeypatch.setattr(second_opinion, "Interpreter", spoilt)
    result = second_opinion.compare(cfg)
    assert result.status == "differs" and "[" in result.layer, result
    monkeypatch.undo()
    assert second_opinion.compare(cfg).status == "agrees"


def test_the_command(tmp_path, capsys):
    (tmp_path / "wrong.cfg").write_text("[net]\nwidth=8\nheight=8\nchannels=3\n[implict]\n")
    assert second_opinion.main([str(tmp_path), os.path.join(FOLDER, "implicit.cfg")]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "did you mean 'implicit'" in lines[0] and lines[1].startswith("agrees   implicit.cfg")
    assert lines[2] == "2 files: 1 agrees, 0 differs, 1 refused, 0 crashed"
