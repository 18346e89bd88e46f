/* Vectors: copy, fill, scale, add. Names and argument order as in Darknet's blas.c; inc is the step between
 * elements. */
#include "parallel.h"
#include <assert.h>

void copy_cpu(int n, const real *x, int incx, real *y, int incy)
{
    PARALLEL_FOR(n)
    for (int i = 0; i < n; ++i) y[(size_t)i * incy] = x[(size_t)i * incx];
}
void fill_cpu(int n, real alpha, real *x, int incx)
{
    PARALLEL_FOR(n)
    for (int i = 0; i < n; ++i) x[(size_t)i * incx] = alpha;
}
void scal_cpu(int n, real alpha, real *x, int incx)
{
    PARALLEL_FOR(n)
    for (int i = 0; i < n; ++i) x[(size_t)i * incx] *= alpha;
}
/* y += alpha x */
void axpy_cpu(int n, real alpha, const real *x, int incx, real *y, int incy)
{
    PARALLEL_FOR(n)
    for (int i = 0; i < n; ++i) y[(size_t)i * incy] += alpha * x[(size_t)i * incx];
}

/* to = alpha delta, or to += alpha delta: a delta handed on to the layer that made the input. */
MULTIVERSION void pass_delta_cpu(int n, real alpha, const real *delta, int add, real *to)
{
    PARALLEL_FOR(n)
    for (int i = 0; i < n; ++i) to[i] = (add ? to[i] : 0) + alpha * delta[i];
}

/* y[r, i] = or += alpha x[r, i] for i < columns; rows lie ldx and ldy apart, ldx = 0: one row for all. */
MULTIVERSION void copy_rows_cpu(int rows, int columns, real alpha, const real *x, int ldx, int add, real *y,
                                int ldy)
{
    assert((ldx >= columns || ldx == 0) && ldy >= columns);
    enum { PIECE = 8192 }; /* of a row: a single one keeps all threads busy */
    PARALLEL_FOR2((size_t)rows * columns)
    for (int r = 0; r < rows; ++r) {
        for (int64_t first = 0; first < columns; first += PIECE) {
            const int n = columns - first < PIECE ? (int)(columns - first) : PIECE;
            const real *from = x + (size_t)r * ldx + first;
            real *to = y + (size_t)r * ldy + first;
            for (int i = 0; i < n; ++i) to[i] = (add ? to[i] : 0) + alpha * from[i];
        }
    }
}
