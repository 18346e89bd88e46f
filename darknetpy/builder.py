"""From a .cfg to a network, and back: what the option table says becomes options of the core's layers."""
from __future__ import annotations

import os
from dataclasses import replace
from typing import Any, Optional

import numpy as np

from darknetpy._types import Path
from darknetpy.cfg import Option, Section, format_cfg, parse_cfg
from darknetpy.core import Core, OptionError
from darknetpy.core import core as default_core
from darknetpy.dialects import dialect_value
from darknetpy.errors import ArgumentError, DataError, OutOfMemory
from darknetpy.layer import STATISTICS_WORDS, Layer, activation_number
from darknetpy.memory import available_bytes, human_bytes
from darknetpy.network import Network
from darknetpy.paths import find_beside, find_cfg
from darknetpy.sections import SECTIONS, TRAINING_NUMBERS, LayerSpec, Resolved, format_value, resolve
from darknetpy.weights import is_filled, read_header


def load_network(cfg: Path, weights: Optional[Path] = None, batch: Optional[int] = None, device: str = "cpu",
                 train: bool = False, batchnorm: Optional[str] = None, dialect: Optional[str] = None,
                 lenient: bool = False, *, keep_activations: bool = True, core: Core = default_core) -> Network:
    """Build a network from a Darknet .cfg file.

    Parameters
    ----------
    cfg : str or path
        The file; a bare name that is no file here is looked for among the cfgs that come with the package.
    weights : str or path, optional
        A .weights file to load; its header helps to tell the dialect.
    batch : int, optional
        Rows of one forward pass, time steps included.  None: 1 for inference, batch / subdivisions of the cfg for training,
        times time_steps.
    device : str
        Where arrays lie and passes run: ``"cpu"``, here; ``"gpu"`` or ``"gpu:1"``, on an NVIDIA GPU (``make cuda``, PyCUDA);
        ``"emulated"``, with the GPU's kernels on the CPU (``make cuda-emulated``), which is slow and checks them.
    train : bool
        Whether to keep what training needs: deltas, updates, batch statistics.
    batchnorm : {"paper", "darknet"}, optional
        Formulas of batch normalization; None: what [net] says, else the paper's.
    dialect : {"pjreddie", "alexeyab", "hankai"}, optional
        None: what the cfg and the weights say, else pjreddie.
    lenient : bool
        Unknown keys are warnings (in ``net.notes``) instead of errors.
    keep_activations : bool
        Whether every layer's output, delta and work arrays have memory of their own and can be read at any time.
        False: arrays that are never needed at the same time share memory, which inference takes a fraction of and
        training about half; every number stays the same, bit for bit.  What can be read then: losses, heads of
        detectors, recurrent layers, the network's output, and all parameters, statistics and updates.

    Returns
    -------
    Network
        Its ``notes`` say what was accepted without effect.

    Raises
    ------
    CfgError
        The first mistake, with file, line, section and key; nothing was allocated.
    OutOfMemory
        The network needs more memory than there is; nothing was allocated.
    WeightsError
        The weights do not fit.
    """
    path = find_cfg(os.fspath(cfg))
    sections = parse_cfg(path)
    revision = None
    if weights is not None:
        revision = read_header(weights).revision
    plan = resolve(sections, dialect=dialect, batchnorm=batchnorm, lenient=lenient, weights_revision=revision)
    return build_network(plan, batch=batch, device=device, train=train, keep_activations=keep_activations, weights=weights, core=core)


def build_network(plan: Resolved, batch: Optional[int] = None, device: str = "cpu", train: bool = False,
                  keep_activations: bool = True, allocate: bool = True, weights: Optional[Path] = None,
                  core: Core = default_core) -> Network:
    """Build the network of a resolved .cfg; see :func:`load_network`.

    Without `allocate` it has shapes and options, but no arrays: it can be summarized, not run or loaded.  What the file `weights`
    holds gets no random start values first, which in a large network would take longer than reading it.
    """
    values = plan.net
    steps = values["time_steps"]
    if batch is None:
        batch = values["batch"] // values["subdivisions"] * steps if train else steps
        if not batch:
            message = f"subdivisions={values['subdivisions']} leaves no image per forward pass; batch={values['batch']}"
            raise plan.error(message, "subdivisions")
    if isinstance(batch, bool) or not isinstance(batch, (int, np.integer)) or batch < 1 or batch % steps:
        raise ArgumentError(f"batch={batch!r}: wanted a positive multiple of time_steps={steps}")
    if batch > 2**31 - 1:
        raise plan.error(f"{batch} rows per forward pass (batch / subdivisions * time_steps): wanted at most {2**31 - 1}")
    image = (values["width"], values["height"]) if values["width"] and values["height"] else (None, None)
    net = Network(int(batch), *image, values["channels"] if image[0] else values["inputs"], train=train, device=device,
                  fused=values["fused"], core=core)
    net.dialect, net.batchnorm, net.sections = plan.dialect, plan.batchnorm, plan
    net.notes += plan.warnings + plan.notes
    _set_training(net, values)
    _set_precision(net, plan)
    for spec in plan.layers:
        _add(net, spec, values)
    net._set_options({"keep_activations": bool(keep_activations)})
    core.check(core.lib.plan_network(net._handle))
    if allocate:
        _refuse_too_large(net, lambda rows: build_network(plan, rows, device, train, keep_activations, allocate=False, core=core))
        core.check(core.lib.allocate_network(net._handle))
    for layer in net.layers:
        layer._list_arrays()
        if allocate and not (weights is not None and is_filled(layer)):
            core.check(core.lib.initialize_layer(layer._handle, values["seed"]))
    if weights is not None:
        net.load_weights(weights)
    return net


