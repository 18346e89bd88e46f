"""What a device makes of a network's passes: one CUDA graph each, or why not."""
from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from darknetpy.network import Network

PASSES = {"forward": "DN_FORWARD", "training forward": "DN_FORWARD_TRAINING", "backward": "DN_BACKWARD", "update": "DN_UPDATE",
          "backward and update": "DN_LEARN"}
NONE_ON_CPU = "graphs: none on the CPU"


class PassGraph(NamedTuple):
    """The last pass of a kind.

    Attributes
    ----------
    kernels, parts, graphs : int
        Kernels of the pass, the parts that they were begun in, and how many of these are graphs.
    begun, renewed : int
        Graphs of such passes begun so far, and arguments of their kernels that were other ones than before.
    reason : str
        Why it is more than one graph, or none; ``""``: it is one, or there were no two passes alike yet.
    """

    kernels: int
    parts: int
    graphs: int
    begun: int
    renewed: int
    reason: str

    def text(self) -> str:
        """Return it in words."""
        if not self.graphs:
            return f"no graph of {self.kernels} kernels" + (f": {self.reason}" if self.reason else " yet: it wants three passes alike")
        what = "one graph" if self.parts == 1 else f"{self.graphs} graphs and {self.parts} parts"
        return f"{what} of {self.kernels} kernels" + (f"; {self.reason}" if self.reason else "")


def pass_graphs(net: Network) -> dict[str, PassGraph]:
    """Return what became of the passes of a network, by the names of PASSES; those that were not run, or not kept, are left out."""
    lib, string = net._core.lib, net._core.ffi.string
    found = {}
    for name, constant in PASSES.items():
        number = getattr(lib, constant)
        info = lib.get_graph_info(net._handle, number)
        if info.kernels:
            reason = string(lib.get_graph_reason(net._handle, number)).decode()
            found[name] = PassGraph(info.kernels, info.parts, info.graphs, info.begun, info.renewed, reason)
    return found


def graph_lines(net: Network) -> list[str]:
    """Return what became of the passes in words, a line each."""
    if net.device == "cpu":
        return [NONE_ON_CPU]
    if not net.graph:
        return ["graphs: turned off"]
    return [f"graphs: {name}: {told.text()}" for name, told in pass_graphs(net).items()] or ["graphs: no pass has run"]
