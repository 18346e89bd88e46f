/* [contrastive]: embeddings of one thing are pulled together, those of others apart (AlexeyAB; the losses of
 * T. Chen et al., arXiv:2002.05709, and P. Khosla et al., arXiv:2004.11362). What has an embedding:
 *     yolo_layer=N    each anchor of each cell of that [yolo]: a (h, w) map of inputs / (anchors h w) values
 *                     per anchor. Those that learn a box count, with its class, and its track as label.
 *     yolo_layer=0    each image: its label is the class of its truth; images 2n and 2n + 1 without a class
 *                     show one thing
 * With s_ij the cosine of embeddings i and j, and e_ij = exp(s_ij / temperature), i's loss is cls_normalizer
 * times the mean, over the other j of its class and label, of
 *     -log(e_ij / (e_ij + sum_k e_ik)) = log(1 + exp(x)),    x = log(sum_k e_ik) - s_ij / temperature
 * where k are those of its class with another label; next to a [yolo] only the first contrastive_neg_max.
 * delta, through both ends of each cosine, is clipped to max_delta. The output is zero. */
#include "scalar.h"
#include "yolo_head.h"
#include <float.h>
#include <limits.h>
#include <tgmath.h>

typedef struct {
    layer base;
    int_list yolo_layer; /* one or none */
    int classes, contrastive_neg_max;
    real temperature, cls_normalizer, max_delta;
    int anchors;             /* embeddings of a cell */
    real *loss;              /* of each embedding, at its first value */
    real *labels, *kinds;    /* label and class of each place, (batch, anchors, h, w); label < 0: none */
    int *samples, *partners; /* the places that have a label; those that one of them is compared with */
} contrastive_layer;
#define SELF(l) contrastive_layer *self = (contrastive_layer *)(l)

static const option_spec contrastive_options[] = {
    OPTION(contrastive_layer, "classes", classes, INT),
    OPTION(contrastive_layer, "yolo_layer", yolo_layer, LIST),
    OPTION(contrastive_layer, "temperature", temperature, REAL),
    OPTION(contrastive_layer, "cls_normalizer", cls_normalizer, REAL),
    OPTION(contrastive_layer, "max_delta", max_delta, REAL),
    OPTION(contrastive_layer, "contrastive_neg_max", contrastive_neg_max, INT),
    END_OF_OPTIONS,
};

/* ---- places: the embedding at place p has size(l) values, one in every plane of its map */
static int cells(const layer *l) { return l->h > 0 ? l->h * l->w : 1; }
static int size(const layer *l) { return l->inputs / cells(l) / ((const contrastive_layer *)l)->anchors; }
static int places(const layer *l) { return l->batch * (l->inputs / size(l)); }
static size_t first_value(const layer *l, int p)
{
    return (size_t)(p / cells(l)) * size(l) * cells(l) + p % cells(l);
}
static dn_shape shape_places(const layer *l) { return dn_dims(1, places(l), 0, 0, 0); }
static const array_spec contrastive_rows[] = {
    ARRAY(contrastive_layer, loss, "loss", shape_input, ACTIVATION, TRAIN_ONLY),
    ARRAY(contrastive_layer, labels, "labels", shape_places, ACTIVATION, TRAIN_ONLY),
    ARRAY(contrastive_layer, kinds, "kinds", shape_places, ACTIVATION, TRAIN_ONLY),
    ARRAY(contrastive_layer, samples, "samples", shape_places, ACTIVATION, TRAIN_ONLY | IS_INT),
    ARRAY(contrastive_layer, partners, "partners", shape_places, ACTIVATION, TRAIN_ONLY | IS_INT),
    END_OF_ARRAYS,
};

/* ---- labels */
/* An anchor that learns from several boxes has the last one's. */
static void label_boxes(const contrastive_layer *self, const yolo_head *yolo, const real *truth)
{
    const layer *l = &self->base;
    const truth_rows r = yolo_truth_rows(yolo);
    const yolo_rules rules = yolo_rules_of(yolo);
    for (int b = 0; b < l->batch; ++b) {
        const real *rows = truth + (size_t)b * l->truths;
        const int n = dn_count_truth(&r, rows);
        for (int t = 0; t < n; ++t) {
            const real *row = rows + (size_t)t * r.size;
            int i, j;
            yolo_point_cell(&rules, dn_truth_box(row), &i, &j);
            for (int slot = 0; slot < self->anchors; ++slot) {
                if (!yolo_learns(&rules, dn_truth_box(row), slot)) continue;
                const int p = ((b * self->anchors + slot) * l->h + j) * l->w + i;
                self->labels[p] = row[r.size - 1];
                self->kinds[p] = dn_mapped(&yolo->map, (int)row[r.class_at]);
            }
        }
    }
}
static void label_images(const contrastive_layer *self, const real *truth)
{
    for (int b = 0; b < self->base.batch; ++b) {
        const real *row = truth + (size_t)b * self->classes;
        int best = 0;
        for (int c = 1; c < self->classes; ++c) best = row[c] > row[best] ? c : best;
        self->labels[b] = row[best] > 0 ? best : self->classes + b / 2;
    }
}
static int list_samples(const contrastive_layer *self)
{
    int n = 0;
    for (int p = 0; p < places(&self->base); ++p) {
        if (self->labels[p] >= 0) self->samples[n++] = p;
    }
    return n;
}

