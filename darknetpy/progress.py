"""What people see of a training run: a live bar on a terminal, a line now and then elsewhere."""
from __future__ import annotations

import os
import sys
import time

_ROOM_FOR_BAR = 95              # columns; the facts take up to 80
_SHORT = {"images": "img", "characters": "chars"}


def make_progress(stream=None):
    """Return a LiveProgress where `stream` (standard output by default) is a terminal, else a PlainProgress."""
    stream = sys.stdout if stream is None else stream
    if stream.isatty() and os.environ.get("TERM") != "dumb":
        return LiveProgress(stream)
    return PlainProgress(stream)


class PlainProgress:
    """Lines of text; those of iterations `seconds` apart, so that a log file stays readable.

    `stream` None: none.  When nobody reads them any more (a closed pipe), training goes on without.
    """

    def __init__(self, stream, seconds=5):
        self._stream, self._seconds, self._last = stream, seconds, None
        self._text = None

    def begin(self, iteration, total):
        """Training starts: `iteration` of `total` updates are made already."""

    def step(self, record, images, eta):
        """An update was made; `images` seen in all, `eta` seconds to go."""
        self.advance(record.iteration, lambda: step_line(record, images, eta))

    def advance(self, iteration, text):
        """`iteration` updates are made; `text`, called if it is shown, says what there is to know."""
        self._text = text
        if self._last is None or time.monotonic() - self._last >= self._seconds:
            self._show()

    def _show(self):
        if self._text is not None:
            self._last = time.monotonic()
            text, self._text = self._text, None
            self.note(text())

    def validated(self, iteration, accuracy, best):
        """Validation was measured; `best` says whether it is the best so far."""
        self._show()
        self.note(f"{iteration}: validation {accuracy.text()}{', the best so far' if best else ''}")

    def note(self, text):
        """Print a line."""
        if self._stream is None:
            return
        try:
            print(text, file=self._stream, flush=True)
        except (BrokenPipeError, ValueError):       # ValueError: the stream is closed
            self._stream = None

    def end(self):
        """Training ended; the last update is shown if it was not."""
        self._show()


def counted(items, total, what, stream, seconds=5):
    """Yield the items, telling `stream` how many of `total` are done: in place on a terminal, else now and then."""
    live = stream.isatty() and os.environ.get("TERM") != "dumb"
    seconds, end = (.25, "") if live else (seconds, "\n")
    start = last = time.monotonic()
    for done, item in enumerate(items):
        now = time.monotonic()
        if done and now - last >= seconds:
            last = now
            left = clock((now - start) / done * (total - done))
            print(f"{chr(13) * live}{done} of {total} {what}, ETA {left}", end=end, file=stream, flush=True)
        yield item
    if live and last > start:
        print(file=stream)


class LiveProgress(PlainProgress):
    """A live line drawn by rich, with a bar where there is room; lines of validation stay above it."""

    def __init__(self, stream):
        super().__init__(stream)
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn

        self._console = Console(file=stream, highlight=False, soft_wrap=True)
        bar = [BarColumn(bar_width=None)] if self._console.width >= _ROOM_FOR_BAR else []
        self._bar = Progress(*bar, TextColumn("{task.fields[facts]}"), console=self._console, refresh_per_second=4)

    def begin(self, iteration, total):
        super().begin(iteration, total)
        self._task = self._bar.add_task("train", total=total, completed=iteration, facts="")
        self._bar.start()

    def step(self, record, images, eta):
        facts = (f"{record.iteration} epoch {record.epoch:.2f} loss {record.loss:.3f} avg {record.average:.3f} rate {record.rate:.3g} "
                 f"{_with(record.text(), ' ')}{record[5]:.0f} {_SHORT[record.unit]}/s ETA {clock(eta)}")
        self.advance(record.iteration, lambda: facts)

    def advance(self, iteration, text):
        self._bar.update(self._task, completed=iteration, facts=text())

    def note(self, text):
        self._console.print(text, markup=False)

    def end(self):
        self._bar.stop()


def step_line(record, images, eta):
    """Return a line like Darknet's: iteration, epoch: loss, average, rate, speed, images (or characters) seen, time to go."""
    return (f"{record.iteration}, {record.epoch:.3f}: {record.loss:.6f}, {record.average:.6f} avg, {record.rate:.6g} rate, "
            f"{_with(record.text(), ', ')}{record[5]:.0f} {record.unit}/s, {images} {record.unit}, ETA {clock(eta)}")


def _with(text, end):
    return text + end if text else ""


def clock(seconds):
    """Return a duration as h:mm:ss."""
    minutes, rest = divmod(int(seconds + .5), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}"
