"""Every key of the family (census.py): known with its forks, and either it acts, or a note or an error says why it does not."""

from __future__ import annotations

import pytest
from census import KEYS
from test_sections import plan, with_option

from darknetpy.cli.explain import describe, explain
from darknetpy.sections import FORK_NAMES, SECTIONS

COMMON = "every layer"
ROWS = [(section, key, forks) for section, keys in KEYS.items() for key, forks in keys.items()]


def row_of(section, key):
    return SECTIONS["avgpool" if section == COMMON else section].options[key]


@pytest.mark.parametrize("section, key, forks", ROWS)
def test_the_table_knows_the_key_and_its_forks(section, key, forks):
    row = row_of(section, key)
    assert sorted(row.forks) == sorted(forks)
    assert bool(row.reason) == (row.effect == "note")
    name = "avgpool" if section == COMMON else section
    text = explain(name, key)
    assert all(FORK_NAMES[letter] in text for letter in forks)
    assert describe(name, key)["reason"] == row.reason and row.reason in text


def test_the_table_knows_no_other_key_of_a_fork():
    """Its other rows are darknetpy's own, or keys that published cfgs carry and no fork reads."""
    for name, kind in SECTIONS.items():
        known = set(KEYS.get(name, ())) | (set(KEYS[COMMON]) if name != "net" else set())
        extra = [row for key, row in kind.options.items() if key not in known]
        assert not [row.key for row in extra if set(row.forks) & set("pah")]


def another_value(row, default):
    """A value that the row accepts and that is not its default."""
    if row.kind == "choice":
        return next(word.name for word in row.choices if word.name != default)
    if row.kind.endswith("list"):
        return "1,2"
    return str((default if isinstance(default, (int, float)) else 1) + 1) if row.kind in ("int", "float") and row.range != "[0, 1]" else "1"


@pytest.mark.parametrize("section, key", [
    (section, key) for section, key, _ in ROWS if row_of(section, key).effect not in ("effect", "fork")])
def test_what_does_not_act_says_so(section, key):
    row, name = row_of(section, key), "avgpool" if section == COMMON else section
    notes = [note for note in plan(with_option(name, f"{key}={another_value(row, row.default)}")).notes if f"] {key}=" in note]
    assert len(notes) == 1 and notes[0].endswith(f"has no effect here: {row.reason}"), notes
