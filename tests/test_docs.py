"""The documentation's Python prints what the pages say, number by number, and what they name exists."""

from __future__ import annotations

import contextlib
import io
import pathlib
import re

import numpy as np
import pytest
from kernel_calls import KERNELS

import darknetpy as dn
import darknetpy.data
from darknetpy.cli.parser import make_parser
from darknetpy.summary import summary_rows

ROOT = pathlib.Path(__file__).parent.parent
PAGES = ["docs/batchnorm.md", "docs/convolution.md"]
EXAMPLE = re.compile(r"```python\n(.*?)```\n(?:```text\n(.*?)```)?", re.DOTALL)
NUMBER = re.compile(r"-?\d+(?:\.(\d*))?(?:e([+-]?\d+))?")


def page(name):
    return (ROOT / name).read_text()


def differences(printed, written):
    """Return what differs: other words, or numbers that are off beyond the rounding of the last digit (or the fourth)."""
    if "".join(NUMBER.sub("#", printed).split()) != "".join(NUMBER.sub("#", written).split()):
        return [(printed, written)]
    pairs = zip(NUMBER.finditer(printed), NUMBER.finditer(written))
    return [
        (ours[0], match[0])
        for ours, match in pairs
        if abs(float(ours[0]) - float(match[0])) > _rounding(match)
    ]


def _rounding(match):
    return 0.51 * 10.0 ** (int(match[2] or 0) - max(4, len(match[1] or "")))


@pytest.mark.parametrize("name", PAGES)
def test_examples_print_what_the_page_says(name):
    names, examples = {}, EXAMPLE.findall(page(name))
    assert len(examples) > 5 and all(written for _, written in examples)
    with np.printoptions():
        for code, written in examples:
            printed = io.StringIO()
            with contextlib.redirect_stdout(printed):
                exec(compile(code, name, "exec"), names)
            assert differences(printed.getvalue(), written) == [], printed.getvalue()


def test_a_wrong_digit_is_seen():
    assert differences("mean [ 3. 20.0002]\n", "mean [3.  20.0002]") == []
    assert differences("mean [3. 20.00018]", "mean [3. 20.0002]") == []
    assert differences("mean [3. 20.0001]", "mean [3. 20.0002]") == [("20.0001", "20.0002")]
    assert (
        differences("[1.001]", "[1.]")
        and differences("2.01e-4", "2.01e-5")
        and differences("2.02e-5", "2.01e-5")
    )
    assert differences("[1. 2.]", "[1. 2. 3.]") and differences("mean 1", "men 1")


@pytest.mark.parametrize("name", PAGES)
def test_named_files_and_functions_exist(name):
    text = page(name)
    paths = set(re.findall(r"`((?:csrc|darknetpy|cfg|docs|tests)/[\w./]+)`", text))
    functions = set(re.findall(r"`(\w+(?:_cpu|_bias|_layer))`", text))
    assert paths and [path for path in paths if not (ROOT / path).exists()] == []
    assert functions and sorted(functions - {*vars(dn), *vars(dn.kernels), *KERNELS}) == []


# ---- docs/examples.md


def test_the_examples_table_is_true():
    """Every network of cfg/ has its row but the full set's, with the file's number of parameters and updates."""
    rows = re.findall(r"^\| `(cfg/[\w.-]+)` \|.*?\| ([\d,]+) \| ([\d,]+) \|", page("docs/examples.md"), re.MULTILINE)
    others = {"cfg/text.cfg", "cfg/fashion-mnist-full.cfg"}
    assert {name for name, *_ in rows} | others == {f"cfg/{path.name}" for path in (ROOT / "cfg").glob("*.cfg")}
    for name, parameters, updates in rows:
        assert updates.replace(",", "") == re.search(r"^max_batches=(\d+)", page(name), re.MULTILINE)[1], name
        assert parameters == trainable(name), name


@pytest.mark.parametrize("name", sorted(path.name for path in (ROOT / "cfg").glob("*.cfg")))
def test_first_line_of_a_network_file(name):
    first = page(f"cfg/{name}").splitlines()[0]
    assert first.startswith("# ") and f"{trainable(f'cfg/{name}')} trainable parameters" in first


def trainable(name):
    """The number of a network's parameters, as the pages write it."""
    return f"{sum(row['trainable'] for row in summary_rows(dn.load_network(ROOT / name))):,}"


def test_labels_from_an_annotation(tmp_path):
    (tmp_path / "a.xml").write_text(
        "<annotation><size><width>200</width><height>100</height></size><object><name>b</name><bndbox><xmin>20</xmin>"
        "<ymin>10</ymin><xmax>60</xmax><ymax>60</ymax></bndbox></object></annotation>"
    )
    names = {}
    exec(EXAMPLE.findall(page("docs/examples.md"))[0][0], names)
    lines = list(names["label_lines"](tmp_path / "a.xml", ["a", "b"]))
    assert lines == ["1 0.200000 0.350000 0.200000 0.500000"]
    (tmp_path / "a.txt").write_text("\n".join(lines))
    assert dn.data.read_boxes(tmp_path / "a.txt", 2).shape == (1, 5)


def test_commands_of_the_examples():
    parser, commands = make_parser(), re.findall(r"`darknetpy ([^`]*)`", page("docs/examples.md"))
    assert len(commands) == 3
    for command in commands:
        parser.parse_args(command.split())
