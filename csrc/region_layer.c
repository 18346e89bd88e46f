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
 * (anchor, value, cell); AlexeyAB's is (cell, anchor, value), its x and y without the logistic. */
#include "class_tree.h"
#include "head.h"
#include "parallel.h"
#include "scalar.h"
#include <float.h>

enum { MATCHES = 4 }; /* per image: boxes matched, and sums of IoU, objectness and IoU > .5 */
#define PRIOR_SEEN 12800
typedef struct {
    layer base;
    int classes, coords, num, max, alexeyab, softmax, rescore, bias_match, classfix, focal_loss, background;
    real coord_scale, object_scale, noobject_scale, class_scale, mask_scale, thresh;
    int_list map, parents; /* parents: of the nodes of a class tree, -1 for roots */
    real_list anchors;
    real *loss, *matches;
    uint64_t seen; /* of the network in the last forward pass */
} region_layer;
#define SELF(l) const region_layer *self = (const region_layer *)(l)

static const option_spec region_options[] = {
    OPTION(region_layer, "classes", classes, INT),
    OPTION(region_layer, "coords", coords, INT),
    OPTION(region_layer, "num", num, INT),
    OPTION(region_layer, "max", max, INT),
    OPTION(region_layer, "alexeyab", alexeyab, INT),
    OPTION(region_layer, "softmax", softmax, INT),
    OPTION(region_layer, "rescore", rescore, INT),
    OPTION(region_layer, "bias_match", bias_match, INT),
    OPTION(region_layer, "classfix", classfix, INT),
    OPTION(region_layer, "focal_loss", focal_loss, INT),
    OPTION(region_layer, "background", background, INT),
    OPTION(region_layer, "coord_scale", coord_scale, REAL),
    OPTION(region_layer, "object_scale", object_scale, REAL),
    OPTION(region_layer, "noobject_scale", noobject_scale, REAL),
    OPTION(region_layer, "class_scale", class_scale, REAL),
    OPTION(region_layer, "mask_scale", mask_scale, REAL),
    OPTION(region_layer, "thresh", thresh, REAL),
    OPTION(region_layer, "map", map, LIST),
    OPTION(region_layer, "tree", parents, LIST),
    OPTION(region_layer, "anchors", anchors, REALS),
    END_OF_OPTIONS,
};
static dn_shape shape_matches(const layer *l) { return dn_dims(2, l->batch, MATCHES, 0, 0); }
static const array_spec region_rows[] = {
    ARRAY(region_layer, loss, "loss", shape_output, ACTIVATION, TRAIN_ONLY),
    ARRAY(region_layer, matches, "matches", shape_matches, ACTIVATION, TRAIN_ONLY),
    END_OF_ARRAYS,
};

/* ---- where values stand */
static int entries(const region_layer *self) { return self->coords + 1 + self->classes; }
static size_t cells(const region_layer *self) { return (size_t)self->base.h * self->base.w; }
static size_t entry(const region_layer *self, int anchor, size_t cell, int e)
{
    return ((size_t)anchor * entries(self) + e) * cells(self) + cell;
}
static size_t entry_in_output(const region_layer *self, int anchor, size_t cell, int e)
{
    return self->alexeyab ? (cell * self->num + anchor) * entries(self) + e : entry(self, anchor, cell, e);
}
static box decode(const region_layer *self, const real *p, int anchor, size_t cell)
{
    const layer *l = &self->base;
    const size_t at = entry(self, anchor, cell, 0), step = cells(self), i = cell % l->w, j = cell / l->w;
    return (box){(i + p[at]) / l->w, (j + p[at + step]) / l->h,
                 exp(p[at + 2 * step]) * self->anchors.values[2 * anchor] / l->w,
                 exp(p[at + 3 * step]) * self->anchors.values[2 * anchor + 1] / l->h};
}