def _set_training(net, values):
    """The optimizer and the learning-rate policy of [net]."""
    lib, check = net._core.lib, net._core.check
    net._set_options({name: values[name] for name in (*TRAINING_NUMBERS, "adam") if values[name] is not None})
    net.seed = values["seed"]
    net._set_options({"policy": _POLICIES[values["policy"]]})
    if values["policy"] == "steps":         # other policies may carry the lists, of any length, and do not read them
        check(lib.set_network_steps(net._handle, [float(s) for s in values["steps"]], values["scales"], len(values["steps"])))


def _set_precision(net, plan):
    """What products are rounded to; the CPU's are not."""
    word = plan.net["precision"]
    net._set_options({"precision": core_value("precision", word)})
    if net._device is None and word != "fp32":
        note = f"precision={word} has no effect here: it acts on a GPU, and the CPU rounds no product"
        net.notes.append(str(plan.error(note, "precision")))


def _add(net, spec, net_values):
    """Make the layer of one section and shape it; errors of the core get the section's file and line."""
    core = net._core
    layer = Layer(spec.type, core=core)
    layer.spec = replace(spec, values=dict(spec.values))        # its own: the plan may serve another network
    try:
        layer._set_options(_core_options(layer, spec, net, net_values))
        core.check(core.lib.add_layer(net._handle, layer._handle))
    except OptionError as error:
        raise spec.error(_without_section(str(error), spec.type), error.key or None) from None
    net._append(layer)
    if spec.type == "route" and not layer.out_h:
        note = "the layers have no maps, or maps of unlike sizes: the output is a row of plain values, and no image"
        net.notes.append(str(spec.error(note, "layers")))


def _without_section(message, name):
    return message[len(name) + 3:] if message.startswith(f"[{name}] ") else message


# Words of the option table -> numbers of the core's enums.
_POLICIES = {"constant": 0, "step": 1, "steps": 2, "exp": 3, "poly": 4, "random": 5, "sigmoid": 6, "sgdr": 7}
_NORMALIZATIONS = {"none": 0, "batch": 1, "group": 2, "layer": 3, "instance": 4}
_COST_TYPES = {"sse": 0, "masked": 1, "L1": 2, "smooth": 3, "seg": 4, "wgan": 5}


_STATISTICS = {word: number for number, word in enumerate(STATISTICS_WORDS)}
CONVOLUTIONS = {"auto": 0, "gemm": 1, "winograd4": 2, "winograd6": 3}
PRECISIONS = {"fp32": 0, "tf32": 1, "fp16": 2, "bf16": 3}
_OVERLAPS = {"mse": 0, "iou": 1, "giou": 2, "diou": 3, "ciou": 4}
NMS_KINDS = {"default": 0, "greedynms": 1, "diounms": 2, "cornersnms": 3, "objectness": 4}
_WORDS = {"type": _COST_TYPES, "normalize": _NORMALIZATIONS, "statistics": _STATISTICS, "convolution": CONVOLUTIONS,
          "precision": PRECISIONS,
          "iou_loss": _OVERLAPS, "iou_thresh_kind": _OVERLAPS, "nms_kind": NMS_KINDS,
          "yolo_point": {"center": 0, "left_top": 1, "right_bottom": 2},
          "weights_type": {"none": 0, "per_feature": 1, "per_channel": 2},
          "weights_normalization": {"none": 0, "relu": 1, "softmax": 2}}


