/* The overlaps of overlap.h by their names. */
#include "overlap.h"

real box_intersection(box a, box b) { return intersection_of(a, b); }
real box_union(box a, box b) { return union_of(a, b); }
real box_iou(box a, box b) { return iou_of(a, b); }
real box_giou(box a, box b) { return giou_of(a, b); }
real box_diou(box a, box b) { return diou_of(a, b); }
real box_ciou(box a, box b) { return ciou_of(a, b); }
real box_diounms(box a, box b, real beta) { return diounms_of(a, b, beta); }
real box_rmse(box a, box b) { return rmse_of(a, b); }
real box_overlap(box a, box b, int kind) { return overlap_of(a, b, kind); }
box box_overlap_gradient(box a, box b, int kind) { return overlap_gradient_of(a, b, kind); }
