/* Normalizations across the channels of a pixel: local response normalization, and to length one. Maps are
 * (batch, channels, spatial). */
#include "parallel.h"
#include "scalar.h"
#include <assert.h>
#include <string.h>

/* ---- local response normalization (Krizhevsky et al., 2012, section 3.3), as Darknet computes it:
 *     norm_k = kappa + alpha (sum of x_j^2 over k - (size - 1) / 2 <= j <= k + size / 2, without x_m^2)
 *     y_k = x_k norm_k^-beta
 * where m = size / 2 is the channel that Darknet's running sum leaves out of the first window and subtracts
 * later all the same; where no window holds it, its square is missing nevertheless. */
static int lrn_missing(int channels, int size) { return size / 2 < channels ? size / 2 : -1; }

static void add_squares(const real *x, real factor, int n, real *to)
{
    for (int i = 0; i < n; ++i) to[i] += factor * x[i] * x[i];
}
MULTIVERSION static void lrn_norms(const real *image, int k, int channels, int spatial, int size, real alpha,
                                   real kappa, real *norms)
{
    const int first = max_int(k - (size - 1) / 2, 0), last = min_int(k + size / 2, channels - 1);
    const int missing = lrn_missing(channels, size), inside = missing >= first && missing <= last;
    for (int i = 0; i < spatial; ++i) norms[i] = kappa;
    for (int j = first; j <= last; ++j) {
        if (j != missing) add_squares(image + (size_t)j * spatial, alpha, spatial, norms);
    }
    if (missing >= 0 && !inside) add_squares(image + (size_t)missing * spatial, -alpha, spatial, norms);
}
/* y = x norm^-beta; the usual beta of 3/4 needs no logarithm. */
MULTIVERSION static void lrn_divide(const real *x, const real *norms, real beta, int n, real *y)
{
    if (beta == (real).75) {
        for (int i = 0; i < n; ++i) y[i] = x[i] / (sqrt(norms[i]) * sqrt(sqrt(norms[i])));
    } else {
        for (int i = 0; i < n; ++i) y[i] = x[i] * pow(norms[i], -beta);
    }
}
/* norms may be NULL. */
void lrn_forward_cpu(const real *x, int batch, int channels, int spatial, int size, real alpha, real beta,
                     real kappa, real *norms, real *y)
{
    assert(x != y && size > 0);
    PARALLEL_FOR((size_t)batch * channels * spatial)
    for (int r = 0; r < batch * channels; ++r) {
        const size_t row = (size_t)r * spatial, image = (size_t)(r / channels) * channels * spatial;
        real *n = norms ? norms + row : y + row;
        lrn_norms(x + image, r % channels, channels, spatial, size, alpha, kappa, n);
        lrn_divide(x + row, n, beta, spatial, y + row);
    }
}

/* share = delta y / norm: what every square in norm contributes to the derivative. */
MULTIVERSION static void lrn_shares(const real *y, const real *norms, const real *delta, int n, real *share)
{
    for (int i = 0; i < n; ++i) share[i] = delta[i] * y[i] / norms[i];
}
static void add_row(const real *x, real factor, int n, real *to)
{
    for (int i = 0; i < n; ++i) to[i] += factor * x[i];
}
/* sum = the shares of the channels whose norm contains channel j's square, with its sign there. */
MULTIVERSION static void lrn_sum(const real *shares, int j, int channels, int spatial, int size, real *sum)
{
    const int missing = j == lrn_missing(channels, size);
    for (int i = 0; i < spatial; ++i) sum[i] = 0;
    for (int k = max_int(j - size / 2, 0); k <= min_int(j + (size - 1) / 2, channels - 1); ++k) {
        add_row(shares + (size_t)k * spatial, 1, spatial, sum);
    }
    for (int k = 0; k < channels && missing; ++k) add_row(shares + (size_t)k * spatial, -1, spatial, sum);
}
MULTIVERSION static void lrn_delta(const real *x, const real *scaled, const real *sum, real factor, int n,
                                   int add, real *dx)
{
    for (int i = 0; i < n; ++i) dx[i] = (add ? dx[i] : 0) + scaled[i] - factor * x[i] * sum[i];
}
/* dx_j = or += delta_j norm_j^-beta - 2 alpha beta x_j (sum over k of delta_k y_k / norm_k, for the k whose
 * norm contains x_j^2). The workspace holds three maps. */
