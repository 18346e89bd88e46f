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
enum { ROW_POINTS = BAND_ROWS + 2, ROW_FILTERS = VEC_BYTES == 64 ? 4 : 2 };
_Static_assert((int)ROW_FILTERS <= (int)FILTER_UNIT, "panels of row_winograd_workspace()");

/* u (panels, channels, kx, ROW_FILTERS, points) of one group; a missing filter's are 0. */
static void make_row_weights(const conv_product *p, const real *w, real *u)
{
    for (int f = 0; f < round_up(p->filters, ROW_FILTERS); ++f) {
        for (int k = 0; k < p->channels * 3; ++k) {
            const real *tap = w + f * p->filter_stride + k / 3 * p->channel_stride + tap_order(&p->x, k % 3);
            real *to =
                u + ((f / ROW_FILTERS * p->channels * 3 + k) * ROW_FILTERS + f % ROW_FILTERS) * ROW_POINTS;
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

/* What one band works on. */
typedef struct {
    const conv_product *p;
    const row_winograd_cut *cut;
    const real *u, *d;      /* of a panel; of column 0 */
    int filter, live, rows; /* the panel's first filter, its filters, the band's rows */
    int group;
    real *y; /* of the panel's first filter, the band's first row */
} row_panel;

/* n columns from x on of all rows and filters of a panel. */
INLINE void make_row_tile(const row_panel *t, int x, int n)
{
    const conv_product *p = t->p;
    const ptrdiff_t plane = (ptrdiff_t)p->y.out * p->x.out, pitch = t->cut->pitch;
    const real *u = t->u, *d = t->d + x;
    real *y = t->y + x;
    vec sum[ROW_FILTERS * ROW_POINTS];
    EACH(i, ROW_FILTERS) { EACH(r, BAND_ROWS) __builtin_prefetch(y + i * plane + r * p->x.out, 1); }
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
            if (p->add && r < t->rows) out[r] += load_some(y + i * plane + r * p->x.out, n);
        }
        if (p->epilogue) finish(1, BAND_ROWS, p->epilogue, t->group * p->filters + t->filter + i, out);
        EACH(r, BAND_ROWS)
        {
            if (r < t->rows) store_some(y + i * plane + r * p->x.out, out[r], n);
        }
    }
}

/* Band `band` of a group, whose weights and points are ready; y is the group's, in the band's image. */
static void run_row_task(const conv_product *p, const row_winograd_cut *cut, ptrdiff_t band, int group,
                         const real *u, const real *d, real *y)
{
    const int first = (int)(band % cut->down) * BAND_ROWS;
    const size_t plane = (size_t)p->y.out * p->x.out, at = (size_t)first * p->x.out;
    row_panel t = {p, cut, u, d, 0, 0, at_most(BAND_ROWS, p->y.out - first), group, y + at};
    for (; t.filter < p->filters; t.filter += ROW_FILTERS) {
        t.live = at_most(ROW_FILTERS, p->filters - t.filter);
        for (int x = 0; x < p->x.out; x += LANES) make_row_tile(&t, x, lanes_of(p->x.out - x));
        for (int i = 0; i < (p->moments ? t.live : 0); ++i) {
            const span rows = {0, t.rows * p->x.out, 0};
            const size_t filter = (size_t)group * p->filters + t.filter + i;
            p->moments[filter * p->batch * cut->down + band] = moments_of(t.y + i * plane, &rows, 1);
        }
        t.u += p->channels * 3 * ROW_FILTERS * ROW_POINTS;
        t.y += ROW_FILTERS * plane;
    }
}

static void row_winograd(const conv_product *p, const row_winograd_cut *cut, const real *x, const real *w,
                         real *y, real *workspace, int threads)
{
    const size_t weights = (size_t)round_up(p->filters, ROW_FILTERS) * p->channels * 3 * ROW_POINTS,
                 points = (size_t)p->channels * ROW_POINTS * cut->pitch;
    real *const u = workspace, *const space = u + pieces(p->groups * weights, FILTER_UNIT) * FILTER_UNIT;
    const ptrdiff_t bands = (ptrdiff_t)p->batch * cut->down;
#pragma omp parallel num_threads(threads)
    {
        real *const d = space + omp_get_thread_num() * points;
        memset(d, 0, points * sizeof(real));
#pragma omp for schedule(static)
        for (int group = 0; group < p->groups; ++group)
            make_row_weights(p, w + group * p->group_stride, u + group * weights);
#pragma omp for schedule(dynamic, 1)
        for (ptrdiff_t i = 0; i < p->groups * bands; ++i) {
            const int group = (int)(i / cut->down % p->groups);
            const ptrdiff_t image = i / cut->down / p->groups, band = image * cut->down + i % cut->down,
                            planes = image * p->groups + group;
            make_row_points(p, cut, x + planes * p->channels * p->y.in * p->x.in,
                            (int)(i % cut->down) * BAND_ROWS + lowest_input(&p->y), d);
            run_row_task(p, cut, band, group, u + group * weights, d + cut->left + lowest_input(&p->x),
                         y + planes * p->filters * p->y.out * p->x.out);
        }
    }
}
#endif
