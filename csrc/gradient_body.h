/* Gradient of the weights: dw (filters, depth) += dy (filters, pixels) * columns (depth, pixels) turned. It
 * is computed turned, (depth, filters), so that the columns are used as they are made and only dy, the
 * smaller operand, is transposed. Body of an engine. */
#ifndef DN_GRADIENT_BODY_H
#define DN_GRADIENT_BODY_H
#include "product_body.h"

/* rows (LANES, PITCH) = the first `live` filters from dy on, over the columns of a block; zero where no
 * output is. */
static void gather_rows(const block *b, const real *dy, size_t plane, int live, real *rows)
{
    for (int i = 0; i < LANES; ++i, rows += PITCH, dy += plane) {
        int at = 0;
        for (int s = 0; s < b->spans && i < live; ++s) {
            const span *part = &b->span[s];
            set_zero(rows + at, part->start - at);
            copy(rows + part->start, dy + part->at, part->count);
            at = part->start + part->count;
        }
        set_zero(rows + at, round_up(b->count, LANES) - at);
    }
}

/* out (pixels, WIDTH) = filters 0 .. width of dy, turned; dy is the first of them in image 0. */
static void turn_panel(const conv_product *p, const block *b, const real *dy, int width, real *out)
{
    const size_t plane = (size_t)p->y.whole * p->x.whole;
    real rows[LANES * PITCH];
    for (int f = 0; f < width; f += LANES) {
        const int live = at_most(LANES, width - f), whole = b->spans == 1 && b->span[0].count % LANES == 0 &&
                                                            live == LANES && b->span[0].count == b->count;
        const real *from = whole ? dy + f * plane + b->span[0].at : rows;
        const size_t ld = whole ? plane : PITCH;
        if (!whole) gather_rows(b, dy + f * plane, plane, live, rows);
        for (int pixel = 0; pixel < b->count; pixel += LANES) {
            vec t[LANES];
            EACH(i, LANES) t[i] = load(from + i * ld + pixel);
            if (whole)
                EACH(i, LANES) __builtin_prefetch(from + i * ld + pixel + COLUMNS); /* the next block's */
            transpose(t);
            EACH(i, LANES) store(out + (size_t)(pixel + i) * WIDTH + f, t[i]);
        }
    }
}

/* dw[f][d] += sums[d][f], d < rows, f < filters; sums' rows are ld apart and padded to whole vectors both
 * ways. */
static void add_turned(const real *sums, int ld, int rows, int filters, real *dw, size_t ldw)
{
    for (int f = 0; f < filters; f += LANES) {
        for (int d = 0; d < rows; d += LANES) {
            vec t[LANES];
            real spare[LANES];
            EACH(i, LANES) t[i] = load(sums + (size_t)(d + i) * ld + f);
            transpose(t);
            EACH(i, LANES) {
                real *to = dw + (f + i) * ldw + d;
                if (f + i < filters && rows - d >= LANES) store(to, load(to) + t[i]);
                else if (f + i < filters) {
                    store(spare, t[i]);
                    for (int k = 0; k < rows - d; ++k) to[k] += spare[k];
                }
            }
        }
    }
}

typedef struct {
    int group, d0, d1, f0, f1;
    ptrdiff_t from, upto;     /* blocks of columns */
} gradient_task;

/* Task i of the cut: shares of the filters vary fastest, then parts of the depth and groups. */
static gradient_task cut_task(const conv_product *p, const gradient_cut *cut, int i, int chunk)
{
    const int share = i % cut->shares, part = i / cut->shares % cut->parts;
    const int unit = cut->layout.unit, depth = product_depth(p) / unit,
              lines = (int)pieces(p->filters, FILTER_UNIT);
    const ptrdiff_t bands = column_bands(p, &cut->layout);
    return (gradient_task){
        .group = i / cut->shares / cut->parts,
        .d0 = part_of(depth, part, cut->parts) * unit,
        .d1 = part_of(depth, part + 1, cut->parts) * unit,
        .f0 = part_of(lines, share, cut->shares) * FILTER_UNIT,
        .f1 = at_most(part_of(lines, share + 1, cut->shares) * FILTER_UNIT, p->filters),
        .from = part_of(bands, chunk, cut->chunks),
        .upto = part_of(bands, chunk + 1, cut->chunks),
    };
}

