/* Register tiles: the innermost product of the engine. A tile is ROWS x (VECS * LANES) outputs held in
 * registers while the depth runs; every loop above it only brings the operands near. Body of an engine:
 * included once per generation of processors. */
#ifndef DN_TILE_BODY_H
#define DN_TILE_BODY_H
#include "engine.h"
#include "vec.h"

/* The largest tile: sums, one row of b and one value of a must fit the registers (16, or 32 with AVX-512). */
#if VEC_BYTES == 64
#define ROWS 8
#define VECS 3
#else
#define ROWS 6
#define VECS 2
#endif
enum { WIDTH = VECS * LANES };
_Static_assert(ROWS <= MOST_ROWS && (int)WIDTH <= (int)MOST_WIDTH && COLUMNS % WIDTH == 0,
               "bounds of engine.h");

/* sum (rows, vecs) becomes activation(scale * sum + shift), row i being filter `filter` + i. */
INLINE void finish(int rows, int vecs, const conv_epilogue *ep, int filter, vec sum[])
{
    if (ep->scale) EACH(i, rows) { EACH(v, vecs) sum[i * vecs + v] *= ep->scale[filter + i]; }
    if (ep->shift) EACH(i, rows) { EACH(v, vecs) sum[i * vecs + v] += ep->shift[filter + i]; }
    if (ep->activation == RELU) EACH(i, rows * vecs) sum[i] = where_positive(-sum[i], (vec){0}, sum[i]);
    if (ep->activation == LEAKY)
        EACH(i, rows * vecs) sum[i] = where_positive(sum[i], sum[i], (real).1 * sum[i]);
}

INLINE void load_tile(int rows, int vecs, const real *c, ptrdiff_t ldc, vec sum[])
{
    EACH(i, rows) { EACH(v, vecs) sum[i * vecs + v] = load(c + i * ldc + v * LANES); }
}
INLINE void store_tile(int rows, int vecs, real *c, ptrdiff_t ldc, const vec sum[])
{
    EACH(i, rows) { EACH(v, vecs) store(c + i * ldc + v * LANES, sum[i * vecs + v]); }
}
INLINE void add_tile(int rows, int vecs, const real *c, ptrdiff_t ldc, vec sum[])
{
    EACH(i, rows) { EACH(v, vecs) sum[i * vecs + v] += load(c + i * ldc + v * LANES); }
}

/* The product of the forward pass. c (rows, vecs * LANES; distance ldc) = or, with add, += a * b, then the
 * epilogue. a is a panel (depth, ROWS) of weights; row k of b begins at b + row[k]. rows and vecs are
 * constants, so that `sum` lives in registers. */
INLINE void packed_product(int rows, int vecs, int depth, const real *a, const real *b, const int *row,
                           real *c, ptrdiff_t ldc, int add, const conv_epilogue *ep, int filter)
{
    vec sum[ROWS * VECS];
    /* Until the sums are ready, c has come. */
    EACH(i, rows) { EACH(v, vecs) __builtin_prefetch(c + i * ldc + v * LANES, 1); }
    EACH(i, rows * vecs) sum[i] = (vec){0};
    for (int k = 0; k < depth; ++k, a += ROWS) {
        vec column[VECS];
        EACH(v, vecs) column[v] = load(b + row[k] + v * LANES);
        EACH(i, rows) { EACH(v, vecs) sum[i * vecs + v] += a[i] * column[v]; }
    }
    if (add) add_tile(rows, vecs, c, ldc, sum);
    if (ep) finish(rows, vecs, ep, filter, sum);
    store_tile(rows, vecs, c, ldc, sum);
}

/* The product of the weight gradient. c (rows, vecs * LANES; distance ldc) += a * b: row i of a begins at a +
 * row[i] and has depth values, b is a panel (depth, WIDTH). */
INLINE void turned_product(int rows, int vecs, int depth, const real *a, const int *row, const real *b,
                           real *c, ptrdiff_t ldc)
{
    const real *from[ROWS];
    vec sum[ROWS * VECS];
    EACH(i, rows) from[i] = a + row[i];
    load_tile(rows, vecs, c, ldc, sum);
    for (int k = 0; k < depth; ++k, b += WIDTH) {
        vec column[VECS];
        EACH(v, vecs) column[v] = load(b + v * LANES);
        EACH(i, rows) { EACH(v, vecs) sum[i * vecs + v] += from[i][k] * column[v]; }
    }
    store_tile(rows, vecs, c, ldc, sum);
}

/* The product of Winograd's points. c (rows, vecs * LANES; distance ldc) = or, with add, += a * b; with
 * CONTINUE the sums go on from c as if there had been no end. a has element (row, k) at row * a_row + k *
 * a_step, row k of b begins at b + k * ldb. */
enum { CONTINUE = 2 };
INLINE void strided_product(int rows, int vecs, int depth, const real *a, ptrdiff_t a_row, ptrdiff_t a_step,
                            const real *b, ptrdiff_t ldb, real *c, ptrdiff_t ldc, int add)
{
    vec sum[ROWS * VECS];
    EACH(i, rows * vecs) sum[i] = (vec){0};
    if (add == CONTINUE) load_tile(rows, vecs, c, ldc, sum);
    for (int k = 0; k < depth; ++k, a += a_step, b += ldb) {
        vec column[VECS];
        EACH(v, vecs) column[v] = load(b + v * LANES);
        EACH(i, rows) { EACH(v, vecs) sum[i * vecs + v] += a[i * a_row] * column[v]; }
    }
    if (add && add != CONTINUE) add_tile(rows, vecs, c, ldc, sum);
    store_tile(rows, vecs, c, ldc, sum);
}

