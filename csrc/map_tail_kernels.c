/* What AlexeyAB's layers may do to a finished map: largest values across channels, blur, coordinates,
 * excitation. */
#include "parallel.h"
#include "scalar.h"
#include <assert.h>
#include <math.h>
#include <string.h>

/* y[b, g, i] = the largest x[b, k, i] over the channels k with k % groups = g; indexes (or NULL) = where in x
 * it stood. The first of equal values wins, and NaN is larger than everything. */
void maxpool_depth_cpu(const real *x, int batch, int channels, int spatial, int groups, real *y, int *indexes)
{
    assert(groups > 0 && groups <= channels);
    PARALLEL_FOR((size_t)batch * channels * spatial)
    for (int r = 0; r < batch * groups; ++r) {
        const size_t image = (size_t)(r / groups) * channels * spatial, row = (size_t)r * spatial;
        for (int i = 0; i < spatial; ++i) {
            size_t best = image + (size_t)(r % groups) * spatial + i;
            for (int k = r % groups + groups; k < channels; k += groups) {
                const size_t at = image + (size_t)k * spatial + i;
                if (x[at] > x[best] || x[at] != x[at]) best = at;
            }
            y[row + i] = x[best];
            if (indexes) indexes[row + i] = (int)best;
        }
    }
}

/* dx at the place of each maximum gets its delta. */
void maxpool_depth_backward_cpu(const real *delta, const int *indexes, int batch, int channels, int spatial,
                                int groups, int add, real *dx)
{
    PARALLEL_FOR((size_t)batch * channels * spatial)
    for (int r = 0; r < batch * channels; ++r) {
        const size_t image = (size_t)(r / channels) * groups, first = (size_t)r * spatial,
                     row = (image + r % channels % groups) * spatial;
        for (int i = 0; i < spatial; ++i) {
            const real sum = add ? dx[first + i] : 0;
            dx[first + i] = indexes[row + i] == (int)(first + i) ? sum + delta[row + i] : sum;
        }
    }
}

/* ---- blur before subsampling (R. Zhang, "Making convolutional networks shift-invariant again", 2019): the
 * window is the product of [1 2 1] / 4 (size 3) or [1 1] / 2 (size 2) with itself, zero outside the map */
static real blur_tap(int size, int k) { return size == 2 ? (real).5 : k == 1 ? (real).5 : (real).25; }

void blur_forward_cpu(const real *x, const pool_shape *s, real *y)
{
    assert(s->size == 2 || s->size == 3);
    PARALLEL_FOR((size_t)s->batch * s->c * s->h * s->w)
    for (int p = 0; p < s->batch * s->c; ++p) {
        const real *plane = x + (size_t)p * s->h * s->w;
        for (int o = 0; o < s->out_h * s->out_w; ++o) {
            const int y0 = o / s->out_w * s->stride_y - s->offset,
                      x0 = o % s->out_w * s->stride_x - s->offset;
            real sum = 0;
            for (int k = 0; k < s->size * s->size; ++k) {
                const int i = y0 + k / s->size, j = x0 + k % s->size;
                if (i < 0 || i >= s->h || j < 0 || j >= s->w) continue;
                sum += blur_tap(s->size, k / s->size) * blur_tap(s->size, k % s->size) *
                       plane[(size_t)i * s->w + j];
            }
            y[(size_t)p * s->out_h * s->out_w + o] = sum;
        }
    }
}
void blur_backward_cpu(const real *delta, const pool_shape *s, int add, real *dx)
{
    PARALLEL_FOR((size_t)s->batch * s->c * s->h * s->w)
    for (int p = 0; p < s->batch * s->c; ++p) {
        real *plane = dx + (size_t)p * s->h * s->w;
        if (!add) memset(plane, 0, (size_t)s->h * s->w * sizeof *plane);
        for (int o = 0; o < s->out_h * s->out_w; ++o) {
            const int y0 = o / s->out_w * s->stride_y - s->offset,
                      x0 = o % s->out_w * s->stride_x - s->offset;
            const real d = delta[(size_t)p * s->out_h * s->out_w + o];
            for (int k = 0; k < s->size * s->size; ++k) {
                const int i = y0 + k / s->size, j = x0 + k % s->size;
                if (i < 0 || i >= s->h || j < 0 || j >= s->w) continue;
                plane[(size_t)i * s->w + j] +=
                    blur_tap(s->size, k / s->size) * blur_tap(s->size, k % s->size) * d;
            }
        }
    }
}

/* The first three channels of y (batch, channels, h, w) become coordinates: u = 2 x / w - 1, v = 2 y / h - 1
 * and their distance from the middle; with zero they become 0, which is the derivative. */
void coordinates_cpu(int batch, int channels, int h, int w, int zero, real *y)
{
    const int n = channels < 3 ? channels : 3;
    for (int r = 0; r < batch * n * h; ++r) {
        const int c = r / h % n, line = r % h;
        real *row = y + (((size_t)(r / h / n) * channels + c) * h + line) * w;
        for (int i = 0; i < w; ++i) {
            const real u = 2 * (real)i / (real)w - 1, v = 2 * (real)line / (real)h - 1;
            row[i] = zero ? 0 : c == 0 ? u : c == 1 ? v : (real)sqrt((double)(u * u + v * v));
        }
    }
}

/* In place: x[b, c, i] += weights[b, i] * the mean over c of x[b, c, i]. The same on deltas is its
 * derivative: the matrix I + weight / channels * (ones) is symmetric. */
void excite_cpu(real *x, int batch, int channels, int spatial, const real *weights)
{
    enum { BLOCK = 64 };
    const int blocks = (spatial + BLOCK - 1) / BLOCK;
    PARALLEL_FOR((size_t)batch * channels * spatial)
    for (int r = 0; r < batch * blocks; ++r) {
        const int first = r % blocks * BLOCK, n = spatial - first < BLOCK ? spatial - first : BLOCK;
        const real *weight = weights + (size_t)(r / blocks) * spatial + first;
        real *image = x + (size_t)(r / blocks) * channels * spatial + first;
        double more[BLOCK] = {0};
        for (int c = 0; c < channels; ++c) {
            for (int i = 0; i < n; ++i) more[i] += image[(size_t)c * spatial + i];
        }
        for (int i = 0; i < n; ++i) more[i] *= (double)weight[i] / channels;
        for (int c = 0; c < channels; ++c) {
            for (int i = 0; i < n; ++i) image[(size_t)c * spatial + i] += (real)more[i];
        }
    }
}

/* plane (batch, h, w) = value at the cells that a box touches, else 0. truth: per image `truths` values in
 * rows of `size`, which begin with x, y, w and h in shares of the image; x = 0 ends them. */
void mark_boxes_cpu(const real *truth, int batch, int truths, int size, int h, int w, real value, real *plane)
{
    assert(truth && size >= 4 && plane);
    PARALLEL_FOR((size_t)batch * h * w)
    for (int b = 0; b < batch; ++b) {
        const real *row = truth + (size_t)b * truths;
        real *to = plane + (size_t)b * h * w;
        memset(to, 0, (size_t)h * w * sizeof *to);
        for (int n = 0; n < truths / size && row[0] != 0; ++n, row += size) {
            const int left = box_begins(row[0], row[2], w), right = box_ends(row[0], row[2], w);
            for (int i = box_begins(row[1], row[3], h); i < box_ends(row[1], row[3], h); ++i) {
                for (int j = left; j < right; ++j) to[i * w + j] = value;
            }
        }
    }
}
