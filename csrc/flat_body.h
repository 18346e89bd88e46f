/* Depthwise convolutions with 3x3 and 5x5 taps that keep the size of an image, or halve it: a plane is one
 * long row. Tap (ky, kx) moves it by (ky - pad) rows of `width` values and by kx - pad further ones, whatever
 * the size of the image; so vectors are full even of images of 7x7, and nothing is copied. Moves by rows are
 * where a vector is loaded from; moves by columns are made once, of sums:
 *     y[p] = sum over kx of S[kx][p + kx - pad],  S[kx][q] = sum over ky of w[ky][kx] x[q + (ky - pad) width]
 * where S counts only if p + kx - pad is in the row of p. Which lanes do is the same for all planes: a table.
 * With stride 2 a plane is split in four parts, of even and odd rows and columns: each is again a long row,
 * of the outputs' width, and meets some of the taps. Body of an engine. */
#ifndef DN_FLAT_BODY_H
#define DN_FLAT_BODY_H
#include "depthwise_body.h"

enum { PLANES = 2 };  /* made together, of two images: they share weights and the table */
enum { AHEAD = 512 }; /* how far ahead what is split next is asked for */
/* The table has so much of the workspace, and so has each thread. */
enum { FLAT_SCRATCH = COLUMN_SCRATCH / 2 };

/* The lanes that count of a vector at place q, which holds positions p = q - lag: sums of the vector before
 * are at hand but not those of the next, so outputs come as many places later as a move reaches ahead. */
typedef struct {
    lane_set row[MOST_TAPS];    /* where q, moved by so many rows, is in the plane */
    lane_set column[MOST_TAPS]; /* where p, moved by so many columns, is in its row */
    lane_set out;               /* where p is in the plane */
} flat_lanes;

typedef struct {
    const conv_product *p;
    int taps, stride;
    int width, height; /* of the smaller image, and so of parts */
    int part;          /* distance of parts */
    int vectors;
    flat_lanes *lanes;
    real *scratch;                    /* FLAT_SCRATCH values for each thread */
    int place[MOST_TAPS * MOST_TAPS]; /* of tap (ky, kx) in the kernel */
} flat_plan;

/* Tap k of an axis reads place floor((k - pad) / stride) further, in part (k - pad) mod stride. */
INLINE int tap_part(int taps, int stride, int k) { return (k + taps / 2) % stride; }
INLINE int tap_move(int taps, int stride, int k)
{
    return (k - taps / 2 - tap_part(taps, stride, k)) / stride;
}
INLINE int highest_move(int taps, int stride) { return tap_move(taps, stride, taps - 1); }
INLINE int moves_of(int taps, int stride)
{
    return highest_move(taps, stride) - tap_move(taps, stride, 0) + 1;
}

/* The table for `moves` moves from `low` on, by rows and, times `sign`, by columns. Columns repeat after
 * `period` vectors. */
static void fill_lanes(flat_plan *f, int moves, int low, int lag, int sign)
{
    const int width = f->width, area = width * f->height, period = width / greatest_divisor(width, LANES);
    f->vectors = round_up(area + lag, LANES) / LANES;
    for (int v = 0; v < f->vectors; ++v) {
        flat_lanes *l = &f->lanes[v];
        const int q = v * LANES;
        l->out = lanes_within(q - lag, area);
        for (int m = 0; m < moves; ++m) {
            const int move = sign * (low + m);
            l->row[m] = lanes_within(q + (low + m) * width, area);
            l->column[m] = v < period ? 0 : l[-period].column[m];
            for (int i = 0, x = (q + width - lag % width) % width; i < LANES && v < period; ++i, ++x) {
                if (x == width) x = 0;
                if (x + move >= 0 && x + move < width) l->column[m] |= 1 << i;
            }
        }
    }
    for (int v = 0; v < f->vectors; ++v) {
        for (int m = 0; m < moves; ++m) f->lanes[v].column[m] &= f->lanes[v].out;
    }
}

/* Is there room for the table, and for so many parts of planes? */
static int fits_flat(flat_plan *f, real *workspace, int parts)
{
    const int64_t area = (int64_t)f->width * f->height, vectors = (area + MOST_TAPS) / LANES + 1;
    f->lanes = (flat_lanes *)workspace;
    f->scratch = workspace + FLAT_SCRATCH;
    f->part = (area < FLAT_SCRATCH ? (int)area : FLAT_SCRATCH) + 2 * LANES;
    return f->taps - 1 <= LANES &&
           vectors * (int64_t)sizeof(flat_lanes) <= FLAT_SCRATCH * (int64_t)sizeof(real) &&
           parts * (int64_t)f->part <= FLAT_SCRATCH;
}

