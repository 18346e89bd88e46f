"""All that can be wrong with data, found before training: every line of every list, not just the first
fault.
"""

from __future__ import annotations

import collections
import concurrent.futures
import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple, Optional

import numpy as np

from .._types import Path
from ..errors import DarknetError, DataError
from ..threads import available_cpus
from .datafile import DataFile, agree, ensure_backup, is_packed, read_data_file, read_names
from .dataset import ImageList, PackedDataset
from .detection import BoxDataset, ListBoxDataset, open_detection_data
from .detection_view import DetectionView, head_specs, label_classes
from .images import decode_image, image_size
from .source import SPLITS, DataSource, open_data

if TYPE_CHECKING:
    from ..sections import Resolved

CHUNK = 64  # images of one task
BEYOND = 0.01  # shares of the image that a box may reach beyond it without a note: rounding does


class NetInput(NamedTuple):
    """What a network wants of its data."""

    w: int
    h: int
    c: int
    outputs: int


@dataclass
class CheckReport:
    """What a check found.

    Attributes
    ----------
    problems : list of str
        What must be mended, each with its place (file:line where there is one).
    notes : list of str
        What is odd but works.
    facts : list of str
        What there is: images, sizes, classes.
    """

    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    facts: list[str] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Whether there is no problem."""
        return not self.problems

    def text(self) -> str:
        """Return the report as lines of text, problems last."""
        lines = [*self.facts, *(f"note: {n}" for n in self.notes), *(f"problem: {p}" for p in self.problems)]
        n = len(self.problems)
        return "\n".join([*lines, f"{n or 'no'} problem{'' if n == 1 else 's'}"])

    def refuse(self) -> None:
        """Raise a DataError with the first problem and their number; do nothing if there is none."""
        if self.problems:
            more = len(self.problems) - 1
            raise DataError(
                self.problems[0] + (f" (and {more} more; 'darknetpy check' lists them)" if more else "")
            )


def check_data(
    data: Path, net: Optional[NetInput] = None, full: bool = False, images: bool = True
) -> CheckReport:
    """Check all that the DATA of a classifier names.

    Parameters
    ----------
    data : str or os.PathLike
        As open_data takes it.
    net : NetInput, optional
        The network to train; its channels and outputs must fit.
    full : bool
        Decode every image; else only headers are read.
    images : bool
        False: leave the images of lists unopened.

    Returns
    -------
    CheckReport
    """
    report = CheckReport()
    source = _check_source(report, os.fspath(data), open_data)
    if source is not None:
        _check_net(report, source, net)
        _check_sets(report, source, full, images)
    return report


def check_detection_data(data: Path, plan: Resolved, full: bool = False, images: bool = True) -> CheckReport:
    """Check all that the DATA of a detector names, every line of every label file included.

    Parameters
    ----------
    data : str or os.PathLike
        As open_detection_data takes it.
    plan : Resolved
        The detector's .cfg.
    full, images : bool
        As in :func:`check_data`.

    Returns
    -------
    CheckReport
    """
    report = CheckReport()
    view = _attempt(report, DetectionView.training, plan)
    source = _check_source(
        report,
        os.fspath(data),
        lambda data: open_detection_data(
            data, plan.dialect, bool(view and view.class_only), label_classes(head_specs(plan)[-1])
        ),
    )
    report.notes += view.notes if view else []
    if source is not None:
        _attempt(report, require_classes, plan, source)
        for split, dataset in _check_sets(report, source, full, images).items():
            if isinstance(dataset, ListBoxDataset):
                _check_boxes(report, split, dataset, view.most if view else 0)
    return report


def require_classes(plan: Resolved, source: DataSource) -> None:
    """Check that the heads of a .cfg learn the classes of the data; CfgError at the first that does not."""
    for head in head_specs(plan):
        found = label_classes(head)
        if found != source.classes:
            key = "map" if head.values.get("map") else "classes"
            raise head.error(
                f"{found} classes, but {source.name} has {source.classes}: {_shorten(source.names)}", key
            )


def _check_source(report, data, opener):
    """The files that a .data file names, and what is made of them; None if nothing can be."""
    options = _options(data)
    _check_files(report, options)
    source = _attempt(report, opener, data)
    _check_backup(report, source.backup if source else options.get("backup", "backup"), options)
    if source is not None:
        report.notes += source.notes
        report.facts.append(f"{source.name}  {source.classes} classes: {_shorten(source.names)}")
    return source


def _check_sets(report, source, full, images):
    """Every image of every set; returns the sets."""
    for split in ("train", "valid"):
        if split not in source.splits:
            report.notes.append(f"{source.name}: no {split} images")
    sets = {split: _attempt(report, source.dataset, split) for split in source.splits if split != "test"}
    for split, dataset in sets.items():
        if isinstance(dataset, PackedDataset):
            _describe_packed(report, split, dataset)
        elif isinstance(dataset, ImageList):
            _check_list(report, split, dataset, full, images)
        elif dataset is not None:
            report.facts.append(f"{split}: {len(dataset)} images with boxes in {dataset.name}")
    _check_overlap(report, sets)
    return sets


def _attempt(report, function, *arguments):
    """Return function(*arguments); None, and its error in the report unless it stands there, if it
    refuses.
    """
    try:
        return function(*arguments)
    except DarknetError as error:
        if str(error) not in report.problems:
            report.problems.append(str(error))
    except OSError as error:
        if not any(str(error.filename) in problem for problem in report.problems):
            report.problems.append(f"{error.filename}: {error.strerror}")
    return None


def _options(data):
    """The options of a .data file that can be read though something it names cannot; else none."""
    try:
        return DataFile(data) if is_packed(data) or not os.path.isfile(data) else read_data_file(data)
    except (DarknetError, OSError):
        return DataFile(data)


def _check_files(report, options):
    """Every file that a .data file names: that it is there, and holds one line per class where it should."""
    classes = _attempt(report, options.integer, "classes")
    for key in (*SPLITS, "labels", "names", "tree"):
        paths = options.files(key)
        missing = [path for path in paths if not os.path.isfile(path)]
        for path in missing:
            report.problems.append(str(options.error(key, f"no such file: {path}")))
        if key in ("labels", "names") and paths and not missing:
            names = _attempt(report, read_names, paths[0])
            if names and classes:
                _attempt(report, agree, paths[0], names, classes)


def _check_backup(report, folder, options):
    """Whether weights could be saved: tried, and nothing left behind."""
    missing = []
    parent = os.path.abspath(folder)
    while not os.path.exists(parent):
        missing.append(parent)
        parent = os.path.dirname(parent)
    try:
        ensure_backup(folder)
    except DataError as error:
        report.problems.append(str(options.error("backup", error)) if options.get("backup") else str(error))
    for made in filter(os.path.isdir, missing):
        os.rmdir(made)
    if missing:
        report.notes.append(f"backup folder {folder!r} does not exist yet; training makes it")


def _check_net(report, source, net):
    if net is None:
        return
    if net.c not in (1, 3):
        report.problems.append(f"the network wants {net.c} channels; images have 1 or 3")
    if net.outputs != source.classes:
        report.problems.append(
            f"{source.name}: {source.classes} classes, but the network has {net.outputs} outputs"
        )


def _describe_packed(report, split, dataset):
    n, h, w, c = dataset.arrays.pixels.shape
    report.facts.append(f"{split}: {n} images of {w}x{h}, {'grey' if c == 1 else 'colour'}, packed")
    _check_counts(report, split, dataset, np.bincount(dataset.arrays.labels, minlength=dataset.classes))


def _check_counts(report, split, dataset, counts):
    empty = [dataset.names[i] for i in np.flatnonzero(np.asarray(counts) == 0)]
    if empty and dataset.tree is None:
        report.notes.append(f"{dataset.name}: no {split} image of class {_shorten(empty)}")


def _check_list(report, split, dataset, full, images):
    """Each line: class, file, header or all pixels."""
    counts = np.zeros(dataset.classes, np.int64)
    starts = range(0, len(dataset), CHUNK)
    with concurrent.futures.ThreadPoolExecutor(min(8, available_cpus()), "darknetpy-check") as pool:
        for labels, problems in pool.map(lambda s: _check_chunk(dataset, s, full, images), starts):
            np.add.at(counts, labels, 1)
            report.problems += problems
    report.facts.append(f"{split}: {len(dataset)} images in {dataset.name}")
    _check_counts(report, split, dataset, counts)


def _check_chunk(dataset, start, full, images):
    """Returns (classes found, problems) of CHUNK images."""
    labels, problems = [], []
    for index in range(start, min(start + CHUNK, len(dataset))):
        try:
            found = dataset.annotation(index)
            if isinstance(dataset, BoxDataset):
                labels += found[:, 4].astype(int).tolist()
            elif found >= 0:
                labels.append(found)
        except DataError as error:
            problems.append(str(error))
        try:
            if images:
                (decode_image if full else image_size)(dataset.path(index))
        except DataError as error:
            problems.append(f"{dataset.place(index)}: {error}")
    return np.array(labels, np.int64), problems


def _check_boxes(report, split, dataset, most):
    """What is odd about boxes; those that are wrong are problems already."""
    crowded, beyond, objects = [], [], 0
    for index in range(len(dataset)):
        try:
            boxes = dataset.boxes(index)
        except DataError:
            continue
        objects += len(boxes)
        reach = np.abs(boxes[:, :2] - 0.5) + boxes[:, 2:4] / 2
        if (reach > 0.5 + BEYOND).any():
            beyond.append(index)
        if most and len(boxes) > most:
            crowded.append(index)
    report.facts.append(f"{split}: {objects} objects")
    for found, what in (
        (sorted(dataset.without), "have no label file and count as images without objects"),
        (crowded, f"have more than max={most} objects, of which each view takes {most}"),
        (beyond, "have boxes that reach beyond them, which are cut"),
    ):
        if found:
            report.notes.append(
                f"{dataset.name}: {len(found)} {split} images {what}; the first: {dataset.place(found[0])}"
            )


def _check_overlap(report, sets):
    """Images both trained on and measured with make the accuracy look better than it is."""
    train, valid = sets.get("train"), sets.get("valid")
    if not isinstance(train, ImageList) or not isinstance(valid, ImageList):
        return
    both = {path for _, path in train.lines}.intersection(path for _, path in valid.lines)
    if both:
        report.notes.append(f"{len(both)} images stand in both train and valid, such as {min(both)}")
    for dataset in (train, valid):
        twice = [
            path
            for path, count in collections.Counter(path for _, path in dataset.lines).items()
            if count > 1
        ]
        if twice:
            report.notes.append(
                f"{dataset.name}: {len(twice)} images stand there more than once, such as {twice[0]}"
            )


def _shorten(names, most=5):
    return ", ".join(names[:most]) + (f", ... ({len(names)})" if len(names) > most else "")