void lrn_backward_cpu(const real *x, const real *y, const real *norms, const real *delta, int batch,
                      int channels, int spatial, int size, real alpha, real beta, int add, real *dx,
                      real *workspace)
{
    const size_t map = (size_t)batch * channels * spatial;
    real *shares = workspace, *sums = workspace + map, *scaled = workspace + 2 * map;
    PARALLEL_FOR(map)
    for (int r = 0; r < batch * channels; ++r) {
        const size_t row = (size_t)r * spatial;
        lrn_shares(y + row, norms + row, delta + row, spatial, shares + row);
        lrn_divide(delta + row, norms + row, beta, spatial, scaled + row);
    }
    PARALLEL_FOR(map)
    for (int r = 0; r < batch * channels; ++r) {
        const size_t row = (size_t)r * spatial, image = (size_t)(r / channels) * channels * spatial;
        lrn_sum(shares + image, r % channels, channels, spatial, size, sums + row);
        lrn_delta(x + row, scaled + row, sums + row, 2 * alpha * beta, spatial, add, dx + row);
    }
}

/* ---- each pixel's channels to length one: y = x / |x|, and 0 where x is 0 */
enum { PIXELS = 256 }; /* of one task; their sums stay in the first cache */
static void add_products(const real *a, const real *b, int n, double *sum)
{
    for (int i = 0; i < n; ++i) sum[i] += (double)a[i] * b[i];
}
MULTIVERSION static void l2norm_pixels(const real *x, int channels, int spatial, int n, real *y)
{
    double squares[PIXELS] = {0};
    real scale[PIXELS];
    for (int c = 0; c < channels; ++c)
        add_products(x + (size_t)c * spatial, x + (size_t)c * spatial, n, squares);
    for (int i = 0; i < n; ++i) scale[i] = (real)(squares[i] > 0 ? 1 / sqrt(squares[i]) : 1);
    for (int c = 0; c < channels; ++c) {
        for (int i = 0; i < n; ++i) y[(size_t)c * spatial + i] = x[(size_t)c * spatial + i] * scale[i];
    }
}
/* dx = (delta - y (y . delta)) / |x| */
MULTIVERSION static void l2norm_pixels_backward(const real *x, const real *y, const real *delta, int channels,
                                                int spatial, int n, int add, real *dx)
{
    double squares[PIXELS] = {0}, dots[PIXELS] = {0};
    real scale[PIXELS], along[PIXELS];
    for (int c = 0; c < channels; ++c) {
        const size_t row = (size_t)c * spatial;
        add_products(x + row, x + row, n, squares);
        add_products(y + row, delta + row, n, dots);
    }
    for (int i = 0; i < n; ++i) {
        scale[i] = (real)(squares[i] > 0 ? 1 / sqrt(squares[i]) : 1);
        along[i] = (real)dots[i];
    }
    for (int c = 0; c < channels; ++c) {
        for (int i = 0; i < n; ++i) {
            const size_t at = (size_t)c * spatial + i;
            dx[at] = (add ? dx[at] : 0) + (delta[at] - y[at] * along[i]) * scale[i];
        }
    }
}
void l2norm_forward_cpu(const real *x, int batch, int channels, int spatial, real *y)
{
    PARALLEL_FOR2((size_t)batch * channels * spatial)
    for (int b = 0; b < batch; ++b) {
        for (int64_t i = 0; i < spatial; i += PIXELS) {
            const size_t at = (size_t)b * channels * spatial + i;
            l2norm_pixels(x + at, channels, spatial, min_int((int)(spatial - i), PIXELS), y + at);
        }
    }
}
void l2norm_backward_cpu(const real *x, const real *y, const real *delta, int batch, int channels,
                         int spatial, int add, real *dx)
{
    PARALLEL_FOR2((size_t)batch * channels * spatial)
    for (int b = 0; b < batch; ++b) {
        for (int64_t i = 0; i < spatial; i += PIXELS) {
            const size_t at = (size_t)b * channels * spatial + i;
            l2norm_pixels_backward(x + at, y + at, delta + at, channels, spatial,
                                   min_int((int)(spatial - i), PIXELS), add, dx + at);
        }
    }
}