/* Does an axis keep the size of an image, or halve it? */
static int is_flat_axis(const conv_axis *a, int taps)
{
    return a->taps == taps && tap_offset(a, 1) == 1 && lowest_input(a) == -(taps / 2) &&
           (a->stride == 1 || a->stride == 2) && a->out == (int)pieces(a->in, a->stride) && a->to_step == 1 &&
           a->out == a->whole;
}

static int is_flat(const conv_product *p)
{
    const int taps = p->y.taps;
    return p->channels == 1 && p->filters == 1 && p->x.stride == p->y.stride && (taps == 3 || taps == 5) &&
           is_flat_axis(&p->y, taps) && is_flat_axis(&p->x, taps);
}
/* Where the kernel has tap (ky, kx), counted from the lowest input. */
static void place_taps(const conv_product *p, int place[])
{
    for (int t = 0; t < p->y.taps * p->x.taps; ++t) {
        const int ky = tap_order(&p->y, t / p->x.taps), kx = tap_order(&p->x, t % p->x.taps);
        place[t] = (p->y.tap + ky * p->y.tap_step) * p->size + p->x.tap + kx * p->x.tap_step;
    }
}

/* 0 where other loops are for a product; `gradient`: of the weights. */
static int plan_flat(const conv_product *p, int gradient, flat_plan *f, real *workspace)
{
    const int taps = p->y.taps, stride = p->y.stride;
    if (!is_flat(p)) return 0;
    *f = (flat_plan){.p = p, .taps = taps, .stride = stride, .width = p->x.out, .height = p->y.out};
    place_taps(p, f->place);
    if (!fits_flat(f, workspace, stride == 1 ? 0 : 4 * PLANES)) return 0;
    fill_lanes(f, moves_of(taps, stride), tap_move(taps, stride, 0),
               gradient ? 0 : highest_move(taps, stride), gradient ? -1 : 1);
    return 1;
}

/* Even and odd columns of a row. Whole vectors are written: what is beyond a row is written again with the
 * next. */
INLINE void split_row(const real *from, int n, lane_set first, lane_set second, real *even, real *odd)
{
    int x = 0;
    for (; 2 * x + 2 * LANES <= n; x += LANES) {
        const vec a = load(from + 2 * x), b = load(from + 2 * x + LANES);
        __builtin_prefetch(from + 2 * x + AHEAD);
        __builtin_prefetch(from + 2 * x + LANES + AHEAD);
        store(even + x, EVEN_LANES(a, b));
        store(odd + x, ODD_LANES(a, b));
    }
    const vec a = load_lanes(from + 2 * x, first), b = load_lanes(from + 2 * x + LANES, second);
    store(even + x, EVEN_LANES(a, b));
    store(odd + x, ODD_LANES(a, b));
}

/* The four parts of a plane, 2 * (row mod 2) + column mod 2. */
static void split_plane(const flat_plan *f, const real *plane, real *parts)
{
    const int n = f->p->x.in, rows = f->p->y.in, part = f->part;
    const lane_set first = lanes_within(0, n <= LANES ? n : n % (2 * LANES)),
                   second = lanes_within(LANES, n % (2 * LANES));
    for (int y = 0; y < rows; ++y, plane += n) {
        real *to = parts + (y % 2 ? 2 * part : 0) + (size_t)(y / 2) * f->width;
        if (n <= LANES)
            store_parted(to, to + part, load_lanes(plane, first));
        else
            split_row(plane, n, first, second, to, to + part);
    }
    if (rows % 2) {
        set_zero(parts + 2 * part + (size_t)(rows / 2) * f->width, f->width);
        set_zero(parts + 3 * part + (size_t)(rows / 2) * f->width, f->width);
    }
}

/* What is read for a plane: itself, or its parts. */
static const real *parts_of(const flat_plan *f, const real *plane, real *parts)
{
    if (f->stride == 1) return plane;
    split_plane(f, plane, parts);
    return parts;
}

/* Sums become outputs: those of move m, `moves` - 1 - m places later. */
INLINE vec add_moves(int moves, int lag, const vec before[], const vec sum[], const flat_lanes *l)
{
    vec y = shift_in(before[moves - 1 - lag], sum[moves - 1 - lag], lag);
    EACH(m, moves)
    {
        if (m == moves - 1 - lag) continue;
        y = add_lanes(y, shift_in(before[m], sum[m], moves - 1 - m), l->column[m]);
    }
    return y;
}

