/* [detection]: the head of YOLOv1 (arXiv:1506.02640), a grid of side x side cells with num boxes each.
 *
 * A row of the input holds, each cell by cell,
 *   the classes                 `classes` values; softmax=1: the output has their softmax
 *   the objectness              `num` values
 *   the boxes                   `num` times x, y, w, h: x, y in cells from the cell's corner, w, h in shares
 *                               of the image (sqrt=1: their square roots)
 * and is the output too. A truth has for each cell 1 where an object's centre lies in it, its classes, and
 * its x, y, w, h.
 *
 * Losses m / 2 (t - p)^2, with delta m (t - p):
 *   objectness of every box     towards 0, m = noobject_scale
 * and in a cell with an object
 *   classes                     m = class_scale (softmax=1: the cross-entropy, which has the same delta)
 *   objectness of its box       towards 1, or with rescore=1 its IoU with the truth; m = object_scale
 *   its box                     m = coord_scale
 * where "its box" is that of the highest IoU, or if none meets the truth, of the least distance; forced=1:
 * the second for objects below a tenth of the image, else the first; random=1: any, while seen < 64000.
 * The cost is the sum of squares of delta. */
#include "head.h"
#include "random.h"
#include <float.h>
#include <tgmath.h>

#define RANDOM_SEEN 64000
typedef struct {
    layer base;
    int classes, coords, num, side, softmax, rescore, root, forced;
    real coord_scale, object_scale, noobject_scale, class_scale, random;
    real *loss;
    uint64_t seen, seed; /* of the network in the last forward pass */
} detection_layer;
#define SELF(l) const detection_layer *self = (const detection_layer *)(l)

static const option_spec detection_options[] = {
    OPTION(detection_layer, "classes", classes, INT),
    OPTION(detection_layer, "coords", coords, INT),
    OPTION(detection_layer, "num", num, INT),
    OPTION(detection_layer, "side", side, INT),
    OPTION(detection_layer, "softmax", softmax, INT),
    OPTION(detection_layer, "rescore", rescore, INT),
    OPTION(detection_layer, "sqrt", root, INT),
    OPTION(detection_layer, "forced", forced, INT),
    OPTION(detection_layer, "random", random, REAL),
    OPTION(detection_layer, "coord_scale", coord_scale, REAL),
    OPTION(detection_layer, "object_scale", object_scale, REAL),
    OPTION(detection_layer, "noobject_scale", noobject_scale, REAL),
    OPTION(detection_layer, "class_scale", class_scale, REAL),
    END_OF_OPTIONS,
};
static const array_spec detection_rows[] = {
    ARRAY(detection_layer, loss, "loss", shape_output, ACTIVATION, TRAIN_ONLY), END_OF_ARRAYS};

/* ---- where values stand */
static int cells(const detection_layer *self) { return self->side * self->side; }
static size_t class_at(const detection_layer *self, int cell) { return (size_t)cell * self->classes; }
static size_t objectness_at(const detection_layer *self, int cell, int n)
{
    return (size_t)cells(self) * self->classes + (size_t)cell * self->num + n;
}
static size_t box_at(const detection_layer *self, int cell, int n)
{
    return (size_t)cells(self) * (self->classes + self->num) + ((size_t)cell * self->num + n) * 4;
}
static int truth_size(const detection_layer *self) { return 1 + self->classes + 4; }
/* In shares of the image, from the corner of the box's own cell on. */
static box box_of(const detection_layer *self, const real *p, int root)
{
    return (box){p[0] / self->side, p[1] / self->side, root ? p[2] * p[2] : p[2], root ? p[3] * p[3] : p[3]};
}

