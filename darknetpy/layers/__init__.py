"""One documented constructor per layer type, by Darknet's names.

Constructors take pjreddie's arguments in his order, by position or by name; what AlexeyAB added is by name only.  They allocate
everything, gradients included.  What runs them: :mod:`darknetpy.passes`.
"""
from __future__ import annotations

from darknetpy.layers.detecting import (
    make_contrastive_layer,
    make_detection_layer,
    make_Gaussian_yolo_layer,
    make_iseg_layer,
    make_region_layer,
    make_yolo_layer,
)
from darknetpy.layers.linking import (
    make_route_layer,
    make_sam_layer,
    make_scale_channels_layer,
    make_shortcut_layer,
)
from darknetpy.layers.losses import make_cost_layer, make_logistic_layer, make_softmax_layer
from darknetpy.layers.normalizing import (
    make_batchnorm_layer,
    make_groupnorm_layer,
    make_l2norm_layer,
    make_layernorm_layer,
    make_normalization_layer,
)
from darknetpy.layers.pooling import make_avgpool_layer, make_local_avgpool_layer, make_maxpool_layer
from darknetpy.layers.recurrent import (
    make_conv_lstm_layer,
    make_crnn_layer,
    make_gru_layer,
    make_history_layer,
    make_lstm_layer,
    make_rnn_layer,
)
from darknetpy.layers.simple import (
    make_activation_layer,
    make_crop_layer,
    make_dropout_layer,
    make_empty_layer,
    make_implicit_layer,
    make_reorg3d_layer,
    make_reorg_layer,
    make_upsample_layer,
)
from darknetpy.layers.weighted import (
    make_connected_layer,
    make_convolutional_layer,
    make_deconvolutional_layer,
    make_local_layer,
)

__all__ = [
    "make_activation_layer", "make_avgpool_layer", "make_batchnorm_layer", "make_connected_layer",
    "make_contrastive_layer", "make_conv_lstm_layer", "make_convolutional_layer", "make_cost_layer", "make_crnn_layer",
    "make_crop_layer", "make_deconvolutional_layer", "make_detection_layer", "make_dropout_layer",
    "make_empty_layer", "make_Gaussian_yolo_layer", "make_groupnorm_layer", "make_gru_layer",
    "make_history_layer", "make_implicit_layer", "make_iseg_layer", "make_l2norm_layer",
    "make_layernorm_layer", "make_local_avgpool_layer", "make_local_layer", "make_logistic_layer",
    "make_lstm_layer", "make_maxpool_layer", "make_normalization_layer", "make_region_layer",
    "make_reorg3d_layer", "make_reorg_layer", "make_rnn_layer", "make_route_layer", "make_sam_layer",
    "make_scale_channels_layer", "make_shortcut_layer", "make_softmax_layer", "make_upsample_layer",
    "make_yolo_layer",
]
