/* Winograd's transforms. A. L. Toom (1963), S. Winograd (1980): the product of two polynomials follows from
 * its values at as many points as it has coefficients. For F(m, 3), m outputs of a filter with three taps,
 * these are n = m + 2 points, the last of them infinity. A. Lavin and S. Gray, arXiv:1509.09308:
 *   y = A' [(G g) * (B' d)]           d: n inputs, g: 3 weights, y: m outputs, * element by element
 *   Y = A' [(G g G') * (B' d B)] A    in two dimensions: n n products in place of 9 m m
 *   m = 4: points 0, +-sqrt(1/2), +-sqrt(2), whose errors are smaller than those of 0, +-1, +-2
 *   m = 6: points 0, +-1, +-2, +-1/2
 * A vector holds one value of LANES channels, or filters. m is a constant in each instance. Body of an
 * engine. */
#ifndef DN_WINOGRAD_TRANSFORMS_BODY_H
#define DN_WINOGRAD_TRANSFORMS_BODY_H
#include "tile_body.h"
#include "winograd.h"

#define ROOT_HALF ((real).70710678118654752440)
#define ROOT_2 ((real)1.41421356237309504880)
/* With stride 2: points +-NEAR, +-FAR and infinity. */
#define NEAR ((real).5)
#define FAR ((real)1.25)
#define SQUARES_PRODUCT (NEAR * NEAR * FAR * FAR)
#define SQUARES_SUM (NEAR * NEAR + FAR * FAR)

/* o (4) = B' d with stride 2, without the point infinity: d (4). */
INLINE void finite_points(const vec *d, vec *o)
{
    const vec e1 = d[3] - FAR * FAR * d[1], f1 = NEAR * (d[2] - FAR * FAR * d[0]);
    const vec e2 = d[3] - NEAR * NEAR * d[1], f2 = FAR * (d[2] - NEAR * NEAR * d[0]);
    o[0] = e1 + f1, o[1] = e1 - f1, o[2] = e2 + f2, o[3] = e2 - f2;
}

/* The instances: tiles of 4 and of 6 outputs; with stride 2, of 4 outputs (winograd_strided_body.h). */
enum { STRIDED = 2 };
INLINE int tile_side(int f) { return f == STRIDED ? 4 : f; }
INLINE int points_side(int f) { return f == STRIDED ? STRIDED_SIDE : f + 2; }

