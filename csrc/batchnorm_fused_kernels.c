/* Batch normalization as a layer runs it: the formulas of batchnorm_kernels.c in as few passes over memory as
 * they allow. Channels are taken a few at a time, so the second pass finds in the cache what the first one
 * read, and goes backwards, from what was read last. */
#include "channel_groups.h"
#include "rows.h"
#include "scalar.h"
#include <assert.h>
#include <string.h>

#define ROW(b, f) (((size_t)(b)*filters + (f)) * spatial)

/* Small maps: a task owns channels, whole. */
#define EACH_WHOLE \
    PARALLEL_FOR((size_t)batch *filters *spatial) \
    for (int64_t f0 = 0; f0 < filters; f0 += channels_of_task(spatial))
#define CHANNELS_HERE \
    (filters - f0 < channels_of_task(spatial) ? (int)(filters - f0) : channels_of_task(spatial))

/* The rows of a task in one image, stretch by stretch: i counts values within a row, n values of each row are
 * in the stretch. */
#define EACH_STRETCH \
    for (int i = 0, n; n = spatial - i < STRETCH ? spatial - i : STRETCH, i < spatial; i += n)

/* The next image's stretch is asked for while this one is worked on, where it is too short for the processor
 * to see by itself where the reading goes. */
enum { SHORT_STRETCH = 2048, LINE = 64 / sizeof(real) };
static inline void fetch(const real *x, int n)
{
    for (int i = 0; i < n && n <= SHORT_STRETCH; i += LINE) __builtin_prefetch(x + i, 0, 2);
}

/* Results beyond this many bytes leave the caches before anybody reads them: they are written past them. */
enum { STREAMED_BYTES = 16 << 20, STREAMED_ROW = 512 };
static int streams(int batch, int filters, int spatial)
{
    return spatial >= STREAMED_ROW && (double)batch * filters * spatial * sizeof(real) > STREAMED_BYTES;
}

/* ---- statistics */

/* The statistics of one channel from the sums of x - shift and of its square. With a shift near the mean no
 * digits are lost where |mean| >> deviation; nor in what follows, since the part of the mean that its float
 * does not hold is kept as well. */
static void finish_statistics(double sum, double square, double m, real shift, const batchnorm_arrays *p,
                              int f)
{
    const double mean = shift + sum / m, variance = (square - sum * sum / m) / m;
    p->mean[f] = (real)mean;
    p->variance[f] = (real)(variance > 0 ? variance : 0);
    if (p->mean_rest) p->mean_rest[f] = (real)(mean - p->mean[f]);
}
/* Adds the images from..to of `count` channels. */
static void sum_channels(const real *x, int from, int to, int filters, int spatial, int f0, int count,
                         const real *shift, row_sums *sums)
{
    for (int b = from; b < to; ++b) {
        EACH_STRETCH {
            const real *stretch = x + ROW(b, f0) + i;
            if (b + 1 < to) fetch(stretch + ROW(1, 0), count * n);
            add_moments(stretch, count, n, shift, sums);
        }
    }
}
/* The shift: the mean of the channel's first stretch. That stretch is part of the variance, which so cannot
 * be smaller than its distance from the mean squared times its share of the channel. It is rounded to about a
 * sixteenth of the deviation: with so few bits most differences x - shift are exact, else all x of one
 * magnitude would be rounded alike. */
