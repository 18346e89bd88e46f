"""``darknetpy explain [SECTION [KEY]]``: the option table for people, and with --json for programs; ``explain dialects``: what
the forks disagree on.
"""
from __future__ import annotations

import json
import textwrap
from dataclasses import asdict

from ..dialects import DIFFERENCES
from ..errors import ArgumentError
from ..sections import (
    FORK_NAMES,
    SECTIONS,
    Derived,
    PerDialect,
    did_you_mean,
    find_section,
    format_value,
    section_names,
)
from ..sections.registry import sections_with

_DIALECTS = "dialects"
_WIDTH = 110
_LONGEST_KEY = 22       # longer ones stand on a line of their own
_EFFECTS = {"effect": "acts", "fork": "fork", "note": "note"}
_SHORT_KINDS = {"int list": "ints", "float list": "floats"}
_LEGEND = "forks: " + ", ".join(f"{letter} {name}" for letter, name in FORK_NAMES.items())
_EFFECT_LEGEND = "effect: acts; fork: acts in its forks' dialects; note: accepted, does nothing here"


def explain(section=None, key=None):
    """Return what the option table says, as text.

    Parameters
    ----------
    section : str, optional
        Name or alias of a section type; None lists them all; ``"dialects"``: what the forks disagree on.
    key : str, optional
        One of its keys; None lists them all.

    Returns
    -------
    str
        Lines of at most 110 columns.

    Raises
    ------
    ArgumentError
        There is no such section or key; the message names the nearest one.
    """
    if section is None:
        return _all_sections()
    if section == _DIALECTS and key is None:
        return _all_differences()
    kind = _section(section)
    return _one_section(kind) if key is None else _one_key(kind, _row(kind, key))


def describe(section=None, key=None):
    """Return the same as `explain`, as dicts and lists fit for JSON."""
    if section is None:
        return [_section_record(kind) for kind in SECTIONS.values()]
    if section == _DIALECTS and key is None:
        return [asdict(row) for row in DIFFERENCES.values()]
    kind = _section(section)
    if key is not None:
        return _row_record(_row(kind, key))
    return {**_section_record(kind), "keys": [_row_record(row) for row in kind.options.values()]}


def add_parser(subparsers):
    """Add the command to the command line's parser and return its own parser."""
    parser = subparsers.add_parser(
        "explain", help="what sections and keys a .cfg may have",
        description="Print the sections of a .cfg, the keys of one section, or everything about one key; "
                    "`explain dialects` prints what the forks of Darknet disagree on.",
        epilog="example: darknetpy explain convolutional batch_normalize")
    parser.add_argument("section", nargs="?", metavar="SECTION",
                        help="section type, such as convolutional; or dialects")
    parser.add_argument("key", nargs="?", metavar="KEY", help="one of its keys")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(run=run)
    return parser


def run(args):
    """Run the command; returns the exit status."""
    if args.json:
        print(json.dumps(describe(args.section, args.key), indent=2))
    else:
        print(explain(args.section, args.key))
    return 0


def _section(name):
    bare = name.strip("[] ")
    kind = find_section(bare)
    if kind is not None:
        return kind
    hint = did_you_mean(bare, section_names())
    owners = sections_with(bare)
    if owners and not hint:
        hint = f"; it is a key of {', '.join(f'[{owner}]' for owner in owners[:3])}"
    raise ArgumentError(f"no section [{bare}]{hint or '; `darknetpy explain` lists them'}")


def _row(kind, key):
    if key in kind.options:
        return kind.options[key]
    hint = did_you_mean(key, kind.options) or f"; `darknetpy explain {kind.name}` lists them"
    raise ArgumentError(f"[{kind.name}] has no key {key!r}{hint}")


def _all_sections():
    rows = [(_title(kind), kind.forks, kind.meaning) for kind in SECTIONS.values()]
    return f"{_table(('section', 'forks', 'meaning'), rows)}\n\n{_LEGEND}"


def _all_differences():
    """One paragraph per point of disagreement: what it is, what each fork does, and what happens here."""
    lines = ["What the forks of Darknet disagree on. A network follows its dialect, which `darknetpy summary` prints,",
             "unless a line `here` says otherwise.", ""]
    for row in DIFFERENCES.values():
        lines += textwrap.wrap(f"{row.name}: {row.meaning}", _WIDTH)
        values = {}
        for fork, value in (("pjreddie", row.pjreddie), ("AlexeyAB", row.alexeyab), ("hank-ai", row.hankai)):
            values.setdefault(str(value), []).append(fork)
        for value, forks in values.items():
            lines += textwrap.wrap(f"{', '.join(forks)}: {value}", _WIDTH, initial_indent="    ", subsequent_indent="        ")
        if row.here is not None:
            lines.append(f"    here: {row.here}")
    return "\n".join(lines)


