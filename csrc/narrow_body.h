/* Depthwise convolutions with 3x3 and 5x5 taps that halve an image whose rows of outputs fit a vector, or
 * half of one: then a vector has two rows. Of the large image a vector's lanes read as many rows, as two
 * vectors that are parted in their even and odd lanes; tap kx of output j is lane j + move of one of both,
 * and outputs as well as sums for them stand still:
 *     y[j] = sum over kx of S[kx][j + move],  S[kx] = sum over ky of w[ky][kx] part[kx mod 2]
 * Body of an engine. */
#ifndef DN_NARROW_BODY_H
#define DN_NARROW_BODY_H
#include "flat_body.h"

enum { MOST_MOVES = 3 };           /* by a column: back, none, forward */
enum { LINE = 64 / sizeof(real) }; /* values of a line of the cache */

typedef struct {
    const conv_product *p;
    int taps;
    int width, height;       /* of the small image */
    int columns, rows;       /* of the large one */
    int second;              /* 1: a vector's upper half is the next row of the small image */
    ptrdiff_t gap;           /* in the large image, from what the lower half reads to what the upper does */
    lane_set lower, upper;   /* lanes of both vectors that a large row, or two, are read as */
    lane_set own, other;     /* lanes of a small row, and of the next one */
    lane_set not_first, not_last; /* lanes with a neighbour in their row, before and behind */
    int place[MOST_TAPS * MOST_TAPS]; /* of tap (ky, kx) in the kernel */
} narrow_plan;

/* 0 where a row does not fit. The other fields are set. */
static int plan_rows(narrow_plan *f)
{
    const int half = LANES / 2, n = f->width;
    f->second = n <= half;
    f->gap = f->second ? 2 * f->columns : LANES;
    f->lower = lanes_within(0, f->columns);
    f->upper = f->second ? f->lower : lanes_within(LANES, f->columns);
    f->own = lanes_within(0, n);
    f->other = f->second ? lanes_within(-half, n) : 0;
    f->not_first = lanes_within(-1, n - 1) | (f->second ? lanes_within(-half - 1, n - 1) : 0);
    f->not_last = lanes_within(0, n - 1) | (f->second ? lanes_within(-half, n - 1) : 0);
    return n <= LANES;
}

/* 0 where other loops are for a product; `gradient`: of the weights, for which 5x5 taps are too many to
 * hold. */
static int plan_narrow(const conv_product *p, int gradient, narrow_plan *f)
{
    if (!is_flat(p) || p->y.stride != 2 || (gradient && p->y.taps != 3)) return 0;
    *f = (narrow_plan){.p = p,
                       .taps = p->y.taps,
                       .width = p->x.out,
                       .height = p->y.out,
                       .columns = p->x.in,
                       .rows = p->y.in};
    place_taps(p, f->place);
    return plan_rows(f);
}
static int plan_narrow_phases(const conv_product p[PHASES], narrow_plan *f)
{
    if (!are_flat_phases(p)) return 0;
    *f = (narrow_plan){.p = p,
                       .taps = p->size,
                       .width = p->x.in,
                       .height = p->y.in,
                       .columns = p->x.whole,
                       .rows = p->y.whole};
    return plan_rows(f);
}

/* Those of a set that row y and, in the upper half, the next but one of the large image have; `small` and the
 * next are the rows of the small one. */
