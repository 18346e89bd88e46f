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
 * The cost is the sum of squares of delta. The formulas in C: detection_rules.h. */
#include "detection_rules.h"
#include "head.h"

#define RANDOM_SEEN 64000
typedef struct {
    layer base;
    detection_rules r; /* see rules_of(); seed and first_row: of the network in the last forward pass */
    int coords;
    real random;
    real *loss;
} detection_layer;
#define SELF(l) const detection_layer *self = (const detection_layer *)(l)
#define RULE(name, KIND) OPTION(detection_layer, #name, r.name, KIND)

static const option_spec detection_options[] = {
    RULE(classes, INT),
    OPTION(detection_layer, "coords", coords, INT),
    RULE(num, INT),
    RULE(side, INT),
    RULE(softmax, INT),
    RULE(rescore, INT),
    OPTION(detection_layer, "sqrt", r.root, INT),
    RULE(forced, INT),
    OPTION(detection_layer, "random", random, REAL),
    RULE(coord_scale, REAL),
    RULE(object_scale, REAL),
    RULE(noobject_scale, REAL),
    RULE(class_scale, REAL),
    END_OF_OPTIONS,
};
static const array_spec detection_rows[] = {
    ARRAY(detection_layer, loss, "loss", shape_output, ACTIVATION, TRAIN_ONLY), END_OF_ARRAYS};

/* What the kernel is told. */
static detection_rules rules_of(const detection_layer *self)
{
    detection_rules r = self->r;
    r.batch = self->base.batch;
    r.draws = self->random != 0 && r.first_row < RANDOM_SEEN;
    r.purpose = DN_RANDOM_LAYER(DN_RANDOM_BOX, self->base.index);
    return r;
}
static void train(layer *l, network *net, real *delta, real *loss)
{
    const detection_rules r = rules_of((const detection_layer *)l);
    net->k->fill(l->batch * l->outputs, 0, delta, 1);
    net->k->fill(l->batch * l->outputs, 0, loss, 1);
    net->k->detection_train(&r, l->output, l->truth, delta, loss);
}
static dn_status check_truth(const layer *l, const real *truth)
{
    const detection_rules *r = &((const detection_layer *)l)->r;
    const int cells = detection_cells(r);
    for (int i = 0; i < l->batch * cells; ++i) {
        const real *row = truth + (size_t)i * detection_truth_size(r), *place = row + 1 + r->classes;
        const int right =
            row[0] == 0 || (row[0] == 1 && place[0] >= 0 && place[0] <= 1 && place[1] >= 0 && place[1] <= 1 &&
                            place[2] > 0 && place[2] <= 1e6 && place[3] > 0 && place[3] <= 1e6);
        if (right) continue;
        return dn_fail(
            DN_ERR_ARGUMENT,
            "[detection] truth of image %d, cell %d: object=%g x=%g y=%g w=%g h=%g: wanted object 0 or "
            "1, x and y in 0..1, w and h above 0",
            i / cells, i % cells, (double)row[0], (double)place[0], (double)place[1], (double)place[2],
            (double)place[3]);
    }
    return DN_OK;
}

/* ---- the passes */
static dn_status detection_forward(layer *l, network *net)
{
    detection_layer *self = (detection_layer *)l;
    const detection_rules *r = &self->r;
    net->k->copy(l->batch * l->outputs, net->input, 1, l->output, 1);
    if (r->softmax) {
        net->k->softmax(net->input, r->classes, l->batch, l->outputs, detection_cells(r), r->classes, 1, 1,
                        l->output);
    }
    if (!net->truth || !l->delta) return DN_OK;
    const dn_status status = dn_check_truth(l, net, check_truth);
    if (status != DN_OK) return status;
    self->r.first_row = net->seen;
    self->r.seed = net->seed;
    train(l, net, l->delta, self->loss);
    dn_find_cost(l, net, net->k->sum_squares, l->delta);
    l->has_cost = 1;
    return DN_OK;
}
static dn_status detection_backward(layer *l, network *net)
{
    const detection_rules *r = &((const detection_layer *)l)->r;
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
    if (r->softmax) {
        k->softmax_backward(l->output, l->delta, r->classes, l->batch, l->outputs, detection_cells(r),
                            r->classes, 1, 1, work);
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
    const detection_rules *r = &self->r;
    (void)net;
    dn_status status = dn_option_in(l, "classes", r->classes, 1, 1 << 20);
    if (status == DN_OK) status = dn_option_in(l, "coords", self->coords, 4, 4);
    if (status == DN_OK) status = dn_option_in(l, "num", r->num, 1, 1 << 20);
    if (status == DN_OK) status = dn_option_in(l, "side", r->side, 1, 1 << 10);
    if (status != DN_OK) return status;
    const int64_t wanted = (int64_t)detection_cells(r) * (5 * (int64_t)r->num + r->classes);
    if (l->inputs != wanted) {
        return dn_fail_option("side",
                              "[detection] has %d inputs: wanted %lld = %d x %d cells * (%d boxes * 5 + %d "
                              "classes)",
                              l->inputs, (long long)wanted, r->side, r->side, r->num, r->classes);
    }
    l->outputs = l->inputs;
    l->truths = detection_cells(r) * detection_truth_size(r);
    return DN_OK;
}

static int detection_detections(const layer *l, int image, real thresh, real hier, real *rows)
{
    const detection_rules *r = &((const detection_layer *)l)->r;
    const real *p = l->output + (size_t)image * l->outputs;
    int found = 0;
    (void)hier;
    for (int i = 0; i < detection_cells(r) * r->num; ++i) {
        const int cell = i / r->num, n = i % r->num;
        const real objectness = p[detection_objectness_at(r, cell, n)],
                   *classes = p + detection_class_at(r, cell);
        int any = 0;
        for (int c = 0; c < r->classes; ++c) any |= objectness * classes[c] > thresh;
        found += any;
        if (!any || !rows) continue;
        const box b = detection_box(r, p + detection_box_at(r, cell, n), r->root);
        const real head[] = {b.x + (real)(cell % r->side) / r->side,
                             b.y + (real)(cell / r->side) / r->side, b.w, b.h, objectness};
        for (int k = 0; k < 5; ++k) *rows++ = head[k];
        for (int c = 0; c < r->classes; ++c) {
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
};