/* ---- the loss */
static int responsible(const detection_layer *self, const head_image *im, int cell, box truth)
{
    int best = 0;
    real most = 0, least = FLT_MAX;
    for (int n = 0; n < self->num; ++n) {
        const box b = box_of(self, im->p + box_at(self, cell, n), self->root);
        const real iou = box_iou(b, truth), distance = box_rmse(b, truth);
        if (iou > most) most = iou, best = n;
        if (most == 0 && distance < least) least = distance, best = n;
    }
    return best;
}
static int chosen(const detection_layer *self, const head_image *im, int image, int cell, box truth)
{
    if (self->random != 0 && self->seen < RANDOM_SEEN) {
        const dn_random4 bits = dn_random(self->seed, DN_RANDOM_LAYER(DN_RANDOM_BOX, self->base.index),
                                          self->seen + (uint64_t)image, (uint32_t)cell);
        return dn_uniform_int(bits.v[0], 0, self->num - 1);
    }
    if (!self->forced) return responsible(self, im, cell, truth);
    return truth.w * truth.h < (real).1 && self->num > 1;
}
static void pull_classes(const detection_layer *self, const head_image *im, int cell, const real *truth)
{
    const size_t at = class_at(self, cell);
    for (int c = 0; c < self->classes; ++c) {
        dn_pull_value(im, at + c, truth[c], self->class_scale);
        if (!self->softmax) continue;
        const real p = im->p[at + c] > FLT_MIN ? im->p[at + c] : FLT_MIN;
        im->loss[at + c] = truth[c] != 0 ? -self->class_scale * truth[c] * log(p) : 0;
    }
}
static void train_cell(const detection_layer *self, const head_image *im, int image, int cell)
{
    const real *row = im->truth + (size_t)cell * truth_size(self), *place = row + 1 + self->classes;
    for (int n = 0; n < self->num; ++n) {
        dn_pull_value(im, objectness_at(self, cell, n), 0, self->noobject_scale);
    }
    if (row[0] == 0) return;
    pull_classes(self, im, cell, row + 1);
    const box truth = box_of(self, place, 0);
    const int best = chosen(self, im, image, cell, truth);
    const size_t at = box_at(self, cell, best);
    const real iou = box_iou(box_of(self, im->p + at, self->root), truth);
    dn_pull_value(im, objectness_at(self, cell, best), self->rescore ? iou : 1, self->object_scale);
    for (int k = 0; k < 4; ++k) {
        dn_pull_value(im, at + k, self->root && k > 1 ? sqrt(place[k]) : place[k], self->coord_scale);
    }
}
static void train(layer *l, network *net, real *delta, real *loss)
{
    SELF(l);
    net->k->fill(l->batch * l->outputs, 0, delta, 1);
    net->k->fill(l->batch * l->outputs, 0, loss, 1);
    for (int b = 0; b < l->batch; ++b) {
        const size_t at = (size_t)b * l->outputs;
        const head_image im = {l->x + at, l->output + at, l->truth + (size_t)b * l->truths, delta + at,
                               loss + at};
        for (int cell = 0; cell < cells(self); ++cell) train_cell(self, &im, b, cell);
    }
}
static dn_status check_truth(const layer *l, const real *truth)
{
    SELF(l);
    for (int i = 0; i < l->batch * cells(self); ++i) {
        const real *row = truth + (size_t)i * truth_size(self), *place = row + 1 + self->classes;
        const int right =
            row[0] == 0 || (row[0] == 1 && place[0] >= 0 && place[0] <= 1 && place[1] >= 0 && place[1] <= 1 &&
                            place[2] > 0 && place[2] <= 1e6 && place[3] > 0 && place[3] <= 1e6);
        if (right) continue;
        return dn_fail(
            DN_ERR_ARGUMENT,
            "[detection] truth of image %d, cell %d: object=%g x=%g y=%g w=%g h=%g: wanted object 0 or "
            "1, x and y in 0..1, w and h above 0",
            i / cells(self), i % cells(self), (double)row[0], (double)place[0], (double)place[1],
            (double)place[2], (double)place[3]);
    }
    return DN_OK;
}

