/* Who learns what in [yolo] and [Gaussian_yolo], of one image; gcc and nvcc compile this file. With o an
 * anchor's objectness:
 *   every anchor of every cell
 *     always                   o towards 0, unless its box's best IoU with a truth exceeds ignore_thresh
 *                              (AlexeyAB: and some class has p > 0.25); objectness_smooth=1: to that IoU
 *     best IoU > truth_thresh  o towards 1 (objectness_smooth=1: IoU^2), class and box towards that truth
 *   every truth, in its cell   the anchor of all `num` most like it in width and height, if the mask has it,
 *                              and (AlexeyAB) each in the mask alike by more than iou_thresh: o towards 1,
 *                              class and box towards the truth
 * Weights: obj_normalizer for o; counters_per_class: largest count / count of the class, up to max_delta. */
#ifndef DN_YOLO_RULES_H
#define DN_YOLO_RULES_H
#include "pull.h"
#include "scalar.h"
#include <float.h>

/* per image: boxes matched, and sums over them of IoU, objectness, IoU > .5 and > .75, GIoU */
enum { YOLO_MATCHES = 6 };
typedef enum { CENTER, LEFT_TOP, RIGHT_BOTTOM, YOLO_POINTS } YOLO_POINT;
/* One image at work. */
typedef struct {
    const yolo_rules *r;
    head_image a;
    real *matches;
} yolo_image;

/* ---- anchors, cells and entries: an anchor of the mask, a slot, has planes of h x w values: the box's,
 * objectness, classes */
SCALAR int yolo_area(const yolo_rules *r) { return r->h * r->w; }
SCALAR int yolo_entries(const yolo_rules *r) { return r->coords + 1 + r->classes; }
SCALAR size_t yolo_outputs(const yolo_rules *r) { return (size_t)r->slots * yolo_entries(r) * yolo_area(r); }
/* AlexeyAB's have a track id. */
SCALAR int yolo_truth_size(const yolo_rules *r) { return r->alexeyab ? 6 : 5; }
/* Image b, given the first, and how many boxes its truth has. */
SCALAR yolo_image yolo_image_of(const yolo_rules *r, const yolo_image *first, size_t b)
{
    return (yolo_image){r, dn_image_at(&first->a, b * yolo_outputs(r), b * r->max * yolo_truth_size(r)),
                        first->matches + b * YOLO_MATCHES};
}
SCALAR int yolo_truths(const yolo_image *im)
{
    return dn_count_rows(im->a.truth, im->r->max, yolo_truth_size(im->r));
}
SCALAR int yolo_anchor(const yolo_rules *r, int slot) { return r->mask ? r->mask[slot] : slot; }
SCALAR real yolo_anchor_w(const yolo_rules *r, int anchor) { return r->anchors[2 * anchor] / r->net_w; }
SCALAR real yolo_anchor_h(const yolo_rules *r, int anchor) { return r->anchors[2 * anchor + 1] / r->net_h; }
/* Of the first value of a slot in a cell. */
SCALAR size_t yolo_entry(const yolo_rules *r, int slot, int i, int j)
{
    return (size_t)slot * yolo_entries(r) * yolo_area(r) + (size_t)j * r->w + i;
}
SCALAR int yolo_class_of(const yolo_rules *r, const real *row)
{
    return r->map ? r->map[(int)row[4]] : (int)row[4];
}
SCALAR real yolo_class_weight(const yolo_rules *r, int class_id)
{
    const real *counts = r->counters_per_class;
    if (!counts) return 1;
    real most = 1, own = counts[class_id];
    for (int i = 0; i < r->classes; ++i) most = counts[i] > most ? counts[i] : most;
    const real weight = most / (own > 1 ? own : 1); /* a class that was never seen counts as seen once */
    return weight < r->max_delta ? weight : r->max_delta;
}
SCALAR void yolo_point_cell(const yolo_rules *r, box truth, int *i, int *j)
{
    const real shift = r->yolo_point == LEFT_TOP ? -1 : r->yolo_point == RIGHT_BOTTOM ? 1 : 0;
    *i = dn_cell(truth.x + shift * truth.w / 2, r->w);
    *j = dn_cell(truth.y + shift * truth.h / 2, r->h);
}
SCALAR real yolo_shape_overlap(const yolo_rules *r, int anchor, box truth, int kind)
{
    const box a = {0, 0, yolo_anchor_w(r, anchor), yolo_anchor_h(r, anchor)}, b = {0, 0, truth.w, truth.h};
    return kind == DIOU ? diou_of(a, b) : overlap_of(a, b, kind);
}
/* Does a slot learn from a truth, in the truth's cell? */
SCALAR int yolo_learns(const yolo_rules *r, box truth, int slot)
{
    const int anchor = yolo_anchor(r, slot);
    int best = 0;
    real most = 0;
    for (int n = 0; n < r->num; ++n) {
        const real iou = yolo_shape_overlap(r, n, truth, IOU);
        if (iou > most) most = iou, best = n;
    }
    if (anchor == best) return 1;
    return r->iou_thresh < 1 && yolo_shape_overlap(r, anchor, truth, r->iou_thresh_kind) > r->iou_thresh;
}

