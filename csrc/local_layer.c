/* [local]: a convolution whose filters and biases differ from place to place, then the activation. pad is
 * the padding in pixels. Output side: (in - 1) / stride + 1 with padding, else (in - size) / stride + 1. */
#include "layer.h"
#include <math.h>

typedef struct {
    layer base;
    int n, size, stride, pad, activation;
    real *activation_input;
    PARAMETER_FIELDS(biases, bias_updates);
    PARAMETER_FIELDS(weights, weight_updates);
} local_layer;
#define SELF(l) const local_layer *self = (const local_layer *)(l)

/* ---- arrays, in .weights order */
static dn_shape shape_biases(const layer *l) { return dn_dims(1, l->outputs, 0, 0, 0); }
static dn_shape shape_weights(const layer *l)
{
    SELF(l);
    return (dn_shape){5, {l->out_h * l->out_w, self->n, l->c, self->size, self->size}};
}
static dn_shape shape_activation_input(const layer *l)
{
    return dn_shape_before_activation(l, ((local_layer *)l)->activation);
}
static const array_spec local_rows[] = {
    PARAMETER(local_layer, , biases, bias_updates, shape_biases, 0),
    PARAMETER(local_layer, , weights, weight_updates, shape_weights, DECAYS),
    ARRAY(local_layer, activation_input, "activation_input", shape_activation_input, ACTIVATION, TRAIN_ONLY),
    END_OF_ARRAYS,
};
static const option_spec local_options[] = {
    OPTION(local_layer, "filters", n, INT),
    OPTION(local_layer, "size", size, INT),
    OPTION(local_layer, "stride", stride, INT),
    OPTION(local_layer, "pad", pad, INT),
    OPTION(local_layer, "activation", activation, INT),
    END_OF_OPTIONS,
};

/* ---- make */
static int64_t side(const local_layer *self, int in)
{
    const int64_t reach = (int64_t)in + 2 * self->pad - self->size;
    return reach < 0 ? 0 : reach / self->stride + 1;
}
/* Darknet's two rules for the number of windows, one for the output and one for their columns, must agree:
 * else it computes with what its memory happens to hold. */
static dn_status check_windows(const layer *l)
{
    SELF(l);
    const int reach = self->pad ? 1 : self->size;
    if (l->h < reach || l->w < reach || side(self, l->h) != (l->h - reach) / self->stride + 1 ||
        side(self, l->w) != (l->w - reach) / self->stride + 1) {
        return dn_fail_option("pad",
                              "[local] pad=%d with size=%d on maps of %dx%d: wanted pad=0 and windows "
                              "inside the map, or so many pixels that there is a window for every pixel",
                              self->pad, self->size, l->w, l->h);
    }
    return DN_OK;
}
static dn_status local_shape(layer *l, network *net)
{
    SELF(l);
    (void)net;
    dn_status status = dn_require_image(l);
    if (status == DN_OK) status = dn_option_in(l, "filters", self->n, 1, INFINITY);
    if (status == DN_OK) status = dn_option_in(l, "size", self->size, 1, 32767);
    if (status == DN_OK) status = dn_option_in(l, "stride", self->stride, 1, INFINITY);
    if (status == DN_OK) status = dn_option_in(l, "pad", self->pad, 0, 32767);
    if (status == DN_OK) status = dn_option_in(l, "activation", self->activation, 0, ACTIVATIONS - 1);
    if (status == DN_OK) status = check_windows(l);
    if (status == DN_OK) status = dn_set_output(l, side(self, l->h), side(self, l->w), self->n);
    if (status != DN_OK) return status;
    int weights;
    if (__builtin_mul_overflow(l->outputs, l->c, &weights) ||
        __builtin_mul_overflow(weights, self->size * self->size, &weights)) {
        return dn_fail_option("filters",
                              "[local] %d filters of %dx%dx%d at each of %dx%d places: more than "
                              "2147483647 weights",
                              self->n, l->c, self->size, self->size, l->out_w, l->out_h);
    }
    return DN_OK;
}
static conv_shape shape_of(const layer *l)
{
    SELF(l);
    return (conv_shape){.batch = l->batch,
                        .c = l->c,
                        .h = l->h,
                        .w = l->w,
                        .n = self->n,
                        .groups = 1,
                        .size = self->size,
                        .stride_x = self->stride,
                        .stride_y = self->stride,
                        .dilation = 1,
                        .pad = self->pad,
                        .out_h = l->out_h,
                        .out_w = l->out_w};
}
static size_t workspace_of(const layer *l)
{
    const conv_shape s = shape_of(l);
    return dn_is_host(l->device) ? local_workspace(&s) : 0;
}
static double local_flops(const layer *l)
{
    SELF(l);
    return 2.0 * self->size * self->size * l->c * l->outputs;
}
/* sqrt(2 / fan-in) times U(-1, 1), at every place. */
static void local_initialize(layer *l, uint64_t seed)
{
    SELF(l);
    const int fan_in = self->size * self->size * l->c;
    dn_fill_random(self->weights, l->outputs * fan_in, (real)sqrt(2.0 / fan_in), 1, seed, l->index);
}

/* ---- forward and backward */
static dn_status local_forward(layer *l, network *net)
{
    SELF(l);
    const conv_shape s = shape_of(l);
    real *workspace = dn_workspace(net, workspace_of(l));
    if (!workspace) return DN_ERR_MEMORY;
    net->k->local_forward(&s, net->input, self->weights, l->output, workspace);
    net->k->add_bias(l->output, self->biases, l->batch, l->outputs, 1);
    dn_activate_output(l, net->k, self->activation, self->activation_input);
    return DN_OK;
}
static dn_status local_backward(layer *l, network *net)
{
    SELF(l);
    const conv_shape s = shape_of(l);
    real *workspace = dn_workspace(net, workspace_of(l));
    if (!workspace) return DN_ERR_MEMORY;
    dn_activate_delta(l, net->k, self->activation, self->activation_input);
    net->k->backward_bias(self->bias_updates, l->delta, l->batch, l->outputs, 1);
    net->k->local_backward_weights(&s, net->input, l->delta, self->weight_updates, workspace);
    const delta_sink sink = input_sink(net);
    if (sink.to) net->k->local_backward_data(&s, l->delta, self->weights, sink.add, sink.to, workspace);
    return DN_OK;
}
const layer_ops local_ops = {
    .name = "local",
    .size = sizeof(local_layer),
    .options = local_options,
    .arrays = local_rows,
    .shape = local_shape,
    .forward = local_forward,
    .backward = local_backward,
    .initialize = local_initialize,
    .workspace = workspace_of,
    .flops = local_flops,
};
