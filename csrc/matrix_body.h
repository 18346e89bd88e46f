/* The matrix product: our own SGEMM. Rows or columns of both operands lie side by side: a_row or a_column is 1,
 * b_row or b_column. Body of an engine. */
#ifndef DN_MATRIX_BODY_H
#define DN_MATRIX_BODY_H
#include "tile_body.h"

/* A task makes at most MATRIX_ROWS x COLUMNS values of C, and for the sake of TASKS not fewer than NARROWEST
 * columns; its operands are packed on the stack (213 KB of floats). */
enum { MATRIX_ROWS = 144, MATRIX_DEPTH = 128, NARROWEST = 96 };
_Static_assert(MATRIX_ROWS % ROWS == 0, "whole panels");

/* packed (panels, depth, ROWS) = alpha * rows m0 .. m0 + rows of A, columns k0 .. k0 + depth; missing rows
 * are zero. */
static void pack_a(const matrix_product *p, ptrdiff_t m0, int rows, ptrdiff_t k0, int depth, real *packed)
{
    for (int first = 0; first < rows; first += ROWS, packed += (size_t)depth * ROWS) {
        const real *a = p->a + (m0 + first) * p->a_row + k0 * p->a_column;
        if (p->a_column == 1)
            turn_rows(a, p->a_row, at_most(ROWS, rows - first), depth, packed);
        else
            pad_rows(a, p->a_column, at_most(ROWS, rows - first), depth, packed);
        for (int i = 0; i < depth * ROWS && p->alpha != 1; ++i) packed[i] *= p->alpha;
    }
}

/* packed (depth, PITCH) = rows k0 .. k0 + depth of B, columns n0 .. n0 + columns, zeros up to a whole vector. */
static void pack_b(const matrix_product *p, ptrdiff_t k0, int depth, ptrdiff_t n0, int columns, real *packed)
{
    const real *b = p->b + k0 * p->b_row + n0 * p->b_column;
    if (p->b_column == 1) {
        for (int k = 0; k < depth; ++k) {
            copy(packed + k * PITCH, b + k * p->b_row, columns);
            set_zero(packed + k * PITCH + columns, round_up(columns, LANES) - columns);
        }
        return;
    }
    for (int j = 0; j < columns; j += LANES) {
        for (int k = 0; k < depth; k += LANES) {
            const int n = lanes_of(depth - k);
            vec t[LANES];
            EACH(i, LANES) t[i] = j + i < columns ? load_some(b + (j + i) * p->b_column + k, n) : (vec){0};
            transpose(t);
            EACH(i, LANES)
            {
                if (i < n) store(packed + (k + i) * PITCH + j, t[i]);
            }
        }
    }
}

/* c (rows, columns) *= beta; with beta 0 it is not read, so that NaN in fresh memory does no harm. */
static void scale_c(real *c, ptrdiff_t ldc, int rows, int columns, real beta)
{
    if (beta == 1) return;
    for (int i = 0; i < rows; ++i, c += ldc) {
        for (int j = 0; j < columns; ++j) c[j] = beta == 0 ? 0 : beta * c[j];
    }
}

/* c (rows, columns) += packed a (depth, ROWS) * packed b, at most one tile. */
static void multiply_tile(const real *a, const real *b, const int *row, int depth, int rows, int columns,
                          real *c, ptrdiff_t ldc)
{
    const int vecs = (columns + LANES - 1) / LANES;
    const packed_tile multiply = packed_tiles[rows - 1][vecs - 1];
    real edge[ROWS * WIDTH];
    if (columns == vecs * LANES) {
        multiply(depth, a, b, row, c, ldc, 1, NULL, 0);
        return;
    }
    for (int r = 0; r < rows; ++r) copy(edge + r * WIDTH, c + r * ldc, columns);
    multiply(depth, a, b, row, edge, WIDTH, 1, NULL, 0);
    for (int r = 0; r < rows; ++r) copy(c + r * ldc, edge + r * WIDTH, columns);
}

