/* Vectors: copy, fill, scale, add; the twins of csrc/blas.c, one thread per element. */
#include "kernels.cuh"

static __global__ void copy_kernel(int n, const real *x, int incx, real *y, int incy)
{
    GRID_STRIDE(i, n) y[i * incy] = x[i * incx];
}
void copy_gpu(int n, const real *x, int incx, real *y, int incy)
{
    LAUNCH(copy_kernel, n, n, x, incx, y, incy);
}

static __global__ void fill_kernel(int n, real alpha, real *x, int incx)
{
    GRID_STRIDE(i, n) x[i * incx] = alpha;
}
void fill_gpu(int n, real alpha, real *x, int incx) { LAUNCH(fill_kernel, n, n, alpha, x, incx); }

static __global__ void scal_kernel(int n, real alpha, real *x, int incx)
{
    GRID_STRIDE(i, n) x[i * incx] *= alpha;
}
void scal_gpu(int n, real alpha, real *x, int incx) { LAUNCH(scal_kernel, n, n, alpha, x, incx); }

/* y += alpha x */
static __global__ void axpy_kernel(int n, real alpha, const real *x, int incx, real *y, int incy)
{
    GRID_STRIDE(i, n) y[i * incy] += alpha * x[i * incx];
}
void axpy_gpu(int n, real alpha, const real *x, int incx, real *y, int incy)
{
    LAUNCH(axpy_kernel, n, n, alpha, x, incx, y, incy);
}

/* to = alpha delta, or to += alpha delta */
static __global__ void pass_delta_kernel(int n, real alpha, const real *delta, int add, real *to)
{
    GRID_STRIDE(i, n) put(to + i, add, alpha * delta[i]);
}
void pass_delta_gpu(int n, real alpha, const real *delta, int add, real *to)
{
    LAUNCH(pass_delta_kernel, n, n, alpha, delta, add, to);
}

/* y[r, i] = or += alpha x[r, i] for i < columns; ldx = 0: one row for all. */
static __global__ void copy_rows_kernel(size_t n, int columns, real alpha, const real *x, int ldx, int add,
                                        real *y, int ldy)
{
    GRID_STRIDE(at, n) {
        const size_t r = at / columns, i = at % columns;
        put(y + r * ldy + i, add, alpha * x[r * ldx + i]);
    }
}
void copy_rows_gpu(int rows, int columns, real alpha, const real *x, int ldx, int add, real *y, int ldy)
{
    const size_t n = (size_t)rows * columns;
    LAUNCH(copy_rows_kernel, n, n, columns, alpha, x, ldx, add, y, ldy);
}
