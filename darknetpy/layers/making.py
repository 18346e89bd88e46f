"""What the constructors share."""
from __future__ import annotations

from darknetpy.builder import core_value, dialect_options
from darknetpy.errors import ArgumentError
from darknetpy.layer import Layer

_ELSEWHERE = ("batch_normalize", "binary")      # normalize=batch says the first; the second has no effect


def make(kind, batch, h, w, c, cfg_values, options=None, dialect="pjreddie", build=True):
    """Make a layer: `cfg_values` are its options as a .cfg has them, `options` what only the core knows."""
    layer = Layer(kind)
    layer.cfg_values = cfg_values
    translated = {key: core_value(key, value) for key, value in cfg_values.items()
                  if value is not None and key not in _ELSEWHERE}
    layer._set_options({**translated, **dialect_options(kind, dialect, "paper"), **(options or {})})
    return layer._build(batch, h, w, c) if build else layer


def image_shape(inputs, w, h, c):
    """(h, w, c) of an image, or (0, 0, inputs) without one."""
    if not (w or h or c):
        return 0, 0, inputs
    if w * h * c != inputs:
        raise ArgumentError(f"w={w} h={h} c={c}: wanted {inputs} values, got {w * h * c}")
    return h, w, c
