"""What `bench kernels` found, as text tables, Markdown and a dict for JSON."""

from __future__ import annotations

import statistics
from dataclasses import asdict

from darknetpy.bench.forms import FORMS, PASSES, SHAPES
from darknetpy.bench.kernels import geometric_mean, label, medians, place_text, shape_text
from darknetpy.bench.process import on_device
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
        "device",
        "threads",
        "ms",
        "range",
        "GB/s",
        "of copy",
        "of passes",
        "to the CPU",
        *(f"to {label(peer)}" for peer in peers),
    ]
    rows = [head]
    for row in found.rows:
        if row.shape == shape:
            own = [1e3 * s for s in row.seconds["darknetpy"]]
            ratios = [found.beside_cpu(row), *(row.ratio(peer) for peer in peers)]
            rows.append(
                [
                    row.form,
                    *_place_cells(found, row.place),
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
        [
            "",
            "device",
            "threads",
            "to the CPU",
            *(f"to {label(peer)}" for peer in peers),
            "of copy",
            "of passes",
            "beside 1 thread",
        ]
    ]
    for form in forms:
        for place in found.settings.places():
            if not any(row.form == form and row.place == place for row in found.rows):
                continue
            cells = [
                _ratio(medians(found.rows, form, place, peer), goal(form, place[1], peer) if goals else None)
                for peer in peers
            ]
            cells.insert(0, _ratio(_beside_cpu(found, form, place), None))
            shares, gain = _worst_shares(found, form, place), _gain(found, form, place)
            rows.append([form, *_place_cells(found, place), *cells, *shares, gain])
    return rows


def _peers(found):
    """Return the peers that ran somewhere."""
    ran = {name.partition("@")[0] for name in found.facts}
    return [peer for peer in dict.fromkeys((*found.settings.peers, "torch")) if peer in ran]


def _place_cells(found, place):
    """Return the cells of device and threads; of the CPU alone the threads say all."""
    device, threads = place
    return (device if set(found.settings.devices) != {"cpu"} else "", str(threads) if device == "cpu" else "")


def _beside_cpu(found, form, place):
    """Return how many times as fast as the CPU a form is on every shape, medians over the rounds."""
    chosen = [found.beside_cpu(row) for row in found.rows if row.form == form and row.place == place]
    return [statistics.median(ratio) for ratio in chosen if ratio]


def _ratio(values, aim):
    if not values:
        return ""
    mean = geometric_mean(values)
    reached = "" if aim is None else f", goal {aim:g}: {'reached' if mean >= aim else 'missed'}"
    return f"{mean:.2f}x (least {min(values):.2f}{reached})"


def _percent(shares):
    return f"{100 * statistics.median(shares):.0f} %" if shares else ""


def _worst_shares(found, form, place):
    """The least shares of the copy and of what memory allows, of the shapes beyond the cache."""
    rows = [r for r in found.rows if r.form == form and r.place == place and r.beyond_cache()]
    shares = [[statistics.median(s) for s in kind if s] for kind in zip(*((r.of_copy(), r.of_passes()) for r in rows))]
    return tuple(f">= {100 * min(share):.0f} %" if share else "" for share in shares) or ("", "")


def _gain(found, form, place):
    """How many times as fast as on one thread: geometric mean and least."""
    gains = [gain for _, gain in _gains(found, form, place)]
    return f"{geometric_mean(gains):.2f}x (least {min(gains):.2f})" if gains else ""


def _gains(found, form, place):
    """Return (shape, times as fast as on one thread), medians over the rounds."""
    device, threads = place
    if device != "cpu" or threads == 1 or 1 not in found.settings.threads:
        return []
    own = [row for row in found.rows if row.form == form and row.device == "cpu"]
    rows = {(row.shape, row.threads): row.seconds["darknetpy"] for row in own}
    return [
        (shape, statistics.median(one / more for one, more in zip(rows[shape, 1], rows[shape, threads])))
        for shape in found.settings.shapes
    ]


def shortfalls(found):
    """Return a line per layer pass and shape that is slower than a peer or than on one thread, or that,
    beyond the cache, takes less than 90 % of what memory allows."""
    lines = []
    for row in found.rows:
        if row.form not in PASSES or row.device == "emulated":
            continue
        said = []
        for peer in _peers(found):
            ratio = row.ratio(peer)
            if ratio and statistics.median(ratio) < 1:
                said.append(f"{statistics.median(ratio):.2f}x beside {label(peer)}")
        gain = dict(_gains(found, row.form, row.place)).get(row.shape, 1)
        if gain < 1:
            said.append(f"{gain:.2f}x beside 1 thread")
        if row.beyond_cache() and row.of_passes() and statistics.median(row.of_passes()) < _SHARE:
            said.append(f"{_percent(row.of_passes())} of what memory allows for its passes")
        if said:
            lines.append(f"{row.form}, {shape_text(row.shape)}, {place_text(row.place)}: {'; '.join(said)}")
    return lines


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
        (next(iter(row["errors"].values()))[part], row["errors"]["torch"][part])
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
    caches = {"cpu": found.cache, **{device: facts["cache"] or found.cache for device, facts in _devices(found)}}
    places = [
        ("fits in" if size <= caches[device] else "exceeds") + (" the cache" if device == "cpu" else f" {device}'s")
        for device in found.settings.devices
    ]
    return f"{shape_text(shape)}: {size / 1e6:.1f} MB a tensor, {', '.join(places)}"


def _devices(found):
    """Return (device, facts of darknetpy there), without the CPU."""
    others = [device for device in found.settings.devices if device != "cpu"]
    return [(device, found.facts[on_device("darknetpy", device)]) for device in others]


def text(found):
    """Return the tables for a terminal."""
    parts = []
    for shape in found.settings.shapes:
        parts += [_title(found, shape), "", columns(shape_table(found, shape)), ""]
    parts += ["Geometric means over the shapes", "", columns(summary_table(found, _forms(found)))]
    if found.accuracy:
        parts += ["", _errors(found), "", columns(accuracy_table(found)), accuracy_line(found)]
    if _devices(found):
        parts += ["", *memory_lines(found), *_device_lines(found)]
    return "\n".join([*parts, *(f"note: {note}" for note in found.notes)])


def _device_lines(found):
    """Return a line per device on what it is, and on what runs beside darknetpy there."""
    lines = []
    for device, facts in _devices(found):
        beside = [found.facts[name]["program"] for name in found.facts if name == on_device("torch", device)]
        lines += [f"{device}: {facts['device']}", *(f"{device}: beside {program}" for program in beside)]
        if facts["cache"]:
            lines.append(f"{device}: last-level cache of {facts['cache'] / 1e6:.0f} MB")
    return lines


def _forms(found, single=None):
    """Return the forms measured; `single`: only Darknet's functions (True), only layers' passes (False)."""
    return [
        form
        for form in dict.fromkeys(row.form for row in found.rows)
        if single is None or (form not in PASSES) == single
    ]


def _errors(found):
    """Return the head of the table of errors: whose they are, in their order."""
    names = dict.fromkeys(name for row in found.accuracy for name in row["errors"])
    whose = ["PyTorch's" if name == "torch" else "ours" if name == "darknetpy" else f"ours on {name.partition('@')[2]}" for name in names]
    return f"Largest error against float64 over the largest value, {' / '.join(whose)}"


# ---- files
def markdown(found, machine, command, plot=None):
    """Return the page: the command, the machine, means over the shapes, errors, and a table per shape."""
    parts = ["# Batch normalization and its cousins beside other programs", "", f"`{command}`", ""]
    parts += [f"- {name}: {value}" for name, value in machine.items()]
    parts += [
        f"- last-level cache: {found.cache / 1e6:.0f} MB",
        *(f"- {line}" for line in memory_lines(found) + _device_lines(found)),
    ]
    parts += [f"- {note}" for note in found.notes]
    parts += [
        f"- beside {program}"
        for program in dict.fromkeys(found.facts[peer]["program"] for peer in found.settings.peers if peer in found.facts)
    ]
    parts += ["", _EXPLANATION, *(["", _ON_DEVICES] if _devices(found) else [])]
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
            f"{_errors(found)}; a large shape is cut to fewer channels (batch "
            "normalization) or samples (the others).",
            "",
            pipes(accuracy_table(found)),
        ]
    for shape in found.settings.shapes:
        parts += ["", f"## {_title(found, shape)}", "", pipes(shape_table(found, shape))]
    parts += ["", "## Traffic and arithmetic counted", "", pipes(traffic_table(found))]
    return "\n".join(parts) + "\n"


def memory_lines(found):
    """Return a line per device and number of threads on what memory did."""
    lines = []
    for place in found.settings.places():
        parts = []
        rates = [memory for row in found.rows if row.place == place for memory in row.memory]
        for kind in rates[0]:
            own = [rate[kind] / 1e9 for rate in rates]
            parts.append(f"{kind} {statistics.median(own):.0f} ({min(own):.0f} to {max(own):.0f})")
        lines.append(f"streaming GB/s, {place_text(place)}, median and range over the run: {', '.join(parts)}")
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
_ON_DEVICES = """\
On a device arrays lie in its memory. A call only begins its work there, so calls go on until a tenth of a turn
has passed and then wait for their end; the time is theirs together over their number, and so are PyTorch's.
Layers are networks of one layer, whose passes run by themselves; the copy is the driver's, both directions
counted. "To the CPU" is how many times as fast as darknetpy on the CPU with most threads, round by round.
PyTorch runs through `_batch_norm_impl_index`, which takes cuDNN where it may, as its modules do."""


def record(found, machine, command):
    """Return all figures as a dict fit for JSON."""
    return {"command": command, "machine": machine, **asdict(found)}
