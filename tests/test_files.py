"""Atomic files: failures and crashes at every call leave the old file or the new one, whole."""
from __future__ import annotations

import errno
import json
import os
import resource
import stat
import subprocess
import sys
import textwrap

import pytest

from darknetpy import files
from darknetpy.files import sweep_temporaries, write_atomically

OLD, NEW = b"old" * 1000, [b"new" * 5000, b"", b"end"]
CALLS = ("open", "dup", "stat", "fstat", "fchmod", "write", "fsync", "close", "rename")


@pytest.fixture
def target(tmp_path):
    path = tmp_path / "x.weights"
    path.write_bytes(OLD)
    return path


def leftovers(path):
    return sorted(os.listdir(path.parent)) != [path.name]


def test_write_replaces_the_file(target):
    target.chmod(0o640)
    write_atomically(target, NEW)
    assert target.read_bytes() == b"".join(NEW) and not leftovers(target)
    assert stat.S_IMODE(target.stat().st_mode) == 0o640


def test_a_new_file_follows_the_umask(tmp_path):
    before = os.umask(0o027)
    try:
        write_atomically(tmp_path / "new", NEW)
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == 0o640


def test_a_link_is_followed(target, tmp_path):
    link = tmp_path / "link"
    link.symlink_to(target.name)
    write_atomically(link, NEW)
    assert link.is_symlink() and target.read_bytes() == b"".join(NEW)


def test_a_relative_name(target, monkeypatch):
    monkeypatch.chdir(target.parent)
    write_atomically(target.name, NEW)
    assert target.read_bytes() == b"".join(NEW)


@pytest.mark.parametrize("name, number", [
    ("missing/x", errno.ENOENT), (".", errno.EISDIR), ("folder", errno.EISDIR), ("new/", errno.EISDIR), ("pipe", errno.EINVAL),
    ("x.weights/y", errno.ENOTDIR), (250 * "n" + ".weights", errno.ENAMETOOLONG)])
def test_unwritable_places(target, name, number):
    (target.parent / "folder").mkdir()
    os.mkfifo(target.parent / "pipe")
    path = f"{target.parent}/{name}"
    with pytest.raises(OSError) as caught:
        write_atomically(path, NEW)
    assert caught.value.errno == number and caught.value.filename == path
    assert sorted(os.listdir(target.parent)) == ["folder", "pipe", "x.weights"] and target.read_bytes() == OLD


def test_a_device_is_not_replaced():
    with pytest.raises(OSError, match="Not a regular file"):
        write_atomically("/dev/full", NEW)
    assert stat.S_ISCHR(os.stat("/dev/full").st_mode)


def test_a_write_protected_file_stays(target, monkeypatch):
    monkeypatch.setattr(files.os, "access", lambda path, mode: False)      # root may write what it likes
    with pytest.raises(PermissionError) as caught:
        write_atomically(target, NEW)
    assert caught.value.errno == errno.EACCES and target.read_bytes() == OLD


def test_the_size_limit_of_the_process(target):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
    try:
        with pytest.raises(OSError) as caught:
            write_atomically(target, NEW)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert caught.value.errno == errno.EFBIG and target.read_bytes() == OLD and not leftovers(target)


def test_a_failing_source_leaves_the_file(target):
    def chunks():
        yield b"new"
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_atomically(target, chunks())
    assert target.read_bytes() == OLD and not leftovers(target)


def test_short_writes_are_continued(target, monkeypatch):
    real = os.write
    monkeypatch.setattr(files.os, "write", lambda handle, data: real(handle, data[:7]))
    write_atomically(target, NEW)
    assert target.read_bytes() == b"".join(NEW)


def calls_of(monkeypatch, act):
    """Replace each call to the system by one that `act`s first; `act` gets its name and its number."""
    count = [0]

    def replace(name, real):
        def replacement(*args, **options):
            count[0] += 1
            act(name, count[0])
            return real(*args, **options)
        monkeypatch.setattr(files.os, name, replacement)

    for name in CALLS:
        replace(name, getattr(os, name))
    return count


