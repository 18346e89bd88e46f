/* [upsample]: every value fills a square of stride x stride, times scale; a negative stride goes the other
 * way, summing squares up. */
#include "layer.h"

typedef struct {
    layer base;
    int stride;
    real scale;
} upsample_layer;
#define SELF(l) upsample_layer *self = (upsample_layer *)(l)

static const option_spec upsample_options[] = {OPTION(upsample_layer, "stride", stride, INT),
                                               OPTION(upsample_layer, "scale", scale, REAL), END_OF_OPTIONS};

static dn_status upsample_shape(layer *l, network *net)
{
    SELF(l);
    (void)net;
    const dn_status status = dn_require_image(l);
    const int64_t s = self->stride, down = -s;
    if (status != DN_OK) return status;
    if (s == 0 || s > 32767 || s < -32767) {
        return dn_fail_option("stride", "[upsample] stride=%d: wanted 1 to 32767, or its negative",
                              self->stride);
    }
    if (s > 0) return dn_set_output(l, l->h * s, l->w * s, l->c);
    if (l->h % down || l->w % down) {
        return dn_fail_option("stride", "[upsample] stride=%d: wanted a divisor of the map's sides %dx%d",
                              self->stride, l->w, l->h);
    }
    return dn_set_output(l, l->h / down, l->w / down, l->c);
}
static dn_status upsample_forward(layer *l, network *net)
{
    SELF(l);
    const int planes = l->batch * l->c;
    if (self->stride > 0)
        net->k->upsample(net->input, planes, l->h, l->w, self->stride, self->scale, 0, l->output);
    else
        net->k->upsample_backward(net->input, planes, l->out_h, l->out_w, -self->stride, self->scale, 0,
                                  l->output);
    return DN_OK;
}
static dn_status upsample_backward(layer *l, network *net)
{
    SELF(l);
    const int planes = l->batch * l->c;
    const delta_sink sink = input_sink(net);
    if (!sink.to) return DN_OK;
    if (self->stride > 0)
        net->k->upsample_backward(l->delta, planes, l->h, l->w, self->stride, self->scale, sink.add, sink.to);
    else
        net->k->upsample(l->delta, planes, l->out_h, l->out_w, -self->stride, self->scale, sink.add, sink.to);
    return DN_OK;
}
const layer_ops upsample_ops = {
    .name = "upsample", .size = sizeof(upsample_layer), .options = upsample_options, .shape = upsample_shape,
    .forward = upsample_forward, .backward = upsample_backward, .backward_reads = dn_reads_nothing,
};
