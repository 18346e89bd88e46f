/* Who learns what in [yolo] and [Gaussian_yolo]. With o an anchor's objectness:
 *   every anchor of every cell
 *     always                   o towards 0, unless its box's best IoU with a truth exceeds ignore_thresh
 *                              (AlexeyAB: and some class has p > 0.25); objectness_smooth=1: to that IoU
 *     best IoU > truth_thresh  o towards 1 (objectness_smooth=1: IoU^2), class and box towards that truth
 *   every truth, in its cell   the anchor of all `num` most like it in width and height, if the mask has it,
 *                              and (AlexeyAB) each in the mask alike by more than iou_thresh: o towards 1,
 *                              class and box towards the truth
 * Weights: obj_normalizer for o; counters_per_class: largest count / count of the class, at most max_delta.
 * The printed cost is the sum of squares of delta, as Darknet's. */
#include "yolo_head.h"
#include "parallel.h"
#include "scalar.h"
#include <float.h>
#include <tgmath.h>

static dn_shape shape_matches(const layer *l) { return dn_dims(2, l->batch, MATCHES, 0, 0); }
const array_spec yolo_head_rows[] = {
    ARRAY(yolo_head, loss, "loss", shape_output, ACTIVATION, TRAIN_ONLY),
    ARRAY(yolo_head, matches, "matches", shape_matches, ACTIVATION, TRAIN_ONLY),
    END_OF_ARRAYS,
};

/* ---- anchors, cells and entries */
int yolo_slots(const yolo_head *self) { return self->mask.n ? self->mask.n : self->num; }
int yolo_anchor(const yolo_head *self, int slot) { return self->mask.n ? self->mask.values[slot] : slot; }
real yolo_anchor_w(const yolo_head *self, int anchor)
{
    return self->anchors.values[2 * anchor] / self->net_w;
}
real yolo_anchor_h(const yolo_head *self, int anchor)
{
    return self->anchors.values[2 * anchor + 1] / self->net_h;
}
static int slot_of(const yolo_head *self, int anchor)
{
    for (int slot = 0; slot < yolo_slots(self); ++slot) {
        if (yolo_anchor(self, slot) == anchor) return slot;
    }
    return -1;
}
size_t yolo_entry(const yolo_head *self, int slot, int i, int j)
{
    const layer *l = &self->base;
    return (size_t)slot * (self->boxes->coords + 1 + self->classes) * l->h * l->w + (size_t)j * l->w + i;
}
static int area(const yolo_head *self) { return self->base.h * self->base.w; }
static real class_weight(const yolo_head *self, int class_id)
{
    const real_list *counts = &self->counters_per_class;
    if (!counts->n) return 1;
    real most = 1, own = counts->values[class_id];
    for (int i = 0; i < counts->n; ++i) most = counts->values[i] > most ? counts->values[i] : most;
    const real weight = most / (own > 1 ? own : 1); /* a class that was never seen counts as seen once */
    return weight < self->max_delta ? weight : self->max_delta;
}
void yolo_point_cell(const yolo_head *self, box truth, int *i, int *j)
{
    const real shift = self->yolo_point == LEFT_TOP ? -1 : self->yolo_point == RIGHT_BOTTOM ? 1 : 0;
    *i = dn_cell(truth.x + shift * truth.w / 2, self->base.w);
    *j = dn_cell(truth.y + shift * truth.h / 2, self->base.h);
}
static real shape_overlap(const yolo_head *self, int anchor, box truth, int kind)
{
    const box a = {0, 0, yolo_anchor_w(self, anchor), yolo_anchor_h(self, anchor)},
              b = {0, 0, truth.w, truth.h};
    return kind == DIOU ? box_diou(a, b) : box_overlap(a, b, kind);
}
static int best_anchor(const yolo_head *self, box truth)
{
    int best = 0;
    real most = 0;
    for (int n = 0; n < self->num; ++n) {
        const real iou = shape_overlap(self, n, truth, IOU);
        if (iou > most) most = iou, best = n;
    }
    return best;
}
int yolo_learns(const yolo_head *self, box truth, int slot)
{
    const int anchor = yolo_anchor(self, slot);
    if (anchor == best_anchor(self, truth)) return 1;
    return self->iou_thresh < 1 &&
           shape_overlap(self, anchor, truth, self->iou_thresh_kind) > self->iou_thresh;
}