static real rounded_shift(double mean, double variance)
{
    int exponent;
    if (!(variance > 0) || isinf(variance)) return (real)mean;
    frexp(sqrt(variance), &exponent);
    return (real)ldexp(nearbyint(ldexp(mean, 4 - exponent)), exponent - 4);
}
static void first_shifts(const real *x, int spatial, int count, real *shift)
{
    const int n = spatial < STRETCH ? spatial : STRETCH;
    row_sums sums[MOST_CHANNELS];
    memset(sums, 0, sizeof(row_sums) * (size_t)count);
    for (int j = 0; j < count; ++j) shift[j] = x[(size_t)j * spatial];
    add_moments(x, count, n, shift, sums);
    for (int j = 0; j < count; ++j) {
        const double mean = total_of(sums[j].first) / n;
        shift[j] = rounded_shift(shift[j] + mean, total_of(sums[j].second) / n - mean * mean);
    }
}
static void task_statistics(const real *x, int batch, int filters, int spatial, int f0, int count,
                            const batchnorm_arrays *p)
{
    row_sums sums[MOST_CHANNELS];
    real shift[MOST_CHANNELS] = {0};
    memset(sums, 0, sizeof(row_sums) * (size_t)count);
    first_shifts(x + ROW(0, f0), spatial, count, shift);
    sum_channels(x, 0, batch, filters, spatial, f0, count, shift, sums);
    for (int j = 0; j < count; ++j) {
        finish_statistics(total_of(sums[j].first), total_of(sums[j].second), (double)batch * spatial,
                          shift[j], p, f0 + j);
    }
}
static void group_statistics(const real *x, const channel_group *g, channel_sums *sums, real *shift,
                             const batchnorm_arrays *p)
{
    const int filters = g->filters, spatial = g->spatial;
    EACH_CHANNEL(g) first_shifts(x + ROW(0, g->f0 + j), spatial, 1, shift + j);
    EACH_PART_TASK(g) {
        const part_task t = task_of(g, i);
        row_sums of_task[MOST_CHANNELS];
        memset(of_task, 0, sizeof(row_sums) * (size_t)t.count);
        sum_channels(x, t.from, t.to, filters, spatial, g->f0 + t.first, t.count, shift + t.first, of_task);
        keep_sums(of_task, &t, sums);
    }
    EACH_CHANNEL(g) {
        const channel_sums s = add_parts(sums, g->parts, j);
        finish_statistics(s.first, s.second, (double)g->batch * spatial, shift[j], p, g->f0 + j);
    }
}
static void parted_statistics(const real *x, int batch, int filters, int spatial, const batchnorm_arrays *p)
{
    channel_sums sums[PARTS * MOST_GROUP];
    real shift[MOST_GROUP];
    EACH_GROUP(g) group_statistics(x, &g, sums, shift, p);
}

/* ---- forward */

/* Normalization of `count` channels from f0 as (x - p->mean) * scale + bias. */
static real mean_rest_of(const batchnorm_arrays *p, int f) { return p->mean_rest ? p->mean_rest[f] : 0; }
static void affine_of(const batchnorm_arrays *p, int f0, int count, real *scale, real *bias)
{
    for (int j = 0; j < count; ++j) {
        scale[j] = p->scales[f0 + j] * bn_inverse_std(p->variance[f0 + j]);
        bias[j] = p->biases[f0 + j] - mean_rest_of(p, f0 + j) * scale[j];
    }
}

/* Max-pooling on the way, whose windows lie side by side: a strip is as many rows of windows as fit in a
 * stretch, and a pooling of its own. The activated map never leaves the first-level cache. */
int batchnorm_takes_pool(const pool_shape *s)
{
    return s->size > 1 && s->size == s->stride_x && s->size == s->stride_y && s->offset == 0 &&
           (int64_t)s->size * s->w <= STRETCH && (int64_t)s->h * s->w > 1;
}
static pool_shape strip_of(const pool_shape *s, int oy)
{
    pool_shape strip = *s;
    strip.out_h = least(s->out_h - oy, STRETCH / (s->size * s->w));
    strip.h = least(s->h - oy * s->size, strip.out_h * s->size);
    return strip;
}
static void activate_strip(const real *x, int n, const batchnorm_arrays *p, int f, ACTIVATION a, real *z)
{
    real scale, bias;
    affine_of(p, f, 1, &scale, &bias);
    normalize_rows(x, 1, n, p->mean + f, &scale, &bias, 0, z);
    activate_row(z, n, a);
}
static void plane_forward(const real *x, const batchnorm_arrays *p, int f, ACTIVATION a, real *y)
{
    real z[STRETCH];
    pool_shape strip;
    for (int oy = 0; oy < p->pool->out_h; oy += strip.out_h) {
        strip = strip_of(p->pool, oy);
        activate_strip(x + (size_t)oy * strip.size * strip.w, strip.h * strip.w, p, f, a, z);
        maxpool_plane(z, &strip, 0, y + (size_t)oy * strip.out_w, NULL);
    }
}

/* y = normalized, activated and pooled, images from..to and their stretches from the last to the first. */
static void task_forward(const real *x, int from, int to, int filters, int spatial, int f0, int count,
                         const batchnorm_arrays *p, ACTIVATION a, int stream, real *y)
{
    real scale[MOST_CHANNELS], bias[MOST_CHANNELS];
    affine_of(p, f0, count, scale, bias);
    for (int b = to - 1; b >= from; --b) {
        for (int f = f0; p->pool && f < f0 + count; ++f) {
            const size_t plane = (size_t)p->pool->out_h * p->pool->out_w;
            plane_forward(x + ROW(b, f), p, f, a, y + ((size_t)b * filters + f) * plane);
        }
        if (p->pool) continue;
        EACH_STRETCH {
            const size_t at = ROW(b, f0) + i;
            normalize_rows(x + at, count, n, p->mean + f0, scale, bias, stream && a == LINEAR, y + at);
            activate_row(y + at, count * n, a);
        }
    }
}

