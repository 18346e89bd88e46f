/* Group normalization, Y. Wu and K. He, arXiv:1803.08494. The channels of each sample are cut into groups; a
 * group's values - a slice, contiguous in memory - share one mean and variance. One group of all channels is
 * layer normalization (arXiv:1607.06450), a group per channel instance normalization (arXiv:1607.08022).
 * Arrays are (batch, channels, spatial), statistics (batch, groups), scales and biases (channels,).
 * Every pass reads a slice twice, for its sums and then for its values. */
#include "normalize_rows.h"
#include "parallel.h"
#include "rows.h"
#include "scalar.h"
#include <assert.h>

/* ---- how the work is cut. A slice consists of parts of whole channels, whose sums are added in order, so
 * that one thread or several may take them. A part is worked on in stretches of some channels, or of a piece
 * of one. */
enum { MOST_PARTS = 64, MOST_CHANNELS = 128, MOST_FOLDED = 16 };
typedef struct {
    int channels, spatial, groups;
    int slices, rows;      /* of the array; channels of a slice */
    int part, parts;       /* channels of a part (the last may have fewer); parts of a slice */
    int together, pieces;  /* channels of a stretch; stretches of a channel */
    int shared;            /* all threads work on one slice after another; else each has its own */
    int backwards;         /* the second read begins with what the first one ended with */
    int stream;            /* the result is written past the caches */
    int fold;              /* samples whose channels' gradients are summed at once: map_flat() */
    size_t length, values; /* of a slice; of the array */
} slicing;

/* In bytes: slices that one thread's cache does not hold (measured: a smaller one is better read forwards
 * twice), slices so large that threads had better share one, and results that leave the caches before anybody
 * reads them. Rows shorter than STREAMED_ROW, and activated ones, go through a buffer on their way. */
enum { FAR_BYTES = 512 << 10, SHARED_BYTES = 8 << 20, STREAMED_BYTES = 16 << 20, STREAMED_ROW = 512 };
static slicing slice_up(int batch, int channels, int spatial, int groups)
{
    slicing s = {.channels = channels, .spatial = spatial, .groups = groups, .slices = batch * groups};
    s.rows = channels / groups;
    s.length = (size_t)s.rows * spatial;
    s.values = s.length * s.slices;
    s.part = max_int(STRETCH / spatial, (s.rows + MOST_PARTS - 1) / MOST_PARTS);
    s.parts = (s.rows + s.part - 1) / s.part;
    s.together = spatial == 1 ? STRETCH : max_int(1, min_int(STRETCH / spatial, MOST_CHANNELS));
    s.pieces = (spatial + STRETCH - 1) / STRETCH;
    s.shared = s.parts > 1 && (s.slices < 4 * dn_num_threads() || s.length * sizeof(real) > SHARED_BYTES);
    s.backwards = s.length * sizeof(real) > FAR_BYTES;
    s.fold = spatial == 1 && s.parts == 1 ? max_int(1, min_int(MOST_FOLDED, batch / MOST_FOLDED)) : 1;
    s.stream = s.values * sizeof(real) > STREAMED_BYTES;
    return s;
}
#define EACH_SLICE(s) PARALLEL_FOR((s).shared ? 0 : (s).values) for (int i = 0; i < (s).slices; ++i)
#define EACH_PART(s, call) \
    if ((s)->shared) { \
        PARALLEL_FOR((s)->length) for (int p = 0; p < (s)->parts; ++p) call; \
    } else { \
        for (int p = 0; p < (s)->parts; ++p) call; \
    }
static int part_rows(const slicing *s, int p) { return min_int(s->part, s->rows - p * s->part); }
static size_t part_at(const slicing *s, int p) { return (size_t)p * s->part * s->spatial; }

