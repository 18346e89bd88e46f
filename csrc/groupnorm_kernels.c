/* Group normalization, Y. Wu and K. He, arXiv:1803.08494. The channels of each sample are cut into groups; a
 * group's values - a slice, contiguous in memory - share one mean and variance. One group of all channels is
 * layer normalization (arXiv:1607.06450), a group per channel instance normalization (arXiv:1607.08022).
 * Arrays are (batch, channels, spatial), statistics (batch, groups), scales and biases (channels,). */
#include "parallel.h"
#include "rows.h"
#include "scalar.h"
#include "stream.h"
#include <assert.h>

/* A slice is worked on in pieces of whole channels. Its sums are those of its pieces, added in order, so that
 * one thread or several may take them: several where slices are few. */
enum { MOST_PIECES = 64, PIECE = 4096, ROW = 512, BLOCK = 64 };
typedef struct {
    int channels, spatial, groups;
    int slices, rows;                /* of the array; channels of a slice */
    int piece, pieces;               /* channels of a piece (the last may have fewer); pieces of a slice */
    int shared;                      /* all threads work on one slice after another; else each has its own */
    size_t length, values;           /* of a slice; of the array */
} slicing;

static slicing slice_up(int batch, int channels, int spatial, int groups)
{
    slicing s = {.channels = channels, .spatial = spatial, .groups = groups, .slices = batch * groups};
    s.rows = channels / groups;
    s.length = (size_t)s.rows * spatial;
    s.values = s.length * s.slices;
    const int fitting = PIECE / spatial, least = (s.rows + MOST_PIECES - 1) / MOST_PIECES;
    s.piece = fitting > least ? fitting : least;
    s.pieces = (s.rows + s.piece - 1) / s.piece;
    s.shared = s.pieces > 1 && s.slices < 4 * dn_num_threads();
    return s;
}
#define SIMD_SUMS(a, b) DN_PRAGMA(omp simd reduction(+ : a, b))
#define EACH_SLICE(s) PARALLEL_FOR((s).shared ? 0 : (s).values) for (int i = 0; i < (s).slices; ++i)
#define EACH_PIECE(s, call) \
    if ((s)->shared) { \
        PARALLEL_FOR((s)->length) for (int p = 0; p < (s)->pieces; ++p) call; \
    } else { \
        for (int p = 0; p < (s)->pieces; ++p) call; \
    }
/* Piece p of a slice: how many channels, and where it begins, in channels and in values. */
static int piece_rows(const slicing *s, int p)
{
    return p + 1 < s->pieces ? s->piece : s->rows - p * s->piece;
}
static size_t piece_at(const slicing *s, int p) { return (size_t)p * s->piece * s->spatial; }

/* ---- forward */
/* The sums of x - shift and of its squares, of n values: in single precision over at most ROW of them, so
 * that the vector units take whole vectors, in double precision beyond. */
MULTIVERSION static void sum_moments(const real *x, real shift, int n, double *sum, double *square)
{
    *sum = *square = 0;
    for (int begin = 0; begin < n; begin += ROW) {
        const int end = n - begin < ROW ? n : begin + ROW;
        real one = 0, two = 0;
        SIMD_SUMS(one, two)
        for (int i = begin; i < end; ++i) {
            const real d = x[i] - shift;
            one += d;
            two += d * d;
        }
        *sum += one;
        *square += two;
    }
}
/* Sums of x - shift, shift being the mean of the slice's first values: no digits are lost where |mean| >>
 * deviation, and x[0] may be an outlier. */
static void slice_statistics(const slicing *s, const real *x, real *mean, real *variance)
{
    double sum[MOST_PIECES], square[MOST_PIECES], m = (double)s->length;
    const int first = s->length < BLOCK ? (int)s->length : BLOCK;
    sum_moments(x, x[0], first, sum, square);
    const real shift = (real)(x[0] + sum[0] / first);
    EACH_PIECE(s, sum_moments(x + piece_at(s, p), shift, piece_rows(s, p) * s->spatial, sum + p, square + p))
    for (int p = 1; p < s->pieces; ++p) sum[0] += sum[p], square[0] += square[p];
    const double v = (square[0] - sum[0] * sum[0] / m) / m;
    *mean = (real)(shift + sum[0] / m);
    *variance = (real)(v > 0 ? v : 0);
}

