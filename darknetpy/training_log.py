"""The record of a training run: one row per log point, kept as a .csv file beside the weights."""
from __future__ import annotations

import csv
import io
from typing import NamedTuple, Optional

from darknetpy.files import write_atomically


class Record(NamedTuple):
    """One log point.

    Attributes
    ----------
    iteration : int
        Updates made, this one included.
    epoch : float
        How often each training image has been seen on average.
    loss, average : float
        Loss per image of this update, and its running average (.9 old + .1 new).
    rate : float
        Learning rate of this update.
    images_per_second : float
        Speed of training, validation not counted.
    top1, topk : float or None
        Validation accuracy, 0..1, where it was measured.
    """

    iteration: int
    epoch: float
    loss: float
    average: float
    rate: float
    images_per_second: float
    top1: Optional[float] = None
    topk: Optional[float] = None
    unit = "images"

    def text(self):
        """Return what a progress line adds to loss and rate."""
        return ""


class DetectorRecord(NamedTuple):
    """One log point of a detector; the first six as in :class:`Record`.

    The others are of the anchors that learned an object's box in this update, before they did; [detection] does
    not tell.

    Attributes
    ----------
    iou : float or None
        Mean IoU of their boxes with the objects'; None: there was no object.
    objectness : float or None
        Their mean objectness.
    recall50, recall75 : float or None
        Share of them with an IoU above .5 and .75; [region] counts no recall75.
    objects : float or None
        How many there were per image.
    """

    iteration: int
    epoch: float
    loss: float
    average: float
    rate: float
    images_per_second: float
    iou: Optional[float] = None
    objectness: Optional[float] = None
    recall50: Optional[float] = None
    recall75: Optional[float] = None
    objects: Optional[float] = None
    unit = "images"

    def text(self):
        """Return what a progress line adds to loss and rate."""
        return "" if self.iou is None else f"IoU {self.iou:.3f}, recall {100 * self.recall50:.0f} %"


class TextRecord(NamedTuple):
    """One log point of a network of text; the first six as in :class:`Record`, a character standing for an image.

    Attributes
    ----------
    bits : float
        Per character of the text trained on, in this update: -log2 of the probability of the character that came.
    valid_bits : float or None
        The same of the text that is held out, where it was measured.
    """

    iteration: int
    epoch: float
    loss: float
    average: float
    rate: float
    characters_per_second: float
    bits: Optional[float] = None
    valid_bits: Optional[float] = None
    unit = "characters"

    def text(self):
        """Return what a progress line adds to loss and rate."""
        return f"{self.bits:.3f} bits/character"


class TrainingLog:
    """The rows of a run, in memory and in a .csv file.

    Parameters
    ----------
    path : str
        The file; what it holds beyond `until` is dropped.
    until : int
        Iteration that the run goes on from: rows up to it are kept; 0 for a new run.
    kind : type
        Of the rows: Record, DetectorRecord, TextRecord.

    Attributes
    ----------
    records : list of Record
    """

    def __init__(self, path, until=0, kind=Record):
        self.path = path
        self.records = _read(path, until, kind) if until else []
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(kind._fields)
        writer.writerows(map(_cells, self.records))
        write_atomically(path, [text.getvalue().encode()])
        self._file = open(path, "a", encoding="ascii", newline="")
        self._writer = csv.writer(self._file, lineterminator="\n")

    def add(self, record):
        """Append a row; it is in the file when this returns."""
        self.records.append(record)
        self._writer.writerow(_cells(record))
        self._file.flush()

    def close(self):
        """Close the file."""
        self._file.close()

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.close()


def _cells(record):
    """The loss with all its digits, so that two runs can be compared bit for bit; the rest for people."""
    iteration, epoch, loss, average, rate, speed, *figures = record
    return [iteration, f"{epoch:.4f}", repr(loss), f"{average:.6f}", f"{rate:.7g}", f"{speed:.1f}",
            *("" if figure is None else repr(figure) for figure in figures)]


def _read(path, until, kind):
    """Return the rows up to iteration `until`; a file that is missing or cut off costs its rows, not the run."""
    records = []
    try:
        with open(path, encoding="ascii", newline="") as file:
            rows = csv.reader(file)
            if next(rows, None) != list(kind._fields):
                return []
            for row in rows:
                record = kind(int(row[0]), *(float(cell) if cell else None for cell in row[1:]))
                if record.iteration > until or None in record[:6]:
                    break
                records.append(record)
    except (FileNotFoundError, ValueError, TypeError, IndexError, csv.Error):
        pass
    return records
