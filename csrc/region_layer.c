/* [region]: boxes from a grid of h x w cells with `num` anchors, YOLOv2 and YOLO9000 (arXiv:1612.08242).
 *
 * An anchor has x, y, w, h, further coords (a mask), objectness, and a value per class. From the input z:
 *   x, y, objectness    p = sigma(z)
 *   w, h, mask          p = z
 *   classes             softmax=1: their softmax; tree=: a softmax of each set of siblings; else sigma(z)
 *                       (AlexeyAB: z)
 * With background=1 "no object" is one more class of the softmax, in objectness's place. The box of cell
 * (i, j) in shares of the image, the anchor in cells:
 *   ((i + x) / w,  (j + y) / h,  e^w anchor_w / w,  e^h anchor_h / h)
 *
 * Losses with weight m, towards a target t: m / 2 (t - p)^2, but cross-entropies for the classes.
 *   every anchor        objectness towards 0, m = noobject_scale, unless its IoU with a truth exceeds thresh
 *                       (AlexeyAB: classfix=-1: always, towards that IoU; 1, 2: then the class learns)
 *     seen < 12800      its box towards the anchor in the middle of the cell, m = .01
 *   every truth         the anchor in its cell that overlaps it best (bias_match=1: by its own size):
 *                       box, m = coord_scale (2 - w h) (AlexeyAB: coord_scale); mask, m = mask_scale;
 *                       objectness towards 1 (rescore=1: the IoU), m = object_scale;
 *                       class, m = class_scale; with a tree all nodes on its path
 *     x, y > 100000     no box is known: the anchor that finds the class most probable learns it (tree=)
 * pjreddie's delta is m (t - p), which the backward pass multiplies by the logistic's derivative for x, y and
 * objectness; AlexeyAB's has it already. The cost is the sum of squares of delta. The output's order is
 * (anchor, value, cell); AlexeyAB's is (cell, anchor, value), its x and y without the logistic. The formulas
 * in C: region_rules.h. */
#include "class_tree.h"
#include "head.h"
#include "region_rules.h"

#define PRIOR_SEEN 12800
typedef struct {
    layer base;
    region_rules r;        /* its shape and lists are those of rules_of() */
    int_list map, parents; /* parents: of the nodes of a class tree, -1 for roots */
    real_list anchors;
    real *loss, *matches;
    uint64_t seen; /* of the network in the last forward pass */
} region_layer;
#define SELF(l) const region_layer *self = (const region_layer *)(l)
#define RULE(name, KIND) OPTION(region_layer, #name, r.name, KIND)

static const option_spec region_options[] = {
    RULE(classes, INT),
    RULE(coords, INT),
    RULE(num, INT),
    RULE(max, INT),
    RULE(alexeyab, INT),
    RULE(softmax, INT),
    RULE(rescore, INT),
    RULE(bias_match, INT),
    RULE(classfix, INT),
    RULE(focal_loss, INT),
    RULE(background, INT),
    RULE(coord_scale, REAL),
    RULE(object_scale, REAL),
    RULE(noobject_scale, REAL),
    RULE(class_scale, REAL),
    RULE(mask_scale, REAL),
    RULE(thresh, REAL),
    OPTION(region_layer, "map", map, LIST),
    OPTION(region_layer, "tree", parents, LIST),
    OPTION(region_layer, "anchors", anchors, REALS),
    END_OF_OPTIONS,
};
static dn_shape shape_matches(const layer *l) { return dn_dims(2, l->batch, REGION_MATCHES, 0, 0); }
static const array_spec region_rows[] = {
    ARRAY(region_layer, loss, "loss", shape_output, ACTIVATION, TRAIN_ONLY),
    ARRAY(region_layer, matches, "matches", shape_matches, ACTIVATION, TRAIN_ONLY),
    END_OF_ARRAYS,
};

/* What the kernels are told. */
static region_rules rules_of(const region_layer *self)
{
    const layer *l = &self->base;
    region_rules r = self->r;
    r.batch = l->batch;
    r.h = l->h;
    r.w = l->w;
    r.names = self->map.n;
    r.learns_priors = self->seen < PRIOR_SEEN;
    r.anchors = self->anchors.values;
    r.map = self->map.n ? self->map.values : NULL;
    r.parents = self->parents.n ? self->parents.values : NULL;
    return r;
}
static dn_status check_truth(const layer *l, const real *truth)
{
    SELF(l);
    const truth_rows rows = {.most = self->r.max,
                             .size = region_truth_size(&self->r),
                             .class_at = region_class_at(&self->r),
                             .classes = self->map.n ? self->map.n : self->r.classes,
                             .class_only = self->parents.n > 0};
    return dn_check_boxes(l, &rows, truth);
}

