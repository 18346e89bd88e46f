/* Activations over arrays; the twins of csrc/activations.c, whose comments have the formulas of
 * normalize_channels*. The others stand in csrc/scalar.h. */
#include "activations.cuh"

/* In place: x[i] -> f(x[i]) */
static __global__ void activate_kernel(size_t n, real *x, ACTIVATION a)
{
    GRID_STRIDE(i, n) x[i] = activate(x[i], a);
}
void activate_array_gpu(real *x, int n, ACTIVATION a)
{
    if (a != LINEAR) LAUNCH(activate_kernel, n, n, x, a);
}

/* delta[i] *= f'(x[i]), from y = f(x) */
static __global__ void gradient_kernel(size_t n, const real *y, ACTIVATION a, real *delta)
{
    GRID_STRIDE(i, n) delta[i] *= slope_of_output(y[i], a);
}
void gradient_array_gpu(const real *y, int n, ACTIVATION a, real *delta)
{
    if (a != LINEAR) LAUNCH(gradient_kernel, n, n, y, a, delta);
}

/* delta[i] *= f'(x[i]), from x */
static __global__ void gradient_input_kernel(size_t n, const real *x, ACTIVATION a, real *delta)
{
    GRID_STRIDE(i, n) delta[i] *= slope_of_input(x[i], a);
}
void gradient_input_array_gpu(const real *x, int n, ACTIVATION a, real *delta)
{
    LAUNCH(gradient_input_kernel, n, n, x, a, delta);
}

/* ---- normalize_channels*: a thread per pixel, whose channels lie `spatial` apart */

struct pixel_sums {
    real shift, sum;
};
static __device__ __forceinline__ real channel_term(real x, real shift, ACTIVATION a)
{
    return a == NORM_CHAN ? relu_activate(x) : exp(x - shift);
}
static __device__ pixel_sums sums_of_pixel(const real *x, int channels, int spatial, ACTIVATION a)
{
    pixel_sums found = {0, CHANNELS_EPSILON};
    if (a == NORM_CHAN_SOFTMAX_MAXVAL) {
        found.shift = x[0];
        for (int c = 1; c < channels; ++c) found.shift = fmax(found.shift, x[(size_t)c * spatial]);
    }
    for (int c = 0; c < channels; ++c) found.sum += channel_term(x[(size_t)c * spatial], found.shift, a);
    return found;
}
/* Where pixel i of all images begins. */
static __device__ __forceinline__ size_t pixel_at(size_t i, int channels, int spatial)
{
    return i / spatial * channels * spatial + i % spatial;
}
static __global__ void activate_channels_kernel(size_t pixels, const real *x, int channels, int spatial,
                                                ACTIVATION a, real *y)
{
    GRID_STRIDE(i, pixels) {
        const size_t at = pixel_at(i, channels, spatial);
        const pixel_sums s = sums_of_pixel(x + at, channels, spatial, a);
        for (int c = 0; c < channels; ++c) {
            const size_t j = at + (size_t)c * spatial;
            y[j] = channel_term(x[j], s.shift, a) / s.sum;
        }
    }
}
void activate_channels_gpu(const real *x, int batch, int channels, int spatial, ACTIVATION a, real *y)
{
    const size_t pixels = (size_t)batch * spatial;
    LAUNCH(activate_channels_kernel, pixels, pixels, x, channels, spatial, a, y);
}
static __global__ void gradient_channels_kernel(size_t pixels, const real *x, const real *y, int channels,
                                                int spatial, ACTIVATION a, real *delta)
{
    GRID_STRIDE(i, pixels) {
        const size_t at = pixel_at(i, channels, spatial);
        const pixel_sums s = sums_of_pixel(x + at, channels, spatial, a);
        real dot = 0;
        for (int c = 0; c < channels; ++c)
            dot += y[at + (size_t)c * spatial] * delta[at + (size_t)c * spatial];
        bool open = a == NORM_CHAN_SOFTMAX_MAXVAL; /* the first largest x moves the shift */
        for (int c = 0; c < channels; ++c) {
            const size_t j = at + (size_t)c * spatial;
            const real slope = a == NORM_CHAN ? (x[j] > 0) / s.sum : y[j];
            delta[j] = slope * (delta[j] - dot);
            if (open && x[j] == s.shift) {
                delta[j] -= dot * CHANNELS_EPSILON / s.sum;
                open = false;
            }
        }
    }
}
void gradient_channels_gpu(const real *x, const real *y, int batch, int channels, int spatial, ACTIVATION a,
                           real *delta)
{
    const size_t pixels = (size_t)batch * spatial;
    LAUNCH(gradient_channels_kernel, pixels, pixels, x, y, channels, spatial, a, delta);
}
