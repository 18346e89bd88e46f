/* Pooling, resampling, cropping and pjreddie's shortcut: kernels that move values between maps. A plane is
 * one channel of one image. */
#include "parallel.h"
#include "rows.h"
#include "scalar.h"
#include "sums.h"
#include <assert.h>
#include <string.h>

static void zero(real *x, size_t n) { memset(x, 0, n * sizeof(real)); }

/* ---- max pooling */

/* NaN is larger than everything, so that it is not lost on the way. */
static inline int exceeds(real a, real b) { return a > b || a != a; }
static inline real maximum(real a, real b) { return exceeds(a, b) ? a : b; }

/* The common window of 2x2 with stride 2 and no offset, for `pairs` neighbours of two rows of w values: y =
 * the largest, indexes (or NULL) = where it stood. The length is a constant where it matters: no branches
 * remain. */
static inline __attribute__((always_inline)) void maxpool_pairs(const real *above, const real *below, int w,
                                                                int pairs, int first, real *restrict y,
                                                                int *restrict indexes)
{
    for (int i = 0; i < pairs; ++i) {
        real best = above[2 * i];
        int at = 0;
        at = exceeds(above[2 * i + 1], best) ? 1 : at;
        best = maximum(above[2 * i + 1], best);
        at = exceeds(below[2 * i], best) ? w : at;
        best = maximum(below[2 * i], best);
        at = exceeds(below[2 * i + 1], best) ? w + 1 : at;
        best = maximum(below[2 * i + 1], best);
        y[i] = best;
        if (indexes) indexes[i] = first + 2 * i + at;
    }
}
/* Vectors of eight or four pairs, the last overlapping the one before it; fewer pairs go through a copy. */
static inline __attribute__((always_inline)) void maxpool_vectors(const real *above, int w, int pairs,
                                                                  int first, real *y, int *indexes)
{
    const real *below = above + w;
    for (int i = 0; pairs >= 8 && i < pairs; i += 8) {
        const int j = min_int(i, pairs - 8);
        maxpool_pairs(above + 2 * j, below + 2 * j, w, 8, first + 2 * j, y + j, indexes ? indexes + j : NULL);
    }
    for (int i = 0; pairs < 8 && pairs >= 4 && i < pairs; i += 4) {
        const int j = min_int(i, pairs - 4);
        maxpool_pairs(above + 2 * j, below + 2 * j, w, 4, first + 2 * j, y + j, indexes ? indexes + j : NULL);
    }
    if (pairs < 4) {
        real upper[8] = {0}, lower[8] = {0}, best[4];
        int at[4];
        for (int i = 0; i < 2 * pairs; ++i) upper[i] = above[i], lower[i] = below[i];
        maxpool_pairs(upper, lower, w, 4, first, best, at);
        for (int i = 0; i < pairs; ++i) y[i] = best[i];
        for (int i = 0; indexes && i < pairs; ++i) indexes[i] = at[i];
    }
}
MULTIVERSION static void maxpool_row_2x2(const real *above, int w, int pairs, int first, real *y,
                                         int *indexes)
{
    if (indexes)
        maxpool_vectors(above, w, pairs, first, y, indexes);
    else maxpool_vectors(above, w, pairs, first, y, NULL);
}
/* One window; the first of equal values wins. */
static void maxpool_window(const real *plane, const pool_shape *s, int oy, int ox, real *best, int *at)
{
    const int y0 = oy * s->stride_y - s->offset, x0 = ox * s->stride_x - s->offset;
    const int y1 = min_int(y0 + s->size, s->h), x1 = min_int(x0 + s->size, s->w);
    *at = max_int(y0, 0) * s->w + max_int(x0, 0);
    *best = plane[*at];
    for (int y = max_int(y0, 0); y < y1; ++y) {
        for (int x = max_int(x0, 0); x < x1; ++x) {
            const real v = plane[(size_t)y * s->w + x];
            if (exceeds(v, *best)) *best = v, *at = y * s->w + x;
        }
    }
}
/* A row of windows that move by one, tap by tap: neighbours meet neighbours. */
MULTIVERSION static void maxpool_row_by_one(const real *plane, const pool_shape *s, int first, int oy,
                                            real *restrict y, int *restrict indexes)
{
    const int y0 = oy * s->stride_y - s->offset, top = max_int(y0, 0), bottom = min_int(y0 + s->size, s->h);
    for (int ox = 0; ox < s->out_w; ++ox) {
        const int at = top * s->w + max_int(ox - s->offset, 0);
        y[ox] = plane[at];
        if (indexes) indexes[ox] = first + at;
    }
    for (int tap = 0; tap < (bottom - top) * s->size; ++tap) {
        const int shift = tap % s->size - s->offset, start = (top + tap / s->size) * s->w + shift;
        const int end = min_int(s->out_w, s->w - shift);
        for (int ox = max_int(-shift, 0); ox < end && indexes; ++ox) {
            indexes[ox] = exceeds(plane[start + ox], y[ox]) ? first + start + ox : indexes[ox];
        }
        for (int ox = max_int(-shift, 0); ox < end; ++ox) y[ox] = maximum(plane[start + ox], y[ox]);
    }
}
static void maxpool_row(const real *plane, const pool_shape *s, int first, int oy, real *y, int *indexes)
{
    int ox = 0;
    if (s->stride_x == 1 && 2 * s->size <= s->w) { /* with fewer neighbours it is no faster */
        maxpool_row_by_one(plane, s, first, oy, y, indexes);
        return;
    }
    if (s->size == 2 && s->stride_x == 2 && s->stride_y == 2 && s->offset == 0 && 2 * oy + 1 < s->h) {
        const real *above = plane + (size_t)2 * oy * s->w;
        ox = min_int(s->w / 2, s->out_w);
        maxpool_row_2x2(above, s->w, ox, first + 2 * oy * s->w, y, indexes);
    }
    for (; ox < s->out_w; ++ox) {
        int at;
        maxpool_window(plane, s, oy, ox, y + ox, &at);
        if (indexes) indexes[ox] = first + at;
    }
}
void maxpool_plane(const real *plane, const pool_shape *s, int first, real *y, int *indexes)
{
    for (int oy = 0; oy < s->out_h; ++oy) {
        const size_t row = (size_t)oy * s->out_w;
        maxpool_row(plane, s, first, oy, y + row, indexes ? indexes + row : NULL);
    }
}
/* y = the largest of each window; indexes (or NULL) = where in x it stood. */
void maxpool_forward_cpu(const real *x, const pool_shape *s, real *y, int *indexes)
{
    const int area = s->h * s->w, out = s->out_h * s->out_w;
    PARALLEL_FOR((size_t)s->batch *s->c *out)
    for (int p = 0; p < s->batch * s->c; ++p) {
        const size_t at = (size_t)p * out;
        maxpool_plane(x + (size_t)p * area, s, p * area, y + at, indexes ? indexes + at : NULL);
    }
}
/* dx at the place of each maximum gets its delta; windows may share one. */
void maxpool_backward_cpu(const real *delta, const int *indexes, const pool_shape *s, int add, real *dx)
{
    const int area = s->h * s->w, out = s->out_h * s->out_w;
    PARALLEL_FOR((size_t)s->batch *s->c *area)
    for (int p = 0; p < s->batch * s->c; ++p) {
        if (!add) zero(dx + (size_t)p * area, area);
        for (int i = p * out; i < (p + 1) * out; ++i) dx[indexes[i]] += delta[i];
    }
}