/* o (n) = B' d, d (n) */
INLINE void points_of_input(int f, const vec *d, vec *o)
{
    if (f == STRIDED) {
        finite_points(d, o);
        o[4] = d[4] + SQUARES_PRODUCT * d[0] - SQUARES_SUM * d[2];
    } else if (f == 4) {
        const vec e1 = d[4] - 2 * d[2], f1 = ROOT_HALF * (d[3] - 2 * d[1]);
        const vec e2 = d[4] - (real).5 * d[2], f2 = ROOT_2 * (d[3] - (real).5 * d[1]);
        o[0] = d[0] + d[4] - (real)2.5 * d[2];
        o[1] = e1 + f1, o[2] = e1 - f1, o[3] = e2 + f2, o[4] = e2 - f2;
        o[5] = d[1] + d[5] - (real)2.5 * d[3];
    } else {
        const vec e1 = d[6] + d[2] - (real)4.25 * d[4], f1 = d[5] + d[1] - (real)4.25 * d[3];
        const vec e2 = d[6] + (real).25 * d[2] - (real)1.25 * d[4],
                  f2 = 2 * d[5] + (real).5 * d[1] - (real)2.5 * d[3];
        const vec e3 = d[6] + 4 * d[2] - 5 * d[4], f3 = (real).5 * d[5] + 2 * d[1] - (real)2.5 * d[3];
        o[0] = d[6] - d[0] + (real)5.25 * (d[2] - d[4]);
        o[1] = e1 + f1, o[2] = e1 - f1, o[3] = e2 + f2, o[4] = e2 - f2, o[5] = e3 + f3, o[6] = e3 - f3;
        o[7] = d[7] - d[1] + (real)5.25 * (d[3] - d[5]);
    }
}
/* o (m) = A' d, d (n) */
INLINE void outputs_of_points(int f, const vec *d, vec *o)
{
    if (f == STRIDED) {
        const vec s1 = d[0] + d[1], t1 = d[0] - d[1], s2 = d[2] + d[3], t2 = d[2] - d[3];
        o[0] = s1 + s2;
        o[1] = NEAR * t1 + FAR * t2;
        o[2] = NEAR * NEAR * s1 + FAR * FAR * s2;
        o[3] = d[4] + NEAR * NEAR * NEAR * t1 + FAR * FAR * FAR * t2;
        return;
    }
    const vec s1 = d[1] + d[2], t1 = d[1] - d[2], s2 = d[3] + d[4], t2 = d[3] - d[4];
    if (f == 4) {
        o[0] = d[0] + s1 + s2;
        o[1] = ROOT_HALF * t1 + ROOT_2 * t2;
        o[2] = (real).5 * s1 + 2 * s2;
        o[3] = d[5] + ROOT_HALF / 2 * t1 + ROOT_2 * 2 * t2;
    } else {
        const vec s3 = d[5] + d[6], t3 = d[5] - d[6];
        o[0] = d[0] + s1 + s2 + s3;
        o[1] = t1 + 2 * t2 + (real).5 * t3;
        o[2] = s1 + 4 * s2 + (real).25 * s3;
        o[3] = t1 + 8 * t2 + (real).125 * t3;
        o[4] = s1 + 16 * s2 + (real).0625 * s3;
        o[5] = d[7] + t1 + 32 * t2 + (real).03125 * t3;
    }
}
/* o (n) = A d, d (m): the transpose of outputs_of_points(). */
INLINE void points_of_delta(int f, const vec *d, vec *o)
{
    if (f == STRIDED) {
        const vec e1 = d[0] + NEAR * NEAR * d[2], f1 = NEAR * d[1] + NEAR * NEAR * NEAR * d[3];
        const vec e2 = d[0] + FAR * FAR * d[2], f2 = FAR * d[1] + FAR * FAR * FAR * d[3];
        o[0] = e1 + f1, o[1] = e1 - f1, o[2] = e2 + f2, o[3] = e2 - f2;
        o[4] = d[3];
        return;
    }
    o[0] = d[0];
    if (f == 4) {
        const vec e1 = d[0] + (real).5 * d[2], f1 = ROOT_HALF * d[1] + ROOT_HALF / 2 * d[3];
        const vec e2 = d[0] + 2 * d[2], f2 = ROOT_2 * d[1] + ROOT_2 * 2 * d[3];
        o[1] = e1 + f1, o[2] = e1 - f1, o[3] = e2 + f2, o[4] = e2 - f2;
        o[5] = d[3];
    } else {
        const vec e1 = d[0] + d[2] + d[4], f1 = d[1] + d[3] + d[5];
        const vec e2 = d[0] + 4 * d[2] + 16 * d[4], f2 = 2 * d[1] + 8 * d[3] + 32 * d[5];
        const vec e3 = d[0] + (real).25 * d[2] + (real).0625 * d[4],
                  f3 = (real).5 * d[1] + (real).125 * d[3] + (real).03125 * d[5];
        o[1] = e1 + f1, o[2] = e1 - f1, o[3] = e2 + f2, o[4] = e2 - f2, o[5] = e3 + f3, o[6] = e3 - f3;
        o[7] = d[5];
    }
}
/* o (n) = G g, g (3) */
INLINE void points_of_weights(int m, const vec *g, vec *o)
{
    if (m == 4) {
        const vec e1 = (real)(-2. / 3) * g[0] + (real)(-1. / 3) * g[2],
                  f1 = (real)(-2. / 3) * ROOT_HALF * g[1];
        const vec e2 = (real)(1. / 6) * g[0] + (real)(1. / 3) * g[2], f2 = (real)(1. / 6) * ROOT_2 * g[1];
        o[0] = g[0];
        o[1] = e1 + f1, o[2] = e1 - f1, o[3] = e2 + f2, o[4] = e2 - f2;
        o[5] = g[2];
    } else {
        const vec e1 = (real)(-2. / 9) * (g[0] + g[2]), f1 = (real)(-2. / 9) * g[1];
        const vec e2 = (real)(1. / 90) * g[0] + (real)(2. / 45) * g[2], f2 = (real)(1. / 45) * g[1];
        const vec e3 = (real)(32. / 45) * g[0] + (real)(8. / 45) * g[2], f3 = (real)(16. / 45) * g[1];
        o[0] = -g[0];
        o[1] = e1 + f1, o[2] = e1 - f1, o[3] = e2 + f2, o[4] = e2 - f2, o[5] = e3 + f3, o[6] = e3 - f3;
        o[7] = g[2];
    }
}
/* o (3) = G' d, d (n): the transpose of points_of_weights(). */
INLINE void weights_of_points(int m, const vec *d, vec *o)
{
    const vec s1 = d[1] + d[2], t1 = d[1] - d[2], s2 = d[3] + d[4], t2 = d[3] - d[4];
    if (m == 4) {
        o[0] = d[0] - (real)(2. / 3) * s1 + (real)(1. / 6) * s2;
        o[1] = (real)(1. / 6) * ROOT_2 * t2 - (real)(2. / 3) * ROOT_HALF * t1;
        o[2] = d[5] + (real)(1. / 3) * (s2 - s1);
    } else {
        const vec s3 = d[5] + d[6], t3 = d[5] - d[6];
        o[0] = (real)(1. / 90) * s2 + (real)(32. / 45) * s3 - d[0] - (real)(2. / 9) * s1;
        o[1] = (real)(1. / 45) * t2 + (real)(16. / 45) * t3 - (real)(2. / 9) * t1;
        o[2] = d[7] + (real)(2. / 45) * s2 + (real)(8. / 45) * s3 - (real)(2. / 9) * s1;
    }
}