/* ---- the output: value e of a slot is f(z) = s sigma(z) - (s - 1) / 2, with new_coords without the sigma */
typedef enum { YOLO_LINEAR, YOLO_LOGISTIC, YOLO_POSITION } YOLO_VALUE;
SCALAR YOLO_VALUE yolo_value(const yolo_rules *r, int e)
{
    if (r->coords == 8 && e < 8)
        return e == 0 || e == 2 ? YOLO_POSITION : e % 2 ? YOLO_LOGISTIC : YOLO_LINEAR;
    return e < 2 ? YOLO_POSITION : e < 4 || r->new_coords ? YOLO_LINEAR : YOLO_LOGISTIC;
}
SCALAR real yolo_stretched(const yolo_rules *r, real p) { return r->scale_x_y * p - (r->scale_x_y - 1) / 2; }
/* df(z) / dz from p = f(z) */
SCALAR real yolo_slope(const yolo_rules *r, YOLO_VALUE value, real p)
{
    const real s = value == YOLO_POSITION ? r->scale_x_y : 1;
    if (value == YOLO_LINEAR || r->new_coords) return s;
    return s * logistic_gradient((p + (s - 1) / 2) / s);
}

/* ---- boxes. [yolo] has x, y, w, h; [Gaussian_yolo] each with an uncertainty behind it, and x, y may be
 * another point than the centre: so many sizes of the box from it. */
SCALAR real yolo_to_center(const yolo_rules *r)
{
    return r->coords == 4                  ? 0
           : r->yolo_point == LEFT_TOP     ? (real).5
           : r->yolo_point == RIGHT_BOTTOM ? (real)-.5
                                           : 0;
}
SCALAR box yolo_box(const yolo_rules *r, const real *p, int slot, int i, int j)
{
    const size_t at = yolo_entry(r, slot, i, j), step = (size_t)yolo_area(r) * (r->coords / 4);
    const int anchor = yolo_anchor(r, slot);
    const real a = p[at + 2 * step], b = p[at + 3 * step], shift = yolo_to_center(r),
               w = (r->new_coords ? 4 * a * a : exp(a)) * yolo_anchor_w(r, anchor),
               h = (r->new_coords ? 4 * b * b : exp(b)) * yolo_anchor_h(r, anchor);
    return (box){(i + p[at]) / r->w + (shift != 0 ? shift * w : 0),
                 (j + p[at + step]) / r->h + (shift != 0 ? shift * h : 0), w, h};
}
/* Loss -weight * overlap of the kind iou_loss, added at where[]: the four values of the box; by: d(box) by
 * each of them. AlexeyAB's gradient leaves out how x, y depend on the logistic and the grid, and w, h on
 * the anchor, and counts w and h twice. Here it is exact, and the loss has the factor sqrt(area of the
 * input / area of the anchor): with it the steps have about the size that iou_normalizer was chosen for. */
