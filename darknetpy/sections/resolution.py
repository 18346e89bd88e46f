"""From sections to typed values: every check that needs no shapes, before anything is allocated."""
from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Optional

from ..cfg import NET_NAMES, Section, show
from ..errors import ArgumentError, CfgError
from .choices import BATCHNORM_MODES
from .dialect_choice import choose_dialect, is_foreign, program
from .layer_checks import check_layer, note_idle_excitation
from .net_checks import check_net
from .registry import find_section, section_names, sections_with
from .suggest import did_you_mean
from .values import find_choice, parse_value


@dataclass
class LayerSpec:
    """One layer as the .cfg describes it, ready to be built.

    Attributes
    ----------
    type : str
        Canonical section name.
    index : int
        Position among the layers; [net] does not count.
    values : dict
        Every option of the type, defaults included; links are absolute layer indices.
    section : Section
        Where it was written.
    """

    type: str
    index: int
    values: dict[str, Any]
    section: Section

    def error(self, message: str, key: Optional[str] = None) -> CfgError:
        """Return a CfgError at the line of `key`, or at the section's header."""
        return self.section.error(message, key)


@dataclass
class Resolved:
    """A whole .cfg with typed values.

    Attributes
    ----------
    dialect, batchnorm : str
    net : dict
        Every option of [net], defaults included; ``dialect`` and ``batchnorm`` as they hold.
    net_section : Section
    layers : list of LayerSpec
    notes : list of str
        What is accepted without effect, or decided for the user; each begins with file:line.
    warnings : list of str
        What is probably a mistake: repeated keys of [net], unknown keys under `lenient`.
    """

    dialect: str
    batchnorm: str
    net: dict[str, Any]
    net_section: Section
    layers: list[LayerSpec] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def note(self, section: Section, key: Optional[str], message: str) -> None:
        """Add a note at the line of `key`."""
        self.notes.append(str(section.error(message, key)))

    def error(self, message: str, key: Optional[str] = None) -> CfgError:
        """Return a CfgError in [net]."""
        return self.net_section.error(message, key)


def resolve(sections: list[Section], dialect: Optional[str] = None, batchnorm: Optional[str] = None,
            lenient: bool = False, weights_revision: Optional[int] = None) -> Resolved:
    """Check the sections of a .cfg against the option table.

    Parameters
    ----------
    sections : list of Section
        What `parse_cfg` returns.
    dialect : {'pjreddie', 'alexeyab', 'hankai'}, optional
        None: what [net] says; else what the revision of the .weights file says; else the fork that alone
        knows some key or word of the .cfg; else pjreddie.
    batchnorm : {'paper', 'darknet'}, optional
        None: what [net] says, else paper.
    lenient : bool
        Unknown keys become warnings.
    weights_revision : int, optional
        Third number of the header of the .weights file that belongs to the .cfg.

    Returns
    -------
    Resolved

    Raises
    ------
    CfgError
        The first mistake, with file, line, section and key.
    ArgumentError
        `dialect` or `batchnorm` is no such word.
    """
    kinds = _section_types(sections)
    net = sections[0]
    plan = Resolved("", "", {}, net)
    written = _written_choice(net, kinds[0], "dialect")
    plan.dialect = choose_dialect(plan, sections, kinds, written if dialect is None else dialect,
                                  weights_revision)
    plan.batchnorm = _choose_batchnorm(net, kinds[0], batchnorm)
    for section in sections:
        _warn_repeated(plan, section)
    plan.net = _read_section(plan, net, kinds[0], lenient)
    plan.net.update(dialect=plan.dialect, batchnorm=plan.batchnorm)
    check_net(plan)
    for index, (section, kind) in enumerate(zip(sections[1:], kinds[1:])):
        spec = LayerSpec(kind.name, index, _read_section(plan, section, kind, lenient), section)
        check_layer(plan, spec)
        plan.layers.append(spec)
    note_idle_excitation(plan)
    return plan