/* The outputs of one filter in n planes, 1 or 2: they share what is loaded of weights and of the table. */
INLINE void flat_sums(int taps, int stride, int n, const flat_plan *f, const real *const plane[],
                      const real *kernel, int filter, real *const to[])
{
    const conv_product *p = f->p;
    const int low = tap_move(taps, stride, 0), moves = moves_of(taps, stride),
              lag = highest_move(taps, stride);
    const flat_lanes *l = f->lanes;
    const real *x[PLANES];
    real *y[PLANES], w[MOST_TAPS * MOST_TAPS];
    vec before[PLANES][MOST_TAPS];
    EACH(t, taps * taps) w[t] = kernel[f->place[t]];
    EACH(i, n)
    {
        x[i] = plane[i];
        y[i] = to[i] - lag;
        EACH(m, moves) before[i][m] = (vec){0};
    }
    for (int v = 0; v < f->vectors; ++v, ++l) {
        vec sum[PLANES][MOST_TAPS], out[PLANES];
        EACH(i, n) { EACH(m, moves) sum[i][m] = (vec){0}; }
        EACH(k, taps * stride)
        {
            const int ky = k / stride, part = k % stride, move = tap_move(taps, stride, ky);
            const ptrdiff_t at = (ptrdiff_t)(tap_part(taps, stride, ky) * stride + part) * f->part +
                                 (ptrdiff_t)move * f->width + (ptrdiff_t)v * LANES;
            vec a[PLANES];
            EACH(i, n) a[i] = load_lanes(x[i] + at, l->row[move - low]);
            EACH(kx, taps)
            {
                if (tap_part(taps, stride, kx) != part) continue;
                EACH(i, n) sum[i][tap_move(taps, stride, kx) - low] += w[ky * taps + kx] * a[i];
            }
        }
        EACH(i, n)
        {
            real *const at = y[i] + (ptrdiff_t)v * LANES;
            out[i] = add_moves(moves, lag, before[i], sum[i], l);
            EACH(m, moves) before[i][m] = sum[i][m];
            if (p->add) out[i] += load_lanes(at, l->out);
            if (p->epilogue) finish(1, 1, p->epilogue, filter, &out[i]);
            store_lanes(at, out[i], l->out);
        }
    }
}

/* Calls with constant taps and strides. */
#define FLAT_CASES(f, call, ...) \
    do { \
        if ((f)->taps == 3 && (f)->stride == 1) \
            call(3, 1, __VA_ARGS__); \
        else if ((f)->taps == 3) \
            call(3, 2, __VA_ARGS__); \
        else if ((f)->stride == 1) \
            call(5, 1, __VA_ARGS__); \
        else \
            call(5, 2, __VA_ARGS__); \
    } while (0)

static void flat_one(const flat_plan *f, const real *const x[], const real *kernel, int filter,
                     real *const y[])
{
    FLAT_CASES(f, flat_sums, 1, f, x, kernel, filter, y);
}
static void flat_several(const flat_plan *f, const real *const x[], const real *kernel, int filter,
                         real *const y[])
{
    FLAT_CASES(f, flat_sums, PLANES, f, x, kernel, filter, y);
}

/* A channel of up to PLANES images. */
static void flat_forward(const flat_plan *f, int image, int channel, const real *x, const real *kernel,
                         real *y, real *parts)
{
    const conv_product *p = f->p;
    const size_t in = (size_t)p->y.in * p->x.in, out = (size_t)p->y.out * p->x.out;
    const int n = at_most(PLANES, p->batch - image);
    const real *from[PLANES];
    real *to[PLANES];
    for (int i = 0; i < n; ++i, parts += 4 * f->part) {
        const size_t plane = (size_t)(image + i) * p->groups + channel;
        from[i] = parts_of(f, x + plane * in, parts);
        to[i] = y + plane * out;
    }
    if (n == PLANES)
        flat_several(f, from, kernel, channel, to);
    else
        flat_one(f, from, kernel, channel, to);
}

/* All channels of all images, PLANES images at a time. */
typedef void (*flat_pass)(const flat_plan *f, int image, int channel, const real *from, const real *kernel,
                          real *to, real *scratch);
static void run_flat(const flat_plan *f, flat_pass pass, const real *from, const real *w, real *to,
                     int threads)
{
    const conv_product *p = f->p;
#pragma omp parallel num_threads(threads)
    {
        real *const scratch = f->scratch + (size_t)omp_get_thread_num() * FLAT_SCRATCH;
#pragma omp for schedule(static)
        for (ptrdiff_t i = 0; i < pieces(p->batch, PLANES) * p->groups; ++i) {
            const int channel = i % p->groups, image = i / p->groups * PLANES;
            pass(f, image, channel, from, w + channel * p->group_stride, to, scratch);
        }
    }
}

