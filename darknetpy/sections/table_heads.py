"""Recurrent layers, and the heads of detectors and other tasks."""
from __future__ import annotations

from .choices import ACTIVATIONS, IOU_LOSSES, NMS_KINDS, YOLO_POINTS
from .model import (
    ABOVE_ZERO,
    NOT_NEGATIVE,
    POSITIVE,
    SHARE,
    TRACKING,
    UNREAD,
    UNUSED,
    Derived,
    PerDialect,
    choice,
    flag,
    integer,
    integers,
    number,
    numbers,
    path,
)
from .table_layers import activation, layer, moving_statistics, normalize

_FLOAT_MAX = 3.402823466e38


def _convolutions(forks, pad):
    """The convolutions of a recurrent layer."""
    return (
        integer("size", 3, forks, "side of the kernels", POSITIVE, unit="pixels"),
        integer("stride", 1, forks, "step of the kernel on the input", POSITIVE, unit="pixels"),
        integer("dilation", 1, forks, "distance of neighbouring kernel taps", POSITIVE, unit="pixels"),
        flag("pad", pad, forks, "pad by size / 2, rounded down, whatever padding says"),
        integer("padding", Derived("size/2 if pad, else 0", lambda v: v["size"] // 2 if v["pad"] else 0),
                forks, "zeros around the image, each side", NOT_NEGATIVE, unit="pixels"),
        integer("groups", 1, forks, "channel groups", POSITIVE),
        flag("xnor", 0, forks, "sums over signs of weights and input, times each filter's mean |weight|"),
    )


def _alias(key):
    """The value of pjreddie's name for an option; 1 without it."""
    return Derived(key, lambda v: 1 if v[key] is None else v[key])


RECURRENT = (
    layer("rnn", "recurrent layer of three connected ones: input, state, output", "pah",
          integer("output", 1, "pah", "outputs", POSITIVE),
          integer("hidden", None, "ah", "values of the state; default 1, in pjreddie's dialect output",
                  POSITIVE, zoo="p"),
          activation(), *normalize(), *moving_statistics(),
          integer("logistic", 0, "ah", "activation of self_layer instead: 1 logistic, 2 loggy", "[0, 2]"),
          flag("shortcut", 0, "pah", "add the last state to the new one")),
    layer("gru", "gated recurrent unit", "pa",
          integer("output", 1, "pa", "outputs", POSITIVE), *normalize("pa"), *moving_statistics(),
          flag("tanh", 0, "p", "candidate state by tanh instead of logistic")),
    layer("lstm", "long short-term memory", "pah",
          integer("output", 1, "pah", "outputs", POSITIVE), *normalize(), *moving_statistics()),
    layer("crnn", "recurrent layer of three convolutions: input, state, output", "pah",
          integer("output_filters", None, "p", "output channels", POSITIVE),
          integer("hidden_filters", None, "p", "channels of the state", POSITIVE),
          integer("output", _alias("output_filters"), "ah", "output channels", POSITIVE),
          integer("hidden", _alias("hidden_filters"), "ah", "channels of the state", POSITIVE),
          *_convolutions("ah", PerDialect.named("crnn_pad")), activation(), *normalize(),
          *moving_statistics(),
          flag("shortcut", 0, "pah", "add the last state to the new one")),
    layer("conv_lstm", "long short-term memory of convolutions", "a",
          integer("output", 1, "a", "output channels", POSITIVE), *_convolutions("a", 0),
          activation("linear", "a"), *normalize("a"), *moving_statistics(),
          flag("peephole", 0, "a", "gates see the cell"),
          flag("bottleneck", 0, "a", "the gates see one convolution of state and input instead (GPU)"),
          integer("state_constrain", None, "a",
                  "limit of the cell that the next step sees; default 32 * time_steps; 0: none",
                  NOT_NEGATIVE),
          flag("shortcut", 0, "a", "bottleneck: add half of what the gates see to the output (GPU)"),
          choice("lstm_activation", "tanh", "a", "activation of candidate and cell (GPU)", ACTIVATIONS),
          number("time_normalizer", 1.0, "a", "factor on the delta through time (GPU)",
                 reason="here the delta through time is exact")),
    layer("history", "the last frames of a sequence, side by side in the channels", "a",
          integer("history_size", 4, "a", "frames", POSITIVE)),
)


def _classes(default, forks="pah"):
    return integer("classes", default, forks, "number of classes", POSITIVE)


def _max_boxes(pjreddie, forks="pah", **more):
    most = PerDialect(pjreddie, 200, 200)
    return integer("max", most, forks, "most truth boxes per image", POSITIVE, **more)


_SIZES = "training at several sizes, which is not built (training notes it); 1: factor 1.4"


def _augmentation(forks="pah", others="ah", random=_SIZES):
    """How images of a detector are changed in training."""
    return (
        number("jitter", .2, forks, "crop by up to this share of the image", NOT_NEGATIVE),
        number("resize", 1.0, others, "resize by up to this factor", NOT_NEGATIVE),
        number("random", 0.0, forks, random, NOT_NEGATIVE),
    )


HALVES = Derived("0.5 each", lambda values: [.5] * 2 * values["num"])


def _anchors(forks="pah"):
    return (
        integer("num", 1, forks, "anchors", POSITIVE),
        numbers("anchors", forks, "width and height of each anchor", ABOVE_ZERO, default=HALVES),
        path("map", forks, "file that renumbers the classes"),
    )


def _scales(forks="pah"):
    """Weights of the parts of the older losses."""
    return (
        number("coord_scale", 1.0, forks, "weight of the box's loss"),
        number("object_scale", 1.0, forks, "weight of the objectness where there is an object"),
        number("noobject_scale", 1.0, forks, "weight of the objectness elsewhere"),
        number("class_scale", 1.0, forks, "weight of the class loss"),
    )


def _yolo_loss(forks, common):
    """The loss of [yolo] and [Gaussian_yolo]; `common`: the forks that know the older keys."""
    return (
        integers("mask", common, "anchors that this head predicts", NOT_NEGATIVE),
        number("ignore_thresh", .5, common, "no objectness loss where the best IoU is above this"),
        number("truth_thresh", 1.0, common, "train as an object where the best IoU is above this"),
        number("iou_thresh", 1.0, forks, "also train anchors whose IoU with the truth is above this"),
        number("max_delta", _FLOAT_MAX, forks, "clip box deltas to plus or minus this", ABOVE_ZERO),
        numbers("counters_per_class", forks, "objects of each class, to balance them; 0 counts as 1", NOT_NEGATIVE),
        number("label_smooth_eps", 0.0, forks, "label smoothing", SHARE),
        number("scale_x_y", 1.0, forks, "stretches the position inside a cell", ABOVE_ZERO),
        flag("objectness_smooth", 0, forks, "objectness learns the IoU"),
        number("iou_normalizer", PerDialect.named("iou_normalizer"), forks, "weight of the box's loss"),
        number("obj_normalizer", 1.0, forks, "weight of the objectness"),
        number("cls_normalizer", 1.0, forks, "weight of the class loss"),
        number("delta_normalizer", 1.0, forks, "printed, otherwise unused", reason=UNUSED),
        choice("iou_loss", "mse", forks, "loss of the box", IOU_LOSSES),
        choice("iou_thresh_kind", "iou", forks, "IoU that thresholds compare", IOU_LOSSES[1:]),
        number("beta_nms", .6, forks, "exponent of diounms", ABOVE_ZERO, effect="fork"),
        choice("nms_kind", "default", forks, "how overlapping detections are removed", NMS_KINDS, effect="fork"),
    )


DETECTION = (
    layer("detection", "YOLOv1 head: grid of cells, boxes and classes per cell", "pa",
          integer("coords", 1, "pa", "numbers per box", POSITIVE), _classes(1, "pa"),
          flag("rescore", 0, "pa", "objectness learns the IoU"),
          integer("num", 1, "pa", "boxes per cell", POSITIVE),
          integer("side", 7, "pa", "cells along each axis", POSITIVE),
          flag("softmax", 0, "pa", "softmax over the classes"),
          flag("sqrt", 0, "pa", "predict the roots of width and height"),
          _max_boxes(90, "pa", reason="the truth of [detection] is a grid, one box per cell"),
          flag("forced", 0, "pa", "choose the responsible box by area"),
          *_scales("pa"), *_augmentation("pa", "a", "not 0: any box of a cell until 64000 images were seen"),
          flag("reorg", 0, "pa", "read by every fork, used by none", reason=UNUSED)),
    layer("region", "YOLOv2 head: anchors on a grid", "pah",
          integer("coords", 4, "pah", "numbers per box", POSITIVE), _classes(20), _max_boxes(30), *_anchors(),
          flag("log", 0, "pah", "read by every fork, used by none", reason=UNUSED),
          flag("sqrt", 0, "pah", "read by every fork, used by none", reason=UNUSED),
          flag("softmax", 0, "pah", "softmax over the classes"),
          flag("focal_loss", 0, "ah", "focal loss of the classes"),
          flag("rescore", 0, "pah", "objectness learns the IoU"),
          number("thresh", .5, "pah", "no objectness loss where the best IoU is above this"),
          integer("classfix", 0, "pah", "AlexeyAB: train classes of good boxes too; -1: objectness learns the IoU",
                  "[-1, 2]"),
          flag("absolute", 0, "pah", "read by every fork, used by none", reason=UNUSED),
          *_scales(), number("mask_scale", 1.0, "pah", "weight of the mask's loss"), *_augmentation(),
          flag("bias_match", 0, "pah", "compare truth with anchors, not with predictions"),
          path("tree", "pah", "class hierarchy"),
          flag("background", 0, "p", "a background class instead of objectness")),
    layer("yolo", "YOLOv3 and v4 head: anchors on a grid, several heads per network", "pah",
          _classes(20), _max_boxes(90), *_anchors(), *_yolo_loss("ah", "pah"), *_augmentation(),
          flag("show_details", 1, "a", "print details of the loss; changes the printed cost too"),
          flag("new_coords", 0, "ah", "boxes of Scaled-YOLOv4"),
          flag("focal_loss", 0, "ah", "focal loss of the classes"),
          integer("track_history_size", 5, "ah", "tracking: frames remembered", NOT_NEGATIVE, reason=TRACKING),
          number("sim_thresh", .8, "ah", "tracking: least similarity", reason=TRACKING),
          integer("dets_for_track", 1, "ah", "tracking: detections before an object counts", NOT_NEGATIVE, reason=TRACKING),
          integer("dets_for_show", 1, "ah", "tracking: detections before an object shows", NOT_NEGATIVE, reason=TRACKING),
          number("track_ciou_norm", .01, "ah", "tracking: weight of the overlap", reason=TRACKING),
          integer("embedding_layer", None, "ah", "tracking: layer of the embeddings", unset=999999, reason=TRACKING),
          number("uc_normalizer", None, "", "published cfgs carry it here; no fork reads it", reason=UNREAD,
                 zoo="ah"),
          number("beta1", None, "", "published cfgs carry it here; no fork reads it", reason=UNREAD,
                 zoo="ah")),
    layer("Gaussian_yolo", "YOLOv3 head that also predicts how sure each coordinate is", "ah",
          _classes(20, "ah"), _max_boxes(200, "ah"), *_anchors("ah"), *_yolo_loss("ah",
                                                                                  "ah"), *_augmentation("ah"),
          number("uc_normalizer", 1.0, "ah", "weight of the uncertainty's loss"),
          choice("yolo_point", "center", "ah", "which point of the box x, y are", YOLO_POINTS)),
    layer("iseg", "instance segmentation loss", "p", _classes(20, "p"),
          integer("ids", 32, "p", "channels of the instance embedding", POSITIVE)),
    layer("contrastive", "contrastive loss of embeddings", "ah", _classes(1000, "ah"),
          integers("yolo_layer", "ah", "[yolo] whose boxes have the embeddings, negative: before here; 0: images have them"),
          number("temperature", 1.0, "ah", "similarities are divided by it", ABOVE_ZERO),
          number("cls_normalizer", 1.0, "ah", "weight of the loss"),
          number("max_delta", _FLOAT_MAX, "ah", "clip deltas to plus or minus this", ABOVE_ZERO),
          integer("contrastive_neg_max", 3, "ah", "most boxes of other tracks that each is compared with",
                  NOT_NEGATIVE)),
)