def _section_types(sections):
    """Return the type of every section, or raise for the first that is unknown or out of place."""
    if not sections or sections[0].name not in NET_NAMES:
        raise ArgumentError("the first section must be [net] or [network]")
    kinds = []
    for section in sections:
        kind = find_section(section.name)
        if kind is None:
            names = section_names()
            message = (f"unknown section [{show(section.name)}]{did_you_mean(section.name, names) or ';'} "
                       f"known: {', '.join(names)}")
            raise CfgError(message, section.file, section.line)
        if kinds and kind.name == "net":
            raise section.error("only the first section may be [net]")
        kinds.append(kind)
    if len(kinds) == 1:
        raise sections[0].error("the network has no layer")
    return kinds


def _choose_batchnorm(net, kind, argument):
    names = [word.name for word in BATCHNORM_MODES]
    if argument is None:
        return _written_choice(net, kind, "batchnorm") or names[0]
    if argument not in names:
        raise ArgumentError(f"batchnorm={argument!r}: wanted one of {', '.join(names)}")
    return argument


def _written_choice(section, kind, key):
    """Return the value of one choice, or None where it is not written."""
    return _read_option(section, kind.options[key]) if key in section.options else None


def _warn_repeated(plan, section):
    for option in section.repeated:
        first = section.options[option.key]
        message = (f"{show(option.key)}={show(option.text)} is ignored: line {first.line} has already set "
                   f"{show(first.text)}")
        plan.warnings.append(str(CfgError(message, section.file, option.line, section.name, option.key)))


def _read_section(plan, section, kind, lenient):
    """Return the typed values of a section, defaults included."""
    _note_foreign_section(plan, section, kind)
    given = {}
    for key in section.options:
        row = kind.options.get(key)
        if row is None:
            _unknown_key(plan, section, kind, key, lenient)
            continue
        value = _read_option(section, row)
        if row.unset is not None and value == row.unset:
            continue
        given[key] = value
    values = _with_defaults(plan, section, kind, given)
    for key in given:
        _check_effect(plan, section, kind.options[key], values)
    return values


def _read_option(section, row):
    text = section.options[row.key].text
    try:
        return parse_value(row, text)
    except ValueError as reason:
        raise section.error(f"{row.key}={show(text)}: {reason}", row.key) from None


def _with_defaults(plan, section, kind, given):
    """Fill in defaults in the order of the table: those that depend on others stand behind them."""
    values = {}
    for key, row in kind.options.items():
        if key in given:
            values[key] = given[key]
        elif row.required:
            raise section.error(f"{key}= is missing: {row.meaning}")
        else:
            values[key] = row.default_for(plan.dialect, values)
    return values


def _unknown_key(plan, section, kind, key, lenient):
    hint = did_you_mean(key, kind.options)
    elsewhere = sections_with(key)[:3]
    if not hint and elsewhere:
        hint = f"; it is a key of {', '.join(f'[{name}]' for name in elsewhere)}"
    error = section.error(f"unknown key {show(key)!r}{hint}", key)
    if not lenient:
        raise error
    plan.warnings.append(f"{error} (ignored)")


def _check_effect(plan, section, row, values):
    """Note what has no effect, and what the chosen fork would not have read."""
    text = f"{row.key}={show(section.options[row.key].text)}"
    differs = values[row.key] != row.default_for(plan.dialect, values)
    if row.effect == "note" and differs:
        plan.note(section, row.key, f"{text} has no effect here: {row.reason}")
        return
    if row.effect == "fork" and differs and is_foreign(plan.dialect, row.known_to):
        plan.note(section, row.key, f"{text} has no effect here: {program(plan.dialect)}'s Darknet ignores it, and "
                                    f"so does dialect={plan.dialect}")
        values[row.key] = row.default_for(plan.dialect, values)
        return
    word = find_choice(row, section.options[row.key].text)
    if word is not None and word.note:
        plan.note(section, row.key, f"{text} {word.note}")
    if differs and is_foreign(plan.dialect, row.known_to):
        plan.note(section, row.key, f"{text} acts here, though {program(plan.dialect)}'s Darknet ignores it")


def _note_foreign_section(plan, section, kind):
    if is_foreign(plan.dialect, kind.forks):
        plan.note(section, None, f"is built here, though {program(plan.dialect)}'s Darknet lacks it")
