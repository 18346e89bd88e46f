/* 3x3 convolution by Winograd's algorithm (winograd_transforms_body.h): tiles of the input, of all images
 * side by side, become points V; at each point one matrix product of tiles by filters; its result M becomes
 * tiles of the output:
 *   V[e][tile][channel], U[e][channel][filter], M[e][tile][filter] = sum over channels of V U
 * Backward data is the same with turned weights (their roles are those of conv_product). A task holds V
 * and M of its block of tiles in its core's cache. Body of an engine. */
#ifndef DN_WINOGRAD_BODY_H
#define DN_WINOGRAD_BODY_H
#include "depthwise_body.h"
#include "winograd_strided_body.h"

static const winograd_transforms *transforms_of(const winograd_cut *cut)
{
    if (cut->phases > 1) return &transforms_strided;
    return cut->m == 4 ? &transforms_4 : &transforms_6;
}

/* Filters are cut into panels of at most VECS vectors: each share has the same number of them. */
typedef struct {
    int vectors, panels, per_share;
} panel_cut;
static panel_cut cut_panels(const conv_product *p, const winograd_cut *cut)
{
    const int vectors = (int)pieces(p->filters, LANES),
              per_share = (int)pieces(pieces(vectors, cut->shares), VECS);
    return (panel_cut){vectors, cut->shares * per_share, per_share};
}
/* Values of U for one point and one vector of filters: planes are skewed by a cache line. */
static size_t vector_plane(int channels) { return (size_t)channels * LANES + SKEW; }

/* u[e][channel][vecs * LANES]: the weights of vectors first .. first + vecs of filters, and of `channels`
 * channels from `channel` on. */
static void make_panel(const conv_product *p, const winograd_cut *cut, const real *w, int channel,
                       int channels, int first, int vecs, real *u)
{
    conv_product part = *p;
    part.channels = channels;
    for (int v = 0; v < vecs; ++v)
        transforms_of(cut)->weights(&part, w + channel * p->channel_stride, (first + v) * LANES,
                                    u + v * LANES, vecs * vector_plane(channels * cut->phases),
                                    (size_t)vecs * LANES);
}

/* m[e][tile][vecs * LANES] = v u for all points (add: strided_product()); v starts at u's first channel. */
static void multiply_points(const conv_product *p, const winograd_cut *cut, int tiles, const real *v,
                            const real *u, int channels, int vecs, int add, real *m)
{
    const size_t row = points_row(cut, p->channels), width = (size_t)vecs * LANES;
    const int n = (int)pieces(tiles, ROWS), points = winograd_points(cut);
    for (int e = 0; e < points; ++e) {
        const int depth = channels * phases_at(cut, e);
        for (int i = 0; i < n; ++i) {
            const int t = part_of(tiles, i, n), rows = part_of(tiles, i + 1, n) - t;
            strided_tiles[rows - 1][vecs - 1](depth, v + t * row, row, 1, u, width, m + t * width, width,
                                              add);
        }
        v += winograd_plane(cut, row);
        u += vecs * vector_plane(channels * cut->phases);
        m += winograd_plane(cut, width);
    }
}
/* The same, with the weights made on the way, so few channels at a time that they stay in the cache. */
static void transform_and_multiply(const conv_product *p, const winograd_cut *cut, const real *w, int first,
                                   int vecs, int tiles, const real *v, real *u, real *m)
{
    const int most = panel_channels(cut);
    for (int c = 0; c < p->channels; c += most) {
        const int channels = at_most(most, p->channels - c);
        make_panel(p, cut, w, c, channels, first, vecs, u);
        multiply_points(p, cut, tiles, v + c * cut->phases, u, channels, vecs, c ? CONTINUE : 0, m);
    }
}

/* The planes of the input from channel c on; with stride 2, `together` channels lie side by side in V. */
static tile_source input_source(const conv_product *p, const real *x, int c, int together)
{
    const size_t plane = (size_t)p->y.in * p->x.in;
    return (tile_source){.from = x + c * plane,
                         .image = p->maps_in * plane,
                         .h = p->y.in,
                         .w = p->x.in,
                         .y = lowest_input(&p->y),
                         .x = lowest_input(&p->x),
                         .together = together};
}

/* Panels first .. end for the strips of a block. v and m are this task's own, v is `ready` where it holds the
 * block's tiles; u is that of panel 0, or where the weights are not ready, room for one panel. */
