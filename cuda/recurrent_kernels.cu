/* Elementwise kernels of gates; the twins of csrc/recurrent_kernels.c. */
#include "kernels.cuh"

/* c = s a + (1 - s) b; b NULL: zeros. */
static __global__ void weighted_sum_kernel(size_t n, const real *a, const real *b, const real *s, real *c)
{
    GRID_STRIDE(i, n) c[i] = s[i] * a[i] + (b ? (1 - s[i]) * b[i] : 0);
}
void weighted_sum_gpu(const real *a, const real *b, const real *s, int n, real *c)
{
    LAUNCH(weighted_sum_kernel, n, n, a, b, s, c);
}
/* The deltas at a, b and s from dc, each added to what is there; da NULL: not wanted. */
static __global__ void weighted_delta_kernel(size_t n, const real *a, const real *b, const real *s, real *da,
                                             real *db, real *ds, const real *dc)
{
    GRID_STRIDE(i, n) {
        if (da) da[i] += dc[i] * s[i];
        db[i] += dc[i] * (1 - s[i]);
        ds[i] += dc[i] * (a[i] - b[i]);
    }
}
void weighted_delta_gpu(const real *a, const real *b, const real *s, real *da, real *db, real *ds, int n,
                        const real *dc)
{
    LAUNCH(weighted_delta_kernel, n, n, a, b, s, da, db, ds, dc);
}

/* In place: x -> x within +-limit. NaN stays NaN. */
static __global__ void constrain_kernel(size_t n, real limit, real *x)
{
    GRID_STRIDE(i, n) x[i] = x[i] > limit ? limit : x[i] < -limit ? -limit : x[i];
}
void constrain_gpu(int n, real limit, real *x) { LAUNCH(constrain_kernel, n, n, limit, x); }
/* In place: delta at the limited value -> delta at x. */
static __global__ void constrain_delta_kernel(size_t n, real limit, const real *x, real *delta)
{
    GRID_STRIDE(i, n) delta[i] = fabs(x[i]) > limit ? 0 : delta[i];
}
void constrain_delta_gpu(int n, real limit, const real *x, real *delta)
{
    LAUNCH(constrain_delta_kernel, n, n, limit, x, delta);
}
