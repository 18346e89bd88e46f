"""The layers that process features: convolution, pooling, normalization, links between layers, loss."""
from __future__ import annotations

from .choices import (
    ACTIVATIONS,
    COST_TYPES,
    NORMALIZATIONS,
    SHORTCUT_NORMALIZATION,
    SHORTCUT_WEIGHTS,
    STATISTICS,
)
from .model import (
    ABOVE_ZERO,
    GPU,
    NOT_NEGATIVE,
    POSITIVE,
    SHARE,
    SPEED,
    UNUSED,
    Derived,
    PerDialect,
    Row,
    SectionType,
    choice,
    flag,
    integer,
    integers,
    number,
    path,
    table,
)
from .table_net import BELOW_ONE, COMMON

STRIDE = Derived("stride", lambda v: v["stride"])
SIZE_LESS_ONE = Derived("size - 1", lambda v: v["size"] - 1)
NOT_ZERO = "(-inf, -1] or [1, inf)"
UP_TO_TWO = "[0, 2]"


def layer(name: str, meaning: str, forks: str, *rows: Row, aliases: tuple[str, ...] = ()) -> SectionType:
    """A section type with its own rows and those of every layer."""
    own = table(*rows)
    return SectionType(name, meaning, forks, {**own, **{r.key: r for r in COMMON if r.key not in own}}, aliases)


def activation(default: str = "logistic", forks: str = "pah") -> Row:
    """The row of the activation."""
    return choice("activation", default, forks, "function applied to every output", ACTIVATIONS)


def batch_normalize(forks: str = "pah") -> Row:
    """The row that puts batch normalization between sums and activation."""
    return flag("batch_normalize", 0, forks, "normalize the sums over the batch before bias and activation")


def moving_statistics() -> tuple[Row, ...]:
    """The rows about the statistics that inference normalizes by."""
    return (choice("statistics", None, "d", "as in [net], for this layer", STATISTICS),
            number("rolling_momentum", None, "d", "as in [net], for this layer", BELOW_ONE))


def normalize(forks: str = "pah") -> tuple[Row, ...]:
    """The rows of what normalizes a layer's sums, and where."""
    default = Derived("batch_normalize", lambda v: "batch" if v["batch_normalize"] else "none")
    return (batch_normalize(forks),
            choice("normalize", default, "d", "what normalizes the sums, with scales and biases per channel",
                   NORMALIZATIONS),
            integer("norm_groups", None, "d",
                    "normalize=group: groups; default the most, up to 32, of more than one value", POSITIVE),
            flag("normalize_after_activation", 0, "d",
                 "normalize the activation's output; the sums then get inner biases of their own"))


def streams() -> tuple[Row, ...]:
    """The rows that place a layer on a CUDA stream."""
    return (integer("stream", -1, "ah", "CUDA stream of the layer", reason=SPEED),
            integer("wait_stream", -1, "ah", "CUDA stream to wait for", reason=SPEED))


def _window(forks):
    """Stride, size and padding of a pooling layer."""
    return (
        integer("stride", 1, forks, "step of the window", POSITIVE, unit="pixels"),
        integer("stride_x", STRIDE, "ah", "step along x", POSITIVE, unit="pixels", unset=-1),
        integer("stride_y", STRIDE, "ah", "step along y", POSITIVE, unit="pixels", unset=-1),
        integer("size", STRIDE, forks, "side of the window", POSITIVE, unit="pixels"),
        integer("padding", SIZE_LESS_ONE, forks, "pixels added per axis, both sides together", NOT_NEGATIVE,
                unit="pixels"),
    )


_CONVOLUTIONAL = layer(
    "convolutional", "convolution, with optional normalization, and activation", "pah",
    integer("filters", 1, "pah", "output channels", POSITIVE),
    integer("size", 1, "pah", "side of the kernel", POSITIVE, unit="pixels"),
    integer("stride", 1, "pah", "step of the kernel", POSITIVE, unit="pixels"),
    integer("stride_x", STRIDE, "ah", "step along x", POSITIVE, unit="pixels", unset=-1),
    integer("stride_y", STRIDE, "ah", "step along y", POSITIVE, unit="pixels", unset=-1),
    flag("pad", 0, "pah", "pad by size / 2, rounded down, whatever padding says"),
    integer("padding", 0, "pah", "zeros around the image, each side", NOT_NEGATIVE, unit="pixels"),
    integer("groups", 1, "pah", "channel groups that see only themselves; divides channels and filters",
            POSITIVE),
    integer("dilation", 1, "ah", "distance of neighbouring kernel taps; 1 if size=1", POSITIVE,
            unit="pixels"),
    activation(),
    *normalize(),
    *moving_statistics(),
    flag("flipped", 0, "pah", "the weights in the file are transposed"),
    integer("antialiasing", 0, "ah", "a 3x3 (1) or 2x2 (2) blur behind the activation takes over the stride",
            UP_TO_TWO),
    integer("assisted_excitation", 0, "ah", "amplify what lies in boxes of the truth for N updates; 1: max_batches",
            NOT_NEGATIVE),
    integer("share_index", None, "ah", "layer whose parameters this one shares; negative counts back",
            unset=-1000000000),
    flag("cbn", 0, "ah", "batch normalization; over several mini-batches on Darknet's GPU, of each one here"),
    flag("binary", 0, "pah", "weights reduced to sign times mean", reason=GPU),
    flag("xnor", 0, "pah", "sums over signs of weights and input, times each filter's mean |weight|"),
    flag("bin_output", 0, "ah", "xnor: output stays as bits",
         reason="it saves memory between two xnor layers and changes no output"),
    flag("sway", 0, "ah", "train kernels swayed", reason=GPU),
    flag("rotate", 0, "ah", "train kernels rotated", reason=GPU),
    flag("stretch", 0, "ah", "train kernels stretched", reason=GPU),
    flag("stretch_sway", 0, "ah", "train kernels stretched and swayed", reason=GPU),
    number("angle", 15.0, "ah", "angle of sway and rotate; acts with them only", reason=GPU,
           unit="degrees"),
    flag("grad_centr", 0, "ah", "subtract the mean from each filter's gradient; with batch_normalize only"),
    number("reverse", 0.0, "ah", "scale updates inversely", reason=GPU),
    flag("coordconv", 0, "ah", "the first three output channels become x, y and the distance from (0, 0)"),
    number("dot", 0.0, "pah", "read by every fork, used by none", reason=UNUSED),
    *streams(), aliases=("conv",))

