/* [yolo]: boxes from a grid of h x w cells with anchors, YOLOv3 and later (arXiv:1804.02767,
 * arXiv:2004.10934).
 *
 * An anchor has x, y, w, h, objectness, and a value per class. From the input z, with s = scale_x_y and the
 * logistic sigma:
 *                        p                            new_coords=1 (the layer before has sigma)
 *   x, y                 s sigma(z) - (s - 1) / 2     s z - (s - 1) / 2
 *   w, h                 z                            z
 *   objectness, classes  sigma(z)                     z
 * The box of cell (i, j) in shares of the image, anchor and network in pixels:
 *   ((i + x) / w,  (j + y) / h,  e^w anchor_w / net_w,  e^h anchor_h / net_h)    new_coords=1: (2w)^2 for e^w
 *
 * Losses with weight m, towards a target t (new_coords=1 has m / 2 (t - p)^2 in place of cross-entropies):
 *   objectness, classes  m times the cross-entropy -t log p - (1 - t) log(1 - p); delta m (t - p)
 *   box, iou_loss=mse    m = (2 - w h of the truth) iou_normalizer; delta m (t - p)
 *     x, y               m s times the cross-entropy of sigma towards t with the stretch undone
 *     w, h               m / 2 (t - p)^2
 *   box, other iou_loss  m (1 - overlap), m = iou_normalizer sqrt(net area / anchor area); delta clipped to
 *                        max_delta
 * Deltas are gradients by z, so that of a cross-entropy has no derivative of the logistic. Who learns towards
 * what, and these formulas in C: yolo_rules.h. */
#include "yolo_head.h"

static const option_spec yolo_options[] = {
    YOLO_HEAD_OPTIONS,
    OPTION(yolo_head, "show_details", show_details, INT),
    YOLO_OPTION(focal_loss, INT),
    YOLO_OPTION(new_coords, INT),
    END_OF_OPTIONS,
};

static dn_status yolo_shape(layer *l, network *net) { return yolo_head_shape(l, net, 4); }
static int yolo_detections(const layer *l, int row, real thresh, real hier, real *rows)
{
    (void)hier;
    return yolo_head_detections(l, row, thresh, rows, NULL);
}

const layer_ops yolo_ops = {
    .name = "yolo",
    .size = sizeof(yolo_head),
    .options = yolo_options,
    .arrays = yolo_head_rows,
    .shape = yolo_shape,
    .forward = yolo_head_forward,
    .backward = yolo_head_backward,
    .workspace = dn_head_workspace,
    .detections = yolo_detections,
    .box_size = yolo_box_size,
    .is_loss = 1,
};
