"""Experiments on batch normalization and its neighbours, on real images: ``darknetpy lab NAME``.

A module per experiment says what is trained, what is varied, what is measured, and which paper it follows.
``networks.py`` writes the networks as .cfg text, ``training.py`` trains them, ``table.py`` and ``charts.py``
keep and draw what was measured.  ``docs/lab.md`` shows and explains the results.
"""

from __future__ import annotations

import importlib

NAMES = (
    "batchnorm",
    "batch-size",
    "placement",
    "mini-batch",
    "statistics",
    "covariate-shift",
    "regularization",
    "output-layer",
    "learning-rate",
    "initialization",
    "decay",
    "winograd",
)


def experiments():
    """Return a dict of name -> Experiment, in the order in which the page explains them."""
    return {
        name: importlib.import_module(f"darknetpy.lab.{name.replace('-', '_')}").EXPERIMENT for name in NAMES
    }
