"""What a benchmark found, as text tables, Markdown and JSON."""
from __future__ import annotations

import statistics
import textwrap
from dataclasses import asdict

from darknetpy.bench.network import median_and_range
from darknetpy.bench.process import device_of, on_device
from darknetpy.memory import human_bytes

_HEAD = ("program", "threads", "ms/step", "range", "images/s", "GFLOP/s", "of peak", "darknetpy is", "range",
         "to the CPU", "range", "peak memory", "libraries", "on the device")  # fmt: skip
_LAYER_HEAD = ("layer", "type", "input", "output", "forward ms", "GFLOP/s", "backward ms", "GFLOP/s")
_PEER_HEAD = ("PyTorch, best: forward", "backward ms", "darknetpy is")
_DEVICE_HEAD = ("to the CPU",)
_SUMMARY = "How many times as fast darknetpy is, medians"
_FASTEST = "the fastest of them"
_LAYERS = "Each layer alone{where}, best of the rounds; a backward pass counts twice the work of a forward pass"
_WIDTH = 110            # of a page's text
_BACKWARD_PASSES = 2    # a backward pass works out two gradients, each as much work as the forward pass


def title(found):
    """Return what was measured, in a line."""
    c, h, w = found.shape
    kind = "training step" if found.train else "inference"
    size = f"{w}x{h}x{c}" if h else "plain inputs"
    threads = f"{found.threads} thread" + "s" * (found.threads > 1)
    return f"{found.cfg}, {kind}, batch {found.batch} of {size}, {threads}, {found.flops / 1e9:.1f} GFLOP"


def _program_row(found, result):
    step, fastest, slowest = median_and_range(result.step)
    speed = found.flops / step
    on_cpu = device_of(result.name) == "cpu"
    row = [result.label, str(result.facts["threads"]) if on_cpu else "", f"{step * 1e3:.1f}", f"{fastest * 1e3:.1f} to {slowest * 1e3:.1f}",
           f"{found.batch / step:.1f}", f"{speed / 1e9:.1f}", f"{speed / found.peak:.0%}" if on_cpu else "",
           *_ratio_cells(result.speedup), *_ratio_cells(result.beside_cpu), human_bytes(result.peak_bytes),
           human_bytes(result.facts["bytes_before"]), human_bytes(result.device_bytes) if result.device_bytes else ""]
    return row


def _ratio_cells(ratios):
    if not ratios:
        return ["", ""]
    middle, least, most = median_and_range(ratios)
    return [f"{middle:.2f}x as fast", f"{least:.2f} to {most:.2f}"]


def program_table(found):
    """Return the rows of the table of programs, the head first."""
    return [list(_HEAD), *(_program_row(found, result) for result in found.results)]


def summary_table(comparisons):
    """Return how many times as fast darknetpy is, the head first: a row per program and number of threads.

    The columns are the networks and the geometric mean over them; the last rows are against the fastest of all programs
    on a device. Our own on other devices are rows too: how many times as fast as the CPU.
    """
    networks = list(dict.fromkeys(_network(found) for found in comparisons))
    ratios = {}
    for found in comparisons:
        for device in dict.fromkeys(device_of(result.name) for result in found.results):
            own = [result for result in found.results if device_of(result.name) == device]
            medians = {result.label: median_and_range(result.speedup)[0] for result in own if result.speedup}
            fastest = {on_device(_FASTEST, device).replace("@", ", "): min(medians.values())} if medians else {}
            beside = {f"the CPU, on {device}": median_and_range(result.beside_cpu)[0] for result in own if result.beside_cpu}
            for label, ratio in {**medians, **beside, **fastest}.items():
                ratios.setdefault((label, found.threads), {})[_network(found)] = ratio
    rows = sorted(ratios.items(), key=lambda row: row[0][0].startswith(_FASTEST))
    return [["against", "threads", *networks, "geometric mean"],
            *([label, str(threads), *(f"{own[name]:.2f}x" if name in own else "" for name in networks),
               f"{statistics.geometric_mean(own.values()):.2f}x"] for (label, threads), own in rows)]


def _network(found):
    name, width = found.cfg[:-4] if found.cfg.endswith(".cfg") else found.cfg, found.shape[2]
    return f"{name} {found.batch}@{width}" if width else f"{name} {found.batch}"


