/* The gradient of the data with stride 2. Outputs (2i, 2j), (2i, 2j + 1), (2i + 1, 2j) and (2i + 1, 2j + 1)
 * are four phases, each a product of some of the taps with columns of dy. All those columns are shifts of one
 * strip of dy for each channel, and even and odd outputs are stored together. Body of an engine. */
#ifndef DN_PHASES_BODY_H
#define DN_PHASES_BODY_H
#include "depthwise_body.h"

/* What all tasks share: places of the rows of the column matrix of some channels, relative to the first's
 * strip, and all weights, packed (groups, panels, phases, depth of the phase, ROWS). */
typedef struct {
    int row[PHASES][DEPTH];
    int depth; /* of all phases */
    real *packed;
} phase_plan;

static void place_phase(const conv_product *p, const phase_cut *cut, int *row)
{
    const int taps = p->y.taps * p->x.taps, depth = at_most(product_depth(p), taps ? DEPTH / taps * taps : 0);
    for (int d = 0; d < depth; ++d)
        row[d] = d / taps * cut->pitch +
                 (tap_input(&p->y, d % taps / p->x.taps) - cut->first_y) * cut->width +
                 tap_input(&p->x, d % p->x.taps) - cut->first_x;
}

static void pack_phases(const conv_product p[PHASES], const phase_plan *plan, const real *w)
{
    const int n = panels(p);
#pragma omp for schedule(static)
    for (int i = 0; i < p->groups * n; ++i) {
        const int first = part_of(p->filters, i % n, n), rows = part_of(p->filters, i % n + 1, n) - first;
        real *to = plan->packed + (size_t)i * plan->depth * ROWS;
        for (int q = 0; q < PHASES; to += product_depth(&p[q++]) * ROWS)
            pack_panel(&p[q], w + i / n * p->group_stride, first, rows, 0, product_depth(&p[q]), to);
    }
}

/* sum (rows, WIDTH) = one phase at vecs * LANES positions, whose strips begin at b; without taps zero. */
static void phase_tile(const conv_product *p, const phase_cut *cut, const int *row, int rows, int vecs,
                       const real *a, const real *b, real *sum)
{
    const int taps = p->y.taps * p->x.taps, some = taps ? DEPTH / taps : p->channels;
    for (int c = 0; c < p->channels; c += some) {
        const int depth = at_most(some, p->channels - c) * taps;
        packed_tiles[rows - 1][vecs - 1](depth, a + (size_t)c * taps * ROWS, b + (size_t)c * cut->pitch, row,
                                         sum, WIDTH, c > 0, NULL, 0);
    }
}

/* to[2i] = or += even[i], to[2i + 1] = or += odd[i], in n values. */
INLINE void store_pairs(const real *even, const real *odd, int n, int add, real *to)
{
    for (int i = 0; i < n; i += 2 * LANES) {
        const vec e = load(even + i / 2), o = load(odd + i / 2);
        const int more = lanes_of(n - i - LANES);
        vec low = INTERLEAVE_LOW(e, o), high = INTERLEAVE_HIGH(e, o);
        if (add) {
            low += load_some(to + i, lanes_of(n - i));
            high += load_some(to + i + LANES, more);
        }
        store_some(to + i, low, lanes_of(n - i));
        store_some(to + i + LANES, high, more);
    }
}

/* Stores the rows' phase of p at positions from .. from + count; sum (2, ROWS, WIDTH) has even columns, then
 * odd ones. dx is the first filter's plane. */
static void store_phase(const conv_product *p, const phase_cut *cut, int rows, int from, int count,
                        const real *sum, real *dx)
{
    const int columns = p->x.whole;
    for (int done = 0, n, x = from % cut->width, y = from / cut->width; done < count && y < p->y.out;
         done += n, x = 0, ++y) {
        real *to = dx + (size_t)(p->y.to + 2 * y) * columns + 2 * x;
        n = at_most(cut->width - x, count - done);
        for (int i = 0; i < rows; ++i, to += (size_t)p->y.whole * columns) {
            const real *even = sum + i * WIDTH + done;
            store_pairs(even, even + ROWS * WIDTH, at_most(2 * n, columns - 2 * x), p->add, to);
        }
    }
}

