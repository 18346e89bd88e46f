"""What side_by_side.py, second_opinion.py and zoo.py share, which run many .cfg files: what came of one, and how it is told."""

from __future__ import annotations

import collections
import dataclasses
import glob
import json
import os
import time

from darknetpy.errors import DarknetError


@dataclasses.dataclass
class Result:
    """What came of one .cfg.

    Attributes
    ----------
    cfg, status : str
        ``agrees``, ``differs``, ``refused`` (a file is wrong), ``crashed`` (the other program ended).
    detail : str
        Why, where that needs saying.
    layers : int
    difference : float
        The largest that was found, in the runner's unit.
    layer : str
        Where that is.
    seconds : float
    """

    cfg: str
    status: str
    detail: str = ""
    layers: int = 0
    difference: float = 0.0
    layer: str = ""
    seconds: float = 0.0

    def __str__(self):
        figure = f"{self.layers} layers, largest difference {self.difference:.1e} at {self.layer}"
        what = "; ".join(part for part in (figure * bool(self.layers), self.detail) if part)
        return f"{self.status:8} {os.path.basename(self.cfg):28} {what} ({self.seconds:.1f} s)"


def timed(compare, cfg, *args):
    """Return ``compare(cfg, *args)``, a Result, with its time; a wrong file and a crash are results too."""
    start = time.perf_counter()
    try:
        result = compare(cfg, *args)
    except (DarknetError, OSError) as error:
        result = Result(cfg, "refused", " ".join(str(error).split()))
    except RuntimeError as error:  # what the peer says
        result = Result(cfg, "crashed", str(error))
    result.seconds = time.perf_counter() - start
    return result


def find_files(paths, ending):
    """Return the files among the paths, and those in the folders among them that end so."""
    found = []
    for path in paths:
        found += sorted(glob.glob(os.path.join(path, f"*{ending}"))) if os.path.isdir(path) else [path]
    return found


def tell(results, as_json, failures=("differs", "crashed")):
    """Print each result as it comes, and how many there are of each status.

    Returns
    -------
    int
        The exit status, 1 after a failure.
    """
    done = []
    for result in results:
        done.append(result)
        if not as_json:
            print(result, flush=True)
    counts = collections.Counter(result.status for result in done)
    if as_json:
        print(json.dumps([dataclasses.asdict(result) for result in done], indent=1))
    else:
        statuses = ("agrees", "differs", "refused", "crashed")
        print(f"{len(done)} files: " + ", ".join(f"{counts[status]} {status}" for status in statuses))
    return int(any(counts[status] for status in failures))
