/* The passes, options and detections that [yolo] and [Gaussian_yolo] share. Who learns what towards what:
 * yolo_rules.h. The printed cost is the sum of squares of delta, as Darknet's. */
#include "yolo_head.h"
#include <float.h>
#include <stdlib.h>

static dn_shape shape_matches(const layer *l) { return dn_dims(2, l->batch, YOLO_MATCHES, 0, 0); }
const array_spec yolo_head_rows[] = {
    ARRAY(yolo_head, loss, "loss", shape_output, ACTIVATION, TRAIN_ONLY),
    ARRAY(yolo_head, matches, "matches", shape_matches, ACTIVATION, TRAIN_ONLY),
    END_OF_ARRAYS,
};

/* What the kernels are told. */
yolo_rules yolo_rules_of(const yolo_head *self)
{
    const layer *l = &self->base;
    yolo_rules r = self->r;
    r.batch = l->batch;
    r.h = l->h;
    r.w = l->w;
    r.slots = self->mask.n ? self->mask.n : r.num;
    r.names = self->map.n;
    r.anchors = self->anchors.values;
    r.counters_per_class = self->counters_per_class.n ? self->counters_per_class.values : NULL;
    r.mask = self->mask.n ? self->mask.values : NULL;
    r.map = self->map.n ? self->map.values : NULL;
    return r;
}
static dn_status check_truth(const layer *l, const real *truth)
{
    const yolo_head *self = (const yolo_head *)l;
    const int named = self->map.n ? self->map.n : self->r.classes;
    const truth_rows rows = {
        .most = self->r.max, .size = yolo_truth_size(&self->r), .class_at = 4, .classes = named};
    return dn_check_boxes(l, &rows, truth);
}
int yolo_box_size(const layer *l) { return yolo_truth_size(&((const yolo_head *)l)->r); }

/* ---- the loss: of the last forward pass's truth */
static void train(const layer *l, network *net, real *delta, real *loss)
{
    const yolo_head *self = (const yolo_head *)l;
    const yolo_rules r = yolo_rules_of(self);
    net->k->fill(l->batch * l->outputs, 0, delta, 1);
    net->k->fill(l->batch * l->outputs, 0, loss, 1);
    net->k->fill(l->batch * YOLO_MATCHES, 0, self->matches, 1);
    net->k->yolo_train(&r, l->x, l->output, l->truth, delta, loss, self->matches);
}

/* AlexeyAB's show_details=1 prints iou_normalizer times the mean of 1 - IoU over the matches (giou: 1 -
 * GIoU), and obj_normalizer times the squared delta of all but the boxes. */
static double detailed_cost(const yolo_rules *r, const real *delta, const real *matches)
{
    double squares = 0, count = 0, overlap = 0;
    for (size_t at = 0; at < r->batch * yolo_outputs(r); ++at) {
        if ((int)(at / yolo_area(r) % yolo_entries(r)) >= r->coords) squares += (double)delta[at] * delta[at];
    }
    for (int b = 0; b < r->batch; ++b) {
        count += matches[b * YOLO_MATCHES];
        overlap += matches[b * YOLO_MATCHES + (r->iou_loss == GIOU ? 5 : 1)];
    }
    return (count ? r->iou_normalizer * (count - overlap) / count : 0) + r->obj_normalizer * squares;
}
static dn_status find_cost(layer *l, network *net)
{
    const yolo_head *self = (const yolo_head *)l;
    const yolo_rules r = yolo_rules_of(self);
    if (!self->show_details || r.iou_loss == MSE || r.coords != 4) {
        dn_find_cost(l, net, net->k->sum_squares, l->delta);
        return DN_OK;
    }
    real *delta, *matches = NULL;
    dn_status status = dn_host_copy(net->device, l->delta, (size_t)l->batch * l->outputs, &delta);
    if (status == DN_OK)
        status = dn_host_copy(net->device, self->matches, (size_t)l->batch * YOLO_MATCHES, &matches);
    if (status == DN_OK) l->cost = detailed_cost(&r, delta, matches);
    free(delta);
    free(matches);
    return status;
}

/* ---- the passes */
dn_status yolo_head_forward(layer *l, network *net)
{
    yolo_head *self = (yolo_head *)l;
    const yolo_rules r = yolo_rules_of(self);
    net->k->yolo_activate(&r, net->input, l->output);
    self->r.net_w = net->w;
    self->r.net_h = net->h;
    if (!net->truth || !l->delta) return DN_OK;
    if (net->w < 1) {
        return dn_fail(DN_ERR_ARGUMENT,
                       "[%s] needs a network with a width and a height: its anchors are in their pixels",
                       l->ops->name);
    }
    const dn_status status = dn_check_truth(l, net, check_truth);
    if (status != DN_OK) return status;
    train(l, net, l->delta, self->loss);
    l->has_cost = 1;
    return find_cost(l, net);
}
/* What consumers of the output sent goes through the activations; the loss's part is a delta at the input,
 * but for the boxes of [Gaussian_yolo]. */
