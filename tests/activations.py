"""The names of csrc/activations.def, for tests that walk all of them."""

from __future__ import annotations

import os
import re

from twin import CSRC


def names_of(list_name, macro):
    """Return the first word of every line of a .def file."""
    with open(os.path.join(CSRC, list_name)) as file:
        return re.findall(rf"^{macro}\((\w+),", file.read(), re.MULTILINE)


ACTIVATIONS = names_of("activations.def", "ACTIVATION")
MIXING = [name for name in ACTIVATIONS if name.startswith("normalize_channels")]  # of the channels of a pixel
ELEMENTWISE = [name for name in ACTIVATIONS if name not in MIXING]
LAYERS = names_of("layers.def", "LAYER")