/* ---- the passes */
static dn_status detection_forward(layer *l, network *net)
{
    detection_layer *self = (detection_layer *)l;
    net->k->copy(l->batch * l->outputs, net->input, 1, l->output, 1);
    if (self->softmax) {
        net->k->softmax(net->input, self->classes, l->batch, l->outputs, cells(self), self->classes, 1, 1,
                        l->output);
    }
    if (!net->truth || !l->delta) return DN_OK;
    const dn_status status = check_truth(l, net->truth);
    if (status != DN_OK) return status;
    self->seen = net->seen;
    self->seed = net->seed;
    train(l, net, l->delta, self->loss);
    l->cost = dn_sum_of_squares(l, net, l->delta);
    l->has_cost = 1;
    return DN_OK;
}
static dn_status detection_backward(layer *l, network *net)
{
    SELF(l);
    const kernels *k = net->k;
    const int all = l->batch * l->outputs, others = !l->has_cost || l->delta_live;
    const delta_sink sink = input_sink(net);
    real *work, *loss;
    if (!sink.to) return DN_OK;
    if (!others) {
        k->pass_delta(all, 1, l->delta, sink.add, sink.to);
        return DN_OK;
    }
    if (dn_head_work(l, net, &work, &loss) != DN_OK) return DN_ERR_MEMORY;
    k->copy(all, l->delta, 1, work, 1);
    if (self->softmax) {
        k->softmax_backward(l->output, l->delta, self->classes, l->batch, l->outputs, cells(self),
                            self->classes, 1, 1, work);
    }
    k->pass_delta(all, 1, work, sink.add, sink.to);
    if (!l->has_cost) return DN_OK;
    train(l, net, work, loss);
    k->pass_delta(all, 1, work, 1, sink.to);
    return DN_OK;
}

static dn_status detection_shape(layer *l, network *net)
{
    SELF(l);
    (void)net;
    dn_status status = dn_option_in(l, "classes", self->classes, 1, 1 << 20);
    if (status == DN_OK) status = dn_option_in(l, "coords", self->coords, 4, 4);
    if (status == DN_OK) status = dn_option_in(l, "num", self->num, 1, 1 << 20);
    if (status == DN_OK) status = dn_option_in(l, "side", self->side, 1, 1 << 10);
    if (status != DN_OK) return status;
    const int64_t wanted = (int64_t)cells(self) * (5 * (int64_t)self->num + self->classes);
    if (l->inputs != wanted) {
        return dn_fail_option("side",
                              "[detection] has %d inputs: wanted %lld = %d x %d cells * (%d boxes * 5 + %d "
                              "classes)",
                              l->inputs, (long long)wanted, self->side, self->side, self->num, self->classes);
    }
    l->outputs = l->inputs;
    l->truths = cells(self) * truth_size(self);
    return DN_OK;
}

static int detection_detections(const layer *l, int image, real thresh, real hier, real *rows)
{
    SELF(l);
    const real *p = l->output + (size_t)image * l->outputs;
    int found = 0;
    (void)hier;
    for (int i = 0; i < cells(self) * self->num; ++i) {
        const int cell = i / self->num, n = i % self->num;
        const real objectness = p[objectness_at(self, cell, n)], *classes = p + class_at(self, cell);
        int any = 0;
        for (int c = 0; c < self->classes; ++c) any |= objectness * classes[c] > thresh;
        found += any;
        if (!any || !rows) continue;
        const box b = box_of(self, p + box_at(self, cell, n), self->root);
        const real head[] = {b.x + (real)(cell % self->side) / self->side,
                             b.y + (real)(cell / self->side) / self->side, b.w, b.h, objectness};
        for (int k = 0; k < 5; ++k) *rows++ = head[k];
        for (int c = 0; c < self->classes; ++c) {
            *rows++ = objectness * classes[c] > thresh ? objectness * classes[c] : 0;
        }
    }
    return found;
}

const layer_ops detection_ops = {
    .name = "detection",
    .size = sizeof(detection_layer),
    .options = detection_options,
    .arrays = detection_rows,
    .shape = detection_shape,
    .forward = detection_forward,
    .backward = detection_backward,
    .workspace = dn_head_workspace,
    .detections = detection_detections,
    .is_loss = 1,
    .on_host = 1,
};
