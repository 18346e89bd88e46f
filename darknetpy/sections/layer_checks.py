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
    if values["xnor"] and values["groups"] > 1 and plan.dialect != "pjreddie":
        plan.note(spec.section, "groups", f"groups={values['groups']} is taken as 1, because xnor=1")
        values["groups"] = 1
    if values["filters"] % values["groups"]:
        raise spec.error(f"groups={values['groups']} does not divide filters={values['filters']}", "groups")
    if values["pad"]:
        if values["padding"] not in (0, values["size"] // 2):
            plan.note(spec.section, "padding",
                      f"padding={values['padding']} is ignored: pad=1 makes it size / 2 = "
                                               f"{values['size'] // 2}")
        values["padding"] = values["size"] // 2
    if values["size"] == 1 and values["dilation"] > 1:
        plan.note(spec.section, "dilation", f"dilation={values['dilation']} is taken as 1, because size=1")
        values["dilation"] = 1


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
           "shortcut": _check_shortcut}
