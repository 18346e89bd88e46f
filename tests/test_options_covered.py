"""Every option that acts stands in some test: in a case of the gradient checks, a recording's .cfg, or a .cfg that a test writes."""

from __future__ import annotations

import ast
import glob
import json
import os
import re

from test_layout import gradient_cases

from darknetpy.cfg import parse_cfg
from darknetpy.sections import SECTIONS, find_section

TESTS = os.path.dirname(os.path.abspath(__file__))
READERS = ("test_cfg.py", "test_dialects.py", "test_explain.py", "test_sections.py")  # they read options and run none
# Done in one place for all layers that have them: a test with one layer is enough.
SHARED = {
    *("learning_rate", "stopbackward", "onlyforward", "dont_update", "burnin_update", "train_only_bn", "truth", "clip"),
    *("dontload", "dontloadscales", "dontsave", "numload"),
    *("jitter", "resize"),  # of the last head, whatever it is
    *("batch_normalize", "normalize", "norm_groups", "normalize_after_activation", "statistics", "rolling_momentum"),
}
# Training at several sizes is not built; `detector train` notes it where a .cfg asks for it.
NOT_BUILT = {(kind, "random") for kind in ("region", "yolo", "Gaussian_yolo")}


def acting():
    return {(name, key) for name, kind in SECTIONS.items() for key, row in kind.options.items() if row.effect in ("effect", "fork")}


def string(node, names):
    """The text of an expression as far as its source tells, 0 for the rest."""
    if isinstance(node, ast.Constant):
        return node.value if isinstance(node.value, str) else "0"
    if isinstance(node, ast.JoinedStr):
        return "".join(string(part, names) for part in node.values)
    if isinstance(node, ast.FormattedValue):
        return string(node.value, names)
    if isinstance(node, ast.Name):
        return names.get(node.id, "0")
    if isinstance(node, ast.BinOp):
        return string(node.left, names) + string(node.right, names)
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
        text = string(node.func.value, names)
        return text.replace(*(string(part, names) for part in node.args)) if node.func.attr == "replace" else text
    return "0"


def written(path):
    """Yield (section or "", key) of every ``key=value`` in a test file, and ("", name) of named arguments and dicts' keys."""
    with open(path) as file:
        tree = ast.parse(file.read())
    names = {}
    for node in tree.body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            names[node.targets[0].id] = string(node.value, names)
    for node in ast.walk(tree):
        if isinstance(node, ast.keyword) and node.arg:
            yield "", node.arg
        if isinstance(node, ast.Dict):
            yield from (("", string(key, names)) for key in node.keys if key)
        if not isinstance(node, (ast.Constant, ast.JoinedStr, ast.BinOp)):
            continue
        section = ""
        for word in string(node, names).split():
            header = re.fullmatch(r"\[(\w+)\]", word)
            if header or find_section(word):
                section = header[1] if header else word
            elif re.match(r"\w+=", word):
                yield section, word.partition("=")[0]


def covered():
    """Return the (type, key) that some test has; with type "" where the text does not tell it."""
    found = set()
    for case in gradient_cases():
        for line in [f"net {case.net}", *case.layers]:
            kind, *options = line.split()
            found.update((kind, option.partition("=")[0]) for option in options)
    for path in glob.glob(os.path.join(TESTS, "golden", "**", "*.cfg"), recursive=True):
        found.update((section.name, key) for section in parse_cfg(path) for key in section.options)
    for path in glob.glob(os.path.join(TESTS, "golden", "traj", "policies-*.json")):
        with open(path) as file:
            found.update(("net", key) for row in json.load(file).values() for key in re.findall(r"(\w+)=", row["net_options"]))
    for path in glob.glob(os.path.join(TESTS, "test_*.py")):
        if os.path.basename(path) not in READERS:
            found.update(written(path))
    return {(find_section(name).name if find_section(name) else "", key) for name, key in found}


def test_every_option_that_acts_is_tested():
    found = covered()
    shared = SHARED & {key for _, key in found}
    missing = {
        (name, key)
        for name, key in acting() - found - NOT_BUILT
        if key not in shared and not (name == "net" and ("", key) in found)
    }
    assert not missing, sorted(missing)


def test_exceptions_are_options():
    keys = acting()
    assert keys >= NOT_BUILT and {key for _, key in keys} >= SHARED