SCALAR void yolo_pull_overlap(const yolo_image *im, const size_t where[4], box pred, box truth,
                              const box by[4], int anchor, real weight)
{
    const yolo_rules *r = im->r;
    const box g = overlap_gradient_of(pred, truth, r->iou_loss);
    weight /= sqrt(yolo_anchor_w(r, anchor) * yolo_anchor_h(r, anchor));
    for (int k = 0; k < 4; ++k) {
        const real slope = g.x * by[k].x + g.y * by[k].y + g.w * by[k].w + g.h * by[k].h;
        im->a.delta[where[k]] += clipped(weight * slope, r->max_delta);
    }
    im->a.loss[where[0]] += weight * (1 - overlap_of(pred, truth, r->iou_loss));
}
SCALAR void yolo_pull_position(const yolo_image *im, size_t at, real target, real weight)
{
    const real s = im->r->scale_x_y, d = target - im->a.p[at];
    im->a.delta[at] += weight * d;
    im->a.loss[at] += im->r->new_coords ? weight / s * d * d / 2
                                        : weight * s * dn_logit_loss(im->a.z[at], (target + (s - 1) / 2) / s);
}
SCALAR void yolo_pull_size(const yolo_image *im, size_t at, real truth, real anchor, real weight)
{
    const real d = (im->r->new_coords ? sqrt(truth / (4 * anchor)) : log(truth / anchor)) - im->a.p[at];
    im->a.delta[at] += weight * d;
    im->a.loss[at] += weight * d * d / 2;
}
SCALAR void yolo_pull_plain(const yolo_image *im, int slot, int i, int j, box truth, real weight)
{
    const yolo_rules *r = im->r;
    const size_t step = (size_t)yolo_area(r), at = yolo_entry(r, slot, i, j),
                 where[4] = {at, at + step, at + 2 * step, at + 3 * step};
    const int anchor = yolo_anchor(r, slot);
    const real anchor_w = yolo_anchor_w(r, anchor), anchor_h = yolo_anchor_h(r, anchor), *p = im->a.p;
    weight *= r->iou_normalizer;
    if (r->iou_loss == MSE) {
        weight *= 2 - truth.w * truth.h;
        yolo_pull_position(im, where[0], truth.x * r->w - i, weight);
        yolo_pull_position(im, where[1], truth.y * r->h - j, weight);
        yolo_pull_size(im, where[2], truth.w, anchor_w, weight);
        yolo_pull_size(im, where[3], truth.h, anchor_h, weight);
        return;
    }
    const box pred = yolo_box(r, p, slot, i, j);
    const box by[4] = {{yolo_slope(r, YOLO_POSITION, p[where[0]]) / r->w, 0, 0, 0},
                       {0, yolo_slope(r, YOLO_POSITION, p[where[1]]) / r->h, 0, 0},
                       {0, 0, r->new_coords ? 8 * p[where[2]] * anchor_w : pred.w, 0},
                       {0, 0, 0, r->new_coords ? 8 * p[where[3]] * anchor_h : pred.h}};
    yolo_pull_overlap(im, where, pred, truth, by, anchor, weight);
}

/* A number of [Gaussian_yolo], its uncertainty a step behind it: see gaussian_yolo_layer.c. */
#define SIGMA_CONST ((real).3)
#define LIKELIHOOD_EPSILON ((real)1e-9)
#define SQRT_TWO_PI ((real)2.5066282746310005024)
SCALAR void yolo_pull_likelihood(const yolo_image *im, size_t at, size_t step, real target, real scale,
                                 real weight)
{
    const yolo_rules *r = im->r;
    const real s = fmax(im->a.p[at + step], FLT_MIN); /* it may underflow */
    const real d = (target - im->a.p[at]) / s, n = exp(-d * d / 2) / (SQRT_TWO_PI * (s + SIGMA_CONST)),
               loss = -scale / 2 * log(n + LIKELIHOOD_EPSILON),
               slope = scale / 2 * n / (n + LIKELIHOOD_EPSILON), both = r->iou_loss == MSE ? weight : 0,
               own = r->uc_normalizer * slope;
    im->a.loss[at] += both * loss;
    /* the rest of the uncertainty's, p constant */
    im->a.loss[at + step] += (r->uc_normalizer - both) * loss;
    if (slope == 0) return; /* d may be infinite then */
    im->a.delta[at] += clipped(both * slope * d / s, r->max_delta);
    im->a.delta[at + step] += clipped(own * d * d / s - own / (s + SIGMA_CONST), r->max_delta);
}
SCALAR void yolo_pull_gaussian(const yolo_image *im, int slot, int i, int j, box truth, real weight)
{
    const yolo_rules *r = im->r;
    const size_t step = (size_t)yolo_area(r), at = yolo_entry(r, slot, i, j),
                 where[4] = {at, at + 2 * step, at + 4 * step, at + 6 * step};
    const int anchor = yolo_anchor(r, slot);
    const real shift = yolo_to_center(r), scale = 2 - truth.w * truth.h,
               targets[4] = {(truth.x - shift * truth.w) * r->w - i, (truth.y - shift * truth.h) * r->h - j,
                             log(truth.w / yolo_anchor_w(r, anchor)),
                             log(truth.h / yolo_anchor_h(r, anchor))};
    weight *= r->iou_normalizer;
    for (int k = 0; k < 4; ++k) yolo_pull_likelihood(im, where[k], step, targets[k], scale, weight);
    if (r->iou_loss == MSE) return;
    const box pred = yolo_box(r, im->a.p, slot, i, j);
    const box by[4] = {{(real)1 / r->w, 0, 0, 0},
                       {0, (real)1 / r->h, 0, 0},
                       {shift * pred.w, 0, pred.w, 0},
                       {0, shift * pred.h, 0, pred.h}};
    yolo_pull_overlap(im, where, pred, truth, by, anchor, weight);
}
SCALAR void yolo_pull_box(const yolo_image *im, int slot, int i, int j, box truth, int class_id)
{
    const yolo_rules *r = im->r;
    const size_t at = yolo_entry(r, slot, i, j), step = (size_t)yolo_area(r);
    const real weight = yolo_class_weight(r, class_id);
    for (int k = 0; !r->alexeyab && k < r->coords; ++k) { /* the last truth wins; else they add */
        im->a.delta[at + k * step] = im->a.loss[at + k * step] = 0;
    }
    if (r->coords == 8)
        yolo_pull_gaussian(im, slot, i, j, truth, weight);
    else
        yolo_pull_plain(im, slot, i, j, truth, weight);
}

