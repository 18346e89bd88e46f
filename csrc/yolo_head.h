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

extern const array_spec yolo_head_rows[];
yolo_rules yolo_rules_of(const yolo_head *self);
truth_rows yolo_truth_rows(const yolo_head *self);
int yolo_box_size(const layer *l);
dn_status yolo_head_shape(layer *l, network *net, int coords);
dn_status yolo_head_forward(layer *l, network *net);
dn_status yolo_head_backward(layer *l, network *net);
int yolo_head_detections(const layer *l, int row, real thresh, real *rows,
                         real (*certainty)(const real *p, size_t at, int area));
#endif
