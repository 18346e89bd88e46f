/* What the losses of detectors share, on one image. A head pulls some of its outputs towards targets;
 * targets and weights are constants of the pass, so that no gradient flows through an IoU that is a target.
 * gcc and nvcc compile this file. */
#ifndef DN_PULL_H
#define DN_PULL_H
#include "overlap.h"
#include <stddef.h>

/* The arrays of one image: z the head's input, p its output. */
typedef struct {
    const real *z, *p, *truth;
    real *delta, *loss;
} head_image;
/* Those of another image, given the first's, so many values and values of truth before it. */
SCALAR head_image dn_image_at(const head_image *a, size_t values, size_t truth)
{
    return (head_image){a->z + values, a->p + values, a->truth + truth, a->delta + values, a->loss + values};
}

/* -t log p - (1 - t) log(1 - p) at p = logistic(z) */
SCALAR real dn_logit_loss(real z, real target)
{
    return (z > 0 ? z : 0) + log1p(exp(z > 0 ? -z : z)) - target * z;
}
/* p = logistic(z): loss weight * dn_logit_loss, delta weight (t - p). */
SCALAR void dn_pull_logit(const head_image *im, size_t at, real target, real weight)
{
    im->delta[at] = weight * (target - im->p[at]);
    im->loss[at] = weight * dn_logit_loss(im->z[at], target);
}
/* p = z: loss weight / 2 (t - p)^2, delta weight (t - p). */
SCALAR void dn_pull_value(const head_image *im, size_t at, real target, real weight)
{
    const real d = target - im->p[at];
    im->delta[at] = weight * d;
    im->loss[at] = weight * d * d / 2;
}
/* The weight of a focal loss with alpha 1/2 and gamma 2 at the true class's probability p: what (t - p) of
 * the cross-entropy is multiplied by (arXiv:1708.02002). */
SCALAR real dn_focal_weight(real p)
{
    p += (real)1e-15;
    return (1 - p) * (1 - p - 2 * p * log(p)) / 2;
}

/* ---- the truth: rows that begin with x, y, w, h; x = 0 ends them */
SCALAR box dn_truth_box(const real *row) { return (box){row[0], row[1], row[2], row[3]}; }
SCALAR int dn_count_rows(const real *truth, int most, int size)
{
    int n = 0;
    while (n < most && truth[(size_t)n * size] != 0) ++n;
    return n;
}
/* "No box, only a class" (yolo9000). */
SCALAR int dn_class_only(const real *row) { return row[0] > 100000 && row[1] > 100000; }
/* The cell of a position in 0..1; 1 belongs to the last. */
SCALAR int dn_cell(real position, int cells)
{
    const int cell = (int)(position * cells);
    return cell < 0 ? 0 : cell < cells ? cell : cells - 1;
}
#endif
