/* Products of maps, and sums of maps with learned weights; the twins of csrc/multiply_kernels.c. */
#include "channels.cuh"

/* y = or += a b, element by element. */
static __global__ void multiply_kernel(size_t n, const real *a, const real *b, int add, real *y)
{
    GRID_STRIDE(i, n) put(y + i, add, a[i] * b[i]);
}
void multiply_gpu(int n, const real *a, const real *b, int add, real *y)
{
    LAUNCH(multiply_kernel, n, n, a, b, add, y);
}

/* y[b, c, i] = or += x[b, c, i] * scales[b, c], or with per_pixel scales[b, i]. */
static __global__ void scale_maps_kernel(size_t n, const real *x, const real *scales, int channels,
                                         int spatial, int per_pixel, int add, real *y)
{
    GRID_STRIDE(at, n) {
        const size_t r = at / spatial, i = at % spatial;
        put(y + at, add, x[at] * scales[per_pixel ? r / channels * spatial + i : r]);
    }
}
void scale_maps_gpu(const real *x, const real *scales, int batch, int channels, int spatial, int per_pixel,
                    int add, real *y)
{
    const size_t n = (size_t)batch * channels * spatial;
    LAUNCH(scale_maps_kernel, n, n, x, scales, channels, spatial, per_pixel, add, y);
}
/* Its derivative at the scales: = or += the sum of x delta over the values that one scale multiplies. */
static __global__ void pixel_scales_delta_kernel(size_t pixels, const real *x, const real *delta,
                                                 int channels, int spatial, int add, real *scales_delta)
{
    GRID_STRIDE(p, pixels) {
        const size_t first = p / spatial * channels * spatial + p % spatial;
        real sum = add ? scales_delta[p] : 0;
        for (int c = 0; c < channels; ++c) {
            const size_t at = first + (size_t)c * spatial;
            sum += x[at] * delta[at];
        }
        scales_delta[p] = sum;
    }
}
struct put_into {
    real *to;
    int add;
    __device__ void operator()(size_t c, double sum) const { put(to + c, add, (real)sum); }
};
void scale_maps_backward_gpu(const real *x, const real *delta, int batch, int channels, int spatial,
                             int per_pixel, int add, real *scales_delta)
{
    const size_t pixels = (size_t)batch * spatial;
    if (per_pixel) {
        LAUNCH(pixel_scales_delta_kernel, pixels, pixels, x, delta, channels, spatial, add, scales_delta);
    } else {
        sum_channels({1, batch * channels, spatial}, product_of{x, delta}, put_into{scales_delta, add});
    }
}

/* ---- sums with weights: weight i / step belongs to value i of a row */

/* y[r, i] = or += weights[i / step] * x[r, i] for i < columns; rows lie ldx and ldy apart. */
static __global__ void mix_rows_kernel(size_t n, const real *x, int columns, int ldx, const real *weights,
                                       int step, int add, real *y, int ldy)
{
    GRID_STRIDE(at, n) {
        const size_t r = at / columns, i = at % columns;
        put(y + r * ldy + i, add, weights[i / step] * x[r * ldx + i]);
    }
}
void mix_rows_gpu(const real *x, int rows, int columns, int ldx, const real *weights, int step, int add,
                  real *y, int ldy)
{
    const size_t n = (size_t)rows * columns;
    LAUNCH(mix_rows_kernel, n, n, x, columns, ldx, weights, step, add, y, ldy);
}
/* weights_delta[i / step] += the sum of x[r, i] delta[r, i]: a block has a weight. */
static __global__ void mix_rows_backward_kernel(const real *x, int ldx, const real *delta, int ldd, int rows,
                                                int columns, int step, real *weights_delta)
{
    const size_t first = (size_t)blockIdx.x * step;
    const int count = columns - first < (size_t)step ? (int)(columns - first) : step;
    double sum = 0;
    for (size_t k = threadIdx.x; k < (size_t)rows * count; k += BLOCK) {
        const size_t r = k / count, i = first + k % count;
        sum += (double)x[r * ldx + i] * delta[r * ldd + i];
    }
    sum = block_sum(sum);
    if (threadIdx.x == 0) weights_delta[blockIdx.x] += (real)sum;
}
void mix_rows_backward_gpu(const real *x, int ldx, const real *delta, int ldd, int rows, int columns,
                           int step, real *weights_delta)
{
    const unsigned weights = (unsigned)(((int64_t)columns + step - 1) / step);
    LAUNCH_BLOCKS(mix_rows_backward_kernel, weights, 0, x, ldx, delta, ldd, rows, columns, step,
                  weights_delta);
}

/* Normalization of the n weights that meet in one sum, for each of `length` sums, a thread each. */
struct meeting {
    const real *weights; /* of one sum: `length` apart */
    int length, best;    /* best: the largest */
    mix_normalization kind;
    real sum;
    __device__ real unnormalized(int i) const
    {
        const real w = weights[(size_t)i * length];
        if (kind == MIX_RELU) return w > 0 ? w : 0;
        return exp(w - weights[(size_t)best * length]);
    }
    __device__ meeting(const real *of, int n, int apart, mix_normalization how)
        : weights(of), length(apart), best(0), kind(how), sum(1)
    {
        for (int i = 1; i < n; ++i) {
            if (of[(size_t)i * length] > of[(size_t)best * length]) best = i;
        }
        if (kind == MIX_PLAIN) return;
        sum = MIX_EPSILON;
        for (int i = 0; i < n; ++i) sum += unnormalized(i);
    }
};
static __global__ void mix_weights_kernel(const real *weights, int n, int length, mix_normalization kind,
                                          real *mixed)
{
    GRID_STRIDE(f, length) {
        const meeting m(weights + f, n, length, kind);
        for (int i = 0; i < n; ++i) {
            const size_t at = (size_t)i * length + f;
            mixed[at] = kind == MIX_PLAIN ? weights[at] : m.unnormalized(i) / m.sum;
        }
    }
}
void mix_weights_gpu(const real *weights, int n, int length, mix_normalization kind, real *mixed)
{
    LAUNCH(mix_weights_kernel, length, weights, n, length, kind, mixed);
}
static __global__ void mix_weights_backward_kernel(const real *weights, const real *mixed, const real *delta,
                                                   int n, int length, mix_normalization kind, real *updates)
{
    GRID_STRIDE(f, length) {
        const meeting m(weights + f, n, length, kind);
        real mean = 0, all = 0;
        for (int i = 0; i < n && kind != MIX_PLAIN; ++i) {
            mean += delta[(size_t)i * length + f] * mixed[(size_t)i * length + f];
        }
        for (int i = 0; i < n; ++i) {
            const size_t at = (size_t)i * length + f;
            const real h = (delta[at] - mean) / m.sum;
            const real e =
                kind == MIX_SOFTMAX ? m.unnormalized(i) : (real)(kind == MIX_PLAIN || weights[at] > 0);
            updates[at] += e * h;
            all += e * h;
        }
        if (kind == MIX_SOFTMAX) updates[(size_t)m.best * length + f] -= all;
    }
}
void mix_weights_backward_gpu(const real *weights, const real *mixed, const real *delta, int n, int length,
                              mix_normalization kind, real *updates)
{
    LAUNCH(mix_weights_backward_kernel, length, weights, mixed, delta, n, length, kind, updates);
}
