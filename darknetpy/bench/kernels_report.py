"""What `bench kernels` found, as text tables, Markdown and a dict for JSON."""

from __future__ import annotations

import statistics
from dataclasses import asdict

from darknetpy.bench.forms import FORMS, KERNELS, SHAPES
from darknetpy.bench.kernels import geometric_mean, label, medians, shape_text
from darknetpy.bench.report import columns, pipes

# What darknetpy aims at, as geometric means over the default shapes: threads -> ratio to (PyTorch with its
# memory reused, PyTorch as users run it); to Darknet with any threads.
_GROUPED_FORWARD, _GROUPED_BACKWARD = {1: (1.5, 3), 2: (1.2, 2.5)}, {1: (1.3, 3), 2: (1.2, 2.5)}
GOALS = {
    "batchnorm forward": {1: (4, 5), 2: (3, 4.5)},
    "batchnorm backward": {1: (1.6, 3), 2: (1.2, 2.7)},
    "batchnorm inference": {1: (1.6, 4.5), 2: (1.3, 4)},
    "groupnorm forward": _GROUPED_FORWARD,
    "groupnorm backward": _GROUPED_BACKWARD,
    "layernorm forward": _GROUPED_FORWARD,
    "layernorm backward": _GROUPED_BACKWARD,
}
_SHARE = 0.9  # of what memory allows
DARKNET_GOALS = {"batchnorm forward": 12, "batchnorm backward": 8}
_PARTS = {"y": "output", "dx": "delta", "scale_updates": "scale updates", "bias_updates": "bias updates"}


def goal(form, threads, peer):
    """Return the ratio aimed at, or None."""
    if peer == "darknet":
        return DARKNET_GOALS.get(form)
    ratios = GOALS.get(form, {}).get(threads)
    return ratios and ratios[peer == "torch"]


# ---- tables
def shape_table(found, shape):
    """Return the rows of one shape's table, the head first."""
    peers = _peers(found)
    head = [
        "",
        "threads",
        "ms",
        "range",
        "GB/s",
        "of copy",
        "of passes",
        *(f"to {label(peer)}" for peer in peers),
    ]
    rows = [head]
    for row in found.rows:
        if row.shape == shape:
            own = [1e3 * s for s in row.seconds["darknetpy"]]
            ratios = [row.ratio(peer) for peer in peers]
            rows.append(
                [
                    row.form,
                    str(row.threads),
                    f"{statistics.median(own):.3f}",
                    f"{min(own):.3f} to {max(own):.3f}",
                    f"{statistics.median(row.bytes_per_second()) / 1e9:.1f}",
                    _percent(row.of_copy()),
                    _percent(row.of_passes()),
                    *(
                        "" if not r else f"{statistics.median(r):.2f}x ({min(r):.2f} to {max(r):.2f})"
                        for r in ratios
                    ),
                ]
            )
    return rows


def summary_table(found, forms):
    """Return geometric means over the shapes, with the least ones; with goals if the shapes are theirs."""
    peers, goals = _peers(found), tuple(found.settings.shapes) == SHAPES
    rows = [
        ["", "threads", *(f"to {label(peer)}" for peer in peers), "of copy", "of passes", "beside 1 thread"]
    ]
    for form in forms:
        for n in found.settings.threads:
            cells = [
                _ratio(medians(found.rows, form, n, peer), goal(form, n, peer) if goals else None)
                for peer in peers
            ]
            rows.append([form, str(n), *cells, *_worst_shares(found, form, n), _gain(found, form, n)])
    return rows


def _peers(found):
    return [peer for peer in found.settings.peers if peer in found.facts]


def _ratio(values, aim):
    if not values:
        return ""
    mean = geometric_mean(values)
    reached = "" if aim is None else f", goal {aim:g}: {'reached' if mean >= aim else 'missed'}"
    return f"{mean:.2f}x (least {min(values):.2f}{reached})"


def _percent(shares):
    return f"{100 * statistics.median(shares):.0f} %"


def _worst_shares(found, form, threads):
    """The least shares of the copy and of what memory allows, of the shapes beyond the cache."""
    rows = [r for r in found.rows if r.form == form and r.threads == threads and r.beyond_cache()]
    if not rows:
        return "", ""
    shares = zip(*((statistics.median(row.of_copy()), statistics.median(row.of_passes())) for row in rows))
    return tuple(f">= {100 * min(share):.0f} %" for share in shares)


