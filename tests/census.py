"""Every key that some fork of Darknet reads, by section: a count in the sources of pjreddie f6afaabc, AlexeyAB 59596d78, hank-ai f684e1d7.

A word is ``key:forks`` with p pjreddie, a AlexeyAB, h hank-ai.  Nothing of the package is made from this list: a test compares
it with the option table.
"""

from __future__ import annotations

_WORDS = {
    "net": """
        max_batches:pah batch:pah learning_rate:pah learning_rate_min:ah sgdr_cycle:ah sgdr_mult:ah
        momentum:pah decay:pah subdivisions:pah time_steps:pah track:ah augment_speed:ah
        sequential_subdivisions:ah try_fix_nan:ah weights_reject_freq:ah equidistant_point:ah
        badlabels_rejection_percentage:ah num_sigmas_reject_badlabels:ah ema_alpha:ah use_cuda_graph:ah
        loss_scale:ah dynamic_minibatch:ah optimized_memory:ah workspace_size_limit_MB:ah adam:pah B1:pah
        B2:pah eps:pah height:pah width:pah channels:pah inputs:pah max_crop:pa min_crop:pa flip:ah blur:ah
        gaussian_noise:ah mixup:ah cutmix:ah mosaic:ah letter_box:ah mosaic_bound:ah contrastive:ah
        contrastive_jit_flip:ah contrastive_color:ah unsupervised:a label_smooth_eps:ah resize_step:ah
        attention:ah adversarial_lr:ah max_chart_loss:ah angle:pah aspect:pah saturation:pah exposure:pah
        hue:pah power:pah policy:pah burn_in:pah step:pah scale:pah steps:pah scales:pah seq_scales:ah
        gamma:pah notruth:p random:p max_ratio:p min_ratio:p center:p clip:p
    """,
    "every layer": """
        show_receptive_field:ah stopbackward:pah clip:ah onlyforward:pah dont_update:ah burnin_update:ah
        train_only_bn:ah dontload:pah dontloadscales:pah learning_rate:pah truth:p dontsave:p numload:p
        smooth:p
    """,
    "convolutional": """
        filters:pah groups:pah size:pah stride_x:ah stride_y:ah stride:pah dilation:ah antialiasing:ah
        pad:pah padding:pah activation:pah assisted_excitation:ah share_index:ah batch_normalize:pah cbn:ah
        binary:pah xnor:pah bin_output:ah sway:ah rotate:ah stretch:ah stretch_sway:ah flipped:pah dot:pah
        angle:ah grad_centr:ah reverse:ah coordconv:ah stream:ah wait_stream:ah
    """,
    "deconvolutional": """
        filters:p size:p stride:p activation:p batch_normalize:p pad:p padding:p
    """,
    "connected": """
        output:pah activation:pah batch_normalize:pah
    """,
    "local": """
        filters:pa size:pa stride:pa pad:pa activation:pa
    """,
    "maxpool": """
        stride:pah stride_x:ah stride_y:ah size:pah padding:pah maxpool_depth:ah out_channels:ah
        antialiasing:ah maxpool_zero_nonmax:ah
    """,
    "local_avgpool": """
        stride:ah stride_x:ah stride_y:ah size:ah padding:ah
    """,
    "dropout": """
        probability:pah dropblock:ah dropblock_size_rel:ah dropblock_size_abs:ah
    """,
    "softmax": """
        groups:pah temperature:pah tree:pah spatial:pah noloss:pah
    """,
    "cost": """
        type:pah scale:pah ratio:pah noobj:p thresh:p
    """,
    "crop": """
        crop_height:pa crop_width:pa flip:pa angle:pa saturation:pa exposure:pa noadjust:pa shift:pa
    """,
    "route": """
        layers:pah groups:ah group_id:ah stream:ah wait_stream:ah
    """,
    "shortcut": """
        activation:pah weights_type:ah weights_normalization:ah from:pah alpha:p beta:p
    """,
    "upsample": """
        stride:pah scale:pah
    """,
    "reorg": """
        stride:pa reverse:pa flatten:p extra:p
    """,
    "reorg3d": """
        stride:ah reverse:ah
    """,
    "normalization": """
        alpha:pa beta:pa kappa:pa size:pa
    """,
    "activation": """
        activation:pa
    """,
    "rnn": """
        output:pah hidden:ah activation:pah batch_normalize:pah logistic:ah shortcut:pah
    """,
    "gru": """
        output:pa batch_normalize:pa tanh:p
    """,
    "lstm": """
        output:pah batch_normalize:pah
    """,
    "crnn": """
        size:ah stride:ah dilation:ah pad:ah padding:ah output:ah hidden:ah groups:ah activation:pah
        batch_normalize:pah xnor:ah shortcut:pah output_filters:p hidden_filters:p
    """,
    "conv_lstm": """
        size:a stride:a dilation:a pad:a padding:a output:a groups:a activation:a batch_normalize:a xnor:a
        peephole:a bottleneck:a state_constrain:a shortcut:a lstm_activation:a time_normalizer:a
    """,
    "history": """
        history_size:a
    """,
    "detection": """
        coords:pa classes:pa rescore:pa num:pa side:pa softmax:pa sqrt:pa max:pa coord_scale:pa forced:pa
        object_scale:pa noobject_scale:pa class_scale:pa jitter:pa resize:a random:pa reorg:pa
    """,
    "region": """
        coords:pah classes:pah num:pah max:pah log:pah sqrt:pah softmax:pah focal_loss:ah jitter:pah
        resize:ah rescore:pah thresh:pah classfix:pah absolute:pah random:pah coord_scale:pah
        object_scale:pah noobject_scale:pah mask_scale:pah class_scale:pah bias_match:pah tree:pah map:pah
        anchors:pah background:p
    """,
    "yolo": """
        classes:pah num:pah mask:pah max:pah show_details:a max_delta:ah counters_per_class:ah
        label_smooth_eps:ah scale_x_y:ah objectness_smooth:ah new_coords:ah iou_normalizer:ah
        obj_normalizer:ah cls_normalizer:ah delta_normalizer:ah iou_loss:ah iou_thresh_kind:ah beta_nms:ah
        nms_kind:ah jitter:pah resize:ah focal_loss:ah ignore_thresh:pah truth_thresh:pah iou_thresh:ah
        random:pah track_history_size:ah sim_thresh:ah dets_for_track:ah dets_for_show:ah track_ciou_norm:ah
        embedding_layer:ah map:pah anchors:pah
    """,
    "Gaussian_yolo": """
        classes:ah max:ah num:ah mask:ah max_delta:ah counters_per_class:ah label_smooth_eps:ah scale_x_y:ah
        objectness_smooth:ah uc_normalizer:ah iou_normalizer:ah obj_normalizer:ah cls_normalizer:ah
        delta_normalizer:ah iou_loss:ah iou_thresh_kind:ah beta_nms:ah nms_kind:ah yolo_point:ah jitter:ah
        resize:ah ignore_thresh:ah truth_thresh:ah iou_thresh:ah random:ah map:ah anchors:ah
    """,
    "iseg": """
        classes:p ids:p
    """,
    "scale_channels": """
        from:ah scale_wh:ah activation:ah
    """,
    "sam": """
        from:ah activation:ah
    """,
    "implicit": """
        mean:a std:a filters:a atoms:a
    """,
    "contrastive": """
        classes:ah yolo_layer:ah temperature:ah cls_normalizer:ah max_delta:ah contrastive_neg_max:ah
    """,
}
KEYS = {section: dict(word.split(":") for word in words.split()) for section, words in _WORDS.items()}
