/* Bias, normalization and activation behind a layer's sums: see normalization.h. */
#include "normalization.h"
#include "scalar.h"

/* ---- arrays */
static const dn_shape no_array = {0, {0}};
static const normalization *part(const layer *l)
{
    return (const normalization *)((const char *)l + l->ops->normalization);
}
static int is_grouped(const normalization *n) { return n->kind > NORMALIZE_BATCH; }
/* Where there is a tail, its map stands for the layer's output, and so do its sides and its delta. */
static int spatial_of(const layer *l)
{
    const map_tail *t = &part(l)->tail;
    return has_tail(t) ? t->h * t->w : l->out_h * l->out_w;
}
static int values_of(const layer *l) { return l->batch * l->out_c * spatial_of(l); }
static dn_shape shape_sums(const layer *l)
{
    return has_tail(&part(l)->tail) ? shape_tail(l, &part(l)->tail) : shape_output(l);
}
static real *map_of(const layer *l) { return part(l)->tail.map ? part(l)->tail.map : l->output; }
static real *delta_of(const layer *l) { return part(l)->tail.map ? part(l)->tail.map_delta : l->delta; }
static int groups_of(const layer *l, const normalization *n)
{
    if (n->kind == NORMALIZE_LAYER) return 1;
    return n->kind == NORMALIZE_INSTANCE ? l->out_c : group_count(n->groups, l->out_c, spatial_of(l));
}
dn_shape shape_norm_biases(const layer *l) { return dn_dims(1, l->out_c, 0, 0, 0); }
dn_shape shape_norm_scales(const layer *l) { return part(l)->kind ? shape_norm_biases(l) : no_array; }
dn_shape shape_norm_rolling(const layer *l)
{
    return part(l)->kind == NORMALIZE_BATCH ? shape_norm_biases(l) : no_array;
}
dn_shape shape_norm_count(const layer *l)
{
    return part(l)->kind == NORMALIZE_BATCH ? dn_dims(1, 1, 0, 0, 0) : no_array;
}
dn_shape shape_norm_inner_biases(const layer *l) { return part(l)->after ? shape_norm_scales(l) : no_array; }
dn_shape shape_norm_statistics(const layer *l)
{
    return is_grouped(part(l)) ? dn_dims(2, l->batch, groups_of(l, part(l)), 0, 0) : shape_norm_rolling(l);
}
dn_shape shape_norm_x_norm(const layer *l)
{
    const normalization *n = part(l);
    return n->kind == NORMALIZE_BATCH && batchnorm_keeps_x_norm(l, &n->batch) ? shape_sums(l) : no_array;
}
dn_shape shape_norm_x(const layer *l) { return part(l)->kind ? shape_sums(l) : no_array; }
/* Behind a normalization the input of an elementwise activation is worked out again from x. */
dn_shape shape_norm_activation_input(const layer *l)
{
    const normalization *n = part(l);
    const int again = n->kind && !n->after && !activation_mixes_channels(n->activation);
    return !again && activation_needs_input(n->activation) ? shape_sums(l) : no_array;
}
dn_shape shape_norm_folded(const layer *l)
{
    const normalization *n = part(l);
    return n->kind == NORMALIZE_BATCH && !n->after ? dn_dims(2, 2, l->out_c, 0, 0) : no_array;
}

