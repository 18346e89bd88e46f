/* The gradient of the data by Winograd's algorithm, with stride 2 (winograd_strided_body.h). On one axis
 *   dx[2k] = w[1] dy[k],   dx[2k + 1] = w[2] dy[k] + w[0] dy[k + 1]
 * so tiles of dy of 5 x 5, four apart, give 8 x 8 of dx: its even places are F(4, 1) and its odd ones F(4, 2)
 * of the same points of dy. Each of the four phases has weights, products and outputs of its own: 81 products
 * in all. Body of an engine. */
#ifndef DN_WINOGRAD_STRIDED_DATA_BODY_H
#define DN_WINOGRAD_STRIDED_DATA_BODY_H
#include "winograd_body.h"

/* What a thread works in: V[e][tile][channel], U[e][channel][phase][filter] and M[e][tile][phase][filter], of
 * the phases that have point e; `block` is that whose tiles v holds, -1: none yet. */
typedef struct {
    ptrdiff_t block;
    real *v, *u, *m;
} strided_space;

/* m (+)= v u; v and u begin at the same channel. */
static void multiply_phases(const winograd_cut *cut, int tiles, const real *v, size_t row, const real *u,
                            int channels, int vecs, int add, real *m)
{
    const size_t width = (size_t)PHASES * vecs * LANES;
    const int n = (int)pieces(tiles, ROWS);
    for (int e = 0; e < STRIDED_POINTS; ++e) {
        const int vectors = phases_with(e) * vecs, across = (int)pieces(vectors, VECS);
        for (int j = 0; j < across; ++j) {
            const int at = part_of(vectors, j, across), some = part_of(vectors, j + 1, across) - at;
            for (int i = 0; i < n; ++i) {
                const int t = part_of(tiles, i, n), rows = part_of(tiles, i + 1, n) - t;
                strided_tiles[rows - 1][some - 1](channels, v + t * row, row, 1, u + at * LANES, width,
                                                  m + t * width + at * LANES, width, add);
            }
        }
        v += winograd_plane(cut, row);
        u += PHASES * vecs * vector_plane(channels);
        m += winograd_plane(cut, width);
    }
}

/* half (4, 5) = A' M of a phase of one tile, phases `apart` values apart; a point that it has not is zero. */
INLINE void half_outputs(int phase, const real *points, size_t plane, size_t apart, vec half[4][STRIDED_SIDE])
{
    EACH(k, STRIDED_SIDE)
    {
        vec d[STRIDED_SIDE], o[STRIDED_SIDE];
        EACH(i, STRIDED_SIDE)
        {
            const int e = i * STRIDED_SIDE + k;
            d[i] = has_point(phase, e) ? load(points + e * plane + phase_place(phase, e) * apart) : (vec){0};
        }
        outputs_of_points(STRIDED, d, o);
        EACH(i, 4) half[i][k] = o[i];
    }
}

/* dx of LANES filters from `filter` on in strips first .. end. */
static void strided_dx(const conv_product *p, const winograd_cut *cut, const real *points, size_t width,
                       int filter, ptrdiff_t first, ptrdiff_t end, real *dx)
{
    enum { PITCH_DX = STRIDED_TILES * STRIDED_STEP };
    const int h = p->y.whole, w = p->x.whole, live = at_most(LANES, p->filters - filter);
    const size_t plane = winograd_plane(cut, PHASES * width);
    vec out[STRIDED_STEP][PITCH_DX], half[4][STRIDED_SIDE], o[4];
    for (ptrdiff_t strip = first; strip < end; ++strip) {
        const band b = next_band(cut, strip, strip + 1);
        const int y = b.y * STRIDED_STEP, x = b.x * STRIDED_STEP, height = at_most(STRIDED_STEP, h - y),
                  across = at_most(b.columns * STRIDED_STEP, w - x);
        for (int j = 0; j < b.columns; ++j, points += PHASES * width) {
            EACH(q, PHASES)
            {
                half_outputs(q, points, plane, width, half);
                EACH(i, 4)
                {
                    outputs_of_points(STRIDED, half[i], o);
                    EACH(k, 4) out[2 * i + 1 - q / 2][j * STRIDED_STEP + 2 * k + 1 - q % 2] = o[k];
                }
            }
        }
        real *const to = dx + ((size_t)b.image * p->maps_out + filter) * h * w + (size_t)y * w + x;
        for (int i = 0; i < height; ++i)
            scatter(out[i], live, across, p->add, to + (size_t)i * w, (size_t)h * w);
    }
}

/* A block of tiles and a share of the filters. */
static void run_strided_task(const conv_product *p, const winograd_cut *cut, ptrdiff_t block, int share,
                             const real *dy, const real *w, real *dx, strided_space *s)
{
    const ptrdiff_t from = part_of(cut->all, block, cut->blocks),
                    upto = part_of(cut->all, block + 1, cut->blocks);
    const size_t row = points_row(cut, p->channels), in = (size_t)p->y.in * p->x.in;
    const int tiles = count_tiles(cut, from, upto), vectors = (int)pieces(p->filters, LANES),
              end = part_of(vectors, share + 1, cut->shares);
    for (int c = 0; c < p->channels && s->block != block; c += LANES) {
        const tile_source source = {
            .from = dy + c * in, .image = p->maps_in * in, .h = p->y.in, .w = p->x.in};
        transform_tiles(STRIDED, 0, cut, &source, LANES, from, upto, s->v + c, winograd_plane(cut, row), row);
    }
    s->block = block;
    for (int first = part_of(vectors, share, cut->shares), vecs; first < end; first += vecs) {
        vecs = at_most(STRIDED_VECTORS, end - first);
        const size_t width = (size_t)vecs * LANES;
        for (int c = 0; c < p->channels; c += STRIDED_CHANNELS) {
            conv_product part = *p;
            part.channels = at_most(STRIDED_CHANNELS, p->channels - c);
            const size_t panel = PHASES * vecs * vector_plane(part.channels);
            for (int v = 0; v < vecs; ++v)
                transform_weights(filter_strided, &part, w + c * p->channel_stride, (first + v) * LANES,
                                  s->u + v * LANES, panel, PHASES * width, width);
            multiply_phases(cut, tiles, s->v + c, row, s->u, part.channels, vecs, c ? CONTINUE : 0, s->m);
        }
        for (int v = 0; v < vecs; ++v)
            strided_dx(p, cut, s->m + v * LANES, width, (first + v) * LANES, from, upto, dx);
    }
}

/* p is the first of the phases: what is asked of it holds for all. */
static void strided_data(const conv_product *p, const winograd_cut *cut, const real *dy, const real *w,
                         real *dx, real *workspace, int threads)
{
    const size_t panel = PHASES * STRIDED_VECTORS * vector_plane(at_most(STRIDED_CHANNELS, p->channels)),
                 v = STRIDED_POINTS * winograd_plane(cut, points_row(cut, p->channels)),
                 u = STRIDED_POINTS * panel,
                 m = STRIDED_POINTS * winograd_plane(cut, PHASES * STRIDED_VECTORS * LANES);
    task_list tasks;
    list_tasks(&tasks, cut->blocks * cut->shares, threads);
#pragma omp parallel num_threads(threads)
    {
        real *const own = workspace + omp_get_thread_num() * (v + u + m);
        strided_space space = {-1, own, own + v, own + v + u};
        EACH_TASK(i, &tasks)
        {
            run_strided_task(p, cut, i / cut->shares, i % cut->shares, dy, w, dx, &space);
        }
    }
}
#endif
