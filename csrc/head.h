/* What heads of detectors share beside pull.h. */
#ifndef DN_HEAD_H
#define DN_HEAD_H
#include "layer.h"
#include "pull.h"

/* Boxes of an image's truth: rows of x, y, w, h, ..., the class in column `class_at`; x = 0 ends them. */
typedef struct {
    int most, size, class_at, classes; /* rows, values of a row, classes that it may name */
    int class_only;                    /* x and y beyond 100000 stand for no box: dn_class_only() */
} truth_rows;
dn_status dn_check_boxes(const layer *l, const truth_rows *r, const real *truth);
/* check(l, truth) of the pass's truth, in the host's memory wherever the network runs. */
dn_status dn_check_truth(const layer *l, const network *net,
                         dn_status (*check)(const layer *l, const real *truth));

dn_status dn_check_classes(const layer *l, const int_list *map, int classes, int names);
/* Room for a second loss, beside one whose delta others have added to; its size as a layer's workspace. */
dn_status dn_head_work(layer *l, network *net, real **delta, real **loss);
size_t dn_head_workspace(const layer *l);
#endif
