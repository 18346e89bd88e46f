"""Where the memory of a network goes: one line per layer, and the peak; of a network without arrays as well."""
from __future__ import annotations

from darknetpy.memory import human_bytes

_ROLES = {"parameter": "parameters", "statistic": "parameters", "counter": "parameters", "state": "parameters",
          "update": "updates", "moment": "updates", "activation": "work", "kept": "work"}
_COLUMNS = ("parameters", "updates", "outputs", "deltas", "work")


def memory_rows(net):
    """Return one dict of bytes per layer: parameters, updates, outputs, deltas, work, and shared.

    parameters: what stays, statistics and states included; updates: the optimizer's, moments included; work: what else a layer keeps
    from its forward pass to its backward pass, or within one, and its weights in the order in which inference reads them;
    shared: the part of these that lies where other layers' arrays do.
    """
    return [{"index": i, "type": layer.type, **_bytes(layer)} for i, layer in enumerate(net.layers)]


def _bytes(layer):
    lib = layer._core.lib
    roles = {getattr(lib, f"ARRAY_{role.upper()}"): column for role, column in _ROLES.items()}
    found = dict.fromkeys((*_COLUMNS, "shared"), 0)
    for i in range(lib.count_layer_arrays(layer._handle)):
        row = lib.get_layer_array(layer._handle, i)
        name = layer._core.ffi.string(row.name).decode()
        found[{"output": "outputs", "delta": "deltas"}.get(name, roles[row.role])] += row.bytes
        found["shared"] += row.bytes if row.is_shared else 0
    for part in layer.parts.values():
        for column, count in _bytes(part).items():
            found[column] += count
    return found


def memory_totals(net):
    """Return a dict of bytes: shared (arrays that share memory), arena (the memory they share), own (all other arrays), workspace,
    staged (inputs and truths on a device), peak (arena, own, workspace and staged), and peak_kept: the same where every array has memory
    of its own.
    """
    lib = net._core.lib
    memory, info = lib.get_network_memory(net._handle), [layer._info for layer in net.layers]
    every, own = sum(i.bytes for i in info), sum(i.own_bytes for i in info)
    return {"shared": every - own, "arena": memory.arena, "own": own, "workspace": memory.workspace, "staged": memory.staged,
            "peak": lib.network_bytes(net._handle), "peak_kept": every + memory.workspace + memory.staged}


def memory_text(net):
    """Return the table as text; see :meth:`darknetpy.Network.summary`."""
    head = ("layer", "type", *_COLUMNS, "shared")
    rows = memory_rows(net)
    total = {column: sum(row[column] for row in rows) for column in (*_COLUMNS, "shared")}
    cells = [[str(row["index"]), row["type"], *_cells(row)] for row in rows]
    totals = ["", "total", *_cells(total)]
    widths = [max(len(line[i]) for line in [head, totals, *cells]) for i in range(len(head))]

    def line(values):
        return "  ".join(v.ljust(w) if i == 1 else v.rjust(w) for i, (v, w) in enumerate(zip(values, widths))).rstrip()

    rule = "-" * len(line(["-" * w for w in widths]))
    return "\n".join([line(head), rule, *(line(c) for c in cells), rule, line(totals), _peak(net)])


def _cells(row):
    return [human_bytes(row[column]) if row[column] else "" for column in (*_COLUMNS, "shared")]


def _peak(net):
    t = memory_totals(net)
    use = f"{'training' if net._built_for_training else 'inference'} at batch {net.batch}"
    if t["peak"] == 2**64 - 1:
        return f"{use}: more than 2^64 bytes"
    shared = f"{human_bytes(t['shared'])} of arrays share {human_bytes(t['arena'])}, " if t["shared"] else ""
    kept = f"; {human_bytes(t['peak_kept'])} with keep_activations" if t["shared"] else ""
    staged = f", {human_bytes(t['staged'])} of inputs and truths" if t["staged"] else ""
    return (f"{use}: {shared}{human_bytes(t['own'])} of arrays are apart, {human_bytes(t['workspace'])} of workspace{staged}: "
            f"{human_bytes(t['peak'])} and the program itself{kept}")