static void pull(const yolo_image *im, size_t at, real target, real weight)
{
    (im->self->new_coords ? dn_pull_value : dn_pull_logit)(&im->a, at, target, weight);
}

/* ---- classes: cross-entropies, one per class. An anchor that has learned one class from another truth adds
 * the next as a second label; that it has shows in delta of the first class (pjreddie) or of the same. */
static void pull_class(const yolo_image *im, size_t at, int class_id)
{
    const yolo_head *self = im->self;
    const size_t step = (size_t)area(self), own = at + step * class_id;
    const real yes = 1 - self->label_smooth_eps / 2, no = self->label_smooth_eps / 2,
               weight = class_weight(self, class_id);
    if (im->a.delta[self->alexeyab && self->boxes->coords == 4 ? own : at] != 0) {
        pull(im, own, yes, weight);
        return;
    }
    if (self->focal_loss) {
        const real focal = dn_focal_weight(im->a.p[own]);
        for (int c = 0; c < self->classes; ++c) pull(im, at + step * c, c == class_id, focal);
        return;
    }
    for (int c = 0; c < self->classes; ++c) pull(im, at + step * c, c == class_id ? yes : no, 1);
    if (self->counters_per_class.n) pull(im, own, yes, weight * self->cls_normalizer);
}

/* ---- boxes. AlexeyAB's gradient of an overlap leaves out how x, y depend on the logistic and the grid, and
 * w, h on the anchor, and counts w and h twice. Here it is exact, and the loss has the factor sqrt(area of
 * the input / area of the anchor): with it steps have about the size that iou_normalizer was chosen for. */
void yolo_pull_overlap(const yolo_image *im, const size_t where[4], box pred, box truth, const box by[4],
                       int anchor, real weight)
{
    const yolo_head *self = im->self;
    const box g = box_overlap_gradient(pred, truth, self->iou_loss);
    weight /= sqrt(yolo_anchor_w(self, anchor) * yolo_anchor_h(self, anchor));
    for (int k = 0; k < 4; ++k) {
        const real slope = g.x * by[k].x + g.y * by[k].y + g.w * by[k].w + g.h * by[k].h;
        im->a.delta[where[k]] += clipped(weight * slope, self->max_delta);
    }
    im->a.loss[where[0]] += weight * (1 - box_overlap(pred, truth, self->iou_loss));
}
static void pull_box(const yolo_image *im, int slot, int i, int j, box truth, int class_id)
{
    const yolo_head *self = im->self;
    const size_t at = yolo_entry(self, slot, i, j);
    /* pjreddie's: the last truth wins; else they add */
    for (int k = 0; !self->alexeyab && k < self->boxes->coords; ++k) {
        im->a.delta[at + (size_t)k * area(self)] = im->a.loss[at + (size_t)k * area(self)] = 0;
    }
    self->boxes->pull(im, slot, i, j, truth, class_weight(self, class_id));
}

/* ---- every anchor of every cell */
typedef struct {
    real iou;
    int truth;
} best_match;
static best_match find_best(const yolo_image *im, const truth_rows *r, int n, box pred)
{
    best_match best = {0, 0};
    for (int t = 0; t < n; ++t) {
        const real iou = box_iou(pred, dn_truth_box(im->a.truth + (size_t)t * r->size));
        if (iou > best.iou) best = (best_match){iou, t};
    }
    return best;
}
static int expects_class(const yolo_image *im, size_t at)
{
    for (int c = 0; c < im->self->classes; ++c) {
        if (im->a.p[at + (size_t)c * area(im->self)] > (real).25) return 1;
    }
    return 0;
}
static void train_anchor(const yolo_image *im, const truth_rows *r, int n, int slot, int i, int j)
{
    const yolo_head *self = im->self;
    const size_t objectness = yolo_entry(self, slot, i, j) + (size_t)self->boxes->coords * area(self),
                 classes = objectness + area(self);
    const best_match best = find_best(im, r, n, self->boxes->decode(self, im->a.p, slot, i, j));
    const real *row = im->a.truth + (size_t)best.truth * r->size;
    const int smooth = self->objectness_smooth, gaussian = self->boxes->coords == 8,
              class_id = n ? dn_mapped(&self->map, (int)row[r->class_at]) : 0,
              matches = best.iou > self->ignore_thresh && (!self->alexeyab || expects_class(im, classes));
    real target = 0, weight = self->obj_normalizer;
    if (matches && smooth)
        target = gaussian ? best.iou * best.iou : best.iou;
    else if (matches)
        weight = 0;
    if (matches && smooth && gaussian) pull_class(im, classes, class_id);
    pull(im, objectness, target, weight);
    if (best.iou <= self->truth_thresh) return;
    const real level = smooth ? best.iou * best.iou : 1;
    pull(im, objectness, level, self->obj_normalizer);
    pull_class(im, classes, class_id);
    if (smooth) {
        pull(im, classes + (size_t)class_id * area(self), level, class_weight(self, class_id));
    }
    pull_box(im, slot, i, j, dn_truth_box(row), class_id);
}

