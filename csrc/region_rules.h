/* Who learns what in [region], of one image: see region_layer.c, which has it in words. gcc and nvcc compile
 * this file. */
#ifndef DN_REGION_RULES_H
#define DN_REGION_RULES_H
#include "class_tree.h"
#include "pull.h"
#include "scalar.h"
#include <float.h>

enum { REGION_MATCHES = 4 }; /* per image: boxes matched, and sums of IoU, objectness and IoU > .5 */
/* One image at work. */
typedef struct {
    const region_rules *r;
    head_image a;
    real *matches;
} region_image;

/* ---- where values stand: an anchor has planes of h x w values, the box's and further coords, objectness,
 * classes; a place is a cell of an anchor */
SCALAR int region_cells(const region_rules *r) { return r->h * r->w; }
SCALAR int region_entries(const region_rules *r) { return r->coords + 1 + r->classes; }
SCALAR int region_places(const region_rules *r) { return r->num * region_cells(r); }
SCALAR size_t region_outputs(const region_rules *r)
{
    return (size_t)r->num * region_entries(r) * region_cells(r);
}
SCALAR size_t region_entry(const region_rules *r, int anchor, int cell, int e)
{
    return ((size_t)anchor * region_entries(r) + e) * region_cells(r) + cell;
}
SCALAR size_t region_entry_in_output(const region_rules *r, int anchor, int cell, int e)
{
    if (!r->alexeyab) return region_entry(r, anchor, cell, e);
    return ((size_t)cell * r->num + anchor) * region_entries(r) + e;
}
/* AlexeyAB's rows have a track id. */
SCALAR int region_truth_size(const region_rules *r) { return r->alexeyab ? 6 : r->coords + 1; }
/* Image b, given the first, and how many boxes its truth has. */
SCALAR region_image region_image_of(const region_rules *r, const region_image *first, size_t b)
{
    return (region_image){r, dn_image_at(&first->a, b * region_outputs(r), b * r->max * region_truth_size(r)),
                          first->matches + b * REGION_MATCHES};
}
SCALAR int region_truths(const region_image *im)
{
    return dn_count_rows(im->a.truth, im->r->max, region_truth_size(im->r));
}
SCALAR int region_class_at(const region_rules *r) { return r->alexeyab ? 4 : r->coords; }
SCALAR int region_class_of(const region_rules *r, const real *row)
{
    const int class_id = (int)row[region_class_at(r)];
    return r->map ? r->map[class_id] : class_id;
}

/* ---- the output: p = sigma(z) of some values; those of a softmax are made apart */
SCALAR int region_is_logistic(const region_rules *r, int e)
{
    if (e == r->coords) return !r->background;
    return e < 2 || (e > r->coords && !r->softmax && !r->parents && !r->alexeyab);
}
/* Does a delta go through the logistic? loss: those of the loss, which AlexeyAB's have done already, and
 * those of classes for all. Others meet the output, where AlexeyAB's x and y are z. */
SCALAR int region_has_slope(const region_rules *r, int e, int loss)
{
    if (r->alexeyab && (loss || e < 2)) return 0;
    return region_is_logistic(r, e) && !(loss && e > r->coords);
}
SCALAR box region_box(const region_rules *r, const real *p, int anchor, int cell)
{
    const size_t at = region_entry(r, anchor, cell, 0), step = (size_t)region_cells(r);
    const int i = cell % r->w, j = cell / r->w;
    return (box){(i + p[at]) / r->w, (j + p[at + step]) / r->h,
                 exp(p[at + 2 * step]) * r->anchors[2 * anchor] / r->w,
                 exp(p[at + 3 * step]) * r->anchors[2 * anchor + 1] / r->h};
}
/* An anchor in the middle of a cell. */
SCALAR box region_prior(const region_rules *r, int anchor, int cell)
{
    const real *size = r->anchors + 2 * anchor;
    return (box){(cell % r->w + (real).5) / r->w, (cell / r->w + (real).5) / r->h, size[0] / r->w,
                 size[1] / r->h};
}

