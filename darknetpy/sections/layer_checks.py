"""Checks of a layer's options against each other, and links from relative to absolute."""
from __future__ import annotations

from typing import TYPE_CHECKING

from .values import format_value

if TYPE_CHECKING:
    from .resolution import LayerSpec, Resolved


def check_layer(plan: Resolved, spec: LayerSpec) -> None:
    """Check one LayerSpec; make its links absolute and its padding and dilation those in effect."""
    if spec.values["stopbackward"] > 1 and plan.dialect == "pjreddie":
        plan.note(spec.section, "stopbackward",
                  f"stopbackward={spec.values['stopbackward']} means 1 in dialect=pjreddie: in every update")
        spec.values["stopbackward"] = 1
    _CHECKS.get(spec.type, _accept)(plan, spec)
    _check_statistics(plan, spec)


def _accept(plan, spec):
    """Nothing to check."""


def _check_statistics(plan, spec):
    """Refuse what batchnorm=darknet does not know; note what concerns no batch normalization."""
    for key in ("statistics", "rolling_momentum"):
        if spec.values.get(key) is None:
            continue
        if not spec.values.get("batch_normalize", True):
            plan.note(spec.section, key, f"{key}= has no effect here: the layer has no batch normalization")
        elif plan.batchnorm == "darknet":
            refuse_statistics(spec, key, spec.values[key])


def refuse_statistics(where: Resolved | LayerSpec, key: str, value: object) -> None:
    """Raise an error unless `value` is what batchnorm=darknet does anyway."""
    if value not in (None, "ema"):
        raise where.error(f"{key}={format_value(value)} goes with batchnorm=paper: batchnorm=darknet has "
                          "Darknet's own moving averages", key)


def _check_normalization(plan, spec):
    """Let batch_normalize= and normalize= say the same, and let the keys that go with them act."""
    values, given = spec.values, spec.section.options
    if "batch_normalize" in given and values["batch_normalize"] != (values["normalize"] == "batch"):
        if values["batch_normalize"] or values["normalize"] == "batch":
            raise spec.error(f"normalize={values['normalize']} contradicts batch_normalize="
                             f"{values['batch_normalize']:d}", "normalize")
    values["batch_normalize"] = values["normalize"] == "batch"
    if values["norm_groups"] and values["normalize"] != "group":
        raise spec.error(f"norm_groups={values['norm_groups']} acts with normalize=group, but this is "
                         f"normalize={values['normalize']}", "norm_groups")
    if values["normalize_after_activation"] and values["normalize"] == "none":
        raise spec.error("normalize_after_activation=1: there is no normalization; wanted normalize=batch, "
                         "group, layer or instance", "normalize_after_activation")


def _check_convolutional(plan, spec):
    values = spec.values
    if values["cbn"] and "normalize" not in spec.section.options:
        values.update(batch_normalize=True, normalize="batch")
    _check_normalization(plan, spec)
    if values["share_index"] is not None:
        values["share_index"] = _absolute(spec, "share_index", values["share_index"])
    if values["grad_centr"] and not values["batch_normalize"]:
        plan.note(spec.section, "grad_centr",
                  "grad_centr=1 has no effect here: it goes with batch normalization")
        values["grad_centr"] = False
    _check_convolutions(plan, spec)
    if values["filters"] % values["groups"]:
        raise spec.error(f"groups={values['groups']} does not divide filters={values['filters']}", "groups")


def note_idle_excitation(plan: Resolved) -> None:
    """Note assisted_excitation= where no head behind the layer has boxes, or no number of updates ends it."""
    kinds = [spec.type for spec in plan.layers]
    for spec in plan.layers:
        if not spec.values.get("assisted_excitation"):
            continue
        text = f"assisted_excitation={spec.values['assisted_excitation']} has no effect here: "
        if not {"yolo", "Gaussian_yolo", "region"} & set(kinds[spec.index:]):
            plan.note(spec.section, "assisted_excitation", text + "no [yolo], [Gaussian_yolo] or [region] behind it has boxes")
        elif spec.values["assisted_excitation"] == 1 and not plan.net["max_batches"]:
            plan.note(spec.section, "assisted_excitation", text + "it ends with max_batches, which is 0")


def _check_convolutions(plan, spec):
    """Find the padding, the dilation and the groups in effect."""
    values = spec.values
    _check_padding(plan, spec)
    if values["xnor"] and values["groups"] > 1 and plan.dialect != "pjreddie":
        plan.note(spec.section, "groups", f"groups={values['groups']} is taken as 1, because xnor=1")
        values["groups"] = 1
    if values["size"] == 1 and values["dilation"] > 1:
        plan.note(spec.section, "dilation", f"dilation={values['dilation']} is taken as 1, because size=1")
        values["dilation"] = 1