/* A stretch: `rows` channels of the slice from c on, n values of each, which begin at `at` of the slice. */
typedef struct {
    int c, rows, n;
    size_t at;
} stretch;
static int count_stretches(const slicing *s, int p)
{
    return s->pieces > 1 ? part_rows(s, p) * s->pieces : (part_rows(s, p) + s->together - 1) / s->together;
}
static stretch stretch_of(const slicing *s, int p, int q)
{
    const int row = q / s->pieces * s->together, i = q % s->pieces * STRETCH, c = p * s->part + row;
    return (stretch){.c = c,
                     .rows = min_int(s->together, part_rows(s, p) - row),
                     .n = min_int(s->spatial - i, STRETCH),
                     .at = (size_t)c * s->spatial + i};
}

/* ---- forward */

/* Sums of x - shift, shift being the mean of the slice's first values: no digits are lost where |mean| >>
 * deviation, and x[0] may be an outlier. */
enum { FIRST = 64 };
static void sum_moments(const real *x, int n, real shift, double *sum, double *square)
{
    *sum = *square = 0;
    add_group_moments(x, n, shift, sum, square);
}
static void slice_statistics(const slicing *s, const real *x, double *mean, double *variance)
{
    double sum[MOST_PARTS], square[MOST_PARTS];
    const int first = s->length < FIRST ? (int)s->length : FIRST;
    const double m = (double)s->length;
    sum_moments(x, first, x[0], sum, square);
    const real shift = (real)(x[0] + sum[0] / first);
    EACH_PART(s, sum_moments(x + part_at(s, p), part_rows(s, p) * s->spatial, shift, sum + p, square + p))
    for (int p = 1; p < s->parts; ++p) sum[0] += sum[p], square[0] += square[p];
    const double v = (square[0] - sum[0] * sum[0] / m) / m;
    *mean = shift + sum[0] / m;
    *variance = v > 0 ? v : 0;
}

static void normalize_part(const slicing *s, int p, const real *x, const group_map *g, const real *scales,
                           const real *biases, ACTIVATION a, int stream, real *y)
{
    real z[STRETCH];
    for (int k = 0, count = count_stretches(s, p); k < count; ++k) {
        const stretch t = stretch_of(s, p, s->backwards ? count - 1 - k : k);
        const int direct = a == LINEAR && t.n >= STREAMED_ROW;
        real *to = stream && !direct ? z : y + t.at;
        normalize_group(x + t.at, t.rows, t.n, g, scales + t.c, biases + t.c, stream && direct, to);
        activate_row(to, t.rows * t.n, a);
        if (to == z) stream_row(z, t.rows * t.n, y + t.at);
    }
}

/* mean and variance = those of each slice, the biased variance; y = activation(scales (x - mean) /
 * sqrt(variance + epsilon) + biases). y may be x. */
void groupnorm_forward_cpu(const real *x, int batch, int channels, int spatial, int groups,
                           const real *scales, const real *biases, ACTIVATION a, real *mean, real *variance,
                           real *y)
{
    assert(x && y && mean && variance && batch > 0 && spatial > 0 && groups > 0 && channels % groups == 0);
    assert(!activation_mixes_channels(a));
    const slicing all = slice_up(batch, channels, spatial, groups), *s = &all;
    const int stream = s->stream && y != x;
    EACH_SLICE(all) {
        const size_t at = i * s->length;
        const int c = i % groups * s->rows;
        double m, v;
        slice_statistics(s, x + at, &m, &v);
        mean[i] = (real)m;
        variance[i] = (real)v;
        const group_map g = {mean[i], (real)(m - mean[i]), bn_inverse_std(variance[i]), 0, 0};
        EACH_PART(s, normalize_part(s, s->backwards ? s->parts - 1 - p : p, x + at, &g, scales + c,
                                    biases + c, a, stream, y + at))
    }
}

/* ---- backward */

/* What the backward pass knows of one slice; the arrays begin at the slice, or at its first channel. */
typedef struct {
    const real *x, *y, *delta, *scales, *biases;
    group_map g;
    ACTIVATION a;
    real *sums, *dots; /* of each channel: of delta, and of delta times the normalized value */
    real *dx;
    int more, add, stream; /* more: sums and dots hold those of other samples */
} slice_backward;
/* Sums of one part; sum and dot only where a channel is one value. */
typedef struct {
    double sum, dot, rest;
} part_sums;