/* ---- mean pooling */

typedef struct {
    int y0, y1, x0, x1;
} window;
static window window_of(const pool_shape *s, int oy, int ox)
{
    const int y = oy * s->stride_y - s->offset, x = ox * s->stride_x - s->offset;
    return (window){max_int(y, 0), min_int(y + s->size, s->h), max_int(x, 0), min_int(x + s->size, s->w)};
}
/* y = the mean of each window's values inside the image. */
void local_avgpool_forward_cpu(const real *x, const pool_shape *s, real *y)
{
    PARALLEL_FOR((size_t)s->batch *s->c *s->out_h *s->out_w)
    for (int p = 0; p < s->batch * s->c; ++p) {
        const real *plane = x + (size_t)p * s->h * s->w;
        for (int o = 0; o < s->out_h * s->out_w; ++o) {
            const window v = window_of(s, o / s->out_w, o % s->out_w);
            real sum = 0;
            for (int i = v.y0; i < v.y1; ++i) {
                for (int j = v.x0; j < v.x1; ++j) sum += plane[(size_t)i * s->w + j];
            }
            y[(size_t)p * s->out_h * s->out_w + o] = sum / (real)((v.y1 - v.y0) * (v.x1 - v.x0));
        }
    }
}
void local_avgpool_backward_cpu(const real *delta, const pool_shape *s, int add, real *dx)
{
    PARALLEL_FOR((size_t)s->batch *s->c *s->h *s->w)
    for (int p = 0; p < s->batch * s->c; ++p) {
        real *plane = dx + (size_t)p * s->h * s->w;
        if (!add) zero(plane, (size_t)s->h * s->w);
        for (int o = 0; o < s->out_h * s->out_w; ++o) {
            const window v = window_of(s, o / s->out_w, o % s->out_w);
            const real share =
                delta[(size_t)p * s->out_h * s->out_w + o] / (real)((v.y1 - v.y0) * (v.x1 - v.x0));
            for (int i = v.y0; i < v.y1; ++i) {
                for (int j = v.x0; j < v.x1; ++j) plane[(size_t)i * s->w + j] += share;
            }
        }
    }
}
/* y[r] = mean of x[r, i] over spatial. */
void avgpool_forward_cpu(const real *x, int rows, int spatial, real *y)
{
    PARALLEL_FOR((size_t)rows *spatial)
    for (int r = 0; r < rows; ++r) {
        y[r] = (real)(sum_row(x + (size_t)r * spatial, spatial) / spatial);
    }
}
MULTIVERSION void avgpool_backward_cpu(const real *delta, int rows, int spatial, int add, real *dx)
{
    PARALLEL_FOR((size_t)rows *spatial)
    for (int r = 0; r < rows; ++r) {
        real *row = dx + (size_t)r * spatial;
        const real share = delta[r] / (real)spatial;
        for (int i = 0; i < spatial; ++i) row[i] = (add ? row[i] : 0) + share;
    }
}

