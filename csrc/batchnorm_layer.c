/* [batchnorm]: every channel gets zero mean and unit variance over the mini-batch, then a learned scale and
 * bias; in inference the moving averages stand in for the mini-batch. S. Ioffe and C. Szegedy,
 * arXiv:1502.03167. The formulas: batchnorm_kernels.c. */
#include "batchnorm.h"

typedef struct {
    layer base;
    batch_normalization norm;
} batchnorm_layer;

/* ---- arrays: the saved rows stand in AlexeyAB's .weights order; pjreddie's files lack the biases */
static dn_shape shape_channels(const layer *l) { return dn_dims(1, l->out_c, 0, 0, 0); }
static dn_shape shape_one(const layer *l)
{
    (void)l;
    return dn_dims(1, 1, 0, 0, 0);
}
static dn_shape shape_x_norm(const layer *l)
{
    return batchnorm_keeps_x_norm(l, &((const batchnorm_layer *)l)->norm) ? shape_output(l)
                                                                          : dn_dims(0, 0, 0, 0, 0);
}
static const array_spec batchnorm_rows[] = {
    PARAMETER(batchnorm_layer, norm., biases, bias_updates, shape_channels, 0),
    PARAMETER(batchnorm_layer, norm., scales, scale_updates, shape_channels, 0),
    BATCHNORM_STATISTICS(batchnorm_layer, norm, shape_channels, shape_one),
    BATCHNORM_WORK(batchnorm_layer, norm, shape_channels, shape_channels, shape_x_norm),
    ARRAY(batchnorm_layer, base.x, "x", shape_input, ACTIVATION, BORROWED),
    END_OF_ARRAYS,
};
static const option_spec batchnorm_options[] = {BATCHNORM_OPTIONS(batchnorm_layer, norm), END_OF_OPTIONS};

/* ---- make */
static dn_status batchnorm_shape(layer *base, network *net)
{
    (void)net;
    if (base->h < 1) return dn_set_output(base, 1, 1, base->inputs);
    return dn_set_output(base, base->h, base->w, base->c);
}
layer *make_batchnorm_layer(int batch, int w, int h, int c)
{
    layer *l = new_layer(BATCHNORM);
    if (!l) return NULL;
    ((batchnorm_layer *)l)->norm.rolling_momentum = (real).99;
    if (shape_layer(l, NULL, batch, h, w, c) == DN_OK && allocate_layer(l, 1) == DN_OK) return l;
    free_layer(l);
    return NULL;
}
dn_status resize_batchnorm_layer(layer *l, int w, int h) { return resize_layer(l, NULL, h, w); }

/* ---- forward and backward */
static dn_status batchnorm_forward_pass(layer *base, network *net)
{
    const batchnorm_layer *l = (const batchnorm_layer *)base;
    return batchnorm_forward(base, net, &l->norm, net->input, base->out_c, base->out_h * base->out_w, LINEAR,
                             0, base->output);
}
static dn_status batchnorm_backward_pass(layer *base, network *net)
{
    const batchnorm_layer *l = (const batchnorm_layer *)base;
    const delta_sink sink = input_sink(net);
    return batchnorm_backward(base, net, &l->norm, base->x, base->output, base->delta, base->out_c,
                              base->out_h * base->out_w, LINEAR, sink.add, sink.to);
}
static size_t batchnorm_workspace(const layer *base)
{
    const int needed = base->train && batchnorm_composed(base, &((const batchnorm_layer *)base)->norm);
    return needed ? 2 * (size_t)base->batch * base->outputs : 0;
}
static int batchnorm_reads(const layer *base)
{
    (void)base;
    return READS_INPUT;
}

const layer_ops batchnorm_ops = {
    .name = "batchnorm",
    .size = sizeof(batchnorm_layer),
    .options = batchnorm_options,
    .arrays = batchnorm_rows,
    .shape = batchnorm_shape,
    .forward = batchnorm_forward_pass,
    .backward = batchnorm_backward_pass,
    .workspace = batchnorm_workspace,
    .backward_reads = batchnorm_reads,
};
