/* Sums of rows in double precision, sixteen at a time in a fixed order: exact to float's last digit at any
 * length, and fast. */
#ifndef DN_SUMS_H
#define DN_SUMS_H
#include "parallel.h"

double sum_row(const real *x, int n);                              /* sum of x[i] */
double dot_row(const real *a, const real *x, real shift, int n);   /* sum of a[i] * (x[i] - shift) */
double square_row(const real *x, real shift, int n);               /* sum of (x[i] - shift)^2 */
#endif
