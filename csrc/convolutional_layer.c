/* [convolutional]: filters slide over the image; then batch normalization or a bias, then the activation.
 * Output side: (in + 2 padding - size) / stride + 1; dilation spreads the taps without changing it
 * (AlexeyAB's rule). */
#include "batchnorm.h"
#include "scalar.h"
#include <math.h>

typedef struct {
    layer base;
    int n, groups, size, stride, stride_x, stride_y, dilation, pad, padding, activation, uniform_init;
    batch_normalization norm;        /* its biases are the layer's, with normalization and without */
    PARAMETER_FIELDS(weights, weight_updates);
    real *x;                         /* the convolution's result before normalization */
    real *activation_input;          /* before an activation whose output does not tell the slope */
    real *folded;                    /* normalization of inference as scale and shift */
} convolutional_layer;
#define SELF(l) const convolutional_layer *self = (const convolutional_layer *)(l)

/* ---- arrays, in .weights order: biases, scales, rolling mean, rolling variance, weights */
static const dn_shape no_array = {0, {0}};
static dn_shape shape_filters(const layer *l) { return dn_dims(1, l->out_c, 0, 0, 0); }
static dn_shape shape_normalized(const layer *l)
{
    SELF(l);
    return self->norm.on ? shape_filters(l) : no_array;
}
static dn_shape shape_one(const layer *l)
{
    SELF(l);
    return self->norm.on ? dn_dims(1, 1, 0, 0, 0) : no_array;
}
static dn_shape shape_weights(const layer *l)
{
    SELF(l);
    return dn_dims(4, self->n, l->c / self->groups, self->size, self->size);
}
static dn_shape shape_x(const layer *l)
{
    SELF(l);
    return self->norm.on ? shape_output(l) : no_array;
}
static dn_shape shape_x_norm(const layer *l)
{
    SELF(l);
    return self->norm.on && batchnorm_keeps_x_norm(l, &self->norm) ? shape_output(l) : no_array;
}
/* With normalization the input of an elementwise activation is worked out again from x. */
static dn_shape shape_activation_input(const layer *l)
{
    SELF(l);
    const int kept = self->norm.on ? activation_mixes_channels(self->activation)
                                   : activation_needs_input(self->activation);
    return kept ? shape_output(l) : no_array;
}
static dn_shape shape_folded(const layer *l)
{
    SELF(l);
    return self->norm.on ? dn_dims(2, 2, l->out_c, 0, 0) : no_array;
}
static const array_spec convolutional_rows[] = {
    PARAMETER(convolutional_layer, norm., biases, bias_updates, shape_filters, 0),
    PARAMETER(convolutional_layer, norm., scales, scale_updates, shape_normalized, 0),
    BATCHNORM_STATISTICS(convolutional_layer, norm, shape_normalized, shape_one),
    PARAMETER(convolutional_layer, , weights, weight_updates, shape_weights, DECAYS),
    BATCHNORM_WORK(convolutional_layer, norm, shape_normalized, shape_x_norm),
    ARRAY(convolutional_layer, x, "x", shape_x, ACTIVATION, TRAIN_ONLY),
    ARRAY(convolutional_layer, activation_input, "activation_input", shape_activation_input, ACTIVATION,
          TRAIN_ONLY),
    ARRAY(convolutional_layer, folded, "folded", shape_folded, ACTIVATION, 0),
    END_OF_ARRAYS,
};
static const option_spec convolutional_options[] = {
    OPTION(convolutional_layer, "filters", n, INT),
    OPTION(convolutional_layer, "groups", groups, INT),
    OPTION(convolutional_layer, "size", size, INT),
    OPTION(convolutional_layer, "stride", stride, INT),
    OPTION(convolutional_layer, "stride_x", stride_x, INT),
    OPTION(convolutional_layer, "stride_y", stride_y, INT),
    OPTION(convolutional_layer, "dilation", dilation, INT),
    OPTION(convolutional_layer, "pad", pad, INT),
    OPTION(convolutional_layer, "padding", padding, INT),
    OPTION(convolutional_layer, "activation", activation, INT),
    OPTION(convolutional_layer, "batch_normalize", norm.on, INT),
    OPTION(convolutional_layer, "uniform_init", uniform_init, INT),
    BATCHNORM_OPTIONS(convolutional_layer, norm),
    END_OF_OPTIONS,
};