dn_status yolo_head_backward(layer *l, network *net)
{
    const yolo_rules r = yolo_rules_of((const yolo_head *)l);
    const kernels *k = net->k;
    const delta_sink sink = input_sink(net);
    const int all = l->batch * l->outputs, others = !l->has_cost || l->delta_live;
    real *delta, *loss;
    if (!sink.to) return DN_OK;
    if (others) {
        k->yolo_gradient(&r, l->output, 0, l->delta);
        k->pass_delta(all, 1, l->delta, sink.add, sink.to);
    }
    if (!l->has_cost) return DN_OK;
    if (dn_head_work(l, net, &delta, &loss) != DN_OK) return DN_ERR_MEMORY;
    if (others)
        train(l, net, delta, loss);
    else
        k->copy(all, l->delta, 1, delta, 1);
    if (r.coords == 8) k->yolo_gradient(&r, l->output, 1, delta);
    k->pass_delta(all, 1, delta, others || sink.add, sink.to);
    return DN_OK;
}

/* ---- options */
static int slot_of(const yolo_rules *r, int anchor)
{
    for (int slot = 0; slot < r->slots; ++slot) {
        if (yolo_anchor(r, slot) == anchor) return slot;
    }
    return -1;
}
static dn_status check_lists(const yolo_head *self)
{
    const yolo_rules r = yolo_rules_of(self);
    const char *name = self->base.ops->name;
    const real_list *counts = &self->counters_per_class;
    if (self->anchors.n != 2 * r.num) {
        return dn_fail_option("anchors", "[%s] anchors: %d numbers, wanted width and height of num=%d", name,
                              self->anchors.n, r.num);
    }
    for (int i = 0; i < self->anchors.n; ++i) {
        if (self->anchors.values[i] > 0) continue;
        return dn_fail_option("anchors", "[%s] anchors: %g: wanted more than 0", name,
                              (double)self->anchors.values[i]);
    }
    for (int i = 0; i < self->mask.n; ++i) {
        const int value = self->mask.values[i];
        if (value >= 0 && value < r.num && slot_of(&r, value) == i) continue;
        return dn_fail_option("mask", "[%s] mask: anchor %d: wanted 0 to %d, each once", name, value,
                              r.num - 1);
    }
    if (counts->n && counts->n != r.classes) {
        return dn_fail_option("counters_per_class", "[%s] counters_per_class: %d numbers for %d classes",
                              name, counts->n, r.classes);
    }
    for (int i = 0; i < counts->n; ++i) {
        if (counts->values[i] >= 0) continue;
        return dn_fail_option("counters_per_class", "[%s] counters_per_class: %g: wanted 0 or more", name,
                              (double)counts->values[i]);
    }
    return DN_OK;
}
dn_status yolo_head_shape(layer *l, network *net, int coords)
{
    yolo_head *self = (yolo_head *)l;
    yolo_rules *own = &self->r;
    own->coords = coords;
    if (net) own->net_w = net->w, own->net_h = net->h;
    dn_status status = dn_require_image(l);
    if (status == DN_OK) status = dn_check_classes(l, &self->map, own->classes, 0);
    if (status == DN_OK) status = dn_option_in(l, "num", own->num, 1, 1 << 20);
    if (status == DN_OK) status = dn_option_in(l, "max", own->max, 1, 1 << 24);
    if (status == DN_OK) status = dn_option_in(l, "scale_x_y", own->scale_x_y, FLT_MIN, FLT_MAX);
    if (status == DN_OK) status = dn_option_in(l, "iou_loss", own->iou_loss, 0, IOU_KINDS - 1);
    if (status == DN_OK) status = dn_option_in(l, "iou_thresh_kind", own->iou_thresh_kind, 0, IOU_KINDS - 1);
    if (status == DN_OK) status = dn_option_in(l, "yolo_point", own->yolo_point, 0, YOLO_POINTS - 1);
    if (status == DN_OK) status = check_lists(self);
    if (status != DN_OK) return status;
    const yolo_rules r = yolo_rules_of(self);
    const int64_t wanted = (int64_t)r.slots * (coords + 1 + r.classes);
    if (l->c != wanted) {
        return dn_fail_option("classes",
                              "[%s] has an input of %d channels: wanted %lld = %d anchors * (%d + 1 + %d "
                              "classes)",
                              l->ops->name, l->c, (long long)wanted, r.slots, coords, r.classes);
    }
    l->truths = r.max * yolo_truth_size(&r);
    return dn_set_output(l, l->h, l->w, l->c);
}

/* ---- boxes out */
int yolo_head_detections(const layer *l, int row, real thresh, real *rows,
                         real (*certainty)(const real *p, size_t at, int area))
{
    const yolo_rules r = yolo_rules_of((const yolo_head *)l);
    const real *p = l->output + (size_t)row * l->outputs;
    int found = 0;
    for (int slot = 0; slot < r.slots; ++slot) {
        for (int cell = 0; cell < yolo_area(&r); ++cell) {
            const int i = cell % l->w, j = cell / l->w;
            const size_t at = yolo_entry(&r, slot, i, j), step = (size_t)yolo_area(&r);
            const real objectness = p[at + r.coords * step];
            if (!(objectness > thresh)) continue;
            ++found;
            if (!rows) continue;
            const box b = yolo_box(&r, p, slot, i, j);
            const real sure = objectness * (certainty ? certainty(p, at, yolo_area(&r)) : 1);
            const real head[] = {b.x, b.y, b.w, b.h, objectness};
            for (int k = 0; k < 5; ++k) *rows++ = head[k];
            for (int c = 0; c < r.classes; ++c) {
                const real probability = sure * p[at + (r.coords + 1 + c) * step];
                *rows++ = probability > thresh ? probability : 0;
            }
        }
    }
    return found;
}
