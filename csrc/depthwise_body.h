/* One filter for each channel: too few products per value for a matrix product. A band of a plane's rows is
 * copied with zeros around it; every tap is then a shifted read. With stride s a row is copied as s rows, of
 * the inputs 0, s, 2s, ... then 1, s + 1, ...: so neighbouring outputs read neighbouring values here too.
 * A value read serves all rows of outputs in registers that need it: output o through tap k is
 * y[o] += w[k] x[o s + k], and for the gradient dw[k] += dy[o] x[o s + k]. Body of an engine. */
#ifndef DN_DEPTHWISE_BODY_H
#define DN_DEPTHWISE_BODY_H
#include "gradient_body.h"

enum { OUT_ROWS = 4, MOST_TAPS = 5 }; /* rows of outputs held in registers; see depthwise_data */

/* Outputs in bands of `rows` rows; the copy of their inputs has rows `pitch` apart. Tap (ky, kx), counted
 * from the lowest, of output (i, x) of a band reads value (i * y.stride + ky * step) * pitch + place[kx] + x
 * of it. */
typedef struct {
    int rows, pitch, part, size, taps_y, taps_x, step, stride;
    int first_y, first_x; /* input of output 0 through tap 0 */
    int place[DEPTH];
} band_layout;

/* 0 where a band does not fit the scratch memory. */
static int make_bands(band_layout *l, int out_y, int out_x, int stride_x, int step_x)
{
    const int high = (l->taps_y - 1) * l->step + 1, reach = (l->taps_x - 1) * step_x;
    const ptrdiff_t part = round_up(out_x + reach / stride_x, LANES) + LANES, pitch = part * stride_x;
    if (l->taps_x > DEPTH || high * pitch > COLUMN_SCRATCH) return 0;
    l->part = (int)part;
    l->pitch = (int)pitch;
    l->rows = at_most((COLUMN_SCRATCH / l->pitch - high) / l->stride + 1, out_y);
    l->size = ((l->rows - 1) * l->stride + high) * l->pitch;
    for (int k = 0; k < l->taps_x; ++k) l->place[k] = k * step_x % stride_x * l->part + k * step_x / stride_x;
    return 1;
}

/* 0 where this is no depthwise convolution. */
static int lay_bands(const conv_product *p, band_layout *l)
{
    const int taps = p->y.taps * p->x.taps;
    if (p->channels != 1 || p->filters != 1 || taps < 1 || taps > DEPTH) return 0;
    *l = (band_layout){.taps_y = p->y.taps,
                       .taps_x = p->x.taps,
                       .step = tap_offset(&p->y, 1),
                       .stride = p->y.stride,
                       .first_y = lowest_input(&p->y),
                       .first_x = lowest_input(&p->x)};
    return make_bands(l, p->y.out, p->x.out, p->x.stride, tap_offset(&p->x, 1));
}

/* The inputs of output rows from .. upto of one plane; what lies beside the image is zero already. */
static void fill_band(const conv_product *p, const band_layout *l, const real *plane, int from, int upto,
                      real *out)
{
    const int first = from * l->stride + l->first_y, stride = p->x.stride,
              rows = (upto - from - 1) * l->stride + (l->taps_y - 1) * l->step + 1;
    const int above = at_most(first < 0 ? -first : 0, rows), below = first + rows - p->y.in;
    const int inside = at_most(rows, rows - below) - above;
    set_zero(out, above * l->pitch);
    if (below > 0) set_zero(out + (rows - at_most(below, rows)) * l->pitch, at_most(below, rows) * l->pitch);
    for (int phase = 0; phase < stride; ++phase) {
        const int skip = first_position(stride, l->first_x + phase, 0),
                  x = skip * stride + l->first_x + phase;
        const int count = at_most((p->x.in - x + stride - 1) / stride, l->part - skip);
        const real *row = plane + (ptrdiff_t)(first + above) * p->x.in + x;
        real *to = out + above * l->pitch + phase * l->part + skip;
        for (int i = 0; i < (x < p->x.in && count > 0 ? inside : 0); ++i, row += p->x.in, to += l->pitch)
            copy_strided(to, row, count, stride);
    }
}

