/* [deconvolutional]: the transposed convolution, that is the backward pass for data of a convolution that
 * takes the output's shape to the input's; then bias, normalization and activation (normalization.h). Output
 * side: (in - 1) stride + size - 2 padding. */
#include "normalization.h"
#include <math.h>

typedef struct {
    layer base;
    int n, size, stride, pad, padding;
    normalization norm;
    PARAMETER_FIELDS(weights, weight_updates);
} deconvolutional_layer;
#define SELF(l) const deconvolutional_layer *self = (const deconvolutional_layer *)(l)

/* ---- arrays, in .weights order */
static dn_shape shape_weights(const layer *l)
{
    SELF(l);
    return dn_dims(4, l->c, self->n, self->size, self->size);
}
static const array_spec deconvolutional_rows[] = {
    NORMALIZATION_BIASES(deconvolutional_layer, norm),
    NORMALIZATION_SCALES(deconvolutional_layer, norm),
    NORMALIZATION_INNER_BIASES(deconvolutional_layer, norm),
    PARAMETER(deconvolutional_layer, , weights, weight_updates, shape_weights, DECAYS),
    NORMALIZATION_WORK(deconvolutional_layer, norm),
    END_OF_ARRAYS,
};
static const option_spec deconvolutional_options[] = {
    OPTION(deconvolutional_layer, "filters", n, INT),
    OPTION(deconvolutional_layer, "size", size, INT),
    OPTION(deconvolutional_layer, "stride", stride, INT),
    OPTION(deconvolutional_layer, "pad", pad, INT),
    OPTION(deconvolutional_layer, "padding", padding, INT),
    NORMALIZATION_OPTIONS(deconvolutional_layer, norm),
    END_OF_OPTIONS,
};

/* ---- make */
static dn_status deconvolutional_shape(layer *l, network *net)
{
    deconvolutional_layer *self = (deconvolutional_layer *)l;
    (void)net;
    if (self->pad) self->padding = self->size / 2;
    dn_status status = dn_require_image(l);
    if (status == DN_OK) status = dn_option_in(l, "filters", self->n, 1, INFINITY);
    if (status == DN_OK) status = dn_option_in(l, "size", self->size, 1, 32767);
    if (status == DN_OK) status = dn_option_in(l, "stride", self->stride, 1, INFINITY);
    if (status == DN_OK) status = dn_option_in(l, "padding", self->padding, 0, 32767);
    if (status != DN_OK) return status;
    const int64_t weights = (int64_t)self->n * l->c;
    if (weights > INT32_MAX / ((int64_t)self->size * self->size)) {
        return dn_fail_option("filters",
                              "[deconvolutional] filters=%d of %dx%dx%d: more than 2147483647 weights",
                              self->n, l->c, self->size, self->size);
    }
    const int64_t border = (int64_t)self->size - 2 * self->padding;
    status = dn_set_output(l, (l->h - 1) * (int64_t)self->stride + border,
                           (l->w - 1) * (int64_t)self->stride + border, self->n);
    return status == DN_OK ? normalization_check(l, &self->norm) : status;
}
/* The convolution from our output to our input. */
static conv_shape shape_of(const layer *l)
{
    SELF(l);
    return (conv_shape){.batch = l->batch,
                        .c = self->n,
                        .h = l->out_h,
                        .w = l->out_w,
                        .n = l->c,
                        .groups = 1,
                        .size = self->size,
                        .stride_x = self->stride,
                        .stride_y = self->stride,
                        .dilation = 1,
                        .pad = self->padding,
                        .out_h = l->h,
                        .out_w = l->w,
                        .algorithm = dn_convolution(l)};
}
/* Aligned. */
static size_t delta_room(const layer *l) { return ((size_t)l->batch * l->inputs + 15) / 16 * 16; }
/* The convolutions' own, before it room for the delta at the input: a convolution cannot add to what is
 * there. */
static size_t deconvolutional_workspace(const layer *l)
{
    SELF(l);
    const conv_shape s = shape_of(l);
    const size_t delta = delta_room(l), own = dn_convolution_workspace(l, &s),
                 norm = normalization_workspace(l, &self->norm);
    const size_t convolution = own > SIZE_MAX - delta ? SIZE_MAX : own + delta;
    return norm > convolution ? norm : convolution;
}
static double deconvolutional_flops(const layer *l)
{
    SELF(l);
    return 2.0 * self->n * self->size * self->size * l->inputs;
}
/* .02 N(0, 1), as in Darknet. */
static void deconvolutional_initialize(layer *l, uint64_t seed)
{
    SELF(l);
    dn_fill_random(self->weights, l->c * self->n * self->size * self->size, (real).02, 0, seed, l->index);
}

/* ---- forward and backward */
static dn_status deconvolutional_forward(layer *l, network *net)
{
    SELF(l);
    const conv_shape s = shape_of(l);
    real *workspace = dn_workspace(net, deconvolutional_workspace(l));
    if (!workspace) return DN_ERR_MEMORY;
    real *sums = normalization_sums(l, &self->norm);
    net->k->convolution_backward_data(&s, net->input, self->weights, 0, sums, workspace);
    return normalization_forward(l, net, &self->norm, sums, NULL);
}
static dn_status deconvolutional_backward(layer *l, network *net)
{
    SELF(l);
    const conv_shape s = shape_of(l);
    real *workspace = dn_workspace(net, deconvolutional_workspace(l));
    if (!workspace) return DN_ERR_MEMORY;
    const dn_status status = normalization_backward(l, net, &self->norm);
    if (status != DN_OK) return status;
    net->k->convolution_backward_weights(&s, l->delta, net->input, self->weight_updates, workspace);
    const delta_sink sink = input_sink(net);
    if (!sink.to) return DN_OK;
    const int inputs = l->batch * l->inputs;
    real *delta = sink.add ? workspace : sink.to;
    net->k->convolution_forward(&s, l->delta, self->weights, NULL, delta, workspace + delta_room(l));
    if (sink.add) net->k->pass_delta(inputs, 1, delta, 1, sink.to);
    return DN_OK;
}
const layer_ops deconvolutional_ops = {
    .name = "deconvolutional",
    .size = sizeof(deconvolutional_layer),
    .options = deconvolutional_options,
    .arrays = deconvolutional_rows,
    .shape = deconvolutional_shape,
    .forward = deconvolutional_forward,
    .backward = deconvolutional_backward,
    .initialize = deconvolutional_initialize,
    .workspace = deconvolutional_workspace,
    .flops = deconvolutional_flops,
    .normalization = offsetof(deconvolutional_layer, norm),
};