/* ---- make */
int group_count(int asked, int channels, int spatial)
{
    if (asked > 0) return asked;
    for (int groups = channels < 32 ? channels : 32; groups > 0; --groups) {
        if (channels % groups == 0 && (int64_t)channels / groups * spatial > 1) return groups;
    }
    return 0;
}
dn_status group_check(const layer *l, const char *key, int groups, int channels, int spatial)
{
    if (groups > 0 && channels % groups) {
        return dn_fail_option(key, "[%s] %s=%d: wanted a divisor of the %d channels", l->ops->name, key,
                              groups, channels);
    }
    if (groups < 1 || (int64_t)channels / groups * spatial < 2) {
        return dn_fail_option(key,
                              "[%s] %s: %d channels of %d values in groups of one value each: their variance "
                              "is zero and every output the bias",
                              l->ops->name, key, channels, spatial);
    }
    return DN_OK;
}
dn_status normalization_check(const layer *l, const normalization *n)
{
    dn_status status = dn_option_in(l, "activation", n->activation, 0, ACTIVATIONS - 1);
    if (status == DN_OK) status = dn_option_in(l, "normalize", n->kind, 0, NORMALIZATIONS - 1);
    if (status == DN_OK) status = dn_option_in(l, "norm_groups", n->groups, 0, INT32_MAX);
    if (status != DN_OK || !is_grouped(n)) return status;
    return group_check(l, n->kind == NORMALIZE_GROUP ? "norm_groups" : "normalize", groups_of(l, n), l->out_c,
                       spatial_of(l));
}
size_t normalization_workspace(const layer *l, const normalization *n)
{
    if (!l->train || !n->kind) return 0;
    if (is_grouped(n)) return 2 * (size_t)l->batch * l->out_c;
    return batchnorm_composed(l, &n->batch) ? 2 * (size_t)values_of(l) : 0;
}

/* ---- forward */
real *normalization_sums(const layer *l, const normalization *n)
{
    if (n->kind && !n->after) return n->x ? n->x : map_of(l);
    if (n->activation_input) return n->activation_input;
    return n->kind && n->x ? n->x : map_of(l);
}
conv_epilogue normalization_epilogue(const layer *l, const network *net, const normalization *n)
{
    conv_epilogue e = {.activation = LINEAR};
    const int activates = conv_epilogue_fuses(n->activation) && !n->activation_input;
    const int fuses = n->kind == NORMALIZE_BATCH && !batchnorm_composed(l, &n->batch);
    const int uses_batch = fuses && batchnorm_uses_batch(net, &n->batch);
    /* Folding pays where nothing reads x later: in a network made for inference. */
    const int folds = fuses && !uses_batch && !n->after && !l->train;
    if (folds) {
        batchnorm_fold(net->k, &n->batch, l->out_c, n->folded, n->folded + l->out_c);
        e.scale = n->folded;
        e.shift = n->folded + l->out_c;
    } else if (!n->kind || n->after) {
        e.shift = n->kind ? n->inner_biases : n->batch.biases;
    }
    if (activates && (folds || !n->kind || n->after)) e.activation = n->activation;
    e.pool = l->pool && !l->train && !uses_batch;
    if (uses_batch && (activates || !n->after)) {
        e.mean = n->batch.mean;
        e.mean_rest = n->batch.mean_rest;
        e.variance = n->batch.variance;
    }
    return e;
}
static void activate(const layer *l, const kernels *k, ACTIVATION a, real *from, real *to)
{
    const int all = values_of(l);
    if (activation_mixes_channels(a)) {
        k->activate_channels(from, l->batch, l->out_c, spatial_of(l), a, to);
        return;
    }
    if (to != from) k->copy(all, from, 1, to, 1);
    k->activate_array(to, all, a);
}
/* to = f(from + biases), or what of it is not done. */
static void bias_and_activate(const layer *l, const kernels *k, ACTIVATION a, const real *biases,
                              const conv_epilogue *done, real *from, real *to)
{
    if (!done) k->add_bias(from, biases, l->batch, l->out_c, spatial_of(l));
    if (!done || done->activation == LINEAR) activate(l, k, a, from, to);
}
static dn_status normalize(const layer *l, network *net, const normalization *n, const conv_epilogue *done,
                           const real *x, ACTIVATION a, real *y)
{
    const batch_normalization *b = &n->batch;
    if (!is_grouped(n)) {
        return batchnorm_forward(l, net, b, x, l->out_c, spatial_of(l), a, done && done->mean, y);
    }
    net->k->groupnorm_forward(x, l->batch, l->out_c, spatial_of(l), groups_of(l, n), b->scales, b->biases, a,
                              b->mean, b->variance, y);
    return DN_OK;
}
dn_status normalization_forward(const layer *l, network *net, const normalization *n, real *sums,
                                const conv_epilogue *done)
{
    const ACTIVATION a = n->activation;
    if (done && done->pool) return DN_OK;
    if (!n->kind || (done && done->scale)) {
        bias_and_activate(l, net->k, a, n->batch.biases, done, sums, map_of(l));
        return DN_OK;
    }
    if (n->after) {
        real *x = n->x ? n->x : map_of(l);
        bias_and_activate(l, net->k, a, n->inner_biases, done, sums, x);
        return normalize(l, net, n, done, x, LINEAR, map_of(l));
    }
    if (!activation_mixes_channels(a)) return normalize(l, net, n, done, sums, a, map_of(l));
    real *z = n->activation_input ? n->activation_input : map_of(l);
    const dn_status status = normalize(l, net, n, done, sums, LINEAR, z);
    if (status == DN_OK) activate(l, net->k, a, z, map_of(l));
    return status;
}