def _one_section(kind):
    rows = []
    for row in kind.options.values():
        meaning = row.meaning + (f" ({row.unit})" if row.unit else "")
        rows.append((row.key, _SHORT_KINDS.get(row.kind, row.kind), _default(row), row.range or "",
                     row.forks or "none", _EFFECTS[row.effect], meaning))
    table = _table(("key", "type", "default", "range", "forks", "effect", "meaning"), rows)
    return "\n".join([f"{_title(kind)}: {kind.meaning}", "", table, "", _LEGEND, _EFFECT_LEGEND])


def _one_key(kind, row):
    facts = [("meaning", row.meaning), ("type", row.kind), ("default", _default(row)), ("range", row.range),
             ("unit", row.unit), ("forks", _fork_names(row)), ("effect", _effect(row))]
    lines = [f"[{kind.name}] {row.key}", ""]
    lines += [f"{name:9}{value}" for name, value in facts if value]
    if row.choices:
        words = [(word.name, word.forks, word.meaning) for word in row.choices]
        lines += ["", _table(("value", "forks", "meaning"), words), "", _LEGEND]
    return "\n".join(lines)


def _title(kind):
    return " ".join(f"[{name}]" for name in (kind.name, *kind.aliases))


def _fork_names(row):
    names = ", ".join(FORK_NAMES[letter] for letter in row.forks) or "none reads it"
    carried = ", ".join(FORK_NAMES[letter] for letter in row.zoo)
    return names + (f"; carried unread by cfgs of {carried}" if carried else "")


def _effect(row):
    """Return what happens to the key here, in words."""
    if row.effect == "note":
        return f"accepted; no effect here: {row.reason}"
    return "acts" if row.effect == "effect" else "acts in the dialects of the forks that know it"


def _default(row):
    """Return the default in words; ``0.5 p, 0.2 ah`` where the forks disagree."""
    if row.required:
        return "required"
    if isinstance(row.default, Derived):
        return row.default.text
    if not isinstance(row.default, PerDialect):
        return format_value(row.default) or "none"
    letters = {}
    for letter, value in zip("pah", (row.default.pjreddie, row.default.alexeyab, row.default.hankai)):
        if letter in row.forks:
            letters[value] = letters.get(value, "") + letter
    return ", ".join(f"{format_value(value)} {forks}" for value, forks in letters.items())


def _table(head, rows):
    """Return aligned columns; the last one is wrapped to what the others leave of the line."""
    widths = [max(map(len, column)) for column in zip(head, *rows)][:-1]
    if len(widths) > 3:
        widths[0] = min(widths[0], _LONGEST_KEY)
    indent = sum(widths) + 2 * len(widths)
    room = max(_WIDTH - indent, 30)
    lines = []
    for row in (head, *rows):
        first = row[0]
        if len(first) > widths[0]:
            lines.append(first)
            first = ""
        cells = "".join(f"{cell:{width}}  " for cell, width in zip((first, *row[1:]), widths))
        wrapped = textwrap.wrap(row[-1], room) or [""]
        lines.append((cells + wrapped[0]).rstrip())
        lines += [" " * indent + more for more in wrapped[1:]]
    return "\n".join(lines)


def _section_record(kind):
    return {"section": kind.name, "aliases": list(kind.aliases), "meaning": kind.meaning,
            "forks": _names(kind.forks)}


def _row_record(row):
    choices = [{"value": word.name, "forks": _names(word.forks), "meaning": word.meaning}
               for word in row.choices]
    return {"key": row.key, "type": row.kind, "default": _default_record(row), "required": row.required,
            "range": row.range, "unit": row.unit, "meaning": row.meaning, "forks": _names(row.forks),
            "effect": row.effect, "reason": row.reason, "choices": choices}


def _default_record(row):
    """A value; the text of a formula; or, where the forks disagree, a value per fork."""
    if isinstance(row.default, Derived):
        return {"formula": row.default.text}
    if isinstance(row.default, PerDialect):
        return asdict(row.default)
    return row.default


def _names(forks):
    return [FORK_NAMES[letter] for letter in forks]