/* ---- single values; `at` is the first of an anchor in a cell */
SCALAR void region_pull_square(const region_image *im, size_t at, real target, real weight)
{
    dn_pull_value(&im->a, at, target, weight);
    if (im->r->alexeyab) im->a.delta[at] *= logistic_gradient(im->a.p[at]);
}
SCALAR real region_log(real p) { return log(p > FLT_MIN ? p : FLT_MIN); }
/* Softmax over the entries [first, end) of an anchor: cross-entropy with a one at `target`. */
SCALAR void region_pull_softmax(const region_image *im, size_t at, int first, int end, int target,
                                real weight)
{
    const size_t step = (size_t)region_cells(im->r);
    const int has_focal = im->r->focal_loss && !im->r->parents;
    const real p = im->a.p[at + target * step], focal = has_focal ? dn_focal_weight(p) : 1,
               share = has_focal ? (1 - p) * (1 - p) / 2 : 1;
    for (int e = first; e < end; ++e) {
        im->a.delta[at + e * step] = weight * focal * ((e == target) - im->a.p[at + e * step]);
        im->a.loss[at + e * step] = e == target ? -weight * share * region_log(p) : 0;
    }
}
SCALAR void region_pull_labels(const region_image *im, size_t at, int class_id, real weight)
{
    const region_rules *r = im->r;
    const size_t step = (size_t)region_cells(r), first = at + (r->coords + 1) * step,
                 own = first + class_id * step;
    if (!r->alexeyab && im->a.delta[first] != 0) { /* a second label of the same box */
        dn_pull_logit(&im->a, own, 1, weight);
        return;
    }
    const real focal = r->focal_loss ? dn_focal_weight(im->a.p[own]) : 1;
    for (int c = 0; c < r->classes; ++c) {
        if (r->alexeyab)
            dn_pull_value(&im->a, first + c * step, c == class_id, weight * focal);
        else
            dn_pull_logit(&im->a, first + c * step, c == class_id, weight * focal);
    }
}
SCALAR void region_pull_class(const region_image *im, size_t at, int class_id, real weight)
{
    const region_rules *r = im->r;
    const int first = r->coords + 1;
    if (!r->softmax && !r->parents) {
        region_pull_labels(im, at, class_id, weight);
        return;
    }
    if (!r->parents) {
        region_pull_softmax(im, at, first - r->background, first + r->classes, first + class_id, weight);
        return;
    }
    for (int c = class_id; c >= 0; c = r->parents[c]) {
        const siblings s = dn_siblings_of(r->parents, r->classes, c);
        region_pull_softmax(im, at, first + s.first, first + s.end, first + c, weight);
    }
}
SCALAR void region_pull_objectness(const region_image *im, size_t at, real target, real weight)
{
    const region_rules *r = im->r;
    const size_t own = at + (size_t)r->coords * region_cells(r);
    if (!r->background)
        region_pull_square(im, own, target, weight);
    else if (!r->softmax)
        dn_pull_value(&im->a, own, target == 0, weight);
    else if (target == 0) {
        region_pull_softmax(im, at, r->coords, region_entries(r), r->coords, weight);
    }
}
SCALAR void region_pull_box(const region_image *im, int anchor, int cell, box truth, real weight)
{
    const region_rules *r = im->r;
    const size_t at = region_entry(r, anchor, cell, 0), step = (size_t)region_cells(r);
    const real *size = r->anchors + 2 * anchor;
    region_pull_square(im, at, truth.x * r->w - cell % r->w, weight);
    region_pull_square(im, at + step, truth.y * r->h - cell / r->w, weight);
    dn_pull_value(&im->a, at + 2 * step, log(truth.w * r->w / size[0]), weight);
    dn_pull_value(&im->a, at + 3 * step, log(truth.h * r->h / size[1]), weight);
}

/* ---- every anchor of every cell; `truths` boxes */
SCALAR void region_train_anchor(const region_image *im, int truths, int anchor, int cell)
{
    const region_rules *r = im->r;
    const box pred = region_box(r, im->a.p, anchor, cell);
    const size_t at = region_entry(r, anchor, cell, 0);
    const int fix = r->alexeyab ? r->classfix : 0;
    real best = 0;
    int class_id = -1;
    for (int t = 0; t < truths; ++t) {
        const real *row = im->a.truth + (size_t)t * region_truth_size(r),
                   iou = iou_of(pred, dn_truth_box(row));
        if (iou > best) best = iou, class_id = region_class_of(r, row);
    }
    if (fix == -1)
        region_pull_objectness(im, at, best, r->noobject_scale);
    else if (best <= r->thresh)
        region_pull_objectness(im, at, 0, r->noobject_scale);
    else if (fix > 0) {
        const real objectness = im->a.p[at + (size_t)r->coords * region_cells(r)];
        region_pull_class(im, at, class_id, r->class_scale * (fix == 2 ? objectness : 1));
    }
    if (r->learns_priors) region_pull_box(im, anchor, cell, region_prior(r, anchor, cell), (real).01);
}