/* ---- the output */
static void softmaxes(const region_layer *self, const kernels *k, int first, int n, const real *z, real *p)
{
    const layer *l = &self->base;
    const size_t step = cells(self), at = first * step;
    k->softmax(z + at, n, l->batch * self->num, (int)(entries(self) * step), (int)step, 1, (int)step, 1,
               p + at);
}
static void activate(const region_layer *self, const kernels *k, const real *z, real *p)
{
    const layer *l = &self->base;
    const int step = (int)cells(self), classes = self->coords + 1, tree = self->parents.n > 0;
    k->copy(l->batch * l->outputs, z, 1, p, 1);
    for (int n = 0; n < l->batch * self->num; ++n) {
        real *a = p + (size_t)n * entries(self) * step;
        k->activate_array(a, 2 * step, LOGISTIC);
        if (!self->background) k->activate_array(a + (size_t)self->coords * step, step, LOGISTIC);
        if (self->softmax || tree || self->alexeyab) continue;
        k->activate_array(a + (size_t)classes * step, self->classes * step, LOGISTIC);
    }
    for (int c = 0; tree && c < self->classes;) {
        const siblings s = dn_siblings_of(&self->parents, c);
        softmaxes(self, k, classes + s.first, s.end - s.first, z, p);
        c = s.end;
    }
    if (tree || !self->softmax) return;
    softmaxes(self, k, classes - self->background, self->classes + self->background, z, p);
}
/* AlexeyAB's order of the output. */
static void reorder_output(layer *l, const real *p)
{
    SELF(l);
    for (int b = 0; b < l->batch; ++b) {
        const size_t at = (size_t)b * l->outputs;
        for (int n = 0; n < self->num; ++n) {
            for (int e = 0; e < entries(self); ++e) {
                const real *from = (e < 2 ? l->x : p) + at + entry(self, n, 0, e);
                for (size_t c = 0; c < cells(self); ++c)
                    l->output[at + entry_in_output(self, n, c, e)] = from[c];
            }
        }
    }
}

/* ---- the loss of one image */
static void pull_square(const region_layer *self, const head_image *im, size_t at, real target, real weight)
{
    dn_pull_value(im, at, target, weight);
    if (self->alexeyab) im->delta[at] *= logistic_gradient(im->p[at]);
}
static real log_of(real p) { return log(p > FLT_MIN ? p : FLT_MIN); }
/* Softmax over the entries [first, end) of an anchor: cross-entropy with a one at `target`. */
static void pull_softmax(const region_layer *self, const head_image *im, size_t at, int first, int end,
                         int target, real weight)
{
    const size_t step = cells(self);
    const real p = im->p[at + target * step];
    const real focal = self->focal_loss && !self->parents.n ? dn_focal_weight(p) : 1,
               share = self->focal_loss && !self->parents.n ? (1 - p) * (1 - p) / 2 : 1;
    for (int e = first; e < end; ++e) {
        im->delta[at + e * step] = weight * focal * ((e == target) - im->p[at + e * step]);
        im->loss[at + e * step] = e == target ? -weight * share * log_of(p) : 0;
    }
}
static void pull_class(const region_layer *self, const head_image *im, size_t at, int class_id, real weight)
{
    const size_t step = cells(self);
    const int first = self->coords + 1;
    if (self->parents.n) {
        for (int c = class_id; c >= 0; c = self->parents.values[c]) {
            const siblings s = dn_siblings_of(&self->parents, c);
            pull_softmax(self, im, at, first + s.first, first + s.end, first + c, weight);
        }
        return;
    }
    if (self->softmax) {
        pull_softmax(self, im, at, first - self->background, first + self->classes, first + class_id, weight);
        return;
    }
    const size_t own = at + (first + class_id) * step;
    if (!self->alexeyab && im->delta[at + first * step] != 0) { /* a second label of the same box */
        dn_pull_logit(im, own, 1, weight);
        return;
    }
    const real focal = self->focal_loss ? dn_focal_weight(im->p[own]) : 1;
    for (int c = 0; c < self->classes; ++c) {
        (self->alexeyab ? dn_pull_value : dn_pull_logit)(im, at + (first + c) * step, c == class_id,
                                                         weight * focal);
    }
}
static void pull_objectness(const region_layer *self, const head_image *im, size_t at, real target,
                            real weight)
{
    const size_t own = at + self->coords * cells(self);
    if (!self->background)
        pull_square(self, im, own, target, weight);
    else if (!self->softmax)
        dn_pull_value(im, own, target == 0, weight);
    else if (target == 0) {
        pull_softmax(self, im, at, self->coords, entries(self), self->coords, weight);
    }
}
static void pull_box(const region_layer *self, const head_image *im, int anchor, size_t cell, box truth,
                     real weight)
{
    const layer *l = &self->base;
    const size_t at = entry(self, anchor, cell, 0), step = cells(self);
    const real *size = self->anchors.values + 2 * anchor;
    pull_square(self, im, at, truth.x * l->w - (int)(cell % l->w), weight);
    pull_square(self, im, at + step, truth.y * l->h - (int)(cell / l->w), weight);
    dn_pull_value(im, at + 2 * step, log(truth.w * l->w / size[0]), weight);
    dn_pull_value(im, at + 3 * step, log(truth.h * l->h / size[1]), weight);
}