/* In place: delta at y -> delta at z, for one stretch. */
static void activation_delta(const slice_backward *b, stretch t)
{
    real z[STRETCH];
    if (!activation_needs_input(b->a)) {
        gradient_row(b->y + t.at, t.rows * t.n, b->a, b->dx + t.at);
        return;
    }
    normalize_group(b->x + t.at, t.rows, t.n, &b->g, b->scales + t.c, b->biases + t.c, 0, z);
    gradient_input_row(z, t.rows * t.n, b->a, b->dx + t.at);
}
static part_sums sum_part(const slicing *s, const slice_backward *b, int p)
{
    part_sums found = {0, 0, 0};
    double sum[MOST_CHANNELS], dot[MOST_CHANNELS];
    for (int q = 0, count = count_stretches(s, p); q < count; ++q) {
        const stretch t = stretch_of(s, p, q);
        const real *x = b->x + t.at, *delta = b->delta + t.at, *scales = b->scales + t.c;
        if (b->a != LINEAR) activation_delta(b, t);
        if (s->spatial == 1) {
            found.rest += add_group_sums(x, delta, t.rows, 1, b->g.mean, scales, &found.sum, &found.dot);
            continue;
        }
        for (int j = 0; j < t.rows && q % s->pieces == 0; ++j) sum[j] = dot[j] = 0;
        found.rest += add_group_sums(x, delta, t.rows, t.n, b->g.mean, scales, sum, dot);
        for (int j = 0; j < t.rows; ++j) b->sums[t.c + j] = (real)sum[j], b->dots[t.c + j] = (real)dot[j];
    }
    return found;
}

/* Where a channel is one value: its sums, which are added, and dx. Inlined, so that loops do not ask for what
 * does not change. */
static inline __attribute__((always_inline)) void flat_row(const real *x, const real *delta, int rows,
                                                           group_map g, const real *scales, real *sums,
                                                           real *dots, int add, real *dx)
{
    _Pragma("omp simd") for (int j = 0; j < rows; ++j) {
        const real d = delta[j], v = x[j] - g.mean;
        sums[j] += d;
        dots[j] += d * ((v - g.rest) * g.inverse);
        if (dx) dx[j] = (add ? dx[j] : 0) + (scales[j] * g.inverse * d + (g.x_factor * v + g.constant));
    }
}
MULTIVERSION static void map_flat(const real *x, const real *delta, int rows, const group_map *g,
                                  const real *scales, real *sums, real *dots, int add, real *dx)
{
    if (!dx) flat_row(x, delta, rows, *g, scales, sums, dots, 0, NULL);
    else if (add) flat_row(x, delta, rows, *g, scales, sums, dots, 1, dx);
    else flat_row(x, delta, rows, *g, scales, sums, dots, 0, dx);
}
static void map_part(const slicing *s, const slice_backward *b, int p)
{
    real z[STRETCH];
    for (int k = 0, count = count_stretches(s, p); k < count; ++k) {
        const stretch t = stretch_of(s, p, s->backwards ? count - 1 - k : k);
        const real *x = b->x + t.at, *delta = b->delta + t.at;
        if (s->spatial == 1) {
            for (int j = t.c; j < t.c + t.rows && !b->more; ++j) b->sums[j] = b->dots[j] = 0;
            map_flat(x, delta, t.rows, &b->g, b->scales + t.c, b->sums + t.c, b->dots + t.c, b->add,
                     b->dx ? b->dx + t.at : NULL);
            continue;
        }
        real *to = b->stream && t.n < STREAMED_ROW ? z : b->dx + t.at;
        map_group_deltas(x, delta, t.rows, t.n, &b->g, b->scales + t.c, b->add, b->stream && to != z, to);
        if (to == z) stream_row(z, t.rows * t.n, b->dx + t.at);
    }
}
/* dots: of delta (x - mean) -> of delta times the normalized value; and the sums over channels. */
MULTIVERSION static void finish_channels(const real *sums, int rows, double rest, double inverse,
                                         const real *scales, real *dots, double *sum, double *dot)
{
    double a = 0, b = 0;
    DN_PRAGMA(omp simd reduction(+ : a, b))
    for (int j = 0; j < rows; ++j) {
        const double of_row = (dots[j] - rest * sums[j]) * inverse;
        dots[j] = (real)of_row;
        a += (double)scales[j] * sums[j];
        b += scales[j] * of_row;
    }
    *sum = a;
    *dot = b;
}
/* The sums of the parts -> those of the slice and its channels, and the factors of dx. */
static void finish_sums(const slicing *s, slice_backward *b, const part_sums *of_parts)
{
    const double m = (double)s->length, inverse = b->g.inverse;
    double sum = 0, dot = 0, rest = 0;
    for (int p = 0; p < s->parts; ++p) {
        sum += of_parts[p].sum, dot += of_parts[p].dot, rest += of_parts[p].rest;
    }
    rest /= m;
    dot = (dot - rest * sum) * inverse;
    if (s->spatial > 1) finish_channels(b->sums, s->rows, rest, inverse, b->scales, b->dots, &sum, &dot);
    const double x_factor = -dot * inverse * inverse / m;
    b->g.rest = (real)rest;
    b->g.x_factor = (real)x_factor;
    b->g.constant = (real)(-sum * inverse / m - x_factor * rest);
}

