/* Winograd's algorithm in inference, with weights that are kept from one pass to the next. They are kept
 * plain, (vectors of LANES filters, channels, 9, LANES), not transformed: these would be four times as many,
 * and larger than the caches, and reading them takes longer than making them. A task is a block of tiles and
 * one panel of filters. For kept_channels() at a time it transforms the panel's weights and multiplies, so
 * that U, M and as much of V as is used together stay in its core's cache; the sums go on from chunk to chunk.
 * Tasks of one block follow one another, and its tiles stay transformed. Body of an engine. */
#ifndef DN_WINOGRAD_KEPT_BODY_H
#define DN_WINOGRAD_KEPT_BODY_H
#include "winograd_body.h"

static void keep_winograd(const conv_product *p, const real *w, real *kept, int threads)
{
    const size_t vector = (size_t)p->channels * 9 * LANES;
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int i = 0; i < pieces(p->filters, LANES); ++i) {
        vec gathered[9 * WEIGHT_CHANNELS + LANES];
        for (int c = 0; c < p->channels; c += WEIGHT_CHANNELS) {
            const int channels = at_most(WEIGHT_CHANNELS, p->channels - c);
            gather_weights(p, w, i * LANES, c, channels, gathered);
            memcpy(kept + i * vector + (size_t)c * 9 * LANES, gathered, sizeof(vec) * 9 * channels);
        }
    }
}

/* What a thread works in: V[chunk][e][tile][KEPT_CHANNELS] of its block, U[e][channel][filter] of a chunk and
 * M[e][tile][filter] of a panel. */
typedef struct {
    ptrdiff_t block; /* whose tiles v holds; -1: none yet */
    real *v, *u, *m;
} kept_space;

static void transform_block(const conv_product *p, const winograd_cut *cut, ptrdiff_t block, const real *x,
                            real *v)
{
    const ptrdiff_t from = part_of(cut->all, block, cut->blocks),
                    upto = part_of(cut->all, block + 1, cut->blocks);
    const int together = kept_channels(cut);
    for (int c = 0; c < p->channels; c += LANES) {
        const tile_source s = input_source(p, x, c, together);
        transforms_of(cut)->input(cut, &s, at_most(LANES, p->channels - c), from, upto,
                                  v + c / together * kept_v_chunk(cut) + c % together,
                                  cut->tiles * KEPT_CHANNELS + SKEW, KEPT_CHANNELS);
    }
}

/* Asks for part e of `parts` of what is read next: `bytes` from `next` on. */
INLINE void ask_for(const real *next, size_t bytes, int e, int parts)
{
    const char *at = (const char *)next;
    for (size_t i = bytes * e / parts; i < bytes * (e + 1) / parts; i += 64) __builtin_prefetch(at + i, 0, 2);
}

/* m[e][tile][width] = or go on with v u for all points; `vecs` rows of `bytes` from `next` on, `apart` values
 * apart, are the weights that come after. */
static void multiply_chunk(const winograd_cut *cut, int tiles, int channels, const real *v, const real *u,
                           int vecs, int add, real *m, const real *next, size_t bytes, size_t apart)
{
    const int n = (int)pieces(tiles, ROWS), points = winograd_points(cut), width = vecs * LANES;
    for (int e = 0; e < points; ++e) {
        const int depth = channels * phases_at(cut, e);
        for (int i = 0; i < vecs; ++i) ask_for(next + i * apart, bytes, e, points);
        for (int i = 0; i < n; ++i) {
            const int t = part_of(tiles, i, n), rows = part_of(tiles, i + 1, n) - t;
            strided_tiles[rows - 1][vecs - 1](depth, v + t * KEPT_CHANNELS, KEPT_CHANNELS, 1, u, width,
                                              m + t * width, width, add);
        }
        v += cut->tiles * KEPT_CHANNELS + SKEW;
        u += KEPT_CHANNELS * width + SKEW;
        m += cut->tiles * width + SKEW;
    }
}

static void run_kept_task(const conv_product *p, const winograd_cut *cut, ptrdiff_t block, int panel,
                          const real *x, const real *kept, real *y, kept_space *s)
{
    const int vectors = (int)pieces(p->filters, LANES), first = part_of(vectors, panel, cut->panels),
              vecs = part_of(vectors, panel + 1, cut->panels) - first, width = vecs * LANES;
    const ptrdiff_t from = part_of(cut->all, block, cut->blocks),
                    upto = part_of(cut->all, block + 1, cut->blocks);
    const int tiles = count_tiles(cut, from, upto), most = kept_channels(cut);
    const size_t vector = (size_t)p->channels * 9 * LANES, row = 9 * LANES;
    if (s->block != block) transform_block(p, cut, block, x, s->v);
    s->block = block;
    for (int c = 0; c < p->channels; c += most) {
        const int channels = at_most(most, p->channels - c), left = p->channels - c - channels;
        const real *w = kept + first * vector + c * row;
        for (int i = 0; i < vecs; ++i)
            for (int k = 0; k < channels; ++k)
                transforms_of(cut)->filter(0, w + i * vector + k * row, s->u + k * width + i * LANES,
                                           KEPT_CHANNELS * width + SKEW, (size_t)channels * width);
        multiply_chunk(cut, tiles, channels, s->v + c / most * kept_v_chunk(cut), s->u, vecs,
                       c ? CONTINUE : 0, s->m, left ? w + channels * row : kept + (first + vecs) * vector,
                       at_most(left ? left : p->channels, most) * row * sizeof(real), vector);
    }
    for (int i = 0; i < vecs; ++i)
        transforms_of(cut)->outputs(p, cut, s->m + i * LANES, cut->tiles * width + SKEW, width,
                                    (first + i) * LANES, from, upto, y, NULL);
}

static void kept_winograd(const conv_product *p, const winograd_cut *whole, const real *x, const real *kept,
                          real *y, real *workspace, int threads)
{
    winograd_cut cut = *whole;
    const int vectors = (int)pieces(p->filters, LANES);
    cut.panels = (int)pieces(vectors, VECS);
    const size_t v = pieces(p->channels, kept_channels(&cut)) * kept_v_chunk(&cut),
                 u = kept_panel(&cut, KEPT_CHANNELS), m = kept_panel(&cut, cut.tiles);
    task_list tasks;
    list_tasks(&tasks, cut.blocks * cut.panels, threads);
#pragma omp parallel num_threads(threads)
    {
        real *const own = workspace + omp_get_thread_num() * (v + u + m);
        kept_space space = {-1, own, own + v, own + v + u};
        EACH_TASK(i, &tasks) { run_kept_task(p, &cut, i / cut.panels, i % cut.panels, x, kept, y, &space); }
    }
}
#endif
