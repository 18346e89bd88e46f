"""Loader threads: batches of network input, decoded and augmented beside the training, the same whatever
their number.
"""

from __future__ import annotations

import collections
import concurrent.futures
import threading
from typing import TYPE_CHECKING, Any, NamedTuple, Optional

import numpy as np

from .._darknet import lib
from ..errors import ArgumentError, DataError
from ..threads import available_cpus
from .dataset import PackedDataset
from .view import SEED_MASK, sample_order

if TYPE_CHECKING:
    from .dataset import Dataset
    from .view import View

PACKED_ROWS = 256  # rows of one task: enough to hide its overhead, few enough to share a batch
LISTED_ROWS = 4
REPLACEMENTS = 100  # unreadable images in a row before on_bad_image=skip gives up


class Batch(NamedTuple):
    """Rows for one pass.

    Attributes
    ----------
    x : ndarray of float32, (rows, c*h*w), C-contiguous
    truth : ndarray of float32, (rows, classes) or (rows, view.truths), C-contiguous
    labels : ndarray of int64, (rows,)
        Each row's class; for detectors the number of boxes that the row shows.
    index : ndarray of int64, (rows,)
        Which image of the data set each row shows.
    """

    x: np.ndarray
    truth: np.ndarray
    labels: np.ndarray
    index: np.ndarray