/* Positions first .. first + count of panel i of one group, whose strips stand in scratch. */
static void run_panel(const conv_product p[PHASES], const phase_cut *cut, const phase_plan *plan,
                      const real *a, int i, int first, int count, const real *scratch, real *dx)
{
    const int n = panels(p), filter = part_of(p->filters, i, n),
              rows = part_of(p->filters, i + 1, n) - filter;
    real sum[2 * ROWS * WIDTH + LANES]; /* store_pairs() reads whole vectors */
    dx += (size_t)filter * p->y.whole * p->x.whole;
    for (int q = 0; q < PHASES; q += 2) {
        const real *odd = a + product_depth(&p[q]) * ROWS;
        for (int j = 0; j < count; j += WIDTH) {
            const int width = at_most(WIDTH, count - j), vecs = (width + LANES - 1) / LANES;
            phase_tile(&p[q], cut, plan->row[q], rows, vecs, a, scratch + j, sum);
            phase_tile(&p[q + 1], cut, plan->row[q + 1], rows, vecs, odd, scratch + j, sum + ROWS * WIDTH);
            store_phase(&p[q], cut, rows, first + j, width, sum, dx);
        }
        a = odd + product_depth(&p[q + 1]) * ROWS;
    }
}

/* Task i: shares of the filters vary fastest, then blocks, groups and images. */
static void run_phases_task(const conv_product p[PHASES], const phase_cut *cut, const phase_plan *plan,
                            ptrdiff_t i, const real *dy, real *dx, real *scratch)
{
    const int n = panels(p), share = i % cut->shares, area = p->y.out * cut->width;
    const ptrdiff_t block = i / cut->shares % cut->blocks, plane = i / cut->shares / cut->blocks;
    const int first = (int)unit_of(area, WIDTH, block, cut->blocks),
              count = (int)unit_of(area, WIDTH, block + 1, cut->blocks) - first;
    const size_t in = (size_t)p->y.in * p->x.in, out = (size_t)p->y.whole * p->x.whole;
    const real *packed = plan->packed + plane % p->groups * n * plan->depth * ROWS;
    for (int c = 0; c < p->channels; ++c)
        fill_piece(p, cut->width, first, count + cut->halo, dy + (plane * p->channels + c) * in, cut->first_y,
                   cut->first_x, scratch + (size_t)c * cut->pitch);
    for (int k = part_of(n, share, cut->shares); k < part_of(n, share + 1, cut->shares); ++k)
        run_panel(p, cut, plan, packed + (size_t)k * plan->depth * ROWS, k, first, count, scratch,
                  dx + plane * p->filters * out);
}

static void all_phases(const conv_product p[PHASES], const phase_cut *cut, const real *dy, const real *w,
                       real *dx, real *workspace, int threads)
{
    phase_plan plan = {.packed = workspace};
    for (int q = 0; q < PHASES; ++q) {
        place_phase(&p[q], cut, plan.row[q]);
        plan.depth += product_depth(&p[q]);
    }
    const size_t weights = (size_t)p->groups * panels(p) * ROWS * plan.depth;
    real *const space = workspace + pieces(weights, LANES) * LANES;
    task_list tasks;
    list_tasks(&tasks, p->batch * p->groups * cut->blocks * cut->shares, threads);
#pragma omp parallel num_threads(threads)
    {
        real *const scratch = space + (size_t)omp_get_thread_num() * p->channels * cut->pitch;
        pack_phases(p, &plan, w);
        EACH_TASK(i, &tasks) run_phases_task(p, cut, &plan, i, dy, dx, scratch);
    }
}
#endif