/* ---- upsampling: y (planes, h * stride, w * stride) = or += scale * x (planes, h, w), nearest */

/* One row of x, and the rows of y (stride, w * stride) that belong to it; with a stride that the compiler
 * knows, vector code. */
static inline void widen(const real *restrict x, int w, int stride, real scale, int add, real *restrict row)
{
    for (int i = 0; i < w; ++i) {
        for (int k = 0; k < stride; ++k) {
            const size_t at = (size_t)i * stride + k;
            row[at] = (add ? row[at] : 0) + scale * x[i];
        }
    }
}
static inline void narrow(const real *restrict rows, int w, int stride, real scale, int add, real *restrict x)
{
    for (int i = 0; i < w; ++i) {
        real sum = 0;
        for (int j = 0; j < stride; ++j) {
            for (int k = 0; k < stride; ++k) sum += rows[((size_t)j * w + i) * stride + k];
        }
        x[i] = (add ? x[i] : 0) + scale * sum;
    }
}
MULTIVERSION static void widen_row(const real *x, int w, int stride, real scale, int add, real *rows)
{
    for (int j = 0; j < stride; ++j, rows += (size_t)w * stride) {
        if (stride == 2 && !add) widen(x, w, 2, scale, 0, rows);
        else if (stride == 2) widen(x, w, 2, scale, 1, rows);
        else widen(x, w, stride, scale, add, rows);
    }
}
MULTIVERSION static void narrow_rows(const real *rows, int w, int stride, real scale, int add, real *x)
{
    if (stride == 2) narrow(rows, w, 2, scale, add, x);
    else narrow(rows, w, stride, scale, add, x);
}

void upsample_forward_cpu(const real *x, int planes, int h, int w, int stride, real scale, int add, real *y)
{
    const size_t area = (size_t)w * stride * stride; /* of the rows of y for a row of x */
    PARALLEL_FOR((size_t)planes *h *area)
    for (int r = 0; r < planes * h; ++r) widen_row(x + (size_t)r * w, w, stride, scale, add, y + r * area);
}
/* dx (planes, h, w) = or += scale * the sum of each square of delta (planes, h * stride, w * stride). */
void upsample_backward_cpu(const real *delta, int planes, int h, int w, int stride, real scale, int add,
                           real *dx)
{
    const size_t area = (size_t)w * stride * stride;
    PARALLEL_FOR((size_t)planes *h *area)
    for (int r = 0; r < planes * h; ++r)
        narrow_rows(delta + r * area, w, stride, scale, add, dx + (size_t)r * w);
}

