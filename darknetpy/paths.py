"""Where files named by a user, by a cfg or by the package are found."""
from __future__ import annotations

import os

PACKAGE = os.path.dirname(os.path.abspath(__file__))


def cfg_folder():
    """Return the folder of the cfgs that come with the package: inside it when installed, beside it in a checkout."""
    inside = os.path.join(PACKAGE, "cfg_files")
    return inside if os.path.isdir(inside) else os.path.join(os.path.dirname(PACKAGE), "cfg")


def find_cfg(path):
    """Return `path`, or for a bare name that is no file here the package's own cfg of that name."""
    if not os.path.exists(path) and os.path.basename(path) == path:
        ours = os.path.join(cfg_folder(), path)
        if os.path.isfile(ours):
            return ours
    return path


def find_beside(path, file):
    """Return `path` as it is found: relative to the working directory, else to the folder of `file`."""
    beside = os.path.join(os.path.dirname(os.path.abspath(file)), path)
    return beside if not os.path.exists(path) and os.path.exists(beside) else path