static box prior(const region_layer *self, int anchor, size_t cell)
{
    const layer *l = &self->base;
    const real *size = self->anchors.values + 2 * anchor;
    return (box){((int)(cell % l->w) + (real).5) / l->w, ((int)(cell / l->w) + (real).5) / l->h,
                 size[0] / l->w, size[1] / l->h};
}
static void train_anchor(const region_layer *self, const head_image *im, const truth_rows *r, int n,
                         int anchor, size_t cell)
{
    const box pred = decode(self, im->p, anchor, cell);
    const size_t at = entry(self, anchor, cell, 0);
    const int fix = self->alexeyab ? self->classfix : 0;
    real best = 0;
    int class_id = -1;
    for (int t = 0; t < n; ++t) {
        const real *row = im->truth + (size_t)t * r->size, iou = box_iou(pred, dn_truth_box(row));
        if (iou > best) best = iou, class_id = dn_mapped(&self->map, (int)row[r->class_at]);
    }
    if (fix == -1)
        pull_objectness(self, im, at, best, self->noobject_scale);
    else if (best <= self->thresh)
        pull_objectness(self, im, at, 0, self->noobject_scale);
    else if (fix > 0) {
        const real objectness = im->p[at + self->coords * cells(self)];
        pull_class(self, im, at, class_id, self->class_scale * (fix == 2 ? objectness : 1));
    }
    if (self->seen < PRIOR_SEEN) pull_box(self, im, anchor, cell, prior(self, anchor, cell), (real).01);
}
static int best_anchor(const region_layer *self, const real *p, size_t cell, box truth)
{
    int best = 0;
    real most = 0;
    truth.x = truth.y = 0;
    for (int n = 0; n < self->num; ++n) {
        box b = self->bias_match ? prior(self, n, cell) : decode(self, p, n, cell);
        b.x = b.y = 0;
        const real iou = box_iou(b, truth);
        if (iou > most) most = iou, best = n;
    }
    return best;
}
static void train_truth(const region_layer *self, const head_image *im, const real *row, int class_at,
                        real *matches)
{
    const layer *l = &self->base;
    const box truth = dn_truth_box(row);
    const size_t cell = (size_t)dn_cell(truth.y, l->h) * l->w + dn_cell(truth.x, l->w), step = cells(self);
    const int anchor = best_anchor(self, im->p, cell, truth);
    const size_t at = entry(self, anchor, cell, 0);
    const real iou = box_iou(decode(self, im->p, anchor, cell), truth),
               counts[MATCHES] = {1, iou, im->p[at + self->coords * step], iou > (real).5};
    for (int k = 0; k < MATCHES; ++k) matches[k] += counts[k];
    pull_box(self, im, anchor, cell, truth, self->coord_scale * (self->alexeyab ? 1 : 2 - truth.w * truth.h));
    for (int e = 4; e < self->coords; ++e) dn_pull_value(im, at + e * step, row[e], self->mask_scale);
    pull_objectness(self, im, at, self->rescore && !self->background ? iou : 1, self->object_scale);
    pull_class(self, im, at, dn_mapped(&self->map, (int)row[class_at]), self->class_scale);
}

