"""What gradient checks and recordings found, as the tables that `make gradcheck` and `make golden` print."""

from __future__ import annotations

import collections

KINDS = ("output", "delta", "updates", "statistics", "loss", "updated weights", "start values", "boxes")
KINDS += ("given", "function")


def gradcheck_lines(results, target):
    """Return a table by layer type, and the total.

    A type's error is the largest relative one in its parameters and in the inputs of networks that have it.
    """
    worst, count = {}, collections.Counter()
    for case, scale, by_type in results:
        for kind, error in by_type.items():
            worst[kind] = max(worst.get(kind, (0, "", 0)), (error, case, scale))
            count[kind] += 1
    lines = [f"{'layer type':16} {'checks':>6}  {'largest relative error':22}  case"]
    for kind, (error, case, scale) in sorted(worst.items()):
        lines.append(f"{kind:16} {count[kind]:6}  {error:<22.1e}  {case}, scale {scale:g}")
    over = sum(max(by_type.values()) > target for _, _, by_type in results)
    error, case, scale = max(worst.values())
    largest = f"largest relative error {error:.1e} ({case}, scale {scale:g})"
    return lines, f"gradient check: {len(results)} cases, {largest}, {over} above {target:.0e}"


def kind_of(key):
    """Return which of KINDS an array of a recording is."""
    first, name = key.partition("/")[0], key.rpartition("/")[2]
    if first in ("boxes", "function", "init"):
        return {"init": "start values"}.get(first, first)
    if name in ("output", "indexes"):
        return "output"
    if name in ("input", "truth"):
        return "given"
    if name.endswith("_updates"):
        return "updates"
    if name in ("delta", "delta_fwd") or name.endswith("_delta"):
        return "delta"
    if name in ("cost", "loss"):
        return "loss"
    return "statistics" if name.rpartition("_")[2] in ("mean", "variance") else "updated weights"


def golden_lines(compared, not_compared):
    """Return a table by kind of array and the reasons why some are left out, and the total.

    Parameters
    ----------
    compared : dict
        {(recording, key): largest relative difference}.
    not_compared : dict
        {(recording, key): reason}.
    """
    worst, skipped = {}, collections.Counter(kind_of(key) for _, key in not_compared)
    count = collections.Counter(kind_of(key) for _, key in compared)
    for (name, key), difference in compared.items():
        kind = kind_of(key)
        worst[kind] = max(worst.get(kind, (-1, "")), (difference, f"{name} {key}"))
    lines = [f"{'array':16} {'compared':>8}  {'largest relative difference':42}  not compared"]
    for kind in KINDS:
        difference, where = worst.get(kind, (0, ""))
        figure = f"{difference:.1e} {where}" if where else ""
        lines.append(f"{kind:16} {count[kind]:8}  {figure:42}  {skipped[kind]}")
    reasons = collections.defaultdict(set)
    for (name, key), reason in not_compared.items():
        reasons[reason].add((name, key))
    lines += ["", "not compared, by reason"]
    for reason, keys in sorted(reasons.items(), key=lambda item: -len(item[1])):
        lines.append(f"{len(keys):5}  {reason} ({', '.join(sorted({name for name, _ in keys}))})")
    largest = f"largest relative difference {max(compared.values()):.1e}"
    return lines, f"recordings: {len(compared)} arrays compared, {largest}, {len(not_compared)} not compared"