def _gain(found, form, threads):
    """How many times as fast as on one thread: geometric mean and least."""
    gains = [gain for _, gain in _gains(found, form, threads)]
    return f"{geometric_mean(gains):.2f}x (least {min(gains):.2f})" if gains else ""


def _gains(found, form, threads):
    """Return (shape, times as fast as on one thread), medians over the rounds."""
    if threads == 1 or 1 not in found.settings.threads:
        return []
    rows = {(row.shape, row.threads): row.seconds["darknetpy"] for row in found.rows if row.form == form}
    return [
        (shape, statistics.median(one / more for one, more in zip(rows[shape, 1], rows[shape, threads])))
        for shape in found.settings.shapes
    ]


def shortfalls(found):
    """Return a line per layer pass and shape that is slower than a peer or than on one thread, or that,
    beyond the cache, takes less than 90 % of what memory allows."""
    lines = []
    for row in found.rows:
        if row.form in KERNELS:
            continue
        said = []
        for peer in _peers(found):
            ratio = row.ratio(peer)
            if ratio and statistics.median(ratio) < 1:
                said.append(f"{statistics.median(ratio):.2f}x beside {label(peer)}")
        gain = dict(_gains(found, row.form, row.threads)).get(row.shape, 1)
        if gain < 1:
            said.append(f"{gain:.2f}x beside 1 thread")
        if row.beyond_cache() and statistics.median(row.of_passes()) < _SHARE:
            said.append(f"{_percent(row.of_passes())} of what memory allows for its passes")
        if said:
            lines.append(f"{row.form}, {shape_text(row.shape)}, {_count(row.threads)}: {'; '.join(said)}")
    return lines


def _count(threads):
    return f"{threads} thread" + "s" * (threads > 1)


def accuracy_table(found):
    """Return the rows of the table of errors, the head first: ours, and PyTorch's where it was there."""
    rows = [["", "data", "values", *_PARTS.values()]]
    for row in found.accuracy:
        cells = [
            " / ".join(
                f"{errors[part]['largest']:.1e}" for errors in row["errors"].values() if part in errors
            )
            for part in _PARTS
        ]
        mode = "" if row["train"] else " inference"
        rows.append([row["layer"] + mode, row["data"], shape_text(row["checked"]), *cells])
    return rows


def accuracy_line(found):
    """Return in how many of the figures ours is no farther from float64 than PyTorch."""
    pairs = [
        (row["errors"]["darknetpy"][part], row["errors"]["torch"][part])
        for row in found.accuracy
        if "torch" in row["errors"]
        for part in row["errors"]["torch"]
    ]
    if not pairs:
        return ""
    counts = [sum(ours[kind] <= theirs[kind] for ours, theirs in pairs) for kind in ("largest", "norm")]
    worst = [
        max(ours[kind] / theirs[kind] for ours, theirs in pairs if theirs[kind])
        for kind in ("largest", "norm")
    ]
    return (
        f"Ours is no farther from float64 than PyTorch in {counts[0]} of {len(pairs)} figures by the largest "
        f"error, in {counts[1]} by the norm of all; its error is at most {worst[0]:.2f} times "
        f"PyTorch's by the largest, {worst[1]:.2f} times by the norm."
    )


# ---- text
def _title(found, shape):
    size = 4 * shape[0] * shape[1] * shape[2] * shape[3]
    where = "fits in the cache" if size <= found.cache else "exceeds the cache"
    return f"{shape_text(shape)}: {size / 1e6:.1f} MB a tensor, {where}"


def text(found):
    """Return the tables for a terminal."""
    parts = []
    for shape in found.settings.shapes:
        parts += [_title(found, shape), "", columns(shape_table(found, shape)), ""]
    parts += ["Geometric means over the shapes", "", columns(summary_table(found, _forms(found)))]
    if found.accuracy:
        parts += ["", _ERRORS, "", columns(accuracy_table(found)), accuracy_line(found)]
    return "\n".join([*parts, *(f"note: {note}" for note in found.notes)])


def _forms(found, single=None):
    """Return the forms measured; `single`: only Darknet's functions (True), only layers' passes (False)."""
    return [
        form
        for form in dict.fromkeys(row.form for row in found.rows)
        if single is None or (form in KERNELS) == single
    ]


_ERRORS = "Largest error against float64 over the largest value, ours / PyTorch's"


