"""Which dialect a .cfg is read in, and what that changes."""
import pytest

from darknetpy.cfg import parse_cfg_text
from darknetpy.dialects import DIALECTS, DIFFERENCES, dialect_value
from darknetpy.errors import ArgumentError, CfgError
from darknetpy.sections import resolve

NET = "[net]\nwidth=8\nheight=8\nchannels=3\n"
CONV = "[convolutional]\nfilters=4\n"
AB_KEY, PJ_KEY = "[conv]\nstride_x=2\n", "[shortcut]\nfrom=-1\nalpha=.5\n"


def plan(text, **how):
    return resolve(parse_cfg_text(text, "t.cfg"), **how)



@pytest.mark.parametrize("text, how, dialect, notes", [
    (CONV, {}, "pjreddie", 0),
    (AB_KEY, {}, "alexeyab", 0),
    (AB_KEY + "[shortcut]\nfrom=-1\n", {"dialect": "hankai"}, "hankai", 0),
    (CONV + PJ_KEY, {}, "pjreddie", 0),
    (AB_KEY + PJ_KEY, {}, "pjreddie", 2),
    (CONV, {"weights_revision": 5}, "alexeyab", 0),
    (CONV, {"weights_revision": 0}, "pjreddie", 0),
    (CONV, {"weights_revision": 7}, "pjreddie", 0),
    (AB_KEY, {"weights_revision": 5}, "alexeyab", 0),
    (AB_KEY, {"weights_revision": 0}, "pjreddie", 2),
    (CONV + PJ_KEY, {"weights_revision": 5}, "alexeyab", 2),
    (AB_KEY + PJ_KEY, {"weights_revision": 0}, "pjreddie", 1),
    (AB_KEY, {"weights_revision": 7}, "alexeyab", 0),
    (AB_KEY, {"dialect": "pjreddie", "weights_revision": 5}, "pjreddie", 1),
    (CONV + "[logistic]\n", {}, "pjreddie", 0),
    ("[local_avgpool]\n", {}, "alexeyab", 0),
    (CONV * 2 + "[shortcut]\nfrom=-1,-2\n", {}, "alexeyab", 0),
    (CONV + "[cost]\ntype=L1\n", {"weights_revision": 5}, "alexeyab", 0),
])
def test_which_dialect(text, how, dialect, notes):
    found = plan(NET + text, **how)
    assert (found.dialect, found.net["dialect"], len(found.notes)) == (dialect, dialect, notes), found.notes
    assert all(note.startswith("t.cfg:") for note in found.notes)


def test_the_cfg_may_name_its_dialect_and_the_argument_wins():
    text = f"{NET}dialect=hankai\nbatchnorm=darknet\n{CONV}"
    assert (plan(text).dialect, plan(text).batchnorm) == ("hankai", "darknet")
    assert plan(text, weights_revision=0).dialect == "hankai"
    found = plan(text, dialect="alexeyab", batchnorm="paper")
    assert (found.dialect, found.batchnorm, found.net["batchnorm"]) == ("alexeyab", "paper", "paper")
    for bad in ({"dialect": "yolo"}, {"batchnorm": "none"}):
        with pytest.raises(ArgumentError, match="wanted one of"):
            plan(text, **bad)


def test_a_header_that_contradicts_the_keys_is_noted():
    contradiction, ignored = plan(NET + AB_KEY, weights_revision=0).notes
    assert contradiction == ("t.cfg:6: [conv] stride_x= is AlexeyAB's, but the .weights file has revision 0; "
                             "taken as dialect=pjreddie")
    assert ignored == "t.cfg:6: [conv] stride_x=2 acts here, though pjreddie's Darknet ignores it"


def test_dialects_set_defaults_and_the_number_of_links():
    for dialect, probability, eps in (("pjreddie", .5, 1e-7), ("alexeyab", .2, 1e-6), ("hankai", .2, 1e-6)):
        found = plan(NET + "[dropout]\n", dialect=dialect)
        assert (found.layers[0].values["probability"], found.net["eps"]) == (probability, eps)
    with pytest.raises(CfgError, match="from= names 2 layers; dialect=pjreddie adds one"):
        plan(NET + CONV * 2 + "[shortcut]\nfrom=-1,-2\n", dialect="pjreddie")


def test_sections_that_the_fork_lacks_are_noted():
    (note,) = plan(NET + "[crop]\n", dialect="hankai").notes
    assert note == "t.cfg:5: [crop] is built here, though hank-ai's Darknet lacks it"


def test_the_table_of_dialects():
    assert [dialect_value("weights_revision", d) for d in DIALECTS] == [0, 5, 5]
    assert [dialect_value("shortcut_rule", d) for d in DIALECTS] == ["overlap", "prefix", "prefix"]
    assert [dialect_value("rolling_factor_connected", d) for d in DIALECTS] == [.99, .95, .95]
    assert {dialect_value("smooth_l1_sign", d) for d in DIALECTS} == {"right"}
    assert all(row.meaning and row.name == name for name, row in DIFFERENCES.items())
    with pytest.raises(ArgumentError, match="shortcut_rule"):
        dialect_value("shortcut", "pjreddie")
    with pytest.raises(ArgumentError, match="pjreddie, alexeyab, hankai"):
        dialect_value("shortcut_rule", "pj")
