/* Batch normalization, arXiv:1502.03167; docs/batchnorm.md derives every formula. Arrays are (batch, filters,
 * spatial); a channel's m = batch * spatial values share one mean and variance. Darknet's functions, a
 * formula each (with scale_bias and add_bias, bias_kernels.c); a layer runs the fused ones of
 * batchnorm_fused_kernels.c. */
#include "parallel.h"
#include "scalar.h"
#include "sums.h"
#include <assert.h>

/* A row is one channel of one image, r = b * filters + f. Sums go by filter: one thread has all of it. */
#define ROW(b, f) (((size_t)(b) * filters + (f)) * spatial)
#define EACH_ROW PARALLEL_FOR((size_t)batch *filters *spatial) for (int r = 0; r < batch * filters; ++r)
#define EACH_FILTER PARALLEL_FOR((size_t)batch *filters *spatial) for (int f = 0; f < filters; ++f)

/* ---- forward: Algorithm 1, line by line; scale_bias and add_bias are its last */

/* mean[f] = sum of x[b, f, i] / m */
void mean_cpu(const real *x, int batch, int filters, int spatial, real *mean)
{
    assert(x && mean && batch > 0 && filters > 0 && spatial > 0);
    EACH_FILTER {
        double sum = 0;
        for (int b = 0; b < batch; ++b) sum += sum_row(x + ROW(b, f), spatial);
        mean[f] = (real)(sum / ((double)batch * spatial));
    }
}

/* variance[f] = sum of (x[b, f, i] - mean[f])^2 / (m - 1): the unbiased estimate, which the moving average
 * takes (Algorithm 2, line 10); the mini-batch itself is normalized with (m - 1) / m times it. */
void variance_cpu(const real *x, const real *mean, int batch, int filters, int spatial, real *variance)
{
    assert(x && mean && variance && filters > 0 && (double)batch * spatial > 1);
    EACH_FILTER {
        double sum = 0;
        for (int b = 0; b < batch; ++b) sum += square_row(x + ROW(b, f), mean[f], spatial);
        variance[f] = (real)(sum / ((double)batch * spatial - 1));
    }
}

/* In place: x[b, f, i] -> (x - mean[f]) / sqrt(variance[f] + epsilon) */
MULTIVERSION void normalize_cpu(real *x, const real *mean, const real *variance, int batch, int filters,
                                int spatial)
{
    EACH_ROW {
        const int f = r % filters;
        real *row = x + (size_t)r * spatial;
        const real inverse = bn_inverse_std(variance[f]);
        for (int i = 0; i < spatial; ++i) row[i] = bn_normalize(row[i], mean[f], inverse);
    }
}

/* ---- backward: the chain rule of section 3, after backward_bias and backward_scale_cpu. delta has been
 * through scale_bias: it is that of the normalized value. */

/* mean_delta[f] = -sum of delta[b, f, i] / sqrt(variance[f] + epsilon): the gradient at the mean. Its way
 * through the variance is closed, since the sum of x - mean is 0. */
void mean_delta_cpu(const real *delta, const real *variance, int batch, int filters, int spatial,
                    real *mean_delta)
{
    EACH_FILTER {
        double sum = 0;
        for (int b = 0; b < batch; ++b) sum += sum_row(delta + ROW(b, f), spatial);
        mean_delta[f] = (real)(-sum * bn_inverse_std(variance[f]));
    }
}

/* variance_delta[f] = -1/2 sum of delta (x - mean) * (variance[f] + epsilon)^(-3/2): the gradient at the
 * variance. */
void variance_delta_cpu(const real *x, const real *delta, const real *mean, const real *variance, int batch,
                        int filters, int spatial, real *variance_delta)
{
    EACH_FILTER {
        double sum = 0;
        const double inverse = bn_inverse_std(variance[f]);
        for (int b = 0; b < batch; ++b) sum += dot_row(delta + ROW(b, f), x + ROW(b, f), mean[f], spatial);
        variance_delta[f] = (real)(-.5 * sum * inverse * inverse * inverse);
    }
}

/* In place, delta at the normalized value -> delta at x, which acts through that value, the variance and the
 * mean: delta / sqrt(variance + epsilon) + variance_delta 2 (x - mean) / m + mean_delta / m. */
MULTIVERSION void normalize_delta_cpu(const real *x, const real *mean, const real *variance,
                                      const real *mean_delta, const real *variance_delta, int batch,
                                      int filters, int spatial, real *delta)
{
    const real m = (real)batch * spatial;
    EACH_ROW {
        const int f = r % filters;
        const real *from = x + (size_t)r * spatial;
        real *row = delta + (size_t)r * spatial;
        const real inverse = bn_inverse_std(variance[f]), slope = 2 * variance_delta[f] / m,
                   constant = mean_delta[f] / m;
        for (int i = 0; i < spatial; ++i) row[i] = row[i] * inverse + slope * (from[i] - mean[f]) + constant;
    }
}

/* ---- the forks' own variants, for batchnorm=darknet */

/* In place: x -> (x - mean) / (sqrt(variance) + 1e-6), as pjreddie's CPU code normalizes. */
MULTIVERSION void normalize_pjreddie_cpu(real *x, const real *mean, const real *variance, int batch,
                                         int filters, int spatial)
{
    EACH_ROW {
        const int f = r % filters;
        real *row = x + (size_t)r * spatial;
        const real inverse = 1 / (sqrt(variance[f]) + BN_EPSILON_PJREDDIE);
        for (int i = 0; i < spatial; ++i) row[i] = bn_normalize(row[i], mean[f], inverse);
    }
}
/* As normalize_delta_cpu with delta / (sqrt(variance) + 1e-5), as AlexeyAB's CPU code has it. */
MULTIVERSION void normalize_delta_alexeyab_cpu(const real *x, const real *mean, const real *variance,
                                               const real *mean_delta, const real *variance_delta, int batch,
                                               int filters, int spatial, real *delta)
{
    const real m = (real)batch * spatial;
    EACH_ROW {
        const int f = r % filters;
        const real *from = x + (size_t)r * spatial;
        real *row = delta + (size_t)r * spatial;
        const real inverse = 1 / (sqrt(variance[f]) + BN_EPSILON), slope = 2 * variance_delta[f] / m,
                   constant = mean_delta[f] / m;
        for (int i = 0; i < spatial; ++i) row[i] = row[i] * inverse + slope * (from[i] - mean[f]) + constant;
    }
}
