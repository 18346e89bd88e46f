/* Products of maps, and sums of maps with learned weights. */
#include "parallel.h"
#include "scalar.h"
#include "sums.h"
#include <assert.h>

/* y = or += a b, element by element. */
MULTIVERSION void multiply_cpu(int n, const real *a, const real *b, int add, real *y)
{
    PARALLEL_FOR(n)
    for (int i = 0; i < n; ++i) y[i] = (add ? y[i] : 0) + a[i] * b[i];
}

/* y[b, c, i] = or += x[b, c, i] * scales[b, c], or with per_pixel scales[b, i]. */
MULTIVERSION void scale_maps_cpu(const real *x, const real *scales, int batch, int channels, int spatial,
                                 int per_pixel, int add, real *y)
{
    PARALLEL_FOR((size_t)batch * channels * spatial)
    for (int r = 0; r < batch * channels; ++r) {
        const real *from = x + (size_t)r * spatial, *pixels = scales + (size_t)(r / channels) * spatial;
        real *to = y + (size_t)r * spatial;
        if (per_pixel) {
            for (int i = 0; i < spatial; ++i) to[i] = (add ? to[i] : 0) + from[i] * pixels[i];
        } else {
            for (int i = 0; i < spatial; ++i) to[i] = (add ? to[i] : 0) + from[i] * scales[r];
        }
    }
}
static void add_channels(const real *x, const real *delta, int channels, int spatial, int add, real *sums)
{
    for (int i = 0; i < spatial && !add; ++i) sums[i] = 0;
    for (int c = 0; c < channels; ++c) {
        multiply_cpu(spatial, x + (size_t)c * spatial, delta + (size_t)c * spatial, 1, sums);
    }
}
/* Its derivative at the scales: = or += the sum of x delta over the values that one scale multiplies. */
void scale_maps_backward_cpu(const real *x, const real *delta, int batch, int channels, int spatial,
                             int per_pixel, int add, real *scales_delta)
{
    PARALLEL_FOR((size_t)batch * channels * spatial)
    for (int b = 0; b < batch; ++b) {
        const size_t image = (size_t)b * channels * spatial;
        if (per_pixel) {
            add_channels(x + image, delta + image, channels, spatial, add,
                         scales_delta + (size_t)b * spatial);
        }
        for (int c = 0; c < channels && !per_pixel; ++c) {
            const size_t row = image + (size_t)c * spatial;
            real *to = scales_delta + (size_t)b * channels + c;
            *to = (add ? *to : 0) + (real)dot_row(x + row, delta + row, 0, spatial);
        }
    }
}

/* ---- sums with weights: weight i / step belongs to value i of a row */

/* y[r, i] = or += weights[i / step] * x[r, i] for i < columns; rows lie ldx and ldy apart. */
MULTIVERSION void mix_rows_cpu(const real *x, int rows, int columns, int ldx, const real *weights, int step,
                               int add, real *y, int ldy)
{
    assert(columns <= ldx && columns <= ldy && step > 0);
    PARALLEL_FOR((size_t)rows * columns)
    for (int r = 0; r < rows; ++r) {
        for (int64_t first = 0; first < columns; first += step) {
            const int n = columns - first < step ? (int)(columns - first) : step;
            const real *from = x + (size_t)r * ldx + first, weight = weights[first / step];
            real *to = y + (size_t)r * ldy + first;
            for (int i = 0; i < n; ++i) to[i] = (add ? to[i] : 0) + weight * from[i];
        }
    }
}
/* Its derivative at the weights: weights_delta[i / step] += the sum of x[r, i] delta[r, i]. */
void mix_rows_backward_cpu(const real *x, int ldx, const real *delta, int ldd, int rows, int columns,
                           int step, real *weights_delta)
{
    const int weights = (int)(((int64_t)columns + step - 1) / step);
    PARALLEL_FOR((size_t)rows * columns)
    for (int f = 0; f < weights; ++f) {
        const int first = f * step, n = columns - first < step ? columns - first : step;
        double sum = 0;
        for (int r = 0; r < rows; ++r) {
            sum += dot_row(x + (size_t)r * ldx + first, delta + (size_t)r * ldd + first, 0, n);
        }
        weights_delta[f] += (real)sum;
    }
}

/* Normalization of the n weights that meet in one sum, for each of `length` sums (weights are (n, length)):
 *     e_i = relu(w_i), or exp(w_i - largest w);   mixed_i = e_i / (epsilon + the sum of e) */
static int largest_of(const real *weights, int n, int length)
{
    int best = 0;
    for (int i = 1; i < n; ++i)
        best = weights[(size_t)i * length] > weights[(size_t)best * length] ? i : best;
    return best;
}
static real unnormalized(const real *weights, size_t i, int best, int length, mix_normalization kind)
{
    const real w = weights[i * length];
    if (kind == MIX_RELU) return w > 0 ? w : 0;
    return (real)exp((double)w - (double)weights[(size_t)best * length]);
}
static real sum_of(const real *weights, int best, int n, int length, mix_normalization kind)
{
    real sum = MIX_EPSILON;
    for (int i = 0; i < n; ++i) sum += unnormalized(weights, i, best, length, kind);
    return sum;
}
void mix_weights_cpu(const real *weights, int n, int length, mix_normalization kind, real *mixed)
{
    for (int f = 0; f < length; ++f) {
        const int best = largest_of(weights + f, n, length);
        const real sum = kind == MIX_PLAIN ? 1 : sum_of(weights + f, best, n, length, kind);
        for (int i = 0; i < n; ++i) {
            const size_t at = (size_t)i * length + f;
            mixed[at] =
                kind == MIX_PLAIN ? weights[at] : unnormalized(weights + f, i, best, length, kind) / sum;
        }
    }
}
/* updates += its derivative: with g the delta at mixed and h_i = (g_i - sum of g mixed) / sum, h_i where
 * w_i > 0 for relu; for softmax e_i h_i, and the largest weight, which all exponents contain, gets minus the
 * sum of e h besides. */
void mix_weights_backward_cpu(const real *weights, const real *mixed, const real *delta, int n, int length,
                              mix_normalization kind, real *updates)
{
    for (int f = 0; f < length; ++f) {
        const int best = largest_of(weights + f, n, length);
        const real sum = kind == MIX_PLAIN ? 1 : sum_of(weights + f, best, n, length, kind);
        real mean = 0, all = 0;
        for (int i = 0; i < n && kind != MIX_PLAIN; ++i) {
            mean += delta[(size_t)i * length + f] * mixed[(size_t)i * length + f];
        }
        for (int i = 0; i < n; ++i) {
            const size_t at = (size_t)i * length + f;
            const real h = (delta[at] - mean) / sum;
            const real e = kind == MIX_SOFTMAX ? unnormalized(weights + f, i, best, length, kind)
                                               : (real)(kind == MIX_PLAIN || weights[at] > 0);
            updates[at] += e * h;
            all += e * h;
        }
        if (kind == MIX_SOFTMAX) updates[(size_t)best * length + f] -= all;
    }
}
