/* Pooling, resampling, cropping and pjreddie's shortcut; the twins of csrc/pool_kernels.c. Forward a thread
 * has an output, backward an input, which collects from the windows that hold it in their order: no two
 * threads write one value. */
#include "windows.cuh"

/* ---- max pooling */

/* NaN is larger than everything, so that it is not lost on the way. */
static __device__ __forceinline__ bool exceeds(real a, real b) { return a > b || a != a; }
static __global__ void maxpool_kernel(size_t n, const real *x, pool_shape s, real *y, int *indexes)
{
    GRID_STRIDE(o, n) {
        const window v = window_of(s, o);
        size_t best = v.plane + (size_t)v.y0 * s.w + v.x0;
        for (int i = v.y0; i < v.y1; ++i) {
            for (int j = v.x0; j < v.x1; ++j) {
                const size_t at = v.plane + (size_t)i * s.w + j;
                if (exceeds(x[at], x[best])) best = at;
            }
        }
        y[o] = x[best];
        if (indexes) indexes[o] = (int)best;
    }
}
void maxpool_forward_gpu(const real *x, const pool_shape *s, real *y, int *indexes)
{
    LAUNCH(maxpool_kernel, outputs_of(s), outputs_of(s), x, *s, y, indexes);
}
static __global__ void maxpool_backward_kernel(size_t n, const real *delta, const int *indexes, pool_shape s,
                                               int add, real *dx)
{
    GRID_STRIDE(i, n) {
        const windows v = windows_of(s, i);
        real sum = add ? dx[i] : 0;
        for (int oy = v.y0; oy < v.y1; ++oy) {
            for (int ox = v.x0; ox < v.x1; ++ox) {
                const size_t o = v.plane + (size_t)oy * s.out_w + ox;
                if (indexes[o] == (int)i) sum += delta[o];
            }
        }
        dx[i] = sum;
    }
}
void maxpool_backward_gpu(const real *delta, const int *indexes, const pool_shape *s, int add, real *dx)
{
    LAUNCH(maxpool_backward_kernel, inputs_of(s), inputs_of(s), delta, indexes, *s, add, dx);
}

/* ---- mean pooling */

static __device__ __forceinline__ real count_of(const window &v)
{
    return (real)((v.y1 - v.y0) * (v.x1 - v.x0));
}
static __global__ void local_avgpool_kernel(size_t n, const real *x, pool_shape s, real *y)
{
    GRID_STRIDE(o, n) {
        const window v = window_of(s, o);
        real sum = 0;
        for (int i = v.y0; i < v.y1; ++i) {
            for (int j = v.x0; j < v.x1; ++j) sum += x[v.plane + (size_t)i * s.w + j];
        }
        y[o] = sum / count_of(v);
    }
}
void local_avgpool_forward_gpu(const real *x, const pool_shape *s, real *y)
{
    LAUNCH(local_avgpool_kernel, outputs_of(s), outputs_of(s), x, *s, y);
}
static __global__ void local_avgpool_backward_kernel(size_t n, const real *delta, pool_shape s, int add,
                                                     real *dx)
{
    GRID_STRIDE(i, n) {
        const windows v = windows_of(s, i);
        real sum = add ? dx[i] : 0;
        for (int oy = v.y0; oy < v.y1; ++oy) {
            for (int ox = v.x0; ox < v.x1; ++ox) {
                const size_t o = v.plane + (size_t)oy * s.out_w + ox;
                sum += delta[o] / count_of(window_of(s, o));
            }
        }
        dx[i] = sum;
    }
}
void local_avgpool_backward_gpu(const real *delta, const pool_shape *s, int add, real *dx)
{
    LAUNCH(local_avgpool_backward_kernel, inputs_of(s), inputs_of(s), delta, *s, add, dx);
}