int normalization_takes_pool(const layer *l, const normalization *n, const pool_shape *windows)
{
    const int fuses = n->kind == NORMALIZE_BATCH && !n->after && !batchnorm_composed(l, &n->batch);
    if (has_tail(&n->tail)) return 0;
    if (l->train) return fuses && activation_is_cheap(n->activation) && batchnorm_takes_pool(windows);
    return (!n->kind || (fuses && batchnorm_takes_pool(windows))) && conv_epilogue_fuses(n->activation);
}

/* ---- backward */
/* A tail's map is its own; behind a normalization of f(sums) the slope is found from x. */
int normalization_reads(const layer *l, const normalization *n)
{
    const ACTIVATION a = n->activation;
    if (has_tail(&n->tail)) return 0;
    if (!n->kind) return dn_activation_reads(a);
    if (is_grouped(n)) return READS_OUTPUT;
    if (n->after) return 0;
    return activation_is_cheap(a) && !batchnorm_composed(l, &n->batch) ? 0 : dn_activation_reads(a);
}
static dn_status normalize_backward(const layer *l, network *net, const normalization *n, ACTIVATION a)
{
    const batch_normalization *b = &n->batch;
    const int spatial = spatial_of(l);
    if (!is_grouped(n)) {
        return batchnorm_backward(l, net, b, n->x, map_of(l), delta_of(l), l->out_c, spatial, a, 0,
                                  delta_of(l));
    }
    real *workspace = dn_workspace(net, normalization_workspace(l, n));
    if (!workspace) return DN_ERR_MEMORY;
    net->k->groupnorm_backward(n->x, map_of(l), delta_of(l), l->batch, l->out_c, spatial, groups_of(l, n),
                               b->scales, b->biases, a, b->mean, b->variance, b->scale_updates,
                               b->bias_updates, 0, delta_of(l), workspace);
    return DN_OK;
}
/* In place: delta behind the activation, whose output is y, -> delta before it. */
static void activation_backward(const layer *l, const kernels *k, const normalization *n, const real *y)
{
    const ACTIVATION a = n->activation;
    const int all = values_of(l);
    if (activation_mixes_channels(a)) {
        k->gradient_channels(n->activation_input, y, l->batch, l->out_c, spatial_of(l), a, delta_of(l));
    } else if (activation_needs_input(a)) {
        k->gradient_input_array(n->activation_input, all, a, delta_of(l));
    } else {
        k->gradient_array(y, all, a, delta_of(l));
    }
}
dn_status normalization_backward(const layer *l, network *net, const normalization *n)
{
    const ACTIVATION a = n->activation;
    if (n->kind && !n->after) {
        if (!activation_mixes_channels(a)) return normalize_backward(l, net, n, a);
        activation_backward(l, net->k, n, map_of(l));
        return normalize_backward(l, net, n, LINEAR);
    }
    const dn_status status = n->kind ? normalize_backward(l, net, n, LINEAR) : DN_OK;
    if (status != DN_OK) return status;
    activation_backward(l, net->k, n, n->kind ? n->x : map_of(l));
    net->k->backward_bias(n->kind ? n->inner_bias_updates : n->batch.bias_updates, delta_of(l), l->batch,
                          l->out_c, spatial_of(l));
    return DN_OK;
}
