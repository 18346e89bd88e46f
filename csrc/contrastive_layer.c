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
 * delta, through both ends of each cosine, is clipped to max_delta. The output is zero. The formulas in C:
 * contrastive_rules.h. */
#include "yolo_head.h"
#include <float.h>
#include <limits.h>

typedef struct {
    layer base;
    int_list yolo_layer; /* one or none */
    int classes, contrastive_neg_max;
    real temperature, cls_normalizer, max_delta;
    int anchors;             /* embeddings of a cell */
    real *loss;              /* of each embedding, at its first value */
    real *labels, *kinds;    /* label and class of each place, (batch, anchors, h, w); label < 0: none */
    int *samples, *partners; /* the places that have a label; room for what one of them is compared with */
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

/* ---- places: where an embedding stands, size(l) values, one in every plane of its map */
static int cells(const layer *l) { return l->h > 0 ? l->h * l->w : 1; }
static int size(const layer *l) { return l->inputs / cells(l) / ((const contrastive_layer *)l)->anchors; }
static int places(const layer *l) { return l->batch * (l->inputs / size(l)); }
static dn_shape shape_places(const layer *l) { return dn_dims(1, places(l), 0, 0, 0); }
static const array_spec contrastive_rows[] = {
    ARRAY(contrastive_layer, loss, "loss", shape_input, ACTIVATION, TRAIN_ONLY),
    ARRAY(contrastive_layer, labels, "labels", shape_places, ACTIVATION, TRAIN_ONLY),
    ARRAY(contrastive_layer, kinds, "kinds", shape_places, ACTIVATION, TRAIN_ONLY),
    ARRAY(contrastive_layer, samples, "samples", shape_places, ACTIVATION, TRAIN_ONLY | IS_INT),
    ARRAY(contrastive_layer, partners, "partners", shape_places, ACTIVATION, TRAIN_ONLY | IS_INT),
    END_OF_ARRAYS,
};

/* ---- the passes */
static const yolo_head *yolo_of(const contrastive_layer *self, const network *net)
{
    return self->yolo_layer.n ? (const yolo_head *)net->layers[self->yolo_layer.values[0]] : NULL;
}
/* What the kernel is told. */
static contrastive_rules rules_of(const contrastive_layer *self)
{
    const layer *l = &self->base;
    return (contrastive_rules){.batch = l->batch,
                               .anchors = self->anchors,
                               .cells = cells(l),
                               .size = size(l),
                               .most = self->yolo_layer.n ? self->contrastive_neg_max : INT_MAX,
                               .temperature = self->temperature,
                               .cls_normalizer = self->cls_normalizer,
                               .max_delta = self->max_delta};
}
static size_t contrastive_workspace(const layer *l)
{
    return l->train ? (size_t)places(l) * (size(l) + 2) : 0;
}
static dn_status contrastive_forward(layer *l, network *net)
{
    SELF(l);
    const kernels *k = net->k;
    const yolo_head *yolo = yolo_of(self, net);
    k->fill(l->batch * l->outputs, 0, l->output, 1);
    if (!net->truth || !l->delta || (yolo && !yolo->base.has_cost)) return DN_OK;
    real *work = dn_workspace(net, contrastive_workspace(l));
    if (!work) return DN_ERR_MEMORY;
    k->fill(l->batch * l->outputs, 0, l->delta, 1);
    k->fill(l->batch * l->outputs, 0, self->loss, 1);
    k->fill(places(l), -1, self->labels, 1);
    if (yolo) {
        const yolo_rules r = yolo_rules_of(yolo);
        k->contrastive_label_boxes(&r, yolo->base.truth, self->labels, self->kinds);
    } else {
        k->contrastive_label_images(l->batch, self->classes, net->truth, self->labels);
    }
    const contrastive_rules r = rules_of(self);
    k->contrastive_train(&r, net->input, self->labels, self->kinds, self->samples, self->partners, l->delta,
                         self->loss, work);
    dn_loss(l, net, self->loss);
    return DN_OK;
}
static dn_status contrastive_backward(layer *l, network *net)
{
    const delta_sink sink = input_sink(net);
    if (sink.to) net->k->pass_delta(l->batch * l->outputs, 1, l->delta, sink.add, sink.to);
    return DN_OK;
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
    .ends = 1,
};
