"""The words that options of kind ``choice`` accept: activations, cost types, learning-rate policies, ..."""
from __future__ import annotations

from .model import Choice

ACTIVATIONS = (
    Choice("linear", "pah", "x"),
    Choice("logistic", "pah", "1 / (1 + exp(-x))"),
    Choice("loggy", "pah", "2 / (1 + exp(-x)) - 1"),
    Choice("relu", "pah", "max(x, 0)"),
    Choice("relu6", "ah", "x clamped to 0..6"),
    Choice("elu", "pah", "x if x >= 0, else exp(x) - 1"),
    Choice("selu", "pah", "1.0507 * (x if x >= 0, else 1.6732 * (exp(x) - 1))"),
    Choice("relie", "pah", "x if x > 0, else .01 * x"),
    Choice("ramp", "pah", "max(x, 0) + .1 * x"),
    Choice("leaky", "pah", "x if x > 0, else .1 * x"),
    Choice("revleaky", "ah", "as leaky"),
    Choice("tanh", "pah", "hyperbolic tangent"),
    Choice("plse", "pah", ".125 * x + .5 for |x| <= 4, slope .01 beyond"),
    Choice("stair", "pah", "flat and rising steps in turn"),
    Choice("hardtan", "pah", "x clamped to -1..1"),
    Choice("lhtan", "pah", "x for 0 <= x <= 1, slope .001 beyond"),
    Choice("gelu", "ah", "x / 2 * (1 + tanh(.797885 * x + .035677 * x^3))"),
    Choice("swish", "ah", "x * logistic(x)"),
    Choice("mish", "ah", "x * tanh(log(1 + exp(x)))"),
    Choice("hard_mish", "ah", "x if x > 0, x^2 / 2 + x down to -2, else 0"),
    Choice("normalize_channels", "ah", "max(x, 0) divided by its sum over the channels"),
    Choice("normalize_channels_softmax", "ah", "softmax over the channels, plain exponentials"),
    Choice("normalize_channels_softmax_maxval", "ah",
           "softmax over the channels, largest value subtracted first"),
)

POLICIES = (
    Choice("constant", "pah", "learning_rate"),
    Choice("step", "pah", "times scale after every `step` updates"),
    Choice("steps", "pah", "times scales[i] once steps[i] updates are done"),
    Choice("exp", "pah", "times gamma at every update"),
    Choice("poly", "pah", "times (1 - updates / max_batches)^power"),
    Choice("random", "pah", "times U(0,1)^power, drawn at every update"),
    Choice("sigmoid", "pah", "divided by 1 + exp(gamma * (updates - step))"),
    Choice("sgdr", "ah", "cosine from learning_rate to learning_rate_min, restarted after each cycle"),
    Choice("sig", "d", "as sigmoid", "sigmoid",
           "means sigmoid here; Darknet takes it for constant"),
)

COST_TYPES = (
    Choice("sse", "pah", "(truth - x)^2"),
    Choice("masked", "pah", "sse, but nothing where the truth is -1234"),
    Choice("smooth", "pah", "d^2 for |d| < 1, else 2 |d| - 1"),
    Choice("L1", "p", "|truth - x|"),
    Choice("seg", "p", "sse, times noobj where the truth is 0"),
    Choice("wgan", "p", "x where the truth is 0, else -x"),
)

BATCHNORM_MODES = (
    Choice("paper", "d", "arXiv:1502.03167: epsilon 1e-5 inside the root, biased variance normalizes"),
    Choice("darknet", "d", "the formulas of the fork's CPU code, for comparing numbers"),
)

CONVOLUTIONS = (
    Choice("auto", "d", "the fastest, by the shape of the layer alone"),
    Choice("gemm", "d", "matrix products of columns: each output is a plain sum of products"),
    Choice("winograd4", "d", "3x3 filters that move by one or two: Winograd's tiles of 4x4 outputs; else gemm"),
    Choice("winograd6", "d", "the same; in networks made for inference tiles of 6x6 where the stride is 1, with 4 times the error"),
)

PRECISIONS = (
    Choice("fp32", "d", "float32, as on the CPU"),
    Choice("tf32", "d", "rounded to 11 bits, with float32's range"),
    Choice("fp16", "d", "rounded to half precision, 11 bits"),
    Choice("bf16", "d", "rounded to bfloat16, 8 bits, with float32's range"),
)

STATISTICS = (
    Choice("ema", "d", "moving average: each mini-batch moves it by 1 - rolling_momentum"),
    Choice("cumulative", "d", "plain average of all mini-batches since the last reset"),
    Choice("last", "d", "those of the last mini-batch"),
    Choice("frozen", "d", "they stay as they are, and training normalizes with them too"),
)

NORMALIZATIONS = (
    Choice("none", "d", "biases only"),
    Choice("batch", "d", "each channel over the mini-batch, as batch_normalize=1"),
    Choice("group", "d", "groups of channels of each sample, norm_groups of them"),
    Choice("layer", "d", "all channels of each sample together"),
    Choice("instance", "d", "each channel of each sample"),
)

DIALECT_NAMES = (
    Choice("pjreddie", "d", "pjreddie/darknet"),
    Choice("alexeyab", "d", "AlexeyAB/darknet"),
    Choice("hankai", "d", "hank-ai/darknet"),
)

SHORTCUT_WEIGHTS = (
    Choice("none", "ah", "no weights"),
    Choice("per_feature", "ah", "one weight per summed layer"),
    Choice("per_layer", "ah", "as per_feature", "per_feature"),
    Choice("per_channel", "ah", "one weight per summed layer and channel"),
)

SHORTCUT_NORMALIZATION = (
    Choice("none", "ah", "weights as they are"),
    Choice("relu", "ah", "relu(w) over their sum"),
    Choice("avg_relu", "ah", "as relu", "relu"),
    Choice("softmax", "ah", "softmax of the weights"),
)

IOU_LOSSES = (
    Choice("mse", "ah", "squared error of the box's parameters"),
    Choice("iou", "ah", "intersection over union"),
    Choice("giou", "ah", "generalized IoU"),
    Choice("diou", "ah", "distance IoU"),
    Choice("ciou", "ah", "complete IoU"),
)

NMS_KINDS = (
    Choice("default", "ah", "per class, by IoU"),
    Choice("greedynms", "ah", "per class, by distance IoU"),
    Choice("diounms", "ah", "per class, by distance IoU to the power beta_nms"),
    Choice("cornersnms", "ah", "by IoU; in [Gaussian_yolo] only"),
)

YOLO_POINTS = (
    Choice("center", "ah", "x, y are the box's centre"),
    Choice("left_top", "ah", "x, y are its upper left corner"),
    Choice("right_bottom", "ah", "x, y are its lower right corner"),
)
