/* [connected]: every output is a weighted sum of all inputs; then bias, normalization and activation
 * (normalization.h). */
#include "normalization.h"
#include "scalar.h"
#include <math.h>

typedef struct {
    layer base;
    int outputs;
    normalization norm;
    PARAMETER_FIELDS(weights, weight_updates);
} connected_layer;
#define SELF(l) const connected_layer *self = (const connected_layer *)(l)

/* ---- arrays, in Darknet's .weights order: biases, weights, scales, rolling mean, rolling variance; what
 * Darknet does not know is stored in [convolutional]'s order */
static dn_shape shape_weights(const layer *l) { return dn_dims(2, l->outputs, l->inputs, 0, 0); }
static const array_spec connected_rows[] = {
    NORMALIZATION_BIASES(connected_layer, norm),
    PARAMETER(connected_layer, , weights, weight_updates, shape_weights, DECAYS),
    NORMALIZATION_SCALES(connected_layer, norm),
    NORMALIZATION_INNER_BIASES(connected_layer, norm),
    NORMALIZATION_WORK(connected_layer, norm),
    END_OF_ARRAYS,
};
static const option_spec connected_options[] = {
    OPTION(connected_layer, "output", outputs, INT),
    NORMALIZATION_OPTIONS(connected_layer, norm),
    END_OF_OPTIONS,
};

/* ---- make */
static dn_status connected_shape(layer *l, network *net)
{
    SELF(l);
    (void)net;
    dn_status status = dn_option_in(l, "output", self->outputs, 1, INFINITY);
    if (status != DN_OK) return status;
    if ((int64_t)self->outputs * l->inputs > INT32_MAX) {
        return dn_fail_option("output", "[connected] output=%d from %d inputs: more than 2147483647 weights",
                              self->outputs, l->inputs);
    }
    status = dn_set_output(l, 1, 1, self->outputs);
    if (status == DN_OK) status = normalization_check(l, &self->norm);
    if (status == DN_OK && activation_mixes_channels(self->norm.activation)) {
        return dn_fail_option("activation", "[connected] activation=%s: it needs an image",
                              get_activation_string(self->norm.activation));
    }
    return status;
}
static size_t connected_workspace(const layer *l)
{
    SELF(l);
    return normalization_workspace(l, &self->norm);
}
static double connected_flops(const layer *l) { return 2.0 * l->inputs * l->outputs; }
/* sqrt(2 / inputs) times U(-1, 1), as in every fork. */
static void connected_initialize(layer *l, uint64_t seed)
{
    SELF(l);
    dn_fill_random(self->weights, l->inputs * l->outputs, (real)sqrt(2.0 / l->inputs), 1, seed, l->index);
}

/* ---- forward: x (batch, inputs) times transposed weights; backward */
static dn_status connected_forward(layer *l, network *net)
{
    SELF(l);
    real *sums = normalization_sums(l, &self->norm);
    net->k->gemm(0, 1, l->batch, l->outputs, l->inputs, 1, net->input, l->inputs, self->weights, l->inputs, 0,
                 sums, l->outputs);
    return normalization_forward(l, net, &self->norm, sums, NULL);
}
static void connected_gradients(layer *l, network *net, int rows)
{
    SELF(l);
    net->k->gemm(1, 0, l->outputs, l->inputs, rows, 1, l->delta, l->outputs, net->input, l->inputs, 1,
                 self->weight_updates, l->inputs);
}
static dn_status connected_backward(layer *l, network *net)
{
    SELF(l);
    const dn_status status = normalization_backward(l, net, &self->norm);
    if (status != DN_OK) return status;
    if (l->steps == 1) connected_gradients(l, net, l->batch);
    const delta_sink sink = input_sink(net);
    if (!sink.to) return DN_OK;
    net->k->gemm(0, 0, l->batch, l->inputs, l->outputs, 1, l->delta, l->outputs, self->weights, l->inputs,
                 (real)sink.add, sink.to, l->inputs);
    return DN_OK;
}
static int connected_reads(const layer *l)
{
    return READS_INPUT | normalization_reads(l, &((const connected_layer *)l)->norm);
}

const layer_ops connected_ops = {
    .name = "connected",
    .size = sizeof(connected_layer),
    .options = connected_options,
    .arrays = connected_rows,
    .shape = connected_shape,
    .forward = connected_forward,
    .backward = connected_backward,
    .backward_reads = connected_reads,
    .gradients = connected_gradients,
    .initialize = connected_initialize,
    .workspace = connected_workspace,
    .flops = connected_flops,
    .normalization = offsetof(connected_layer, norm),
};
