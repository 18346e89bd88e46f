/* One row of an activation, one plane of a pooling, on one thread: what kernels that already run in parallel
 * call while the row is in the cache. */
#ifndef DN_ROWS_H
#define DN_ROWS_H
#include "darknet.h"

void activate_row(real *x, int n, ACTIVATION a);                              /* in place: x -> f(x) */
void gradient_row(const real *y, int n, ACTIVATION a, real *delta); /* delta *= f'(x), from y = f(x) */
void gradient_input_row(const real *x, int n, ACTIVATION a, real *delta);     /* delta *= f'(x), from x */
/* y = the largest of each window; indexes (or NULL) = first + where in the plane it stood. */
void maxpool_plane(const real *plane, const pool_shape *s, int first, real *y, int *indexes);
#endif
