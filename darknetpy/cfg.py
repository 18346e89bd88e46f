"""The .cfg grammar: text in, a list of sections out.  Knows no layer type; the options stand in sections/.

A .cfg is a list of ``[section]`` headers, each followed by ``key=value`` lines.  Spaces and tabs do not
count, wherever they stand; a line that begins with ``#`` or ``;`` is a comment, as is what follows a ``#``.
"""
from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Optional, Union

from ._types import Path
from .errors import ArgumentError, CfgError
from .files import read_regular_file

MAX_CFG_BYTES = 64 << 20            # far beyond any real .cfg; a mistaken file name must not fill the memory
NET_NAMES = ("net", "network")      # the first section, under either of its names
_BLANKS = str.maketrans("", "", " \t\r\n")      # what Darknet removes from anywhere in a line


@dataclass
class Option:
    """One ``key=value`` line.

    Attributes
    ----------
    key, text : str
        Without blanks and without the comment.
    line : int
        Line number, counted from 1; not compared.
    """

    key: str
    text: str
    line: int = field(default=0, compare=False)


@dataclass
class Section:
    """One ``[name]`` with its options in the order of the file.

    Attributes
    ----------
    name : str
        As written, without brackets; Darknet's names are case-sensitive.
    options : dict of str to Option
    line : int
        Line of the header, counted from 1; not compared.
    file : str
        Path as given, or ``<string>``; not compared.
    repeated : list of Option
        Later lines for a key that was already set, which do not count: in [net], and elsewhere those that
        say the same again; not compared.
    """

    name: str
    options: dict[str, Option] = field(default_factory=dict)
    line: int = field(default=0, compare=False)
    file: str = field(default="<string>", compare=False)
    repeated: list[Option] = field(default_factory=list, compare=False)

    def error(self, message: str, key: Optional[str] = None) -> CfgError:
        """Return a CfgError at the line of `key`, or at the header where the key is None or not written."""
        line = self.options[key].line if key in self.options else self.line
        return CfgError(message, self.file, line, show(self.name), key)


def show(text: str, limit: int = 60) -> str:
    """Return `text` made fit for one line of a message: shortened, and quoted if it would not print."""
    if len(text) > limit:
        text = text[:limit - 3] + "..."
    return text if text.isprintable() else repr(text)


def parse_cfg(path: Union[Path, bytes]) -> list[Section]:
    """Read a .cfg file.

    Parameters
    ----------
    path : str, bytes or os.PathLike

    Returns
    -------
    list of Section
        The first one is [net] or [network], and no other one is.

    Raises
    ------
    CfgError
        The text breaks the grammar; the message begins with file:line.
    OSError
        The file cannot be read.
    """
    # surrogateescape: comments in any encoding pass, and a path that is not UTF-8 still names its file.
    text = read_regular_file(path, MAX_CFG_BYTES).decode("utf-8", "surrogateescape")
    return parse_cfg_text(text, os.fsdecode(path))


def parse_cfg_text(text: str, file: str = "<string>") -> list[Section]:
    """Read the text of a .cfg; `file` is what messages call it.  See `parse_cfg`."""
    text = text[1:] if text.startswith("\ufeff") else text
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    _refuse_foreign(text, file)
    sections: list[Section] = []
    for number, raw in enumerate(text.split("\n"), 1):
        line = raw.translate(_BLANKS)
        if line.startswith(";"):
            continue
        line = line.partition("#")[0]
        if line.startswith("["):
            _add_section(sections, line, number, file)
        elif line:
            _add_option(sections, line, number, file)
    if not sections:
        raise CfgError("holds no section; a .cfg begins with [net]", file)
    return sections


def format_cfg(sections: Iterable[Section]) -> str:
    """Return the text of a .cfg; reading it again gives equal sections.

    Raises
    ------
    ArgumentError
        A name, key or value cannot be written down: it is empty or holds a blank, a ``#`` or the like.
    """
    blocks = []
    for section in sections:
        _check_writable("section name", section.name, "[]")
        lines = [f"[{section.name}]"]
        for option in section.options.values():
            _check_writable("key", option.key, "=", ("[", ";"))
            _check_writable(f"value of {option.key}", option.text)
            lines.append(f"{option.key}={option.text}")
        blocks.append("\n".join(lines) + "\n")
    return "\n".join(blocks)


def _refuse_foreign(text, file):
    """Refuse what is plainly no .cfg, before line-by-line messages would puzzle."""
    nul = text.find("\0")
    if nul >= 0:
        line = text.count("\n", 0, nul) + 1
        raise CfgError("NUL byte: this is a binary or UTF-16 file, not a .cfg text", file, line)
    start = text.lstrip()
    if start.startswith("<"):
        line = text.count("\n", 0, len(text) - len(start)) + 1
        raise CfgError(f"looks like a web page, not a .cfg: {show(start.splitlines()[0])}", file, line)


def _add_section(sections, line, number, file):
    name = line[1:-1]
    if not line.endswith("]") or not name or "[" in name or "]" in name:
        raise CfgError(f"malformed section header {show(line)}; wanted [name]", file, number)
    if not sections and name not in NET_NAMES:
        raise CfgError(f"the first section must be [net] or [network], not [{show(name)}]", file, number)
    if sections and name in NET_NAMES:
        raise CfgError(f"a second [{name}]; the first one is at line {sections[0].line}", file, number)
    sections.append(Section(name, {}, number, file))


def _add_option(sections, line, number, file):
    if not sections:
        raise CfgError(f"{show(line)} stands before the first section; wanted [net]", file,
                       number)
    section = sections[-1]
    key, equals, text = line.partition("=")
    if not equals or not key:
        message = f"{show(line)} is neither a [section] nor a key=value line"
        raise CfgError(message, file, number, show(section.name))
    if not text:
        raise CfgError(f"{show(key)}= has no value", file, number, show(section.name), key)
    option = Option(key, text, number)
    if key not in section.options:
        section.options[key] = option
        return
    first = section.options[key]
    if section is sections[0] or text == first.text:
        section.repeated.append(option)
    else:
        message = f"{show(key)}={show(text)}: this key was already set at line {first.line}"
        raise CfgError(message, file, number, show(section.name), key)


def _check_writable(what, text, forbidden="", not_first=()):
    foreign = any(mark in text for mark in forbidden + "#\0") or text.startswith(not_first)
    if foreign or not text or text != text.translate(_BLANKS):
        raise ArgumentError(f"{what} {text!r} cannot stand in a .cfg: it would not read back the same")