/* An image of which only a class is known: the anchor that finds it most probable learns it. */
static real path_probability(const region_layer *self, const real *p, size_t at, int class_id)
{
    const size_t step = cells(self);
    real product = p[at + self->coords * step];
    for (int c = class_id; c >= 0; c = self->parents.values[c])
        product *= p[at + (self->coords + 1 + c) * step];
    return product;
}
static void train_class(const region_layer *self, const head_image *im, int class_id)
{
    size_t best = 0;
    real most = 0;
    for (int n = 0; n < self->num; ++n) {
        for (size_t cell = 0; cell < cells(self); ++cell) {
            const size_t at = entry(self, n, cell, 0);
            const real probability = path_probability(self, im->p, at, class_id);
            if (!self->alexeyab) pull_objectness(self, im, at, 0, self->noobject_scale);
            if (probability > most) most = probability, best = at;
        }
    }
    const size_t own = best + self->coords * cells(self);
    im->delta[own] = im->loss[own] = 0;
    pull_class(self, im, best, class_id, self->class_scale);
}
static void train_image(const region_layer *self, const head_image *im, const truth_rows *r, real *matches)
{
    const int n = dn_count_truth(r, im->truth);
    for (int t = 0; t < n; ++t) {
        const real *row = im->truth + (size_t)t * r->size;
        if (!dn_only_class(r, row)) continue;
        train_class(self, im, dn_mapped(&self->map, (int)row[r->class_at]));
        return;
    }
    for (int anchor = 0; anchor < self->num; ++anchor) {
        for (size_t cell = 0; cell < cells(self); ++cell) train_anchor(self, im, r, n, anchor, cell);
    }
    for (int t = 0; t < n; ++t) train_truth(self, im, im->truth + (size_t)t * r->size, r->class_at, matches);
}
static truth_rows rows_of(const region_layer *self)
{
    return (truth_rows){.most = self->max,
                        .size = self->alexeyab ? 6 : self->coords + 1,
                        .class_at = self->alexeyab ? 4 : self->coords,
                        .classes = self->map.n ? self->map.n : self->classes,
                        .class_only = self->parents.n > 0};
}
static void train(layer *l, network *net, const real *p, real *delta, real *loss)
{
    SELF(l);
    const truth_rows r = rows_of(self);
    net->k->fill(l->batch * l->outputs, 0, delta, 1);
    net->k->fill(l->batch * l->outputs, 0, loss, 1);
    net->k->fill(l->batch * MATCHES, 0, self->matches, 1);
    PARALLEL_FOR((size_t)l->batch * l->outputs)
    for (int b = 0; b < l->batch; ++b) {
        const size_t at = (size_t)b * l->outputs;
        const head_image im = {l->x + at, p + at, l->truth + (size_t)b * l->truths, delta + at, loss + at};
        train_image(self, &im, &r, self->matches + (size_t)b * MATCHES);
    }
}