_CONNECTED = layer(
    "connected", "fully connected layer, with optional normalization, and activation", "pah",
    integer("output", 1, "pah", "outputs", POSITIVE), activation(), *normalize(), *moving_statistics(),
    aliases=("conn",))

_MAXPOOL = layer(
    "maxpool", "largest value of each window", "pah", *_window("pah"),
    flag("maxpool_depth", 0, "ah", "largest value over channels, not over a window"),
    integer("out_channels", 1, "ah", "channels that maxpool_depth leaves; acts with it only", POSITIVE),
    integer("antialiasing", 0, "ah", "a 3x3 (1) or 2x2 (2) blur behind the pooling takes over the stride",
            UP_TO_TWO),
    flag("maxpool_zero_nonmax", 0, "ah", "set all but the largest input to zero (GPU)", reason=GPU),
    aliases=("max",))

_SOFTMAX = layer(
    "softmax", "softmax, and cross-entropy loss where there is truth", "pah",
    integer("groups", 1, "pah", "equal parts of the inputs, a softmax each", POSITIVE),
    number("temperature", 1.0, "pah", "the inputs are divided by it", ABOVE_ZERO),
    path("tree", "pah", "class hierarchy: one softmax per set of siblings"),
    number("spatial", 0.0, "pah", "softmax per pixel (GPU)", reason=GPU),
    flag("noloss", 0, "pah", "no loss, forward only"),
    aliases=("soft",))

_COST = layer(
    "cost", "loss between the layer before and the truth", "pah",
    choice("type", "sse", "pah", "how a difference d = truth - x counts", COST_TYPES),
    number("scale", 1.0, "pah", "factor on the gradient"),
    number("ratio", 0.0, "pah", "share of the largest deltas to keep; without effect in every fork",
           reason=UNUSED),
    number("noobj", 1.0, "p", "seg: weight where the truth is 0"),
    number("thresh", 0.0, "p", "drop deltas smaller than thresh / inputs (GPU)", reason=GPU))

_CROP = layer(
    "crop", "random view of the input in training, centre view otherwise", "pa",
    integer("crop_height", 1, "pa", "height of the view", POSITIVE, unit="pixels"),
    integer("crop_width", 1, "pa", "width of the view", POSITIVE, unit="pixels"),
    flag("flip", 0, "pa", "mirror at random"),
    flag("noadjust", 0, "pa", "leave values as they are; otherwise 2 * x - 1"),
    number("angle", 0.0, "pa", "random rotation (GPU)", reason=GPU, unit="degrees"),
    number("saturation", 1.0, "pa", "random saturation (GPU)", reason=GPU),
    number("exposure", 1.0, "pa", "random brightness (GPU)", reason=GPU),
    number("shift", 0.0, "pa", "random shift of each channel (GPU)", reason=GPU))

_ROUTE = layer(
    "route", "concatenates the outputs of earlier layers along the channels", "pah",
    integers("layers", "pah", "layers to concatenate; negative counts back from here", required=True),
    integer("groups", 1, "ah", "cut the channels of each layer into this many groups", POSITIVE),
    integer("group_id", 0, "ah", "the group to take, from 0", NOT_NEGATIVE),
    *streams())

_SHORTCUT = layer(
    "shortcut", "adds the outputs of earlier layers to that of the layer before", "pah",
    integers("from", "pah", "layer to add, several in alexeyab; negative counts back from here",
             required=True),
    activation("linear"),
    number("alpha", 1.0, "p", "factor on the layer before"),
    number("beta", 1.0, "p", "factor on the layer that is added"),
    choice("weights_type", "none", "ah", "learned weights of the sum", SHORTCUT_WEIGHTS),
    choice("weights_normalization", "none", "ah",
           "how these weights are normalized; acts with weights_type only",
           SHORTCUT_NORMALIZATION))

