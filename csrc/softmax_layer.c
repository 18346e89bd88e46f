/* [softmax]: p = exp(x / T) / sum exp(x / T) within each group, and with a truth t the cross-entropy, -sum t
 * log p. delta holds the negative gradient of that loss at the input x, (t - p) / T. A tree's groups are its
 * sets of siblings; a group whose truth is DN_SECRET_NUM does not count. */
#include "layer.h"

typedef struct {
    layer base;
    int groups, noloss;
    real temperature;
    int_list tree;                   /* sizes of the sibling groups, in order; empty: `groups` equal ones */
    real *loss;
} softmax_layer;
#define SELF(l) softmax_layer *self = (softmax_layer *)(l)

static const option_spec softmax_options[] = {
    OPTION(softmax_layer, "groups", groups, INT),          OPTION(softmax_layer, "noloss", noloss, INT),
    OPTION(softmax_layer, "temperature", temperature, REAL), OPTION(softmax_layer, "tree", tree, LIST),
    END_OF_OPTIONS,
};
static const array_spec softmax_rows[] = {
    ARRAY(softmax_layer, loss, "loss", shape_output, ACTIVATION, TRAIN_ONLY),
    END_OF_ARRAYS,
};

static dn_status softmax_shape(layer *l, network *net)
{
    SELF(l);
    (void)net;
    if (!(self->temperature > 0)) {
        return dn_fail_option("temperature", "[softmax] temperature=%g: wanted more than 0",
                              (double)self->temperature);
    }
    if (self->groups < 1 || l->inputs % self->groups) {
        return dn_fail_option("groups", "[softmax] groups=%d: wanted a divisor of the %d inputs",
                              self->groups, l->inputs);
    }
    int64_t members = 0;
    for (int g = 0; g < self->tree.n; ++g) {
        if (self->tree.values[g] < 1) {
            return dn_fail_option("tree", "[softmax] tree: a group of %d nodes", self->tree.values[g]);
        }
        members += self->tree.values[g];
    }
    if (self->tree.n && members != l->inputs) {
        return dn_fail_option("tree", "[softmax] tree: its %lld nodes are not the %d inputs",
                              (long long)members, l->inputs);
    }
    l->outputs = l->inputs;
    l->truths = self->noloss ? 0 : l->inputs;
    return DN_OK;
}

/* Loops over the sets of outputs that sum to one: `count` sets of `size` values from `first` on. */
#define EACH_GROUP(self, l, first, size, count) \
    for (int g_ = 0, first = 0, trees_ = (self)->tree.n, count = trees_ ? 1 : (self)->groups, size; \
         g_ < (trees_ ? trees_ : 1) && \
         ((size = trees_ ? (self)->tree.values[g_] : (l)->inputs / (self)->groups), 1); \
         first += size, ++g_)

static void softmax_loss(const layer *l, const kernels *k, const softmax_layer *self, real *delta, real *loss)
{
    k->softmax_x_ent(l->batch * l->inputs, l->output, l->truth, delta, loss);
    if (self->temperature != 1) k->scal(l->batch * l->inputs, 1 / self->temperature, delta, 1);
}
static dn_status softmax_forward(layer *l, network *net)
{
    SELF(l);
    EACH_GROUP(self, l, first, size, count) {
        net->k->softmax(net->input + first, size, l->batch, l->inputs, count, size, 1, self->temperature,
                        l->output + first);
    }
    if (self->noloss || !l->truth || !l->delta) return DN_OK;
    softmax_loss(l, net->k, self, l->delta, self->loss);
    dn_loss(l, net, self->loss);
    return DN_OK;
}

/* What consumers of the probabilities sent goes through the softmax's own derivative; the loss's part is a
 * delta at the input already. */
static dn_status softmax_backward(layer *l, network *net)
{
    SELF(l);
    const kernels *k = net->k;
    const int all = l->batch * l->inputs;
    delta_sink sink = input_sink(net);
    if (!sink.to) return DN_OK;
    if (l->has_cost && !l->delta_live) {
        k->pass_delta(all, 1, l->delta, sink.add, sink.to);
        return DN_OK;
    }
    real *work = dn_workspace(net, 2 * (size_t)all);
    if (!work) return DN_ERR_MEMORY;
    EACH_GROUP(self, l, first, size, count) {
        k->softmax_backward(l->output + first, l->delta + first, size, l->batch, l->inputs, count, size, 1,
                            self->temperature, work + first);
    }
    k->pass_delta(all, 1, work, sink.add, sink.to);
    if (!l->has_cost) return DN_OK;
    softmax_loss(l, k, self, work, work + all);
    k->pass_delta(all, 1, work, 1, sink.to);
    return DN_OK;
}
static size_t softmax_workspace(const layer *l) { return l->train ? 2 * (size_t)l->batch * l->inputs : 0; }

const layer_ops softmax_ops = {
    .name = "softmax",
    .size = sizeof(softmax_layer),
    .options = softmax_options,
    .arrays = softmax_rows,
    .shape = softmax_shape,
    .forward = softmax_forward,
    .backward = softmax_backward,
    .workspace = softmax_workspace,
    .is_loss = 1,
};
