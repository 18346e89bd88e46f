/* [cost]: the loss between its input x and the truth t, element by element into output; with d = t - x
 *   sse     d^2                          delta d     (of half the loss, Darknet's convention)
 *   masked  as sse, and nothing where t is DN_SECRET_NUM
 *   seg     as sse, times noobj where t is 0
 *   L1      |d|                          delta sign(d)
 *   smooth  d^2 below 1, else 2|d| - 1   delta d below 1, else sign(d)     (of half the loss)
 *   wgan    x where t is 0, else -x      delta -1, or 1 where t > 0
 * The layer before gets scale * delta. Without a truth the output is zero. */
#include "layer.h"

typedef struct {
    layer base;
    int type;
    real scale, noobj;
} cost_layer;

static const option_spec cost_options[] = {
    OPTION(cost_layer, "type", type, INT),
    OPTION(cost_layer, "scale", scale, REAL),
    OPTION(cost_layer, "noobj", noobj, REAL),
    END_OF_OPTIONS,
};

static dn_status cost_shape(layer *l, network *net)
{
    (void)net;
    l->outputs = l->truths = l->inputs;
    return dn_option_in(l, "type", ((cost_layer *)l)->type, 0, COST_TYPES - 1);
}
static dn_status cost_forward(layer *l, network *net)
{
    const cost_layer *self = (cost_layer *)l;
    const kernels *k = net->k;
    const int all = l->batch * l->inputs;
    if (!net->truth || !l->delta) {
        k->fill(all, 0, l->output, 1);
        return DN_OK;
    }
    switch (self->type) {
    case L1: k->l1(all, net->input, net->truth, l->delta, l->output); break;
    case SMOOTH: k->smooth_l1(all, net->input, net->truth, l->delta, l->output); break;
    case WGAN: k->wgan(all, net->input, net->truth, l->delta, l->output); break;
    default: k->l2(all, net->input, net->truth, l->delta, l->output);
    }
    if (self->type == MASKED) k->mask_loss(all, net->truth, DN_SECRET_NUM, 0, l->delta, l->output);
    if (self->type == SEG) k->mask_loss(all, net->truth, 0, self->noobj, l->delta, l->output);
    dn_loss(l, net, l->output);
    return DN_OK;
}
static dn_status cost_backward(layer *l, network *net)
{
    const delta_sink sink = input_sink(net);
    if (sink.to) {
        net->k->pass_delta(l->batch * l->inputs, ((cost_layer *)l)->scale, l->delta, sink.add, sink.to);
    }
    return DN_OK;
}
const layer_ops cost_ops = {
    .name = "cost",
    .size = sizeof(cost_layer),
    .options = cost_options,
    .shape = cost_shape,
    .forward = cost_forward,
    .backward = cost_backward,
    .is_loss = 1,
    .ends = 1,
};
