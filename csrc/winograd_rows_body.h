/* 3x3 convolution of few channels, such as an image's three, by Winograd's algorithm along y alone
 * (winograd_transforms_body.h). A band of four rows of outputs reads six rows of each channel; they become
 * six rows of points, of which those for kx are shifts, as in the image. With U[f][c][kx] = G w[f][c][.][kx]
 *   M[f][q][x] = sum over c and kx of U[f][c][kx][q] D[c][q][x + kx],   y[f][.][x] = A' M[f][.][x]
 * 18 products a channel for four outputs, in place of 36. In two dimensions 9 would do, but with few channels
 * the additions around them would cost more than is saved. Vectors run along x. Body of an engine. */
#ifndef DN_WINOGRAD_ROWS_BODY_H
#define DN_WINOGRAD_ROWS_BODY_H
#include "winograd_body.h"

/* Points of so many filters are summed in registers: ROW_FILTERS x 6 of 32, or of 16. */
enum { ROW_FILTERS = VEC_BYTES == 64 ? 4 : 2 };
_Static_assert((int)ROW_FILTERS <= (int)FILTER_UNIT, "panels of the workspace");
/* The weight gradient sums GRADIENT_FILTERS x so many rows (channel, kx) in registers. */
enum { GRADIENT_ROWS = VEC_BYTES == 64 ? 6 : 3 };

/* u (panels, channels, kx, ROW_FILTERS, points) of one group; a missing filter's are 0. */
static void make_row_weights(const conv_product *p, const real *w, real *u)
{
    for (int f = 0; f < round_up(p->filters, ROW_FILTERS); ++f) {
        for (int k = 0; k < p->channels * 3; ++k) {
            const real *tap = w + f * p->filter_stride + k / 3 * p->channel_stride + tap_order(&p->x, k % 3);
            real *to = u + (((size_t)f / ROW_FILTERS * p->channels * 3 + k) * ROW_FILTERS + f % ROW_FILTERS) *
                               ROW_POINTS;
            vec g[3] = {{0}}, points[ROW_POINTS];
            for (int i = 0; i < (f < p->filters ? 3 : 0); ++i) g[i][0] = tap[3 * tap_order(&p->y, i)];
            points_of_weights(BAND_ROWS, g, points);
            EACH(q, ROW_POINTS) to[q] = points[q][0];
        }
    }
}

/* d (channels, points, pitch): column `left` is the image's first. What lies beside the image is zero
 * already. */
static void make_row_points(const conv_product *p, const row_winograd_cut *cut, const real *x, int y, real *d)
{
    const size_t next = (size_t)BAND_ROWS * p->x.in;
    for (int c = 0; c < p->channels; ++c, x += (size_t)p->y.in * p->x.in, d += ROW_POINTS * cut->pitch) {
        for (int i = 0; i < p->x.in; i += LANES) {
            const int n = lanes_of(p->x.in - i);
            vec rows[ROW_POINTS], points[ROW_POINTS];
            EACH(r, ROW_POINTS)
            {
                const real *from = x + (ptrdiff_t)(y + r) * p->x.in + i;
                const int inside = y + r >= 0 && y + r < p->y.in;
                rows[r] = inside ? load_some(from, n) : (vec){0};
                if (r >= 2) __builtin_prefetch(from + next); /* the next band's */
            }
            points_of_input(BAND_ROWS, rows, points);
            EACH(q, ROW_POINTS) store(d + q * cut->pitch + cut->left + i, points[q]);
        }
    }
}

/* What a tile works on. */
typedef struct {
    const conv_product *p;
    const row_winograd_cut *cut;
    const real *u, *d;      /* of a panel; of a band, from what tap 0 of output 0 reads on */
    int filter, live, rows; /* the panel's first of all filters, how many it has, the band's rows */
    real *y;                /* of the panel's first filter, the band's first row */
} row_tile;