/* ---- between planes and vectors of lanes, one plane a lane */
/* to[i] = value i of planes 0 .. live, i < count; lanes without a plane are 0. Up to LANES - 1 vectors more
 * are written. The end of a plane is read with the beginning of the next one, if there is one. */
INLINE void gather(const real *from, size_t plane, int live, int count, vec *to)
{
    for (int i = 0; i < count; i += LANES, from += LANES, to += LANES) {
        const int whole = count - i >= LANES ? live : count - i + plane >= LANES ? live - 1 : 0;
        vec t[LANES];
        if (whole >= LANES - 1) {
            EACH(k, LANES - 1) t[k] = load(from + k * plane);
            const real *const last = from + (LANES - 1) * plane;
            t[LANES - 1] = whole == LANES  ? load(last)
                           : live == LANES ? load_some(last, count - i)
                                           : (vec){0};
        } else
            for (int k = 0; k < LANES; ++k)
                t[k] = k < live ? load_some(from + k * plane, lanes_of(count - i)) : (vec){0};
        transpose(t);
        EACH(k, LANES) to[k] = t[k];
    }
}
/* The reverse: value i of planes 0 .. live = from[i], or with add += it. */
INLINE void scatter(const vec *from, int live, int count, int add, real *to, size_t plane)
{
    for (int i = 0; i < count; i += LANES, from += LANES, to += LANES) {
        const int n = at_most(LANES, count - i);
        vec t[LANES];
        if (n == LANES)
            EACH(k, LANES) t[k] = from[k];
        else
            EACH(k, LANES) t[k] = k < n ? from[k] : (vec){0};
        transpose(t);
        for (int k = 0; k < live; ++k) {
            real *const at = to + k * plane;
            store_some(at, add ? t[k] + load_some(at, n) : t[k], n);
        }
    }
}

/* ---- bands: tile rows y .. y + rows, tile columns x .. x + columns of an image; one strip, or several whole
 * rows */