/* z = scales (x - mean) inverse + biases, for some channels of one slice; z may be x. */
MULTIVERSION static void normalize_rows(const real *x, int rows, int n, real mean, real inverse,
                                        const real *scales, const real *biases, real *z)
{
    if (n == 1) {
        _Pragma("omp simd") for (int j = 0; j < rows; ++j) {
            z[j] = (x[j] - mean) * (scales[j] * inverse) + biases[j];
        }
        return;
    }
    for (int j = 0; j < rows; ++j, x += n, z += n) {
        const real scale = scales[j] * inverse, bias = biases[j];
        _Pragma("omp simd") for (int i = 0; i < n; ++i) z[i] = (x[i] - mean) * scale + bias;
    }
}
static void normalize_piece(const slicing *s, const real *x, int rows, real mean, real inverse,
                            const real *scales, const real *biases, ACTIVATION a, int stream, real *y)
{
    real z[ROW];
    if (s->spatial < ROW) {
        normalize_rows(x, rows, s->spatial, mean, inverse, scales, biases, y);
        activate_row(y, rows * s->spatial, a);
        return;
    }
    for (int j = 0; j < rows; ++j, x += s->spatial, y += s->spatial) {
        for (int i = 0; i < s->spatial; i += ROW) {
            const int n = s->spatial - i < ROW ? s->spatial - i : ROW;
            real *to = stream ? z : y + i;
            normalize_rows(x + i, 1, n, mean, inverse, scales + j, biases + j, to);
            activate_row(to, n, a);
            if (stream) stream_row(z, n, y + i, x + i + s->length);
        }
    }
    if (stream) stream_end();
}

/* mean and variance = those of each slice, the biased variance; y = activation(scales (x - mean) /
 * sqrt(variance + epsilon) + biases). A slice that fits the cache is read from memory once. y may be x. */
void groupnorm_forward_cpu(const real *x, int batch, int channels, int spatial, int groups,
                           const real *scales, const real *biases, ACTIVATION a, real *mean, real *variance,
                           real *y)
{
    assert(x && y && mean && variance && batch > 0 && spatial > 0 && groups > 0 && channels % groups == 0);
    assert(!activation_mixes_channels(a));
    const slicing all = slice_up(batch, channels, spatial, groups), *s = &all;
    const int stream = y != x && stream_pays(s->values, spatial);
    EACH_SLICE(all) {
        const real *from = x + i * s->length;
        slice_statistics(s, from, mean + i, variance + i);
        const int c = i % groups * s->rows;
        const real inverse = bn_inverse_std(variance[i]);
        EACH_PIECE(s, normalize_piece(s, from + piece_at(s, p), piece_rows(s, p), mean[i], inverse,
                                      scales + c + p * s->piece, biases + c + p * s->piece, a, stream,
                                      y + i * s->length + piece_at(s, p)))
    }
}

/* ---- backward */
/* What the backward pass knows of one slice; the arrays begin at the slice, or at its first channel. */
typedef struct {
    const real *x, *y, *delta, *scales, *biases;
    real mean, inverse;
    ACTIVATION a;
    real *sums, *dots;               /* of each channel: of delta, and of delta times the normalized value */
    real *dx;
    double *sum, *dot;               /* of each piece, scaled: their channels' together */
    real slope, constant;            /* what every dx gets besides: slope (x - mean) + constant */
} slice_backward;

/* In place: delta at y -> delta at z, for n neighbouring values of the slice from channel c on. */
static void activation_delta(const slicing *s, const slice_backward *b, size_t at, int rows, real *delta)
{
    real z[ROW];
    const int c = (int)(at / s->spatial), n = s->spatial;
    if (!activation_needs_input(b->a)) {
        gradient_row(b->y + at, rows * n, b->a, delta + at);
        return;
    }
    const int together = n < ROW ? ROW / n : 1, step = n < ROW ? n : ROW;   /* rows, and values of each */
    for (int j = 0; j < rows; j += together) {
        const int count = rows - j < together ? rows - j : together;
        for (int i = 0; i < n; i += step) {
            const size_t from = at + (size_t)j * n + i;
            const int width = n - i < step ? n - i : step;
            normalize_rows(b->x + from, count, width, b->mean, b->inverse, b->scales + c + j,
                           b->biases + c + j, z);
            gradient_input_row(z, count * width, b->a, delta + from);
        }
    }
}

/* Of each of some channels sums = sum of delta and dots = sum of delta (x - mean) inverse; added to *sum and
 * *dot, times the channel's scale, in double precision. */