/* ---- objectness and classes: cross-entropies, one per class. An anchor that has learned one class from
 * another truth adds the next as a second label; that it has shows in delta of the first class (pjreddie)
 * or of the same class. */
SCALAR void yolo_pull_value(const yolo_image *im, size_t at, real target, real weight)
{
    if (im->r->new_coords)
        dn_pull_value(&im->a, at, target, weight);
    else
        dn_pull_logit(&im->a, at, target, weight);
}
SCALAR void yolo_pull_class(const yolo_image *im, size_t at, int class_id)
{
    const yolo_rules *r = im->r;
    const size_t step = (size_t)yolo_area(r), own = at + step * class_id;
    const real yes = 1 - r->label_smooth_eps / 2, no = r->label_smooth_eps / 2,
               weight = yolo_class_weight(r, class_id);
    if (im->a.delta[r->alexeyab && r->coords == 4 ? own : at] != 0) {
        yolo_pull_value(im, own, yes, weight);
        return;
    }
    if (r->focal_loss) {
        const real focal = dn_focal_weight(im->a.p[own]);
        for (int c = 0; c < r->classes; ++c) yolo_pull_value(im, at + step * c, c == class_id, focal);
        return;
    }
    for (int c = 0; c < r->classes; ++c) yolo_pull_value(im, at + step * c, c == class_id ? yes : no, 1);
    if (r->counters_per_class) yolo_pull_value(im, own, yes, weight * r->cls_normalizer);
}

/* ---- every anchor of every cell; `truths` boxes */
typedef struct {
    real iou;
    int truth;
} best_match;
SCALAR best_match yolo_best(const yolo_image *im, int truths, box pred)
{
    best_match best = {0, 0};
    for (int t = 0; t < truths; ++t) {
        const real iou = iou_of(pred, dn_truth_box(im->a.truth + (size_t)t * yolo_truth_size(im->r)));
        if (iou > best.iou) best = (best_match){iou, t};
    }
    return best;
}
SCALAR int yolo_expects_class(const yolo_image *im, size_t at)
{
    for (int c = 0; c < im->r->classes; ++c) {
        if (im->a.p[at + (size_t)c * yolo_area(im->r)] > (real).25) return 1;
    }
    return 0;
}
SCALAR void yolo_train_anchor(const yolo_image *im, int truths, int slot, int i, int j)
{
    const yolo_rules *r = im->r;
    const size_t objectness = yolo_entry(r, slot, i, j) + (size_t)r->coords * yolo_area(r),
                 classes = objectness + yolo_area(r);
    const best_match best = yolo_best(im, truths, yolo_box(r, im->a.p, slot, i, j));
    const real *row = im->a.truth + (size_t)best.truth * yolo_truth_size(r);
    const int smooth = r->objectness_smooth, gaussian = r->coords == 8,
              class_id = truths ? yolo_class_of(r, row) : 0,
              matches = best.iou > r->ignore_thresh && (!r->alexeyab || yolo_expects_class(im, classes));
    real target = 0, weight = r->obj_normalizer;
    if (matches && smooth)
        target = gaussian ? best.iou * best.iou : best.iou;
    else if (matches)
        weight = 0;
    if (matches && smooth && gaussian) yolo_pull_class(im, classes, class_id);
    yolo_pull_value(im, objectness, target, weight);
    if (best.iou <= r->truth_thresh) return;
    const real level = smooth ? best.iou * best.iou : 1;
    yolo_pull_value(im, objectness, level, r->obj_normalizer);
    yolo_pull_class(im, classes, class_id);
    if (smooth) {
        const size_t own = classes + (size_t)class_id * yolo_area(r);
        yolo_pull_value(im, own, level, yolo_class_weight(r, class_id));
    }
    yolo_pull_box(im, slot, i, j, dn_truth_box(row), class_id);
}