def _check_padding(plan, spec):
    """Let padding= be the padding in effect."""
    values = spec.values
    if not values["pad"]:
        return
    if values["padding"] not in (0, values["size"] // 2):
        plan.note(spec.section, "padding",
                  f"padding={values['padding']} is ignored: pad=1 makes it size / 2 = {values['size'] // 2}")
    values["padding"] = values["size"] // 2


def _check_deconvolutional(plan, spec):
    _check_normalization(plan, spec)
    _check_padding(plan, spec)


def _check_route(plan, spec):
    _resolve_links(spec, "layers")
    groups, group = spec.values["groups"], spec.values["group_id"]
    if group >= groups:
        raise spec.error(f"group_id={group} with groups={groups}; wanted 0 to {groups - 1}", "group_id")


def _check_shortcut(plan, spec):
    links = spec.values["from"]
    if len(links) > 1 and plan.dialect == "pjreddie":
        raise spec.error(f"from= names {len(links)} layers; dialect=pjreddie adds one, alexeyab several",
                         "from")
    _resolve_links(spec, "from")
    if spec.values["weights_type"] != "none" and plan.dialect == "pjreddie":
        raise spec.error(f"weights_type={spec.values['weights_type']}: dialect=pjreddie has no weights; "
                         "wanted dialect=alexeyab", "weights_type")
    weighted = spec.values["weights_type"] != "none"
    _note_idle(plan, spec, "weights_normalization", "none", weighted, "weights_type")


def _check_maxpool(plan, spec):
    _note_idle(plan, spec, "out_channels", 1, spec.values["maxpool_depth"], "maxpool_depth=1")


def _check_dropout(plan, spec):
    for key in ("dropblock_size_rel", "dropblock_size_abs"):
        _note_idle(plan, spec, key, 0, spec.values["dropblock"], "dropblock=1")


def _note_idle(plan, spec, key, default, acts, condition):
    """Note a value that acts with another key only."""
    if spec.values[key] != default and not acts:
        text = spec.section.options[key].text
        plan.note(spec.section, key, f"{key}={text} has no effect here: it acts with {condition} only")


def _check_one_link(plan, spec):
    if len(spec.values["from"]) > 1:
        raise spec.error(f"from= names {len(spec.values['from'])} layers; wanted one", "from")
    _resolve_links(spec, "from")


def _check_contrastive(plan, spec):
    links = spec.values["yolo_layer"]
    if links in (None, [0]):
        spec.values["yolo_layer"] = None
        return
    if len(links) > 1:
        raise spec.error(f"yolo_layer= names {len(links)} layers; wanted one", "yolo_layer")
    _resolve_links(spec, "yolo_layer")
    target = plan.layers[spec.values["yolo_layer"][0]]
    if target.type != "yolo":
        raise spec.error(f"yolo_layer={links[0]} means layer {target.index}, which is [{target.type}]; wanted a [yolo]",
                         "yolo_layer")
    if plan.dialect == "pjreddie":
        raise spec.error(f"yolo_layer={links[0]}: in dialect=pjreddie the truth of [yolo] names no tracks; wanted "
                         "dialect=alexeyab", "yolo_layer")


def _check_rnn(plan, spec):
    _check_normalization(plan, spec)
    values, pjreddie = spec.values, plan.dialect == "pjreddie"
    if values["hidden"] is None:
        values["hidden"] = values["output"] if pjreddie else 1
    elif pjreddie and values["hidden"] != values["output"]:
        plan.note(spec.section, "hidden", f"hidden={values['hidden']} acts here; pjreddie's Darknet takes "
                                          f"output={values['output']}")


def _check_crnn(plan, spec):
    _check_normalization(plan, spec)
    values = spec.values
    for key, other in (("output", "output_filters"), ("hidden", "hidden_filters")):
        if values[other] not in (None, values[key]):
            raise spec.error(f"{other}={values[other]} contradicts {key}={values[key]}", other)
    _check_convolutions(plan, spec)


def _check_conv_lstm(plan, spec):
    _check_normalization(plan, spec)
    _check_convolutions(plan, spec)
    values = spec.values
    if values["state_constrain"] is None:
        values["state_constrain"] = 32 * plan.net["time_steps"]
    if values["shortcut"] and not values["bottleneck"]:
        plan.note(spec.section, "shortcut", "shortcut=1 has no effect without bottleneck=1")


def _resolve_links(spec, key):
    """Replace each link by the index of an earlier layer."""
    spec.values[key] = [_absolute(spec, key, link) for link in spec.values[key]]


def _absolute(spec, key, link):
    """Return the index of an earlier layer; a negative link counts back from this one."""
    here = spec.index
    target = link if link >= 0 else here + link
    if 0 <= target < here:
        return target
    earlier = f"0 to {here - 1}, or -1 to -{here}" if here else "none: this is the first layer"
    raise spec.error(f"{key}={link} means layer {target}, which is not before layer {here}; wanted {earlier}",
                     key)


_CHECKS = {"convolutional": _check_convolutional, "connected": _check_normalization, "route": _check_route,
           "shortcut": _check_shortcut, "rnn": _check_rnn, "gru": _check_normalization, "lstm": _check_normalization,
           "crnn": _check_crnn, "conv_lstm": _check_conv_lstm, "deconvolutional": _check_deconvolutional, "maxpool": _check_maxpool,
           "dropout": _check_dropout, "scale_channels": _check_one_link, "sam": _check_one_link,
           "contrastive": _check_contrastive}