# ---- files
def markdown(found, machine, command, plot=None):
    """Return the page: the command, the machine, means over the shapes, errors, and a table per shape."""
    parts = ["# Batch normalization and its cousins beside other programs", "", f"`{command}`", ""]
    parts += [f"- {name}: {value}" for name, value in machine.items()]
    parts += [
        f"- last-level cache: {found.cache / 1e6:.0f} MB",
        *(f"- {line}" for line in memory_lines(found)),
    ]
    parts += [f"- {note}" for note in found.notes]
    parts += [
        f"- beside {program}"
        for program in dict.fromkeys(found.facts[peer]["program"] for peer in _peers(found))
    ]
    parts += ["", _EXPLANATION]
    parts += (
        [f"\n![Memory traffic and arithmetic of each kernel beside what memory allows]({plot})"]
        if plot
        else []
    )
    parts += ["", "## Layers, fused", "", pipes(summary_table(found, _forms(found, single=False)))]
    if _forms(found, single=True):
        parts += [
            "",
            "## Darknet's functions, one by one",
            "",
            pipes(summary_table(found, _forms(found, single=True))),
        ]
    lines = shortfalls(found)
    parts += ["", "## What falls short", ""] + [f"- {line}" for line in lines] if lines else []
    if found.accuracy:
        parts += [
            "",
            "## Accuracy",
            "",
            accuracy_line(found),
            "",
            f"{_ERRORS}; a large shape is cut to fewer channels (batch "
            "normalization) or samples (the others).",
            "",
            pipes(accuracy_table(found)),
        ]
    for shape in found.settings.shapes:
        parts += ["", f"## {_title(found, shape)}", "", pipes(shape_table(found, shape))]
    parts += ["", "## Traffic and arithmetic counted", "", pipes(traffic_table(found))]
    return "\n".join(parts) + "\n"


def memory_lines(found):
    """Return a line per number of threads on what memory did."""
    lines = []
    for n in found.settings.threads:
        parts = []
        for kind in ("copy", "read", "write"):
            rates = [m[kind] / 1e9 for row in found.rows if row.threads == n for m in row.memory]
            parts.append(f"{kind} {statistics.median(rates):.0f} ({min(rates):.0f} to {max(rates):.0f})")
        lines.append(f"streaming GB/s, {_count(n)}, median and range over the run: {', '.join(parts)}")
    return lines


def traffic_table(found):
    """Return the rows of the table of what is counted, the head first."""
    rows = [
        [
            "",
            "least bytes per value",
            "reads",
            "writes",
            "read again by a second pass",
            "operations per value",
        ]
    ]
    return rows + [
        [
            name,
            str(FORMS[name].traffic),
            str(FORMS[name].reads),
            str(FORMS[name].writes),
            str(FORMS[name].again or ""),
            str(FORMS[name].flops),
        ]
        for name in _forms(found)
    ]


_EXPLANATION = """\
Every program runs in a process of its own; each form is timed in all of them in turns, with every number of
threads, and a ratio is taken round by round: how many times as fast darknetpy is. Figures are medians over
the rounds. Layers go through darknetpy's Python face (`forward_batchnorm_layer(l, net)`, `net.delta` None,
the input not copied), PyTorch through `torch.native_batch_norm`, `native_batch_norm_backward` and the like
without autograd, once as users run it and once with glibc told to keep freed memory, Darknet through the
functions of its library, which knows no threads. PyTorch has no counterpart of Darknet's single functions:
there it runs the tensor expression one would write. Its layer normalization has a scale and a bias per
value, darknetpy's per channel: their gradients are not compared.

"GB/s" and "of copy" count each tensor once, read or written, beside a copy with streaming stores in the
same round and process: training forward reads x and writes y, though its second pass reads x again, from
the cache at best. "Of passes" is the time that memory needs for the passes made, at the speeds of streaming
read, write and copy in the same round, over the time taken; what a second pass reads again counts where a
channel (or group) exceeds the last-level cache. Tensors that fit in the cache can exceed 100 %, and so can
functions that work in place, whose stores need no line fetched for them. In the tables of means ">=" is the
least of the shapes that exceed the cache. Goals hold for the geometric mean; every single shape should
reach 1x, be no slower on more threads, and beyond the cache take 90 % of what memory allows."""


def record(found, machine, command):
    """Return all figures as a dict fit for JSON."""
    return {"command": command, "machine": machine, **asdict(found)}
