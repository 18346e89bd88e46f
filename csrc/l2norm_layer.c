/* [l2norm]: the channels of each pixel divided by their length, y = x / sqrt(sum of x^2); a pixel of zeros
 * stays zero. Plain inputs are one pixel. */
#include "layer.h"

static dn_status l2norm_shape(layer *l, network *net)
{
    (void)net;
    return l->h > 0 ? dn_set_output(l, l->h, l->w, l->c) : dn_set_plain_output(l, l->inputs);
}
static dn_status l2norm_forward(layer *l, network *net)
{
    net->k->l2norm_forward(net->input, l->batch, l->c, l->inputs / l->c, l->output);
    return DN_OK;
}
static dn_status l2norm_backward(layer *l, network *net)
{
    const delta_sink sink = input_sink(net);
    if (!sink.to) return DN_OK;
    net->k->l2norm_backward(net->input, l->output, l->delta, l->batch, l->c, l->inputs / l->c, sink.add,
                            sink.to);
    return DN_OK;
}
const layer_ops l2norm_ops = {
    .name = "l2norm",
    .size = sizeof(layer),
    .shape = l2norm_shape,
    .forward = l2norm_forward,
    .backward = l2norm_backward,
};