MULTIVERSION static void channel_sums(const real *x, const real *delta, int rows, int n, real mean,
                                      real inverse, const real *scales, real *sums, real *dots, double *sum,
                                      double *dot)
{
    for (int j = 0; j < rows; ++j, x += n, delta += n) {
        double a_sum = 0, b_sum = 0;
        for (int begin = 0; begin < n; begin += ROW) {
            const int end = n - begin < ROW ? n : begin + ROW;
            real one = 0, two = 0;
            SIMD_SUMS(one, two)
            for (int i = begin; i < end; ++i) {
                one += delta[i];
                two += delta[i] * (x[i] - mean);
            }
            a_sum += one;
            b_sum += two;
        }
        sums[j] = (real)a_sum;
        dots[j] = (real)(b_sum * inverse);
        *sum += a_sum * scales[j];
        *dot += b_sum * inverse * scales[j];
    }
}
/* The same where a channel is one value. */
MULTIVERSION static void flat_sums(const real *x, const real *delta, int rows, real mean, real inverse,
                                   const real *scales, real *sums, real *dots, double *sum, double *dot)
{
    for (int begin = 0; begin < rows; begin += ROW) {
        const int end = rows - begin < ROW ? rows : begin + ROW;
        real one = 0, two = 0;
        SIMD_SUMS(one, two)
        for (int j = begin; j < end; ++j) {
            const real product = delta[j] * ((x[j] - mean) * inverse);
            sums[j] = delta[j];
            dots[j] = product;
            one += scales[j] * delta[j];
            two += scales[j] * product;
        }
        *sum += one;
        *dot += two;
    }
}
static void sum_piece(const slicing *s, const slice_backward *b, int p)
{
    const int rows = piece_rows(s, p), c = p * s->piece;
    const size_t at = piece_at(s, p);
    b->sum[p] = b->dot[p] = 0;
    if (b->a != LINEAR) activation_delta(s, b, at, rows, b->dx);
    if (s->spatial == 1) {
        flat_sums(b->x + at, b->delta + at, rows, b->mean, b->inverse, b->scales + c, b->sums + c,
                  b->dots + c, b->sum + p, b->dot + p);
    } else {
        channel_sums(b->x + at, b->delta + at, rows, s->spatial, b->mean, b->inverse, b->scales + c,
                     b->sums + c, b->dots + c, b->sum + p, b->dot + p);
    }
}

/* dx = scales inverse delta + slope (x - mean) + constant, for some channels of a slice. */
MULTIVERSION static void delta_rows(const slice_backward *b, const real *x, const real *delta, int rows,
                                    int n, const real *scales, int add, real *dx)
{
    const real mean = b->mean, inverse = b->inverse, slope = b->slope, constant = b->constant;
    if (n == 1) {
        _Pragma("omp simd") for (int j = 0; j < rows; ++j) {
            dx[j] = (add ? dx[j] : 0) + scales[j] * inverse * delta[j] + slope * (x[j] - mean) + constant;
        }
        return;
    }
    for (int j = 0; j < rows; ++j, x += n, delta += n, dx += n) {
        const real scale = scales[j] * inverse;
        _Pragma("omp simd") for (int i = 0; i < n; ++i) {
            dx[i] = (add ? dx[i] : 0) + scale * delta[i] + slope * (x[i] - mean) + constant;
        }
    }
}
static void delta_piece(const slicing *s, const slice_backward *b, int p, int add, int stream)
{
    real z[ROW];
    const int rows = piece_rows(s, p), c = p * s->piece, n = s->spatial;
    const size_t at = piece_at(s, p);
    if (!stream) {
        delta_rows(b, b->x + at, b->delta + at, rows, n, b->scales + c, add, b->dx + at);
        return;
    }
    for (int j = 0; j < rows; ++j) {
        for (int i = 0; i < n; i += ROW) {
            const size_t from = at + (size_t)j * n + i;
            const int count = n - i < ROW ? n - i : ROW;
            delta_rows(b, b->x + from, b->delta + from, 1, count, b->scales + c + j, 0, z);
            stream_row(z, count, b->dx + from, b->delta + from + s->length);
        }
    }
    stream_end();
}

/* updates[c] += sum over samples of sums (batch, channels) */
MULTIVERSION static void add_block(const real *sums, int batch, int channels, int count, real *updates)
{
    double total[BLOCK] = {0};
    for (int b = 0; b < batch; ++b) {
        for (int j = 0; j < count; ++j) total[j] += sums[(size_t)b * channels + j];
    }
    for (int j = 0; j < count; ++j) updates[j] += (real)total[j];
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
    const int stream = !add && dx != delta && stream_pays(s->values, spatial);
    real *sums = workspace, *dots = workspace + (size_t)batch * channels;
    EACH_SLICE(all) {
        double sum[MOST_PIECES], dot[MOST_PIECES];
        const size_t at = i * s->length, row = (size_t)i * s->rows;
        const int c = i % groups * s->rows;
        const real inverse = bn_inverse_std(variance[i]);
        slice_backward b = {.x = x + at, .y = y + at, .delta = delta + at, .scales = scales + c,
                            .biases = biases + c, .mean = mean[i], .inverse = inverse, .a = a,
                            .sums = sums + row, .dots = dots + row, .dx = dx ? dx + at : NULL, .sum = sum,
                            .dot = dot};
        EACH_PIECE(s, sum_piece(s, &b, p))
        for (int p = 1; p < s->pieces; ++p) sum[0] += sum[p], dot[0] += dot[p];
        b.slope = (real)(-dot[0] * inverse * inverse / s->length);
        b.constant = (real)(-sum[0] * inverse / s->length);
        if (!dx) continue;
        EACH_PIECE(s, delta_piece(s, &b, p, add, stream))
    }
    PARALLEL_FOR((size_t)batch *channels)
    for (int64_t c = 0; c < channels; c += BLOCK) {
        const int count = channels - c < BLOCK ? (int)(channels - c) : BLOCK;
        add_block(sums + c, batch, channels, count, bias_updates + c);
        add_block(dots + c, batch, channels, count, scale_updates + c);
    }
}
