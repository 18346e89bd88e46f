/* Who learns what in [detection], of one image: see detection_layer.c, which has it in words. gcc and nvcc
 * compile this file. */
#ifndef DN_DETECTION_RULES_H
#define DN_DETECTION_RULES_H
#include "pull.h"
#include "random.h"
#include "scalar.h"
#include <float.h>

/* ---- where values stand: first all cells' classes, then their objectness, then their boxes */
SCALAR int detection_cells(const detection_rules *r) { return r->side * r->side; }
SCALAR size_t detection_outputs(const detection_rules *r)
{
    return (size_t)detection_cells(r) * (r->classes + 5 * r->num);
}
SCALAR size_t detection_class_at(const detection_rules *r, int cell) { return (size_t)cell * r->classes; }
SCALAR size_t detection_objectness_at(const detection_rules *r, int cell, int n)
{
    return (size_t)detection_cells(r) * r->classes + (size_t)cell * r->num + n;
}
SCALAR size_t detection_box_at(const detection_rules *r, int cell, int n)
{
    return (size_t)detection_cells(r) * (r->classes + r->num) + ((size_t)cell * r->num + n) * 4;
}
/* Of a cell's row: 1 or 0, classes, a box. */
SCALAR int detection_truth_size(const detection_rules *r) { return 1 + r->classes + 4; }
/* In shares of the image, from the corner of the box's own cell on. */
SCALAR box detection_box(const detection_rules *r, const real *p, int root)
{
    return (box){p[0] / r->side, p[1] / r->side, root ? p[2] * p[2] : p[2], root ? p[3] * p[3] : p[3]};
}

/* ---- the loss of one cell */
SCALAR int detection_best_box(const detection_rules *r, const head_image *im, int cell, box truth)
{
    int best = 0;
    real most = 0, least = FLT_MAX;
    for (int n = 0; n < r->num; ++n) {
        const box b = detection_box(r, im->p + detection_box_at(r, cell, n), r->root);
        const real iou = iou_of(b, truth), distance = rmse_of(b, truth);
        if (iou > most) most = iou, best = n;
        if (most == 0 && distance < least) least = distance, best = n;
    }
    return best;
}
SCALAR int detection_chosen(const detection_rules *r, const head_image *im, int image, int cell, box truth)
{
    if (r->draws) {
        const uint64_t row = r->first_row + (uint64_t)image;
        const dn_random4 bits = dn_random(r->seed, r->purpose, row, (uint32_t)cell);
        return dn_uniform_int(bits.v[0], 0, r->num - 1);
    }
    if (!r->forced) return detection_best_box(r, im, cell, truth);
    return truth.w * truth.h < (real).1 && r->num > 1;
}
SCALAR void detection_pull_classes(const detection_rules *r, const head_image *im, int cell,
                                   const real *truth)
{
    const size_t at = detection_class_at(r, cell);
    for (int c = 0; c < r->classes; ++c) {
        dn_pull_value(im, at + c, truth[c], r->class_scale);
        if (!r->softmax) continue;
        const real p = im->p[at + c] > FLT_MIN ? im->p[at + c] : FLT_MIN;
        im->loss[at + c] = truth[c] != 0 ? -r->class_scale * truth[c] * log(p) : 0;
    }
}
SCALAR void detection_train_cell(const detection_rules *r, const head_image *im, int image, int cell)
{
    const real *row = im->truth + (size_t)cell * detection_truth_size(r), *place = row + 1 + r->classes;
    for (int n = 0; n < r->num; ++n) {
        dn_pull_value(im, detection_objectness_at(r, cell, n), 0, r->noobject_scale);
    }
    if (row[0] == 0) return;
    detection_pull_classes(r, im, cell, row + 1);
    const box truth = detection_box(r, place, 0);
    const int best = detection_chosen(r, im, image, cell, truth);
    const size_t at = detection_box_at(r, cell, best);
    const real iou = iou_of(detection_box(r, im->p + at, r->root), truth);
    dn_pull_value(im, detection_objectness_at(r, cell, best), r->rescore ? iou : 1, r->object_scale);
    for (int k = 0; k < 4; ++k) {
        const real target = r->root && k > 1 ? sqrt(place[k]) : place[k];
        dn_pull_value(im, at + k, target, r->coord_scale);
    }
}
SCALAR head_image detection_image(const detection_rules *r, const real *p, const real *truth, real *delta,
                                  real *loss, int image)
{
    const size_t at = image * detection_outputs(r),
                 rows = (size_t)image * detection_cells(r) * detection_truth_size(r);
    return (head_image){NULL, p + at, truth + rows, delta + at, loss + at};
}
#endif
