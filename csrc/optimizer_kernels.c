/* Elementwise updates of parameters, and the sums that gradient clipping needs. */
#include "parallel.h"
#include "sums.h"
#include <assert.h>
#include <math.h>

/* *sum = sum of x[i]^2. */
void sum_squares_cpu(int n, const real *x, double *sum)
{
    assert(n >= 0 && sum);
    *sum = square_row(x, 0, n);
}

/* The three steps below take the parameters of a layer together, p[0] .. p[count - 1]: threads are woken
 * once. */
#define PARALLEL_PARAMETERS(count, p) \
    DN_PRAGMA(omp parallel num_threads(dn_num_threads()) if (values_of(count, p) > 16384))
#define SHARED_FOR DN_PRAGMA(omp for schedule(static) nowait)
static size_t values_of(int count, const parameter_arrays *p)
{
    size_t values = 0;
    for (int j = 0; j < count; ++j) values += (size_t)p[j].n;
    return values;
}

/* updates -= decay w; w += rate updates; updates *= momentum. Darknet: update_convolutional_layer. */
MULTIVERSION void sgd_update_cpu(int count, const parameter_arrays *p, real rate, real momentum)
{
    PARALLEL_PARAMETERS(count, p)
    for (int j = 0; j < count; ++j) {
        real *w = p[j].w, *updates = p[j].updates;
        const real decay = p[j].decay;
        SHARED_FOR
        for (int i = 0; i < p[j].n; ++i) {
            const real u = updates[i] - decay * w[i];
            w[i] += rate * u;
            updates[i] = momentum * u;
        }
    }
}

/* velocity += clip updates - decay w; w += rate velocity; velocity *= momentum; updates = 0. */
MULTIVERSION void momentum_update_cpu(int count, const parameter_arrays *p, real clip, real rate,
                                      real momentum)
{
    PARALLEL_PARAMETERS(count, p)
    for (int j = 0; j < count; ++j) {
        real *w = p[j].w, *updates = p[j].updates, *velocity = p[j].m;
        const real decay = p[j].decay;
        SHARED_FOR
        for (int i = 0; i < p[j].n; ++i) {
            const real v = velocity[i] + clip * updates[i] - decay * w[i];
            w[i] += rate * v;
            velocity[i] = momentum * v;
            updates[i] = 0;
        }
    }
}

/* Adam, arXiv:1412.6980, Algorithm 1, on g = gradient_scale updates - decay w; updates = 0. t counts steps
 * from 1. */
MULTIVERSION void adam_update_cpu(int count, const parameter_arrays *p, real gradient_scale, real rate,
                                  real b1, real b2, real eps, real t)
{
    const real first = (real)(1 / (1 - pow(b1, t))), second = (real)(1 / (1 - pow(b2, t)));
    PARALLEL_PARAMETERS(count, p)
    for (int j = 0; j < count; ++j) {
        real *w = p[j].w, *updates = p[j].updates, *m = p[j].m, *v = p[j].v;
        const real decay = p[j].decay;
        SHARED_FOR
        for (int i = 0; i < p[j].n; ++i) {
            const real g = gradient_scale * updates[i] - decay * w[i];
            m[i] = b1 * m[i] + (1 - b1) * g;
            v[i] = b2 * v[i] + (1 - b2) * g * g;
            w[i] += rate * (m[i] * first) / ((real)sqrt(v[i] * second) + eps);
            updates[i] = 0;
        }
    }
}

/* Gradient centralization, arXiv:2004.01461: each row of x (rows, columns), a filter's gradient, loses its
 * mean. Darknet: gradient_centralization_gpu. */
void center_rows_cpu(int rows, int columns, real *x)
{
    assert(rows > 0 && columns > 0 && x);
    PARALLEL_FOR((size_t)rows * columns)
    for (int r = 0; r < rows; ++r) {
        real *row = x + (size_t)r * columns;
        const real mean = (real)(sum_row(row, columns) / columns);
        for (int i = 0; i < columns; ++i) row[i] -= mean;
    }
}

/* w moves towards zero by threshold and stops there: the proximal step of an L1 penalty. */
MULTIVERSION void soft_threshold_cpu(int n, real threshold, real *w)
{
    PARALLEL_FOR(n)
    for (int i = 0; i < n; ++i) {
        w[i] = w[i] > threshold ? w[i] - threshold : w[i] < -threshold ? w[i] + threshold : 0;
    }
}
