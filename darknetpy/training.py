"""Training: the loop over mini-batches, what it writes and saves, and how it goes on later, bit for bit.

What is trained on, and what is measured, a subclass says: ClassifierTrainer in classifier_training.py,
DetectorTrainer in detector_training.py, TextTrainer in text_training.py.
"""
from __future__ import annotations

import functools
import math
import os
import time
from dataclasses import dataclass, field
from typing import Optional, Union

import numpy as np

from darknetpy import checkpoint, plots
from darknetpy.data import Loader, ensure_backup
from darknetpy.errors import ArgumentError, CfgError, DarknetError, WeightsError
from darknetpy.evaluation import Accuracy
from darknetpy.files import sweep_temporaries
from darknetpy.moving_statistics import refuse_single_values
from darknetpy.progress import PlainProgress
from darknetpy.text import TextMeasure
from darknetpy.training_log import Record, TrainingLog
from darknetpy.weights import load_weights, refuse_unsavable, save_weights

_MOST_ROWS = 10000              # of the .csv, unless asked for more
_PLOT_SECONDS = 60              # between two charts: drawing one takes most of a second
_AVERAGE = .1                   # weight of the newest loss in the running average, as in Darknet


@dataclass
class TrainingOptions:
    """How a run is watched and saved; nothing here changes a weight, but for images that are skipped.

    Attributes
    ----------
    folder : str or None
        Where files go; None: ``backup=`` of the data.
    name : str
        What their names begin with.
    workers : int or None
        Loader threads; None: as many as make sense.
    on_bad_image : {"error", "skip"}
    valid_every, log_every : int or None
        Updates between two validations (None: one epoch), and rows of the .csv (None: each, 10,000 in all at most).
    save_every : int
        Updates between two savings.
    top : int or None
        How many best classes count; None: ``top=`` of the data, else 5.
    plot : bool
        Draw the chart if matplotlib is there.
    """

    folder: Optional[str] = None
    name: str = "network"
    workers: Optional[int] = None
    on_bad_image: str = "error"
    valid_every: Optional[int] = None
    log_every: Optional[int] = None
    save_every: int = 1000
    top: Optional[int] = None
    plot: bool = True


@dataclass
class TrainingResult:
    """What a run came to.

    Attributes
    ----------
    iteration, max_batches : int
        Updates made in all, and wanted.
    finished : bool
        Whether all were made, rather than training stopped.
    epoch, loss, average : float
        Of the last update; loss and average are None if none was made.
    seconds, images_per_second : float
        Of training alone in this run: validation, saving and drawing are not counted.
    accuracy : Accuracy, TextMeasure or None
        Of the final weights on the validation data.
    best, best_iteration
        The best validation so far, top-1 or bits per character; None without one.
    files : list of str
        What was written.
    skipped : dict of int to str
        Training images that cannot be used, with the reason.
    """

    iteration: int
    max_batches: int
    finished: bool
    epoch: float
    loss: Optional[float]
    average: Optional[float]
    seconds: float
    images_per_second: float
    accuracy: Optional[Union[Accuracy, TextMeasure]]
    best: Optional[float]
    best_iteration: Optional[int]
    files: list = field(default_factory=list)
    skipped: dict = field(default_factory=dict)


