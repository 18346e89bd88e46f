/* Batch normalization of a layer: statistics, moving averages, forward and backward; arXiv:1502.03167. Two
 * ways to the same numbers. To learn how it works, read composed_forward and composed_backward (fused=0): the
 * paper's formulas one after the other, a named kernel (batchnorm_kernels.c) each; they run the forks'
 * variants, too. The default, fused, has the same in a kernel per pass (batchnorm_fused_kernels.c). */
#include "batchnorm.h"
#include "scalar.h"
#include <limits.h>

int batchnorm_composed(const layer *l, const batch_normalization *n)
{
    return !l->fused || n->mode != BATCHNORM_PAPER;
}
int batchnorm_keeps_x_norm(const layer *l, const batch_normalization *n)
{
    return n->keep_x_norm || batchnorm_composed(l, n);
}

int batchnorm_uses_batch(const network *net, const batch_normalization *n)
{
    return net->recompute || (net->train && n->statistics != STATISTICS_FROZEN);
}

static batchnorm_arrays arrays_of(const batch_normalization *n, int batch)
{
    return (batchnorm_arrays){
        .scales = n->scales,
        .biases = n->biases,
        .scale_updates = n->scale_updates,
        .bias_updates = n->bias_updates,
        .mean = batch ? n->mean : n->rolling_mean,
        .mean_rest = batch ? n->mean_rest : NULL,
        .variance = batch ? n->variance : n->rolling_variance,
        .mean_delta = n->mean_delta,
        .variance_delta = n->variance_delta,
    };
}

/* The same, and the windows of the pool that the layer takes on its way. */
static batchnorm_arrays pooled_arrays_of(const layer *l, const batch_normalization *n, int batch,
                                         pool_shape *windows)
{
    batchnorm_arrays p = arrays_of(n, batch);
    if (!l->pool) return p;
    *windows = l->pool->ops->windows(l->pool);
    p.pool = windows;
    return p;
}

/* Share that the moving statistics keep when mini-batch number `count` since their reset joins them. */
static real share_of_old(const network *net, const batch_normalization *n, int count)
{
    if (net->recompute || n->statistics == STATISTICS_CUMULATIVE) return (real)(count - 1) / (real)count;
    return n->statistics == STATISTICS_LAST ? 0 : n->rolling_momentum;
}
/* moving = old moving + (1 - old) value * factor; old = 0 forgets whatever stood there, NaN too. */
static void roll_into(const kernels *k, int channels, real old, const real *value, real factor, real *moving)
{
    if (old > 0) k->scal(channels, old, moving, 1);
    else k->fill(channels, 0, moving, 1);
    k->axpy(channels, (1 - old) * factor, value, 1, moving, 1);
}
/* The mini-batch's statistics join the moving ones, the variance unbiased: variance * bessel (Algorithm 2,
 * line 10). */
static void roll(const network *net, const batch_normalization *n, int channels, real bessel)
{
    if (*n->statistics_count < INT_MAX) ++*n->statistics_count;
    const real old = share_of_old(net, n, *n->statistics_count);
    roll_into(net->k, channels, old, n->mean, 1, n->rolling_mean);
    roll_into(net->k, channels, old, n->variance, bessel, n->rolling_variance);
}

/* Mean and variance of the mini-batch. variance_cpu's value is the moving average's; the paper normalizes
 * with the biased one. */
static void composed_statistics(const network *net, const batch_normalization *n, const real *x, int batch,
                                int channels, int spatial)
{
    const kernels *k = net->k;
    const real m = (real)batch * spatial;
    k->mean(x, batch, channels, spatial, n->mean);
    k->variance(x, n->mean, batch, channels, spatial, n->variance);
    k->fill(channels, 0, n->mean_rest, 1);  /* what follows takes the mean as it is */
    roll(net, n, channels, 1);
    if (n->mode == BATCHNORM_PAPER) k->scal(channels, (m - 1) / m, n->variance, 1);
}
static void composed_forward(const layer *l, network *net, const batch_normalization *n, const real *x,
                             int channels, int spatial, ACTIVATION a, real *y)
{
    const kernels *k = net->k;
    const int batch = l->batch, all = batch * channels * spatial, uses_batch = batchnorm_uses_batch(net, n);
    if (uses_batch) composed_statistics(net, n, x, batch, channels, spatial);
    const batchnorm_arrays p = arrays_of(n, uses_batch);
    if (y != x) k->copy(all, x, 1, y, 1);
    if (n->mode == BATCHNORM_PJREDDIE) k->normalize_pjreddie(y, p.mean, p.variance, batch, channels, spatial);
    else k->normalize(y, p.mean, p.variance, batch, channels, spatial);
    if (n->x_norm) k->copy(all, y, 1, n->x_norm, 1);
    k->scale_bias(y, n->scales, batch, channels, spatial);
    k->add_bias(y, n->biases, batch, channels, spatial);
    k->activate_array(y, all, a);
}