class Loader:
    """An iterator over batches, made ahead of time by threads.

    Row i of the batch at place k of the run is a function of (data, view, order, seed, k+i) alone: not of the
    number of workers, of the batch size, or of where the run was resumed.  Nothing needs saving but seed and
    k.

    Parameters
    ----------
    dataset : Dataset
    view : View
    batch : int
        Rows of one batch.
    seed : int
        Of order and augmentation.
    start : int
        Place of the first row: how many images the run has already seen.
    stop : int, optional
        Place to end before, the last batch being smaller; by default it never ends.
    order : {"shuffled", "replacement", "sequential"}
        See sample_order.
    workers : int, optional
        Threads; 0: the caller's own, at each call. By default one for packed arrays, else one per CPU, 8 at
        most.
    on_bad_image : {"error", "skip"}
        What to do with an image that cannot be read or has no class: raise its DataError, or count it in
        `skipped` and take another image of the set, chosen by (seed, place), with that image's own class.
    drop_bad : bool
        With "skip": leave the row out instead, so that a batch may be smaller. For measuring accuracy.
    prefetch : int
        Batches to make ahead.

    Attributes
    ----------
    place : int
        Place of the next batch's first row.
    workers : int
        Threads; 0: the caller's own.
    skipped : dict of int to str
        Each image that was skipped, with the reason, which begins with list:line.
    """

    def __init__(
        self,
        dataset: Dataset,
        view: View,
        batch: int,
        *,
        seed: int = 0,
        start: int = 0,
        stop: Optional[int] = None,
        order: str = "shuffled",
        workers: Optional[int] = None,
        on_bad_image: str = "error",
        drop_bad: bool = False,
        prefetch: int = 2,
    ) -> None:
        if batch < 1 or start < 0 or prefetch < 1 or len(dataset) < 1:
            raise ArgumentError(
                f"expected batch, prefetch, images >= 1 and start >= 0, got {batch}, {prefetch}, "
                f"{len(dataset)}, {start}"
            )
        if on_bad_image not in ("error", "skip"):
            raise ArgumentError(f"on_bad_image: expected 'error' or 'skip', got {on_bad_image!r}")
        self.dataset, self.view, self.batch, self.seed, self.order = dataset, view, batch, seed, order
        self.place = start
        self.skipped: dict[int, str] = {}
        self._stop, self._skip, self._drop_bad = stop, on_bad_image == "skip", drop_bad
        self._packed = isinstance(dataset, PackedDataset)
        if workers is None:
            workers = 1 if self._packed else min(8, available_cpus())
        self.workers = workers
        self._lock = threading.Lock()
        self._closed, self._ended = threading.Event(), False
        self._pool = concurrent.futures.ThreadPoolExecutor(workers, "darknetpy-loader") if workers else None
        self._ahead: collections.deque[Any] = collections.deque()  # (place, batch, its tasks) in order
        self._next = start  # place of the next batch to begin
        self._prefetch = prefetch if workers else 1

    @classmethod
    def once(cls, dataset: Dataset, view: View, batch: int, **options: Any) -> Loader:
        """Return a loader that shows every image once, in order; images skipped are left out."""
        return cls(dataset, view, batch, stop=len(dataset), order="sequential", drop_bad=True, **options)

    def __iter__(self) -> Loader:
        return self

    def __enter__(self) -> Loader:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def wait(self) -> None:
        """Wait until the batches that are under way are made; what is wrong with one, `next` says."""
        for _, _, tasks in self._ahead if self._pool is not None else ():
            concurrent.futures.wait(tasks)

    def close(self) -> None:
        """Stop the threads: images begun are finished, the rest is dropped. May be called twice."""
        self._closed.set()
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)
        self._ahead.clear()

    def __next__(self) -> Batch:
        """Return the next Batch.

        Raises
        ------
        StopIteration
            `stop` is reached.
        DataError
            An image cannot be used; the loader is closed.
        """
        if self._closed.is_set():
            if self._ended:
                raise StopIteration
            raise ArgumentError("the loader is closed")
        try:
            while len(self._ahead) < self._prefetch and (self._stop is None or self._next < self._stop):
                self._begin()
            if not self._ahead:
                self._ended = True
                raise StopIteration
            batch, good, tasks = self._ahead.popleft()
            for task in tasks:
                task.result() if self._pool is not None else task()
        except BaseException:
            self.close()
            raise
        self.place += len(batch.index)
        if not good.all():
            batch = Batch(*(np.ascontiguousarray(part[good]) for part in batch))
        return batch

    def _begin(self):
        """Order the next batch: arrays, and tasks that fill their rows."""
        rows = self.batch if self._stop is None else min(self.batch, self._stop - self._next)
        index = sample_order(self.order, self.seed, self._next, rows, len(self.dataset))
        batch = Batch(
            np.empty((rows, self.view.size), np.float32),
            np.zeros((rows, self.view.truths or self.dataset.classes), np.float32),
            np.empty(rows, np.int64),
            index,
        )
        good = np.ones(rows, bool)
        fill, step = (self._fill_packed, PACKED_ROWS) if self._packed else (self._fill_listed, LISTED_ROWS)
        tasks = []
        for first in range(0, rows, step):
            part = Batch(*(array[first : first + step] for array in batch))
            arguments = fill, part, good[first : first + step], self._next + first
            tasks.append(
                self._pool.submit(self._task, *arguments)
                if self._pool is not None
                else lambda a=arguments: self._task(*a)
            )
        self._ahead.append((batch, good, tasks))
        self._next += rows

    def _task(self, fill, part, good, place):
        if not self._closed.is_set():
            fill(part, good, place)

    def _fill_packed(self, part, good, place):
        """Rows of packed arrays: nothing can be wrong with them any more."""
        arrays = self.dataset.arrays
        self.view.apply(arrays.pixels, part.index, self.seed, place, part.x)
        part.labels[:] = arrays.labels[part.index]
        if self.dataset.tree is None:
            part.truth[np.arange(len(part.index)), part.labels] = 1
        else:
            for row, label in enumerate(part.labels):
                part.truth[row] = self.dataset.truth(int(label))

    def _fill_listed(self, part, good, place):
        for row in range(len(part.index)):
            if self._closed.is_set():
                return
            image = self._usable(part, row, place + row)
            if image is None:
                good[row] = False
                continue
            self.view.fill(part, row, *image, self.dataset, self.seed, place + row)

    def _usable(self, part, row, place):
        """Pixels and annotation for a row, perhaps of a replacement, which becomes part.index[row]; None:
        leave the row out.
        """
        for attempt in range(REPLACEMENTS):
            index = int(part.index[row])
            try:
                if index in self.skipped:
                    raise DataError(self.skipped[index])
                annotation = self.dataset.annotation(index)
                return self.dataset.pixels(index), annotation
            except DataError as error:
                if not self._skip:
                    raise
                with self._lock:
                    self.skipped[index] = str(error)
                reason = error
            if self._drop_bad:
                return None
            part.index[row] = lib.replacement_sample(self.seed & SEED_MASK, place, attempt, len(self.dataset))
        raise DataError(
            f"{self.dataset.name}: {REPLACEMENTS} images in a row cannot be used; the last one: {reason}"
        )
