"""The command line: ``darknetpy COMMAND ...``, with Darknet's grammar and what Darknet lacks.

Exit status: 0, all that was asked for is done; 2, the input or the command is wrong; 1, it failed while running; 130 and 143
after SIGINT and SIGTERM.  Whatever goes wrong is one line on standard error.
"""
from __future__ import annotations

import errno
import os
import signal
import sys
import threading

from darknetpy.errors import ArgumentError, CfgError, DarknetError, DataError, OutOfMemory, WeightsError
from darknetpy.signals import raise_interrupted

WRONG_INPUT, FAILED = 2, 1
# Refusals of the input; every other DarknetError is a failure while running.
_INPUT_ERRORS = (ArgumentError, CfgError, DataError, WeightsError, OutOfMemory)
# What the operating system says of a disk, not of a path that was given wrongly.
_DISK_ERRORS = {errno.ENOSPC, errno.EIO, errno.EDQUOT, errno.EROFS, errno.ENOMEM, errno.EMFILE, errno.ENFILE}


def main(argv=None):
    """Run a command.

    Parameters
    ----------
    argv : list of str, optional
        The words after ``darknetpy``; those of the process by default.

    Returns
    -------
    int
        The exit status.
    """
    from darknetpy.cli.parser import make_parser

    main_thread = threading.current_thread() is threading.main_thread()
    before = signal.signal(signal.SIGTERM, raise_interrupted) if main_thread else None
    try:
        args = make_parser().parse_args(argv)
        status = args.run(args)
        sys.stdout.flush()
        return status
    except KeyboardInterrupt as interrupt:
        return 128 + getattr(interrupt, "number", signal.SIGINT)
    except BrokenPipeError:
        return _reader_is_gone()
    except (DarknetError, OSError, MemoryError) as error:
        return _report(error)
    finally:
        if main_thread:
            signal.signal(signal.SIGTERM, before)


def _report(error):
    """Print one line; return the exit status that belongs to the error."""
    text = f"{error.filename}: {error.strerror}" if isinstance(error, OSError) and error.filename and error.strerror else str(error)
    if isinstance(error, MemoryError) and not text:
        text = "out of memory"
    print(f"darknetpy: error: {' '.join(text.split())}", file=sys.stderr)
    return exit_status(error)


def exit_status(error):
    """Return 2 where the input is at fault, 1 where running failed."""
    if getattr(error, "while_running", False):
        return FAILED
    if isinstance(error, OSError):
        return FAILED if error.errno in _DISK_ERRORS else WRONG_INPUT
    return WRONG_INPUT if isinstance(error, _INPUT_ERRORS) else FAILED


def _reader_is_gone():
    """Nobody reads standard output any more (``| head``): end quietly, as other programs do by SIGPIPE."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 128 + signal.SIGPIPE