/* y[r] = mean of x[r, i] over spatial: a warp has a row. */
static __global__ void avgpool_kernel(int rows, const real *x, int spatial, real *y)
{
    for (size_t r = blockIdx.x * (size_t)WARPS + threadIdx.x / WARP; r < (size_t)rows;
         r += (size_t)gridDim.x * WARPS) {
        double sum = 0;
        for (int i = threadIdx.x % WARP; i < spatial; i += WARP) sum += x[r * spatial + i];
        sum = warp_sum(sum);
        if (threadIdx.x % WARP == 0) y[r] = (real)(sum / spatial);
    }
}
void avgpool_forward_gpu(const real *x, int rows, int spatial, real *y)
{
    LAUNCH(avgpool_kernel, (size_t)rows * WARP, rows, x, spatial, y);
}
static __global__ void avgpool_backward_kernel(size_t n, const real *delta, int spatial, int add, real *dx)
{
    GRID_STRIDE(i, n) put(dx + i, add, delta[i / spatial] / (real)spatial);
}
void avgpool_backward_gpu(const real *delta, int rows, int spatial, int add, real *dx)
{
    const size_t n = (size_t)rows * spatial;
    LAUNCH(avgpool_backward_kernel, n, n, delta, spatial, add, dx);
}

/* ---- upsampling: y (planes, h * stride, w * stride) = or += scale * x (planes, h, w), nearest */
static __global__ void upsample_kernel(size_t n, const real *x, int w, int stride, real scale, int add,
                                       real *y)
{
    GRID_STRIDE(o, n) {
        const size_t wide = (size_t)w * stride, row = o / wide, column = o % wide;
        put(y + o, add, scale * x[row / stride * w + column / stride]);
    }
}
void upsample_forward_gpu(const real *x, int planes, int h, int w, int stride, real scale, int add, real *y)
{
    const size_t n = (size_t)planes * h * w * stride * stride;
    LAUNCH(upsample_kernel, n, n, x, w, stride, scale, add, y);
}
/* dx = or += scale * the sum of each square of delta */
static __global__ void upsample_backward_kernel(size_t n, const real *delta, int w, int stride, real scale,
                                                int add, real *dx)
{
    GRID_STRIDE(i, n) {
        const real *square = delta + (i / w * stride * w + i % w) * stride;
        real sum = 0;
        for (int j = 0; j < stride; ++j) {
            for (int k = 0; k < stride; ++k) sum += square[(size_t)j * w * stride + k];
        }
        put(dx + i, add, scale * sum);
    }
}
void upsample_backward_gpu(const real *delta, int planes, int h, int w, int stride, real scale, int add,
                           real *dx)
{
    const size_t n = (size_t)planes * h * w;
    LAUNCH(upsample_backward_kernel, n, n, delta, w, stride, scale, add, dx);
}

/* ---- pjreddie's shortcut: where maps differ in size, every stride-th element of the larger meets one of the
 * smaller. Each pair is a thread's. */