/* c (rows, columns) += packed a * packed b, along C's rows: in the order of memory. */
static void multiply_packed(const real *a, const real *b, const int *row, int depth, int rows, int columns,
                            real *c, ptrdiff_t ldc)
{
    for (int i = 0; i < rows; i += ROWS) {
        for (int j = 0; j < columns; j += WIDTH)
            multiply_tile(a + i * depth, b + j, row, depth, at_most(ROWS, rows - i),
                          at_most(WIDTH, columns - j), c + i * ldc + j, ldc);
    }
}

static void matrix_task(const matrix_product *p, ptrdiff_t m0, int rows, ptrdiff_t n0, int columns)
{
    real a[MATRIX_ROWS * MATRIX_DEPTH], b[MATRIX_DEPTH * PITCH], *const c = p->c + m0 * p->ldc + n0;
    int row[MATRIX_DEPTH];
    for (int k = 0; k < MATRIX_DEPTH; ++k) row[k] = k * PITCH;
    scale_c(c, p->ldc, rows, columns, p->beta);
    for (ptrdiff_t k = 0; k < p->k; k += MATRIX_DEPTH) {
        const int depth = at_most(MATRIX_DEPTH, (int)(p->k - k));
        pack_a(p, m0, rows, k, depth, a);
        pack_b(p, k, depth, n0, columns, b);
        multiply_packed(a, b, row, depth, rows, columns, c, p->ldc);
    }
}

/* With few rows, packing B would take longer than the sums. Where those run along rows of both operands they
 * are formed without: columns n0 .. n0 + columns of C, as many products at a time as rows of A stay in the
 * first-level cache, at least ALONG_DEPTH: long runs of B are read faster. */
enum { ALONG_ROWS = 24, ALONG_DEPTH = 1024, ALONG_VALUES = 8192 };
static int sums_along_rows(const matrix_product *p)
{
    return p->m <= ALONG_ROWS && p->a_column == 1 && p->b_row == 1;
}
static void along_task(const matrix_product *p, ptrdiff_t n0, int columns)
{
    scale_c(p->c + n0, p->ldc, p->m, columns, p->beta);
    const int fit = ALONG_VALUES / (int)p->m, most = fit > ALONG_DEPTH ? fit : ALONG_DEPTH;
    for (ptrdiff_t k = 0; k < p->k; k += most) {
        const int depth = at_most(most, (int)(p->k - k));
        for (int j = 0, across; j < columns; j += across) {
            across = at_most(VECS, columns - j);
            for (int i = 0, down; i < p->m; i += down) {
                real sums[ROWS * VECS + LANES], *const c = p->c + i * p->ldc + n0 + j;
                down = at_most(ROWS, p->m - i);
                along_tiles[down - 1][across - 1](depth, p->a + i * p->a_row + k, p->a_row,
                                                  p->b + (n0 + j) * p->b_column + k, p->b_column, sums);
                for (int s = 0; s < down * across; ++s)
                    c[s / across * p->ldc + s % across] += p->alpha * sums[s];
            }
        }
    }
}

/* Where rows of B lie along memory they are added up as they are read, STREAMS of them side by side; sums
 * over MATRIX_DEPTH rows stay in the first-level cache, a piece of C's columns, before C gets them. */
enum { STREAMED_ROWS = 8, TOGETHER = 4, STREAMS = 8, PIECE = 4096, LEAST_STREAM = 2048 };
static int adds_rows(const matrix_product *p) { return p->m <= STREAMED_ROWS && p->b_column == 1; }