/* ---- pjreddie's shortcut (shortcut_cpu): where maps differ in size, every stride-th element of the larger
 * meets one of the smaller */
typedef struct {
    int stride, sample, w, h, c;
} overlap;
static overlap overlap_of(const overlap_shape *s)
{
    return (overlap){max_int(s->w1 / s->w2, 1), max_int(s->w2 / s->w1, 1), min_int(s->w1, s->w2),
                     min_int(s->h1, s->h2), min_int(s->c1, s->c2)};
}
/* Runs body for every pair: `in` indexes the source (w1, h1, c1), `out` the layer's array (w2, h2, c2). */
#define EACH_PAIR(s, body) \
    const overlap o = overlap_of(s); \
    PARALLEL_FOR((size_t)(s)->batch *o.c *o.h *o.w) \
    for (int p = 0; p < (s)->batch * o.c; ++p) { \
        const int b = p / o.c, k = p % o.c; \
        for (int j = 0; j < o.h; ++j) { \
            for (int i = 0; i < o.w; ++i) { \
                const size_t in_plane = (size_t)b * (s)->c1 + k, out_plane = (size_t)b * (s)->c2 + k; \
                const size_t in_row = in_plane * (s)->h1 + (size_t)j * o.stride, \
                             out_row = out_plane * (s)->h2 + (size_t)j * o.sample; \
                const size_t in = in_row * (s)->w1 + (size_t)i * o.stride, \
                             out = out_row * (s)->w2 + (size_t)i * o.sample; \
                body; \
            } \
        } \
    }
/* out = alpha out + beta from, on the overlap. */
void shortcut_overlap_cpu(const overlap_shape *s, const real *from, real alpha, real beta, real *out_values)
{
    EACH_PAIR(s, out_values[out] = alpha * out_values[out] + beta * from[in])
}
/* Its derivative at the source: to += beta delta on the overlap. */
void shortcut_overlap_from_cpu(const overlap_shape *s, const real *delta, real beta, real *to)
{
    EACH_PAIR(s, to[in] += beta * delta[out])
}
/* What alpha adds to the derivative at the layer's input: to += (alpha - 1) delta on the overlap. */
void shortcut_overlap_input_cpu(const overlap_shape *s, const real *delta, real alpha, real *to)
{
    EACH_PAIR(s, (void)in; to[out] += (alpha - 1) * delta[out])
}

/* ---- crop: y (planes, out_h, out_w) = scale * a part of x (planes, h, w) + shift, mirrored if flip */
void crop_forward_cpu(const real *x, int planes, int h, int w, int out_h, int out_w, int top, int left,
                      int flip, real scale, real shift, real *y)
{
    assert(top >= 0 && left >= 0 && top + out_h <= h && left + out_w <= w);
    PARALLEL_FOR((size_t)planes *out_h *out_w)
    for (int r = 0; r < planes * out_h; ++r) {
        const real *from = x + ((size_t)(r / out_h) * h + top + r % out_h) * w + left;
        for (int i = 0; i < out_w; ++i) {
            y[(size_t)r * out_w + i] = scale * from[flip ? out_w - 1 - i : i] + shift;
        }
    }
}
void crop_backward_cpu(const real *delta, int planes, int h, int w, int out_h, int out_w, int top, int left,
                       int flip, real scale, int add, real *dx)
{
    PARALLEL_FOR((size_t)planes *h *w)
    for (int p = 0; p < planes; ++p) {
        if (!add) zero(dx + (size_t)p * h * w, (size_t)h * w);
        for (int j = 0; j < out_h; ++j) {
            real *to = dx + ((size_t)p * h + top + j) * w + left;
            const real *from = delta + ((size_t)p * out_h + j) * out_w;
            for (int i = 0; i < out_w; ++i) to[flip ? out_w - 1 - i : i] += scale * from[i];
        }
    }
}