/* ---- every truth */
SCALAR int region_best_anchor(const region_image *im, int cell, box truth)
{
    int best = 0;
    real most = 0;
    truth.x = truth.y = 0;
    for (int n = 0; n < im->r->num; ++n) {
        box b = im->r->bias_match ? region_prior(im->r, n, cell) : region_box(im->r, im->a.p, n, cell);
        b.x = b.y = 0;
        const real iou = iou_of(b, truth);
        if (iou > most) most = iou, best = n;
    }
    return best;
}
SCALAR void region_train_match(const region_image *im, int anchor, int cell, const real *row, real iou)
{
    const region_rules *r = im->r;
    const box truth = dn_truth_box(row);
    const size_t at = region_entry(r, anchor, cell, 0), step = (size_t)region_cells(r);
    region_pull_box(im, anchor, cell, truth, r->coord_scale * (r->alexeyab ? 1 : 2 - truth.w * truth.h));
    for (int e = 4; e < r->coords; ++e) dn_pull_value(&im->a, at + e * step, row[e], r->mask_scale);
    region_pull_objectness(im, at, r->rescore && !r->background ? iou : 1, r->object_scale);
    region_pull_class(im, at, region_class_of(r, row), r->class_scale);
}
SCALAR void region_count_match(const region_image *im, int anchor, int cell, real iou)
{
    const real counts[REGION_MATCHES] = {1, iou, im->a.p[region_entry(im->r, anchor, cell, im->r->coords)],
                                         (real)(iou > (real).5)};
    for (int k = 0; k < REGION_MATCHES; ++k) im->matches[k] += counts[k];
}
/* Work of one truth after another: of worker `own` of `all`, who share the cells, so that each cell meets its
 * truths in their order; then `count` says whether to count the matches. */
SCALAR void region_train_truths(const region_image *im, int truths, int own, int all, int count)
{
    const region_rules *r = im->r;
    for (int t = 0; t < truths; ++t) {
        const real *row = im->a.truth + (size_t)t * region_truth_size(r);
        const box truth = dn_truth_box(row);
        const int cell = dn_cell(truth.y, r->h) * r->w + dn_cell(truth.x, r->w), mine = cell % all == own;
        if (!mine && !count) continue;
        const int anchor = region_best_anchor(im, cell, truth);
        const real iou = iou_of(region_box(r, im->a.p, anchor, cell), truth);
        if (count) region_count_match(im, anchor, cell, iou);
        if (mine) region_train_match(im, anchor, cell, row, iou);
    }
}

/* ---- an image of which only a class is known: the anchor that finds it most probable learns it */
/* The first truth that stands for no box; -1: none. */
SCALAR int region_class_only(const region_image *im, int truths)
{
    for (int t = 0; t < truths && im->r->parents; ++t) {
        const real *row = im->a.truth + (size_t)t * region_truth_size(im->r);
        if (dn_class_only(row)) return region_class_of(im->r, row);
    }
    return -1;
}
SCALAR size_t region_place(const region_rules *r, int place)
{
    return region_entry(r, place / region_cells(r), place % region_cells(r), 0);
}
SCALAR void region_deny(const region_image *im, int place)
{
    if (!im->r->alexeyab) region_pull_objectness(im, region_place(im->r, place), 0, im->r->noobject_scale);
}
typedef struct {
    real probability;
    int place;
} region_likeliest;
SCALAR int region_is_likelier(region_likeliest a, region_likeliest b)
{
    return a.probability > b.probability || (a.probability == b.probability && a.place < b.place);
}
/* Of the places own, own + all, ...; the first place where none has a probability above 0. */
SCALAR region_likeliest region_find_class(const region_image *im, int class_id, int own, int all)
{
    const region_rules *r = im->r;
    const size_t step = (size_t)region_cells(r);
    region_likeliest best = {0, 0};
    for (int place = own; place < region_places(r); place += all) {
        const real *p = im->a.p + region_place(r, place);
        real product = p[r->coords * step];
        for (int c = class_id; c >= 0; c = r->parents[c]) product *= p[(r->coords + 1 + c) * step];
        if (product > best.probability) best = (region_likeliest){product, place};
    }
    return best;
}
SCALAR void region_train_class(const region_image *im, int class_id, int place)
{
    const size_t at = region_place(im->r, place), own = at + (size_t)im->r->coords * region_cells(im->r);
    im->a.delta[own] = im->a.loss[own] = 0;
    region_pull_class(im, at, class_id, im->r->class_scale);
}
#endif