def processor_line(found):
    """Return a line on what the processor can do at most."""
    line = f"peak: {found.peak / 1e9:.0f} GFLOP/s of multiply-adds in registers, the best of all rounds"
    if found.trips:
        middle, least, most = (1e9 * seconds for seconds in median_and_range(found.trips))
        line += f"; a word from core to core and back: {middle:.0f} ns ({least:.0f} to {most:.0f})"
    return line


def check_lines(found):
    """Return a line per peer on how far its numbers and ours lie apart."""
    lines = []
    for result in found.results:
        if "output" in result.check:
            share = f"{result.check['output']:.1e} of the largest"
            line = f"same numbers: outputs differ from {result.label}'s by at most {share}"
            if "gradient" in result.check:
                line += (f"; the gradient is {result.check['gradient']:.1e} from float64's, "
                         f"{result.label}'s own {result.check['peer_gradient']:.1e}")
            lines.append(line)
    return lines


def _layer_row(layer, device, peer):
    ours = layer["seconds"][on_device("darknetpy", device)]
    row = ["" if layer["index"] is None else str(layer["index"]), layer["type"], _shape(layer.get("input")), _shape(layer.get("output"))]
    for which, passes in (("forward", 1), ("backward", _BACKWARD_PASSES)):
        time = ours.get(which)
        row.append("" if time is None else f"{time * 1e3:.2f}")
        row.append(f"{layer['flops'] * passes / time / 1e9:.0f}" if time and layer["type"] in ("convolutional", "connected") else "")
    if peer:
        theirs = layer["seconds"][peer]
        row += ["" if which not in theirs else f"{theirs[which] * 1e3:.2f}" for which in ("forward", "backward")]
        total = sum(ours.values())
        row.append(f"{sum(theirs.values()) / total:.2f}x" if total and theirs else "")
    if device != "cpu":
        total = sum(ours.values())
        row.append(f"{sum(layer['seconds']['darknetpy'].values()) / total:.2f}x" if total else "")
    return row


def layer_devices(found):
    """Return the devices on which layers were timed."""
    return list(dict.fromkeys(map(device_of, found.layers[0]["seconds"])))


def layer_peer(found, device):
    """Return the program beside darknetpy whose layers were timed on a device, or None."""
    own = (name for name in found.layers[0]["seconds"] if device_of(name) == device)
    return next((name for name in own if name != on_device("darknetpy", device)), None)


def layer_table(found, device="cpu"):
    """Return the rows of the table of layers on a device, the head first; a last row holds the sums."""
    peer = layer_peer(found, device)
    rows = [_layer_row(layer, device, peer) for layer in found.layers]
    passes = ("forward", "backward") if found.train else ("forward",)
    times = {name: [layer["seconds"][name] for layer in found.layers] for name in found.layers[0]["seconds"]}
    sums = {name: {which: sum(each.get(which, 0) for each in rows) for which in passes}
            for name, rows in times.items()}
    total = _layer_row({"index": None, "type": "sum", "seconds": sums, "flops": 0}, device, peer)
    return [list(_LAYER_HEAD + (_PEER_HEAD if peer else ()) + (_DEVICE_HEAD if device != "cpu" else ())), *rows, total]


def layer_tables(found, form):
    """Return the lines of the tables of layers, one a device, drawn by `form`."""
    lines = []
    for device in layer_devices(found) if found.layers else ():
        where = "" if device == "cpu" else f" on {device}, the wait for it included"
        lines += ["", _LAYERS.format(where=where), "", form(layer_table(found, device))]
    return lines


def device_lines(found):
    """Return a line per program on another device: what it is there."""
    lines = []
    for result in found.results:
        if device_of(result.name) != "cpu":
            lines.append(f"{result.label}: {result.facts.get('device', result.facts['program'])}")
    return lines


def _shape(shape):
    return "x".join(str(side) for side in reversed(shape)) if shape else ""


# ---- text
def text(found):
    """Return the tables of a comparison for a terminal."""
    parts = [title(found), "", columns(program_table(found)), "", processor_line(found)]
    parts += [*device_lines(found), *check_lines(found), *(f"note: {note}" for note in found.notes)]
    return "\n".join([*parts, *layer_tables(found, columns)])


def summary_text(comparisons):
    """Return the table of several comparisons for a terminal."""
    return "\n".join([_SUMMARY, "", columns(summary_table(comparisons))])