/* ---- the gradient of the weights: each move by rows of x times each move by columns of dy */

/* total[t] += that of tap t from n planes. */
INLINE void flat_products(int taps, int stride, const flat_plan *f, int n, const real *const plane[],
                          const real *const delta[], vec total[])
{
    const int low = tap_move(taps, stride, 0), moves = moves_of(taps, stride);
    vec sum[MOST_TAPS * MOST_TAPS];
    EACH(t, taps * taps) sum[t] = (vec){0};
    for (int i = 0; i < n; ++i) {
        const real *x = plane[i], *dy = delta[i];
        const flat_lanes *l = f->lanes, *end = l + f->vectors;
        for (; l < end; ++l, x += LANES, dy += LANES) {
            vec d[MOST_TAPS];
            EACH(m, moves) d[m] = load_lanes(dy - (low + m), l->column[m]);
            EACH(k, taps * stride)
            {
                const int ky = k / stride, part = k % stride, move = tap_move(taps, stride, ky);
                const ptrdiff_t at = (ptrdiff_t)(tap_part(taps, stride, ky) * stride + part) * f->part +
                                     (ptrdiff_t)move * f->width;
                const vec a = load_lanes(x + at, l->row[move - low]);
                EACH(kx, taps)
                {
                    if (tap_part(taps, stride, kx) != part) continue;
                    sum[ky * taps + kx] += a * d[tap_move(taps, stride, kx) - low];
                }
            }
        }
    }
    EACH(t, taps * taps) total[t] += sum[t];
}

/* total[t] += that of tap t from some images of a channel. */
static void flat_images_gradient(const flat_plan *f, int image, int channel, const real *x, const real *dy,
                                 vec total[], real *parts)
{
    const conv_product *p = f->p;
    const size_t in = (size_t)p->y.in * p->x.in, out = (size_t)p->y.out * p->x.out;
    const int n = at_most(PLANES, p->batch - image);
    const real *from[PLANES], *delta[PLANES];
    for (int i = 0; i < n; ++i, parts += 4 * f->part) {
        const size_t plane = (size_t)(image + i) * p->groups + channel;
        from[i] = parts_of(f, x + plane * in, parts);
        delta[i] = dy + plane * out;
    }
    FLAT_CASES(f, flat_products, f, n, from, delta, total);
}

/* to[t] += all lanes of total[t], t < taps. */
static void add_totals(vec total[], int taps, real *to)
{
    for (int t = 0; t < taps; t += LANES) {
        const int n = lanes_of(taps - t);
        store_some(to + t, load_some(to + t, n) + totals(total + t), n);
    }
}

static void flat_gradient(const flat_plan *f, const real *x, const real *dy, real *dw, int threads)
{
    const conv_product *p = f->p;
#pragma omp parallel num_threads(threads)
    {
        real *const parts = f->scratch + (size_t)omp_get_thread_num() * FLAT_SCRATCH;
#pragma omp for schedule(static)
        for (int channel = 0; channel < p->groups; ++channel) {
            vec total[MOST_TAPS * MOST_TAPS + LANES];
            for (int t = 0; t < round_up(f->taps * f->taps, LANES); ++t) total[t] = (vec){0};
            for (int image = 0; image < p->batch; image += PLANES)
                flat_images_gradient(f, image, channel, x, dy, total, parts);
            add_totals(total, f->taps * f->taps, dw + channel * p->group_stride);
        }
    }
}
#undef FLAT_CASES

/* ---- the gradient of the data with stride 2: outputs (2i + y, 2j + x) are four phases, each a sum of moves
 * of dy; tap k counts in phase (k + pad) mod 2 and moves by (phase + pad - k) / 2 */

INLINE int phase_move(int taps, int phase, int k) { return (phase + taps / 2 - k) / 2; }

