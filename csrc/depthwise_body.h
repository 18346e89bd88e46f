/* One filter for each channel: too few products per value for packing columns. A band of rows is copied once,
 * with zeros around it; every tap is then a shifted read. Body of an engine. */
#ifndef DN_DEPTHWISE_BODY_H
#define DN_DEPTHWISE_BODY_H
#include "gradient_body.h"

/* Outputs of a plane in bands of `rows` rows; the copy of their inputs has rows `pitch` apart. Tap t of
 * output (i, x) of a band reads value (i * y.stride) * pitch + x * x.stride + place[t] of it. */
typedef struct {
    int rows, pitch, taps, place[DEPTH];
} band_layout;

/* 0 where this is no depthwise convolution, or a band does not fit the scratch memory. */
static int lay_bands(const conv_product *p, band_layout *l)
{
    const int taps = p->y.taps * p->x.taps, high = axis_reach(&p->y) + 1;
    const ptrdiff_t pitch = (ptrdiff_t)round_up(p->x.out, LANES) * p->x.stride + axis_reach(&p->x) + LANES;
    if (p->channels != 1 || p->filters != 1 || taps < 1 || taps > DEPTH || high * pitch > COLUMN_SCRATCH)
        return 0;
    l->pitch = (int)pitch;
    l->taps = taps;
    l->rows = at_most((COLUMN_SCRATCH / l->pitch - high) / p->y.stride + 1, p->y.out);
    for (int t = 0; t < taps; ++t) {
        const int y = tap_input(&p->y, t / p->x.taps) - lowest_input(&p->y),
                  x = tap_input(&p->x, t % p->x.taps) - lowest_input(&p->x);
        l->place[t] = y * l->pitch + x;
    }
    return 1;
}

/* The inputs of output rows from .. upto of one plane. */
static void fill_band(const conv_product *p, const band_layout *l, const real *plane, int from, int upto,
                      real *out)
{
    const int first = from * p->y.stride + lowest_input(&p->y),
              rows = (upto - from - 1) * p->y.stride + axis_reach(&p->y) + 1;
    const int x = lowest_input(&p->x), skip = x < 0 ? at_most(-x, l->pitch) : 0;
    const int live = at_most(p->x.in - x, l->pitch) - skip; /* columns skip .. skip + live lie in the image */
    for (int y = first; y < first + rows; ++y, out += l->pitch) {
        const int inside = y >= 0 && y < p->y.in && live > 0;
        set_zero(out, inside ? skip : l->pitch);
        if (!inside) continue;
        copy(out + skip, plane + (ptrdiff_t)y * p->x.in + x + skip, live);
        set_zero(out + skip + live, l->pitch - skip - live);
    }
}

/* p[0], p[stride], ... as one vector. */
INLINE vec load_every(const real *p, int stride)
{
    real t[LANES];
    if (stride == 1) return load(p);
    if (stride == 2) return EVEN_LANES(load(p), load(p + LANES));
    for (int i = 0; i < LANES; ++i) t[i] = p[i * stride];
    return load(t);
}

/* One row of outputs; b is the band where the row begins, y the row in memory. stride is x.stride, as a
 * constant where it is small. */
INLINE void depthwise_row(const conv_product *p, const band_layout *l, const real *b, const real *w,
                          int filter, int stride, real *y)
{
    const int step = p->x.to_step;
    for (int x = 0; x < p->x.out; x += LANES, b += LANES * stride, y += LANES * step) {
        const int n = at_most(LANES, p->x.out - x);
        vec sum = {0};
        real line[LANES] = {0};
        for (int t = 0; t < l->taps; ++t) sum += w[t] * load_every(b + l->place[t], stride);
        if (p->add) {
            copy_strided(line, y, n, step, 0);
            sum += load(line);
        }
        if (p->epilogue) finish(1, 1, p->epilogue, filter, &sum);
        if (step == 1 && n == LANES) {
            store(y, sum);
            continue;
        }
        store(line, sum);
        for (int i = 0; i < n; ++i) y[(size_t)i * step] = line[i];
    }
}