/* ---- the passes */
static dn_status region_forward(layer *l, network *net)
{
    region_layer *self = (region_layer *)l;
    const truth_rows r = rows_of(self);
    const int loss = net->truth && l->delta;
    real *p = self->alexeyab ? dn_workspace(net, (size_t)l->batch * l->outputs) : l->output;
    if (!p) return DN_ERR_MEMORY;
    if (loss && dn_check_truth(l, &r, net) != DN_OK) return DN_ERR_ARGUMENT;
    activate(self, net->k, net->input, p);
    if (self->alexeyab) reorder_output(l, p);
    if (!loss) return DN_OK;
    self->seen = net->seen;
    train(l, net, p, l->delta, self->loss);
    l->cost = dn_sum_of_squares(l, net, l->delta);
    l->has_cost = 1;
    return DN_OK;
}
/* In place: from the values to the input, through every logistic but the classes'. */
static void through_logistics(const region_layer *self, const kernels *k, const real *p, real *d)
{
    const int step = (int)cells(self);
    for (int n = 0; n < self->base.batch * self->num; ++n) {
        const size_t at = (size_t)n * entries(self) * step, objectness = at + (size_t)self->coords * step;
        k->gradient_array(p + at, 2 * step, LOGISTIC, d + at);
        if (!self->background) k->gradient_array(p + objectness, step, LOGISTIC, d + objectness);
    }
}
static void through_classes(const region_layer *self, const kernels *k, const real *p, const real *from,
                            real *d)
{
    const layer *l = &self->base;
    const int step = (int)cells(self), images = l->batch * self->num, all = entries(self) * step;
    if (!self->softmax && !self->parents.n) {
        const size_t classes = (size_t)(self->coords + 1) * step;
        for (int n = 0; n < images && !self->alexeyab; ++n) {
            const size_t at = (size_t)n * all + classes;
            k->gradient_array(p + at, self->classes * step, LOGISTIC, d + at);
        }
        return;
    }
    for (int e = self->coords + 1 - self->background; e < entries(self);) {
        const siblings s = self->parents.n ? dn_siblings_of(&self->parents, e - self->coords - 1)
                                           : (siblings){-self->background, self->classes};
        const size_t at = (size_t)e * step;
        k->softmax_backward(p + at, from + at, s.end - s.first, images, all, step, 1, step, 1, d + at);
        e += s.end - s.first;
    }
}
/* What consumers of the output sent, taken to the input. */
static void through_output(const layer *l, const kernels *k, const real *p, real *from, real *d)
{
    SELF(l);
    for (int b = 0; b < l->batch; ++b) {
        const size_t at = (size_t)b * l->outputs;
        for (int n = 0; n < self->num; ++n) {
            for (int e = 0; e < entries(self); ++e) {
                for (size_t c = 0; c < cells(self); ++c) {
                    from[at + entry(self, n, c, e)] = l->delta[at + entry_in_output(self, n, c, e)];
                }
            }
        }
    }
    k->copy(l->batch * l->outputs, from, 1, d, 1);
    through_logistics(self, k, p, d);
    through_classes(self, k, p, from, d);
    if (!self->alexeyab) return;
    for (int n = 0; n < l->batch * self->num; ++n) { /* its x and y are the input's */
        const size_t at = (size_t)n * entries(self) * cells(self);
        k->copy((int)(2 * cells(self)), from + at, 1, d + at, 1);
    }
}
static dn_status region_backward(layer *l, network *net)
{
    SELF(l);
    const kernels *k = net->k;
    const int all = l->batch * l->outputs;
    const delta_sink sink = input_sink(net);
    if (!sink.to) return DN_OK;
    real *p = dn_workspace(net, 3 * (size_t)all);
    if (!p) return DN_ERR_MEMORY;
    real *d = p + all, *other = d + all;
    activate(self, k, l->x, p);
    const int others = !l->has_cost || l->delta_live;
    if (others) {
        through_output(l, k, p, other, d);
        k->pass_delta(all, 1, d, sink.add, sink.to);
    }
    if (!l->has_cost) return DN_OK;
    if (others)
        train(l, net, p, d, other);
    else
        k->copy(all, l->delta, 1, d, 1);
    if (!self->alexeyab) through_logistics(self, k, p, d);
    k->pass_delta(all, 1, d, others || sink.add, sink.to);
    return DN_OK;
}
static size_t region_workspace(const layer *l)
{
    return (size_t)l->batch * l->outputs * (l->train ? 3 : ((const region_layer *)l)->alexeyab);
}