/* n sums of each of `rows` rows become outputs of a filter, the first of which stands at y. */
INLINE void finish_rows(int rows, const conv_product *p, int filter, vec sum[], real *y, int n)
{
    const size_t row = (size_t)p->y.to_step * p->x.whole;
    const int step = p->x.to_step;
    real line[LANES] = {0};
    for (int r = 0; r < (p->add ? rows : 0); ++r) {
        copy_strided(line, y + r * row, n, step);
        sum[r] += load(line);
    }
    if (p->epilogue) finish(1, rows, p->epilogue, filter, sum);
    for (int r = 0; r < rows; ++r, y += row) {
        if (step == 1)
            store_some(y, sum[r], n);
        else
            for (int i = 0; i < n; ++i) y[(size_t)i * step] = sum[r][i];
    }
}

/* `rows` rows of outputs; b is the band where the first begins, y its row in memory. taps (of either axis)
 * and stride (of y) are constants. */
INLINE void depthwise_rows(int rows, int taps, int stride, const conv_product *p, const band_layout *l,
                           const real *b, const real *w, int filter, real *y)
{
    const int step = p->x.to_step;
    for (int x = 0; x < p->x.out; x += LANES) {
        const int n = lanes_of(p->x.out - x);
        vec sum[OUT_ROWS];
        EACH(r, rows) sum[r] = (vec){0};
        EACH(i, (rows - 1) * stride + taps)
        {
            EACH(k, taps)
            {
                const vec v = load(b + (size_t)i * l->pitch + l->place[k] + x);
                EACH(r, rows)
                {
                    if (i >= r * stride && i - r * stride < taps)
                        sum[r] += w[(i - r * stride) * taps + k] * v;
                }
            }
        }
        finish_rows(rows, p, filter, sum, y + (size_t)x * step, n);
    }
}

/* Any taps, one row. */
static void depthwise_row(const conv_product *p, const band_layout *l, const real *b, const real *w,
                          int filter, real *y)
{
    for (int x = 0; x < p->x.out; x += LANES) {
        vec sum = {0};
        for (int i = 0; i < l->taps_y; ++i) {
            for (int k = 0; k < l->taps_x; ++k)
                sum += w[i * l->taps_x + k] * load(b + (size_t)i * l->step * l->pitch + l->place[k] + x);
        }
        finish_rows(1, p, filter, &sum, y + (size_t)x * p->x.to_step, lanes_of(p->x.out - x));
    }
}

/* All rows of a band. */
INLINE void depthwise_square(int taps, int stride, const conv_product *p, const band_layout *l, int rows,
                             const real *b, const real *w, int filter, real *y)
{
    const size_t from = (size_t)OUT_ROWS * stride * l->pitch,
                 to = (size_t)OUT_ROWS * p->y.to_step * p->x.whole;
    for (; rows >= OUT_ROWS; rows -= OUT_ROWS, b += from, y += to)
        depthwise_rows(OUT_ROWS, taps, stride, p, l, b, w, filter, y);
    if (rows == 3) depthwise_rows(3, taps, stride, p, l, b, w, filter, y);
    if (rows == 2) depthwise_rows(2, taps, stride, p, l, b, w, filter, y);
    if (rows == 1) depthwise_rows(1, taps, stride, p, l, b, w, filter, y);
}
static int is_square(const band_layout *l, int taps, int stride)
{
    return l->taps_y == taps && l->taps_x == taps && l->stride == stride && (l->step == 1 || taps == 1);
}
static void depthwise_band(const conv_product *p, const band_layout *l, int rows, const real *b,
                           const real *w, int filter, real *y)
{
    if (is_square(l, 3, 1))
        depthwise_square(3, 1, p, l, rows, b, w, filter, y);
    else if (is_square(l, 3, 2))
        depthwise_square(3, 2, p, l, rows, b, w, filter, y);
    else if (is_square(l, 5, 1))
        depthwise_square(5, 1, p, l, rows, b, w, filter, y);
    else if (is_square(l, 5, 2))
        depthwise_square(5, 2, p, l, rows, b, w, filter, y);
    else {
        const size_t from = (size_t)l->stride * l->pitch, to = (size_t)p->y.to_step * p->x.whole;
        for (int i = 0; i < rows; ++i) depthwise_row(p, l, b + i * from, w, filter, y + i * to);
    }
}