def columns(rows):
    """Return a table for a terminal; the first row is the head."""
    rows = _without_empty_columns(rows)
    widths = [max(map(len, column)) for column in zip(*rows)]
    lines = ["  ".join(cell.ljust(width) if i == 0 else cell.rjust(width) for i, (cell, width) in enumerate(zip(row, widths))).rstrip()
             for row in rows]
    return "\n".join([lines[0], "-" * len(lines[0]), *lines[1:]])


def _without_empty_columns(rows):
    kept = [i for i in range(len(rows[0])) if any(row[i] for row in rows[1:])]
    return [[row[i] for i in kept] for row in rows]


# ---- files
def markdown(comparisons, machine, command, plot=None):
    """Return the page: the command, the machine, and a table per network; `plot`: path of a picture."""
    parts = ["# Whole networks beside other programs", "", f"`{command}`", ""]
    parts += [f"- {name}: {value}" for name, value in machine.items()]
    peers = {r.facts["program"] for found in comparisons for r in found.results} - {"darknetpy"}
    parts += [f"- beside {peer}" for peer in sorted(peers)]
    parts += ["", textwrap.fill(_EXPLANATION.format(**_WORDS[comparisons[0].train]), _WIDTH)]
    if any(device_of(result.name) != "cpu" for found in comparisons for result in found.results):
        parts += ["", textwrap.fill(_ON_DEVICES, _WIDTH)]
    parts += ["", f"![time of each program and of each layer]({plot})"] if plot else []
    if len(comparisons) > 1:
        parts += ["", f"{_SUMMARY}:", "", pipes(summary_table(comparisons))]
    for found in comparisons:
        parts += ["", f"## {title(found)}", "", pipes(program_table(found))]
        lines = [processor_line(found), *device_lines(found), *check_lines(found), *found.notes]
        parts += ["", *(f"- {line}" for line in lines), *layer_tables(found, pipes)]
    return "\n".join(parts) + "\n"


_EXPLANATION = """\
Every program runs in a process of its own, in turns, on the same network, batch, parameters and \
thread count; {step}. \
Figures are medians over the rounds, with the range; the ratio is taken round by round. \
GFLOP/s counts the work of direct convolution{work}, whatever a program really does; so its share of \
the peak can exceed 100 %. \
"PyTorch" is as users run it; "PyTorch, best" is channels_last, {best}, and glibc told to keep freed memory. \
{others}\
"Libraries" is the part of the peak memory that was there before the network was made. \
The outputs are compared on the same parameters and images, {check}."""
_ON_DEVICES = """\
Programs with a device behind their name ran there. A step begins with images in the host's memory and ends with the \
loss, or the outputs, there. "Darknetpy is" compares with darknetpy on the same device, "to the CPU" says how many times \
as fast as on the CPU darknetpy is there. PyTorch's products and convolutions are float32 without TF32, as darknetpy's; \
its best mode on a GPU is pinned images, cuDNN's choice by trial and a fused optimizer, with channels in front. \
"On the device" is the memory taken there. Emulated times are the emulator's, not a GPU's."""
_WORDS = {
    True: {"step": "a step of training is forward, backward and the optimizer (momentum, weight decay)",
           "work": ", three times the forward pass for training", "best": "a fused optimizer", "others": "",
           "check": "in units of the largest; the gradient is that of all parameters without dropout, its "
                    "distance relative, and the float64 one is PyTorch's"},
    False: {"step": "a step is a forward pass", "work": "", "best": "batch normalization folded into weights",
            "others": "ncnn computes in float32, with Winograd's convolutions and packed layouts; onnxruntime "
                      "has all its optimizations; both, too, have the normalization folded. ",
            "check": "in units of the largest; of networks with [yolo] heads that is what the heads take in. "
                     "OpenCV's heads decode boxes too, the others take the logistic only"},
}


def pipes(rows):
    """Return a table for Markdown; the first row is the head."""
    rows = _without_empty_columns(rows)
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join([lines[0], "|---|" + "---:|" * (len(rows[0]) - 1), *lines[1:]])


def record(comparisons, machine, command):
    """Return all figures as a dict fit for JSON."""
    return {"command": command, "machine": machine, "networks": [asdict(found) for found in comparisons]}
