/* [local_avgpool]: the mean of each window, over those of its values that lie in the image (AlexeyAB). */
#include "pool.h"

static dn_status local_avgpool_forward(layer *l, network *net)
{
    const pool_shape s = pool_shape_of(l);
    net->k->local_avgpool_forward(net->input, &s, l->output);
    return DN_OK;
}
static dn_status local_avgpool_backward(layer *l, network *net)
{
    const pool_shape s = pool_shape_of(l);
    const delta_sink sink = input_sink(net);
    if (sink.to) net->k->local_avgpool_backward(l->delta, &s, sink.add, sink.to);
    return DN_OK;
}
const layer_ops local_avgpool_ops = {
    .name = "local_avgpool",
    .size = sizeof(pool_layer),
    .options = pool_options,
    .shape = pool_shape_layer,
    .forward = local_avgpool_forward,
    .backward = local_avgpool_backward,
    .backward_reads = dn_reads_nothing,
    .flops = pool_flops,
};
