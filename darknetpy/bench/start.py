"""How long it takes from a fresh interpreter to a network with its weights, stage by stage."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile

from darknetpy.bench.process import how_it_ended
from darknetpy.bench.report import columns, pipes
from darknetpy.builder import load_network
from darknetpy.errors import DarknetError

STAGES = ("import", "build and load", "all")
_PROGRAM = """
import json, sys, time
start = time.perf_counter()
import darknetpy
imported = time.perf_counter()
net = darknetpy.load_network(sys.argv[1], sys.argv[2], lenient=True, keep_activations=False)
loaded = time.perf_counter()
print(json.dumps([imported - start, loaded - imported, loaded - start]))
"""


def measure(cfg, weights, rounds):
    """Return the bytes of the weights, and a tuple of seconds per stage for each round, every round a process of its own.

    Without `weights` random ones are written to a temporary file first.  Files are in the system's cache: read once before.
    """
    with tempfile.TemporaryDirectory() as folder:
        if weights is None:
            weights = os.path.join(folder, "random.weights")
            load_network(cfg, lenient=True, keep_activations=False).save_weights(weights)
        found = [_run(cfg, weights) for _ in range(rounds + 1)]
        return os.path.getsize(weights), [tuple(row) for row in found[1:]]


def _run(cfg, weights):
    process = subprocess.run([sys.executable, "-c", _PROGRAM, cfg, weights], capture_output=True, text=True)
    if process.returncode:
        raise DarknetError(f"{cfg}: {how_it_ended(process.returncode, process.stderr)}")
    return json.loads(process.stdout)


def table(found):
    """Return a table of networks and stages, the head first; `found` maps names to what :func:`measure` returns."""
    rows = [["network", "weights", *STAGES]]
    for name, (size, seconds) in found.items():
        cells = [f"{statistics.median(s):.2f} s ({min(s):.2f} to {max(s):.2f})" for s in zip(*seconds)]
        rows.append([name, f"{size / 1e6:.0f} MB", *cells])
    return rows


def text(found):
    """Return the table for a terminal."""
    return columns(table(found))


def markdown(found, machine, command):
    """Return the page: the command, the machine, the table."""
    facts = "\n".join(f"- {name}: {value}" for name, value in machine.items())
    return f"# From a fresh interpreter to a network\n\n`{command}`\n\n{facts}\n\n{_EXPLANATION}\n\n{pipes(table(found))}\n"


_EXPLANATION = """\
Seconds, median and range over processes of their own: `import darknetpy`, parsing the cfg, building the network and
reading its weights, and both together. The files are in the system's cache."""
