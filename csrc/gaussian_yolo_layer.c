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
 * delta holds -dL/dp and -dL/ds, at most max_delta; the backward pass takes them through the logistic. */
#include "yolo_head.h"
#include "scalar.h"
#include <float.h>

#define SIGMA_CONST ((real).3)
#define LIKELIHOOD_EPSILON ((real)1e-9)
#define SQRT_TWO_PI ((real)2.5066282746310005024)

static const option_spec gaussian_options[] = {
    OPTION(yolo_head, "classes", classes, INT),
    OPTION(yolo_head, "num", num, INT),
    OPTION(yolo_head, "max", max, INT),
    OPTION(yolo_head, "mask", mask, LIST),
    OPTION(yolo_head, "map", map, LIST),
    OPTION(yolo_head, "anchors", anchors, REALS),
    OPTION(yolo_head, "counters_per_class", counters_per_class, REALS),
    OPTION(yolo_head, "alexeyab", alexeyab, INT),
    OPTION(yolo_head, "objectness_smooth", objectness_smooth, INT),
    OPTION(yolo_head, "iou_loss", iou_loss, INT),
    OPTION(yolo_head, "iou_thresh_kind", iou_thresh_kind, INT),
    OPTION(yolo_head, "yolo_point", yolo_point, INT),
    OPTION(yolo_head, "ignore_thresh", ignore_thresh, REAL),
    OPTION(yolo_head, "truth_thresh", truth_thresh, REAL),
    OPTION(yolo_head, "iou_thresh", iou_thresh, REAL),
    OPTION(yolo_head, "max_delta", max_delta, REAL),
    OPTION(yolo_head, "label_smooth_eps", label_smooth_eps, REAL),
    OPTION(yolo_head, "scale_x_y", scale_x_y, REAL),
    OPTION(yolo_head, "iou_normalizer", iou_normalizer, REAL),
    OPTION(yolo_head, "obj_normalizer", obj_normalizer, REAL),
    OPTION(yolo_head, "cls_normalizer", cls_normalizer, REAL),
    OPTION(yolo_head, "uc_normalizer", uc_normalizer, REAL),
    END_OF_OPTIONS,
};

/* From the point that x, y stand for to the centre, in units of the box's size. */
static real to_center(const yolo_head *self)
{
    return self->yolo_point == LEFT_TOP ? (real).5 : self->yolo_point == RIGHT_BOTTOM ? (real)-.5 : 0;
}
static box gaussian_decode(const yolo_head *self, const real *p, int slot, int i, int j)
{
    const layer *l = &self->base;
    const size_t at = yolo_entry(self, slot, i, j), step = (size_t)l->h * l->w;
    const int anchor = yolo_anchor(self, slot);
    const real w = exp(p[at + 4 * step]) * yolo_anchor_w(self, anchor),
               h = exp(p[at + 6 * step]) * yolo_anchor_h(self, anchor), shift = to_center(self);
    return (box){(i + p[at]) / l->w + shift * w, (j + p[at + 2 * step]) / l->h + shift * h, w, h};
}

