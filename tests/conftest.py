"""What all tests share: a seeded generator, and the summary of the gradient checks and the recordings."""

from __future__ import annotations

import os
import sys
import zlib

import figures
import numpy as np
import pytest
from PIL import Image

# Threads that wait must not keep others from running: the tests use more of them than the machine may have. Read by libgomp as it loads.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")


def pytest_configure(config):
    """End before the first test where DARKNETPY_TEST_DEVICE names a device that cannot be used."""
    device = os.environ.get("DARKNETPY_TEST_DEVICE") or "emulated"
    if device == "emulated":
        return
    from darknetpy.errors import DeviceError
    from darknetpy.gpu import open_device

    try:
        if device == "cpu":
            raise DeviceError("the tests compare with the CPU; wanted gpu, gpu:1 or emulated")
        open_device(device)
    except DeviceError as error:
        pytest.exit(f"DARKNETPY_TEST_DEVICE={device}: {error}", 1)


@pytest.fixture
def rng(request):
    """A generator of the test's own, the same on every run."""
    return np.random.default_rng(zlib.crc32(request.node.name.encode()))


@pytest.fixture
def threads():
    """A function that sets the number of threads; it is what it was when the test is over."""
    import darknetpy as dn

    before = dn.get_num_threads()
    yield dn.set_num_threads
    dn.set_num_threads(before)


@pytest.fixture
def pictures(tmp_path, rng, monkeypatch):
    """A folder, made the working directory, with 24 small images of 3 classes, their list, labels and .data
    file.
    """
    monkeypatch.chdir(tmp_path)
    (tmp_path / "img").mkdir()
    paths = [
        f"img/{name}_{i}.{kind}"
        for i, (name, kind) in enumerate(zip(["cat", "dog", "owl"] * 8, ["png", "jpg", "bmp", "ppm"] * 6))
    ]
    for path in paths:
        Image.fromarray(rng.integers(0, 256, (rng.integers(9, 30), rng.integers(9, 30), 3), np.uint8)).save(
            path
        )
    (tmp_path / "train.list").write_text("\n".join(paths[:18]) + "\n")
    (tmp_path / "valid.list").write_text("\n".join(paths[18:]) + "\n")
    (tmp_path / "labels").write_text("cat\ndog\nowl\n")
    (tmp_path / "my.data").write_text(
        "classes = 3\ntrain=train.list\nvalid = valid.list\n# comment\nlabels=labels\nbackup=weights\ntop=2\n"
    )
    return tmp_path


def pytest_terminal_summary(terminalreporter):
    """Say what the gradient checks and the recordings found; DARKNETPY_FIGURES=1: in tables."""
    gradcheck, golden = sys.modules.get("gradcheck"), sys.modules.get("test_golden")
    found = []
    if gradcheck and gradcheck.results:
        found.append(figures.gradcheck_lines(gradcheck.results, gradcheck.TARGET))
    if golden and golden.compared:
        found.append(figures.golden_lines(golden.compared, golden.not_compared()))
    for lines, total in found:
        for line in lines if os.environ.get("DARKNETPY_FIGURES") else []:
            terminalreporter.write_line(line)
        terminalreporter.write_line(total)