static void parted_forward_train(const real *x, int batch, int filters, int spatial,
                                 const batchnorm_arrays *p, ACTIVATION a, int stream, real *y)
{
    channel_sums sums[PARTS * MOST_GROUP];
    real shift[MOST_GROUP];
    EACH_GROUP(g) {
        group_statistics(x, &g, sums, shift, p);
        EACH_PART_TASK(&g) {
            const part_task t = task_of(&g, i);
            task_forward(x, t.from, t.to, filters, spatial, g.f0 + t.first, t.count, p, a, stream, y);
        }
    }
}

/* ---- backward */

/* What a backward pass works on; dx may be delta, and is so with an activation, whose gradient is kept there
 * between the two reads, or with a pool, whose delta is spread there. */
typedef struct {
    const real *x, *y, *delta, *pooled_delta;
    int batch, filters, spatial;
    const batchnorm_arrays *p;
    ACTIVATION a;
    int frozen, add;
    real *dx;
} backward_pass;

/* Rows of windows from oy on, of one plane: dx = delta f'(z) where the largest value stood, 0 elsewhere. */
static int spread_strip(const backward_pass *w, int b, int f, int oy)
{
    const pool_shape *s = w->p->pool, strip = strip_of(s, oy);
    const size_t row = (size_t)b * w->filters + f, at = row * w->spatial + (size_t)oy * s->size * s->w;
    const int n = strip.h * strip.w, windows = strip.out_h * strip.out_w,
              rest = oy + strip.out_h == s->out_h ? w->spatial - s->w * oy * s->size - n : 0;
    real z[STRETCH], largest[STRETCH / 2], delta[STRETCH / 2];
    int place[STRETCH / 2];
    activate_strip(w->x + at, n, w->p, f, w->a, z);
    maxpool_plane(z, &strip, 0, largest, place);
    memcpy(delta, w->pooled_delta + (row * s->out_h + oy) * s->out_w, (size_t)windows * sizeof *delta);
    gradient_row(largest, windows, w->a, delta);
    memset(w->dx + at, 0, (size_t)(n + rest) * sizeof *w->dx);
    for (int i = 0; i < windows; ++i) w->dx[at + place[i]] += delta[i];
    return oy + strip.out_h;
}
/* Goes on at oy until the first `end` values of the plane are done; returns the next row of windows. */
static int spread_until(const backward_pass *w, int b, int f, int oy, int end)
{
    const pool_shape *s = w->p->pool;
    while (oy < s->out_h && (int64_t)oy * s->size * s->w < end) oy = spread_strip(w, b, f, oy);
    return oy;
}

/* delta *= f'(z) on n values: from z, or from y = f(z), found from z where that costs less than a read. */
static int slope_from_z(ACTIVATION a) { return activation_needs_input(a) || activation_is_cheap(a); }
static void slope_row(real *z, int n, ACTIVATION a, real *delta)
{
    if (activation_needs_input(a)) {
        gradient_input_row(z, n, a, delta);
        return;
    }
    activate_row(z, n, a);
    gradient_row(z, n, a, delta);
}
/* dx = delta * f'(z) on `count` channels of n values, z = scale (x - mean) + bias. */
static void activation_delta(const backward_pass *w, size_t at, int f0, int count, int n)
{
    real z[STRETCH], scale[MOST_CHANNELS], bias[MOST_CHANNELS];
    if (!slope_from_z(w->a)) {
        gradient_row(w->y + at, count * n, w->a, w->dx + at);
        return;
    }
    affine_of(w->p, f0, count, scale, bias);
    normalize_rows(w->x + at, count, n, w->p->mean + f0, scale, bias, 0, z);
    slope_row(z, count * n, w->a, w->dx + at);
}
/* The gradients of one channel's parameters and statistics from sum = sum of delta and dot = sum of delta
 * (x - p->mean), and what becomes of delta:
 *   dx = scale / std * (delta - mean of delta - x_hat * mean of (delta x_hat))
 * Statistics that did not come from x (frozen) pass nothing on. */
