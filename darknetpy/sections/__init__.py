"""The option table: every section type and key of the Darknet family, declared once.

Parsing, error messages, ``darknetpy explain`` and the documentation follow from it.  To read it, begin with
model.py (what a row is), then table_net.py and table_layers.py; resolution.py turns the sections of a .cfg
into typed values.
"""
from .choices import ACTIVATIONS, COST_TYPES, POLICIES
from .model import FORK_NAMES, Choice, Derived, PerDialect, Row, SectionType
from .registry import SECTIONS, find_section, section_names
from .resolution import LayerSpec, Resolved, resolve
from .suggest import did_you_mean, suggest
from .table_net import TRAINING_NUMBERS
from .values import check_number, format_value, in_range, parse_value, wanted

__all__ = [
    "ACTIVATIONS", "COST_TYPES", "FORK_NAMES", "POLICIES", "SECTIONS", "TRAINING_NUMBERS",
    "Choice", "Derived", "LayerSpec", "PerDialect", "Resolved", "Row", "SectionType",
    "check_number", "did_you_mean", "find_section", "format_value", "in_range", "parse_value", "resolve", "section_names",
    "suggest", "wanted",
]