typedef struct {
    ptrdiff_t block;
    int first, end, ready;
    real *v, *m, *u;
} winograd_task;
static void run_winograd_task(const conv_product *p, const winograd_cut *cut, const winograd_task *t,
                              const real *x, const real *w, real *y)
{
    const winograd_transforms *transforms = transforms_of(cut);
    const panel_cut panels = cut_panels(p, cut);
    const ptrdiff_t from = part_of(cut->all, t->block, cut->blocks),
                    upto = part_of(cut->all, t->block + 1, cut->blocks);
    const size_t row = points_row(cut, p->channels);
    const int tiles = count_tiles(cut, from, upto), together = panel_channels(cut);
    for (int c = 0; c < p->channels && !t->ready; c += LANES) {
        const tile_source s = input_source(p, x, c, together);
        transforms->input(cut, &s, at_most(LANES, p->channels - c), from, upto,
                          t->v + place_in_row(cut, c, together), winograd_plane(cut, row), row);
    }
    for (int i = t->first; i < t->end; ++i) {
        const int first = part_of(panels.vectors, i, panels.panels),
                  vecs = part_of(panels.vectors, i + 1, panels.panels) - first;
        if (winograd_ahead(cut))
            multiply_points(p, cut, tiles, t->v,
                            t->u + winograd_points(cut) * first * vector_plane(p->channels), p->channels,
                            vecs, 0, t->m);
        else
            transform_and_multiply(p, cut, w, first, vecs, tiles, t->v, t->u, t->m);
        for (int v = 0; v < vecs; ++v) {
            const int filter = (first + v) * LANES, live = at_most(LANES, p->filters - filter);
            lane_moments moments = {.count = 0};
            transforms->outputs(p, cut, t->m + v * LANES, winograd_plane(cut, (size_t)vecs * LANES),
                                (size_t)vecs * LANES, filter, from, upto, y, p->moments ? &moments : NULL);
            if (p->moments)
                store_moments(&moments, live, cut->blocks, p->moments + filter * cut->blocks + t->block);
        }
    }
}

static void winograd_product(const conv_product *p, const winograd_cut *cut, const real *x, const real *w,
                             real *y, real *workspace, int threads)
{
    const panel_cut panels = cut_panels(p, cut);
    const int points = winograd_points(cut), ahead = winograd_ahead(cut),
              rows = at_most(panel_channels(cut), p->channels) * cut->phases;
    const size_t v = points * winograd_plane(cut, points_row(cut, p->channels)),
                 m = points * winograd_plane(cut, WIDTH);
    const size_t u =
        ahead ? points * panels.vectors * vector_plane(p->channels) : points * VECS * vector_plane(rows);
    real *const own = workspace + (ahead ? u : 0);
    task_list tasks;
    list_tasks(&tasks, cut->blocks * cut->shares, threads);
#pragma omp parallel num_threads(threads)
    {
#pragma omp for schedule(static)
        for (int i = 0; i < (ahead ? panels.panels : 0); ++i) {
            const int first = part_of(panels.vectors, i, panels.panels),
                      end = part_of(panels.vectors, i + 1, panels.panels);
            make_panel(p, cut, w, 0, p->channels, first, end - first,
                       workspace + points * first * vector_plane(p->channels));
        }
        real *const mine = own + omp_get_thread_num() * (v + m + (ahead ? 0 : u));
        winograd_task t = {.block = -1, .v = mine, .m = mine + v, .u = ahead ? workspace : mine + v + m};
        EACH_TASK(task, &tasks)
        {
            t.ready = t.block == task / cut->shares;
            t.block = task / cut->shares;
            t.first = task % cut->shares * panels.per_share;
            t.end = t.first + panels.per_share;
            run_winograd_task(p, cut, &t, x, w, y);
        }
    }
}

/* ---- the weight gradient: dU[e][filter][channel] = sum over tiles of D V, D = A dy A'; dw += G' dU G */
typedef struct {
    ptrdiff_t from, upto; /* blocks */
    int f0, f1, c0, c1;
} winograd_gradient_task;

/* Task i of the cut: channels vary faster than filters. */
static winograd_gradient_task cut_winograd_task(const conv_product *p, const winograd_cut *cut, int i,
                                                int chunk)
{
    const int c = i % cut->channel_parts, f = i / cut->channel_parts;
    const int lines_c = (int)pieces(p->channels, FILTER_UNIT), lines_f = (int)pieces(p->filters, FILTER_UNIT);
    return (winograd_gradient_task){
        .from = part_of(cut->blocks, chunk, cut->chunks),
        .upto = part_of(cut->blocks, chunk + 1, cut->chunks),
        .f0 = part_of(lines_f, f, cut->filter_parts) * FILTER_UNIT,
        .f1 = at_most(part_of(lines_f, f + 1, cut->filter_parts) * FILTER_UNIT, p->filters),
        .c0 = part_of(lines_c, c, cut->channel_parts) * FILTER_UNIT,
        .c1 = at_most(part_of(lines_c, c + 1, cut->channel_parts) * FILTER_UNIT, p->channels),
    };
}