typedef struct {
    int image, y, x, rows, columns;
} band;
static band next_band(const winograd_cut *cut, ptrdiff_t strip, ptrdiff_t end)
{
    const ptrdiff_t per_image = (ptrdiff_t)cut->down * cut->strips;
    const int inside = (int)(strip % per_image), piece = inside % cut->strips;
    band b = {(int)(strip / per_image), inside / cut->strips, part_of(cut->across, piece, cut->strips), 1, 0};
    b.columns = part_of(cut->across, piece + 1, cut->strips) - b.x;
    if (cut->strips > 1) return b;
    const int fit = (BAND / (cut->across * cut->m + 2) - 2) / cut->m, left = cut->down - b.y;
    b.rows = at_most(fit > 1 ? fit : 1, at_most(left, (int)(end - strip)));
    return b;
}

/* Where tiles lie in planes (h, w): tile (i, j) begins at (y + i * m, x + j * m), and may reach outside,
 * where zeros are. */
typedef struct {
    const real *from; /* the first plane of image 0 */
    size_t image;     /* distance of images */
    int h, w, y, x;
    int together; /* with stride 2: channels whose phases lie one after the other */
} tile_source;

/* The part of a band that lies in the image. */
typedef struct {
    int y0, y1, x0, x1;
} window;
static window band_window(const tile_source *s, const band *b, int m, int side)
{
    const int y = s->y + b->y * m, x = s->x + b->x * m;
    return (window){y > 0 ? y : 0, at_most(y + (b->rows - 1) * m + side, s->h), x > 0 ? x : 0,
                    at_most(x + (b->columns - 1) * m + side, s->w)};
}
INLINE void gather_window(const tile_source *s, const window *w, const real *image, int live, vec *to)
{
    const size_t plane = (size_t)s->h * s->w;
    const int rows = w->y1 - w->y0, columns = w->x1 - w->x0;
    const real *from = image + (size_t)w->y0 * s->w + w->x0;
    if (columns <= 0) return;
    if (columns == s->w)
        gather(from, plane, live, rows * columns, to);
    else
        for (int y = 0; y < rows; ++y)
            gather(from + (size_t)y * s->w, plane, live, columns, to + y * columns);
}

/* The points of strips first .. end: out[e][tile] of LANES channels, rows ld apart. Of the input (is_delta
 * 0), tiles of n x n: B' d B; of dy, tiles of m x m: A dy A'. Columns first, then rows. */
INLINE void transform_tiles(int f, int is_delta, const winograd_cut *cut, const tile_source *s, int live,
                            ptrdiff_t first, ptrdiff_t end, real *out, size_t plane, size_t ld)
{
    static const vec nothing[STRIP_COLUMNS + LANES];
    const int m = tile_side(f), n = points_side(f), side = is_delta ? m : n;
    vec gathered[GATHERED + LANES], half[MOST_SIDE][STRIP_COLUMNS], d[MOST_SIDE], o[MOST_SIDE];
    for (ptrdiff_t strip = first; strip < end;) {
        const band b = next_band(cut, strip, end);
        const window w = band_window(s, &b, m, side);
        const int columns = (b.columns - 1) * m + side, pitch = w.x1 - w.x0;
        const int left = w.x0 - (s->x + b.x * m);
        gather_window(s, &w, s->from + s->image * b.image, live, gathered);
        for (int r = 0; r < b.rows; ++r) {
            const vec *row[MOST_SIDE];
            for (int i = 0; i < side; ++i) {
                const int y = s->y + (b.y + r) * m + i;
                row[i] = y >= w.y0 && y < w.y1 ? gathered + (y - w.y0) * pitch : nothing;
            }
            for (int j = 0; j < columns; ++j) {
                const int x = j - left, inside = x >= 0 && x < pitch;
                if (inside) {
                    EACH(i, side) d[i] = row[i][x];
                    if (is_delta)
                        points_of_delta(f, d, o);
                    else
                        points_of_input(f, d, o);
                }
                EACH(i, n) half[i][j] = inside ? o[i] : (vec){0};
            }
            for (int j = 0; j < b.columns; ++j, out += ld) {
                EACH(i, n)
                {
                    if (is_delta)
                        points_of_delta(f, half[i] + j * m, o);
                    else
                        points_of_input(f, half[i] + j * m, o);
                    EACH(e, n) store(out + (i * n + e) * plane, o[e]);
                }
            }
        }
        strip += b.rows;
    }
}