INLINE lane_set lower_lanes(const narrow_plan *f, int y) { return y >= 0 && y < f->rows ? f->lower : 0; }
INLINE lane_set upper_lanes(const narrow_plan *f, int y, int small)
{
    y += 2 * f->second;
    return y >= 0 && y < f->rows && small + f->second < f->height ? f->upper : 0;
}
/* Even and odd columns of row y of a large image, beside those of the next but one. */
INLINE void part_row(const narrow_plan *f, const real *plane, int y, int small, vec part[2])
{
    const real *row = plane + (ptrdiff_t)y * f->columns;
    const vec a = load_lanes(row, lower_lanes(f, y)), b = load_lanes(row + f->gap, upper_lanes(f, y, small));
    part[0] = EVEN_LANES(a, b);
    part[1] = ODD_LANES(a, b);
}
/* Row y of a small image beside the next one. */
INLINE lane_set own_lanes(const narrow_plan *f, int y) { return y >= 0 && y < f->height ? f->own : 0; }
INLINE lane_set other_lanes(const narrow_plan *f, int y)
{
    return y + 1 >= 0 && y + 1 < f->height ? f->other : 0;
}
INLINE vec load_rows(const narrow_plan *f, const real *plane, int y)
{
    const real *row = plane + (ptrdiff_t)y * f->width;
    return load_lanes(row, own_lanes(f, y)) + load_lanes(row + f->width - LANES / 2, other_lanes(f, y));
}

/* Lane j gets lane j + move of its row; 0 from beyond. */
INLINE vec move_lanes(const narrow_plan *f, vec v, int move)
{
    const vec zero = {0};
    if (!move) return v;
    return move < 0 ? add_lanes(zero, shift_in(zero, v, 1), f->not_first)
                    : add_lanes(zero, shift_in(v, zero, LANES - 1), f->not_last);
}
/* The sum of sum[move - low], moved. */
INLINE vec add_moved(const narrow_plan *f, int low, int moves, const vec sum[])
{
    vec y = sum[-low];
    EACH(m, moves)
    {
        if (m != -low) y += move_lanes(f, sum[m], low + m);
    }
    return y;
}

/* Asks for what is read soon, as many rows as are read now. With 3x3 taps memory is the limit. */
INLINE void ask_ahead(const narrow_plan *f, const real *plane, int i)
{
    const real *row = plane + (ptrdiff_t)2 * i * f->columns + AHEAD;
    for (int n = (2 << f->second) * f->columns; n > 0; n -= LINE, row += LINE) __builtin_prefetch(row);
}

/* The outputs of a filter in a plane. */
INLINE void narrow_sums(int taps, const narrow_plan *f, const real *plane, const real *kernel, int filter,
                        real *y)
{
    const conv_product *p = f->p;
    const int low = tap_move(taps, 2, 0), moves = moves_of(taps, 2);
    real w[MOST_TAPS * MOST_TAPS];
    EACH(t, taps * taps) w[t] = kernel[f->place[t]];
    for (int i = 0; i < f->height; i += 1 + f->second) {
        real *const to = y + (ptrdiff_t)i * f->width, *const next = to + f->width - LANES / 2;
        vec sum[MOST_MOVES], out;
        if (taps == 3) ask_ahead(f, plane, i);
        EACH(m, moves) sum[m] = (vec){0};
        EACH(ky, taps)
        {
            vec part[2];
            part_row(f, plane, 2 * i + ky - taps / 2, i, part);
            EACH(kx, taps)
            sum[tap_move(taps, 2, kx) - low] += w[ky * taps + kx] * part[tap_part(taps, 2, kx)];
        }
        out = add_moved(f, low, moves, sum);
        if (p->add) out += load_rows(f, y, i);
        if (p->epilogue) finish(1, 1, p->epilogue, filter, &out);
        store_lanes(to, out, f->own);
        store_lanes(next, out, other_lanes(f, i));
    }
}

/* total[t] += the gradient of tap t of 3x3 from a plane. */
static void narrow_products(const narrow_plan *f, const real *plane, const real *delta, vec total[])
{
    enum { TAPS = 3 };
    vec sum[TAPS * TAPS];
    EACH(t, TAPS * TAPS) sum[t] = (vec){0};
    for (int i = 0; i < f->height; i += 1 + f->second) {
        const vec d = load_rows(f, delta, i);
        ask_ahead(f, plane, i);
        EACH(ky, TAPS)
        {
            vec part[2];
            part_row(f, plane, 2 * i + ky - TAPS / 2, i, part);
            EACH(kx, TAPS)
            sum[ky * TAPS + kx] += d * move_lanes(f, part[tap_part(TAPS, 2, kx)], tap_move(TAPS, 2, kx));
        }
    }
    EACH(t, TAPS * TAPS) total[t] += sum[t];
}