def core_value(key: str, value: Any, name: Optional[str] = None) -> Any:
    """Return what the core wants for an option of a layer: a word's number, any other value as it is.

    Raises
    ------
    ArgumentError
        There is no such word; the message calls the option `name`.
    """
    if key in ("activation", "lstm_activation"):
        return activation_number(value)
    if key not in _WORDS:
        return value
    if value not in _WORDS[key]:
        raise ArgumentError(f"{name or key}={value!r}: wanted one of {', '.join(_WORDS[key])}")
    return _WORDS[key][value]


def _core_options(layer, spec, net, net_values):
    """What the core's layer is told: the section's values that it knows, and what dialect and batchnorm decide."""
    options = {}
    for key, value in spec.values.items():
        if value is None:
            continue
        value = file_values(spec, key, value) if key in ("tree", "map") else core_value(key, value)
        if core_knows(layer, key, value):
            options[key] = value
    if core_knows(layer, "time_steps", 1):
        options["time_steps"] = net_values["time_steps"]
    if spec.values.get("share_index") is not None:
        options["share_index"] = [spec.values["share_index"]]
    options["clip"] = options["clip"] or net_values["clip"]
    options["fused"] = net_values["fused"]
    options["adam"], options["velocity"] = net_values["adam"], net_values["max_gradient"] > 0
    options["averaged"] = net_values["ema_alpha"] > 0
    options["convolution"] = core_value("convolution", net_values["convolution"])
    options.update(dialect_options(spec.type, net.dialect, net.batchnorm))
    if options.get("prefix") and _adds_maps_of_unlike_sizes(spec, net):
        note = "adds maps of unlike sizes, which AlexeyAB's Darknet refuses: sampled as in dialect=pjreddie"
        net.notes.append(str(spec.error(note, "from")))
        options["prefix"] = False
    options.update(_statistics_options(spec, net_values))
    return options


def _adds_maps_of_unlike_sizes(spec, net):
    """Tell whether a plain [shortcut] has one source, whose height or width is not its input's."""
    last, *sources = (net.layers[i] for i in (-1, *spec.values["from"]))
    return spec.values["weights_type"] == "none" and len(sources) == 1 and bool(last.out_h and sources[0].out_h) and \
        (last.out_h, last.out_w) != (sources[0].out_h, sources[0].out_w)


def _statistics_options(spec, net_values):
    """What becomes of batch statistics: as the layer says, else as [net] does."""
    options = {}
    for key in {"statistics", "rolling_momentum"} & spec.values.keys():
        value = net_values[key] if spec.values[key] is None else spec.values[key]
        if value is not None:
            options[key] = core_value(key, value)
    return options


# What the recurrent layers are made of.
_MADE_OF = {"rnn": "connected", "gru": "connected", "lstm": "connected", "crnn": "convolutional",
            "conv_lstm": "convolutional"}


def dialect_options(kind: str, dialect: str, batchnorm: str) -> dict[str, Any]:
    """Return the options of a layer type that follow from the dialect and from ``batchnorm``; dialects.py has the reasons."""
    options = {}
    weighted = _MADE_OF.get(kind, kind)
    if weighted == "convolutional":
        options["uniform_init"] = dialect_value("weight_init", dialect) == "uniform"
        options["xnor_outside"] = dialect_value("xnor_outside", dialect)
    if kind == "shortcut":
        options["prefix"] = dialect_value("shortcut_rule", dialect) == "prefix"
    if kind in ("yolo", "Gaussian_yolo", "region"):
        options["alexeyab"] = dialect_value("detector_rules", dialect) == "alexeyab"
    if weighted in ("convolutional", "deconvolutional", "connected", "batchnorm"):
        row = "rolling_factor_connected" if weighted == "connected" else "rolling_factor"
        options["rolling_momentum"] = dialect_value(row, dialect) if batchnorm == "darknet" else .99
        mode = {"pjreddie": 1, "alexeyab": 2}[dialect_value("darknet_batchnorm", dialect)]
        options["batchnorm_mode"] = mode if batchnorm == "darknet" else 0
    return options


_known: dict[tuple[str, str], bool] = {}   # (layer type, key) -> whether the core has such a number option


def core_knows(layer: Layer, key: str, value: Any) -> bool:
    """Tell whether the core's layer has such an option: a number, or a list, which it has whenever a .cfg does."""
    place = layer.type, key
    if isinstance(value, (list, tuple)):
        return True
    if place not in _known:
        _known[place] = not np.isnan(layer._core.lib.get_layer_option(layer._handle, key.encode()))
    return _known[place]


def file_values(spec: LayerSpec, key: str, path: str) -> list[int]:
    """Return what a file named in a cfg says, as numbers: a class map; of a hierarchy the parents or, for [softmax], the sizes of the
    sibling groups.
    """
    from darknetpy.data.tree import read_tree

    found = find_beside(path, spec.section.file)
    try:
        if key == "map":
            return _read_map(found)
        tree = read_tree(found)
    except OSError as error:
        raise spec.error(f"{key}={path}: {error.strerror}", key) from None
    return (tree.group_sizes if spec.type == "softmax" else tree.parents).tolist()