/* ---- every truth */
static void train_match(const yolo_image *im, int slot, int i, int j, box truth, int class_id)
{
    const yolo_head *self = im->self;
    const size_t objectness = yolo_entry(self, slot, i, j) + (size_t)self->boxes->coords * area(self);
    const box pred = self->boxes->decode(self, im->a.p, slot, i, j);
    const real iou = box_iou(pred, truth);
    const real counts[MATCHES] = {
        1, iou, im->a.p[objectness], iou > (real).5, iou > (real).75, box_giou(pred, truth)};
    for (int k = 0; k < MATCHES; ++k) im->matches[k] += counts[k];
    pull_box(im, slot, i, j, truth, class_id);
    /* AlexeyAB's [yolo] with objectness_smooth leaves the target that the cell already has */
    if (!self->objectness_smooth || self->boxes->coords == 8 || im->a.delta[objectness] == 0) {
        pull(im, objectness, 1, self->obj_normalizer * class_weight(self, class_id));
    }
    pull_class(im, objectness + area(self), class_id);
}
static void train_truth(const yolo_image *im, const real *row, int class_at)
{
    const yolo_head *self = im->self;
    const box truth = dn_truth_box(row);
    const int class_id = dn_mapped(&self->map, (int)row[class_at]);
    int i, j;
    yolo_point_cell(self, truth, &i, &j);
    for (int slot = 0; slot < yolo_slots(self); ++slot) {
        if (yolo_learns(self, truth, slot)) train_match(im, slot, i, j, truth, class_id);
    }
}
/* Where an anchor learned several classes, its box learns the mean of what the truths said. */
static void average_box(const yolo_image *im, int slot, int i, int j)
{
    const yolo_head *self = im->self;
    const size_t at = yolo_entry(self, slot, i, j), step = (size_t)area(self);
    int positive = 0;
    for (int c = 0; c < self->classes; ++c) {
        positive += im->a.delta[at + (self->boxes->coords + 1 + c) * step] > 0;
    }
    if (positive < 2 || (self->boxes->coords == 4 && im->a.delta[at + 4 * step] == 0)) return;
    for (int k = 0; k < self->boxes->coords; ++k) {
        im->a.delta[at + k * step] /= positive;
        im->a.loss[at + k * step] /= positive;
    }
}

static void train_image(const yolo_image *im, const truth_rows *r)
{
    const yolo_head *self = im->self;
    const layer *l = &self->base;
    const int n = dn_count_truth(r, im->a.truth), slots = yolo_slots(self);
    for (int slot = 0; slot < slots; ++slot) {
        for (int j = 0; j < l->h; ++j) {
            for (int i = 0; i < l->w; ++i) train_anchor(im, r, n, slot, i, j);
        }
    }
    for (int t = 0; t < n; ++t) train_truth(im, im->a.truth + (size_t)t * r->size, r->class_at);
    if (!self->alexeyab || (self->boxes->coords == 4 && self->iou_thresh >= 1)) return;
    for (int slot = 0; slot < slots; ++slot) {
        for (int j = 0; j < l->h; ++j) {
            for (int i = 0; i < l->w; ++i) average_box(im, slot, i, j);
        }
    }
}
/* AlexeyAB's have a track id. */
static int truth_size(const yolo_head *self) { return self->alexeyab ? 6 : 5; }
truth_rows yolo_truth_rows(const yolo_head *self)
{
    const int named = self->map.n ? self->map.n : self->classes;
    return (truth_rows){.most = self->max, .size = truth_size(self), .class_at = 4, .classes = named};
}
int yolo_box_size(const layer *l) { return truth_size((const yolo_head *)l); }
static void train_images(layer *l, const real *truth, real *delta, real *loss)
{
    const yolo_head *self = (yolo_head *)l;
    const truth_rows r = yolo_truth_rows(self);
    PARALLEL_FOR((size_t)l->batch * l->outputs)
    for (int b = 0; b < l->batch; ++b) {
        const size_t at = (size_t)b * l->outputs;
        const yolo_image im = {
            self,
            {l->x + at, l->output + at, truth + (size_t)b * l->truths, delta + at, loss + at},
            self->matches + (size_t)b * MATCHES,
        };
        train_image(&im, &r);
    }
}
static void clear(layer *l, network *net, real *delta, real *loss)
{
    net->k->fill(l->batch * l->outputs, 0, delta, 1);
    net->k->fill(l->batch * l->outputs, 0, loss, 1);
    net->k->fill(l->batch * MATCHES, 0, ((yolo_head *)l)->matches, 1);
}