/* One plane of outputs. */
static void depthwise_plane(const conv_product *p, const band_layout *l, const real *x, const real *kernel,
                            int filter, real *y, real *scratch)
{
    real w[DEPTH];
    for (int ty = 0; ty < l->taps_y; ++ty) {
        const real *from = kernel + (p->y.tap + ty * p->y.tap_step) * p->size + p->x.tap;
        real *to = w + tap_order(&p->y, ty) * l->taps_x;
        for (int tx = 0; tx < l->taps_x; ++tx) to[tap_order(&p->x, tx)] = from[tx * p->x.tap_step];
    }
    for (int from = 0; from < p->y.out; from += l->rows) {
        const int upto = at_most(from + l->rows, p->y.out);
        fill_band(p, l, x, from, upto, scratch);
        depthwise_band(p, l, upto - from, scratch, w, filter,
                       y + (size_t)(p->y.to + from * p->y.to_step) * p->x.whole + p->x.to);
    }
}

static void depthwise(const conv_product *p, const band_layout *l, const real *x, const real *w, real *y,
                      real *workspace, int threads)
{
    const size_t in = (size_t)p->y.in * p->x.in, out = (size_t)p->y.whole * p->x.whole;
#pragma omp parallel num_threads(threads)
    {
        real *const scratch = workspace + (size_t)omp_get_thread_num() * COLUMN_SCRATCH;
        set_zero(scratch, l->size);
#pragma omp for schedule(static)
        for (ptrdiff_t i = 0; i < (ptrdiff_t)p->batch * p->groups; ++i) {
            const int channel = i % p->groups;
            depthwise_plane(p, l, x + i * in, w + channel * p->group_stride, channel, y + i * out, scratch);
        }
    }
}

/* ---- the gradient of the data with stride 2: outputs (2i, 2j), (2i, 2j + 1), (2i + 1, 2j), (2i + 1, 2j + 1)
 * are four phases, each a convolution of dy with some of the taps; zeros stand for the others */

/* 1 where the phases p[2y + x] have up to 3x3 taps that stand side by side. */
static int lay_phases(const conv_product p[PHASES], band_layout *l)
{
    const tap_range y = phase_inputs(p, 0), x = phase_inputs(p, 1);
    if (p->channels != 1 || p->filters != 1 || y.low > y.high || x.low > x.high) return 0;
    if (y.high - y.low > 2 || x.high - x.low > 2) return 0;
    *l = (band_layout){.taps_y = 3, .taps_x = 3, .step = 1, .stride = 1, .first_y = y.low, .first_x = x.low};
    if (y.high - y.low < 2 && x.high - x.low < 2) l->taps_y = l->taps_x = 2;
    return make_bands(l, p->y.out, p->x.out, 1, 1);
}

/* `rows` pairs of rows of outputs, of which `live` single rows exist. */
INLINE void depthwise_pairs(int rows, int taps, const conv_product *p, const band_layout *l, const real *b,
                            const real w[PHASES][9], int live, real *y)
{
    const int columns = p->x.whole;
    for (int x = 0; x < p->x.out; x += LANES) {
        vec sum[OUT_ROWS / 2][PHASES];
        EACH(r, rows) { EACH(q, PHASES) sum[r][q] = (vec){0}; }
        EACH(i, rows - 1 + taps)
        {
            EACH(k, taps)
            {
                const vec v = load(b + (size_t)i * l->pitch + l->place[k] + x);
                EACH(r, rows)
                {
                    if (i < r || i - r >= taps) continue;
                    EACH(q, PHASES) sum[r][q] += w[q][(i - r) * taps + k] * v;
                }
            }
        }
        const int n = lanes_of(columns - 2 * x), more = lanes_of(columns - 2 * x - LANES);
        EACH(i, 2 * rows)
        {
            const vec even = sum[i / 2][i % 2 * 2], odd = sum[i / 2][i % 2 * 2 + 1];
            vec low = INTERLEAVE_LOW(even, odd), high = INTERLEAVE_HIGH(even, odd);
            real *to = y + (size_t)i * columns + 2 * x;
            if (i >= live) break;
            if (p->add) low += load_some(to, n);
            if (p->add) high += load_some(to + LANES, more);
            store_some(to, low, n);
            store_some(to + LANES, high, more);
        }
    }
}