/* The number at `at`, its uncertainty a step behind it. */
static void pull_likelihood(const yolo_image *im, size_t at, size_t step, real target, real scale,
                            real weight)
{
    const yolo_head *self = im->self;
    const real s = fmax(im->a.p[at + step], FLT_MIN); /* it may underflow */
    const real d = (target - im->a.p[at]) / s, n = exp(-d * d / 2) / (SQRT_TWO_PI * (s + SIGMA_CONST)),
               loss = -scale / 2 * log(n + LIKELIHOOD_EPSILON),
               slope = scale / 2 * n / (n + LIKELIHOOD_EPSILON), both = self->iou_loss == MSE ? weight : 0,
               own = self->uc_normalizer * slope;
    im->a.loss[at] += both * loss;
    /* the rest of the uncertainty's, p constant */
    im->a.loss[at + step] += (self->uc_normalizer - both) * loss;
    if (slope == 0) return; /* d may be infinite then */
    im->a.delta[at] += clipped(both * slope * d / s, self->max_delta);
    im->a.delta[at + step] += clipped(own * d * d / s - own / (s + SIGMA_CONST), self->max_delta);
}
static void gaussian_pull(const yolo_image *im, int slot, int i, int j, box truth, real weight)
{
    const yolo_head *self = im->self;
    const layer *l = &self->base;
    const size_t step = (size_t)l->h * l->w, at = yolo_entry(self, slot, i, j),
                 where[4] = {at, at + 2 * step, at + 4 * step, at + 6 * step};
    const int anchor = yolo_anchor(self, slot);
    const real shift = to_center(self), scale = 2 - truth.w * truth.h,
               targets[4] = {(truth.x - shift * truth.w) * l->w - i, (truth.y - shift * truth.h) * l->h - j,
                             log(truth.w / yolo_anchor_w(self, anchor)),
                             log(truth.h / yolo_anchor_h(self, anchor))};
    weight *= self->iou_normalizer;
    for (int k = 0; k < 4; ++k) pull_likelihood(im, where[k], step, targets[k], scale, weight);
    if (self->iou_loss == MSE) return;
    const box pred = gaussian_decode(self, im->a.p, slot, i, j);
    const box by[4] = {{(real)1 / l->w, 0, 0, 0},
                       {0, (real)1 / l->h, 0, 0},
                       {shift * pred.w, 0, pred.w, 0},
                       {0, shift * pred.h, 0, pred.h}};
    yolo_pull_overlap(im, where, pred, truth, by, anchor, weight);
}

/* Calls for each run of values of one kind that go through the logistic: x and y, their and w's and h's
 * uncertainties, the rest. */
typedef void run_function(const kernels *k, const real *p, int n, real stretch, real *d);
static void each_run(const yolo_head *self, const kernels *k, run_function *f, int boxes_only, const real *p,
                     real *d)
{
    const layer *l = &self->base;
    const int step = l->h * l->w, values = 9 + self->classes;
    for (int n = 0; n < l->batch * yolo_slots(self); ++n) {
        const size_t at = (size_t)n * values * step;
        for (int e = 0; e < 8; ++e) {
            if (e == 4 || e == 6) continue;
            const size_t run = at + (size_t)e * step;
            f(k, p + run, step, e == 0 || e == 2 ? self->scale_x_y : 1, d + run);
        }
        const size_t rest = at + (size_t)8 * step;
        if (!boxes_only) f(k, p + rest, (1 + self->classes) * step, 1, d + rest);
    }
}
static void activate_run(const kernels *k, const real *p, int n, real stretch, real *d)
{
    (void)p;
    k->activate_array(d, n, LOGISTIC);
    for (int i = 0; i < n && stretch != 1; ++i) d[i] = stretch * d[i] - (stretch - 1) / 2;
}
static void gradient_run(const kernels *k, const real *p, int n, real stretch, real *d)
{
    (void)k;
    for (int i = 0; i < n; ++i) d[i] *= stretch * logistic_gradient((p[i] + (stretch - 1) / 2) / stretch);
}
static void gaussian_through(const yolo_head *self, const real *p, real *d)
{
    each_run(self, NULL, gradient_run, 1, p, d);
}
static const yolo_boxes boxes = {8, gaussian_decode, gaussian_pull, gaussian_through};

static dn_status gaussian_shape(layer *l, network *net) { return yolo_head_shape(l, net, &boxes); }
static dn_status gaussian_forward(layer *l, network *net)
{
    net->k->copy(l->batch * l->outputs, net->input, 1, l->output, 1);
    each_run((yolo_head *)l, net->k, activate_run, 0, l->output, l->output);
    return yolo_head_loss(l, net);
}
static void gaussian_gradient(const layer *l, network *net)
{
    each_run((const yolo_head *)l, net->k, gradient_run, 0, l->output, l->delta);
}
static dn_status gaussian_backward(layer *l, network *net)
{
    return yolo_head_backward(l, net, gaussian_gradient);
}
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
    .forward = gaussian_forward,
    .backward = gaussian_backward,
    .workspace = dn_head_workspace,
    .detections = gaussian_detections,
    .box_size = yolo_box_size,
    .is_loss = 1,
    .on_host = 1,
};
