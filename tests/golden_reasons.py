"""Arrays of the recordings in tests/golden that are not compared with ours, each with the reason."""

from __future__ import annotations

import re


# What follows from wrong gradients of the layers named: everything that a step changes.
def _from(layers):
    return rf"(bwd|grad|after|after_t1|bn)/L({layers})/(delta|\w+_delta|\w+_updates|biases|weights|scales)|step2(_t1)?/.*|bwd/input_delta"


# What is wrong of the parts of a recurrent layer, and what a second step makes of it.
def _parts(parts, arrays=r"delta|\w+_delta|\w+_updates|biases|weights|scales"):
    return rf"(bwd|grad|after|after_t1|bn)/L\d\d\.({parts})/({arrays})|step2(_t1)?/.*|bwd/input_delta"


# (networks, arrays, reason): regular expressions for what Darknet has wrong.
SKIPPED = [
    (
        "ab-acts_conv|ab-acts_conv_bn|ab-acts_layer",
        r"(infer|train)/L30/output|(bn|grad|bwd|after|after_t1)/L(29|30)/.*",
        "relu6 is missing from AlexeyAB's CPU activate(): its output is 0, and so is its gradient",
    ),
    (
        "ab-acts_layer",
        r"(infer|train)/L3[68]/output|bwd/L3[5-8]/delta",
        "mish and swish are missing from AlexeyAB's [activation]: output 0",
    ),
    (
        "ab-acts_conv|ab-acts_conv_bn",
        r"(infer|train)/L(47|48)/.*|fused/.*|train/cost|bwd/L(47|48)/delta|step2_t1/.*|bwd/input_delta|(bwd|grad|after_t1)/L00/.*",
        "follow from relu6's zeros",
    ),
    (
        "ab-acts_layer",
        r"(infer|train)/L(39|40)/.*|train/cost|bwd/L(39|40)/delta|step2_t1/.*|bwd/input_delta|(bwd|grad|after_t1)/L00/.*",
        "follow from the zeros of relu6, mish and swish",
    ),
    (
        "ab-acts_conv|ab-acts_conv_bn|ab-acts_layer",
        r"bwd/L3[12]/delta|(bn|grad|after_t1)/L32/.*",
        "AlexeyAB takes gelu's derivative at its output",
    ),
    (
        "ab-acts_conv|ab-acts_conv_bn",
        r"bwd/L4[1-6]/delta|(bn|grad|after_t1)/L4[246]/.*",
        "AlexeyAB's gradients of normalize_channels* are not their derivatives",
    ),
    (
        "ab-(acts_conv_bn|conv_binary|conv_bn_leaky|conv_groups|lr_scale|detection|region|scale_channels|shortcut_mish|"
        "tiny_classifier|tiny_resnet|yolo_label_smooth|yolo_new_coords_mse|yolo_two_heads)",
        r"step2(_t1)?/(?!L00/rolling_).*",
        "follow from the biases that were not trained",
    ),
    (
        "ab-cost_l1",
        r"train/L01/.*|train/cost|" + _from("00|01"),
        "AlexeyAB does not know [cost] type=L1 and takes sse",
    ),
    ("..-crop_same", r"bwd/input_delta", "Darknet's [crop] hands no delta to its input"),
    (
        "ab-local_avgpool",
        _from("00"),
        "AlexeyAB's local_avgpool divides by the values inside the image forward, by size^2 backward",
    ),
    (
        "ab-shortcut(_channels)?",
        _from("0[02]"),
        "AlexeyAB's convolution zeroes the delta that a shortcut had left at its input",
    ),
    (
        "ab-shortcut_multi",
        _from("0[01]"),
        "AlexeyAB's convolution zeroes the delta that a shortcut had left at its input",
    ),
    (
        "ab-shortcut_mish",
        _from("0[0-3]"),
        "AlexeyAB's convolution zeroes the delta that a shortcut had left at its input",
    ),
    (
        "ab-tiny_resnet",
        _from("0[0-4]"),
        "AlexeyAB's convolution zeroes the delta that a shortcut had left at its input",
    ),
    (
        "..-lrn_odd",
        _from("00"),
        "Darknet's local response normalization hands back delta * norm^-beta, without the norm's derivative",
    ),
    ("pj-l2norm", _from("00"), "pjreddie's [l2norm] hands its delta on unchanged"),
    (
        "ab-scale_channels_wh",
        _from("00"),
        "AlexeyAB's convolution zeroes the delta that [scale_channels] had left at its input",
    ),
    (
        "ab-shortcut_w_per_channel_softmax",
        r"(grad|after_t1)/L03/.*",
        "AlexeyAB's gradient of shortcut weights ignores their normalization",
    ),
    (
        "ab-shortcut_w_per_channel_softmax",
        _from("0[01]"),
        "AlexeyAB's convolution zeroes the delta that a shortcut had left at its input",
    ),
    ("..-softmax_cost", _from("0[0-2]"), "a softmax followed by [cost] gets its delta twice in Darknet"),
    (
        "pj-batchnorm",
        r"bwd/L01/delta",
        "Darknet's [batchnorm] overwrites its delta; here it stays as it came",
    ),
    ("pj-batchnorm", r"after/L01/(?!rolling).*|step2/(?!L01/rolling).*", "pjreddie's [batchnorm] has no update: it never trains"),
    (
        "pj-cost_smooth",
        r"train/L01/delta_fwd|" + _from("00|01"),
        "pjreddie's smooth-L1 delta has the wrong sign beyond 1",
    ),
    (
        "ab-lr_scale",
        r"(after_t1|step2_t1)/L01/.*",
        "AlexeyAB's connected layer ignores learning_rate on the CPU",
    ),
    ("pj-acts_conv_bn", r"(grad|after)/L00/bias_updates", "a sum that cancels to nothing: rounding alone"),
    (
        "pj-dropout_p0",
        r"bwd/L01/delta",
        "Darknet's dropout shares the array of the layer before, which goes on working in it",
    ),
    (
        "pj-route",
        _from("0[0-2]"),
        "pjreddie's 1x1 convolution overwrites the delta that a route had left at its input",
    ),
    ("pj-region_late", _from("0[01]"), "pjreddie's [region] hands no delta on, on the CPU"),
    (
        "ab-gaussian_yolo_giou",
        r"train/L02/(cost|delta_fwd)|train/cost|" + _from("0[0-2]"),
        "AlexeyAB's gradient of an IoU leaves out how the box follows from the input",
    ),
    ("ab-gaussian_yolo", _from("0[01]"), "AlexeyAB's [Gaussian_yolo] leaves out the logistic's derivative"),
    (
        "ab-yolo_iou",
        r"train/L02/delta_fwd|" + _from("0[0-2]"),
        "AlexeyAB's gradient of an IoU leaves out how the box follows from the input",
    ),
    (
        "pj-yolo_two_heads",
        _from("0[0-2]") + "|step2/.*",
        "pjreddie's 1x1 convolution overwrites the delta that a route had left at its input",
    ),
    (
        "ab-yolo_two_heads",
        _from("0[0-2]"),
        "AlexeyAB's convolution zeroes the delta that a route had left at its input",
    ),
    (
        "(pj|ab)-c?rnn(_bn|_shortcut)?",
        _parts("input_layer") + "|" + _from("00"),
        "Darknet's input_layer gets the delta of self_layer after the slope of its activation, not before",
    ),
    (
        "(pj|ab)-rnn(_shortcut)?|pj-lstm|ab-lstm_bn",
        r"bwd/L01/delta",
        "Darknet goes on working in the delta of its recurrent layers; here it stays as it came",
    ),
    (
        "pj-rnn_shortcut",
        _parts("self_layer") + "|" + _parts("output_layer", "weights|weight_updates"),
        "Darknet's backward pass takes for the state what it would be without shortcut",
    ),
    ("pj-crnn", r"after/L00\..*/(biases|weights)", "pjreddie's [crnn] never trains"),
    (
        "ab-crnn",
        _parts("self_layer"),
        "AlexeyAB's convolution zeroes the delta that the next step had sent to the state",
    ),
    (
        "(pj|ab)-crnn_bn",
        _parts("self_layer|output_layer"),
        "Darknet keeps one mean and variance for all time steps, the last one's, and takes them for each",
    ),
    (
        "ab-gru",
        _parts(r"(state|input)_[zrh]_layer") + "|" + _from("00"),
        "the backward pass of [gru] is empty on the CPU",
    ),
    (
        "pj-lstm",
        _parts("wf|uf") + "|" + _parts("w[igo]", "weights|weight_updates") + "|" + _from("00"),
        "Darknet's first time step takes its own state and cell for those before it",
    ),
    (
        "ab-lstm_bn",
        _parts("[wu][figo]") + "|" + _from("00"),
        "the same, and one mean and variance for all time steps",
    ),
    (
        "ab-conv_lstm(_peep)?",
        _parts("[wuv][figo]") + "|" + _from("00"),
        "AlexeyAB's conv_lstm sends the delta of state and cell to its input",
    ),
    (
        "ab-history",
        _from("00"),
        "AlexeyAB's [history] sends no delta to frames but the newest",
    ),
    (
        "ab-contrastive",
        r"train/L07/(cost|delta_fwd)|train/cost|" + _from("0[0-267]"),
        "AlexeyAB's delta of [contrastive] is the gradient of no loss, and its cost the sum of squares of that",
    ),
    (
        "pj-softmax_noloss",
        r"train/cost|" + _from("0[01]"),
        "without a loss Darknet's softmax hands its delta on unchanged, and its 0 counts in the mean cost",
    ),
    (
        "pj-softmax_smooth_truth",
        r"train/L02/(loss|cost)|train/cost|step2/cost",
        "Darknet's loss of soft labels is -log p wherever t is not 0, ours -t log p",
    ),
    (
        "pj-softmax_temp",
        r"train/L02/delta_fwd|" + _from("0[0-2]"),
        "Darknet's softmax delta lacks the factor 1 / temperature",
    ),
]


