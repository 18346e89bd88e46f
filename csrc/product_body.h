/* Convolution as an implicit matrix product: filters (filters, depth) times columns (depth, pixels), in
 * blocks. Body of an engine. */
#ifndef DN_PRODUCT_BODY_H
#define DN_PRODUCT_BODY_H
#include "columns_body.h"
#include "normalize_rows.h"

/* Panels that are used on all columns before the next ones: 64 filters x DEPTH are 64 KB of floats, which
 * stay in the cache. */
enum { PANELS = 64 / ROWS };

static inline int panels(const conv_product *p) { return (p->filters + ROWS - 1) / ROWS; }

/* packed (depth, ROWS) = weights of filters first .. first + rows at rows d0 .. d0 + depth of the column
 * matrix; missing filters 0. */
static void pack_panel(const conv_product *p, const real *w, int first, int rows, int d0, int depth,
                       real *packed)
{
    const int taps = p->y.taps * p->x.taps, in_order = p->x.tap_step == 1 && p->y.tap_step == 1;
    if (!depth) return;   /* no tap reaches: there may be none to count by */
    w += first * p->filter_stride;
    if (p->size == 1 && p->filter_stride == 1) {
        pad_rows(w + d0 * p->channel_stride, p->channel_stride, rows, depth, packed);
        return;
    }
    if (taps == p->size * p->size && (taps == 1 || in_order) && p->channel_stride == (size_t)taps) {
        turn_rows(w + d0, p->filter_stride, rows, depth, packed);
        return;
    }
    int tx = d0 % p->x.taps, ty = d0 / p->x.taps % p->y.taps;
    w += d0 / taps * p->channel_stride;
    for (int d = 0; d < depth; ++d, packed += ROWS) {
        const real *from =
            w + (size_t)(p->y.tap + ty * p->y.tap_step) * p->size + p->x.tap + tx * p->x.tap_step;
        for (int i = 0; i < ROWS; ++i, from += p->filter_stride) packed[i] = i < rows ? *from : 0;
        if (++tx < p->x.taps) continue;
        tx = 0;
        if (++ty < p->y.taps) continue;
        ty = 0;
        w += p->channel_stride;
    }
}

/* Panels that are packed together, and rows of them at a time: whole lines of the weights, whichever way they
 * lie, are then read once. */
enum { PACKED_PANELS = 4, PACKED_ROWS = 64 };

/* All weights, each step's together: packed (groups, steps, panels, depth of the step, ROWS). */
static void pack_weights(const conv_product *p, const column_layout *l, const real *w, real *packed)
{
    const int n = panels(p), all = product_depth(p), units = all / l->unit,
              jobs = (int)pieces(n, PACKED_PANELS);
#pragma omp for schedule(static)
    for (int job = 0; job < p->groups * jobs; ++job) {
        const int group = job / jobs, from = job % jobs * PACKED_PANELS,
                  upto = at_most(from + PACKED_PANELS, n);
        real *to = packed + (size_t)group * n * all * ROWS;
        for (int step = 0; step < l->steps && all; ++step) {
            const int d0 = part_of(units, step, l->steps) * l->unit,
                      depth = part_of(units, step + 1, l->steps) * l->unit - d0;
            for (int d = 0; d < depth; d += PACKED_ROWS) {
                for (int i = from; i < upto; ++i) {
                    const int first = part_of(p->filters, i, n), end = part_of(p->filters, i + 1, n);
                    pack_panel(p, w + group * p->group_stride, first, end - first, d0 + d,
                               at_most(PACKED_ROWS, depth - d), to + ((size_t)i * depth + d) * ROWS);
                }
            }
            to += (size_t)n * depth * ROWS;
        }
    }
}

static void keep_product(const conv_product *p, const real *w, real *kept, int threads)
{
    const product_cut cut = cut_product(p);
#pragma omp parallel num_threads(threads)
    pack_weights(p, &cut.layout, w, kept);
}

/* What one task works on: filters of panels first .. end of one group, columns of one block. */
typedef struct {
    const conv_product *p;
    const column_layout *layout;
    const row_places *places;
    const block *columns;
    const real *packed;     /* of the group: (steps, panels, depth of the step, ROWS) */
    real *y;                /* of the group, image 0 */
    real *apart;            /* (filters, PITCH): sums of tiles that do not lie in one piece in y */
    int group, first, end;
    part_moments *moments;  /* of the group's first filter and this block, or NULL */
} product_task;