/* ---- the loss */
/* The n samples at work: their embeddings' directions (n, size), 1 / length, and cosines with one of them. */
typedef struct {
    const contrastive_layer *self;
    int n;
    real *unit, *inverse, *cosine, *delta;
} samples_at_work;

static void find_directions(const samples_at_work *w, const real *z)
{
    const layer *l = &w->self->base;
    for (int i = 0; i < w->n; ++i) {
        const real *from = z + first_value(l, w->self->samples[i]);
        real *unit = w->unit + (size_t)i * size(l);
        double squares = 0;
        for (int e = 0; e < size(l); ++e) {
            unit[e] = from[(size_t)e * cells(l)];
            squares += (double)unit[e] * unit[e];
        }
        w->inverse[i] = squares > 0 ? (real)(1 / sqrt(squares)) : 0; /* zero points nowhere: no gradient */
        for (int e = 0; e < size(l); ++e) unit[e] *= w->inverse[i];
    }
}
static real cosine(const samples_at_work *w, int i, int j)
{
    const int n = size(&w->self->base);
    const real *a = w->unit + (size_t)i * n, *b = w->unit + (size_t)j * n;
    double sum = 0;
    for (int e = 0; e < n; ++e) sum += (double)a[e] * b[e];
    return (real)sum;
}
/* delta += pull * d cosine(i, j) / d embedding i */
static void pull_one(const samples_at_work *w, int i, int j, real between, real pull)
{
    const layer *l = &w->self->base;
    const real *own = w->unit + (size_t)i * size(l), *other = w->unit + (size_t)j * size(l);
    real *delta = w->delta + first_value(l, w->self->samples[i]);
    for (int e = 0; e < size(l); ++e) {
        delta[(size_t)e * cells(l)] += pull * w->inverse[i] * (other[e] - between * own[e]);
    }
}
static void pull_both(const samples_at_work *w, int i, int j, real pull)
{
    pull_one(w, i, j, w->cosine[j], pull);
    pull_one(w, j, i, w->cosine[j], pull);
}
/* Lists what i is compared with in `partners`: the others from its front on, the same ones from its end. */
static int list_partners(const samples_at_work *w, int i, int *same)
{
    const contrastive_layer *self = w->self;
    const int own = self->samples[i], most = self->yolo_layer.n ? self->contrastive_neg_max : INT_MAX;
    int others = 0;
    *same = 0;
    for (int j = 0; j < w->n; ++j) {
        const int p = self->samples[j], alike = self->labels[p] == self->labels[own];
        if (j == i || self->kinds[p] != self->kinds[own] || (!alike && others == most)) continue;
        self->partners[alike ? w->n - ++*same : others++] = j;
        w->cosine[j] = cosine(w, i, j);
    }
    return others;
}
static real train_sample(const samples_at_work *w, int i)
{
    const contrastive_layer *self = w->self;
    const real t = self->temperature;
    int same;
    const int n = list_partners(w, i, &same), *others = self->partners, *alike = others + w->n - same;
    if (!same || !n) return 0;
    real most = -1, sum = 0, loss = 0, pulled = 0; /* sum: of e_ik / e^(most / t), which does not overflow */
    for (int k = 0; k < n; ++k) most = w->cosine[others[k]] > most ? w->cosine[others[k]] : most;
    for (int k = 0; k < n; ++k) sum += exp((w->cosine[others[k]] - most) / t);
    for (int k = 0; k < same; ++k) {
        const real x = log(sum) + (most - w->cosine[alike[k]]) / t,
                   share = self->cls_normalizer / same * logistic_activate(x);
        loss += self->cls_normalizer / same * dn_logit_loss(x, 0);
        pull_both(w, i, alike[k], share / t);
        pulled += share;
    }
    for (int k = 0; k < n; ++k) {
        pull_both(w, i, others[k], -pulled / t * exp((w->cosine[others[k]] - most) / t) / sum);
    }
    return loss;
}
/* One sample after the other: each adds to the deltas of all that it is compared with. */
static dn_status train(layer *l, network *net)
{
    SELF(l);
    const int n = list_samples(self);
    real *work = dn_workspace(net, (size_t)n * (size(l) + 2));
    if (!work) return DN_ERR_MEMORY;
    real *inverse = work + (size_t)n * size(l);
    const samples_at_work w = {self, n, work, inverse, inverse + n, l->delta};
    find_directions(&w, net->input);
    for (int i = 0; i < n; ++i) self->loss[first_value(l, self->samples[i])] = train_sample(&w, i);
    for (int i = 0; i < l->batch * l->outputs; ++i) {
        l->delta[i] = fmin(fmax(l->delta[i], -self->max_delta), self->max_delta);
    }
    return DN_OK;
}