dn_status batchnorm_forward(const layer *l, network *net, const batch_normalization *n, const real *x,
                            int channels, int spatial, ACTIVATION a, int has_statistics, real *y)
{
    const kernels *k = net->k;
    const double m = (double)l->batch * spatial;
    const int uses_batch = batchnorm_uses_batch(net, n);
    if (uses_batch && m < 2) {
        return dn_fail(DN_ERR_ARGUMENT,
                       "[%s] batch normalization cannot train on one value per channel (batch 1, 1x1 map): "
                       "its variance would be zero and every output the bias; use a larger mini-batch",
                       l->ops->name);
    }
    if (batchnorm_composed(l, n)) {
        composed_forward(l, net, n, x, channels, spatial, a, y);
        return DN_OK;
    }
    pool_shape windows;
    const batchnorm_arrays p = pooled_arrays_of(l, n, uses_batch, &windows);
    if (p.pool) y = l->pool->output;
    if (uses_batch && !has_statistics) k->batchnorm_forward_train(x, l->batch, channels, spatial, &p, a, y);
    else k->batchnorm_forward(x, l->batch, channels, spatial, &p, a, y);
    if (uses_batch) roll(net, n, channels, (real)(m / (m - 1)));
    if (n->x_norm) {
        k->copy(l->batch * channels * spatial, x, 1, n->x_norm, 1);
        k->normalize(n->x_norm, p.mean, p.variance, l->batch, channels, spatial);
    }
    return DN_OK;
}

/* The named kernels in order. Moving statistics are constants: only the direct path through x remains. The
 * workspace holds two arrays of x's size: work, the delta on its way from the output to x, so that the
 * layer's own stays as it came; and z, what went into an activation whose output does not tell its slope. */
static dn_status composed_backward(const layer *l, network *net, const batch_normalization *n, const real *x,
                                   const real *y, const real *delta, int channels, int spatial, ACTIVATION a,
                                   int add, real *dx)
{
    const kernels *k = net->k;
    const int batch = l->batch, all = batch * channels * spatial;
    const int uses_batch = batchnorm_uses_batch(net, n);
    const batchnorm_arrays p = arrays_of(n, uses_batch);
    real *work = dn_workspace(net, 2 * (size_t)all), *z = work + all;
    if (!work) return DN_ERR_MEMORY;
    k->copy(all, delta, 1, work, 1);
    if (activation_needs_input(a)) {
        k->copy(all, n->x_norm, 1, z, 1);
        k->scale_bias(z, n->scales, batch, channels, spatial);
        k->add_bias(z, n->biases, batch, channels, spatial);
        k->gradient_input_array(z, all, a, work);
    } else {
        k->gradient_array(y, all, a, work);
    }
    k->backward_bias(n->bias_updates, work, batch, channels, spatial);
    k->backward_scale(n->x_norm, work, batch, channels, spatial, n->scale_updates);
    k->scale_bias(work, n->scales, batch, channels, spatial);
    if (uses_batch) {
        k->mean_delta(work, p.variance, batch, channels, spatial, n->mean_delta);
        k->variance_delta(x, work, p.mean, p.variance, batch, channels, spatial, n->variance_delta);
    } else {
        k->fill(channels, 0, n->mean_delta, 1);
        k->fill(channels, 0, n->variance_delta, 1);
    }
    if (n->mode == BATCHNORM_ALEXEYAB) {
        k->normalize_delta_alexeyab(x, p.mean, p.variance, n->mean_delta, n->variance_delta, batch, channels,
                                    spatial, work);
    } else {
        k->normalize_delta(x, p.mean, p.variance, n->mean_delta, n->variance_delta, batch, channels, spatial,
                           work);
    }
    if (dx) k->pass_delta(all, 1, work, add, dx);
    return DN_OK;
}
dn_status batchnorm_backward(const layer *l, network *net, const batch_normalization *n, const real *x,
                             const real *y, const real *delta, int channels, int spatial, ACTIVATION a,
                             int add, real *dx)
{
    if (batchnorm_composed(l, n)) {
        return composed_backward(l, net, n, x, y, delta, channels, spatial, a, add, dx);
    }
    const int uses_batch = batchnorm_uses_batch(net, n);
    pool_shape windows;
    const batchnorm_arrays p = pooled_arrays_of(l, n, uses_batch, &windows);
    if (p.pool) delta = l->pool->delta;
    net->k->batchnorm_backward(x, y, delta, l->batch, channels, spatial, &p, a, !uses_batch, add, dx);
    return DN_OK;
}

void batchnorm_fold(const kernels *k, const batch_normalization *n, int channels, real *scale, real *shift)
{
    const batchnorm_arrays p = arrays_of(n, 0);
    k->batchnorm_fold(&p, channels, scale, shift);
}