/* sums[e][filter][channel] (+)= d' v over the tiles of a block. */
static void multiply_gradient(const winograd_cut *cut, int tiles, int filters, int channels, const real *v,
                              const real *d, int add, real *sums)
{
    const size_t row = cut->line;
    const int down = (int)pieces(filters, ROWS), points = winograd_points(cut);
    for (int e = 0; e < points; ++e) {
        const int vectors = (int)pieces(channels * phases_at(cut, e), LANES),
                  across = (int)pieces(vectors, VECS);
        for (int j = 0; j < across; ++j) {
            const int c = part_of(vectors, j, across), vecs = part_of(vectors, j + 1, across) - c;
            for (int i = 0; i < down; ++i) {
                const int f = part_of(filters, i, down), rows = part_of(filters, i + 1, down) - f;
                strided_tiles[rows - 1][vecs - 1](tiles, d + f, 1, row, v + c * LANES, row,
                                                  sums + f * row + c * LANES, row, add);
            }
        }
        v += winograd_plane(cut, row);
        d += winograd_plane(cut, row);
        sums += cut->rows * row + SKEW;
    }
}

/* sums of one task; v and d are its own. */
static void run_winograd_gradient_task(const conv_product *p, const winograd_cut *cut,
                                       const winograd_gradient_task *t, const real *x, const real *dy,
                                       real *v, real *d, real *sums)
{
    const winograd_transforms *transforms = transforms_of(cut);
    const size_t row = cut->line, out = (size_t)p->y.out * p->x.out;
    for (ptrdiff_t b = t->from; b < t->upto; ++b) {
        const ptrdiff_t from = part_of(cut->all, b, cut->blocks),
                        upto = part_of(cut->all, b + 1, cut->blocks);
        for (int c = t->c0; c < t->c1; c += LANES) {
            const tile_source s = input_source(p, x, c, t->c1 - t->c0);
            transforms->input(cut, &s, at_most(LANES, t->c1 - c), from, upto, v + c - t->c0,
                              winograd_plane(cut, row), row);
        }
        for (int f = t->f0; f < t->f1; f += LANES) {
            const tile_source s = {
                .from = dy + f * out, .image = p->maps_out * out, .h = p->y.out, .w = p->x.out};
            transforms->delta(cut, &s, at_most(LANES, t->f1 - f), from, upto, d + f - t->f0,
                              winograd_plane(cut, row), row);
        }
        multiply_gradient(cut, count_tiles(cut, from, upto), t->f1 - t->f0, t->c1 - t->c0, v, d, b > t->from,
                          sums);
    }
}

static void add_winograd_gradient(const conv_product *p, const winograd_cut *cut,
                                  const winograd_gradient_task *t, const real *sums, real *dw)
{
    const size_t row = cut->line;
    for (int f = t->f0; f < t->f1; ++f) {
        transforms_of(cut)->weight_gradient(t->c1 - t->c0, sums + (f - t->f0) * row, cut->rows * row + SKEW,
                                            dw + f * p->filter_stride + (size_t)t->c0 * 9);
    }
}

/* Each task owns a part of dU; where there are few, chunks of the tiles have sums of their own, merged at the
 * end. */
static void winograd_gradient(const conv_product *p, const winograd_cut *cut, const real *x, const real *dy,
                              real *dw, real *workspace, int threads)
{
    const int tasks = cut->filter_parts * cut->channel_parts, chunks = cut->chunks,
              points = winograd_points(cut), held = chunks > 1 ? tasks * chunks : threads;
    const size_t row = cut->line, area = points * (cut->rows * row + SKEW),
                 v = points * winograd_plane(cut, row);
    real *const scratch = workspace + held * area;
    task_list all, merges;
    list_tasks(&all, tasks * chunks, threads);
    list_tasks(&merges, chunks > 1 ? tasks : 0, threads);
#pragma omp parallel num_threads(threads)
    {
        const int me = omp_get_thread_num();
        EACH_TASK(i, &all)
        {
            const int task = i % tasks, chunk = i / tasks;
            const winograd_gradient_task t = cut_winograd_task(p, cut, task, chunk);
            real *const sums = workspace + (chunks > 1 ? task * chunks + chunk : me) * area;
            real *const mine = scratch + me * 2 * v;
            run_winograd_gradient_task(p, cut, &t, x, dy, mine, mine + v, sums);
            if (chunks == 1) add_winograd_gradient(p, cut, &t, sums, dw);
        }
#pragma omp barrier
        EACH_TASK(i, &merges)
        {
            const winograd_gradient_task t = cut_winograd_task(p, cut, (int)i, 0);
            real *const sums = workspace + (size_t)i * chunks * area;
            merge_chunks(sums, area, chunks);
            add_winograd_gradient(p, cut, &t, sums, dw);
        }
    }
}
#endif
