"""How good a classifier is: its scores, ranks and accuracy over a data set."""
from __future__ import annotations

from typing import NamedTuple

import numpy as np

from darknetpy.data import Loader, View
from darknetpy.errors import ArgumentError, DarknetError, DataError


class Accuracy(NamedTuple):
    """What share of a data set a network classifies rightly.

    Attributes
    ----------
    top1, topk : float
        Share of images, 0..1, whose class is the best, or among the `k` best.
    k : int
    images : int
        How many were measured.
    skipped : dict of int to str
        Images left out because they cannot be used, with the reason.
    """

    top1: float
    topk: float
    k: int
    images: int
    skipped: dict

    @property
    def figure(self):
        """The figure by which the best is known."""
        return self.top1

    def columns(self):
        """Return what it adds to a row of the .csv."""
        return {"top1": self.top1, "topk": self.topk}

    def text(self):
        """Return it in words, such as ``top-1 88.10 %, top-5 99.60 % of 1,000 images``."""
        best = f", top-{self.k} {100 * self.topk:.2f} %" if self.k > 1 else ""
        left_out = f" ({len(self.skipped)} skipped)" if self.skipped else ""
        return f"top-1 {100 * self.top1:.2f} %{best} of {self.images:,} images{left_out}"

    def figures(self):
        """Return it as a dict for JSON."""
        return {**self._asdict(), "skipped": list(self.skipped.values())}


def best_count(source, top=None):
    """Return how many best classes count as a hit: `top`, else ``top=`` of the data, else 5; no more than there are classes.

    Raises
    ------
    ArgumentError
        `top` is not between 1 and the number of classes.
    """
    if top is None:
        return source.top if source.options.get("top") else min(5, source.classes)
    if not 1 <= top <= source.classes:
        raise ArgumentError(f"top {top}: wanted 1 to {source.classes}, the number of classes")
    return top


def require_agreement(net, source):
    """Check that a network can tell the classes of the data from images.

    Raises
    ------
    DataError
        The network has not one output per class.
    """
    name = net.sections.net_section.file if net.sections is not None else "the network"
    if net.outputs != source.classes:
        raise DataError(f"{source.name} has {source.classes} classes, but {name} has {net.outputs} outputs")


def scores(net, x, tree=None):
    """Return the score of each class for rows of input: the network's output, with a `tree` the leaves' probabilities.

    Parameters
    ----------
    net : Network
    x : ndarray of float32, (rows, inputs)
    tree : Tree, optional

    Returns
    -------
    ndarray of float32, (rows, classes)

    Raises
    ------
    DarknetError
        A score is not finite.
    """
    found = net.predict(x).reshape(len(x), -1)
    if not np.isfinite(found).all():
        raise DarknetError(f"the network's output is not finite after iteration {net.iteration} (is the learning rate too high?)")
    return found if tree is None else leaf_probabilities(found, tree)


def leaf_probabilities(conditional, tree):
    """Return the probability of each leaf of a hierarchy; inner classes have 0, so that they are never the answer.

    Parameters
    ----------
    conditional : ndarray, (rows, classes)
        Probability of each class given its parent.
    tree : Tree
    """
    absolute = conditional.copy()
    for label, parent in enumerate(tree.parents):       # parents stand before their children
        if parent >= 0:
            absolute[:, label] *= absolute[:, parent]
    absolute[:, tree.parents[tree.parents >= 0]] = 0
    return absolute


def ranks(found, labels):
    """Return how many classes score better than the right one; of equal scores the lower class number counts as better.

    Parameters
    ----------
    found : ndarray, (rows, classes)
    labels : ndarray of int, (rows,)
        -1, an image of none of the classes, ranks behind all.
    """
    rows, classes = found.shape
    own = found[np.arange(rows), labels][:, None]
    better = (found > own) | ((found == own) & (np.arange(classes) < labels[:, None]))
    return np.where(labels < 0, classes, better.sum(1))


def evaluate(net, dataset, *, top=5, workers=None, on_bad_image="error", should_stop=lambda: False):
    """Measure a network on every image of a data set, each seen once as ``classifier valid`` of the dialect sees it.

    Parameters
    ----------
    net : Network
        Its training state is left alone.
    dataset : Dataset
    top : int
        How many best classes count for `topk`.
    workers : int, optional
        Loader threads.
    on_bad_image : {"error", "skip"}
    should_stop : callable
        Asked between batches; once it says yes, None is returned.

    Returns
    -------
    Accuracy or None

    Raises
    ------
    DataError
        An image cannot be used (with "error"), or none can.
    DarknetError
        The network's output is not finite.
    """
    first = within = images = 0
    view = View.validation(net.w, net.h, net.c, net.dialect)
    with Loader.once(dataset, view, net.batch, workers=workers, on_bad_image=on_bad_image) as loader:
        for batch in loader:
            if should_stop():
                return None
            if not len(batch.labels):
                continue
            rank = ranks(scores(net, batch.x, dataset.tree), batch.labels)
            first, within, images = first + int((rank < 1).sum()), within + int((rank < top).sum()), images + len(rank)
        if not images:
            raise DataError(f"{dataset.name}: no image can be used; the first: {next(iter(loader.skipped.values()))}")
        return Accuracy(first / images, within / images, top, images, dict(loader.skipped))
