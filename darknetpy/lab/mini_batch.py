"""One image, a mini-batch, or all images for each step of gradient descent."""

from __future__ import annotations

import numpy as np

from darknetpy.lab import charts, table
from darknetpy.lab.experiment import Experiment, Run
from darknetpy.lab.networks import CLASSES, connected, network

_SIZES = (1, 16, 64, 256)


def plain_net(batch):
    """Three hidden layers of 100 units, without normalization: one image has nothing to average over."""
    return network(*3 * [connected(100, "relu")], connected(CLASSES), batch=batch, rate=0.01)


class MiniBatch(Experiment):
    name = "mini-batch"
    title = "Gradient descent with one image, mini-batches, and all images"
    source = "Bottou, Curtis & Nocedal 2018, arXiv:1606.04838, sections 3 and 4"
    question = """\
The same network at the same learning rate, each update with the gradient of 1, 16, 64, 256 or all
images; all see the same number of images. Steps with few images are many, cheap and noisy: the loss
falls fast for each image seen, but it jitters, and vectors and threads have little to work on. Steps
with all images are exact and smooth, but few. Mini-batches lie between. There is no batch normalization:
in a connected network, a mini-batch of one image is one value per channel, whose variance is zero."""
    iterations, seeds, points, size = 1094, 1, 50, (11, 4.2)

    def runs(self, iterations):
        """`iterations` are updates with 64 images; the other sizes make as many as see the same images."""
        images = iterations * 64
        return [
            Run({"batch": size}, plain_net(size), max(round(images / size), 1)) for size in (*_SIZES, self.images)
        ]

    def measure(self, training):
        low, high = np.percentile(training.losses, (10, 90)) if not training.diverged else (np.nan, np.nan)
        images = training.net.seen
        return {
            "images": images,
            "loss": training.loss,
            "loss_p10": float(low),
            "loss_p90": float(high),
            "seconds": training.seconds,
            "seconds_per_epoch": training.seconds * len(training.data.train) / images,
        }

    def draw(self, figure, rows):
        by_images, by_time = figure.subplots(1, 2, sharey=True)
        first = table.groups([row for row in rows if row["seed"] == 0], "batch")
        for color, (size, own) in zip(charts.COLORS, first.items()):
            column = {key: [row[key] for row in own] for key in own[0]}
            label = f"{size:,}: {own[-1]['seconds_per_epoch']:.2f} s per epoch"
            by_images.plot(column["images"], column["loss"], color=color)
            spread = column["loss_p10"], column["loss_p90"]
            by_images.fill_between(column["images"], *spread, color=color, alpha=0.15, linewidth=0)
            by_time.plot(column["seconds"], column["loss"], color=color, label=label)
        loss = "training loss per image"
        charts.finish(
            by_images, "images seen", loss, "mean and 10th to 90th percentile of the steps", legend=False
        )
        charts.finish(by_time, "seconds of training", loss, "the same over time")
        by_time.set_xscale("log")


EXPERIMENT = MiniBatch()
