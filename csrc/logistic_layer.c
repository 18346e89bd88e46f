/* [logistic]: p = 1 / (1 + exp(-x)), and with a truth t the binary cross-entropy, -t log p - (1 - t) log(1 -
 * p). delta holds the negative gradient of that loss at the input x, t - p (pjreddie). */
#include "layer.h"

typedef struct {
    layer base;
    real *loss;
} logistic_layer;
#define SELF(l) logistic_layer *self = (logistic_layer *)(l)

static const array_spec logistic_rows[] = {
    ARRAY(logistic_layer, loss, "loss", shape_output, ACTIVATION, TRAIN_ONLY),
    END_OF_ARRAYS,
};

static dn_status logistic_shape(layer *l, network *net)
{
    (void)net;
    l->outputs = l->truths = l->inputs;
    return DN_OK;
}
static dn_status logistic_forward(layer *l, network *net)
{
    SELF(l);
    const int all = l->batch * l->inputs;
    net->k->copy(all, net->input, 1, l->output, 1);
    net->k->activate_array(l->output, all, LOGISTIC);
    if (!l->truth || !l->delta) return DN_OK;
    net->k->logistic_x_ent(all, l->output, l->truth, l->delta, self->loss);
    net->k->logistic_loss(all, net->input, l->truth, self->loss);
    dn_loss(l, net, self->loss);
    return DN_OK;
}
/* What consumers of the output sent goes through the derivative p (1 - p); the loss's part is a delta at the
 * input already. */
static dn_status logistic_backward(layer *l, network *net)
{
    const kernels *k = net->k;
    const int all = l->batch * l->inputs;
    const delta_sink sink = input_sink(net);
    if (!sink.to) return DN_OK;
    if (!l->has_cost || l->delta_live) k->gradient_array(l->output, all, LOGISTIC, l->delta);
    k->pass_delta(all, 1, l->delta, sink.add, sink.to);
    if (!l->has_cost || !l->delta_live) return DN_OK;
    real *work = dn_workspace(net, 2 * (size_t)all);
    if (!work) return DN_ERR_MEMORY;
    k->logistic_x_ent(all, l->output, l->truth, work, work + all);
    k->pass_delta(all, 1, work, 1, sink.to);
    return DN_OK;
}
static size_t logistic_workspace(const layer *l) { return l->train ? 2 * (size_t)l->batch * l->inputs : 0; }

const layer_ops logistic_ops = {
    .name = "logistic",
    .size = sizeof(logistic_layer),
    .arrays = logistic_rows,
    .shape = logistic_shape,
    .forward = logistic_forward,
    .backward = logistic_backward,
    .workspace = logistic_workspace,
    .is_loss = 1,
};