/* Moves columns j .. j + width of `rows` filters between y and `apart`, piece by piece. */
static void move_apart(const product_task *t, int filter, int rows, int j, int width, real *apart, int to_y)
{
    const int step = t->p->x.to_step;
    const size_t plane = (size_t)t->p->y.whole * t->p->x.whole;
    for (int s = 0; s < t->columns->spans; ++s) {
        const span *part = &t->columns->span[s];
        const int from = part->start > j ? part->start : j,
                  upto = at_most(part->start + part->count, j + width);
        if (part->start >= j + width) break;
        if (from >= upto) continue;
        real *y = t->y + filter * plane + part->at + (size_t)(from - part->start) * step,
             *e = apart + from - j;
        for (int i = 0; i < rows; ++i, y += plane, e += PITCH) {
            if (to_y)
                spread(y, e, upto - from, step);
            else
                copy_strided(e, y, upto - from, step);
        }
    }
}

/* The tiles in columns j .. j + WIDTH of panels from .. upto, summed over rows d0 .. d0 + depth of the column
 * matrix, which begin at b + row[]. */
static void product_tiles(const product_task *t, int from, int upto, int d0, int depth, int j, const real *b,
                          const int *row)
{
    const conv_product *p = t->p;
    const int all = product_depth(p), n = panels(p), first = part_of(p->filters, t->first, n),
              add = p->add || d0 > 0;
    const int width = at_most(WIDTH, t->columns->count - j), vecs = (width + LANES - 1) / LANES;
    const size_t plane = (size_t)p->y.whole * p->x.whole;
    const conv_epilogue *ep = d0 + depth == all ? p->epilogue : NULL;
    const span *s = t->columns->span, *last = s + t->columns->spans - 1;
    while (s < last && s->start + s->count <= j) ++s;
    const int direct = p->x.to_step == 1 && s->start <= j && s->start + s->count >= j + vecs * LANES;
    for (int i = from; i < upto; ++i) {
        const int filter = part_of(p->filters, i, n), rows = part_of(p->filters, i + 1, n) - filter;
        const real *a = t->packed + ((size_t)d0 * n + (size_t)i * depth) * ROWS;
        real *c = direct ? t->y + filter * plane + s->at + j - s->start
                         : t->apart + (size_t)(filter - first) * PITCH + j;
        if (!direct && p->add && d0 == 0) move_apart(t, filter, rows, j, width, c, 0);
        packed_tiles[rows - 1][vecs - 1](depth, a, b, row, c, direct ? plane : PITCH, add, ep,
                                         t->group * p->filters + filter);
        if (!direct && d0 + depth == all) move_apart(t, filter, rows, j, width, c, 1);
    }
}

/* Moments of the values of some spans of a plane. */
static part_moments moments_of(const real *plane, const span *s, int spans)
{
    const real shift = plane[s->at];
    row_sums sums = {{0}, {0}};
    double count = 0;
    for (const span *end = s + spans; s < end; count += s++->count)
        add_moments(plane + s->at, 1, s->count, &shift, &sums);
    const double sum = total_of(sums.first), squares = total_of(sums.second) - sum * sum / count;
    return (part_moments){count, shift + sum / count, squares > 0 ? squares : 0};
}

/* Moments of the outputs of panels from .. upto, which are finished and still in the cache. */
static void take_moments(const product_task *t, int from, int upto)
{
    const conv_product *p = t->p;
    const block *b = t->columns;
    const int n = panels(p), end = part_of(p->filters, upto, n);
    const size_t plane = (size_t)p->y.whole * p->x.whole;
    for (int filter = part_of(p->filters, from, n); filter < end; ++filter)
        t->moments[filter * t->layout->blocks] = moments_of(t->y + filter * plane, b->span, b->spans);
}

/* ahead, first: see find_columns(); what is made ahead stands there step by step. */
static void run_product_task(const product_task *t, const real *x, int first, const real *ahead,
                             real *scratch)
{
    const column_layout *l = t->layout;
    const int steps = l->steps, units = product_depth(t->p) / l->unit;
    for (int i = 0; i < steps; ++i) {   /* once also where no tap reaches: the outputs are then zero */
        const int d0 = part_of(units, i, steps) * l->unit,
                  depth = part_of(units, i + 1, steps) * l->unit - d0;
        const column_rows c =
            find_columns(t->p, l, t->places, t->columns, x, d0, depth, first, ahead, scratch);
        for (int from = t->first; from < t->end; from += PANELS) {
            const int upto = at_most(from + PANELS, t->end);
            for (int j = 0; j < t->columns->count; j += WIDTH)
                product_tiles(t, from, upto, d0, depth, j, c.columns + j, c.row);
            if (t->moments && i == steps - 1) take_moments(t, from, upto);
        }
        if (ahead) ahead += COLUMN_SCRATCH;
    }
}

