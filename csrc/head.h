/* What the losses of detectors share. A head pulls some of its outputs towards targets; targets and weights
 * are constants of the pass, so that no gradient flows through an IoU that is a target. */
#ifndef DN_HEAD_H
#define DN_HEAD_H
#include "layer.h"
#include "boxes.h"

/* The arrays of one image: z the head's input, p its output. */
typedef struct {
    const real *z, *p, *truth;
    real *delta, *loss;
} head_image;

real dn_logit_loss(real z, real target); /* -t log p - (1 - t) log(1 - p) at p = logistic(z) */
/* p = logistic(z): loss weight * dn_logit_loss, delta weight (t - p). */
void dn_pull_logit(const head_image *im, size_t at, real target, real weight);
/* p = z: loss weight / 2 (t - p)^2, delta weight (t - p). */
void dn_pull_value(const head_image *im, size_t at, real target, real weight);
/* The weight of a focal loss with alpha 1/2 and gamma 2 at the true class's probability p: what (t - p) of
 * the cross-entropy is multiplied by (arXiv:1708.02002). */
real dn_focal_weight(real p);

/* Boxes of an image's truth: rows of x, y, w, h, ..., the class in column `class_at`; x = 0 ends them. */
typedef struct {
    int most, size, class_at, classes; /* rows, values of a row, classes that it may name */
    int class_only;                    /* x and y beyond 100000 stand for "no box, only a class" (yolo9000) */
} truth_rows;
int dn_count_truth(const truth_rows *r, const real *truth);
box dn_truth_box(const real *row);
int dn_only_class(const truth_rows *r, const real *row);
dn_status dn_check_truth(const layer *l, const truth_rows *r, const real *truth);

int dn_cell(real position, int cells); /* of a position in 0..1; 1 belongs to the last cell */
int dn_mapped(const int_list *map, int class_id);
dn_status dn_check_classes(const layer *l, const int_list *map, int classes, int names);
double dn_sum_of_squares(const layer *l, network *net, const real *delta);
/* Room for a second loss, beside one whose delta others have added to; its size as a layer's workspace. */
dn_status dn_head_work(layer *l, network *net, real **delta, real **loss);
size_t dn_head_workspace(const layer *l);
#endif