/* ---- make */
static dn_status check_options(const layer *l, const convolutional_layer *self)
{
    dn_status status = dn_require_image(l);
    if (status == DN_OK) status = dn_option_in(l, "filters", self->n, 1, INFINITY);
    if (status == DN_OK) status = dn_option_in(l, "size", self->size, 1, 32767);
    if (status == DN_OK) status = dn_option_in(l, "stride_x", self->stride_x, 1, INFINITY);
    if (status == DN_OK) status = dn_option_in(l, "stride_y", self->stride_y, 1, INFINITY);
    if (status == DN_OK) status = dn_option_in(l, "dilation", self->dilation, 1, 32767);
    if (status == DN_OK) status = dn_option_in(l, "padding", self->padding, 0, 32767);
    if (status == DN_OK) status = dn_option_in(l, "activation", self->activation, 0, ACTIVATIONS - 1);
    if (status == DN_OK) status = dn_option_in(l, "groups", self->groups, 1, INFINITY);
    if (status != DN_OK) return status;
    if (l->c % self->groups || self->n % self->groups) {
        return dn_fail_option(
            "groups",
            "[convolutional] groups=%d: wanted a divisor of the %d input channels and of filters=%d",
            self->groups, l->c, self->n);
    }
    return DN_OK;
}
static dn_status convolutional_shape(layer *l, network *net)
{
    convolutional_layer *self = (convolutional_layer *)l;
    (void)net;
    if (self->stride_x < 1) self->stride_x = self->stride;
    if (self->stride_y < 1) self->stride_y = self->stride;
    if (self->size == 1 || self->dilation == 0) self->dilation = 1;
    if (self->groups == 0) self->groups = 1;
    if (self->pad) self->padding = self->size / 2;
    const dn_status status = check_options(l, self);
    if (status != DN_OK) return status;
    const int64_t h = (int64_t)l->h + 2 * self->padding, w = (int64_t)l->w + 2 * self->padding;
    if (h < self->size || w < self->size) {
        return dn_fail_option("size",
                              "[convolutional] size=%d: wanted at most the image with its padding, %lldx%lld",
                              self->size, (long long)h, (long long)w);
    }
    const int64_t weights = (int64_t)self->n * (l->c / self->groups);
    if (weights > INT32_MAX / ((int64_t)self->size * self->size)) {
        return dn_fail_option("filters",
                              "[convolutional] filters=%d of %dx%dx%d: more than 2147483647 weights", self->n,
                              l->c / self->groups, self->size, self->size);
    }
    return dn_set_output(l, (h - self->size) / self->stride_y + 1, (w - self->size) / self->stride_x + 1,
                         self->n);
}
static conv_shape shape_of(const layer *l)
{
    SELF(l);
    return (conv_shape){.batch = l->batch,
                        .c = l->c,
                        .h = l->h,
                        .w = l->w,
                        .n = self->n,
                        .groups = self->groups,
                        .size = self->size,
                        .stride_x = self->stride_x,
                        .stride_y = self->stride_y,
                        .dilation = self->dilation,
                        .pad = self->padding * self->dilation,
                        .out_h = l->out_h,
                        .out_w = l->out_w};
}
static size_t convolutional_workspace(const layer *l)
{
    SELF(l);
    const conv_shape s = shape_of(l);
    const size_t convolution = convolution_workspace(&s, dn_num_threads()),
                 all = 2 * (size_t)l->batch * l->outputs;
    return self->norm.on && l->train && batchnorm_composed(l, &self->norm) && all > convolution ? all
                                                                                                : convolution;
}
static double convolutional_flops(const layer *l)
{
    SELF(l);
    return 2.0 * self->n * self->size * self->size * (l->c / self->groups) * l->out_h * l->out_w;
}
/* He's scale, sqrt(2 / fan-in): times N(0, 1) in pjreddie's dialect, U(-1, 1) in AlexeyAB's. */
static void convolutional_initialize(layer *l, uint64_t seed)
{
    SELF(l);
    const int fan_in = self->size * self->size * (l->c / self->groups);
    dn_fill_random(self->weights, self->n * fan_in, (real)sqrt(2.0 / fan_in), self->uniform_init, seed,
                   l->index);
}

/* ---- forward */
static void activate_output(const layer *l, const kernels *k, ACTIVATION a, real *input)
{
    if (activation_mixes_channels(a))
        k->activate_channels(input, l->batch, l->out_c, l->out_h * l->out_w, a, l->output);
    else {
        if (input != l->output) k->copy(l->batch * l->outputs, input, 1, l->output, 1);
        k->activate_array(l->output, l->batch * l->outputs, a);
    }
}
/* Bias or folded normalization, and the activation where the kernel knows it, while each tile of the output
 * is in the cache. */
