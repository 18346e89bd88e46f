/* Sums of rows: see sums.h. The lanes are explicit, since the compiler may not reorder a plain sum of
 * floating-point numbers. */
#include "sums.h"

enum { LANES = 16 };
#define SUM(term) \
    double lanes[LANES] = {0}, sum = 0; \
    int i = 0; \
    for (; n - i >= LANES; i += LANES) { \
        for (int j = 0; j < LANES; ++j) lanes[j] += term(i + j); \
    } \
    for (; i < n; ++i) sum += term(i); \
    for (int j = 0; j < LANES; ++j) sum += lanes[j]; \
    return sum

MULTIVERSION double sum_row(const real *x, int n)
{
#define TERM(i) (double)x[i]
    SUM(TERM);
#undef TERM
}
MULTIVERSION double dot_row(const real *a, const real *x, real shift, int n)
{
#define TERM(i) (double)a[i] * ((double)x[i] - shift)
    SUM(TERM);
#undef TERM
}
MULTIVERSION double square_row(const real *x, real shift, int n)
{
#define TERM(i) ((double)x[i] - shift) * ((double)x[i] - shift)
    SUM(TERM);
#undef TERM
}