INLINE void depthwise_phases(int taps, const conv_product *p, const band_layout *l, int from, int upto,
                             const real *b, const real w[PHASES][9], real *y)
{
    for (int i = from; i < upto; i += 2, b += 2 * l->pitch) {
        real *const to = y + (size_t)2 * i * p->x.whole;
        const int live = p->y.whole - 2 * i;
        if (upto - i > 1)
            depthwise_pairs(2, taps, p, l, b, w, live, to);
        else
            depthwise_pairs(1, taps, p, l, b, w, live, to);
    }
}

static void depthwise_data_plane(const conv_product p[PHASES], const band_layout *l, const real *dy,
                                 const real *kernel, real *dx, real *scratch)
{
    real w[PHASES][9] = {{0}};
    for (int i = 0; i < PHASES; ++i) {
        const conv_axis *y = &p[i].y, *x = &p[i].x;
        for (int t = 0; t < y->taps * x->taps; ++t) {
            const int ty = t / x->taps, tx = t % x->taps;
            w[i][(tap_input(y, ty) - l->first_y) * l->taps_x + tap_input(x, tx) - l->first_x] =
                kernel[(y->tap + ty * y->tap_step) * p->size + x->tap + tx * x->tap_step];
        }
    }
    for (int from = 0; from < p->y.out; from += l->rows) {
        const int upto = at_most(from + l->rows, p->y.out);
        fill_band(p, l, dy, from, upto, scratch);
        if (l->taps_x == 2)
            depthwise_phases(2, p, l, from, upto, scratch, w, dx);
        else
            depthwise_phases(3, p, l, from, upto, scratch, w, dx);
    }
}

static void depthwise_data(const conv_product p[PHASES], const band_layout *l, const real *dy, const real *w,
                           real *dx, real *workspace, int threads)
{
    const size_t in = (size_t)p->y.in * p->x.in, out = (size_t)p->y.whole * p->x.whole;
#pragma omp parallel num_threads(threads)
    {
        real *const scratch = workspace + (size_t)omp_get_thread_num() * COLUMN_SCRATCH;
        set_zero(scratch, l->size);
#pragma omp for schedule(static)
        for (ptrdiff_t i = 0; i < (ptrdiff_t)p->batch * p->groups; ++i) {
            depthwise_data_plane(p, l, dy + i * in, w + i % p->groups * p->group_stride, dx + i * out,
                                 scratch);
        }
    }
}

/* ---- the gradient of the weights */

/* sum[t] += products of `rows` rows of dy with the inputs that tap t reads for them. */
INLINE void depthwise_rows_gradient(int rows, int taps, int stride, const conv_product *p,
                                    const band_layout *l, const real *b, const real *dy, vec total[])
{
    vec sum[MOST_TAPS * MOST_TAPS];
    EACH(t, taps * taps) sum[t] = total[t];
    for (int x = 0; x < p->x.out; x += LANES) {
        vec d[OUT_ROWS];
        EACH(r, rows) d[r] = load_some(dy + (size_t)r * p->x.out + x, lanes_of(p->x.out - x));
        EACH(i, (rows - 1) * stride + taps)
        {
            EACH(k, taps)
            {
                const vec v = load(b + (size_t)i * l->pitch + l->place[k] + x);
                EACH(r, rows)
                {
                    if (i >= r * stride && i - r * stride < taps)
                        sum[(i - r * stride) * taps + k] += d[r] * v;
                }
            }
        }
    }
    EACH(t, taps * taps) total[t] = sum[t];
}