static void forward_epilogue(const layer *l, network *net, const conv_shape *s, const real *scale,
                             const real *shift, real *workspace)
{
    SELF(l);
    const ACTIVATION a = self->activation;
    real *input = self->activation_input && !self->norm.on ? self->activation_input : l->output;
    const int fuses = input == l->output && conv_epilogue_fuses(a);
    const conv_epilogue epilogue = {scale, shift, fuses ? a : LINEAR};
    net->k->convolution_forward(s, net->input, self->weights, &epilogue, input, workspace);
    if (!fuses) activate_output(l, net->k, a, input);
}
static dn_status forward_normalized(const layer *l, network *net, const conv_shape *s, real *workspace)
{
    SELF(l);
    const ACTIVATION a = self->activation;
    const int mixes = activation_mixes_channels(a);
    real *x = self->x ? self->x : l->output,
         *y = mixes && self->activation_input ? self->activation_input : l->output;
    net->k->convolution_forward(s, net->input, self->weights, NULL, x, workspace);
    const dn_status status =
        batchnorm_forward(l, net, &self->norm, x, l->out_c, l->out_h * l->out_w, mixes ? LINEAR : a, y);
    if (status == DN_OK && mixes) activate_output(l, net->k, a, y);
    return status;
}
static dn_status convolutional_forward(layer *l, network *net)
{
    SELF(l);
    const conv_shape s = shape_of(l);
    real *workspace = dn_workspace(net, convolutional_workspace(l));
    if (!workspace) return DN_ERR_MEMORY;
    if (!self->norm.on) {
        forward_epilogue(l, net, &s, NULL, self->norm.biases, workspace);
        return DN_OK;
    }
    /* Folding pays where nothing reads x later: in a network made for inference. */
    if (l->train || batchnorm_uses_batch(net, &self->norm) || batchnorm_composed(l, &self->norm)) {
        return forward_normalized(l, net, &s, workspace);
    }
    batchnorm_fold(&self->norm, l->out_c, self->folded, self->folded + l->out_c);
    forward_epilogue(l, net, &s, self->folded, self->folded + l->out_c, workspace);
    return DN_OK;
}

/* ---- backward: delta at the output -> delta at the convolution's result, in place; then weights and input */
static dn_status backward_activation(const layer *l, network *net)
{
    SELF(l);
    const kernels *k = net->k;
    const ACTIVATION a = self->activation;
    const int all = l->batch * l->outputs, spatial = l->out_h * l->out_w,
              mixes = activation_mixes_channels(a);
    if (mixes) {
        k->gradient_channels(self->activation_input, l->output, l->batch, l->out_c, spatial, a, l->delta);
    }
    if (self->norm.on) {
        return batchnorm_backward(l, net, &self->norm, self->x, l->output, l->delta, l->out_c, spatial,
                                  mixes ? LINEAR : a, 0, l->delta);
    }
    if (!mixes && activation_needs_input(a))
        k->gradient_input_array(self->activation_input, all, a, l->delta);
    else if (!mixes) k->gradient_array(l->output, all, a, l->delta);
    k->backward_bias(self->norm.bias_updates, l->delta, l->batch, l->out_c, spatial);
    return DN_OK;
}
static dn_status convolutional_backward(layer *l, network *net)
{
    SELF(l);
    const conv_shape s = shape_of(l);
    real *workspace = dn_workspace(net, convolutional_workspace(l));
    if (!workspace) return DN_ERR_MEMORY;
    const dn_status status = backward_activation(l, net);
    if (status != DN_OK) return status;
    workspace = dn_workspace(net, convolutional_workspace(l));
    net->k->convolution_backward_weights(&s, net->input, l->delta, self->weight_updates, workspace);
    const delta_sink sink = input_sink(net);
    if (sink.to) net->k->convolution_backward_data(&s, l->delta, self->weights, sink.add, sink.to, workspace);
    return DN_OK;
}

const layer_ops convolutional_ops = {
    .name = "convolutional",
    .size = sizeof(convolutional_layer),
    .options = convolutional_options,
    .arrays = convolutional_rows,
    .shape = convolutional_shape,
    .forward = convolutional_forward,
    .backward = convolutional_backward,
    .initialize = convolutional_initialize,
    .workspace = convolutional_workspace,
    .flops = convolutional_flops,
};