static void slice_delta(const slicing *s, slice_backward *b)
{
    part_sums found[MOST_PARTS];
    if (activation_needs_input(b->a)) {
        double mean, variance;
        slice_statistics(s, b->x, &mean, &variance);
        b->g.rest = (real)(mean - b->g.mean);
    }
    EACH_PART(s, found[p] = sum_part(s, b, p))
    finish_sums(s, b, found);
    if (!b->dx && s->spatial > 1) return;
    EACH_PART(s, map_part(s, b, s->backwards ? s->parts - 1 - p : p))
}

/* The whole backward pass: delta at y -> dx (written, or added to; NULL: not wanted), and the updates of
 * scales and biases. x is the layer's input, y its output; mean and variance are the forward pass's. dx may
 * be delta, and is so with an activation, whose gradient is kept there between the two reads. workspace: 2
 * batch channels. With M values in a slice, x^ = (x - mean) inverse and d^ = scales delta:
 *   dx = inverse (d^ - (sum of d^) / M - x^ (sum of d^ x^) / M) */
void groupnorm_backward_cpu(const real *x, const real *y, const real *delta, int batch, int channels,
                            int spatial, int groups, const real *scales, const real *biases, ACTIVATION a,
                            const real *mean, const real *variance, real *scale_updates, real *bias_updates,
                            int add, real *dx, real *workspace)
{
    assert((a == LINEAR || dx == delta) && (!add || dx != delta) && !activation_mixes_channels(a));
    const slicing all = slice_up(batch, channels, spatial, groups), *s = &all;
    const int rows = (batch + s->fold - 1) / s->fold, task = s->fold > 1 ? s->fold * groups : 1;
    real *sums = workspace, *dots = workspace + (size_t)rows * channels;
    PARALLEL_FOR(s->shared ? 0 : s->values)
    for (int64_t begin = 0; begin < s->slices; begin += task) {
        for (int64_t i = begin; i < s->slices && i < begin + task; ++i) {
            const int image = (int)(i / groups), c = (int)(i % groups) * s->rows;
            const size_t at = i * s->length, row = (size_t)(image / s->fold) * channels + c;
            slice_backward b = {.x = x + at, .y = y + at, .delta = delta + at, .scales = scales + c,
                                .biases = biases + c, .a = a, .sums = sums + row, .dots = dots + row,
                                .g = {mean[i], 0, bn_inverse_std(variance[i]), 0, 0},
                                .dx = dx ? dx + at : NULL, .more = image % s->fold > 0, .add = add,
                                .stream = s->stream && !add && dx != delta};
            slice_delta(s, &b);
        }
    }
    backward_bias(bias_updates, sums, rows, channels, 1);
    backward_bias(scale_updates, dots, rows, channels, 1);
}