def _read_map(path):
    """Return the numbers of a class map, one per line."""
    from darknetpy.data.datafile import read_names

    numbers = []
    for line, text in enumerate(read_names(path), start=1):
        if not (text.isascii() and text.isdigit() and len(text) < 10):
            raise DataError(f"{path}:{line}: expected the number of a class, got {text[:40]!r}")
        numbers.append(int(text))
    return numbers


def _refuse_too_large(net, planned):
    """Refuse before anything is allocated, naming the layer that needs most and the batch that would fit.

    `planned` makes a network of so many rows without its arrays.
    """
    lib = net._core.lib
    needed = lib.network_bytes(net._handle)
    free = net._device.free_bytes() if net._device is not None else None
    if free is None:
        free = available_bytes()
    if needed <= free:
        return
    largest = max(net.layers, key=lambda layer: layer._info.bytes)
    amount = "more than 2^64 bytes" if needed == 2**64 - 1 else human_bytes(needed)
    steps = net.sections.net["time_steps"]

    def fits(sequences):
        smaller = planned(sequences * steps)        # its handle alone would not keep its layers
        return lib.network_bytes(smaller._handle) <= free

    sequences = _largest(net.batch // steps, fits)
    rows, batch = steps * sequences, sequences * net.sections.net["subdivisions"]
    fitting = f"batch={rows} would fit" if rows == batch else f"{rows} rows would fit, batch={batch} in the .cfg"
    where = "" if net._device is None else f" on {net._device.name}"
    raise OutOfMemory(f"{net.sections.net_section.file}: the network needs {amount}, {human_bytes(free)} are available{where}; the largest "
                      f"is layer {largest.index} [{largest.type}] at line {largest.spec.section.line}; "
                      f"{fitting if rows else 'no batch would fit'}")


def _largest(beyond, fits):
    """Return the largest number from 1 to before `beyond` that fits; 0: none does."""
    low = 0
    while beyond - low > 1:
        middle = (low + beyond) // 2
        low, beyond = (middle, beyond) if fits(middle) else (low, middle)
    return low


# ---- back to a .cfg
def network_to_cfg(net: Network) -> str:
    """Return the .cfg text of a network; see :meth:`Network.to_cfg`."""
    sections = [_net_section(net)]
    for i, layer in enumerate(net.layers):
        sections.append(_section(SECTIONS[layer.type], layer.cfg_options, net.dialect, i + 1))
    return format_cfg(sections)


def _net_section(net):
    kind = SECTIONS["net"]
    if net.sections is not None:
        return _section(kind, {**net.sections.net, "dialect": net.dialect}, net.dialect, 0)
    known = {name: _shortest(net.option(name)) for name in (*TRAINING_NUMBERS, "adam") if name not in ("sgdr_cycle", "sgdr_mult")}
    steps = _time_steps(net)
    known.update(batch=net.batch // steps * net.subdivisions, subdivisions=net.subdivisions, time_steps=steps)
    known["dialect"] = net.dialect
    known.update({"width": net.w, "height": net.h, "channels": net.c} if net.w else {"inputs": net.inputs})
    known["policy"] = next(name for name, number in _POLICIES.items() if number == net.option("policy"))
    values = {}
    for key, row in kind.options.items():
        values[key] = known[key] if key in known else row.default_for(net.dialect, values)
    return _section(kind, values, net.dialect, 0)


def _time_steps(net):
    """The time steps of a network made by hand: a .cfg has one number for all layers."""
    found = {int(layer.option("time_steps")) for layer in net.layers if core_knows(layer, "time_steps", 1)} or {1}
    if len(found) > 1:
        raise ArgumentError(f"layers of {', '.join(map(str, sorted(found)))} time steps: a .cfg has one number for all")
    return found.pop()


def _shortest(value):
    """The shortest number that is the same float32: .9, not .8999999761581421."""
    return float(str(np.float32(value)))


def _section(kind, values, dialect, line):
    """A section with the keys whose value is not the default's (and those that have no default)."""
    options, so_far = {}, {}
    for key, row in kind.options.items():
        value = values.get(key)
        default = row.default_for(dialect, {**values, **so_far})
        so_far[key] = value
        if value is None or value == default and not row.required:
            continue
        options[key] = Option(key, format_value(_whole(value, row)), line)
    return Section(kind.name, options, line, "<network>")


def _whole(value, row):
    return int(value) if row.kind == "int" and isinstance(value, float) else value
