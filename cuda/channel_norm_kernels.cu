/* Normalizations across the channels of a pixel; the twins of csrc/channel_norm_kernels.c, which has the
 * formulas. A thread has a value of local response normalization, and a pixel of the norm of length one. */
#include "kernels.cuh"

/* ---- local response normalization */
struct lrn_map {
    int channels, spatial, size,
        missing; /* missing: the channel that Darknet's running sum leaves out, or -1 */
    real alpha, beta;
};
static lrn_map lrn_map_of(int channels, int spatial, int size, real alpha, real beta)
{
    return {channels, spatial, size, size / 2 < channels ? size / 2 : -1, alpha, beta};
}
static __device__ __forceinline__ real lrn_divided(real x, real norm, real beta)
{
    return beta == (real).75 ? x / (sqrt(norm) * sqrt(sqrt(norm))) : x * pow(norm, -beta);
}
static __global__ void lrn_kernel(size_t n, const real *x, lrn_map l, real kappa, real *norms, real *y)
{
    GRID_STRIDE(at, n) {
        const int k = (int)(at / l.spatial % l.channels);
        const int first = k - (l.size - 1) / 2 > 0 ? k - (l.size - 1) / 2 : 0;
        const int last = k + l.size / 2 < l.channels ? k + l.size / 2 : l.channels - 1;
        const real *pixel = x + (at - (size_t)k * l.spatial);
        real norm = kappa;
        for (int j = first; j <= last; ++j) {
            const real v = pixel[(size_t)j * l.spatial];
            if (j != l.missing) norm += l.alpha * v * v;
        }
        if (l.missing >= 0 && (l.missing < first || l.missing > last)) {
            const real v = pixel[(size_t)l.missing * l.spatial];
            norm -= l.alpha * v * v;
        }
        if (norms) norms[at] = norm;
        y[at] = lrn_divided(x[at], norm, l.beta);
    }
}
void lrn_forward_gpu(const real *x, int batch, int channels, int spatial, int size, real alpha, real beta,
                     real kappa, real *norms, real *y)
{
    const size_t n = (size_t)batch * channels * spatial;
    LAUNCH(lrn_kernel, n, n, x, lrn_map_of(channels, spatial, size, alpha, beta), kappa, norms, y);
}

/* dx_j = or += delta_j norm_j^-beta - 2 alpha beta x_j (sum of delta_k y_k / norm_k over the k whose norm
 * contains x_j^2, with its sign there) */
static __device__ __forceinline__ real lrn_share(const real *y, const real *norms, const real *delta,
                                                 size_t at)
{
    return delta[at] * y[at] / norms[at];
}
static __global__ void lrn_backward_kernel(size_t n, const real *x, const real *y, const real *norms,
                                           const real *delta, lrn_map l, int add, real *dx)
{
    GRID_STRIDE(at, n) {
        const int j = (int)(at / l.spatial % l.channels);
        const int first = j - l.size / 2 > 0 ? j - l.size / 2 : 0;
        const int last = j + (l.size - 1) / 2 < l.channels ? j + (l.size - 1) / 2 : l.channels - 1;
        const size_t pixel = at - (size_t)j * l.spatial;
        real sum = 0;
        for (int k = first; k <= last; ++k) sum += lrn_share(y, norms, delta, pixel + (size_t)k * l.spatial);
        for (int k = 0; k < l.channels && j == l.missing; ++k) {
            sum -= lrn_share(y, norms, delta, pixel + (size_t)k * l.spatial);
        }
        put(dx + at, add, lrn_divided(delta[at], norms[at], l.beta) - 2 * l.alpha * l.beta * x[at] * sum);
    }
}
void lrn_backward_gpu(const real *x, const real *y, const real *norms, const real *delta, int batch,
                      int channels, int spatial, int size, real alpha, real beta, int add, real *dx, real *)
{
    const size_t n = (size_t)batch * channels * spatial;
    LAUNCH(lrn_backward_kernel, n, n, x, y, norms, delta, lrn_map_of(channels, spatial, size, alpha, beta),
           add, dx);
}

/* ---- each pixel's channels to length one: y = x / |x|, and 0 where x is 0 */
static __device__ real inverse_length(const real *x, int channels, int spatial)
{
    double squares = 0;
    for (int c = 0; c < channels; ++c) squares += (double)x[(size_t)c * spatial] * x[(size_t)c * spatial];
    return (real)(squares > 0 ? 1 / sqrt(squares) : 1);
}
static __global__ void l2norm_kernel(size_t pixels, const real *x, int channels, int spatial, real *y)
{
    GRID_STRIDE(p, pixels) {
        const size_t at = p / spatial * channels * spatial + p % spatial;
        const real scale = inverse_length(x + at, channels, spatial);
        for (int c = 0; c < channels; ++c) y[at + (size_t)c * spatial] = x[at + (size_t)c * spatial] * scale;
    }
}
void l2norm_forward_gpu(const real *x, int batch, int channels, int spatial, real *y)
{
    const size_t pixels = (size_t)batch * spatial;
    LAUNCH(l2norm_kernel, pixels, pixels, x, channels, spatial, y);
}
/* dx = or += (delta - y (y . delta)) / |x| */
static __global__ void l2norm_backward_kernel(size_t pixels, const real *x, const real *y, const real *delta,
                                              int channels, int spatial, int add, real *dx)
{
    GRID_STRIDE(p, pixels) {
        const size_t at = p / spatial * channels * spatial + p % spatial;
        const real scale = inverse_length(x + at, channels, spatial);
        double dot = 0;
        for (int c = 0; c < channels; ++c) {
            dot += (double)y[at + (size_t)c * spatial] * delta[at + (size_t)c * spatial];
        }
        for (int c = 0; c < channels; ++c) {
            const size_t j = at + (size_t)c * spatial;
            put(dx + j, add, (delta[j] - y[j] * (real)dot) * scale);
        }
    }
}
void l2norm_backward_gpu(const real *x, const real *y, const real *delta, int batch, int channels,
                         int spatial, int add, real *dx)
{
    const size_t pixels = (size_t)batch * spatial;
    LAUNCH(l2norm_backward_kernel, pixels, pixels, x, y, delta, channels, spatial, add, dx);
}