static delta_map finish_backward(const backward_pass *w, int f, double sum, double dot)
{
    const batchnorm_arrays *p = w->p;
    const double inverse = bn_inverse_std(p->variance[f]), scale = p->scales[f], rest = mean_rest_of(p, f),
                 centered = dot - rest * sum, m = (double)w->batch * w->spatial,
                 through = w->frozen ? 0 : scale * inverse,
                 x_factor = -centered * through * inverse * inverse / m;
    p->bias_updates[f] += (real)sum;
    p->scale_updates[f] += (real)(centered * inverse);
    p->mean_delta[f] = (real)(-sum * through);
    p->variance_delta[f] = (real)(-.5 * centered * through * inverse * inverse);
    return (delta_map){.mean = p->mean[f],
                       .delta_factor = (real)(scale * inverse),
                       .x_factor = (real)x_factor,
                       .constant = (real)(-sum * through / m - x_factor * rest)};
}

/* First read: the pool's and the activation's gradient, and the sums of delta and delta (x - mean). */
static void sum_deltas(const backward_pass *w, int from, int to, int f0, int count, row_sums *sums)
{
    const int filters = w->filters, spatial = w->spatial;
    for (int b = from; b < to; ++b) {
        int oy = 0;
        EACH_STRETCH {
            const size_t at = ROW(b, f0) + i;
            if (w->p->pool) { /* several channels have their whole planes in the stretch */
                for (int f = f0 + 1; f < f0 + count; ++f) spread_until(w, b, f, 0, i + n);
                oy = spread_until(w, b, f0, oy, i + n);
            }
            if (b + 1 < to) {
                fetch(w->x + at + ROW(1, 0), count * n);
                fetch(w->delta + at + ROW(1, 0), count * n);
            }
            if (w->a != LINEAR && !w->p->pool) activation_delta(w, at, f0, count, n);
            add_delta_sums(w->x + at, w->delta + at, count, n, w->p->mean + f0, sums);
        }
    }
}
/* Second read, from the last image to the first: dx. */
static void map_deltas(const backward_pass *w, int from, int to, int f0, int count, const delta_map *map)
{
    const int filters = w->filters, spatial = w->spatial;
    const int stream = !w->add && w->dx != w->delta && streams(w->batch, filters, spatial);
    for (int b = to - 1; b >= from; --b) {
        EACH_STRETCH {
            const size_t at = ROW(b, f0) + i;
            if (b > from) {
                fetch(w->x + at - ROW(1, 0), count * n);
                fetch(w->delta + at - ROW(1, 0), count * n);
            }
            map_delta_rows(w->x + at, w->delta + at, count, n, map, w->add, stream, w->dx + at);
        }
    }
}
static void task_backward(const backward_pass *w, int f0, int count)
{
    row_sums sums[MOST_CHANNELS];
    delta_map map[MOST_CHANNELS];
    memset(sums, 0, sizeof(row_sums) * (size_t)count);
    sum_deltas(w, 0, w->batch, f0, count, sums);
    for (int j = 0; j < count; ++j) {
        map[j] = finish_backward(w, f0 + j, total_of(sums[j].first), total_of(sums[j].second));
    }
    if (w->dx) map_deltas(w, 0, w->batch, f0, count, map);
}
static void parted_backward(const backward_pass *w)
{
    const int batch = w->batch, filters = w->filters, spatial = w->spatial;
    channel_sums sums[PARTS * MOST_GROUP];
    delta_map map[MOST_GROUP];
    EACH_GROUP(g) {
        EACH_PART_TASK(&g) {
            const part_task t = task_of(&g, i);
            row_sums of_task[MOST_CHANNELS];
            memset(of_task, 0, sizeof(row_sums) * (size_t)t.count);
            sum_deltas(w, t.from, t.to, g.f0 + t.first, t.count, of_task);
            keep_sums(of_task, &t, sums);
        }
        EACH_CHANNEL(&g) {
            const channel_sums s = add_parts(sums, g.parts, j);
            map[j] = finish_backward(w, g.f0 + j, s.first, s.second);
        }
        if (!w->dx) continue;
        EACH_PART_TASK(&g) {
            const part_task t = task_of(&g, i);
            map_deltas(w, t.from, t.to, g.f0 + t.first, t.count, map + t.first);
        }
    }
}

/* ---- without a plane (spatial = 1): a channel is a column, neighbours in memory are channels. Sums run down
 * columns, a block of channels to a task; what writes runs along rows, a tile of both to a task. */

