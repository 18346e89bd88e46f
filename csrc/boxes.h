/* Boxes: how much two of them overlap, and how that changes with the first one. x and y are the centre; all
 * four in one unit, such as shares of the image. */
#ifndef DN_BOXES_H
#define DN_BOXES_H
#include "real.h"

typedef struct {
    real x, y, w, h;
} box;

/* MSE: not a measure of overlap, but the loss of boxes that has none. */
typedef enum { MSE, IOU, GIOU, DIOU, CIOU, IOU_KINDS } IOU_KIND;

real box_intersection(box a, box b);
real box_union(box a, box b);
real box_iou(box a, box b);
real box_giou(box a, box b);
real box_diou(box a, box b);
real box_ciou(box a, box b);
real box_diounms(box a, box b, real beta);
real box_rmse(box a, box b);
real box_overlap(box a, box b, int kind);         /* an IOU_KIND; MSE: IoU */
box box_overlap_gradient(box a, box b, int kind); /* its derivatives by a.x, a.y, a.w, a.h */
#endif