_UPSAMPLE = layer(
    "upsample", "repeats every pixel", "pah",
    integer("stride", 2, "pah", "copies along each axis; negative: sum that many pixels into one", NOT_ZERO),
    number("scale", 1.0, "pah", "factor on the output"))

_DROPOUT = layer(
    "dropout", "sets random outputs of the layer before to zero in training", "pah",
    number("probability", PerDialect.named("dropout_probability"), "pah", "share that is set to zero",
           BELOW_ONE),
    flag("dropblock", 0, "ah", "drop square blocks of a map"),
    number("dropblock_size_rel", 0.0, "ah", "side of a block in map widths; acts with dropblock only", SHARE),
    number("dropblock_size_abs", 0.0, "ah", "side of a block, 7 if none is given; acts with dropblock only",
           NOT_NEGATIVE, unit="pixels"))

_SPATIAL = (
    layer("deconvolutional", "transposed convolution", "p",
          integer("filters", 1, "p", "output channels", POSITIVE),
          integer("size", 1, "p", "side of the kernel", POSITIVE, unit="pixels"),
          integer("stride", 1, "p", "step in the output", POSITIVE, unit="pixels"),
          flag("pad", 0, "p", "pad by size / 2, rounded down, whatever padding says"),
          integer("padding", 0, "p", "pixels cut off the output, each side", NOT_NEGATIVE, unit="pixels"),
          activation(forks="p"), *normalize("p"), *moving_statistics(), aliases=("deconv",)),
    layer("local", "convolution whose weights differ from place to place", "pa",
          integer("filters", 1, "pa", "output channels", POSITIVE),
          integer("size", 1, "pa", "side of the kernel", POSITIVE, unit="pixels"),
          integer("stride", 1, "pa", "step of the kernel", POSITIVE, unit="pixels"),
          integer("pad", 0, "pa", "padding itself, in pixels, unlike in convolutional", NOT_NEGATIVE,
                  unit="pixels"),
          activation(forks="pa")),
    layer("reorg", "moves pixels of a square into channels, in pjreddie's order", "pa",
          integer("stride", 1, "pa", "side of the square", POSITIVE, unit="pixels"),
          flag("reverse", 0, "pa", "channels into pixels instead"),
          flag("flatten", 0, "p", "channels last"),
          integer("extra", 0, "p", "zeros appended to each row", NOT_NEGATIVE)),
    layer("reorg3d", "moves pixels of a square into channels: space to depth", "ah",
          integer("stride", 1, "ah", "side of the square", POSITIVE, unit="pixels"),
          flag("reverse", 0, "ah", "channels into pixels instead")),
    layer("normalization", "local response normalization across channels", "pa",
          number("alpha", .0001, "pa", "factor on the sum of squares"),
          number("beta", .75, "pa", "exponent"),
          number("kappa", 1.0, "pa", "added to the sum"),
          integer("size", 5, "pa", "channels in the sum", POSITIVE), aliases=("lrn",)),
    layer("l2norm", "scales the channels of each pixel to length one", "p"),
    layer("scale_channels", "multiplies an earlier layer by the one before, channel by channel", "ah",
          integers("from", "ah", "layer to scale; negative counts back from here", required=True),
          flag("scale_wh", 0, "ah", "scale pixel by pixel instead"),
          activation("linear", "ah")),
    layer("sam", "multiplies an earlier layer by the one before, element by element", "ah",
          integers("from", "ah", "layer to multiply; negative counts back from here", required=True),
          activation("linear", "ah")),
    layer("implicit", "a learned vector that does not look at its input", "a",
          number("mean", 0.0, "a", "centre of the start values"),
          number("std", .2, "a", "half width of the start values' uniform distribution", NOT_NEGATIVE),
          integer("filters", 128, "a", "channels", POSITIVE),
          integer("atoms", 1, "a", "height", POSITIVE)),
    layer("empty", "passes its input on", "a", aliases=("silence",)),
)

LAYERS = (
    _CONVOLUTIONAL, _CONNECTED,
    layer("batchnorm", "batch normalization with scale and bias", "pa", *moving_statistics()),
    layer("groupnorm", "normalizes groups of channels of each sample, with scale and bias", "d",
          integer("groups", None, "d",
                  "divides the channels; default the most, up to 32, of more than one value",
                  POSITIVE)),
    layer("layernorm", "normalizes all values of each sample, with scale and bias per channel", "d"),
    _MAXPOOL,
    layer("local_avgpool", "mean of each window", "ah", *_window("ah"), aliases=("local_avg",)),
    layer("avgpool", "mean of each channel over the image", "pah", aliases=("avg",)),
    _DROPOUT,
    layer("activation", "an activation by itself", "pa", activation("linear", "pa")),
    _SOFTMAX,
    layer("logistic", "logistic function, and binary cross-entropy where there is truth", "p"),
    _COST, _CROP, _ROUTE, _SHORTCUT, _UPSAMPLE, *_SPATIAL)