/* The product of rows by rows. sums (rows, vecs) of a's rows times b's, `depth` values long; up to LANES - 1
 * more are written. */
INLINE void along_product(int rows, int vecs, int depth, const real *a, ptrdiff_t lda, const real *b,
                          ptrdiff_t ldb, real *sums)
{
    vec sum[ROWS * VECS + LANES];
    EACH(i, ROWS * VECS + LANES) sum[i] = (vec){0};
    for (int k = 0; k < depth; k += LANES) {
        const int n = lanes_of(depth - k);
        vec other[VECS];
        EACH(v, vecs) other[v] = load_some(b + v * ldb + k, n);
        EACH(i, rows)
        {
            const vec one = load_some(a + i * lda + k, n);
            EACH(v, vecs) sum[i * vecs + v] += one * other[v];
        }
    }
    EACH(i, (rows * vecs + LANES - 1) / LANES) store(sums + i * LANES, totals(sum + i * LANES));
}

/* ---- panels of ROWS rows, as the tiles read them */
/* packed (depth, ROWS) = rows of `depth` values, `stride` apart, turned; missing rows 0. */
static void turn_rows(const real *from, ptrdiff_t stride, int rows, int depth, real *packed)
{
    for (int d = 0; d < depth; d += LANES, packed += LANES * ROWS) {
        const int n = at_most(LANES, depth - d);
        for (int i = 0; i < ROWS; i += LANES) {
            vec r[LANES];
            EACH(k, LANES) r[k] = i + k < rows ? load_some(from + (i + k) * stride + d, n) : (vec){0};
            transpose(r);
            EACH(k, LANES)
            {
                if (k < n) store_some(packed + k * ROWS + i, r[k], ROWS - i < LANES ? ROWS - i : LANES);
            }
        }
    }
}

/* packed (depth, ROWS) = depth rows of `rows` values, `stride` apart, filled up with zeros. */
static void pad_rows(const real *from, ptrdiff_t stride, int rows, int depth, real *packed)
{
    for (int d = 0; d < depth; ++d, from += stride, packed += ROWS) {
        EACH(i, (ROWS + LANES - 1) / LANES)
        {
            const int n = ROWS - i * LANES < LANES ? ROWS - i * LANES : LANES;
            const vec v = load_some(from + i * LANES, at_most(n, lanes_of(rows - i * LANES)));
            store_some(packed + i * LANES, v, n);
        }
    }
}

/* A function for every size up to ROWS x VECS, and tables of them: packed_tiles[rows - 1][vecs - 1]. */
typedef void (*packed_tile)(int depth, const real *a, const real *b, const int *row, real *c, ptrdiff_t ldc,
                            int add, const conv_epilogue *ep, int filter);
typedef void (*along_tile)(int depth, const real *a, ptrdiff_t lda, const real *b, ptrdiff_t ldb, real *sums);
typedef void (*turned_tile)(int depth, const real *a, const int *row, const real *b, real *c, ptrdiff_t ldc);
typedef void (*strided_tile)(int depth, const real *a, ptrdiff_t a_row, ptrdiff_t a_step, const real *b,
                             ptrdiff_t ldb, real *c, ptrdiff_t ldc, int add);
#define TILE(rows, vecs) \
    static void packed_##rows##x##vecs(int depth, const real *a, const real *b, const int *row, real *c, \
                                       ptrdiff_t ldc, int add, const conv_epilogue *ep, int filter) \
    { \
        packed_product(rows, vecs, depth, a, b, row, c, ldc, add, ep, filter); \
    } \
    static void turned_##rows##x##vecs(int depth, const real *a, const int *row, const real *b, real *c, \
                                       ptrdiff_t ldc) \
    { \
        turned_product(rows, vecs, depth, a, row, b, c, ldc); \
    } \
    static void along_##rows##x##vecs(int depth, const real *a, ptrdiff_t lda, const real *b, ptrdiff_t ldb, \
                                      real *sums) \
    { \
        along_product(rows, vecs, depth, a, lda, b, ldb, sums); \
    } \
    static void strided_##rows##x##vecs(int depth, const real *a, ptrdiff_t a_row, ptrdiff_t a_step, \
                                        const real *b, ptrdiff_t ldb, real *c, ptrdiff_t ldc, int add) \
    { \
        strided_product(rows, vecs, depth, a, a_row, a_step, b, ldb, c, ldc, add); \
    }
#if VEC_BYTES == 64
#define TILES(rows) TILE(rows, 1) TILE(rows, 2) TILE(rows, 3)
#define NAMES(family, rows) {family##_##rows##x1, family##_##rows##x2, family##_##rows##x3}
TILES(7)
TILES(8)
#define LAST_NAMES(family) , NAMES(family, 7), NAMES(family, 8)
#else
#define TILES(rows) TILE(rows, 1) TILE(rows, 2)
#define NAMES(family, rows) {family##_##rows##x1, family##_##rows##x2}
#define LAST_NAMES(family)
#endif
TILES(1)
TILES(2)
TILES(3)
TILES(4)
TILES(5)
TILES(6)
#define FAMILY(family) \
    { \
        NAMES(family, 1), NAMES(family, 2), NAMES(family, 3), NAMES(family, 4), NAMES(family, 5), \
            NAMES(family, 6) LAST_NAMES(family) \
    }
static const packed_tile packed_tiles[ROWS][VECS] = FAMILY(packed);
static const turned_tile turned_tiles[ROWS][VECS] = FAMILY(turned);
static const along_tile along_tiles[ROWS][VECS] = FAMILY(along);
static const strided_tile strided_tiles[ROWS][VECS] = FAMILY(strided);
#endif