enum { TILE_ROWS = 32, TILE_CHANNELS = 512 };
#define EACH_BLOCK \
    PARALLEL_FOR((size_t)batch *filters) for (int64_t f0 = 0; f0 < filters; f0 += MOST_CHANNELS)
#define EACH_TILE \
    PARALLEL_FOR2((size_t)batch *filters) \
    for (int64_t b0 = 0; b0 < batch; b0 += TILE_ROWS) \
        for (int64_t f0 = 0; f0 < filters; f0 += TILE_CHANNELS)
static void flat_statistics(const real *x, int batch, int filters, const batchnorm_arrays *p)
{
    EACH_BLOCK {
        double sum[MOST_CHANNELS], square[MOST_CHANNELS];
        const int count = least(filters - f0, MOST_CHANNELS);
        column_moments(x + f0, batch, filters, count, sum, square);
        for (int j = 0; j < count; ++j) {
            finish_statistics(sum[j], square[j], batch, x[f0 + j], p, (int)f0 + j);
        }
    }
}

/* One row; y may be x. */
MULTIVERSION static void normalize_columns(const real *x, int n, const real *mean, const real *scale,
                                           const real *bias, real *y)
{
    for (int j = 0; j < n; ++j) y[j] = (x[j] - mean[j]) * scale[j] + bias[j];
}
static void flat_forward(const real *x, int batch, int filters, const batchnorm_arrays *p, ACTIVATION a,
                         real *y)
{
    EACH_TILE {
        const int count = least(filters - f0, TILE_CHANNELS);
        real scale[TILE_CHANNELS], bias[TILE_CHANNELS];
        affine_of(p, (int)f0, count, scale, bias);
        for (int64_t b = b0; b < batch && b < b0 + TILE_ROWS; ++b) {
            const size_t at = (size_t)b * filters + f0;
            normalize_columns(x + at, count, p->mean + f0, scale, bias, y + at);
            activate_row(y + at, count, a);
        }
    }
}

static void flat_activation_delta(const backward_pass *w)
{
    const int batch = w->batch, filters = w->filters;
    EACH_TILE {
        const int count = least(filters - f0, TILE_CHANNELS);
        real scale[TILE_CHANNELS], bias[TILE_CHANNELS], z[TILE_CHANNELS];
        affine_of(w->p, (int)f0, count, scale, bias);
        for (int64_t b = b0; b < batch && b < b0 + TILE_ROWS; ++b) {
            const size_t at = (size_t)b * filters + f0;
            if (slope_from_z(w->a)) {
                normalize_columns(w->x + at, count, w->p->mean + f0, scale, bias, z);
                slope_row(z, count, w->a, w->dx + at);
            } else {
                gradient_row(w->y + at, count, w->a, w->dx + at);
            }
        }
    }
}
static void flat_sums(const backward_pass *w)
{
    const int batch = w->batch, filters = w->filters;
    EACH_BLOCK {
        double sum[MOST_CHANNELS], dot[MOST_CHANNELS];
        const int count = least(filters - f0, MOST_CHANNELS);
        column_delta_sums(w->x + f0, w->delta + f0, batch, filters, count, w->p->mean + f0, sum, dot);
        for (int j = 0; j < count; ++j) finish_backward(w, (int)f0 + j, sum[j], dot[j]);
    }
}
MULTIVERSION static void map_delta_columns(const real *x, const real *delta, int n, const real *mean,
                                           const real *delta_factor, const real *x_factor,
                                           const real *constant, int add, real *dx)
{
    for (int j = 0; j < n; ++j) {
        const real value = delta_factor[j] * delta[j] + (x_factor[j] * (x[j] - mean[j]) + constant[j]);
        dx[j] = add ? dx[j] + value : value;
    }
}
/* The factors follow from the gradients at mean and variance, as in normalize_delta_cpu. */
static void flat_map(const backward_pass *w)
{
    const int batch = w->batch, filters = w->filters;
    EACH_TILE {
        const int count = least(filters - f0, TILE_CHANNELS);
        real delta_factor[TILE_CHANNELS], x_factor[TILE_CHANNELS], constant[TILE_CHANNELS];
        affine_of(w->p, (int)f0, count, delta_factor, constant);
        for (int j = 0; j < count; ++j) {
            x_factor[j] = 2 * w->p->variance_delta[f0 + j] / batch;
            constant[j] = w->p->mean_delta[f0 + j] / batch - x_factor[j] * mean_rest_of(w->p, (int)f0 + j);
        }
        for (int64_t b = b0; b < batch && b < b0 + TILE_ROWS; ++b) {
            const size_t at = (size_t)b * filters + f0;
            map_delta_columns(w->x + at, w->delta + at, count, w->p->mean + f0, delta_factor, x_factor,
                              constant, w->add, w->dx + at);
        }
    }
}
static void flat_backward(const backward_pass *w)
{
    if (w->a != LINEAR) flat_activation_delta(w);
    flat_sums(w);
    if (w->dx) flat_map(w);
}