/* ---- the passes */
static const yolo_head *yolo_of(const contrastive_layer *self, const network *net)
{
    return self->yolo_layer.n ? (const yolo_head *)net->layers[self->yolo_layer.values[0]] : NULL;
}
static dn_status contrastive_forward(layer *l, network *net)
{
    SELF(l);
    const kernels *k = net->k;
    const yolo_head *yolo = yolo_of(self, net);
    k->fill(l->batch * l->outputs, 0, l->output, 1);
    if (!net->truth || !l->delta || (yolo && !yolo->base.has_cost)) return DN_OK;
    k->fill(l->batch * l->outputs, 0, l->delta, 1);
    k->fill(l->batch * l->outputs, 0, self->loss, 1);
    k->fill(places(l), -1, self->labels, 1);
    if (yolo)
        label_boxes(self, yolo, yolo->base.truth);
    else
        label_images(self, net->truth);
    const dn_status status = train(l, net);
    if (status == DN_OK) dn_loss(l, net, self->loss);
    return status;
}
static dn_status contrastive_backward(layer *l, network *net)
{
    const delta_sink sink = input_sink(net);
    if (sink.to) net->k->pass_delta(l->batch * l->outputs, 1, l->delta, sink.add, sink.to);
    return DN_OK;
}
static size_t contrastive_workspace(const layer *l)
{
    return l->train ? (size_t)places(l) * (size(l) + 2) : 0;
}

/* ---- options */
static dn_status check_yolo(layer *l, const contrastive_layer *self, const network *net)
{
    dn_status status = dn_require_image(l);
    if (status == DN_OK) status = dn_one_link(l, net, "yolo_layer", &self->yolo_layer);
    if (status != DN_OK) return status;
    const yolo_head *yolo = yolo_of(self, net);
    const layer *head = &yolo->base;
    if (head->type != YOLO || !yolo->r.alexeyab) {
        return dn_fail_option("yolo_layer",
                              "[contrastive] layer %d is [%s]: wanted a [yolo] of AlexeyAB's dialect, whose "
                              "truth names tracks",
                              head->index, head->ops->name);
    }
    if (head->h != l->h || head->w != l->w || l->c % yolo_rules_of(yolo).slots) {
        return dn_fail_option("yolo_layer",
                              "[contrastive] an input of %dx%dx%d (width x height x channels): wanted %dx%d "
                              "as [yolo], and a multiple of its %d anchors",
                              l->w, l->h, l->c, head->w, head->h, yolo_rules_of(yolo).slots);
    }
    return DN_OK;
}
static dn_status contrastive_shape(layer *l, network *net)
{
    SELF(l);
    dn_status status = dn_option_in(l, "temperature", self->temperature, FLT_MIN, FLT_MAX);
    if (status == DN_OK) status = dn_option_in(l, "classes", self->classes, 1, 1 << 24);
    if (status == DN_OK)
        status = dn_option_in(l, "contrastive_neg_max", self->contrastive_neg_max, 0, INT_MAX);
    if (status == DN_OK) status = dn_option_in(l, "max_delta", self->max_delta, FLT_MIN, FLT_MAX);
    if (status == DN_OK && self->yolo_layer.n) status = check_yolo(l, self, net);
    if (status != DN_OK) return status;
    const yolo_head *yolo = yolo_of(self, net);
    if (!yolo && cells(l) > 1) {
        return dn_fail_option("yolo_layer",
                              "[contrastive] a map of %dx%d without yolo_layer: wanted one embedding per "
                              "image, 1x1",
                              l->w, l->h);
    }
    self->anchors = yolo ? yolo_rules_of(yolo).slots : 1;
    l->truths = yolo ? yolo->base.truths : self->classes;
    l->outputs = l->inputs;
    return DN_OK;
}

const layer_ops contrastive_ops = {
    .name = "contrastive",
    .size = sizeof(contrastive_layer),
    .options = contrastive_options,
    .arrays = contrastive_rows,
    .shape = contrastive_shape,
    .forward = contrastive_forward,
    .backward = contrastive_backward,
    .workspace = contrastive_workspace,
    .is_loss = 1,
    .on_host = 1,
    .ends = 1,
};
