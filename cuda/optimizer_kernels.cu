/* Elementwise updates of parameters, and the sums that gradient clipping needs; the twins of
 * csrc/optimizer_kernels.c. */
#include "channels.cuh"

/* *sum = sum of x[i]^2 */
void sum_squares_gpu(int n, const real *x, double *sum) { sum_to(n, product_of{x, x}, sum); }

/* updates -= decay w; w += rate updates; updates *= momentum */
static __global__ void sgd_kernel(size_t n, real *w, real *updates, real rate, real decay, real momentum)
{
    GRID_STRIDE(i, n) {
        const real u = updates[i] - decay * w[i];
        w[i] += rate * u;
        updates[i] = momentum * u;
    }
}
void sgd_update_gpu(int n, real *w, real *updates, real rate, real decay, real momentum)
{
    LAUNCH(sgd_kernel, n, n, w, updates, rate, decay, momentum);
}

/* velocity += clip updates - decay w; w += rate velocity; velocity *= momentum; updates = 0 */
static __global__ void momentum_kernel(size_t n, real *w, real *updates, real *velocity, real clip, real rate,
                                       real decay, real momentum)
{
    GRID_STRIDE(i, n) {
        const real v = velocity[i] + clip * updates[i] - decay * w[i];
        w[i] += rate * v;
        velocity[i] = momentum * v;
        updates[i] = 0;
    }
}
void momentum_update_gpu(int n, real *w, real *updates, real *velocity, real clip, real rate, real decay,
                         real momentum)
{
    LAUNCH(momentum_kernel, n, n, w, updates, velocity, clip, rate, decay, momentum);
}

/* Adam, arXiv:1412.6980, Algorithm 1, on g = gradient_scale updates - decay w; updates = 0. */
struct adam_step {
    real gradient_scale, decay, rate, b1, b2, eps, first,
        second; /* the last two: what undoes the bias to zero */
};
static __global__ void adam_kernel(size_t n, real *w, real *updates, real *m, real *v, adam_step s)
{
    GRID_STRIDE(i, n) {
        const real g = s.gradient_scale * updates[i] - s.decay * w[i];
        m[i] = s.b1 * m[i] + (1 - s.b1) * g;
        v[i] = s.b2 * v[i] + (1 - s.b2) * g * g;
        w[i] += s.rate * (m[i] * s.first) / (sqrt(v[i] * s.second) + s.eps);
        updates[i] = 0;
    }
}
void adam_update_gpu(int n, real *w, real *updates, real *m, real *v, real gradient_scale, real decay,
                     real rate, real b1, real b2, real eps, real t)
{
    const real first = (real)(1 / (1 - pow((double)b1, (double)t))),
               second = (real)(1 / (1 - pow((double)b2, (double)t)));
    const adam_step s = {gradient_scale, decay, rate, b1, b2, eps, first, second};
    LAUNCH(adam_kernel, n, n, w, updates, m, v, s);
}

/* Gradient centralization, arXiv:2004.01461: each row of x (rows, columns) loses its mean; a block
 * has a row. */
static __global__ void center_rows_kernel(int columns, real *x)
{
    real *row = x + (size_t)blockIdx.x * columns;
    double sum = 0;
    for (int i = threadIdx.x; i < columns; i += BLOCK) sum += row[i];
    const real mean = (real)(block_sum(sum) / columns);
    for (int i = threadIdx.x; i < columns; i += BLOCK) row[i] -= mean;
}
void center_rows_gpu(int rows, int columns, real *x)
{
    LAUNCH_BLOCKS(center_rows_kernel, (unsigned)rows, 0, columns, x);
}

/* w moves towards zero by threshold and stops there. */
static __global__ void soft_threshold_kernel(size_t n, real threshold, real *w)
{
    GRID_STRIDE(i, n) w[i] = w[i] > threshold ? w[i] - threshold : w[i] < -threshold ? w[i] + threshold : 0;
}
void soft_threshold_gpu(int n, real threshold, real *w) { LAUNCH(soft_threshold_kernel, n, n, threshold, w); }
