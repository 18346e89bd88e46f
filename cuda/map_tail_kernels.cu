/* What AlexeyAB's layers may do to a finished map; the twins of csrc/map_tail_kernels.c. */
#include "windows.cuh"

/* y[b, g, i] = the largest x[b, k, i] over the channels k with k % groups = g; indexes (or NULL) = where it
 * stood. */
static __global__ void maxpool_depth_kernel(size_t n, const real *x, int channels, int spatial, int groups,
                                            real *y, int *indexes)
{
    GRID_STRIDE(o, n) {
        const size_t r = o / spatial, image = r / groups * channels * spatial;
        const int g = (int)(r % groups);
        size_t best = image + (size_t)g * spatial + o % spatial;
        for (size_t k = g + groups, at = best; k < (size_t)channels; k += groups) {
            at += (size_t)groups * spatial;
            if (x[at] > x[best] || x[at] != x[at]) best = at;
        }
        y[o] = x[best];
        if (indexes) indexes[o] = (int)best;
    }
}
void maxpool_depth_gpu(const real *x, int batch, int channels, int spatial, int groups, real *y, int *indexes)
{
    const size_t n = (size_t)batch * groups * spatial;
    LAUNCH(maxpool_depth_kernel, n, n, x, channels, spatial, groups, y, indexes);
}

/* dx at the place of each maximum gets its delta. */
static __global__ void maxpool_depth_backward_kernel(size_t n, const real *delta, const int *indexes,
                                                     int channels, int spatial, int groups, int add, real *dx)
{
    GRID_STRIDE(i, n) {
        const size_t r = i / spatial, group = r / channels * groups + r % channels % groups,
                     o = group * spatial + i % spatial;
        const real sum = add ? dx[i] : 0;
        dx[i] = indexes[o] == (int)i ? sum + delta[o] : sum;
    }
}
void maxpool_depth_backward_gpu(const real *delta, const int *indexes, int batch, int channels, int spatial,
                                int groups, int add, real *dx)
{
    const size_t n = (size_t)batch * channels * spatial;
    LAUNCH(maxpool_depth_backward_kernel, n, n, delta, indexes, channels, spatial, groups, add, dx);
}

/* ---- blur: the product of [1 2 1] / 4 (size 3) or [1 1] / 2 (size 2) with itself, zero outside the map */
static __device__ __forceinline__ real blur_tap(int size, int k)
{
    return size == 2 ? (real).5 : k == 1 ? (real).5 : (real).25;
}
static __global__ void blur_kernel(size_t n, const real *x, pool_shape s, real *y)
{
    GRID_STRIDE(o, n) {
        const window v = window_of(s, o);
        const int top = (int)(o / s.out_w % s.out_h) * s.stride_y - s.offset;
        const int left = (int)(o % s.out_w) * s.stride_x - s.offset;
        real sum = 0;
        for (int i = v.y0; i < v.y1; ++i) {
            for (int j = v.x0; j < v.x1; ++j) {
                sum +=
                    blur_tap(s.size, i - top) * blur_tap(s.size, j - left) * x[v.plane + (size_t)i * s.w + j];
            }
        }
        y[o] = sum;
    }
}
void blur_forward_gpu(const real *x, const pool_shape *s, real *y)
{
    LAUNCH(blur_kernel, outputs_of(s), outputs_of(s), x, *s, y);
}
static __global__ void blur_backward_kernel(size_t n, const real *delta, pool_shape s, int add, real *dx)
{
    GRID_STRIDE(at, n) {
        const windows v = windows_of(s, at);
        const int y = (int)(at / s.w % s.h) + s.offset, x = (int)(at % s.w) + s.offset;
        real sum = add ? dx[at] : 0;
        for (int i = v.y0; i < v.y1; ++i) {
            for (int j = v.x0; j < v.x1; ++j) {
                sum += blur_tap(s.size, y - i * s.stride_y) * blur_tap(s.size, x - j * s.stride_x) *
                       delta[v.plane + (size_t)i * s.out_w + j];
            }
        }
        dx[at] = sum;
    }
}
void blur_backward_gpu(const real *delta, const pool_shape *s, int add, real *dx)
{
    LAUNCH(blur_backward_kernel, inputs_of(s), inputs_of(s), delta, *s, add, dx);
}

/* The first three channels become u = 2 x / w - 1, v = 2 y / h - 1 and their distance from the
 * middle; or 0. */
static __global__ void coordinates_kernel(size_t n, int count, int channels, int h, int w, int zero, real *y)
{
    GRID_STRIDE(i, n) {
        const size_t b = i / w / h / count;
        const int column = (int)(i % w), line = (int)(i / w % h), c = (int)(i / w / h % count);
        const real u = 2 * (real)column / (real)w - 1, v = 2 * (real)line / (real)h - 1;
        y[((b * channels + c) * h + line) * w + column] = zero     ? 0
                                                          : c == 0 ? u
                                                          : c == 1 ? v
                                                                   : sqrt(u * u + v * v);
    }
}
void coordinates_gpu(int batch, int channels, int h, int w, int zero, real *y)
{
    const int count = channels < 3 ? channels : 3;
    const size_t n = (size_t)batch * count * h * w;
    LAUNCH(coordinates_kernel, n, n, count, channels, h, w, zero, y);
}

/* In place: x[b, c, i] += weights[b, i] * the mean over c of x[b, c, i]; a thread has a pixel. */
static __global__ void excite_kernel(size_t pixels, real *x, int channels, int spatial, const real *weights)
{
    GRID_STRIDE(p, pixels) {
        real *pixel = x + p / spatial * channels * spatial + p % spatial;
        double sum = 0;
        if (weights[p] == 0) continue;
        for (int c = 0; c < channels; ++c) sum += pixel[(size_t)c * spatial];
        const real more = (real)(sum * ((double)weights[p] / channels));
        for (int c = 0; c < channels; ++c) pixel[(size_t)c * spatial] += more;
    }
}
void excite_gpu(real *x, int batch, int channels, int spatial, const real *weights)
{
    const size_t pixels = (size_t)batch * spatial;
    LAUNCH(excite_kernel, pixels, pixels, x, channels, spatial, weights);
}

/* plane = value at the cells that a box touches, else 0; a thread has a cell. */
static __global__ void mark_boxes_kernel(size_t cells, const real *truth, int truths, int size, int h, int w,
                                         real value, real *plane)
{
    GRID_STRIDE(p, cells) {
        const int j = (int)(p % w), i = (int)(p / w % h);
        const real *row = truth + p / w / h * truths;
        bool touched = false;
        for (int n = 0; n < truths / size && row[0] != 0 && !touched; ++n, row += size) {
            touched = j >= box_begins(row[0], row[2], w) && j < box_ends(row[0], row[2], w) &&
                      i >= box_begins(row[1], row[3], h) && i < box_ends(row[1], row[3], h);
        }
        plane[p] = touched ? value : 0;
    }
}
void mark_boxes_gpu(const real *truth, int batch, int truths, int size, int h, int w, real value, real *plane)
{
    const size_t cells = (size_t)batch * h * w;
    LAUNCH(mark_boxes_kernel, cells, cells, truth, truths, size, h, w, value, plane);
}