/* The columns of all blocks, for several tasks each: (groups, blocks, steps, COLUMN_SCRATCH). */
static void fill_ahead(const conv_product *p, const column_layout *l, const real *x, real *ahead)
{
    const int units = product_depth(p) / l->unit, jobs = p->groups * (int)l->blocks * l->steps;
    #pragma omp for schedule(static)
    for (int i = 0; i < jobs; ++i) {
        const int step = i % l->steps, group = i / l->steps / l->blocks;
        const int d0 = part_of(units, step, l->steps) * l->unit,
                  d1 = part_of(units, step + 1, l->steps) * l->unit;
        const real *image = x + (size_t)group * p->channels * p->y.in * p->x.in;
        block b;
        make_block(p, l, i / l->steps % l->blocks, &b);
        if (!columns_in_place(p, l, &b, image, d0))
            fill_columns(p, l, &b, image, d0, d1 - d0, ahead + (size_t)i * COLUMN_SCRATCH);
    }
}

/* One share of the filters on one block; x is the group's. */
static void start_product_task(const conv_product *p, const product_cut *cut, const row_places *places,
                               ptrdiff_t block_number, int share, int group, int first, const real *x,
                               const real *packed, const real *ahead, real *y, real *scratch)
{
    const column_layout *l = &cut->layout;
    const int n = panels(p);
    const size_t filters = (size_t)group * p->filters;
    block b;
    make_block(p, l, block_number, &b);
    const product_task t = {p,
                            l,
                            places,
                            &b,
                            packed + (size_t)group * n * product_depth(p) * ROWS,
                            y + filters * p->y.whole * p->x.whole,
                            scratch + COLUMN_SCRATCH,
                            group,
                            part_of(n, share, cut->shares),
                            part_of(n, share + 1, cut->shares),
                            p->moments ? p->moments + filters * l->blocks + block_number : NULL};
    if (ahead) ahead += ((size_t)group * l->blocks + block_number) * l->steps * COLUMN_SCRATCH;
    run_product_task(&t, x, first, ahead, scratch);
}

/* Tasks are bands of columns, times groups, and where these are few, times shares of the filters. */
static void product(const conv_product *p, const real *x, const real *w, real *y, real *workspace,
                    int threads)
{
    const product_cut cut = cut_product(p);
    const column_layout *l = &cut.layout;
    const size_t weights = (size_t)panels(p) * product_depth(p) * ROWS,
                 group_size = (size_t)p->y.in * p->x.in * p->channels;
    real *const space = workspace + (p->kept ? 0 : pieces(p->groups * weights, LANES) * LANES);
    const real *const packed = p->kept ? w : workspace;
    real *const ahead = cut.ahead ? space : NULL;
    const ptrdiff_t bands = column_bands(p, l);
    row_places places;
    place_all_rows(p, l, &places);
    task_list tasks;
    list_tasks(&tasks, p->groups * bands * cut.shares, threads);
#pragma omp parallel num_threads(threads)
    {
        real *const scratch =
            space + cut.ahead + omp_get_thread_num() * (COLUMN_SCRATCH + (size_t)p->filters * PITCH);
        if (!p->kept) pack_weights(p, l, w, workspace);
        if (ahead) fill_ahead(p, l, x, ahead);
        EACH_TASK(task, &tasks) {
            const int share = task % cut.shares, group = task / cut.shares % p->groups;
            const ptrdiff_t band = task / cut.shares / p->groups, from = band_start(p, l, band),
                            upto = band_start(p, l, band + 1);
            const real *const input = x + group * group_size;
            const int first = l->bands ? fill_band_strips(p, l, input, from, upto, scratch) : 0;
            for (ptrdiff_t i = from; i < upto; ++i)
                start_product_task(p, &cut, &places, i, share, group, first, input, packed, ahead, y,
                                   scratch);
        }
    }
}
#endif