/* One plane of outputs. */
static void depthwise_plane(const conv_product *p, const band_layout *l, const real *x, const real *kernel,
                            int filter, real *y, real *scratch)
{
    real w[DEPTH];
    for (int t = 0; t < l->taps; ++t) {
        const int ky = p->y.tap + t / p->x.taps * p->y.tap_step,
                  kx = p->x.tap + t % p->x.taps * p->x.tap_step;
        w[t] = kernel[ky * p->size + kx];
    }
    for (int from = 0; from < p->y.out; from += l->rows) {
        const int upto = at_most(from + l->rows, p->y.out);
        fill_band(p, l, x, from, upto, scratch);
        for (int i = from; i < upto; ++i) {
            const real *b = scratch + (size_t)(i - from) * p->y.stride * l->pitch;
            real *to = y + (size_t)(p->y.to + i * p->y.to_step) * p->x.whole + p->x.to;
            if (p->x.stride == 1) depthwise_row(p, l, b, w, filter, 1, to);
            else if (p->x.stride == 2) depthwise_row(p, l, b, w, filter, 2, to);
            else depthwise_row(p, l, b, w, filter, p->x.stride, to);
        }
    }
}

static void depthwise(const conv_product *p, const band_layout *l, const real *x, const real *w, real *y,
                      real *workspace, int threads)
{
    const size_t in = (size_t)p->y.in * p->x.in, out = (size_t)p->y.whole * p->x.whole;
    #pragma omp parallel for num_threads(threads) schedule(static)
    for (ptrdiff_t i = 0; i < (ptrdiff_t)p->batch * p->groups; ++i) {
        const int channel = i % p->groups;
        depthwise_plane(p, l, x + i * in, w + channel * p->group_stride, channel, y + i * out,
            workspace + (size_t)omp_get_thread_num() * COLUMN_SCRATCH);
    }
}

/* sum[t] += products of one row of dy with the inputs that tap t reads for it. */
INLINE void depthwise_row_gradient(const conv_product *p, const band_layout *l, const real *b, const real *dy,
                                   int stride, vec sum[])
{
    for (int x = 0; x < p->x.out; x += LANES, b += LANES * stride, dy += LANES) {
        real line[LANES] = {0};
        if (p->x.out - x < LANES) copy(line, dy, p->x.out - x);
        const vec d = p->x.out - x < LANES ? load(line) : load(dy);
        for (int t = 0; t < l->taps; ++t) sum[t] += d * load_every(b + l->place[t], stride);
    }
}

/* total[t] += the gradient of tap t from one plane; each band has sums of its own, which keeps long sums
 * exact. */
static void depthwise_plane_gradient(const conv_product *p, const band_layout *l, const real *x,
                                     const real *dy, vec total[], real *scratch)
{
    for (int from = 0; from < p->y.out; from += l->rows) {
        const int upto = at_most(from + l->rows, p->y.out);
        vec sum[DEPTH];
        for (int t = 0; t < l->taps; ++t) sum[t] = (vec){0};
        fill_band(p, l, x, from, upto, scratch);
        for (int i = from; i < upto; ++i) {
            const real *b = scratch + (size_t)(i - from) * p->y.stride * l->pitch,
                       *row = dy + (size_t)i * p->x.out;
            if (p->x.stride == 1) depthwise_row_gradient(p, l, b, row, 1, sum);
            else if (p->x.stride == 2) depthwise_row_gradient(p, l, b, row, 2, sum);
            else depthwise_row_gradient(p, l, b, row, p->x.stride, sum);
        }
        for (int t = 0; t < l->taps; ++t) total[t] += sum[t];
    }
}

static void depthwise_gradient(const conv_product *p, const band_layout *l, const real *x, const real *dy,
                               real *dw, real *workspace, int threads)
{
    const size_t in = (size_t)p->y.in * p->x.in, out = (size_t)p->y.whole * p->x.whole;
    #pragma omp parallel for num_threads(threads) schedule(static)
    for (int channel = 0; channel < p->groups; ++channel) {
        vec total[DEPTH];
        for (int t = 0; t < l->taps; ++t) total[t] = (vec){0};
        for (int image = 0; image < p->batch; ++image) {
            const size_t plane = (size_t)image * p->groups + channel;
            depthwise_plane_gradient(p, l, x + plane * in, dy + plane * out, total,
                workspace + (size_t)omp_get_thread_num() * COLUMN_SCRATCH);
        }
        for (int t = 0; t < l->taps; ++t) {
            real sum = 0;
            for (int i = 0; i < LANES; ++i) sum += total[t][i];
            dw[channel * p->group_stride + t] += sum;
        }
    }
}
#endif
