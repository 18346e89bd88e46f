/* [reorg]: moves squares of stride x stride pixels into channels, in pjreddie's order: the values of the
 * input, taken for a map of (c / stride^2, h * stride, w * stride), become a map of (c, h, w), which is
 * called (c * stride^2, h / stride, w / stride). With reverse=1 the same move undone, channels into pixels.
 *     flatten=1   no squares: channels last, (c, h * w) -> (h * w, c); with reverse=1 first again
 *     extra=N     no squares either: each row as it is with N zeros behind it, and no longer an image */
#include "layer.h"
#include <math.h>

typedef struct {
    layer base;
    int stride, reverse, flatten, extra;
} reorg_layer;
#define SELF(l) const reorg_layer *self = (const reorg_layer *)(l)

static const option_spec reorg_options[] = {
    OPTION(reorg_layer, "stride", stride, INT),
    OPTION(reorg_layer, "reverse", reverse, INT),
    OPTION(reorg_layer, "flatten", flatten, INT),
    OPTION(reorg_layer, "extra", extra, INT),
    END_OF_OPTIONS,
};

static dn_status reorg_shape(layer *l, network *net)
{
    SELF(l);
    (void)net;
    const int64_t s = self->stride;
    dn_status status = dn_require_image(l);
    if (status == DN_OK) status = dn_option_in(l, "stride", self->stride, 1, 32767);
    if (status == DN_OK) status = dn_option_in(l, "extra", self->extra, 0, INFINITY);
    if (status != DN_OK) return status;
    if (self->flatten && self->extra) {
        return dn_fail_option(
            "extra", "[reorg] extra=%d: wanted 0, since flatten=1 keeps the number of values", self->extra);
    }
    if (self->extra) return dn_set_plain_output(l, (int64_t)l->inputs + self->extra);
    const int uneven = !self->reverse && (l->h % s || l->w % s);
    if (uneven || ((self->reverse || !self->flatten) && l->c % (s * s))) {
        return dn_fail_option("stride",
                              "[reorg] stride=%d: wanted a divisor of the map's sides %dx%d, and its "
                              "square one of the %d channels",
                              self->stride, l->w, l->h, l->c);
    }
    if (self->reverse) return dn_set_output(l, l->h * s, l->w * s, l->c / (s * s));
    return dn_set_output(l, l->h / s, l->w / s, l->c * s * s);
}
static dn_status reorg_forward(layer *l, network *net)
{
    SELF(l);
    const kernels *k = net->k;
    const int area = l->h * l->w;
    if (self->flatten) {
        k->transpose(net->input, l->batch, self->reverse ? area : l->c, self->reverse ? l->c : area, 0,
                     l->output);
    } else if (self->extra) {
        k->fill(l->batch * l->outputs, 0, l->output, 1);
        k->copy_rows(l->batch, l->inputs, 1, net->input, l->inputs, 0, l->output, l->outputs);
    } else {
        k->reorg(net->input, l->w, l->h, l->c, l->batch, self->stride, self->reverse, 0, l->output);
    }
    return DN_OK;
}
static dn_status reorg_backward(layer *l, network *net)
{
    SELF(l);
    const kernels *k = net->k;
    const int area = l->h * l->w;
    const delta_sink sink = input_sink(net);
    if (!sink.to) return DN_OK;
    if (self->flatten) {
        k->transpose(l->delta, l->batch, self->reverse ? l->c : area, self->reverse ? area : l->c, sink.add,
                     sink.to);
    } else if (self->extra) {
        k->copy_rows(l->batch, l->inputs, 1, l->delta, l->outputs, sink.add, sink.to, l->inputs);
    } else {
        k->reorg(l->delta, l->w, l->h, l->c, l->batch, self->stride, !self->reverse, sink.add, sink.to);
    }
    return DN_OK;
}
const layer_ops reorg_ops = {
    .name = "reorg",
    .size = sizeof(reorg_layer),
    .options = reorg_options,
    .shape = reorg_shape,
    .forward = reorg_forward,
    .backward = reorg_backward,
    .backward_reads = dn_reads_nothing,
};
