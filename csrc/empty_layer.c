/* [empty], [silence]: hands its input on as it is. */
#include "layer.h"

static dn_status empty_shape(layer *l, network *net)
{
    (void)net;
    return l->h > 0 ? dn_set_output(l, l->h, l->w, l->c) : dn_set_plain_output(l, l->inputs);
}
static dn_status empty_forward(layer *l, network *net)
{
    net->k->copy(l->batch * l->inputs, net->input, 1, l->output, 1);
    return DN_OK;
}
static dn_status empty_backward(layer *l, network *net)
{
    const delta_sink sink = input_sink(net);
    if (sink.to) net->k->pass_delta(l->batch * l->inputs, 1, l->delta, sink.add, sink.to);
    return DN_OK;
}
const layer_ops empty_ops = {
    .name = "empty",
    .size = sizeof(layer),
    .shape = empty_shape,
    .forward = empty_forward,
    .backward = empty_backward,
    .backward_reads = dn_reads_nothing,
};
