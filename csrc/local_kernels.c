/* Convolution whose filters differ from place to place: of each of the out_h * out_w locations weights are
 * (n, c * size * size), and the windows there, one row per image, are multiplied by them as a matrix. */
#include "parallel.h"
#include <assert.h>

typedef struct {
    int locations, depth; /* windows in a map; values in a window */
} local_sizes;
static local_sizes sizes_of(const conv_shape *s)
{
    return (local_sizes){s->out_h * s->out_w, s->c * s->size * s->size};
}
/* For each location the windows of all images, and what is multiplied by them: rows of n values. */
size_t local_workspace(const conv_shape *s)
{
    size_t values;
    const local_sizes z = sizes_of(s);
    if (__builtin_mul_overflow((size_t)z.locations, (size_t)s->batch, &values) ||
        __builtin_mul_overflow(values, (size_t)z.depth + (size_t)s->n, &values)) {
        return SIZE_MAX;
    }
    return values;
}

/* columns[location, image, c, ky, kx] = the values of the windows, zero outside the image. */
static void gather(const conv_shape *s, const real *x, real *columns)
{
    const local_sizes z = sizes_of(s);
    PARALLEL_FOR2((size_t)z.locations * s->batch * z.depth)
    for (int l = 0; l < z.locations; ++l) {
        for (int b = 0; b < s->batch; ++b) {
            real *to = columns + ((size_t)l * s->batch + b) * z.depth;
            const int y0 = l / s->out_w * s->stride_y - s->pad, x0 = l % s->out_w * s->stride_x - s->pad;
            for (int row = 0; row < s->c * s->size; ++row) {
                const int y = y0 + row % s->size;
                const real *from = x + (((size_t)b * s->c + row / s->size) * s->h + y) * s->w;
                for (int i = x0; i < x0 + s->size; ++i) {
                    *to++ = y >= 0 && y < s->h && i >= 0 && i < s->w ? from[i] : 0;
                }
            }
        }
    }
}
/* The reverse: dx = or += the columns, each at the pixel it came from. Windows of one channel overlap, those
 * of two do not. */
static void scatter(const conv_shape *s, const real *columns, int add, real *dx)
{
    const local_sizes z = sizes_of(s);
    const int area = s->size * s->size;
    PARALLEL_FOR((size_t)z.locations * s->batch * z.depth)
    for (int p = 0; p < s->batch * s->c; ++p) {
        real *plane = dx + (size_t)p * s->h * s->w;
        for (int i = 0; i < s->h * s->w && !add; ++i) plane[i] = 0;
        for (int l = 0; l < z.locations; ++l) {
            const int y0 = l / s->out_w * s->stride_y - s->pad, x0 = l % s->out_w * s->stride_x - s->pad;
            const real *from =
                columns + ((size_t)l * s->batch + p / s->c) * z.depth + (size_t)(p % s->c) * area;
            for (int k = 0; k < area; ++k) {
                const int y = y0 + k / s->size, i = x0 + k % s->size;
                if (y >= 0 && y < s->h && i >= 0 && i < s->w) plane[(size_t)y * s->w + i] += from[k];
            }
        }
    }
}

/* y[b, filter, location] = weights[location] times the window. */
void local_forward_cpu(const conv_shape *s, const real *x, const real *w, real *y, real *workspace)
{
    const local_sizes z = sizes_of(s);
    real *columns = workspace, *rows = workspace + (size_t)z.locations * s->batch * z.depth;
    gather(s, x, columns);
    for (int l = 0; l < z.locations; ++l) {
        gemm(0, 1, s->batch, s->n, z.depth, 1, columns + (size_t)l * s->batch * z.depth, z.depth,
             w + (size_t)l * s->n * z.depth, z.depth, 0, rows + (size_t)l * s->batch * s->n, s->n);
    }
    transpose_cpu(rows, 1, z.locations, s->batch * s->n, 0, y);
}
/* dw += the derivative at the weights. */
void local_backward_weights_cpu(const conv_shape *s, const real *x, const real *dy, real *dw, real *workspace)
{
    const local_sizes z = sizes_of(s);
    real *columns = workspace, *rows = workspace + (size_t)z.locations * s->batch * z.depth;
    gather(s, x, columns);
    transpose_cpu(dy, 1, s->batch * s->n, z.locations, 0, rows);
    for (int l = 0; l < z.locations; ++l) {
        gemm(1, 0, s->n, z.depth, s->batch, 1, rows + (size_t)l * s->batch * s->n, s->n,
             columns + (size_t)l * s->batch * z.depth, z.depth, 1, dw + (size_t)l * s->n * z.depth, z.depth);
    }
}
/* dx = or += the derivative at the input. */
void local_backward_data_cpu(const conv_shape *s, const real *dy, const real *w, int add, real *dx,
                             real *workspace)
{
    const local_sizes z = sizes_of(s);
    real *columns = workspace, *rows = workspace + (size_t)z.locations * s->batch * z.depth;
    transpose_cpu(dy, 1, s->batch * s->n, z.locations, 0, rows);
    for (int l = 0; l < z.locations; ++l) {
        gemm(0, 0, s->batch, z.depth, s->n, 1, rows + (size_t)l * s->batch * s->n, s->n,
             w + (size_t)l * s->n * z.depth, z.depth, 0, columns + (size_t)l * s->batch * z.depth, z.depth);
    }
    scatter(s, columns, add, dx);
}