/* c (rows, columns) += a (rows, depth) * b (depth, columns); rows of a are STREAMS apart. */
INLINE void add_rows(int rows, int depth, const real *a, const real *b, ptrdiff_t b_row, int columns, real *c)
{
    for (int j = 0; j < columns; j += LANES) {
        const lane_set live = lanes_within(j, columns);
        vec sum[TOGETHER];
        EACH(i, rows) sum[i] = load_lanes(c + i * columns + j, live);
        EACH(k, depth)
        {
            const vec v = load_lanes(b + k * b_row + j, live);
            EACH(i, rows) sum[i] += a[i * STREAMS + k] * v;
        }
        EACH(i, rows) store_lanes(c + i * columns + j, sum[i], live);
    }
}
INLINE void add_some_rows(int rows, int depth, const real *a, const real *b, ptrdiff_t b_row, int columns,
                          real *c)
{
    switch (rows) {
    case 1: add_rows(1, depth, a, b, b_row, columns, c); break;
    case 2: add_rows(2, depth, a, b, b_row, columns, c); break;
    case 3: add_rows(3, depth, a, b, b_row, columns, c); break;
    default: add_rows(TOGETHER, depth, a, b, b_row, columns, c);
    }
}
/* sums (m, columns) += those over rows k .. k + depth of B, columns n0 .. n0 + columns. */
static void add_streams(const matrix_product *p, ptrdiff_t k, int depth, ptrdiff_t n0, int columns,
                        real *sums)
{
    real a[STREAMED_ROWS * STREAMS];
    for (int first = 0, some; first < depth; first += some) {
        const real *b = p->b + (k + first) * p->b_row + n0;
        some = depth - first < STREAMS ? 1 : STREAMS;
        for (int i = 0; i < p->m; ++i) {
            const real *from = p->a + i * p->a_row + (k + first) * p->a_column;
            for (int s = 0; s < some; ++s) a[i * STREAMS + s] = p->alpha * from[s * p->a_column];
        }
        for (int i = 0; i < p->m; i += TOGETHER) {
            const real *own = a + i * STREAMS;
            real *const to = sums + i * columns;
            if (some == STREAMS)
                add_some_rows(p->m - i, STREAMS, own, b, p->b_row, columns, to);
            else
                add_some_rows(p->m - i, 1, own, b, p->b_row, columns, to);
        }
    }
}
static void stream_task(const matrix_product *p, ptrdiff_t n0, int columns)
{
    real sums[PIECE];
    const int piece = round_up(PIECE / (int)p->m - LANES + 1, LANES);
    scale_c(p->c + n0, p->ldc, p->m, columns, p->beta);
    for (ptrdiff_t k = 0; k < p->k; k += MATRIX_DEPTH) {
        const int depth = at_most(MATRIX_DEPTH, (int)(p->k - k));
        for (int j = 0; j < columns; j += piece) {
            const int across = at_most(piece, columns - j);
            set_zero(sums, (int)p->m * across);
            add_streams(p, k, depth, n0 + j, across, sums);
            for (int i = 0; i < p->m; ++i) {
                real *const c = p->c + i * p->ldc + n0 + j;
                for (int l = 0; l < across; ++l) c[l] += sums[i * across + l];
            }
        }
    }
}

/* Below, one thread needs less than 0.1 ms, and on a busy machine waits longer for others to wake. */
static int worth_threads(const matrix_product *p) { return (double)p->m * p->n * p->k > 1 << 21; }
static void matrix(const matrix_product *p, int threads)
{
    if (p->m < 1 || p->n < 1) return;
    const int along_rows = sums_along_rows(p), streams = adds_rows(p), whole = along_rows || streams;
    const ptrdiff_t down = whole ? 1 : pieces(p->m, MATRIX_ROWS),
                    least = streams ? 1 : pieces(p->n, COLUMNS),
                    most = pieces(p->n, streams ? LEAST_STREAM : NARROWEST), wanted = pieces(TASKS, down),
                    some = wanted < most ? wanted : most, across = least > some ? least : some;
    const int wake = down * across > 1 && worth_threads(p);
    task_list tasks;
    list_tasks(&tasks, down * across, wake ? threads : 1);
#pragma omp parallel num_threads(threads) if (wake)
    EACH_TASK(task, &tasks)
    {
        const ptrdiff_t i = task / across, j = task % across, m0 = unit_of(p->m, ROWS, i, down),
                        n0 = unit_of(p->n, WIDTH, j, across);
        const int rows = (int)(unit_of(p->m, ROWS, i + 1, down) - m0),
                  columns = (int)(unit_of(p->n, WIDTH, j + 1, across) - n0);
        if (along_rows)
            along_task(p, n0, columns);
        else if (streams)
            stream_task(p, n0, columns);
        else
            matrix_task(p, m0, rows, n0, columns);
    }
}
#endif
