/* [connected]: every output is a weighted sum of all inputs; then batch normalization or a bias, then the
 * activation. */
#include "batchnorm.h"
#include "scalar.h"
#include <math.h>

typedef struct {
    layer base;
    int outputs, activation;
    batch_normalization norm;        /* its biases are the layer's, with normalization and without */
    PARAMETER_FIELDS(weights, weight_updates);
    real *x;                         /* the weighted sums before normalization */
    real *activation_input;          /* before an activation whose output does not tell the slope */
} connected_layer;
#define SELF(l) const connected_layer *self = (const connected_layer *)(l)

/* ---- arrays, in .weights order: biases, weights, scales, rolling mean, rolling variance */
static const dn_shape no_array = {0, {0}};
static dn_shape shape_outputs(const layer *l) { return dn_dims(1, l->outputs, 0, 0, 0); }
static dn_shape shape_normalized(const layer *l)
{
    SELF(l);
    return self->norm.on ? shape_outputs(l) : no_array;
}
static dn_shape shape_one(const layer *l)
{
    SELF(l);
    return self->norm.on ? dn_dims(1, 1, 0, 0, 0) : no_array;
}
static dn_shape shape_weights(const layer *l) { return dn_dims(2, l->outputs, l->inputs, 0, 0); }
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
static dn_shape shape_activation_input(const layer *l)
{
    SELF(l);
    return !self->norm.on && activation_needs_input(self->activation) ? shape_output(l) : no_array;
}
static const array_spec connected_rows[] = {
    PARAMETER(connected_layer, norm., biases, bias_updates, shape_outputs, 0),
    PARAMETER(connected_layer, , weights, weight_updates, shape_weights, DECAYS),
    PARAMETER(connected_layer, norm., scales, scale_updates, shape_normalized, 0),
    BATCHNORM_STATISTICS(connected_layer, norm, shape_normalized, shape_one),
    BATCHNORM_WORK(connected_layer, norm, shape_normalized, shape_x_norm),
    ARRAY(connected_layer, x, "x", shape_x, ACTIVATION, TRAIN_ONLY),
    ARRAY(connected_layer, activation_input, "activation_input", shape_activation_input, ACTIVATION,
          TRAIN_ONLY),
    END_OF_ARRAYS,
};
static const option_spec connected_options[] = {
    OPTION(connected_layer, "output", outputs, INT),
    OPTION(connected_layer, "activation", activation, INT),
    OPTION(connected_layer, "batch_normalize", norm.on, INT),
    BATCHNORM_OPTIONS(connected_layer, norm),
    END_OF_OPTIONS,
};

/* ---- make */
static dn_status connected_shape(layer *l, network *net)
{
    SELF(l);
    (void)net;
    dn_status status = dn_option_in(l, "output", self->outputs, 1, INFINITY);
    if (status == DN_OK) status = dn_option_in(l, "activation", self->activation, 0, ACTIVATIONS - 1);
    if (status != DN_OK) return status;
    if ((int64_t)self->outputs * l->inputs > INT32_MAX) {
        return dn_fail_option("output", "[connected] output=%d from %d inputs: more than 2147483647 weights",
                              self->outputs, l->inputs);
    }
    if (activation_mixes_channels(self->activation)) {
        return dn_fail_option("activation", "[connected] activation=%s: it needs an image",
                              get_activation_string(self->activation));
    }
    return dn_set_output(l, 1, 1, self->outputs);
}
static size_t connected_workspace(const layer *l)
{
    SELF(l);
    return self->norm.on && l->train && batchnorm_composed(l, &self->norm) ? 2 * (size_t)l->batch * l->outputs
                                                                           : 0;
}
static double connected_flops(const layer *l) { return 2.0 * l->inputs * l->outputs; }
/* sqrt(2 / inputs) times U(-1, 1), as in every fork. */
static void connected_initialize(layer *l, uint64_t seed)
{
    SELF(l);
    dn_fill_random(self->weights, l->inputs * l->outputs, (real)sqrt(2.0 / l->inputs), 1, seed, l->index);
}

/* ---- forward: x (batch, inputs) times transposed weights */
static dn_status connected_forward(layer *l, network *net)
{
    SELF(l);
    const kernels *k = net->k;
    real *sums = self->x ? self->x : self->activation_input ? self->activation_input : l->output;
    k->gemm(0, 1, l->batch, l->outputs, l->inputs, 1, net->input, l->inputs, self->weights, l->inputs, 0,
            sums, l->outputs);
    if (self->norm.on) {
        return batchnorm_forward(l, net, &self->norm, sums, l->outputs, 1, self->activation, l->output);
    }
    k->add_bias(sums, self->norm.biases, l->batch, l->outputs, 1);
    if (sums != l->output) k->copy(l->batch * l->outputs, sums, 1, l->output, 1);
    k->activate_array(l->output, l->batch * l->outputs, self->activation);
    return DN_OK;
}

/* ---- backward: delta at the output -> delta at the sums, in place; then weights and input */
static dn_status backward_activation(const layer *l, network *net)
{
    SELF(l);
    const kernels *k = net->k;
    const int all = l->batch * l->outputs;
    if (self->norm.on) {
        return batchnorm_backward(l, net, &self->norm, self->x, l->output, l->delta, l->outputs, 1,
                                  self->activation, 0, l->delta);
    }
    if (self->activation_input)
        k->gradient_input_array(self->activation_input, all, self->activation, l->delta);
    else k->gradient_array(l->output, all, self->activation, l->delta);
    k->backward_bias(self->norm.bias_updates, l->delta, l->batch, l->outputs, 1);
    return DN_OK;
}
static dn_status connected_backward(layer *l, network *net)
{
    SELF(l);
    const dn_status status = backward_activation(l, net);
    if (status != DN_OK) return status;
    net->k->gemm(1, 0, l->outputs, l->inputs, l->batch, 1, l->delta, l->outputs, net->input, l->inputs, 1,
                 self->weight_updates, l->inputs);
    const delta_sink sink = input_sink(net);
    if (!sink.to) return DN_OK;
    net->k->gemm(0, 0, l->batch, l->inputs, l->outputs, 1, l->delta, l->outputs, self->weights, l->inputs,
                 (real)sink.add, sink.to, l->inputs);
    return DN_OK;
}

const layer_ops connected_ops = {
    .name = "connected",
    .size = sizeof(connected_layer),
    .options = connected_options,
    .arrays = connected_rows,
    .shape = connected_shape,
    .forward = connected_forward,
    .backward = connected_backward,
    .initialize = connected_initialize,
    .workspace = connected_workspace,
    .flops = connected_flops,
};