/* ---- outputs: epilogue and moments of LANES filters at once */
typedef struct {
    double count, sum[LANES], square[LANES];
    vec shift; /* near the mean, so that the squares lose no digits */
} lane_moments;

static void add_lane_moments(const vec *y, int n, lane_moments *l)
{
    enum { CHAINS = 4 }; /* so that one addition need not wait for another */
    vec sum[CHAINS] = {{0}}, square[CHAINS] = {{0}};
    if (l->count == 0) l->shift = y[0];
    for (int i = 0; i < n; i += CHAINS) {
        EACH(k, CHAINS)
        {
            const vec d = i + k < n ? y[i + k] - l->shift : (vec){0};
            sum[k] += d;
            square[k] += d * d;
        }
    }
    l->count += n;
    for (int i = 0; i < LANES; ++i) {
        l->sum[i] += (double)((sum[0] + sum[1]) + (sum[2] + sum[3]))[i];
        l->square[i] += (double)((square[0] + square[1]) + (square[2] + square[3]))[i];
    }
}
static void store_moments(const lane_moments *l, int live, ptrdiff_t blocks, part_moments *to)
{
    for (int i = 0; i < live; ++i, to += blocks) {
        const double squares = l->square[i] - l->sum[i] * l->sum[i] / l->count;
        *to = (part_moments){l->count, l->shift[i] + l->sum[i] / l->count, squares > 0 ? squares : 0};
    }
}

/* y (n) becomes activation(scale * y + shift), lane i being filter `filter` + i. */
static void finish_lanes(const conv_epilogue *ep, int filter, int live, int n, vec *y)
{
    const vec scale = ep->scale ? load_some(ep->scale + filter, live) : (vec){0} + 1;
    const vec shift = ep->shift ? load_some(ep->shift + filter, live) : (vec){0};
    for (int i = 0; i < n; ++i) {
        const vec v = scale * y[i] + shift;
        y[i] = ep->activation == RELU    ? where_positive(-v, (vec){0}, v)
               : ep->activation == LEAKY ? where_positive(v, v, (real).1 * v)
                                         : v;
    }
}

/* In place: of each square of 2 x 2 of y (height, width) the largest. */
static void pool_squares(int height, int width, vec *y)
{
    vec *to = y;
    for (int i = 0; i < height; i += 2, y += 2 * width)
        for (int j = 0; j < width; j += 2)
            *to++ = larger(larger(y[j], y[j + 1]), larger(y[width + j], y[width + j + 1]));
}

/* y of filters from `filter` on = A' M A of strips first .. end; points[e][tile] begins at the first of these
 * filters, rows ld apart. */
INLINE void transform_outputs(int f, const conv_product *p, const winograd_cut *cut, const real *points,
                              size_t plane, size_t ld, int filter, ptrdiff_t first, ptrdiff_t end, real *y,
                              lane_moments *moments)
{
    const int m = tile_side(f), n = points_side(f), live = at_most(LANES, p->filters - filter);
    const int across = stored_width(p), step = m >> p->pool;
    const size_t area = stored_area(p);
    vec out[GATHERED + LANES], half[MOST_SIDE][MOST_SIDE], d[MOST_SIDE], o[MOST_SIDE];
    for (ptrdiff_t strip = first; strip < end;) {
        const band b = next_band(cut, strip, end);
        int width = at_most(b.columns * m, p->x.out - b.x * m),
            height = at_most(b.rows * m, p->y.out - b.y * m);
        for (int r = 0; r < b.rows; ++r, points += b.columns * ld) {
            /* From the right: what the last tile writes beyond its row, the first one then overwrites. */
            for (int j = b.columns - 1; j >= 0; --j) {
                for (int e = 0; e < n; ++e) {
                    EACH(i, n) d[i] = load(points + j * ld + (i * n + e) * plane);
                    outputs_of_points(f, d, o);
                    EACH(i, m) half[i][e] = o[i];
                }
                for (int i = 0; i < m; ++i) outputs_of_points(f, half[i], out + (r * m + i) * width + j * m);
            }
        }
        if (p->epilogue) finish_lanes(p->epilogue, filter, live, width * height, out);
        if (moments) add_lane_moments(out, width * height, moments);
        if (p->pool) pool_squares(height, width, out);
        width >>= p->pool, height >>= p->pool;
        real *const to =
            y + ((size_t)b.image * p->maps_out + filter) * area + (size_t)b.y * step * across + b.x * step;
        if (width == across)
            scatter(out, live, width * height, p->add, to, area);
        else
            for (int i = 0; i < height; ++i)
                scatter(out + i * width, live, width, p->add, to + (size_t)i * across, area);
        strip += b.rows;
    }
}