/* sums += those of one block; x and dy are the group's. */
static void add_block(const conv_product *p, const gradient_cut *cut, const row_places *places,
                      const gradient_task *t, ptrdiff_t block_number, const real *x, const real *dy,
                      int first, real *sums, real *scratch)
{
    const int depth = t->d1 - t->d0, rows = (depth + ROWS - 1) / ROWS;
    const size_t plane = (size_t)p->y.whole * p->x.whole;
    real *const panel = scratch + COLUMN_SCRATCH;
    block b;
    make_block(p, &cut->layout, block_number, &b);
    const column_rows c = find_columns(p, &cut->layout, places, &b, x, t->d0, depth, first, NULL, scratch);
    for (int f = t->f0; f < t->f1; f += WIDTH) {
        const int width = at_most(WIDTH, t->f1 - f), vecs = (width + LANES - 1) / LANES;
        turn_panel(p, &b, dy + f * plane, width, panel);
        for (int k = 0; k < rows; ++k) {
            const int d = part_of(depth, k, rows), n = part_of(depth, k + 1, rows) - d;
            turned_tiles[n - 1][vecs - 1](b.count, c.columns, c.row + d, panel,
                                          sums + (size_t)d * cut->ld + f - t->f0, cut->ld);
        }
    }
}

/* sums (depth, filters) of one task. scratch: GRADIENT_SCRATCH values. */
static void run_gradient_task(const conv_product *p, const gradient_cut *cut, const row_places *places,
                              const gradient_task *t, const real *x, const real *dy, real *sums,
                              real *scratch)
{
    const column_layout *l = &cut->layout;
    x += (size_t)t->group * p->channels * p->y.in * p->x.in;
    dy += (size_t)t->group * p->filters * p->y.whole * p->x.whole;
    for (ptrdiff_t band = t->from; band < t->upto; ++band) {
        const ptrdiff_t from = band_start(p, l, band), upto = band_start(p, l, band + 1);
        const int first = l->bands ? fill_band_strips(p, l, x, from, upto, scratch) : 0;
        for (ptrdiff_t i = from; i < upto; ++i) add_block(p, cut, places, t, i, x, dy, first, sums, scratch);
    }
}

/* Adds a task's sums to its part of dw. */
static void add_task(const conv_product *p, const gradient_task *t, const real *sums, int ld, real *dw)
{
    const int depth = product_depth(p);
    add_turned(sums, ld, t->d1 - t->d0, t->f1 - t->f0,
               dw + t->group * p->group_stride + (size_t)t->f0 * depth + t->d0, depth);
}

/* sums[0] += sums[1] + ..., in this order; `chunks` areas of n values. */
static void merge_chunks(real *sums, size_t n, int chunks)
{
    for (int i = 1; i < chunks; ++i) {
        const real *more = sums + i * n;
        for (size_t k = 0; k < n; ++k) sums[k] += more[k];
    }
}

/* Each task owns a part of dw; where dw is small, chunks of the pixels have sums of their own, merged at the
 * end. */
static void gradient(const conv_product *p, const real *x, const real *dy, real *dw, real *workspace,
                     int threads)
{
    const gradient_cut cut = cut_gradient(p);
    const int tasks = p->groups * cut.parts * cut.shares,
              held = cut.chunks > 1 ? tasks * cut.chunks : threads;
    const size_t area = (size_t)cut.rows * cut.ld;
    row_places places;
    place_all_rows(p, &cut.layout, &places);
    task_list all, merges;
    list_tasks(&all, tasks * cut.chunks, threads);
    list_tasks(&merges, cut.chunks > 1 ? tasks : 0, threads);
#pragma omp parallel num_threads(threads)
    {
        const int me = omp_get_thread_num();
        real *const scratch = workspace + held * area + (size_t)me * GRADIENT_SCRATCH;
        EACH_TASK(i, &all) {
            const int task = i % tasks, chunk = i / tasks;
            const gradient_task t = cut_task(p, &cut, task, chunk);
            real *sums = workspace + (cut.chunks > 1 ? task * cut.chunks + chunk : me) * area;
            memset(sums, 0, sizeof(real) * area);
            run_gradient_task(p, &cut, &places, &t, x, dy, sums, scratch);
            if (cut.chunks == 1) add_task(p, &t, sums, cut.ld, dw);
        }
#pragma omp barrier
        EACH_TASK(i, &merges) {
            const gradient_task t = cut_task(p, &cut, (int)i, 0);
            real *sums = workspace + (size_t)i * cut.chunks * area;
            merge_chunks(sums, area, cut.chunks);
            add_task(p, &t, sums, cut.ld, dw);
        }
    }
}
#endif