class Trainer:
    """Trains a network on the images of a data source.

    Everything that can be wrong is found when it is made, before the first update.  A subclass gives
    :meth:`open_data`, and where there is something to measure :meth:`observe`, :meth:`figures` and
    :meth:`measure`.

    Parameters
    ----------
    net : Network
        Built with train=True; it goes on from its ``seen``.
    source : DataSource
    options : TrainingOptions, optional
    progress : PlainProgress, optional
        Who is told; nobody by default.

    Raises
    ------
    ArgumentError, CfgError, DataError
        Network, data and options do not fit each other, or the folder cannot be written.
    OSError
        A file is missing or unreadable.
    """

    record = Record                 # type of the rows of the .csv
    command = "classifier train"    # whose checkpoints it goes on from
    lower_is_better = False         # of what is measured

    def __init__(self, net, source, options=None, progress=None):
        self.net, self.source, self.options = net, source, options or TrainingOptions()
        self.progress = progress or PlainProgress(None)
        self.max_batches = int(net.option("max_batches"))
        self._require_trainable()
        self.view, self.train, self.valid = self.open_data()
        self.folder = source.backup if self.options.folder is None else self.options.folder
        ensure_backup(self.folder)
        sweep_temporaries(self.folder)
        rows = net.batch * net.subdivisions
        self.valid_every = self.options.valid_every or math.ceil(len(self.train) / rows)
        self.log_every = self.options.log_every or max(1, math.ceil(self.max_batches / _MOST_ROWS))
        self.average = self.best = self.best_iteration = self._loss = None
        self._resumed, self._accuracy, self._accuracy_at = False, None, None
        self._seconds, self._images, self._speed, self._plotted, self._files = 0.0, 0, None, 0.0, {}

    def _require_trainable(self):
        net = self.net
        refuse_single_values(net)
        refuse_unsavable(net)
        if not net.truths:
            raise ArgumentError("the network has no loss layer ([cost], [softmax], [logistic]): it cannot train")
        if self.max_batches < 1:
            message = "max_batches= is missing: training would never end; write it there, or give --max-batches"
            raise net.sections.error(message) if net.sections else CfgError(message, section="net")

    # ---- what a subclass says
    def open_data(self):
        """Check that network and data fit; return (view, training images, validation images or None)."""
        raise NotImplementedError

    def truth(self, batch):
        """Return what the network should say of a mini-batch (Batch)."""
        return batch.truth

    def observe(self, batch):
        """Take note of a mini-batch that was just trained on."""

    def figures(self):
        """Return what was observed since the last call, as values for the record."""
        return {}

    def measure(self, should_stop):
        """Return the Accuracy or the like on the validation data; None if `should_stop` said yes."""
        raise NotImplementedError

    @staticmethod
    def best_text(best):
        """Return the best measurement in words."""
        return f"top-1 {100 * best:.2f} %"

    @staticmethod
    def report(result):
        """Return what was measured, as a dict for JSON."""
        return {}

    # ---- where to start
    def load_weights(self, path, clear=False, cutoff=None):
        """Start from a .weights file, whose count of what was seen is kept unless `clear`.

        Raises
        ------
        WeightsError
            The file does not fit, or its count has reached max_batches.
        """
        load_weights(self.net, path, cutoff, clear=clear)
        if self.net.iteration >= self.max_batches:
            raise WeightsError(f"{path}: {self.net.seen} {self.record.unit} seen are {self.net.iteration} updates, and max_batches="
                               f"{self.max_batches}: nothing is left to train; -clear counts from 0")

    def resume(self, path):
        """Go on from a checkpoint as if training had never stopped.

        Raises
        ------
        WeightsError
            It is damaged, of another network or other data, or training was finished; the message names what differs.
        """
        header = checkpoint.read_header(path)
        extra = _checked_extra(path, header["extra"], self.command)
        for split, identity in extra["data"].items():
            if identity != self._identities[split]:
                raise WeightsError(f"{path}: was trained on other data: the {split} {self.record.unit} of {self.source.name} are not "
                                   f"those of {extra['data_name']} then")
        self._refuse_other_end(path, header)
        checkpoint.restore(self.net, path)
        self.average, self._loss = extra["average"], extra["loss"]
        self.best, self.best_iteration, self._resumed = extra["best"], extra["best_iteration"], True

    def _refuse_other_end(self, path, header):
        """max_batches may grow between runs, unless the learning rate depends on it."""
        before = int(header["options"]["max_batches"])
        if self.net.sections and self.net.sections.net["policy"] == "poly" and before != self.max_batches:
            raise WeightsError(f"{path}: a checkpoint with max_batches={before}, but the network has max_batches="
                               f"{self.max_batches}, on which the learning rate depends (policy=poly)")
        iteration = header["seen"] // (self.net.batch * self.net.subdivisions)
        if iteration >= self.max_batches:
            raise WeightsError(f"{path}: training was finished: {iteration} updates are made, and max_batches={self.max_batches}")

    @functools.cached_property
    def _identities(self):
        return {"train": self.train.identity(), "valid": self.valid.identity() if self.valid else None}

    # ---- the loop
    def run(self, stop_at=None, should_stop=lambda: False):
        """Train until max_batches.

        Parameters
        ----------
        stop_at : int, optional
            Stop after this update already, to go on later from the checkpoint.
        should_stop : callable
            Asked after each update; once it says yes, the state is saved and training stops.

        Returns
        -------
        TrainingResult

        Raises
        ------
        DarknetError
            The loss or a weight is not finite; the files saved before are left alone.
        DataError
            An image cannot be used, and `on_bad_image` is "error".
        OSError
            A file cannot be written.
        """
        net = self.net
        last = self._last = min(self.max_batches, stop_at or self.max_batches)
        self._ahead = None      # a mini-batch and its truth, or what is wrong with it, that the device was told of
        log = TrainingLog(self._path(".csv"), net.iteration if self._resumed else 0, self.record)
        self._note_chart()
        self.progress.begin(net.iteration, self.max_batches)
        try:
            with log, self._loader() as loader:
                while net.iteration < last and not should_stop():
                    self._advance(loader, log, should_stop)
                return self._finish(log, should_stop, dict(getattr(loader, "skipped", {})))
        finally:
            self.progress.end()

    def _loader(self):
        return Loader(self.train, self.view, self.net.batch, seed=self.net.seed, start=self.net.seen,
                      workers=self.options.workers, on_bad_image=self.options.on_bad_image)

    def _advance(self, loader, log, should_stop):
        """One update, and what is due after it."""
        self._loss = self._update(loader)
        self.average = self._loss if self.average is None else (1 - _AVERAGE) * self.average + _AVERAGE * self._loss
        iteration = self.net.iteration
        record = self.record(iteration, self._epoch(), self._loss, self.average, self.net.learning_rate,
                             1 / self._speed, **self.figures())
        self.progress.step(record, self.net.seen, self._eta())
        measured = None
        if iteration % self.valid_every == 0 or iteration >= self.max_batches:
            measured = self._validate(should_stop)
            record = record._replace(**measured.columns()) if measured else record
        if iteration % self.log_every == 0 or measured or iteration >= self.max_batches:
            log.add(record)
        if measured or iteration % self.options.save_every == 0:
            self._save()
            self._chart(log)

    def _update(self, loader):
        """The mini-batches of one update; returns their mean loss."""
        net, losses, start = self.net, [], time.perf_counter()
        while not losses or net.seen // net.batch % net.subdivisions:
            batch, truth = self._take(loader)
            losses.append(net.train_batch(batch.x, truth))
            self._announce(loader)
            self.observe(batch)
        seconds, images = time.perf_counter() - start, len(losses) * net.batch
        self._seconds, self._images = self._seconds + seconds, self._images + images
        per_image = max(seconds, 1e-9) / images
        self._speed = per_image if self._speed is None else .9 * self._speed + .1 * per_image
        return float(np.mean(losses))

    def _take(self, loader):
        """The next mini-batch and its truth, which may have been announced."""
        ahead, self._ahead = self._ahead, None
        if isinstance(ahead, Exception):
            raise ahead
        if ahead is None:
            batch = next(loader)
            ahead = batch, self.truth(batch)
        return ahead

    def _announce(self, loader):
        """Let a device copy the next mini-batch while it works on this one; what is wrong with it is said in its turn."""
        net = self.net
        if net.device == "cpu" or net.iteration >= self._last:
            return
        try:
            self._ahead = self._take(loader)
            net.stage(self._ahead[0].x, self._ahead[1])
        except DarknetError as error:
            self._ahead = error

    def _epoch(self):
        return self.net.seen / len(self.train)

    def _eta(self):
        """Seconds of training to go."""
        return max(self.max_batches - self.net.iteration, 0) * self.net.batch * self.net.subdivisions * self._speed

    def _validate(self, should_stop):
        """Measure the validation data, if there are any; keep the weights if they are the best."""
        if self.valid is None:
            return None
        self._refuse_nonfinite()
        accuracy = self.measure(should_stop)
        if accuracy is None:
            return None
        self._accuracy, self._accuracy_at = accuracy, self.net.iteration
        best = self.best is None or (accuracy.figure < self.best if self.lower_is_better else accuracy.figure > self.best)
        if best:
            self.best, self.best_iteration = accuracy.figure, self.net.iteration
            self._save_weights("_best.weights")
        self.progress.validated(self.net.iteration, accuracy, best)
        return accuracy

    # ---- files
    def _path(self, ending):
        path = os.path.join(self.folder, self.options.name + ending)
        self._files[path] = True
        return path

    def _save(self):
        """Save what training can go on from, under our name and Darknet's."""
        if self.net.option("averages"):
            save_weights(self.net, self._path("_ema.weights"), averaged=True)
        for ending in ("_last.weights", ".backup"):
            self._save_weights(ending)
        checkpoint.save_checkpoint(self.net, self._path(".checkpoint"), self._extra())

    def _save_weights(self, ending):
        self._refuse_nonfinite()
        save_weights(self.net, self._path(ending))

    def _refuse_nonfinite(self):
        """Good files are not overwritten by weights that an update has just ruined."""
        for index, layer in enumerate(self.net.layers):
            for name, array in layer.arrays("parameter", "statistic").items():
                if not np.isfinite(array).all():
                    raise DarknetError(f"layer {index} [{layer.type}] {name} is not finite after iteration {self.net.iteration}; "
                                       f"nothing was saved (is the learning rate too high?)")

    def _extra(self):
        return {"data": self._identities, "data_name": self.source.name, "loss": self._loss, "average": self.average,
                "best": self.best, "best_iteration": self.best_iteration}

    def _note_chart(self):
        if self.options.plot and not plots.can_plot():
            self.progress.note("matplotlib is not installed: the .csv is written, but no chart (pip install 'darknetpy-nn[plot]')")
            self.options.plot = False

    def _chart(self, log, now=False):
        if self.options.plot and log.records and (now or time.monotonic() - self._plotted >= _PLOT_SECONDS):
            title = f"{self.options.name} on {self.source.name}, batch {self.net.batch * self.net.subdivisions}"
            plots.plot_training(log.records, self._path(".png"), title)
            self._plotted = time.monotonic()

    def _finish(self, log, should_stop, skipped):
        net = self.net
        finished = net.iteration >= self.max_batches
        if self._images:
            self._save()
        if finished:
            self._save_weights("_final.weights")
        self._chart(log, now=True)
        current = self._accuracy if self._accuracy_at == net.iteration else None
        return TrainingResult(
            net.iteration, self.max_batches, finished, self._epoch(), self._loss, self.average, self._seconds,
            self._images / self._seconds if self._seconds else 0.0, current, self.best, self.best_iteration,
            sorted(path for path in self._files if os.path.exists(path)), skipped)


_EXTRA_KINDS = {"data": dict, "data_name": str, "loss": (float, type(None)), "average": (float, type(None)),
                "best": (float, type(None)), "best_iteration": (int, type(None))}


def _checked_extra(path, extra, command):
    """Return what a trainer wrote into a checkpoint, or refuse one that Network.save_checkpoint wrote by itself."""
    if not isinstance(extra, dict) or any(not isinstance(extra.get(key), kind) for key, kind in _EXTRA_KINDS.items()) \
            or set(extra["data"]) != {"train", "valid"}:
        raise WeightsError(f"{path}: this checkpoint was not written by `{command}`: "
                           "it does not say which data it goes on with")
    return extra
