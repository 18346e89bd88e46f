"""Ctrl-C and SIGTERM as a wish to stop: the first is noted, the second stops at once."""
from __future__ import annotations

import os
import signal
import threading

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interrupted(KeyboardInterrupt):
    """A signal that stops the program now.

    Attributes
    ----------
    number : int
        The signal's.
    """

    def __init__(self, number):
        self.number = number
        super().__init__(signal.Signals(number).name)


def raise_interrupted(number, frame=None):
    """A signal handler: stop now, through every ``finally``, so that no half file stays behind."""
    raise Interrupted(number)


class StopSignals:
    """While it is entered, the first SIGINT or SIGTERM makes it true, and another one raises Interrupted.

    Attributes
    ----------
    number : int or None
        The signal that came.
    """

    def __init__(self, message="stopping after this step; once more stops at once"):
        self.number, self._message, self._before = None, message, {}

    def __call__(self):
        return self.number is not None

    def __enter__(self):
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._handle) for number in _SIGNALS}
        return self

    def __exit__(self, *error):
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _handle(self, number, frame):
        if self.number is not None:
            raise Interrupted(number)
        self.number = number
        name = signal.Signals(number).name
        os.write(2, f"\n{name}: {self._message}\n".encode())    # a handler may not wait for a stream's lock
