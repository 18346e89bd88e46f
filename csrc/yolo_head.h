/* The part of [yolo] and [Gaussian_yolo] that is the same: which anchors of which cells learn from which
 * boxes, objectness and classes. Anchor n of the grid has planes of h x w values: the box's, objectness,
 * classes. */
#ifndef DN_YOLO_HEAD_H
#define DN_YOLO_HEAD_H
#include "head.h"

enum { MATCHES = 6 }; /* per image: boxes matched, sums of their IoU, objectness, IoU > .5 and > .75, GIoU */
typedef enum { CENTER, LEFT_TOP, RIGHT_BOTTOM, YOLO_POINTS } YOLO_POINT;
typedef struct yolo_boxes yolo_boxes;
typedef struct {
    layer base;
    const yolo_boxes *boxes;
    int classes, num, max, alexeyab, objectness_smooth, focal_loss, iou_loss, iou_thresh_kind, show_details,
        new_coords, yolo_point;
    real ignore_thresh, truth_thresh, iou_thresh, max_delta, label_smooth_eps, scale_x_y, iou_normalizer,
        obj_normalizer, cls_normalizer, uc_normalizer;
    int_list mask, map;
    real_list anchors, counters_per_class;
    int net_w, net_h; /* anchors are in pixels of the network's input */
    real *loss, *matches;
} yolo_head;

/* One image at work. */
typedef struct {
    const yolo_head *self;
    head_image a;
    real *matches;
} yolo_image;

/* What the two do differently. `slot` is the place of an anchor in the mask, `at` the index of its first
 * value. */
struct yolo_boxes {
    int coords; /* values of a box */
    box (*decode)(const yolo_head *self, const real *p, int slot, int i, int j);
    void (*pull)(const yolo_image *im, int slot, int i, int j, box truth, real weight);
    /* All boxes' loss deltas from p to the input, in place; NULL: they are there already. */
    void (*through)(const yolo_head *self, const real *p, real *d);
};

extern const array_spec yolo_head_rows[];
int yolo_slots(const yolo_head *self);
int yolo_anchor(const yolo_head *self, int slot);
real yolo_anchor_w(const yolo_head *self, int anchor); /* shares of the network's input */
real yolo_anchor_h(const yolo_head *self, int anchor);
size_t yolo_entry(const yolo_head *self, int slot, int i, int j); /* of the first of its values, per image */
void yolo_point_cell(const yolo_head *self, box truth, int *i, int *j);
int yolo_learns(const yolo_head *self, box truth, int slot); /* that anchor, in the cell of the truth */
truth_rows yolo_truth_rows(const yolo_head *self);
int yolo_box_size(const layer *l);
/* Loss -weight * overlap of the kind iou_loss, added at `where[]`: the four values of the box. by: d(box) by
 * each of them. */
void yolo_pull_overlap(const yolo_image *im, const size_t where[4], box pred, box truth, const box by[4],
                       int anchor, real weight);

dn_status yolo_head_shape(layer *l, network *net, const yolo_boxes *boxes);
dn_status yolo_head_loss(layer *l, network *net);
dn_status yolo_head_backward(layer *l, network *net, void (*gradient)(const layer *l, network *net));
int yolo_head_detections(const layer *l, int row, real thresh, real *rows,
                         real (*certainty)(const real *p, size_t at, int area));
#endif
