/* Winograd's algorithm for 3x3 taps with stride 2 and padding 1. On one axis, the inputs at even places of a
 * tile meet taps 0 and 2, those at odd places tap 1:
 *   y[i] = (w[0] d[2i] + w[2] d[2i + 2]) + w[1] d[2i + 1]
 * Each of both is a filter that moves by one: F(4, 2) with 5 inputs and F(4, 1) with 4. Both are computed at
 * the points +-1/2 and +-5/4, the first also at infinity, where the second is 0. So their products have the
 * same transform to outputs, and are summed like those of further channels. In two dimensions there are four
 * phases, of 25, 20, 20 and 16 points: 81 products for 4 x 4 outputs in place of 144. Phase 2 * y + x: of each
 * axis, 0 for taps 0 and 2, 1 for tap 1. Body of an engine. */
#ifndef DN_WINOGRAD_STRIDED_BODY_H
#define DN_WINOGRAD_STRIDED_BODY_H
#include "winograd_transforms_body.h"

enum { STRIDED_STEP = 8, STRIDED_INPUTS = 9, STRIDED_COLUMNS = STRIDED_TILES * STRIDED_STEP + 1 };

/* o (9) = B' d of both phases of an axis, one behind the other, d (9). */
INLINE void points_of_both(const vec *d, vec *o)
{
    vec even[STRIDED_SIDE], odd[STRIDED_SIDE];
    EACH(i, STRIDED_SIDE) even[i] = d[2 * i];
    EACH(i, STRIDED_LAST) odd[i] = d[2 * i + 1];
    points_of_input(STRIDED, even, o);
    finite_points(odd, o + STRIDED_SIDE);
}
/* The place i, k of points_of_both() in two dimensions: its phase and its point. */
INLINE int both_phase(int i, int k) { return 2 * (i >= STRIDED_SIDE) + (k >= STRIDED_SIDE); }
INLINE int both_point(int i, int k)
{
    return (i >= STRIDED_SIDE ? i - STRIDED_SIDE : i) * STRIDED_SIDE +
           (k >= STRIDED_SIDE ? k - STRIDED_SIDE : k);
}

/* The points of all phases of strips first .. end: out[e][tile] of LANES channels, phases s->together
 * apart. */
static void input_strided(const winograd_cut *cut, const tile_source *s, int live, ptrdiff_t first,
                          ptrdiff_t end, real *out, size_t plane, size_t ld)
{
    static const vec nothing[STRIDED_COLUMNS];
    vec gathered[STRIDED_INPUTS * STRIDED_COLUMNS + LANES], half[STRIDED_INPUTS][STRIDED_COLUMNS];
    for (ptrdiff_t strip = first; strip < end; ++strip) {
        const band b = next_band(cut, strip, strip + 1);
        const window w = band_window(s, &b, STRIDED_STEP, STRIDED_INPUTS);
        const int columns = b.columns * STRIDED_STEP + 1, pitch = w.x1 - w.x0;
        const int left = w.x0 - (s->x + b.x * STRIDED_STEP), top = w.y0 - (s->y + b.y * STRIDED_STEP);
        gather_window(s, &w, s->from + s->image * b.image, live, gathered);
        const vec *row[STRIDED_INPUTS];
        for (int i = 0; i < STRIDED_INPUTS; ++i)
            row[i] = i >= top && i - top < w.y1 - w.y0 ? gathered + (i - top) * pitch : nothing;
        for (int j = 0; j < columns; ++j) {
            const int x = j - left, inside = x >= 0 && x < pitch;
            vec d[STRIDED_INPUTS], o[STRIDED_INPUTS];
            if (inside) {
                EACH(i, STRIDED_INPUTS) d[i] = row[i][x];
                points_of_both(d, o);
            }
            EACH(i, STRIDED_INPUTS) half[i][j] = inside ? o[i] : (vec){0};
        }
        for (int j = 0; j < b.columns; ++j, out += ld) {
            EACH(i, STRIDED_INPUTS)
            {
                vec o[STRIDED_INPUTS];
                points_of_both(half[i] + j * STRIDED_STEP, o);
                EACH(k, STRIDED_INPUTS)
                {
                    const int e = both_point(i, k);
                    store(out + e * plane + phase_place(both_phase(i, k), e) * s->together, o[k]);
                }
            }
        }
    }
}

