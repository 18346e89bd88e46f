/* Batch normalization, arXiv:1502.03167. Arrays are (batch, filters, spatial); a channel's m = batch *
 * spatial values share one mean and variance. First Darknet's functions, one formula each; then the fused
 * ones that a layer runs. */
#include "parallel.h"
#include "rows.h"
#include "scalar.h"
#include "sums.h"
#include <assert.h>
#include <string.h>

#define ROW(b, f) (((size_t)(b) * filters + (f)) * spatial)
#define EACH_ROW PARALLEL_FOR((size_t)batch *filters *spatial) for (int r = 0; r < batch * filters; ++r)
#define EACH_FILTER PARALLEL_FOR((size_t)batch *filters *spatial) for (int f = 0; f < filters; ++f)

/* mean[f] = average of x[b, f, i] */
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
 * takes. */
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

/* mean_delta[f] = -sum of delta[b, f, i] / sqrt(variance[f] + epsilon): the gradient at the mean. */
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

/* In place: delta at the normalized value -> delta at x, through the value itself, the variance and the mean. */
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

/* ---- fused: what a layer runs. Without a plane (spatial = 1) neighbours in memory are channels, so they go
 * in blocks of these. */
enum { CHANNELS = 64, PIECE = 512 };
#define EACH_BLOCK PARALLEL_FOR((size_t)batch *filters) for (int64_t f0 = 0; f0 < filters; f0 += CHANNELS)
#define BLOCK_SIZE (filters - f0 < CHANNELS ? (int)(filters - f0) : CHANNELS)

/* The two moments of each channel from sums of x - shift, shift being its first value: no digits are lost
 * where |mean| >> deviation. */
static void finish_statistics(double sum, double square, double m, real shift, real *mean, real *variance)
{
    const double v = (square - sum * sum / m) / m;
    *mean = (real)(shift + sum / m);
    *variance = (real)(v > 0 ? v : 0);
}
MULTIVERSION static void flat_statistics(const real *x, int batch, int filters, int f0, int count, real *mean,
                                         real *variance)
{
    double sum[CHANNELS] = {0}, square[CHANNELS] = {0};
    for (int b = 1; b < batch; ++b) {
        for (int j = 0; j < count; ++j) {
            const double d = (double)x[(size_t)b * filters + f0 + j] - x[f0 + j];
            sum[j] += d;
            square[j] += d * d;
        }
    }
    for (int j = 0; j < count; ++j) {
        finish_statistics(sum[j], square[j], batch, x[f0 + j], mean + f0 + j, variance + f0 + j);
    }
}
/* mean and variance[f] = sum of (x - mean)^2 / m, the biased variance, in one read of x. */
void batchnorm_statistics_cpu(const real *x, int batch, int filters, int spatial, real *mean, real *variance)
{
    assert(x && mean && variance && batch > 0 && filters > 0 && spatial > 0);
    if (spatial == 1) {
        EACH_BLOCK flat_statistics(x, batch, filters, f0, BLOCK_SIZE, mean, variance);
        return;
    }
    EACH_FILTER {
        double sum = 0, square = 0;
        const real shift = x[ROW(0, f)];
        for (int b = 0; b < batch; ++b) moments_row(x + ROW(b, f), shift, spatial, &sum, &square);
        finish_statistics(sum, square, (double)batch * spatial, shift, mean + f, variance + f);
    }
}

MULTIVERSION static void scale_row(const real *x, int n, real mean, real scale, real bias, real *y)
{
    for (int i = 0; i < n; ++i) y[i] = (x[i] - mean) * scale + bias;
}
MULTIVERSION static void scale_channels_row(const real *x, int n, const batchnorm_arrays *p, int f, real *y)
{
    for (int j = 0; j < n; ++j) {
        y[j] = (x[j] - p->mean[f + j]) * (p->scales[f + j] * bn_inverse_std(p->variance[f + j])) +
               p->biases[f + j];
    }
}
/* y = activation(scales (x - mean) / sqrt(variance + epsilon) + biases), in one read and one write; y may be
 * x. */
void batchnorm_forward_cpu(const real *x, int batch, int filters, int spatial, const batchnorm_arrays *p,
                           ACTIVATION a, real *y)
{
    assert(!activation_mixes_channels(a));
    if (spatial == 1) {
        PARALLEL_FOR((size_t)batch *filters)
        for (int b = 0; b < batch; ++b) {
            scale_channels_row(x + (size_t)b * filters, filters, p, 0, y + (size_t)b * filters);
            activate_row(y + (size_t)b * filters, filters, a);
        }
        return;
    }
    EACH_ROW {
        const int f = r % filters;
        const real scale = p->scales[f] * bn_inverse_std(p->variance[f]);
        for (int i = 0; i < spatial; i += PIECE) {
            const int n = spatial - i < PIECE ? spatial - i : PIECE;
            real *to = y + (size_t)r * spatial + i;
            scale_row(x + (size_t)r * spatial + i, n, p->mean[f], scale, p->biases[f], to);
            activate_row(to, n, a);
        }
    }
}

/* to = delta * f'(z) for n values of one channel; z = scale (x - mean) + bias is worked out anew where only
 * it tells the slope. */
