/* Elementwise updates of parameters, and the sums that gradient clipping needs; the twins of
 * csrc/optimizer_kernels.c. */
#include "channels.cuh"

/* *sum = sum of x[i]^2 */
void sum_squares_gpu(int n, const real *x, double *sum) { sum_to(n, product_of{x, x}, sum); }

/* The three steps below take the parameters of a layer together: a row of the grid has one of them. */
constexpr int TOGETHER = 16;
struct parameter_list {
    parameter_arrays of[TOGETHER];
};
template <class Step> static __global__ void update_kernel(parameter_list p, Step step)
{
    const parameter_arrays own = p.of[blockIdx.y];
    GRID_STRIDE(i, own.n) step(own, i);
}
template <class Step> static void update(const char *name, int count, const parameter_arrays *p, Step step)
{
    for (int from = 0; from < count; from += TOGETHER) {
        const int taken = count - from < TOGETHER ? count - from : TOGETHER;
        parameter_list list = {};
        int most = 0;
        for (int j = 0; j < taken; ++j) {
            list.of[j] = p[from + j];
            if (most < list.of[j].n) most = list.of[j].n;
        }
        if (most > 0) launch(name, update_kernel<Step>, dim3(blocks_of(most), taken), BLOCK, 0, list, step);
    }
}

/* updates -= decay w; w += rate updates; updates *= momentum */
struct sgd_step {
    real rate, momentum;
    __device__ void operator()(const parameter_arrays &p, size_t i) const
    {
        const real u = p.updates[i] - p.decay * p.w[i];
        p.w[i] += rate * u;
        p.updates[i] = momentum * u;
    }
};
void sgd_update_gpu(int count, const parameter_arrays *p, real rate, real momentum)
{
    update("sgd_update", count, p, sgd_step{rate, momentum});
}

/* velocity += clip updates - decay w; w += rate velocity; velocity *= momentum; updates = 0 */
struct momentum_step {
    real clip, rate, momentum;
    __device__ void operator()(const parameter_arrays &p, size_t i) const
    {
        const real v = p.m[i] + clip * p.updates[i] - p.decay * p.w[i];
        p.w[i] += rate * v;
        p.m[i] = momentum * v;
        p.updates[i] = 0;
    }
};
void momentum_update_gpu(int count, const parameter_arrays *p, real clip, real rate, real momentum)
{
    update("momentum_update", count, p, momentum_step{clip, rate, momentum});
}

/* Adam, arXiv:1412.6980, Algorithm 1, on g = gradient_scale updates - decay w; updates = 0. */
struct adam_step {
    real gradient_scale, rate, b1, b2, eps, first, second; /* the last two: what undoes the bias to zero */
    __device__ void operator()(const parameter_arrays &p, size_t i) const
    {
        const real g = gradient_scale * p.updates[i] - p.decay * p.w[i];
        p.m[i] = b1 * p.m[i] + (1 - b1) * g;
        p.v[i] = b2 * p.v[i] + (1 - b2) * g * g;
        p.w[i] += rate * (p.m[i] * first) / (sqrt(p.v[i] * second) + eps);
        p.updates[i] = 0;
    }
};
void adam_update_gpu(int count, const parameter_arrays *p, real gradient_scale, real rate, real b1, real b2,
                     real eps, real t)
{
    const real first = (real)(1 / (1 - pow((double)b1, (double)t))),
               second = (real)(1 / (1 - pow((double)b2, (double)t)));
    update("adam_update", count, p, adam_step{gradient_scale, rate, b1, b2, eps, first, second});
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
