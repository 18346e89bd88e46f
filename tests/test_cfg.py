"""The grammar of .cfg files: what is accepted, what is refused and where the message points."""
import errno
import os

import pytest

from darknetpy.cfg import Option, Section, format_cfg, parse_cfg, parse_cfg_text, show
from darknetpy.errors import ArgumentError, CfgError
from darknetpy.files import read_regular_file

NET = "[net]\nwidth=8\nheight=8\nchannels=3\n"


def options(section):
    return {key: option.text for key, option in section.options.items()}


def test_sections_options_and_lines():
    net, conv = parse_cfg_text("# first\n\n[net]\nbatch=2\n[conv]\n; note\nfilters=4\n", "a.cfg")
    assert (net.name, net.line, net.file, options(net)) == ("net", 3, "a.cfg", {"batch": "2"})
    assert (conv.name, conv.line, options(conv)) == ("conv", 5, {"filters": "4"})
    assert conv.options["filters"].line == 7


@pytest.mark.parametrize("text", [
    "[net]\r\nbatch=2\r\nwidth=3\r\n",
    "[net]\rbatch=2\rwidth=3",
    "\ufeff[net]\nbatch=2\nwidth=3\n",
    "[net]\nbatch=2\nwidth=3",
    "[ net ]\n\tbatch = 2 \n  wid th=\t3\n",
    "[net] # the network\nbatch=2# images\nwidth=3 # pixels = many\n",
    "\n  # a\n ; b\n;c=d\n[net]\nbatch=2\n#width=4\nwidth=3\n\n\n",
], ids=["crlf", "cr", "bom", "no final newline", "blanks anywhere", "comments after", "comment lines"])
def test_layouts_that_mean_the_same(text):
    (net,) = parse_cfg_text(text)
    assert (net.name, options(net)) == ("net", {"batch": "2", "width": "3"})


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_every_line_end_counts_once(end):
    assert parse_cfg_text(end.join(["[net]", "", "batch=2", "width=3"]))[0].options["width"].line == 4


@pytest.mark.parametrize("text, line, message", [
    ("classes=1\n[net]\n", 1, "before the first section"),
    (NET + "filters 3\n", 5, "neither a [section] nor a key=value line"),
    (NET + "=3\n", 5, "neither a [section] nor a key=value line"),
    (NET + "batch=\n", 5, "batch= has no value"),
    (NET + "batch=  # none\n", 5, "batch= has no value"),
    (NET + "[conv\nfilters=1\n", 5, "malformed section header [conv; wanted [name]"),
    (NET + "[]\n", 5, "malformed section header"),
    (NET + "[[conv]]\n", 5, "malformed section header"),
    (NET + "[conv] filters=3\n", 5, "malformed section header"),
    (NET + "batch=\0\n", 5, "NUL byte"),
    ("[convolutional]\n", 1, "first section must be [net] or [network], not [convolutional]"),
    (NET + "[softmax]\n[network]\n", 6, "a second [network]; the first one is at line 1"),
    (NET + "[conv]\nsize=3\nsize=5\n", 7, "size=5: this key was already set at line 6"),
    ("\n<!DOCTYPE html>\n<html lang='en'>\n", 2, "looks like a web page"),
], ids=lambda value: None if isinstance(value, int) else repr(value)[-30:])
def test_refusals_name_the_line(text, line, message):
    with pytest.raises(CfgError) as caught:
        parse_cfg_text(text, "bad.cfg")
    assert str(caught.value).startswith(f"bad.cfg:{line}: ") and message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert (caught.value.file, caught.value.line) == ("bad.cfg", line)


@pytest.mark.parametrize("text", ["", "\n\n", "# only\n;comments\n", "\ufeff"])
def test_empty_files(text):
    with pytest.raises(CfgError, match=r"^e\.cfg: holds no section"):
        parse_cfg_text(text, "e.cfg")


def test_repeated_keys_of_net_keep_the_first():
    (net,) = parse_cfg_text("[net]\nbatch=2\nbatch=3\n")
    assert net.options["batch"].text == "2"
    assert [(o.text, o.line) for o in net.repeated] == [("3", 3)]


def test_bytes_that_are_not_utf8(tmp_path):
    file = tmp_path / "latin.cfg"
    file.write_bytes(b"# R\xe9seau\n[net]\nbatch=2 # \xfc\n[softmax]\ntree=\xe9.tree\n")
    net, softmax = parse_cfg(file)
    assert options(net) == {"batch": "2"}
    assert os.fsencode(softmax.options["tree"].text) == b"\xe9.tree"
    assert net.file == str(file)


def test_utf16_is_refused(tmp_path):
    file = tmp_path / "wide.cfg"
    file.write_text(NET, encoding="utf-16")
    with pytest.raises(CfgError, match="UTF-16"):
        parse_cfg(file)


def test_files_that_cannot_be_read(tmp_path):
    with pytest.raises(FileNotFoundError) as caught:
        parse_cfg(tmp_path / "none.cfg")
    assert caught.value.errno == errno.ENOENT
    with pytest.raises(IsADirectoryError) as caught:
        parse_cfg(tmp_path)
    assert caught.value.errno == errno.EISDIR and caught.value.filename == tmp_path


def test_a_pipe_does_not_hang(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OSError, match="Not a regular file"):
        parse_cfg(tmp_path / "pipe")
    with pytest.raises(OSError, match="Not a regular file"):
        parse_cfg("/dev/zero")


def test_a_file_beyond_the_limit(tmp_path):
    (tmp_path / "big").write_bytes(b"x" * 11)
    with pytest.raises(OSError) as caught:
        read_regular_file(tmp_path / "big", limit=10)
    assert caught.value.errno == errno.EFBIG
    assert read_regular_file(tmp_path / "big", limit=11) == b"x" * 11


def test_size_is_no_problem():
    text = NET + "[convolutional]\nfilters=4\nsize=3\n" * 10000 + "# " + "x" * 2**20
    assert len(parse_cfg_text(text)) == 10001
    with pytest.raises(CfgError) as caught:
        parse_cfg_text(NET + "y" * 2**20)
    assert len(str(caught.value)) < 200


def test_format_is_the_inverse_of_parse():
    text = "[net]\nbatch=2\nwidth=3\n\n[convolutional]\nactivation=leaky\n\n[avgpool]\n"
    sections = parse_cfg_text(text)
    assert format_cfg(sections) == text
    scattered = parse_cfg_text(text.replace("=", " = ").replace("\n", " # x\n\n"))
    assert scattered == sections and scattered[1].line != sections[1].line
    assert parse_cfg_text(format_cfg(scattered)) == sections
    sections[1].options["activation"].text = "relu"
    assert scattered != sections


@pytest.mark.parametrize("section", [
    Section(""), Section("a]"), Section("con v"),
    Section("net", {"a=b": Option("a=b", "1")}), Section("net", {";a": Option(";a", "1")}),
    Section("net", {"a": Option("a", "")}), Section("net", {"a": Option("a", "1#2")}),
    Section("net", {"a": Option("a", "my file")}), Section("net", {"a": Option("a", "1\n[x]")}),
])
def test_format_refuses_what_would_not_come_back(section):
    with pytest.raises(ArgumentError, match="cannot stand in a .cfg"):
        format_cfg([section])


def test_show_fits_one_line():
    assert show("abc") == "abc"
    assert show("a\nb\x1b") == "'a\\nb\\x1b'"
    assert len(show("x" * 1000)) == 60
    assert show("\udce9") == "'\\udce9'"