/* ---- weights */
enum { WEIGHT_CHANNELS = 64 };

/* out[e] = G g G' of LANES filters, g (9, LANES); turned by 180 degrees for the backward pass. One function
 * for all uses, so that the compiler rounds alike in all. */
INLINE void points_of_filter(int m, int turned, const real *filter, real *out, size_t plane)
{
    const int n = m + 2;
    vec half[3][MOST_SIDE], g[3], o[MOST_SIDE];
    EACH(j, 3)
    {
        EACH(i, 3) g[i] = load(filter + (turned ? 8 - 3 * i - j : 3 * i + j) * LANES);
        points_of_weights(m, g, o);
        EACH(i, n) half[j][i] = o[i];
    }
    EACH(i, n)
    {
        EACH(j, 3) g[j] = half[j][i];
        points_of_weights(m, g, o);
        EACH(e, n) store(out + (i * n + e) * plane, o[e]);
    }
}

/* The weights of LANES filters from `filter` on as vectors: lane i is filter `filter` + i. Channels first ..
 * first + channels, at most WEIGHT_CHANNELS; up to LANES - 1 vectors more are written. */
INLINE void gather_weights(const conv_product *p, const real *w, int filter, int first, int channels,
                           vec *gathered)
{
    const int live = at_most(LANES, p->filters - filter);
    const real *from = w + filter * p->filter_stride + first * p->channel_stride;
    if (p->channel_stride == 9)
        gather(from, p->filter_stride, live, 9 * channels, gathered);
    else
        for (int c = 0; c < channels; ++c)
            gather(from + c * p->channel_stride, p->filter_stride, live, 9, gathered + 9 * c);
}

/* U[e][channel] = G g G' of LANES filters from `filter` on, rows ld apart; with stride 2 `phase` is the
 * distance of phases. */
typedef void (*filter_points)(int turned, const real *filter, real *out, size_t plane, size_t phase);
INLINE void transform_weights(filter_points transform, const conv_product *p, const real *w, int filter,
                              real *out, size_t plane, size_t ld, size_t phase)
{
    const int turned = p->y.step < 0;
    vec gathered[9 * WEIGHT_CHANNELS + LANES];
    for (int first = 0; first < p->channels; first += WEIGHT_CHANNELS) {
        const int channels = at_most(WEIGHT_CHANNELS, p->channels - first);
        gather_weights(p, w, filter, first, channels, gathered);
        for (int c = 0; c < channels; ++c, out += ld)
            transform(turned, (const real *)(gathered + 9 * c), out, plane, phase);
    }
}

/* to (LANES, 9) = g turned. Each row is stored with what the next one then overwrites; so is what lies behind
 * the last, less than LANES values. */
INLINE void turn_weights(const vec g[9], real *to)
{
    enum { ACROSS = (9 + LANES - 1) / LANES };
    vec t[ACROSS][LANES];
    EACH(i, ACROSS)
    {
        EACH(k, LANES) t[i][k] = i * LANES + k < 9 ? g[i * LANES + k] : (vec){0};
        transpose(t[i]);
    }
    EACH(k, LANES) EACH(i, ACROSS) store(to + 9 * k + i * LANES, t[i][k]);
}

