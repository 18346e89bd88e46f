"""What each dialect changes: one table, one row per point on which the Darknet forks disagree.

A dialect names the fork that a .cfg and its .weights were made for.  Outputs follow it, because trained
weights depend on them.  Where a fork is plainly wrong, every dialect does the right thing: such a row has a
value under `here`, and its other columns only say what those programs do.
"""
from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from .errors import ArgumentError

DIALECTS = ("pjreddie", "alexeyab", "hankai")
DEFAULT_DIALECT = "pjreddie"
FORKS = {"p": "pjreddie", "a": "alexeyab", "h": "hankai"}       # letters used in the option table


@dataclass(frozen=True)
class Difference:
    """One point of disagreement.

    Attributes
    ----------
    name, meaning : str
    pjreddie, alexeyab, hankai : object
        What each fork does.
    here : object
        What darknetpy does in every dialect; None: it follows the dialect.
    """

    name: str
    meaning: str
    pjreddie: Any
    alexeyab: Any
    hankai: Any
    here: Any = None

    def value(self, dialect: str) -> Any:
        """Return what holds under `dialect`."""
        return getattr(self, dialect) if self.here is None else self.here


_ROWS = (
    # Files.
    Difference("weights_revision", "revision number in the header of a .weights file", 0, 5, 5),
    Difference("batchnorm_biases_saved", "[batchnorm] stores its biases in the .weights file", False, True,
               True),
    Difference("gru_order", "[gru] order of the matrices in the .weights file: w on the state, u on the input",
               "wz wr wh uz ur uh", "uz ur uh wz wr wh", "uz ur uh wz wr wh"),
    Difference("lstm_order", "[lstm] the same",
               "wi wf wo wg ui uf uo ug", "wf wi wg wo uf ui ug uo", "wf wi wg wo uf ui ug uo"),
    # Start values.
    Difference("weight_init",
               "convolutional: random numbers that sqrt(2 / fan_in) multiplies, N(0,1) or U(-1,1)",
               "gaussian", "uniform", "uniform"),
    Difference("weight_init_connected", "connected: the same", "uniform", "uniform", "uniform"),
    Difference("dropout_probability", "[dropout] probability where the .cfg gives none", .5, .2, .2),
    Difference("adam_eps", "[net] eps of Adam where the .cfg gives none", 1e-7, 1e-6, 1e-6),
    # Shapes and sums.
    Difference("shortcut_rule", "unlike shapes: add the overlap of (w, h, c), strided, or a flat prefix",
               "overlap", "prefix", "prefix"),
    Difference("shortcut_from", "how many layers [shortcut] from= may name", "one", "several", "several"),
    Difference("dilation_in_output_size",
               "convolutional: the dilated kernel's width counts in the output's size", False, False, False),
    Difference("crnn_pad", "[crnn] pads where the .cfg does not say", True, False, False),
    Difference("xnor_outside", "convolutional xnor=1: value outside the image in inference", 0, -1, -1),
    # Batch normalization under batchnorm=darknet; batchnorm=paper knows no dialect.
    Difference("darknet_batchnorm", "whose formulas batchnorm=darknet follows", "pjreddie", "alexeyab",
               "alexeyab"),
    Difference("rolling_factor", "batchnorm=darknet: share of the old rolling average that stays, each batch",
               .99, .9, .9),
    Difference("rolling_factor_connected", "batchnorm=darknet: the same in [connected]", .99, .95, .95),
    # Images.
    Difference("classifier_predict_resize", "how `classifier predict` fits an image to the network",
               "letterbox", "resize_min and centre crop", "resize_min and centre crop"),
    # Detectors.
    Difference("detector_rules", "which anchors [yolo] and [region] train by which boxes, and how their deltas combine",
               "pjreddie", "alexeyab", "alexeyab"),
    Difference("iou_normalizer", "[yolo] weight of the box's loss where the .cfg gives none", 1.0, .75, .75),
    Difference("detector_resize", "how `detector test` fits an image to the network, unless [net] letter_box=1",
               "letterbox", "stretch", "stretch"),
    Difference("detector_thresh", "`detector test`: least confidence where the command gives none", .5, .25, .25),
    Difference("detector_augmentation",
               "`detector train`: the image at a random place of the view, or a random window of it",
               "place", "crop", "crop"),
    Difference("detector_least_box", "`detector train`: least width and height of a box that is learned",
               "0.001 of the view", "a pixel", "a pixel"),
    Difference("detector_truth", "numbers of a box in the truth: x, y, w, h, class; a track", 5, 6, 6),
    Difference("label_path",
               "where an image's label file is: `images` in its path becomes `labels`, or beside the image",
               "labels", "beside", "beside"),
    Difference("label_missing", "an image without a label file", "error", "no objects", "no objects"),
    # Faults of the programs; right in every dialect here.
    Difference("smooth_l1_sign", "[cost] type=smooth: sign of the gradient where |difference| >= 1",
               "inverted on the CPU", "right", "right", here="right"),
    Difference("cost_l1", "[cost] type=L1", "known", "unknown, sse instead", "unknown, sse instead",
               here="known"),
    Difference("strided_1x1", "convolutional size=1 with a stride or padding", "stride misplaced on the CPU",
               "right", "right", here="right"),
    Difference("branch_delta", "convolutional: gradient that another consumer left at its input",
               "lost if size=1", "lost on the CPU", "lost on the CPU", here="added"),
    Difference("batchnorm_bias_update", "biases of a batch-normalized convolution on the CPU",
               "trained", "never trained", "never trained", here="trained"),
    Difference("connected_update", "[connected] learns", True, False, False, here=True),
    Difference("recurrent_gradient", "gradient through time of recurrent layers on the CPU",
               "wrong, or none ([gru])", "wrong, or none ([gru])", "wrong", here="exact"),
    Difference("recurrent_update", "recurrent layers learn", "all but [crnn]", "[crnn] and [conv_lstm] only",
               "[crnn] only", here="all"),
    Difference("rnn_state", "state of [rnn] and [crnn] when a mini-batch of training begins",
               "0 on the CPU, the last on a GPU", "0", "0", here="the last; net.reset_state()"),
    Difference("activation_zeros", "relu6, and swish, mish, hard_mish outside convolutional, on the CPU",
               "unknown, relu instead", "output 0", "relu6 right", here="right"),
    Difference("overlap_gradient", "[yolo] iou_loss: how the gradient goes on from the box to the head's input",
               "no such loss", "left out in part", "left out in part", here="exact"),
    Difference("region_gradient", "[region] hands a gradient on, on the CPU", False, True, True, here=True),
    Difference("gelu_gradient", "where the derivative of gelu is taken", "unknown, relu instead",
               "at the output", "at the output", here="at the input"),
)
DIFFERENCES = {row.name: row for row in _ROWS}


def dialect_value(name: str, dialect: str) -> Any:
    """Return what the row `name` says under `dialect`.

    Raises
    ------
    ArgumentError
        There is no such row or no such dialect.

    Examples
    --------
    >>> dialect_value("shortcut_rule", "alexeyab")
    'prefix'
    """
    if name not in DIFFERENCES:
        raise ArgumentError(f"no difference named {name!r}; known: {', '.join(DIFFERENCES)}")
    return DIFFERENCES[name].value(check_dialect(dialect))


def check_dialect(dialect: str) -> str:
    """Return `dialect`, or raise ArgumentError if it is none."""
    if dialect not in DIALECTS:
        raise ArgumentError(f"dialect={dialect!r}: wanted one of {', '.join(DIALECTS)}")
    return dialect