/* n columns from x on of all rows and filters of a panel. */
INLINE void make_row_tile(const row_tile *t, int x, int n)
{
    const conv_product *p = t->p;
    const ptrdiff_t plane = stored_area(p), across = stored_width(p), pitch = t->cut->pitch;
    const real *u = t->u, *d = t->d + x;
    real *y = t->y + (x >> p->pool);
    vec sum[ROW_FILTERS * ROW_POINTS];
    EACH(i, ROW_FILTERS)
    {
        EACH(r, BAND_ROWS) __builtin_prefetch(y + i * plane + (r >> p->pool) * across, 1);
    }
    EACH(i, ROW_FILTERS * ROW_POINTS) sum[i] = (vec){0};
    for (int c = 0; c < p->channels; ++c, d += ROW_POINTS * pitch) {
        _Pragma("GCC unroll 1") for (int k = 0; k < 3; ++k, u += ROW_FILTERS * ROW_POINTS)
        {
            EACH(q, ROW_POINTS)
            {
                const vec point = load(d + q * pitch + k);
                EACH(i, ROW_FILTERS) sum[i * ROW_POINTS + q] += u[i * ROW_POINTS + q] * point;
            }
        }
    }
    EACH(i, ROW_FILTERS)
    {
        vec out[BAND_ROWS];
        if (i == t->live) break;
        outputs_of_points(BAND_ROWS, sum + i * ROW_POINTS, out);
        EACH(r, BAND_ROWS)
        {
            if (p->add && r < t->rows) out[r] += load_some(y + i * plane + r * across, n);
        }
        if (p->epilogue) finish(1, BAND_ROWS, p->epilogue, t->filter + i, out);
        for (int r = 0; r < (p->pool ? t->rows : 0); r += 2) {
            const vec v = larger(out[r], out[r + 1]);
            store_some(y + i * plane + r / 2 * across, larger(EVEN_LANES(v, v), ODD_LANES(v, v)), n / 2);
        }
        EACH(r, BAND_ROWS)
        {
            if (r < t->rows && !p->pool) store_some(y + i * plane + r * across, out[r], n);
        }
    }
}

/* Bands from .. upto of one image and group, number `block` of the group. x, u and y are the group's, x and y
 * in this image; d (bands, channels, points, pitch) is this thread's own. */
static void run_row_task(const conv_product *p, const row_winograd_cut *cut, int from, int upto,
                         ptrdiff_t block, int group, const real *x, const real *u, real *d, real *y)
{
    const size_t plane = stored_area(p), points = (size_t)p->channels * ROW_POINTS * cut->pitch;
    const span rows = {0, (at_most(upto * BAND_ROWS, p->y.out) - from * BAND_ROWS) * p->x.out,
                       (size_t)from * BAND_ROWS * p->x.out};
    for (int i = from; i < upto; ++i)
        make_row_points(p, cut, x, i * BAND_ROWS + lowest_input(&p->y), d + (i - from) * points);
    for (int f = 0; f < p->filters; f += ROW_FILTERS, y += ROW_FILTERS * plane) {
        const int filter = group * p->filters + f, live = at_most(ROW_FILTERS, p->filters - f);
        for (int i = from; i < upto; ++i) {
            const int row = i * BAND_ROWS;
            const row_tile t = {p,
                                cut,
                                u + (size_t)f * p->channels * 3 * ROW_POINTS,
                                d + (i - from) * points + cut->left + lowest_input(&p->x),
                                filter,
                                live,
                                at_most(BAND_ROWS, p->y.out - row),
                                y + (size_t)(row >> p->pool) * stored_width(p)};
            for (int j = 0; j < p->x.out; j += LANES) make_row_tile(&t, j, lanes_of(p->x.out - j));
        }
        for (int i = 0; i < (p->moments ? live : 0); ++i)
            p->moments[(size_t)(filter + i) * p->batch * cut->blocks + block] =
                moments_of(y + i * plane, &rows, 1);
    }
}

static void row_winograd(const conv_product *p, const row_winograd_cut *cut, const real *x, const real *w,
                         real *y, real *workspace, int threads)
{
    const size_t weights = (size_t)round_up(p->filters, ROW_FILTERS) * p->channels * 3 * ROW_POINTS,
                 points = (size_t)cut->most * p->channels * ROW_POINTS * cut->pitch;
    real *const u = workspace, *const space = u + pieces(p->groups * weights, FILTER_UNIT) * FILTER_UNIT;
    const int down = (int)pieces(p->y.out, BAND_ROWS);
    task_list tasks;
    list_tasks(&tasks, (ptrdiff_t)p->groups * p->batch * cut->blocks, threads);
#pragma omp parallel num_threads(threads)
    {
        real *const d = space + omp_get_thread_num() * points;
        memset(d, 0, points * sizeof(real));
#pragma omp for schedule(static)
        for (int group = 0; group < p->groups; ++group)
            make_row_weights(p, w + group * p->group_stride, u + group * weights);
        EACH_TASK(i, &tasks)
        {
            const int part = (int)(i % cut->blocks), group = (int)(i / cut->blocks % p->groups);
            const ptrdiff_t plane = i / cut->blocks, image = plane / p->groups;
            run_row_task(p, cut, part_of(down, part, cut->blocks), part_of(down, part + 1, cut->blocks),
                         image * cut->blocks + part, group, x + plane * p->channels * p->y.in * p->x.in,
                         u + group * weights, d, y + plane * p->filters * stored_area(p));
        }
    }
}

/* ---- the weight gradient: dU[q][f][c][kx] = sum over bands and x of E[f][q][x] D[c][q][x + kx], E = A dy;
 * dw += G' dU */

