"""Checks of [net] that concern several options at once."""
from __future__ import annotations

from typing import TYPE_CHECKING

from .layer_checks import refuse_statistics
from .values import INT_MAX

if TYPE_CHECKING:
    from .resolution import Resolved


def check_net(plan: Resolved) -> None:
    """Check the values of [net] of a Resolved against each other."""
    _check_shape(plan)
    _check_batch(plan)
    _POLICY_CHECKS.get(plan.net["policy"], _accept)(plan)
    _check_crops(plan)
    if plan.batchnorm == "darknet":
        for key in ("statistics", "rolling_momentum"):
            refuse_statistics(plan, key, plan.net[key])


def _accept(plan):
    """Nothing to check."""


def _check_shape(plan):
    net = plan.net
    image = net["height"] * net["width"] * net["channels"]
    given = "inputs" in plan.net_section.options
    if not given and not image:
        missing = [key for key in ("height", "width", "channels") if not net[key]]
        raise plan.error(f"the input has no size: {', '.join(missing)} missing or 0; wanted height, width "
                         "and channels, or inputs")
    if given and image and net["inputs"] != image:
        raise plan.error(f"inputs={net['inputs']} contradicts height * width * channels = {image}", "inputs")
    if net["inputs"] > INT_MAX:
        raise plan.error(f"height * width * channels = {net['inputs']} values per image are too many",
                         "height")


def _check_batch(plan):
    batch, subdivisions = plan.net["batch"], plan.net["subdivisions"]
    rows = batch // subdivisions
    if rows == 0:
        plan.note(plan.net_section, "subdivisions",
                  f"subdivisions={subdivisions} leaves no image of batch={batch} per forward pass: good for inference only")
    elif batch % subdivisions:
        plan.note(plan.net_section, "subdivisions",
                  f"batch={batch} / subdivisions={subdivisions} is rounded down, as in Darknet: "
                  f"{rows} images per forward pass, {rows * subdivisions} per update")


def _check_steps(plan):
    steps, scales = plan.net["steps"], plan.net["scales"]
    if steps is None or scales is None:
        missing = "steps" if steps is None else "scales"
        raise plan.error(f"policy=steps needs {missing}=", "policy")
    if len(steps) != len(scales):
        raise plan.error(f"{len(steps)} steps but {len(scales)} scales; wanted equal numbers", "scales")
    for first, second in zip(steps, steps[1:]):
        if second <= first:
            raise plan.error(f"steps must increase, but {second} follows {first}", "steps")


def _check_poly(plan):
    if plan.net["max_batches"] == 0:
        raise plan.error("policy=poly needs max_batches= of at least 1", "policy")


def _check_sgdr(plan):
    if plan.net["sgdr_cycle"] == 0:
        raise plan.error("policy=sgdr needs sgdr_cycle= or max_batches= of at least 1", "policy")


_POLICY_CHECKS = {"steps": _check_steps, "poly": _check_poly, "sgdr": _check_sgdr}


def _check_crops(plan):
    """Refuse a range written upside down; where one end is a default, swap the ends as Darknet does."""
    net, written = plan.net, plan.net_section.options
    for low, high in (("min_crop", "max_crop"), ("min_ratio", "max_ratio")):
        if net[low] <= net[high]:
            continue
        message = f"{low}={net[low]:g} is larger than {high}={net[high]:g}"
        keys = [key for key in (low, high) if key in written]
        if len(keys) == 2:
            raise plan.error(message, low)
        net[low], net[high] = net[high], net[low]
        if keys:        # the ratios follow from the crops: one note is enough
            plan.note(plan.net_section, keys[0], f"{message}; they are swapped")
