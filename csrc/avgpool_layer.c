/* [avgpool]: the mean of each channel over the whole image. */
#include "layer.h"

static dn_status avgpool_shape(layer *l, network *net)
{
    (void)net;
    const dn_status status = dn_require_image(l);
    return status == DN_OK ? dn_set_output(l, 1, 1, l->c) : status;
}
static dn_status avgpool_forward(layer *l, network *net)
{
    net->k->avgpool_forward(net->input, l->batch * l->c, l->h * l->w, l->output);
    return DN_OK;
}
static dn_status avgpool_backward(layer *l, network *net)
{
    const delta_sink sink = input_sink(net);
    if (sink.to) net->k->avgpool_backward(l->delta, l->batch * l->c, l->h * l->w, sink.add, sink.to);
    return DN_OK;
}
const layer_ops avgpool_ops = {
    .name = "avgpool",
    .size = sizeof(layer),
    .shape = avgpool_shape,
    .forward = avgpool_forward,
    .backward = avgpool_backward,
    .backward_reads = dn_reads_nothing,
};