/* e (GRADIENT_FILTERS, points, width) = the points of `live` filters of dy, from row `row` on. */
static void make_delta_points(const conv_product *p, const row_winograd_cut *cut, const real *dy, int row,
                              int live, real *e)
{
    const ptrdiff_t plane = (ptrdiff_t)p->y.out * p->x.out;
    for (int f = 0; f < GRADIENT_FILTERS; ++f, dy += plane, e += ROW_POINTS * cut->width) {
        for (int x = 0; x < p->x.out; x += LANES) {
            const int n = lanes_of(p->x.out - x);
            vec rows[BAND_ROWS], points[ROW_POINTS];
            EACH(r, BAND_ROWS)
            {
                const real *from = dy + (ptrdiff_t)(row + r) * p->x.out + x;
                rows[r] = f < live && row + r < p->y.out ? load_some(from, n) : (vec){0};
            }
            points_of_delta(BAND_ROWS, rows, points);
            EACH(q, ROW_POINTS) store(e + q * cut->width + x, points[q]);
        }
    }
}

/* Rows of the filters that come next: each tile asks for some, so that dy comes while it computes. */
enum { NEXT_ROWS = 2 };
typedef struct {
    const real *row[NEXT_ROWS];
    ptrdiff_t band; /* distance of the bands' */
} next_rows;
static next_rows rows_after(const conv_product *p, const real *dy, int tile, int tiles)
{
    const ptrdiff_t plane = (ptrdiff_t)p->y.out * p->x.out;
    next_rows n = {{dy}, (ptrdiff_t)BAND_ROWS * p->x.out};
    for (int i = 0; i < NEXT_ROWS; ++i) {
        const int row = tile * GRADIENT_FILTERS * BAND_ROWS / tiles + i;
        n.row[i] = dy + row / BAND_ROWS * plane + row % BAND_ROWS * p->x.out;
    }
    return n;
}

/* sums[f * ld + k] += the products of e's filter f and row k of d, k < rows, over `bands` bands. place[k]:
 * where row k begins. */
INLINE void dot_tile(int rows, const row_winograd_cut *cut, int bands, const real *e, const real *d,
                     size_t points, const int *place, const next_rows *next, real *sums, int ld)
{
    enum { SUMS = GRADIENT_FILTERS * GRADIENT_ROWS, VECTORS = (SUMS + LANES - 1) / LANES };
    const real *from[GRADIENT_ROWS];
    vec sum[VECTORS * LANES];
    real all[VECTORS * LANES];
    EACH(i, VECTORS * LANES) sum[i] = (vec){0};
    for (int band = 0; band < bands; ++band, d += points, e += GRADIENT_FILTERS * ROW_POINTS * cut->width) {
        EACH(k, rows) from[k] = d + place[k];
        for (int x = 0; x < cut->width; x += LANES) {
            EACH(i, NEXT_ROWS) __builtin_prefetch(next->row[i] + band * next->band + x);
            EACH(k, rows)
            {
                const vec v = load(from[k] + x);
                EACH(f, GRADIENT_FILTERS)
                sum[f * rows + k] += v * load(e + f * ROW_POINTS * cut->width + x);
            }
        }
    }
    EACH(i, (GRADIENT_FILTERS * rows + LANES - 1) / LANES)
    store(all + i * LANES, totals(sum + i * LANES));
    EACH(f, GRADIENT_FILTERS) { EACH(k, rows) sums[f * ld + k] += all[f * rows + k]; }
}
typedef void (*dot)(const row_winograd_cut *cut, int bands, const real *e, const real *d, size_t points,
                    const int *place, const next_rows *next, real *sums, int ld);
#define DOT(rows) \
    static void dot_##rows(const row_winograd_cut *cut, int bands, const real *e, const real *d, \
                           size_t points, const int *place, const next_rows *next, real *sums, int ld) \
    { \
        dot_tile(rows, cut, bands, e, d, points, place, next, sums, ld); \
    }
DOT(1)
DOT(2)
DOT(3)
#if VEC_BYTES == 64
DOT(4)
DOT(5)
DOT(6)
static const dot dots[GRADIENT_ROWS] = {dot_1, dot_2, dot_3, dot_4, dot_5, dot_6};
#else
static const dot dots[GRADIENT_ROWS] = {dot_1, dot_2, dot_3};
#endif

/* sums (points, filters, channels * 3) += those of bands from .. upto of one image; x and dy are the group's
 * there. d and e are this thread's own. */