/* The gradient of the data: outputs (2i + y, 2j + x) are four phases; see flat_body.h. */
INLINE void narrow_phases(int taps, const narrow_plan *f, const real *dy, const real *kernel, real *dx)
{
    const int low = -(taps / 2 / 2), moves = (taps / 2 + 1) / 2 - low + 1, add = f->p->add;
    real w[MOST_TAPS * MOST_TAPS];
    EACH(t, taps * taps) w[t] = kernel[t];
    for (int i = 0; i < f->height; i += 1 + f->second) {
        vec d[MOST_MOVES];
        EACH(m, moves) d[m] = load_rows(f, dy, i + low + m);
        EACH(phase, 2)
        {
            const int y = 2 * i + phase;
            const lane_set lower = lower_lanes(f, y), upper = upper_lanes(f, y, i);
            real *const to = dx + (ptrdiff_t)y * f->columns;
            vec sum[2][MOST_MOVES];
            EACH(m, moves) sum[0][m] = sum[1][m] = (vec){0};
            EACH(ky, taps)
            {
                if ((ky + taps / 2 + phase) % 2) continue;
                EACH(kx, taps)
                {
                    const int column = (kx + taps / 2) % 2;
                    sum[column][phase_move(taps, column, kx) - low] +=
                        w[ky * taps + kx] * d[phase_move(taps, phase, ky) - low];
                }
            }
            const vec even = add_moved(f, low, moves, sum[0]), odd = add_moved(f, low, moves, sum[1]);
            vec first = INTERLEAVE_LOW(even, odd), second = INTERLEAVE_HIGH(even, odd);
            if (add) first += load_lanes(to, lower);
            if (add) second += load_lanes(to + f->gap, upper);
            store_lanes(to, first, lower);
            store_lanes(to + f->gap, second, upper);
        }
    }
}

/* All planes. */
static void narrow_forward(const narrow_plan *f, const real *x, const real *w, real *y, int threads)
{
    const conv_product *p = f->p;
    const size_t in = (size_t)f->rows * f->columns, out = (size_t)f->height * f->width;
#pragma omp parallel for num_threads(threads) schedule(static)
    for (ptrdiff_t i = 0; i < (ptrdiff_t)p->batch * p->groups; ++i) {
        const int channel = i % p->groups;
        const real *kernel = w + channel * p->group_stride;
        if (f->taps == 3)
            narrow_sums(3, f, x + i * in, kernel, channel, y + i * out);
        else
            narrow_sums(5, f, x + i * in, kernel, channel, y + i * out);
    }
}
static void narrow_data(const narrow_plan *f, const real *dy, const real *w, real *dx, int threads)
{
    const conv_product *p = f->p;
    const size_t in = (size_t)f->height * f->width, out = (size_t)f->rows * f->columns;
#pragma omp parallel for num_threads(threads) schedule(static)
    for (ptrdiff_t i = 0; i < (ptrdiff_t)p->batch * p->groups; ++i) {
        const real *kernel = w + i % p->groups * p->group_stride;
        if (f->taps == 3)
            narrow_phases(3, f, dy + i * in, kernel, dx + i * out);
        else
            narrow_phases(5, f, dy + i * in, kernel, dx + i * out);
    }
}
static void narrow_gradient(const narrow_plan *f, const real *x, const real *dy, real *dw, int threads)
{
    const conv_product *p = f->p;
    const size_t in = (size_t)f->rows * f->columns, out = (size_t)f->height * f->width;
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int channel = 0; channel < p->groups; ++channel) {
        vec total[9 + LANES];
        for (int t = 0; t < round_up(9, LANES); ++t) total[t] = (vec){0};
        for (int image = 0; image < p->batch; ++image) {
            const size_t plane = (size_t)image * p->groups + channel;
            narrow_products(f, x + plane * in, dy + plane * out, total);
        }
        add_totals(total, 9, dw + channel * p->group_stride);
    }
}
#endif