/* Rows 2i + phase of outputs, their even and odd columns side by side: a long row of 2 * width each. */
INLINE void flat_phase(int taps, int phase, const flat_plan *f, const real *dy, const real *kernel, real *out)
{
    const int lag = (taps / 2 + 1) / 2, low = -(taps / 2 / 2), moves = lag - low + 1;
    const flat_lanes *l = f->lanes;
    real w[MOST_TAPS * MOST_TAPS];
    vec before[2][MOST_TAPS] = {{{0}}};
    EACH(t, taps * taps) w[t] = kernel[t];
    out -= 2 * lag;
    for (int v = 0; v < f->vectors; ++v, ++l, dy += LANES, out += 2 * LANES) {
        vec sum[2][MOST_TAPS];
        EACH(m, moves) sum[0][m] = sum[1][m] = (vec){0};
        EACH(i, (taps + 1) / 2)
        {
            const int ky = (taps / 2 + phase) % 2 + 2 * i, move = phase_move(taps, phase, ky);
            if (ky >= taps) continue;
            const vec a = load_lanes(dy + (ptrdiff_t)move * f->width, l->row[move - low]);
            EACH(kx, taps)
            {
                const int column = (kx + taps / 2) % 2;
                sum[column][phase_move(taps, column, kx) - low] += w[ky * taps + kx] * a;
            }
        }
        const vec even = add_moves(moves, lag, before[0], sum[0], l),
                  odd = add_moves(moves, lag, before[1], sum[1], l);
        EACH(m, 2 * moves) before[m / moves][m % moves] = sum[m / moves][m % moves];
        store(out, INTERLEAVE_LOW(even, odd));
        store(out + LANES, INTERLEAVE_HIGH(even, odd));
    }
}

/* Are p[2y + x] the phases of such a convolution? */
static int are_flat_phases(const conv_product p[PHASES])
{
    const int taps = p->size;
    if (p->channels != 1 || p->filters != 1 || (taps != 3 && taps != 5)) return 0;
    for (int i = 0; i < 4; ++i) {
        const conv_axis *a = i < 2 ? &p[i].x : &p[(i - 2) * 2].y;
        if (a->taps != (taps + 1 - (taps / 2 + i) % 2) / 2 || a->step != -1 || a->tap_step != 2 ||
            2 * a->first + a->tap - a->to != taps / 2 || a->in != (a->whole + 1) / 2)
            return 0;
    }
    return 1;
}

/* 0 where other loops are for the phases: also of large images, whose long rows would leave the cache. */
static int plan_flat_phases(const conv_product p[PHASES], flat_plan *f, real *workspace)
{
    enum { CACHED = 4 }; /* of what there is */
    const int taps = p->size, lag = (taps / 2 + 1) / 2, low = -(taps / 2 / 2);
    if (!are_flat_phases(p)) return 0;
    *f = (flat_plan){.p = p, .taps = taps, .stride = 2, .width = p->x.in, .height = p->y.in};
    if (!fits_flat(f, workspace, CACHED * 4 * PLANES)) return 0;
    fill_lanes(f, lag - low + 1, low, lag, 1);
    return 1;
}

/* Both phases of rows, each a long row of `rows`. */
static void flat_phases(const flat_plan *f, const real *dy, const real *kernel, real *const rows[])
{
    if (f->taps == 3) {
        flat_phase(3, 0, f, dy, kernel, rows[0]);
        flat_phase(3, 1, f, dy, kernel, rows[1]);
    } else {
        flat_phase(5, 0, f, dy, kernel, rows[0]);
        flat_phase(5, 1, f, dy, kernel, rows[1]);
    }
}

/* The rows of a plane from the two long ones. */
static void merge_rows(const flat_plan *f, const real *const rows[], real *dx)
{
    const int n = f->p->x.whole, add = f->p->add, whole = n / LANES * LANES;
    const lane_set rest = lanes_within(whole, n);
    for (int y = 0; y < f->p->y.whole; ++y, dx += n) {
        const real *from = rows[y % 2] + (size_t)(y / 2) * 2 * f->width;
        for (int x = 0; x < whole; x += LANES)
            store(dx + x, add ? load(from + x) + load(dx + x) : load(from + x));
        const vec last = load(from + whole);
        store_lanes(dx + whole, add ? last + load_lanes(dx + whole, rest) : last, rest);
    }
}

/* A channel of up to PLANES images. */
static void flat_data(const flat_plan *f, int image, int channel, const real *dy, const real *kernel,
                      real *dx, real *scratch)
{
    const conv_product *p = f->p;
    const size_t in = (size_t)p->y.in * p->x.in, out = (size_t)p->y.whole * p->x.whole;
    const int n = at_most(PLANES, p->batch - image);
    real *rows[PLANES][2];
    for (int i = 0; i < n; ++i, scratch += 4 * f->part) {
        const size_t plane = (size_t)(image + i) * p->groups + channel;
        rows[i][0] = scratch + 2;
        rows[i][1] = rows[i][0] + 2 * f->part;
        flat_phases(f, dy + plane * in, kernel, rows[i]);
    }
    for (int i = 0; i < n; ++i)
        merge_rows(f, (const real *const *)rows[i], dx + ((size_t)(image + i) * p->groups + channel) * out);
}
#endif