static void add_bands(const conv_product *p, const row_winograd_cut *cut, int from, int upto, const real *x,
                      const real *dy, real *d, real *e, real *sums)
{
    const int rows = p->channels * 3, tiles = (int)pieces(rows, GRADIENT_ROWS),
              filters = round_up(p->filters, GRADIENT_FILTERS);
    const size_t points = (size_t)p->channels * ROW_POINTS * cut->pitch, plane = (size_t)p->y.out * p->x.out;
    for (int i = from; i < upto; ++i)
        make_row_points(p, cut, x, i * BAND_ROWS + p->y.first, d + (i - from) * points);
    for (int f = 0; f < p->filters; f += GRADIENT_FILTERS) {
        for (int i = from; i < upto; ++i)
            make_delta_points(p, cut, dy + f * plane, i * BAND_ROWS, p->filters - f,
                              e + (size_t)(i - from) * GRADIENT_FILTERS * ROW_POINTS * cut->width);
        /* The next panel's filters, or behind the last the first ones in the block beneath. */
        const int more = f + GRADIENT_FILTERS < p->filters;
        const real *after = dy + (size_t)(more ? from : upto) * BAND_ROWS * p->x.out +
                            (more ? (f + GRADIENT_FILTERS) * plane : 0);
        for (int q = 0; q < ROW_POINTS; ++q) {
            for (int t = 0; t < tiles; ++t) {
                const int k = part_of(rows, t, tiles), n = part_of(rows, t + 1, tiles) - k;
                int place[GRADIENT_ROWS];
                const next_rows next = rows_after(p, after, q * tiles + t, ROW_POINTS * tiles);
                for (int i = 0; i < n; ++i)
                    place[i] = ((k + i) / 3 * ROW_POINTS + q) * cut->pitch + (k + i) % 3;
                dots[n - 1](cut, upto - from, e + q * cut->width, d + cut->left + p->x.first, points, place,
                            &next, sums + ((size_t)q * filters + f) * rows + k, rows);
            }
        }
    }
}

/* dw (filters, channels, 3, 3) += G' sums. */
static void add_row_gradient(const conv_product *p, const real *sums, real *dw)
{
    const int rows = p->channels * 3, filters = round_up(p->filters, GRADIENT_FILTERS);
    for (int f = 0; f < p->filters; ++f, dw += p->filter_stride) {
        for (int k = 0; k < rows; ++k) {
            vec points[ROW_POINTS], g[3];
            EACH(q, ROW_POINTS) points[q] = (vec){0} + sums[((size_t)q * filters + f) * rows + k];
            weights_of_points(BAND_ROWS, points, g);
            EACH(i, 3) dw[k / 3 * 9 + i * 3 + k % 3] += g[i][0];
        }
    }
}

/* Tasks are chunks of the blocks of all images, times groups; each has sums of its own, merged at the end. */
static void row_gradient(const conv_product *p, const row_winograd_cut *cut, const real *x, const real *dy,
                         real *dw, real *workspace, int threads)
{
    const size_t area = (size_t)ROW_POINTS * round_up(p->filters, GRADIENT_FILTERS) * p->channels * 3,
                 d = (size_t)cut->most * p->channels * ROW_POINTS * cut->pitch,
                 e = (size_t)cut->most * GRADIENT_FILTERS * ROW_POINTS * cut->width;
    const ptrdiff_t all = (ptrdiff_t)p->batch * cut->blocks;
    const int down = (int)pieces(p->y.out, BAND_ROWS);
    real *const space = workspace + p->groups * cut->chunks * area;
    task_list tasks;
    list_tasks(&tasks, (ptrdiff_t)p->groups * cut->chunks, threads);
#pragma omp parallel num_threads(threads)
    {
        real *const mine = space + omp_get_thread_num() * (d + e);
        memset(mine, 0, (d + e) * sizeof(real));
        EACH_TASK(i, &tasks)
        {
            const int group = i % p->groups, chunk = i / p->groups;
            real *sums = workspace + ((size_t)group * cut->chunks + chunk) * area;
            memset(sums, 0, area * sizeof(real));
            for (ptrdiff_t b = part_of(all, chunk, cut->chunks); b < part_of(all, chunk + 1, cut->chunks);
                 ++b) {
                const ptrdiff_t plane = b / cut->blocks * p->groups + group, part = b % cut->blocks;
                add_bands(p, cut, part_of(down, part, cut->blocks), part_of(down, part + 1, cut->blocks),
                          x + plane * p->channels * p->y.in * p->x.in,
                          dy + plane * p->filters * p->y.out * p->x.out, mine, mine + d, sums);
            }
        }
#pragma omp barrier
#pragma omp for schedule(static)
        for (int group = 0; group < p->groups; ++group) {
            real *sums = workspace + (size_t)group * cut->chunks * area;
            merge_chunks(sums, area, cut->chunks);
            add_row_gradient(p, sums, dw + group * p->group_stride);
        }
    }
}
#endif
