"""All section types by name and by alias."""
from __future__ import annotations

from typing import Optional

from .model import SectionType
from .table_heads import DETECTION, RECURRENT
from .table_layers import LAYERS
from .table_net import NET

SECTIONS = {kind.name: kind for kind in (NET, *LAYERS, *RECURRENT, *DETECTION)}
_NAMES = {name: kind for kind in SECTIONS.values() for name in (kind.name, *kind.aliases)}


def find_section(name: str) -> Optional[SectionType]:
    """Return the SectionType of a name or alias, or None."""
    return _NAMES.get(name)


def section_names() -> list[str]:
    """Return every name that a section may have, aliases included."""
    return list(_NAMES)


def sections_with(key: str) -> list[str]:
    """Return the names of the section types that have `key` among their own options."""
    return [kind.name for kind in SECTIONS.values() if key in kind.options]
