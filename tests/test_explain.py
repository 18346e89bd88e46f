"""`darknetpy explain`, and the suggestions for mistyped names."""
import argparse
import json
import re

import pytest

from darknetpy.cli.explain import add_parser, explain
from darknetpy.dialects import DIFFERENCES
from darknetpy.errors import ArgumentError
from darknetpy.sections import SECTIONS, section_names, suggest
from darknetpy.sections.suggest import edit_distance


def test_suggestions():
    assert edit_distance("filters", "filetrs") == 1 and edit_distance("", "abc") == 3
    assert set(suggest("stride_z", ["stride", "stride_x", "stride_y", "size"])) == {"stride_x", "stride_y"}
    assert suggest("learningrate", SECTIONS["net"].options) == ["learning_rate"]
    assert suggest("zzzzzz", SECTIONS["net"].options) == []
    assert suggest("x" * 10**6, SECTIONS["net"].options) == [] and suggest("a", []) == []


def run_explain(*words):
    parser = argparse.ArgumentParser()
    add_parser(parser.add_subparsers())
    args = parser.parse_args(["explain", *words])
    return args.run(args)


def test_explain_lists_sections_and_keys():
    overview = explain()
    assert all(f"[{name}]" in overview for name in section_names())
    for name, kind in SECTIONS.items():
        text = explain(name)
        assert max(map(len, text.splitlines())) <= 110
        assert all(re.search(rf"^{key}\b", text, re.M) for key in kind.options)
    assert explain("[conv]") == explain("convolutional")


def test_explain_tells_where_a_forks_key_acts():
    assert "acts in the dialects of the forks that know it" in explain("yolo", "nms_kind")


def test_explain_tells_everything_about_a_key():
    text = explain("dropout", "probability")
    for part in ("0.5 p, 0.2 ah", "[0, 1)", "pjreddie, AlexeyAB, hank-ai", "share that is set to zero",
                 "float"):
        assert part in text
    assert "x * tanh(log(1 + exp(x)))" in explain("conv", "activation")
    assert "size - 1" in explain("maxpool", "padding") and "required" in explain("route", "layers")
    assert "none reads it; carried unread by cfgs of pjreddie" in explain("net", "seen")


def test_explain_lists_what_the_forks_disagree_on(capsys):
    text = explain("dialects")
    for name, row in DIFFERENCES.items():
        assert f"\n{name}: " in text and (row.here is None or f"here: {row.here}" in text)
    assert "    pjreddie: gaussian\n    AlexeyAB, hank-ai: uniform\n" in text
    assert run_explain("dialects", "--json") == 0
    rows = {row["name"]: row for row in json.loads(capsys.readouterr().out)}
    assert rows["rolling_factor"]["alexeyab"] == .9 and set(rows) == set(DIFFERENCES)


@pytest.mark.parametrize("words, message", [
    (("convolutionel",), "no section [convolutionel]; did you mean 'convolutional'?"),
    (("crop_width",), "no section [crop_width]; it is a key of [crop]"),
    (("conv", "filter"), "[convolutional] has no key 'filter'; did you mean 'filters'?"),
    (("conv", "zzzzzz"), "`darknetpy explain convolutional` lists them"),
    (("zzzzzz",), "`darknetpy explain` lists them"),
])
def test_explain_refuses_unknown_names(words, message):
    with pytest.raises(ArgumentError, match=re.escape(message)):
        explain(*words)


def test_the_explain_command(capsys):
    assert run_explain("net", "policy") == 0
    assert "cosine from learning_rate" in capsys.readouterr().out
    assert run_explain("--json") == 0
    assert len(json.loads(capsys.readouterr().out)) == 40
    assert run_explain("conv", "--json") == 0
    record = json.loads(capsys.readouterr().out)
    assert (record["section"], record["keys"][0]["key"], record["keys"][0]["range"]) == (
        "convolutional", "filters", "[1, inf)")
    assert run_explain("maxpool", "padding", "--json") == 0
    assert json.loads(capsys.readouterr().out)["default"] == {"formula": "size - 1"}