INLINE void depthwise_square_gradient(int taps, int stride, const conv_product *p, const band_layout *l,
                                      int rows, const real *b, const real *dy, vec sum[])
{
    const size_t from = (size_t)OUT_ROWS * stride * l->pitch, next = (size_t)OUT_ROWS * p->x.out;
    for (; rows >= OUT_ROWS; rows -= OUT_ROWS, b += from, dy += next)
        depthwise_rows_gradient(OUT_ROWS, taps, stride, p, l, b, dy, sum);
    if (rows == 3) depthwise_rows_gradient(3, taps, stride, p, l, b, dy, sum);
    if (rows == 2) depthwise_rows_gradient(2, taps, stride, p, l, b, dy, sum);
    if (rows == 1) depthwise_rows_gradient(1, taps, stride, p, l, b, dy, sum);
}

/* Any taps, one row. */
static void depthwise_row_gradient(const conv_product *p, const band_layout *l, const real *b, const real *dy,
                                   vec sum[])
{
    for (int x = 0; x < p->x.out; x += LANES) {
        const vec d = load_some(dy + x, lanes_of(p->x.out - x));
        for (int t = 0; t < l->taps_y * l->taps_x; ++t)
            sum[t] +=
                d * load(b + (size_t)(t / l->taps_x) * l->step * l->pitch + l->place[t % l->taps_x] + x);
    }
}

static void depthwise_band_gradient(const conv_product *p, const band_layout *l, int rows, const real *b,
                                    const real *dy, vec sum[])
{
    if (is_square(l, 3, 1))
        depthwise_square_gradient(3, 1, p, l, rows, b, dy, sum);
    else if (is_square(l, 3, 2))
        depthwise_square_gradient(3, 2, p, l, rows, b, dy, sum);
    else if (is_square(l, 5, 1))
        depthwise_square_gradient(5, 1, p, l, rows, b, dy, sum);
    else if (is_square(l, 5, 2))
        depthwise_square_gradient(5, 2, p, l, rows, b, dy, sum);
    else {
        const size_t from = (size_t)l->stride * l->pitch;
        for (int i = 0; i < rows; ++i)
            depthwise_row_gradient(p, l, b + i * from, dy + (size_t)i * p->x.out, sum);
    }
}

/* total[t] += the gradient of tap t from one plane; each band has sums of its own, which keeps long sums
 * exact. */
static void depthwise_plane_gradient(const conv_product *p, const band_layout *l, const real *x,
                                     const real *dy, vec total[], real *scratch)
{
    const int taps = l->taps_y * l->taps_x;
    for (int from = 0; from < p->y.out; from += l->rows) {
        const int upto = at_most(from + l->rows, p->y.out);
        vec sum[DEPTH];
        for (int t = 0; t < taps; ++t) sum[t] = (vec){0};
        fill_band(p, l, x, from, upto, scratch);
        depthwise_band_gradient(p, l, upto - from, scratch, dy + (size_t)from * p->x.out, sum);
        for (int t = 0; t < taps; ++t) total[t] += sum[t];
    }
}

static void depthwise_gradient(const conv_product *p, const band_layout *l, const real *x, const real *dy,
                               real *dw, real *workspace, int threads)
{
    const size_t in = (size_t)p->y.in * p->x.in, out = (size_t)p->y.whole * p->x.whole;
    const int taps = l->taps_y * l->taps_x;
#pragma omp parallel num_threads(threads)
    {
        real *const scratch = workspace + (size_t)omp_get_thread_num() * COLUMN_SCRATCH;
        set_zero(scratch, l->size);
#pragma omp for schedule(static)
        for (int channel = 0; channel < p->groups; ++channel) {
            vec total[DEPTH];
            for (int t = 0; t < taps; ++t) total[t] = (vec){0};
            for (int image = 0; image < p->batch; ++image) {
                const size_t plane = (size_t)image * p->groups + channel;
                depthwise_plane_gradient(p, l, x + plane * in, dy + plane * out, total, scratch);
            }
            for (int t = 0; t < taps; ++t) {
                real sum = 0;
                for (int i = 0; i < LANES; ++i) sum += total[t][i];
                dw[channel * p->group_stride + t] += sum;
            }
        }
    }
}
#endif
