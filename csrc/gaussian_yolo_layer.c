/* [Gaussian_yolo]: [yolo] with an uncertainty for each number of a box (arXiv:1904.04620).
 *
 * An anchor has x, sx, y, sy, w, sw, h, sh, objectness, and a value per class; all but w and h go through the
 * logistic, x and y are stretched by scale_x_y as in [yolo]. yolo_point=left_top, right_bottom: x, y are that
 * corner. A detection's confidence is objectness * class * (1 - mean of its four s).
 *
 * Losses: objectness and classes as in [yolo]. A number p with uncertainty s, towards t, with the weight
 * m = 2 - w h of the truth, is the likelihood of a Gaussian (the s of its denominator raised by 0.3):
 *   L = -m / 2 log(N + 1e-9),     N = exp(-((t - p) / s)^2 / 2) / (sqrt(2 pi) (s + 0.3))
 * counted iou_normalizer times for p and uc_normalizer times for s, each with the other as a constant. With
 * iou_loss other than mse, p learns iou_normalizer sqrt(net area / anchor area) (1 - overlap) instead.
 * delta holds -dL/dp and -dL/ds, at most max_delta; the backward pass takes them through the logistic.
 * The formulas in C: yolo_rules.h. */
#include "yolo_head.h"

static const option_spec gaussian_options[] = {
    YOLO_HEAD_OPTIONS,
    YOLO_OPTION(yolo_point, INT),
    YOLO_OPTION(uc_normalizer, REAL),
    END_OF_OPTIONS,
};

static dn_status gaussian_shape(layer *l, network *net) { return yolo_head_shape(l, net, 8); }
static real certainty(const real *p, size_t at, int area)
{
    const size_t step = (size_t)area;
    return 1 - (p[at + step] + p[at + 3 * step] + p[at + 5 * step] + p[at + 7 * step]) / 4;
}
static int gaussian_detections(const layer *l, int row, real thresh, real hier, real *rows)
{
    (void)hier;
    return yolo_head_detections(l, row, thresh, rows, certainty);
}

const layer_ops Gaussian_yolo_ops = {
    .name = "Gaussian_yolo",
    .size = sizeof(yolo_head),
    .options = gaussian_options,
    .arrays = yolo_head_rows,
    .shape = gaussian_shape,
    .forward = yolo_head_forward,
    .backward = yolo_head_backward,
    .workspace = dn_head_workspace,
    .detections = gaussian_detections,
    .box_size = yolo_box_size,
    .is_loss = 1,
};
