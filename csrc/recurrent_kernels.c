/* Elementwise kernels of gates: weighted sums and limits. */
#include "parallel.h"
#include <tgmath.h>

/* c = s a + (1 - s) b; b NULL: zeros. Darknet: weighted_sum_cpu. */
MULTIVERSION void weighted_sum_cpu(const real *a, const real *b, const real *s, int n, real *c)
{
    PARALLEL_FOR(n)
    for (int i = 0; i < n; ++i) c[i] = s[i] * a[i] + (b ? (1 - s[i]) * b[i] : 0);
}
/* From the delta dc at c the deltas at a, b and s, each added to what is there; da NULL: not wanted. Darknet:
 * weighted_delta_cpu. */
MULTIVERSION void weighted_delta_cpu(const real *a, const real *b, const real *s, real *da, real *db,
                                     real *ds, int n, const real *dc)
{
    PARALLEL_FOR(n)
    for (int i = 0; i < n; ++i) {
        if (da) da[i] += dc[i] * s[i];
        db[i] += dc[i] * (1 - s[i]);
        ds[i] += dc[i] * (a[i] - b[i]);
    }
}

/* In place: x -> x within +-limit. NaN stays NaN. Darknet: constrain_cpu. */
MULTIVERSION void constrain_cpu(int n, real limit, real *x)
{
    PARALLEL_FOR(n)
    for (int i = 0; i < n; ++i) x[i] = x[i] > limit ? limit : x[i] < -limit ? -limit : x[i];
}
/* In place: delta at the limited value, from what was limited, x -> delta at x. */
MULTIVERSION void constrain_delta_cpu(int n, real limit, const real *x, real *delta)
{
    PARALLEL_FOR(n)
    for (int i = 0; i < n; ++i) delta[i] = fabs(x[i]) > limit ? 0 : delta[i];
}
