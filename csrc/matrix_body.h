/* The matrix product for arrays of any layout: our own SGEMM, for small products and where no BLAS is given.
 * Body of an engine. */
#ifndef DN_MATRIX_BODY_H
#define DN_MATRIX_BODY_H
#include "tile_body.h"

/* A task makes MATRIX_ROWS x COLUMNS values of C; its operands are packed on the stack (77 KB of floats). */
enum { MATRIX_ROWS = 96, MATRIX_DEPTH = 64 };
_Static_assert(MATRIX_ROWS % ROWS == 0, "whole panels");

/* packed (panels, depth, ROWS) = alpha * rows m0 .. m0 + rows of A, columns k0 .. k0 + depth; missing rows
 * are zero. */
static void pack_a(const matrix_product *p, ptrdiff_t m0, int rows, ptrdiff_t k0, int depth, real *packed)
{
    for (int first = 0; first < rows; first += ROWS) {
        const real *a = p->a + (m0 + first) * p->a_row + k0 * p->a_column;
        const int live = at_most(ROWS, rows - first);
        for (int k = 0; k < depth; ++k, a += p->a_column, packed += ROWS) {
            for (int i = 0; i < ROWS; ++i) packed[i] = i < live ? p->alpha * a[i * p->a_row] : 0;
        }
    }
}

/* packed (depth, PITCH) = rows k0 .. k0 + depth of B, columns n0 .. n0 + columns, zeros up to a whole vector. */
static void pack_b(const matrix_product *p, ptrdiff_t k0, int depth, ptrdiff_t n0, int columns, real *packed)
{
    const real *b = p->b + k0 * p->b_row + n0 * p->b_column;
    for (int k = 0; k < depth; ++k)
        set_zero(packed + k * PITCH + columns, round_up(columns, LANES) - columns);
    if (p->b_column == 1) {
        for (int k = 0; k < depth; ++k) copy(packed + k * PITCH, b + k * p->b_row, columns);
        return;
    }
    for (int j = 0; j < columns; ++j) {
        for (int k = 0; k < depth; ++k) packed[k * PITCH + j] = b[k * p->b_row + j * p->b_column];
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

/* c (rows, columns) += packed a * packed b. */
static void multiply_packed(const real *a, const real *b, const int *row, int depth, int rows, int columns,
                            real *c, ptrdiff_t ldc)
{
    real edge[ROWS * WIDTH];
    for (int j = 0; j < columns; j += WIDTH) {
        const int width = at_most(WIDTH, columns - j), vecs = (width + LANES - 1) / LANES,
                  direct = width == vecs * LANES;
        for (int i = 0; i < rows; i += ROWS) {
            const int live = at_most(ROWS, rows - i);
            real *to = c + i * ldc + j;
            const packed_tile multiply = packed_tiles[live - 1][vecs - 1];
            if (direct) {
                multiply(depth, a + i * depth, b + j, row, to, ldc, 1, NULL, 0);
                continue;
            }
            for (int r = 0; r < live; ++r) copy(edge + r * WIDTH, to + r * ldc, width);
            multiply(depth, a + i * depth, b + j, row, edge, WIDTH, 1, NULL, 0);
            for (int r = 0; r < live; ++r) copy(to + r * ldc, edge + r * WIDTH, width);
        }
    }
}

static void matrix_task(const matrix_product *p, ptrdiff_t m0, ptrdiff_t n0, int width)
{
    const int rows = p->m - m0 < MATRIX_ROWS ? p->m - m0 : MATRIX_ROWS,
              columns = p->n - n0 < width ? p->n - n0 : width;
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

/* Below, one thread needs less than 0.1 ms, and on a busy machine waits longer for others to wake. */
static int worth_threads(const matrix_product *p) { return (double)p->m * p->n * p->k > 1 << 21; }
static void matrix(const matrix_product *p, int threads)
{
    const ptrdiff_t down = pieces(p->m, MATRIX_ROWS), across = pieces(p->n, COLUMNS);
    const int width = round_up((int)pieces(p->n, across), WIDTH); /* 256: 144 + 112, not 240 + 16 */
    const int wake = down * across > 1 && worth_threads(p);
    task_list tasks;
    list_tasks(&tasks, down * across, wake ? threads : 1);
#pragma omp parallel num_threads(threads) if (wake)
    EACH_TASK(task, &tasks) {
        matrix_task(p, task / across * MATRIX_ROWS, task % across * width, width);
    }
}
#endif