/* 1 / M'(p) at the points, M having them as its roots. */
#define AT_NEAR ((real)(-16. / 21))
#define AT_FAR ((real)(32. / 105))

/* o (9) = G of both phases: of taps g[0] and g[2], and of g[1]. */
INLINE void points_of_three(const vec g[3], vec *o)
{
    const vec e1 = AT_NEAR * g[0], f1 = AT_NEAR * NEAR * g[2], e2 = AT_FAR * g[0], f2 = AT_FAR * FAR * g[2];
    o[0] = f1 + e1, o[1] = f1 - e1, o[2] = f2 + e2, o[3] = f2 - e2;
    o[4] = g[2];
    o[5] = AT_NEAR * g[1], o[6] = -o[5], o[7] = AT_FAR * g[1], o[8] = -o[7];
}
/* g (3) = G' of both phases: the transpose. */
INLINE void three_of_points(const vec *d, vec g[3])
{
    g[0] = AT_NEAR * (d[0] - d[1]) + AT_FAR * (d[2] - d[3]);
    g[1] = AT_NEAR * (d[5] - d[6]) + AT_FAR * (d[7] - d[8]);
    g[2] = AT_NEAR * NEAR * (d[0] + d[1]) + AT_FAR * FAR * (d[2] + d[3]) + d[4];
}

/* out[e] of all phases that have point e, `phase` apart. */
static __attribute__((noinline)) void filter_strided(int turned, const real *filter, real *out, size_t plane,
                                                     size_t phase)
{
    vec half[3][STRIDED_INPUTS], g[3], o[STRIDED_INPUTS];
    EACH(j, 3)
    {
        EACH(i, 3) g[i] = load(filter + (turned ? 8 - 3 * i - j : 3 * i + j) * LANES);
        points_of_three(g, half[j]);
    }
    EACH(i, STRIDED_INPUTS)
    {
        EACH(j, 3) g[j] = half[j][i];
        points_of_three(g, o);
        EACH(k, STRIDED_INPUTS)
        {
            const int e = both_point(i, k);
            store(out + e * plane + phase_place(both_phase(i, k), e) * phase, o[k]);
        }
    }
}
static void weights_strided(const conv_product *p, const real *w, int filter, real *out, size_t plane,
                            size_t ld)
{
    transform_weights(filter_strided, p, w, filter, out, plane, ld, p->channels * ld);
}

INLINE void weights_of_strided_tile(const real *points, size_t plane, size_t phase, vec g[9])
{
    vec half[3][STRIDED_INPUTS], d[STRIDED_INPUTS], o[3];
    EACH(i, STRIDED_INPUTS)
    {
        EACH(k, STRIDED_INPUTS)
        {
            const int e = both_point(i, k);
            d[k] = load(points + e * plane + phase_place(both_phase(i, k), e) * phase);
        }
        three_of_points(d, o);
        EACH(j, 3) half[j][i] = o[j];
    }
    EACH(j, 3)
    {
        three_of_points(half[j], o);
        EACH(i, 3) g[3 * i + j] = o[i];
    }
}

static void delta_strided(const winograd_cut *cut, const tile_source *s, int live, ptrdiff_t first,
                          ptrdiff_t end, real *out, size_t plane, size_t ld)
{
    transform_tiles(STRIDED, 1, cut, s, live, first, end, out, plane, ld);
}
static void outputs_strided(const conv_product *p, const winograd_cut *cut, const real *points, size_t plane,
                            size_t ld, int filter, ptrdiff_t first, ptrdiff_t end, real *y,
                            lane_moments *moments)
{
    transform_outputs(STRIDED, p, cut, points, plane, ld, filter, first, end, y, moments);
}
static void weight_gradient_strided(int channels, const real *points, size_t plane, real *dw)
{
    transform_weight_gradient(weights_of_strided_tile, channels, points, plane, dw);
}
static const winograd_transforms transforms_strided = {
    input_strided, delta_strided, outputs_strided, weights_strided, filter_strided, weight_gradient_strided};
#endif
