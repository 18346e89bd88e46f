"""Files that are written whole or not at all, and files that are opened without surprises."""
from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import secrets
import stat

_PREFIX, _SUFFIX = ".darknetpy-", ".tmp"    # of temporary files; the name between them is random


def open_regular(path):
    """Open a regular file for reading, as a binary stream; never waits on a pipe or a device.

    Raises
    ------
    OSError
        The file is missing, unreadable, a directory or not a regular file; errno says which.
    """
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY)
    try:
        mode = os.fstat(handle).st_mode
        if stat.S_ISDIR(mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)
        if not stat.S_ISREG(mode):
            raise OSError(errno.EINVAL, "Not a regular file", path)
        return open(handle, "rb")
    except BaseException:
        os.close(handle)
        raise


def read_regular_file(path, limit):
    """Return the bytes of a regular file of at most `limit` bytes.

    Raises
    ------
    OSError
        As for :func:`open_regular`, or the file is too large; errno says which.
    """
    with open_regular(path) as stream:
        size = os.fstat(stream.fileno()).st_size
        if size > limit:
            raise OSError(errno.EFBIG, f"File larger than {limit} bytes", path)
        return stream.read(size)


def write_atomically(path, chunks):
    """Make the file `path` consist of the bytes of `chunks`; on any failure it stays as it was, byte for byte.

    The bytes go to a temporary file beside it, which is forced to the disk and then takes the name; last, the folder
    is forced to the disk.  So a crash at any moment leaves the old file or the new one.  A link is followed; the
    permissions of a file that is replaced are kept.

    Parameters
    ----------
    path : str or path
    chunks : iterable of bytes-like objects

    Raises
    ------
    OSError
        With errno and `path`: no such folder, no permission, disk full, not a regular file, ...
    """
    path = os.fsdecode(path)
    try:
        _check_target(path)
        folder_path, name = os.path.split(os.path.realpath(path))
        sweep_temporaries(folder_path)
        folder = os.open(folder_path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            _replace(folder, name, chunks)
        finally:
            _close_quietly(folder)
    except OSError as error:
        raise OSError(error.errno, error.strerror, path) from error     # the temporary's name would tell nobody anything


def _check_target(path):
    """Refuse what a rename would silently replace: a directory, a device, a file that its owner write-protected."""
    if os.path.basename(path) in ("", ".", ".."):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    try:
        mode = os.stat(path).st_mode
    except FileNotFoundError:
        return
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    if not stat.S_ISREG(mode):
        raise OSError(errno.EINVAL, "Not a regular file")
    if not os.access(path, os.W_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))


def _replace(folder, name, chunks):
    temporary, handle = _new_temporary(folder)
    lock = -1
    try:
        try:
            lock = os.dup(handle)           # keeps the lock when the handle is closed
            _keep_permissions(folder, name, handle)
            for chunk in chunks:
                _write_all(handle, chunk)
            os.fsync(handle)
        finally:
            os.close(handle)                # before the rename: closing, too, can report that writing failed
        os.rename(temporary, name, src_dir_fd=folder, dst_dir_fd=folder)
    except BaseException:
        _remove(temporary, folder)
        raise
    finally:
        if lock >= 0:
            _close_quietly(lock)
    os.fsync(folder)


def _new_temporary(folder):
    """Make and lock a file that did not exist; return its name and handle.  The lock tells a sweep that it is in use."""
    while True:
        name = f"{_PREFIX}{secrets.token_hex(8)}{_SUFFIX}"
        handle = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666, dir_fd=folder)
        try:
            with contextlib.suppress(OSError):  # a file system without locks: a sweep leaves the file alone there
                fcntl.flock(handle, fcntl.LOCK_EX)
            if os.fstat(handle).st_nlink:
                return name, handle
        except BaseException:
            _remove(name, folder)
            _close_quietly(handle)
            raise
        _close_quietly(handle)                  # a sweep came between making and locking


def _keep_permissions(folder, name, handle):
    with contextlib.suppress(FileNotFoundError):
        os.fchmod(handle, stat.S_IMODE(os.stat(name, dir_fd=folder).st_mode))


def _write_all(handle, chunk):
    left = memoryview(chunk).cast("B")
    while left:
        written = os.write(handle, left)
        if written < 1:
            raise OSError(errno.EIO, "Nothing could be written")
        left = left[written:]


def _remove(name, folder):
    with contextlib.suppress(OSError):
        os.unlink(name, dir_fd=folder)


def _close_quietly(handle):
    """Close a handle through which nothing was written."""
    with contextlib.suppress(OSError):
        os.close(handle)


def sweep_temporaries(folder):
    """Remove what crashed writers left in `folder`; files that somebody is writing stay.

    Returns
    -------
    list of str
        The names removed.
    """
    try:
        names = [name for name in os.listdir(folder) if name.startswith(_PREFIX) and name.endswith(_SUFFIX)]
    except OSError:
        return []
    return [name for name in names if _remove_if_stale(os.path.join(folder, name))]


def _remove_if_stale(path):
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.unlink(path)
        return True
    except OSError:
        return False
    finally:
        _close_quietly(handle)