# What no test here compares; reasons as above.
ELSEWHERE = [
    ("..-.*", "input|truth", "what the network is given"),
    ("..-.*", "boxes/.*", "compared by test_detections.py"),
    (
        "ab-.*",
        "(after|step2)/.*",
        "AlexeyAB's CPU code updates no layer but convolutions; compared is what was recorded with every layer trained",
    ),
    ("ab-.*", "after_t1/cost", "the cost of the first step again, as train/cost"),
    ("ab-conv_antialias", r"init/L00\.input_layer/.*", "the fixed weights of the blur"),
    ("ab-contrastive", "fused/.*", "zeros; predict returns the output of the layer before"),
    ("pj-softmax_noloss", "train/L02/(cost|delta_fwd)", "there is no loss"),
]
# Of normalized convolutions, those with batch statistics in the recording.
BIASES = r"(?:grad|after|after_t1|step2|step2_t1)/(L\d\d)/(?:bias_updates|biases)"
WITHOUT_BIASES = "AlexeyAB's CPU code never trains the biases of a normalized convolution"


def skipped(recording, key):
    """Whether Darknet has this array wrong."""
    return _reason(recording, key, SKIPPED) is not None


def why_not(recording, key):
    """Return the reason why an array is not compared."""
    return _reason(recording, key, [*ELSEWHERE, *SKIPPED]) or "NO REASON"


def _reason(recording, key, rows):
    for networks, keys, why in rows:
        if re.fullmatch(networks, recording.name) and re.fullmatch(keys, key):
            return why
    biases = recording.fork == "ab" and re.fullmatch(BIASES, key)
    return WITHOUT_BIASES if biases and f"bn/{biases[1]}/mean" in recording else None
