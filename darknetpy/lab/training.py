"""The one loop that trains the networks of all experiments."""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np

from darknetpy.builder import build_network
from darknetpy.cfg import Option, parse_cfg_text
from darknetpy.data import open_data, sample_order
from darknetpy.errors import ArgumentError, DarknetError
from darknetpy.sections import resolve

_STATISTICS_IMAGES = 2000  # over which moving statistics are recomputed


@dataclass
class Images:
    """Rows of pixels in [0, 1], float32, and their classes."""

    x: np.ndarray
    labels: np.ndarray

    @classmethod
    def of(cls, dataset):
        """Those of a packed data set."""
        pixels = dataset.arrays.pixels
        return cls(
            pixels.reshape(len(pixels), -1).astype(np.float32) / np.float32(255), dataset.arrays.labels
        )

    def spread(self, count):
        """Return about `count` of them, evenly spaced, since the embedded ones are sorted by class."""
        step = max(len(self) // count, 1)
        return Images(np.ascontiguousarray(self.x[::step]), self.labels[::step])

    def __len__(self):
        return len(self.labels)


@dataclass
class Data:
    """Images to train on and to test on."""

    train: Images
    valid: Images

    @classmethod
    def load(cls, full=False):
        """Load Fashion-MNIST: the images that come with the package, or all of Debian's."""
        source = open_data("fashion-mnist:full" if full else "fashion-mnist:")
        return cls(Images.of(source.train), Images.of(source.valid))


class Training:
    """A network in training, as an experiment's ``measure`` sees it.

    Attributes
    ----------
    net : Network
    labels : dict
        The run's.
    data : Data
    iteration : int
        Updates made.
    losses : list of float
        Of the updates since the last measurement, per image.
    seconds : float
        Spent in training, measurements not counted.
    diverged : bool
        The loss is not finite any more: training has ended.
    """

    def __init__(self, run, data, seed):
        sections = parse_cfg_text(run.cfg)
        # Of the first weights, and of what dropout drops.
        sections[0].options["seed"] = Option("seed", str(seed), sections[0].line)
        self.net = build_network(resolve(sections), train=True)
        if run.start is not None:
            run.start(self.net, np.random.default_rng(seed))
        self.labels, self.data, self._seed = run.labels, data, seed
        self._images = data.train if run.light is None else Images(run.light(data.train.x), data.train.labels)
        self.iteration, self.seconds, self.losses, self.diverged = 0, 0.0, [], False

    @property
    def loss(self):
        """Mean training loss per image since the last measurement; NaN if it diverged."""
        return float(np.mean(self.losses)) if self.losses and not self.diverged else float("nan")

    def advance(self, updates):
        """Make updates, each with the next images of a random order that shows every image once an epoch."""
        begin = time.perf_counter()
        for _ in range(updates):
            x, labels = self._batch(self.net.seen)
            try:
                self.losses.append(self.net.train_batch(x, labels))
            except ArgumentError:
                raise
            except DarknetError:  # the loss is not finite
                self.diverged = True
                break
            self.iteration += 1
        self.seconds += time.perf_counter() - begin

    def _batch(self, first):
        index = sample_order("shuffled", self._seed, first, self.net.batch, len(self._images))
        return self._images.x[index], self._images.labels[index]

    def accuracy(self, images=None):
        """Return the share of images (default: validation) classified rightly; NaN if it diverged."""
        images = self.data.valid if images is None else images
        scores = self.net.predict(images.x).reshape(len(images), -1)
        if self.diverged or not np.isfinite(scores).all():
            return float("nan")
        return float(np.mean(scores.argmax(1) == images.labels))

    def outputs(self, layer, images):
        """Return the outputs of a layer, in inference, for images: (images, outputs)."""
        batch, found = self.net.batch, []
        for at in range(0, len(images), batch):
            rows = images.x[at : at + batch]
            self.net.predict(rows)
            found.append(self.net[layer].output.reshape(batch, -1)[: len(rows)].copy())
        return np.concatenate(found)

    def recompute_statistics(self, x=None):
        """Replace the moving statistics by those of the present weights, over training images (or `x`)."""
        if not any("rolling_mean" in layer.arrays("statistic") for layer in self.net.layers):
            return
        x, batch = self._images.x if x is None else x, self.net.batch
        index = sample_order(
            "shuffled", self._seed, 0, max(min(_STATISTICS_IMAGES, len(x)) // batch, 1) * batch, len(x)
        )
        try:
            self.net.recompute_statistics(x[rows] for rows in index.reshape(-1, batch))
        except ArgumentError:
            raise
        except DarknetError:  # a statistic is not finite
            self.diverged = True


def train(experiment, run, data, seed, progress=lambda training: None):
    """Train one network and measure it on the way.

    Parameters
    ----------
    experiment : Experiment
    run : Run
    data : Data
    seed : int
    progress : callable
        Called with the Training now and then.

    Returns
    -------
    list of dict
        Rows: the run's labels, seed, iteration, what was measured.
    """
    training, rows = Training(run, data, seed), []
    points = min(experiment.points, run.iterations)
    for point in range(1, points + 1):
        training.advance(point * run.iterations // points - training.iteration)
        if experiment.recompute and not training.diverged:
            training.recompute_statistics()
        measured = experiment.measure(training)
        for figures in measured if isinstance(measured, list) else [measured]:
            rows.append({**run.labels, "seed": seed, "iteration": training.iteration, **figures})
        progress(training)
        if training.diverged:
            break
        training.losses.clear()
    return rows