/* ---- the passes */
/* The sets of entries that share a softmax, one after the other from e = 0 on; end 0: no more. */
static siblings next_softmax(const region_rules *r, int e)
{
    const int first = r->coords + 1;
    if (e >= region_entries(r) || (!r->softmax && !r->parents)) return (siblings){0, 0};
    if (!r->parents) return (siblings){first - r->background, region_entries(r)};
    const siblings s = dn_siblings_of(r->parents, r->classes, e < first ? 0 : e - first);
    return (siblings){first + s.first, first + s.end};
}
static void activate(const region_rules *r, const kernels *k, const real *z, real *p)
{
    const int step = region_cells(r), all = region_entries(r) * step;
    k->region_activate(r, z, p);
    for (siblings s = next_softmax(r, 0); s.end; s = next_softmax(r, s.end)) {
        const size_t at = (size_t)s.first * step;
        k->softmax(z + at, s.end - s.first, r->batch * r->num, all, step, 1, step, 1, p + at);
    }
}
static void train(layer *l, network *net, const real *p, real *delta, real *loss)
{
    SELF(l);
    const region_rules r = rules_of(self);
    net->k->fill(l->batch * l->outputs, 0, delta, 1);
    net->k->fill(l->batch * l->outputs, 0, loss, 1);
    net->k->fill(l->batch * REGION_MATCHES, 0, self->matches, 1);
    net->k->region_train(&r, l->x, p, l->truth, delta, loss, self->matches);
}
static dn_status region_forward(layer *l, network *net)
{
    region_layer *self = (region_layer *)l;
    const region_rules r = rules_of(self);
    const int loss = net->truth && l->delta;
    real *p = r.alexeyab ? dn_workspace(net, (size_t)l->batch * l->outputs) : l->output;
    if (!p) return DN_ERR_MEMORY;
    if (loss) {
        const dn_status status = dn_check_truth(l, net, check_truth);
        if (status != DN_OK) return status;
    }
    activate(&r, net->k, net->input, p);
    if (r.alexeyab) net->k->region_reorder(&r, p, net->input, 0, l->output);
    if (!loss) return DN_OK;
    self->seen = net->seen;
    train(l, net, p, l->delta, self->loss);
    dn_find_cost(l, net, net->k->sum_squares, l->delta);
    l->has_cost = 1;
    return DN_OK;
}
/* What consumers of the output sent, taken to the input; work is as large as d. */
static void through_output(const layer *l, const region_rules *r, const kernels *k, const real *p, real *work,
                           real *d)
{
    const int step = region_cells(r), all = region_entries(r) * step;
    const real *from = r->alexeyab ? work : l->delta;
    if (r->alexeyab) k->region_reorder(r, l->delta, NULL, 1, work);
    k->copy(l->batch * l->outputs, from, 1, d, 1);
    k->region_gradient(r, p, 0, d);
    for (siblings s = next_softmax(r, 0); s.end; s = next_softmax(r, s.end)) {
        const size_t at = (size_t)s.first * step;
        k->softmax_backward(p + at, from + at, s.end - s.first, r->batch * r->num, all, step, 1, step, 1,
                            d + at);
    }
}
static dn_status region_backward(layer *l, network *net)
{
    const region_rules r = rules_of((const region_layer *)l);
    const kernels *k = net->k;
    const int all = l->batch * l->outputs;
    const delta_sink sink = input_sink(net);
    if (!sink.to) return DN_OK;
    real *p = dn_workspace(net, 3 * (size_t)all);
    if (!p) return DN_ERR_MEMORY;
    real *d = p + all, *other = d + all;
    activate(&r, k, l->x, p);
    const int others = !l->has_cost || l->delta_live;
    if (others) {
        through_output(l, &r, k, p, other, d);
        k->pass_delta(all, 1, d, sink.add, sink.to);
    }
    if (!l->has_cost) return DN_OK;
    if (others)
        train(l, net, p, d, other);
    else
        k->copy(all, l->delta, 1, d, 1);
    k->region_gradient(&r, p, 1, d);
    k->pass_delta(all, 1, d, others || sink.add, sink.to);
    return DN_OK;
}
static size_t region_workspace(const layer *l)
{
    return (size_t)l->batch * l->outputs * (l->train ? 3 : ((const region_layer *)l)->r.alexeyab);
}

