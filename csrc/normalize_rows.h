/* The loops under batch and group normalization, on one thread. A stretch is what they work on: `rows`
 * channels of one image, next to one another in memory, each `n` values long; or, of a channel too long for
 * that, a piece (rows = 1). */
#ifndef DN_NORMALIZE_ROWS_H
#define DN_NORMALIZE_ROWS_H
#include "darknet.h"

/* A stretch has at most this many values, so that it stays in the first-level cache from one loop to the
 * next. In double precision, which gradient checks are for, small arrays have several. */
enum { STRETCH = sizeof(real) == sizeof(float) ? 4096 : 256 };

/* Two running sums of a channel in double precision, eight lanes each; a stretch is summed in float before it
 * is added. The order is fixed by the lengths alone. */
enum { SUM_LANES = 8 };
typedef struct {
    double first[SUM_LANES], second[SUM_LANES];
} row_sums;
double total_of(const double lanes[SUM_LANES]);

/* Of every row: sums of x - shift and (x - shift)^2; of delta and delta (x - mean). */
void add_moments(const real *x, int rows, int n, const real *shift, row_sums *sums);
void add_delta_sums(const real *x, const real *delta, int rows, int n, const real *mean, row_sums *sums);

/* The same sums where a channel is a column: x (batch, ld), `count` columns; the shift is the first row. They
 * are written, not added. */
void column_moments(const real *x, int batch, int ld, int count, double *sum, double *square);
void column_delta_sums(const real *x, const real *delta, int batch, int ld, int count, const real *mean,
                       double *sum, double *dot);

/* y = (x - mean) * scale + bias; y may be x. With `stream` y goes past the caches, for arrays that do not fit
 * in them; another thread may read it after the barrier that ends a parallel region. y at multiples of 16
 * bytes and n divisible by 4 keep its cache lines whole. */
void normalize_rows(const real *x, int rows, int n, const real *mean, const real *scale, const real *bias,
                    int stream, real *y);

/* to[i] = from[i], past the caches. */
void stream_row(const real *from, int n, real *to);

/* What a backward pass does to a channel: dx (+)= delta_factor delta + x_factor (x - mean) + constant. */
typedef struct {
    real mean, delta_factor, x_factor, constant;
} delta_map;
void map_delta_rows(const real *x, const real *delta, int rows, int n, const delta_map *map, int add,
                    int stream, real *dx); /* dx may be delta, unless it is streamed */

/* Group normalization, where all rows share one mean and deviation; n may be 1. `rest` is the part of the
 * mean that its float does not hold, inverse = 1 / deviation. */
typedef struct {
    real mean, rest, inverse;
    real x_factor, constant;         /* of the backward pass */
} group_map;
/* The sums of x - shift and (x - shift)^2 of n values are added. */
void add_group_moments(const real *x, int n, real shift, double *sum, double *square);
/* y = (x - mean - rest) inverse scale + bias; y may be x. */
void normalize_group(const real *x, int rows, int n, const group_map *g, const real *scales,
                     const real *biases, int stream, real *y);
/* The sums of delta and delta (x - mean) of every row are added, and that of x - mean over all is returned.
 * Rows of one value: they are multiplied by their scales and added into one sum and one dot. */
double add_group_sums(const real *x, const real *delta, int rows, int n, real mean, const real *scales,
                      double *sum, double *dot);
/* dx (+)= scale inverse delta + x_factor (x - mean) + constant; dx may be delta. */
void map_group_deltas(const real *x, const real *delta, int rows, int n, const group_map *g,
                      const real *scales, int add, int stream, real *dx);
#endif