struct overlap {
    int stride, sample, w, h, c;
    overlap_shape s;
};
static overlap overlap_of(const overlap_shape *s)
{
    const int stride = s->w1 / s->w2, sample = s->w2 / s->w1;
    return {stride > 1 ? stride : 1,       sample > 1 ? sample : 1,       s->w1 < s->w2 ? s->w1 : s->w2,
            s->h1 < s->h2 ? s->h1 : s->h2, s->c1 < s->c2 ? s->c1 : s->c2, *s};
}
static size_t pairs_of(const overlap &o) { return (size_t)o.s.batch * o.c * o.h * o.w; }
struct pair_places {
    size_t in, out; /* of the source (w1, h1, c1); of the layer's own array (w2, h2, c2) */
};
static __device__ __forceinline__ pair_places pair_at(const overlap &o, size_t n)
{
    const size_t i = n % o.w, j = n / o.w % o.h, k = n / o.w / o.h % o.c, b = n / o.w / o.h / o.c;
    return {i * o.stride + o.s.w1 * (j * o.stride + o.s.h1 * (k + o.s.c1 * b)),
            i * o.sample + o.s.w2 * (j * o.sample + o.s.h2 * (k + o.s.c2 * b))};
}
static __global__ void overlap_kernel(size_t n, overlap o, const real *from, real alpha, real beta, real *out)
{
    GRID_STRIDE(i, n) {
        const pair_places p = pair_at(o, i);
        out[p.out] = alpha * out[p.out] + beta * from[p.in];
    }
}
void shortcut_overlap_gpu(const overlap_shape *s, const real *from, real alpha, real beta, real *out)
{
    const overlap o = overlap_of(s);
    LAUNCH(overlap_kernel, pairs_of(o), pairs_of(o), o, from, alpha, beta, out);
}
static __global__ void overlap_from_kernel(size_t n, overlap o, const real *delta, real beta, real *to)
{
    GRID_STRIDE(i, n) {
        const pair_places p = pair_at(o, i);
        to[p.in] += beta * delta[p.out];
    }
}
void shortcut_overlap_from_gpu(const overlap_shape *s, const real *delta, real beta, real *to)
{
    const overlap o = overlap_of(s);
    LAUNCH(overlap_from_kernel, pairs_of(o), pairs_of(o), o, delta, beta, to);
}
static __global__ void overlap_input_kernel(size_t n, overlap o, const real *delta, real alpha, real *to)
{
    GRID_STRIDE(i, n) {
        const pair_places p = pair_at(o, i);
        to[p.out] += (alpha - 1) * delta[p.out];
    }
}
void shortcut_overlap_input_gpu(const overlap_shape *s, const real *delta, real alpha, real *to)
{
    const overlap o = overlap_of(s);
    LAUNCH(overlap_input_kernel, pairs_of(o), pairs_of(o), o, delta, alpha, to);
}

/* ---- crop: y (planes, out_h, out_w) = scale * a part of x (planes, h, w) + shift, mirrored if flip */
struct cropping {
    int h, w, out_h, out_w, top, left, flip;
};
static __global__ void crop_kernel(size_t n, const real *x, cropping c, real scale, real shift, real *y)
{
    GRID_STRIDE(o, n) {
        const size_t plane = o / c.out_w / c.out_h;
        const int i = (int)(o % c.out_w), row = (int)(o / c.out_w % c.out_h);
        const real *from = x + (plane * c.h + c.top + row) * c.w + c.left;
        y[o] = scale * from[c.flip ? c.out_w - 1 - i : i] + shift;
    }
}
void crop_forward_gpu(const real *x, int planes, int h, int w, int out_h, int out_w, int top, int left,
                      int flip, real scale, real shift, real *y)
{
    const size_t n = (size_t)planes * out_h * out_w;
    const cropping c = {h, w, out_h, out_w, top, left, flip};
    LAUNCH(crop_kernel, n, n, x, c, scale, shift, y);
}
static __global__ void crop_backward_kernel(size_t n, const real *delta, cropping c, real scale, int add,
                                            real *dx)
{
    GRID_STRIDE(i, n) {
        const int x = (int)(i % c.w) - c.left, y = (int)(i / c.w % c.h) - c.top;
        const bool inside = x >= 0 && x < c.out_w && y >= 0 && y < c.out_h;
        const size_t row = (i / c.w / c.h * c.out_h + y) * c.out_w;
        put(dx + i, add, inside ? scale * delta[row + (c.flip ? c.out_w - 1 - x : x)] : 0);
    }
}
void crop_backward_gpu(const real *delta, int planes, int h, int w, int out_h, int out_w, int top, int left,
                       int flip, real scale, int add, real *dx)
{
    const size_t n = (size_t)planes * h * w;
    const cropping c = {h, w, out_h, out_w, top, left, flip};
    LAUNCH(crop_backward_kernel, n, n, delta, c, scale, add, dx);
}