/* ---- options */
static dn_status region_shape(layer *l, network *net)
{
    SELF(l);
    const region_rules *r = &self->r;
    (void)net;
    dn_status status = dn_require_image(l);
    if (status == DN_OK) status = dn_check_classes(l, &self->map, r->classes, self->parents.n);
    if (status == DN_OK) status = dn_option_in(l, "num", r->num, 1, 1 << 20);
    if (status == DN_OK) status = dn_option_in(l, "max", r->max, 1, 1 << 20);
    if (status == DN_OK) status = dn_option_in(l, "coords", r->coords, 4, r->alexeyab ? 4 : 1 << 10);
    if (status == DN_OK) status = dn_check_tree(l, self->parents.values, self->parents.n);
    if (status != DN_OK) return status;
    if (r->background && self->parents.n) {
        return dn_fail_option("background", "[region] background=1 does not go with a tree");
    }
    if (self->anchors.n != 2 * r->num) {
        return dn_fail_option("anchors", "[region] anchors: %d numbers, wanted width and height of num=%d",
                              self->anchors.n, r->num);
    }
    for (int i = 0; i < self->anchors.n; ++i) {
        if (self->anchors.values[i] > 0) continue;
        return dn_fail_option("anchors", "[region] anchors: %g: wanted more than 0",
                              (double)self->anchors.values[i]);
    }
    const int64_t wanted = (int64_t)r->num * region_entries(r);
    if (l->c != wanted) {
        return dn_fail_option("classes",
                              "[region] has an input of %d channels: wanted %lld = %d anchors * (%d "
                              "coords + 1 + %d classes)",
                              l->c, (long long)wanted, r->num, r->coords, r->classes);
    }
    l->truths = r->max * region_truth_size(r);
    const dn_status sized = dn_set_output(l, l->h, l->w, l->c);
    if (r->alexeyab) l->out_h = l->out_w = l->out_c = 0; /* no map: its order is another */
    return sized;
}

/* ---- boxes out */
static void write_row(const region_rules *r, const real *p, int anchor, int cell, real thresh, real hier,
                      real *row)
{
    const size_t at = region_entry_in_output(r, anchor, cell, 0), step = r->alexeyab ? 1 : region_cells(r);
    const real x = r->alexeyab ? logistic_activate(p[at]) : p[at],
               y = r->alexeyab ? logistic_activate(p[at + step]) : p[at + step],
               objectness = r->background ? 1 : p[at + r->coords * step];
    row[0] = (cell % r->w + x) / r->w;
    row[1] = (cell / r->w + y) / r->h;
    row[2] = exp(p[at + 2 * step]) * r->anchors[2 * anchor] / r->w;
    row[3] = exp(p[at + 3 * step]) * r->anchors[2 * anchor + 1] / r->h;
    row[4] = objectness;
    for (int c = 0; c < r->classes; ++c) {
        const real probability = p[at + (r->coords + 1 + c) * step];
        row[5 + c] = r->parents                         ? probability
                     : objectness * probability > thresh ? objectness * probability
                                                         : 0;
    }
    if (r->parents) dn_walk_tree(r->parents, r->classes, row + 5, objectness, hier);
}
static int region_detections(const layer *l, int image, real thresh, real hier, real *rows)
{
    const region_rules r = rules_of((const region_layer *)l);
    const real *p = l->output + (size_t)image * l->outputs;
    int found = 0;
    for (int n = 0; n < r.num; ++n) {
        for (int cell = 0; cell < region_cells(&r); ++cell) {
            const real objectness = r.background ? 1 : p[region_entry_in_output(&r, n, cell, r.coords)];
            if (!(objectness > thresh) || (r.alexeyab && r.classfix == -1 && objectness < (real).5)) continue;
            if (rows) write_row(&r, p, n, cell, thresh, hier, rows + (size_t)found * (5 + r.classes));
            ++found;
        }
    }
    return found;
}

static int region_box_size(const layer *l) { return region_truth_size(&((const region_layer *)l)->r); }

const layer_ops region_ops = {
    .name = "region",
    .size = sizeof(region_layer),
    .options = region_options,
    .arrays = region_rows,
    .shape = region_shape,
    .forward = region_forward,
    .backward = region_backward,
    .workspace = region_workspace,
    .detections = region_detections,
    .box_size = region_box_size,
    .is_loss = 1,
};