/* ---- the kernels */

/* p->mean, p->mean_rest and p->variance (biased: the one that normalizes) in one read of x. */
void batchnorm_statistics_cpu(const real *x, int batch, int filters, int spatial, const batchnorm_arrays *p)
{
    assert(x && batch > 0 && filters > 0 && spatial > 0);
    if (spatial == 1) flat_statistics(x, batch, filters, p);
    else if (parts_of(batch, filters, spatial) > 1) parted_statistics(x, batch, filters, spatial, p);
    else EACH_WHOLE task_statistics(x, batch, filters, spatial, (int)f0, CHANNELS_HERE, p);
}

/* y = activation(scales (x - mean) / sqrt(variance + epsilon) + biases) with given statistics, in one read
 * and one write; y may be x. */
void batchnorm_forward_cpu(const real *x, int batch, int filters, int spatial, const batchnorm_arrays *p,
                           ACTIVATION a, real *y)
{
    assert(!activation_mixes_channels(a));
    const int stream = y != x && streams(batch, filters, spatial), together = channels_of_task(spatial);
    if (spatial == 1) {
        flat_forward(x, batch, filters, p, a, y);
        return;
    }
    PARALLEL_FOR2((size_t)batch * filters * spatial)
    for (int b = 0; b < batch; ++b) {
        for (int64_t f0 = 0; f0 < filters; f0 += together) {
            task_forward(x, b, b + 1, filters, spatial, (int)f0, CHANNELS_HERE, p, a, stream, y);
        }
    }
}

/* The same with the mini-batch's own statistics, which it leaves in p->mean and p->variance. */
void batchnorm_forward_train_cpu(const real *x, int batch, int filters, int spatial,
                                 const batchnorm_arrays *p, ACTIVATION a, real *y)
{
    assert(!activation_mixes_channels(a));
    const int stream = y != x && streams(batch, filters, spatial);
    if (spatial == 1) {
        flat_statistics(x, batch, filters, p);
        flat_forward(x, batch, filters, p, a, y);
    } else if (parts_of(batch, filters, spatial) > 1) {
        parted_forward_train(x, batch, filters, spatial, p, a, stream, y);
    } else EACH_WHOLE {
        task_statistics(x, batch, filters, spatial, (int)f0, CHANNELS_HERE, p);
        task_forward(x, 0, batch, filters, spatial, (int)f0, CHANNELS_HERE, p, a, stream, y);
    }
}

/* The whole backward pass: delta at y -> dx (written, or added to; NULL: not wanted), and the updates of
 * scales and biases. x is the layer's input, y its output, which is not read where activation_is_cheap or
 * activation_needs_input. dx may be delta, and is so with an activation; with a pool it is written, and delta
 * is the pooled map's. */
void batchnorm_backward_cpu(const real *x, const real *y, const real *delta, int batch, int filters,
                            int spatial, const batchnorm_arrays *p, ACTIVATION a, int frozen, int add,
                            real *dx)
{
    assert((a == LINEAR || dx == delta || p->pool) && (!add || dx != delta) && !activation_mixes_channels(a));
    assert(!p->pool || (dx && dx != delta && !add && activation_is_cheap(a)));
    const backward_pass w = {x,   y, p->pool ? dx : delta, delta, batch, filters, spatial, p, a, frozen,
                             add, dx};
    if (spatial == 1) flat_backward(&w);
    else if (parts_of(batch, filters, spatial) > 1) parted_backward(&w);
    else EACH_WHOLE task_backward(&w, (int)f0, CHANNELS_HERE);
}

/* What inference does to x as y = scale x + shift; all arrays are (filters,). */
void batchnorm_fold_cpu(const batchnorm_arrays *p, int filters, real *scale, real *shift)
{
    for (int f = 0; f < filters; ++f) {
        scale[f] = p->scales[f] * bn_inverse_std(p->variance[f]);
        shift[f] = p->biases[f] - p->mean[f] * scale[f];
    }
}
