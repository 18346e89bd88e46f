/* What [yolo] and [Gaussian_yolo] share. */
#ifndef DN_YOLO_HEAD_H
#define DN_YOLO_HEAD_H
#include "head.h"
#include "yolo_rules.h"

typedef struct {
    layer base;
    yolo_rules r; /* its shape and lists are those of yolo_rules_of() */
    int show_details;
    int_list mask, map;
    real_list anchors, counters_per_class;
    real *loss, *matches;
} yolo_head;
#define YOLO_OPTION(name, KIND) OPTION(yolo_head, #name, r.name, KIND)
#define YOLO_LIST(name, KIND) OPTION(yolo_head, #name, name, KIND)
/* Those that both have. */
#define YOLO_HEAD_OPTIONS \
    YOLO_OPTION(classes, INT), YOLO_OPTION(num, INT), YOLO_OPTION(max, INT), YOLO_LIST(mask, LIST), \
        YOLO_LIST(map, LIST), YOLO_LIST(anchors, REALS), YOLO_LIST(counters_per_class, REALS), \
        YOLO_OPTION(alexeyab, INT), YOLO_OPTION(objectness_smooth, INT), YOLO_OPTION(iou_loss, INT), \
        YOLO_OPTION(iou_thresh_kind, INT), YOLO_OPTION(ignore_thresh, REAL), \
        YOLO_OPTION(truth_thresh, REAL), YOLO_OPTION(iou_thresh, REAL), YOLO_OPTION(max_delta, REAL), \
        YOLO_OPTION(label_smooth_eps, REAL), YOLO_OPTION(scale_x_y, REAL), \
        YOLO_OPTION(iou_normalizer, REAL), YOLO_OPTION(obj_normalizer, REAL), \
        YOLO_OPTION(cls_normalizer, REAL)

extern const array_spec yolo_head_rows[];
yolo_rules yolo_rules_of(const yolo_head *self);
int yolo_box_size(const layer *l);
dn_status yolo_head_shape(layer *l, network *net, int coords);
dn_status yolo_head_forward(layer *l, network *net);
dn_status yolo_head_backward(layer *l, network *net);
int yolo_head_detections(const layer *l, int row, real thresh, real *rows,
                         real (*certainty)(const real *p, size_t at, int area));
#endif