/* g = G' dU G of LANES channels. */
INLINE void weights_of_points_2d(int m, const real *points, size_t plane, vec g[9])
{
    const int n = m + 2;
    vec half[3][MOST_SIDE], d[MOST_SIDE];
    for (int e = 0; e < n; ++e) {
        vec o[3];
        EACH(i, n) d[i] = load(points + (i * n + e) * plane);
        weights_of_points(m, d, o);
        EACH(i, 3) half[i][e] = o[i];
    }
    EACH(i, 3) weights_of_points(m, half[i], g + 3 * i);
}

/* dw (channels, 9) += G' dU G of one filter; points[e] holds the channels. */
typedef void (*weights_of_tile)(const real *points, size_t plane, size_t phase, vec g[9]);
INLINE void transform_weight_gradient(weights_of_tile weights, int channels, const real *points, size_t plane,
                                      real *dw)
{
    vec g[9];
    real turned[9 * WEIGHT_CHANNELS + LANES];
    for (int first = 0; first < channels; first += WEIGHT_CHANNELS) {
        const int count = 9 * at_most(WEIGHT_CHANNELS, channels - first);
        for (int c = 0; 9 * c < count; c += LANES) {
            weights(points + first + c, plane, channels, g);
            turn_weights(g, turned + 9 * c);
        }
        for (int i = 0; i < count; i += LANES) {
            const int n = lanes_of(count - i);
            store_some(dw + i, load_some(dw + i, n) + load(turned + i), n);
        }
        dw += count;
    }
}

/* The transforms of each tile size, with m a constant in each. */
typedef struct {
    void (*input)(const winograd_cut *, const tile_source *, int, ptrdiff_t, ptrdiff_t, real *, size_t,
                  size_t);
    void (*delta)(const winograd_cut *, const tile_source *, int, ptrdiff_t, ptrdiff_t, real *, size_t,
                  size_t);
    void (*outputs)(const conv_product *, const winograd_cut *, const real *, size_t, size_t, int, ptrdiff_t,
                    ptrdiff_t, real *, lane_moments *);
    void (*weights)(const conv_product *, const real *, int, real *, size_t, size_t);
    filter_points filter;
    void (*weight_gradient)(int, const real *, size_t, real *);
} winograd_transforms;
#define TRANSFORMS(m) \
    static void input_##m(const winograd_cut *cut, const tile_source *s, int live, ptrdiff_t first, \
                          ptrdiff_t end, real *out, size_t plane, size_t ld) \
    { \
        transform_tiles(m, 0, cut, s, live, first, end, out, plane, ld); \
    } \
    static void delta_##m(const winograd_cut *cut, const tile_source *s, int live, ptrdiff_t first, \
                          ptrdiff_t end, real *out, size_t plane, size_t ld) \
    { \
        transform_tiles(m, 1, cut, s, live, first, end, out, plane, ld); \
    } \
    static void outputs_##m(const conv_product *p, const winograd_cut *cut, const real *points, \
                            size_t plane, size_t ld, int filter, ptrdiff_t first, ptrdiff_t end, real *y, \
                            lane_moments *moments) \
    { \
        transform_outputs(m, p, cut, points, plane, ld, filter, first, end, y, moments); \
    } \
    static __attribute__((noinline)) void filter_##m(int turned, const real *filter, real *out, \
                                                     size_t plane, size_t phase) \
    { \
        (void)phase; \
        points_of_filter(m, turned, filter, out, plane); \
    } \
    static void weights_##m(const conv_product *p, const real *w, int filter, real *out, size_t plane, \
                            size_t ld) \
    { \
        transform_weights(filter_##m, p, w, filter, out, plane, ld, 0); \
    } \
    INLINE void weights_of_tile_##m(const real *points, size_t plane, size_t phase, vec g[9]) \
    { \
        (void)phase; \
        weights_of_points_2d(m, points, plane, g); \
    } \
    static void weight_gradient_##m(int channels, const real *points, size_t plane, real *dw) \
    { \
        transform_weight_gradient(weights_of_tile_##m, channels, points, plane, dw); \
    } \
    static const winograd_transforms transforms_##m = {input_##m,   delta_##m,  outputs_##m, \
                                                       weights_##m, filter_##m, weight_gradient_##m};
TRANSFORMS(4)
TRANSFORMS(6)
#endif