/* AlexeyAB's show_details=1 prints iou_normalizer times the mean of 1 - IoU over the matches (giou: 1 -
 * GIoU), and obj_normalizer times the squared delta of all but the boxes. */
static double detailed_cost(const layer *l)
{
    const yolo_head *self = (const yolo_head *)l;
    const int coords = self->boxes->coords, entries = coords + 1 + self->classes;
    double squares = 0, count = 0, overlap = 0;
    for (size_t at = 0; at < (size_t)l->batch * l->outputs; ++at) {
        if ((int)(at / area(self) % entries) >= coords) squares += (double)l->delta[at] * l->delta[at];
    }
    for (int b = 0; b < l->batch; ++b) {
        count += self->matches[b * MATCHES];
        overlap += self->matches[b * MATCHES + (self->iou_loss == GIOU ? 5 : 1)];
    }
    return (count ? self->iou_normalizer * (count - overlap) / count : 0) + self->obj_normalizer * squares;
}

dn_status yolo_head_loss(layer *l, network *net)
{
    yolo_head *self = (yolo_head *)l;
    self->net_w = net->w;
    self->net_h = net->h;
    if (!net->truth || !l->delta) return DN_OK;
    if (net->w < 1) {
        return dn_fail(DN_ERR_ARGUMENT,
                       "[%s] needs a network with a width and a height: its anchors are in their pixels",
                       l->ops->name);
    }
    const truth_rows r = yolo_truth_rows(self);
    const dn_status status = dn_check_truth(l, &r, net->truth);
    if (status != DN_OK) return status;
    clear(l, net, l->delta, self->loss);
    train_images(l, l->truth, l->delta, self->loss);
    const int detailed = self->show_details && self->iou_loss != MSE && self->boxes->coords == 4;
    l->cost = detailed ? detailed_cost(l) : dn_sum_of_squares(l, net, l->delta);
    l->has_cost = 1;
    return DN_OK;
}
/* What consumers of the output sent goes through the activations; the loss's part is a delta at the input,
 * but for what boxes->through does. */
static void pass_loss(const layer *l, const kernels *k, real *delta, int add, real *to)
{
    const yolo_head *self = (const yolo_head *)l;
    if (self->boxes->through) self->boxes->through(self, l->output, delta);
    k->pass_delta(l->batch * l->outputs, 1, delta, add, to);
}
dn_status yolo_head_backward(layer *l, network *net, void (*gradient)(const layer *l, network *net))
{
    const delta_sink sink = input_sink(net);
    const int all = l->batch * l->outputs, others = !l->has_cost || l->delta_live;
    real *delta, *loss;
    if (!sink.to) return DN_OK;
    if (others) {
        gradient(l, net);
        net->k->pass_delta(all, 1, l->delta, sink.add, sink.to);
    }
    if (!l->has_cost) return DN_OK;
    if (dn_head_work(l, net, &delta, &loss) != DN_OK) return DN_ERR_MEMORY;
    if (others) {
        clear(l, net, delta, loss);
        train_images(l, l->truth, delta, loss);
    } else {
        net->k->copy(all, l->delta, 1, delta, 1);
    }
    pass_loss(l, net->k, delta, others || sink.add, sink.to);
    return DN_OK;
}