/* ---- every truth */
SCALAR void yolo_train_match(const yolo_image *im, int slot, int i, int j, box truth, int class_id)
{
    const yolo_rules *r = im->r;
    const size_t objectness = yolo_entry(r, slot, i, j) + (size_t)r->coords * yolo_area(r);
    yolo_pull_box(im, slot, i, j, truth, class_id);
    /* AlexeyAB's [yolo] with objectness_smooth leaves the target that the cell already has */
    if (!r->objectness_smooth || r->coords == 8 || im->a.delta[objectness] == 0) {
        yolo_pull_value(im, objectness, 1, r->obj_normalizer * yolo_class_weight(r, class_id));
    }
    yolo_pull_class(im, objectness + yolo_area(r), class_id);
}
SCALAR void yolo_count_match(const yolo_image *im, int slot, int i, int j, box truth)
{
    const yolo_rules *r = im->r;
    const size_t objectness = yolo_entry(r, slot, i, j) + (size_t)r->coords * yolo_area(r);
    const box pred = yolo_box(r, im->a.p, slot, i, j);
    const real iou = iou_of(pred, truth);
    const real counts[YOLO_MATCHES] = {
        1, iou, im->a.p[objectness], (real)(iou > (real).5), (real)(iou > (real).75), giou_of(pred, truth)};
    for (int k = 0; k < YOLO_MATCHES; ++k) im->matches[k] += counts[k];
}
/* Work of one truth after another: of worker `own` of `all`, who share the cells, so that each cell meets its
 * truths in their order; then `count` says whether to count the matches. */
SCALAR void yolo_train_truths(const yolo_image *im, int truths, int own, int all, int count)
{
    const yolo_rules *r = im->r;
    for (int t = 0; t < truths; ++t) {
        const real *row = im->a.truth + (size_t)t * yolo_truth_size(r);
        const box truth = dn_truth_box(row);
        int i, j;
        yolo_point_cell(r, truth, &i, &j);
        const int mine = (j * r->w + i) % all == own;
        for (int slot = 0; slot < r->slots && (mine || count); ++slot) {
            if (!yolo_learns(r, truth, slot)) continue;
            if (mine) yolo_train_match(im, slot, i, j, truth, yolo_class_of(r, row));
            if (count) yolo_count_match(im, slot, i, j, truth);
        }
    }
}

/* ---- in the end, with AlexeyAB: where an anchor learned several classes, its box learns the mean of what
 * the truths said */
SCALAR int yolo_averages(const yolo_rules *r) { return r->alexeyab && (r->coords == 8 || r->iou_thresh < 1); }
SCALAR void yolo_average_box(const yolo_image *im, int slot, int i, int j)
{
    const yolo_rules *r = im->r;
    const size_t at = yolo_entry(r, slot, i, j), step = (size_t)yolo_area(r);
    int positive = 0;
    for (int c = 0; c < r->classes; ++c) positive += im->a.delta[at + (r->coords + 1 + c) * step] > 0;
    if (positive < 2 || (r->coords == 4 && im->a.delta[at + 4 * step] == 0)) return;
    for (int k = 0; k < r->coords; ++k) {
        im->a.delta[at + k * step] /= positive;
        im->a.loss[at + k * step] /= positive;
    }
}
#endif