def test_the_disk_has_the_file_before_its_name_and_the_name_before_the_end(target, monkeypatch):
    names = []
    calls_of(monkeypatch, lambda name, i: names.append(name))
    write_atomically(target, [b"new"])
    order = [name for name in names if name in ("write", "fsync", "close", "rename")]
    assert order[:5] == ["write", "fsync", "close", "rename", "close"] and order[5:] == ["fsync", "close"]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO, errno.EROFS, errno.EDQUOT])
def test_any_failing_call_is_told_and_leaves_a_whole_file(target, monkeypatch, number):
    """Until the rename the old file; after it only the folder's fsync is left, and the file is the new one."""
    with monkeypatch.context() as patch:
        count = calls_of(patch, lambda name, i: None)
        write_atomically(target, NEW)
    total, silent = count[0], []
    assert total >= 12
    for failing in range(1, total + 1):
        target.write_bytes(OLD)
        failed = []

        def act(name, i, failing=failing, failed=failed):
            if i == failing:
                failed.append(name)
                raise OSError(number, os.strerror(number))
        with monkeypatch.context() as patch:
            calls_of(patch, act)
            try:
                write_atomically(target, NEW)
                silent += failed
            except OSError as error:
                assert error.errno == number and error.filename == str(target)
                if failed[0] != "fsync":
                    assert target.read_bytes() == OLD
        assert target.read_bytes() in (OLD, b"".join(NEW))
        sweep_temporaries(target.parent)
        assert not leftovers(target)
    # Nothing was written through these two: the lock's handle and the folder's.
    assert silent == ["close", "close"]


CRASH = textwrap.dedent("""
    import importlib.util, json, os, random, signal, sys, time
    spec = importlib.util.spec_from_file_location("files", sys.argv[1])
    files = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(files)
    target, calls = sys.argv[2], sys.argv[3].split(",")
    OLD, NEW = b"o" * 300000, b"n" * 300000

    def in_child(work):
        child = os.fork()
        if child == 0:
            work()
            os._exit(0)
        return child

    def crash_before(number):
        count = 0
        for name in calls:
            def call(*args, _real=getattr(os, name), **options):
                nonlocal count
                count += 1
                if count == number:
                    os._exit(9)
                return _real(*args, **options)
            setattr(os, name, call)
        files.write_atomically(target, [NEW])

    def write_for_ever():
        while True:
            files.write_atomically(target, [OLD])
            files.write_atomically(target, [NEW])

    whole, crashes = 0, 0
    def judge():
        global whole
        with open(target, "rb") as file:
            whole += file.read() in (OLD, NEW)
        files.sweep_temporaries(os.path.dirname(target))
        assert os.listdir(os.path.dirname(target)) == [os.path.basename(target)]

    for number in range(1, 100):
        with open(target, "wb") as file:
            file.write(OLD)
        _, status = os.waitpid(in_child(lambda: crash_before(number)), 0)
        judge()
        crashes += 1
        if status == 0:
            break
    random.seed(1)
    for _ in range(60):
        child = in_child(write_for_ever)
        time.sleep(random.uniform(.001, .02))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        judge()
    print(json.dumps([crashes, whole]))
""")


def test_crashes_leave_a_whole_file(target):
    """The process ends before each of its calls in turn, then is killed 60 times at random moments."""
    command = [sys.executable, "-c", CRASH, files.__file__, str(target), ",".join(CALLS)]
    crashes, whole = json.loads(subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout)
    assert crashes >= 12 and whole == crashes + 60


def test_a_sweep_takes_what_crashed_and_leaves_what_is_being_written(target):
    stale = target.parent / ".darknetpy-0123456789abcdef.tmp"
    stale.write_bytes(b"left by a crash")
    (target.parent / "other.tmp").write_bytes(b"somebody else's")

    def chunks():
        yield b"first"
        assert sweep_temporaries(target.parent) == []
        yield b"second"

    write_atomically(target, chunks())
    assert target.read_bytes() == b"firstsecond" and not stale.exists()
    assert sorted(os.listdir(target.parent)) == ["other.tmp", "x.weights"]
    assert sweep_temporaries(target.parent / "missing") == []
