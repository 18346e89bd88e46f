/* Labels and formulas of [contrastive]; contrastive_layer.c has them in words. gcc and nvcc compile this
 * file. */
#ifndef DN_CONTRASTIVE_RULES_H
#define DN_CONTRASTIVE_RULES_H
#include "yolo_rules.h"

/* ---- places: the embedding at place p has `size` values, one in every plane of its map */
SCALAR int contrastive_places(const contrastive_rules *r) { return r->batch * r->anchors * r->cells; }
SCALAR size_t contrastive_first_value(const contrastive_rules *r, int p)
{
    return (size_t)(p / r->cells) * r->size * r->cells + p % r->cells;
}

/* ---- labels */
/* Of one image next to a [yolo], by its first `truths` boxes in their order: an anchor that learns from
 * several has the last one's. Worker `own` of `all` has the cells whose number modulo `all` is its own. */
SCALAR void contrastive_label_image(const yolo_rules *r, const real *truth, int truths, int own, int all,
                                    real *labels, real *kinds)
{
    const int size = yolo_truth_size(r);
    for (int t = 0; t < truths; ++t) {
        const real *row = truth + (size_t)t * size;
        int i, j;
        yolo_point_cell(r, dn_truth_box(row), &i, &j);
        const int cell = j * r->w + i;
        for (int slot = 0; slot < r->slots && cell % all == own; ++slot) {
            if (!yolo_learns(r, dn_truth_box(row), slot)) continue;
            labels[slot * yolo_area(r) + cell] = row[size - 1];
            kinds[slot * yolo_area(r) + cell] = yolo_class_of(r, row);
        }
    }
}
/* Of a whole image; without a class it shows the same thing as the one it makes a pair with. */
SCALAR real contrastive_label_of(const real *row, int classes, int image)
{
    int best = 0;
    for (int c = 1; c < classes; ++c) best = row[c] > row[best] ? c : best;
    return row[best] > 0 ? best : classes + image / 2;
}

/* ---- the loss of one sample, given what it is compared with */
SCALAR real contrastive_cosine(const real *a, const real *b, int n)
{
    double sum = 0;
    for (int e = 0; e < n; ++e) sum += (double)a[e] * b[e];
    return (real)sum;
}
/* zero points nowhere: no gradient */
SCALAR real contrastive_inverse(double squares) { return squares > 0 ? (real)(1 / sqrt(squares)) : 0; }
/* most: the largest cosine with the others; sum: of e_ik / e^(most / t), which does not overflow; same: how
 * many are alike; pulled: the sum of their shares */
typedef struct {
    real most, sum, pulled;
    int same;
} contrastive_sums;
SCALAR real contrastive_term(const contrastive_rules *r, real most, real cosine)
{
    return exp((cosine - most) / r->temperature);
}
/* x of the loss log(1 + exp(x)) */
SCALAR real contrastive_excess(const contrastive_rules *r, const contrastive_sums *s, real cosine)
{
    return log(s->sum) + (s->most - cosine) / r->temperature;
}
SCALAR real contrastive_loss(const contrastive_rules *r, const contrastive_sums *s, real cosine)
{
    return r->cls_normalizer / s->same * dn_logit_loss(contrastive_excess(r, s, cosine), 0);
}
SCALAR real contrastive_share(const contrastive_rules *r, const contrastive_sums *s, real cosine)
{
    return r->cls_normalizer / s->same * logistic_activate(contrastive_excess(r, s, cosine));
}
/* -d loss / d cosine with one of the others. */
SCALAR real contrastive_push(const contrastive_rules *r, const contrastive_sums *s, real cosine)
{
    return -s->pulled / r->temperature * contrastive_term(r, s->most, cosine) / s->sum;
}
/* pull * d cosine / d one value of an embedding: its own direction there, and the other's */
SCALAR real contrastive_slope(real pull, real inverse, real cosine, real own, real other)
{
    return pull * inverse * (other - cosine * own);
}
SCALAR real contrastive_limited(real delta, real most) { return fmin(fmax(delta, -most), most); }
#endif