/* ---- options */
static dn_status check_lists(const yolo_head *self)
{
    const char *name = self->base.ops->name;
    const real_list *counts = &self->counters_per_class;
    if (self->anchors.n != 2 * self->num) {
        return dn_fail_option("anchors", "[%s] anchors: %d numbers, wanted width and height of num=%d", name,
                              self->anchors.n, self->num);
    }
    for (int i = 0; i < self->anchors.n; ++i) {
        if (self->anchors.values[i] > 0) continue;
        return dn_fail_option("anchors", "[%s] anchors: %g: wanted more than 0", name,
                              (double)self->anchors.values[i]);
    }
    for (int i = 0; i < self->mask.n; ++i) {
        const int value = self->mask.values[i];
        if (value >= 0 && value < self->num && slot_of(self, value) == i) continue;
        return dn_fail_option("mask", "[%s] mask: anchor %d: wanted 0 to %d, each once", name, value,
                              self->num - 1);
    }
    if (counts->n && counts->n != self->classes) {
        return dn_fail_option("counters_per_class", "[%s] counters_per_class: %d numbers for %d classes",
                              name, counts->n, self->classes);
    }
    for (int i = 0; i < counts->n; ++i) {
        if (counts->values[i] >= 0) continue;
        return dn_fail_option("counters_per_class", "[%s] counters_per_class: %g: wanted 0 or more", name,
                              (double)counts->values[i]);
    }
    return DN_OK;
}
dn_status yolo_head_shape(layer *l, network *net, const yolo_boxes *boxes)
{
    yolo_head *self = (yolo_head *)l;
    self->boxes = boxes;
    if (net) self->net_w = net->w, self->net_h = net->h;
    dn_status status = dn_require_image(l);
    if (status == DN_OK) status = dn_check_classes(l, &self->map, self->classes, 0);
    if (status == DN_OK) status = dn_option_in(l, "num", self->num, 1, 1 << 20);
    if (status == DN_OK) status = dn_option_in(l, "max", self->max, 1, 1 << 24);
    if (status == DN_OK) status = dn_option_in(l, "scale_x_y", self->scale_x_y, FLT_MIN, FLT_MAX);
    if (status == DN_OK) status = dn_option_in(l, "iou_loss", self->iou_loss, 0, IOU_KINDS - 1);
    if (status == DN_OK) status = dn_option_in(l, "iou_thresh_kind", self->iou_thresh_kind, 0, IOU_KINDS - 1);
    if (status == DN_OK) status = dn_option_in(l, "yolo_point", self->yolo_point, 0, YOLO_POINTS - 1);
    if (status == DN_OK) status = check_lists(self);
    if (status != DN_OK) return status;
    const int64_t wanted = (int64_t)yolo_slots(self) * (boxes->coords + 1 + self->classes);
    if (l->c != wanted) {
        return dn_fail_option("classes",
                              "[%s] has an input of %d channels: wanted %lld = %d anchors * (%d + 1 + %d "
                              "classes)",
                              l->ops->name, l->c, (long long)wanted, yolo_slots(self), boxes->coords,
                              self->classes);
    }
    l->truths = self->max * truth_size(self);
    return dn_set_output(l, l->h, l->w, l->c);
}

/* ---- boxes out */
int yolo_head_detections(const layer *l, int row, real thresh, real *rows,
                         real (*certainty)(const real *p, size_t at, int area))
{
    const yolo_head *self = (const yolo_head *)l;
    const real *p = l->output + (size_t)row * l->outputs;
    int found = 0;
    for (int slot = 0; slot < yolo_slots(self); ++slot) {
        for (int cell = 0; cell < area(self); ++cell) {
            const int i = cell % l->w, j = cell / l->w;
            const size_t at = yolo_entry(self, slot, i, j), step = (size_t)area(self);
            const real objectness = p[at + self->boxes->coords * step];
            if (!(objectness > thresh)) continue;
            ++found;
            if (!rows) continue;
            const box b = self->boxes->decode(self, p, slot, i, j);
            const real sure = objectness * (certainty ? certainty(p, at, area(self)) : 1);
            const real head[] = {b.x, b.y, b.w, b.h, objectness};
            for (int k = 0; k < 5; ++k) *rows++ = head[k];
            for (int c = 0; c < self->classes; ++c) {
                const real probability = sure * p[at + (self->boxes->coords + 1 + c) * step];
                *rows++ = probability > thresh ? probability : 0;
            }
        }
    }
    return found;
}
