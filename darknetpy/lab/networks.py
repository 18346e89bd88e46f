"""The networks of the experiments, as .cfg text."""

from __future__ import annotations

CLASSES = 10


def section(name, **options):
    """Return a section of a .cfg."""
    return "\n".join([f"[{name}]", *(f"{key}={value}" for key, value in options.items())])


def network(*sections, batch, rate, momentum=0.0, decay=0.0, **options):
    """Return a .cfg: 28x28 grey pixels, gradient descent without momentum or decay, softmax."""
    head = section(
        "net",
        batch=batch,
        width=28,
        height=28,
        channels=1,
        learning_rate=rate,
        momentum=momentum,
        decay=decay,
        **options,
    )
    return "\n\n".join([head, *sections, section("softmax")]) + "\n"


def connected(output, activation="linear", normalize="none", **options):
    """Return a connected layer: weighted sums, normalization, activation."""
    return section("connected", output=output, activation=activation, **_normalization(normalize), **options)


def convolutional(filters, normalize="none", **options):
    """Return a layer of 3x3 filters, with rectified outputs, and the maximum of every 2x2 of them."""
    convolution = section(
        "convolutional",
        filters=filters,
        size=3,
        pad=1,
        activation="relu",
        **_normalization(normalize),
        **options,
    )
    return f"{convolution}\n\n{section('maxpool', size=2, stride=2)}"


def _normalization(kind):
    """Darknet's own key for batch normalization, so that its programs read these networks too."""
    return {"batch_normalize": 1} if kind == "batch" else {"normalize": kind} if kind != "none" else {}
