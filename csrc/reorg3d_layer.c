/* [reorg3d]: the pixels of each square of stride x stride become channels, (c, h, w) -> (c * stride^2,
 * h / stride, w / stride): first all channels of the squares' upper left pixels, then of those to the right.
 * With reverse=1 the other way round, channels into pixels. */
#include "layer.h"

typedef struct {
    layer base;
    int stride, reverse;
} reorg3d_layer;
#define SELF(l) const reorg3d_layer *self = (const reorg3d_layer *)(l)

static const option_spec reorg3d_options[] = {OPTION(reorg3d_layer, "stride", stride, INT),
                                              OPTION(reorg3d_layer, "reverse", reverse, INT), END_OF_OPTIONS};

static dn_status reorg3d_shape(layer *l, network *net)
{
    SELF(l);
    (void)net;
    const int64_t s = self->stride;
    dn_status status = dn_require_image(l);
    if (status == DN_OK) status = dn_option_in(l, "stride", self->stride, 1, 32767);
    if (status != DN_OK) return status;
    if (self->reverse && l->c % (s * s)) {
        return dn_fail_option("stride", "[reorg3d] stride=%d: wanted its square to divide the %d channels",
                              self->stride, l->c);
    }
    if (self->reverse) return dn_set_output(l, l->h * s, l->w * s, l->c / (s * s));
    if (l->h % s || l->w % s) {
        return dn_fail_option("stride", "[reorg3d] stride=%d: wanted a divisor of the map's sides %dx%d",
                              self->stride, l->w, l->h);
    }
    return dn_set_output(l, l->h / s, l->w / s, l->c * s * s);
}
/* Between the map with more channels and the one with more pixels: see reorg_cpu. */
static void move(const layer *l, const kernels *k, const real *from, int to_pixels, int add, real *to)
{
    SELF(l);
    if (self->reverse)
        k->reorg(from, l->w, l->h, l->c, l->batch, self->stride, to_pixels, add, to);
    else
        k->reorg(from, l->out_w, l->out_h, l->out_c, l->batch, self->stride, to_pixels, add, to);
}
static dn_status reorg3d_forward(layer *l, network *net)
{
    SELF(l);
    move(l, net->k, net->input, self->reverse, 0, l->output);
    return DN_OK;
}
static dn_status reorg3d_backward(layer *l, network *net)
{
    SELF(l);
    const delta_sink sink = input_sink(net);
    if (sink.to) move(l, net->k, l->delta, !self->reverse, sink.add, sink.to);
    return DN_OK;
}
const layer_ops reorg3d_ops = {
    .name = "reorg3d",
    .size = sizeof(reorg3d_layer),
    .options = reorg3d_options,
    .shape = reorg3d_shape,
    .forward = reorg3d_forward,
    .backward = reorg3d_backward,
    .backward_reads = dn_reads_nothing,
};