/* ---- options */
static dn_status region_shape(layer *l, network *net)
{
    SELF(l);
    (void)net;
    dn_status status = dn_require_image(l);
    if (status == DN_OK) status = dn_check_classes(l, &self->map, self->classes, self->parents.n);
    if (status == DN_OK) status = dn_option_in(l, "num", self->num, 1, 1 << 20);
    if (status == DN_OK) status = dn_option_in(l, "max", self->max, 1, 1 << 20);
    if (status == DN_OK) status = dn_option_in(l, "coords", self->coords, 4, self->alexeyab ? 4 : 1 << 10);
    if (status == DN_OK) status = dn_check_tree(l, &self->parents);
    if (status != DN_OK) return status;
    if (self->background && self->parents.n) {
        return dn_fail_option("background", "[region] background=1 does not go with a tree");
    }
    if (self->anchors.n != 2 * self->num) {
        return dn_fail_option("anchors", "[region] anchors: %d numbers, wanted width and height of num=%d",
                              self->anchors.n, self->num);
    }
    for (int i = 0; i < self->anchors.n; ++i) {
        if (self->anchors.values[i] > 0) continue;
        return dn_fail_option("anchors", "[region] anchors: %g: wanted more than 0",
                              (double)self->anchors.values[i]);
    }
    const int64_t wanted = (int64_t)self->num * entries(self);
    if (l->c != wanted) {
        return dn_fail_option("classes",
                              "[region] has an input of %d channels: wanted %lld = %d anchors * (%d "
                              "coords + 1 + %d classes)",
                              l->c, (long long)wanted, self->num, self->coords, self->classes);
    }
    const truth_rows r = rows_of(self);
    l->truths = r.most * r.size;
    const dn_status sized = dn_set_output(l, l->h, l->w, l->c);
    if (self->alexeyab) l->out_h = l->out_w = l->out_c = 0; /* no map: its order is another */
    return sized;
}

/* ---- boxes out */
static void write_row(const region_layer *self, const real *p, int anchor, size_t cell, real thresh,
                      real hier, real *row)
{
    const layer *l = &self->base;
    const size_t at = entry_in_output(self, anchor, cell, 0), step = self->alexeyab ? 1 : cells(self);
    const real x = self->alexeyab ? logistic_activate(p[at]) : p[at],
               y = self->alexeyab ? logistic_activate(p[at + step]) : p[at + step],
               objectness = self->background ? 1 : p[at + self->coords * step];
    row[0] = ((int)(cell % l->w) + x) / l->w;
    row[1] = ((int)(cell / l->w) + y) / l->h;
    row[2] = exp(p[at + 2 * step]) * self->anchors.values[2 * anchor] / l->w;
    row[3] = exp(p[at + 3 * step]) * self->anchors.values[2 * anchor + 1] / l->h;
    row[4] = objectness;
    for (int c = 0; c < self->classes; ++c) {
        const real probability = p[at + (self->coords + 1 + c) * step];
        row[5 + c] = self->parents.n                     ? probability
                     : objectness * probability > thresh ? objectness * probability
                                                         : 0;
    }
    if (self->parents.n) dn_walk_tree(&self->parents, row + 5, objectness, hier);
}
static int region_detections(const layer *l, int image, real thresh, real hier, real *rows)
{
    SELF(l);
    const real *p = l->output + (size_t)image * l->outputs;
    int found = 0;
    for (int n = 0; n < self->num; ++n) {
        for (size_t cell = 0; cell < cells(self); ++cell) {
            const real objectness = self->background ? 1 : p[entry_in_output(self, n, cell, self->coords)];
            if (!(objectness > thresh) || (self->alexeyab && self->classfix == -1 && objectness < (real).5))
                continue;
            if (rows) write_row(self, p, n, cell, thresh, hier, rows + (size_t)found * (5 + self->classes));
            ++found;
        }
    }
    return found;
}

static int region_box_size(const layer *l) { return rows_of((const region_layer *)l).size; }

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
    .on_host = 1,
};
