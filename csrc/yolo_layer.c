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
 * what: yolo_head.c. */
#include "yolo_head.h"
#include "scalar.h"

static const option_spec yolo_options[] = {
    OPTION(yolo_head, "classes", classes, INT),
    OPTION(yolo_head, "num", num, INT),
    OPTION(yolo_head, "max", max, INT),
    OPTION(yolo_head, "mask", mask, LIST),
    OPTION(yolo_head, "map", map, LIST),
    OPTION(yolo_head, "anchors", anchors, REALS),
    OPTION(yolo_head, "counters_per_class", counters_per_class, REALS),
    OPTION(yolo_head, "alexeyab", alexeyab, INT),
    OPTION(yolo_head, "show_details", show_details, INT),
    OPTION(yolo_head, "objectness_smooth", objectness_smooth, INT),
    OPTION(yolo_head, "focal_loss", focal_loss, INT),
    OPTION(yolo_head, "new_coords", new_coords, INT),
    OPTION(yolo_head, "iou_loss", iou_loss, INT),
    OPTION(yolo_head, "iou_thresh_kind", iou_thresh_kind, INT),
    OPTION(yolo_head, "ignore_thresh", ignore_thresh, REAL),
    OPTION(yolo_head, "truth_thresh", truth_thresh, REAL),
    OPTION(yolo_head, "iou_thresh", iou_thresh, REAL),
    OPTION(yolo_head, "max_delta", max_delta, REAL),
    OPTION(yolo_head, "label_smooth_eps", label_smooth_eps, REAL),
    OPTION(yolo_head, "scale_x_y", scale_x_y, REAL),
    OPTION(yolo_head, "iou_normalizer", iou_normalizer, REAL),
    OPTION(yolo_head, "obj_normalizer", obj_normalizer, REAL),
    OPTION(yolo_head, "cls_normalizer", cls_normalizer, REAL),
    END_OF_OPTIONS,
};

static box yolo_decode(const yolo_head *self, const real *p, int slot, int i, int j)
{
    const layer *l = &self->base;
    const size_t at = yolo_entry(self, slot, i, j), step = (size_t)l->h * l->w;
    const int anchor = yolo_anchor(self, slot);
    const real w = p[at + 2 * step], h = p[at + 3 * step];
    return (box){(i + p[at]) / l->w, (j + p[at + step]) / l->h,
                 (self->new_coords ? 4 * w * w : exp(w)) * yolo_anchor_w(self, anchor),
                 (self->new_coords ? 4 * h * h : exp(h)) * yolo_anchor_h(self, anchor)};
}
static void pull_position(const yolo_image *im, size_t at, real target, real weight)
{
    const real s = im->self->scale_x_y, d = target - im->a.p[at];
    im->a.delta[at] += weight * d;
    im->a.loss[at] += im->self->new_coords
                          ? weight / s * d * d / 2
                          : weight * s * dn_logit_loss(im->a.z[at], (target + (s - 1) / 2) / s);
}
static void pull_size(const yolo_image *im, size_t at, real truth, real anchor, real weight)
{
    const real d = (im->self->new_coords ? sqrt(truth / (4 * anchor)) : log(truth / anchor)) - im->a.p[at];
    im->a.delta[at] += weight * d;
    im->a.loss[at] += weight * d * d / 2;
}
/* d(x) / d(its input), in shares of the image */
static real position_slope(const yolo_head *self, real p, int cells)
{
    const real s = self->scale_x_y, sigma = (p + (s - 1) / 2) / s;
    return s * (self->new_coords ? 1 : logistic_gradient(sigma)) / cells;
}
static void yolo_pull(const yolo_image *im, int slot, int i, int j, box truth, real weight)
{
    const yolo_head *self = im->self;
    const layer *l = &self->base;
    const size_t step = (size_t)l->h * l->w, at = yolo_entry(self, slot, i, j),
                 where[4] = {at, at + step, at + 2 * step, at + 3 * step};
    const int anchor = yolo_anchor(self, slot);
    const real anchor_w = yolo_anchor_w(self, anchor), anchor_h = yolo_anchor_h(self, anchor), *p = im->a.p;
    weight *= self->iou_normalizer;
    if (self->iou_loss == MSE) {
        weight *= 2 - truth.w * truth.h;
        pull_position(im, where[0], truth.x * l->w - i, weight);
        pull_position(im, where[1], truth.y * l->h - j, weight);
        pull_size(im, where[2], truth.w, anchor_w, weight);
        pull_size(im, where[3], truth.h, anchor_h, weight);
        return;
    }
    const box pred = yolo_decode(self, p, slot, i, j);
    const box by[4] = {{position_slope(self, p[where[0]], l->w), 0, 0, 0},
                       {0, position_slope(self, p[where[1]], l->h), 0, 0},
                       {0, 0, self->new_coords ? 8 * p[where[2]] * anchor_w : pred.w, 0},
                       {0, 0, 0, self->new_coords ? 8 * p[where[3]] * anchor_h : pred.h}};
    yolo_pull_overlap(im, where, pred, truth, by, anchor, weight);
}
static const yolo_boxes boxes = {4, yolo_decode, yolo_pull, NULL};

static dn_status yolo_shape(layer *l, network *net) { return yolo_head_shape(l, net, &boxes); }
static dn_status yolo_forward(layer *l, network *net)
{
    yolo_head *self = (yolo_head *)l;
    const size_t step = (size_t)l->h * l->w;
    const real s = self->scale_x_y;
    net->k->copy(l->batch * l->outputs, net->input, 1, l->output, 1);
    for (int n = 0; n < l->batch * yolo_slots(self); ++n) {
        real *p = l->output + n * (5 + self->classes) * step;
        if (!self->new_coords) {
            net->k->activate_array(p, (int)(2 * step), LOGISTIC);
            net->k->activate_array(p + 4 * step, (int)((1 + self->classes) * step), LOGISTIC);
        }
        for (size_t i = 0; i < 2 * step && s != 1; ++i) p[i] = s * p[i] - (s - 1) / 2;
    }
    return yolo_head_loss(l, net);
}
static void yolo_gradient(const layer *l, network *net)
{
    const yolo_head *self = (const yolo_head *)l;
    const size_t step = (size_t)l->h * l->w;
    for (int n = 0; n < l->batch * yolo_slots(self); ++n) {
        const size_t at = n * (5 + self->classes) * step;
        for (size_t i = at; i < at + 2 * step; ++i) l->delta[i] *= position_slope(self, l->output[i], 1);
        if (self->new_coords) continue;
        net->k->gradient_array(l->output + at + 4 * step, (int)((1 + self->classes) * step), LOGISTIC,
                               l->delta + at + 4 * step);
    }
}
static dn_status yolo_backward(layer *l, network *net) { return yolo_head_backward(l, net, yolo_gradient); }
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
    .forward = yolo_forward,
    .backward = yolo_backward,
    .workspace = dn_head_workspace,
    .detections = yolo_detections,
    .box_size = yolo_box_size,
    .is_loss = 1,
    .on_host = 1,
};