static void activation_delta(const real *x, const real *y, const real *delta, int n,
                             const batchnorm_arrays *p, int f, ACTIVATION a, real *to)
{
    real z[PIECE];
    const real scale = p->scales[f] * bn_inverse_std(p->variance[f]);
    for (int i = 0; i < n; i += PIECE) {
        const int count = n - i < PIECE ? n - i : PIECE;
        if (to != delta) memcpy(to + i, delta + i, sizeof(real) * (size_t)count);
        if (activation_needs_input(a)) {
            scale_row(x + i, count, p->mean[f], scale, p->biases[f], z);
            gradient_input_row(z, count, a, to + i);
        } else {
            gradient_row(y + i, count, a, to + i);
        }
    }
}

/* The gradients of one channel's parameters and statistics from sum = sum of delta and dot = sum of delta (x
 * - mean), and the three factors of dx = factor[0] delta + factor[1] (x - mean) + factor[2]. Statistics that
 * did not come from x (frozen) pass nothing on. */
static void finish_backward(double sum, double dot, double m, const batchnorm_arrays *p, int f, int frozen,
                            real factor[3])
{
    const double inverse = bn_inverse_std(p->variance[f]), scale = p->scales[f];
    p->bias_updates[f] += (real)sum;
    p->scale_updates[f] += (real)(dot * inverse);
    p->mean_delta[f] = frozen ? 0 : (real)(-sum * scale * inverse);
    p->variance_delta[f] = frozen ? 0 : (real)(-.5 * dot * scale * inverse * inverse * inverse);
    factor[0] = (real)(scale * inverse);
    factor[1] = frozen ? 0 : (real)(-dot * scale * inverse * inverse * inverse / m);
    factor[2] = frozen ? 0 : (real)(-sum * scale * inverse / m);
}
MULTIVERSION static void backward_row(const real *x, const real *delta, int n, real mean,
                                      const real factor[3], int add, real *dx)
{
    for (int i = 0; i < n; ++i) {
        dx[i] = (add ? dx[i] : 0) + factor[0] * delta[i] + factor[1] * (x[i] - mean) + factor[2];
    }
}
MULTIVERSION static void flat_sums(const real *x, const real *delta, int batch, int filters, int f0,
                                   int count, const real *mean, double *sum, double *dot)
{
    for (int b = 0; b < batch; ++b) {
        for (int j = 0; j < count; ++j) {
            const size_t i = (size_t)b * filters + f0 + j;
            sum[j] += delta[i];
            dot[j] += delta[i] * ((double)x[i] - mean[f0 + j]);
        }
    }
}
static void flat_backward(const real *x, const real *delta, int batch, int filters, int f0, int count,
                          const batchnorm_arrays *p, int frozen, int add, real *dx)
{
    double sum[CHANNELS] = {0}, dot[CHANNELS] = {0};
    real factor[CHANNELS][3];
    flat_sums(x, delta, batch, filters, f0, count, p->mean, sum, dot);
    for (int j = 0; j < count; ++j) finish_backward(sum[j], dot[j], batch, p, f0 + j, frozen, factor[j]);
    if (!dx) return;
    for (int b = 0; b < batch; ++b) {
        for (int j = 0; j < count; ++j) {
            const size_t i = (size_t)b * filters + f0 + j;
            dx[i] = (add ? dx[i] : 0) + factor[j][0] * delta[i] + factor[j][1] * (x[i] - p->mean[f0 + j]) +
                    factor[j][2];
        }
    }
}

/* The whole backward pass: delta at y -> dx (written, or added to; NULL: not wanted), and the updates of
 * scales and biases. x is the layer's input, y its output. dx may be delta, and is so with an activation,
 * whose gradient is kept there between the two reads. */
void batchnorm_backward_cpu(const real *x, const real *y, const real *delta, int batch, int filters,
                            int spatial, const batchnorm_arrays *p, ACTIVATION a, int frozen, int add,
                            real *dx)
{
    assert((a == LINEAR || dx == delta) && (!add || dx != delta) && !activation_mixes_channels(a));
    if (spatial == 1) {
        if (a != LINEAR && activation_needs_input(a)) {
            PARALLEL_FOR((size_t)batch *filters)
            for (int b = 0; b < batch; ++b) {
                for (int f = 0; f < filters; ++f) {
                    const size_t i = (size_t)b * filters + f;
                    activation_delta(x + i, y + i, delta + i, 1, p, f, a, dx + i);
                }
            }
        } else if (a != LINEAR) {
            gradient_array(y, batch * filters, a, dx);
        }
        EACH_BLOCK flat_backward(x, delta, batch, filters, f0, BLOCK_SIZE, p, frozen, add, dx);
        return;
    }
    EACH_FILTER {
        double sum = 0, dot = 0;
        real factor[3];
        for (int b = 0; b < batch; ++b) {
            const size_t at = ROW(b, f);
            if (a != LINEAR) activation_delta(x + at, y + at, delta + at, spatial, p, f, a, dx + at);
            sum += sum_row(delta + at, spatial);
            dot += dot_row(delta + at, x + at, p->mean[f], spatial);
        }
        finish_backward(sum, dot, (double)batch * spatial, p, f, frozen, factor);
        for (int b = batch - 1; dx && b >= 0; --b) {
            backward_row(x + ROW(b, f), delta + ROW(b, f), spatial, p->mean[f], factor, add, dx + ROW(b, f));
        }
    }
}
