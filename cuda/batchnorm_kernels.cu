/* Batch normalization, arXiv:1502.03167, a formula each; the twins of csrc/batchnorm_kernels.c, whose
 * comments and docs/batchnorm.md derive them. Arrays are (batch, filters, spatial); m = batch * spatial. A
 * sum over a channel is a term per value and what becomes of the sum (channels.cuh). */
#include "channels.cuh"

/* ---- forward */

/* mean[f] = sum of x / m */
struct mean_of_sum {
    double m;
    real *mean;
    __device__ void operator()(size_t f, double sum) const { mean[f] = (real)(sum / m); }
};
void mean_gpu(const real *x, int batch, int filters, int spatial, real *mean)
{
    sum_channels({batch, filters, spatial}, value_of{x}, mean_of_sum{(double)batch * spatial, mean});
}

/* variance[f] = sum of (x - mean[f])^2 / (m - 1) */
struct variance_term {
    const real *x, *mean;
    __device__ double operator()(size_t at, size_t f) const
    {
        const double d = (double)x[at] - mean[f];
        return d * d;
    }
};
void variance_gpu(const real *x, const real *mean, int batch, int filters, int spatial, real *variance)
{
    sum_channels({batch, filters, spatial}, variance_term{x, mean},
                 mean_of_sum{(double)batch * spatial - 1, variance});
}

/* In place: x -> (x - mean[f]) / sqrt(variance[f] + epsilon) */
static __global__ void normalize_kernel(size_t n, real *x, const real *mean, const real *variance,
                                        int filters, int spatial)
{
    GRID_STRIDE(i, n) {
        const size_t f = i / spatial % filters;
        x[i] = bn_normalize(x[i], mean[f], bn_inverse_std(variance[f]));
    }
}
void normalize_gpu(real *x, const real *mean, const real *variance, int batch, int filters, int spatial)
{
    const size_t n = (size_t)batch * filters * spatial;
    LAUNCH(normalize_kernel, n, n, x, mean, variance, filters, spatial);
}

/* ---- backward */

/* mean_delta[f] = -sum of delta / sqrt(variance[f] + epsilon) */
struct mean_delta_of_sum {
    const real *variance;
    real *mean_delta;
    __device__ void operator()(size_t f, double sum) const
    {
        mean_delta[f] = (real)(-sum * bn_inverse_std(variance[f]));
    }
};
void mean_delta_gpu(const real *delta, const real *variance, int batch, int filters, int spatial,
                    real *mean_delta)
{
    sum_channels({batch, filters, spatial}, value_of{delta}, mean_delta_of_sum{variance, mean_delta});
}

/* variance_delta[f] = -1/2 sum of delta (x - mean[f]) * (variance[f] + epsilon)^(-3/2) */
struct variance_delta_term {
    const real *x, *delta, *mean;
    __device__ double operator()(size_t at, size_t f) const { return delta[at] * ((double)x[at] - mean[f]); }
};
struct variance_delta_of_sum {
    const real *variance;
    real *variance_delta;
    __device__ void operator()(size_t f, double sum) const
    {
        const double inverse = bn_inverse_std(variance[f]);
        variance_delta[f] = (real)(-.5 * sum * inverse * inverse * inverse);
    }
};
void variance_delta_gpu(const real *x, const real *delta, const real *mean, const real *variance, int batch,
                        int filters, int spatial, real *variance_delta)
{
    sum_channels({batch, filters, spatial}, variance_delta_term{x, delta, mean},
                 variance_delta_of_sum{variance, variance_delta});
}

/* In place: delta / sqrt(variance + epsilon) + variance_delta 2 (x - mean) / m + mean_delta / m */
static __device__ __forceinline__ real delta_at_input(real x, real delta, real inverse, real mean,
                                                      real mean_delta, real variance_delta, real m)
{
    return delta * inverse + 2 * variance_delta / m * (x - mean) + mean_delta / m;
}
static __global__ void normalize_delta_kernel(size_t n, const real *x, const real *mean, const real *variance,
                                              const real *mean_delta, const real *variance_delta, int filters,
                                              int spatial, real m, real *delta)
{
    GRID_STRIDE(i, n) {
        const size_t f = i / spatial % filters;
        delta[i] = delta_at_input(x[i], delta[i], bn_inverse_std(variance[f]), mean[f], mean_delta[f],
                                  variance_delta[f], m);
    }
}
void normalize_delta_gpu(const real *x, const real *mean, const real *variance, const real *mean_delta,
                         const real *variance_delta, int batch, int filters, int spatial, real *delta)
{
    const size_t n = (size_t)batch * filters * spatial;
    LAUNCH(normalize_delta_kernel, n, n, x, mean, variance, mean_delta, variance_delta, filters, spatial,
           (real)batch * spatial, delta);
}

/* ---- the forks' own variants, for batchnorm=darknet */

/* In place: x -> (x - mean) / (sqrt(variance) + 1e-6) */
static __global__ void normalize_pjreddie_kernel(size_t n, real *x, const real *mean, const real *variance,
                                                 int filters, int spatial)
{
    GRID_STRIDE(i, n) {
        const size_t f = i / spatial % filters;
        x[i] = bn_normalize(x[i], mean[f], 1 / (sqrt(variance[f]) + BN_EPSILON_PJREDDIE));
    }
}
void normalize_pjreddie_gpu(real *x, const real *mean, const real *variance, int batch, int filters,
                            int spatial)
{
    const size_t n = (size_t)batch * filters * spatial;
    LAUNCH(normalize_pjreddie_kernel, n, n, x, mean, variance, filters, spatial);
}
/* As normalize_delta_gpu with delta / (sqrt(variance) + 1e-5) */
static __global__ void normalize_delta_alexeyab_kernel(size_t n, const real *x, const real *mean,
                                                       const real *variance, const real *mean_delta,
                                                       const real *variance_delta, int filters, int spatial,
                                                       real m, real *delta)
{
    GRID_STRIDE(i, n) {
        const size_t f = i / spatial % filters;
        delta[i] = delta_at_input(x[i], delta[i], 1 / (sqrt(variance[f]) + BN_EPSILON), mean[f],
                                  mean_delta[f], variance_delta[f], m);
    }
}
void normalize_delta_alexeyab_gpu(const real *x, const real *mean, const real *variance,
                                  const real *mean_delta, const real *variance_delta, int batch, int filters,
                                  int spatial, real *delta)
{
    const size_t n = (size_t)batch * filters * spatial;
    LAUNCH(normalize_delta_alexeyab_kernel, n, n, x, mean, variance, mean_delta, variance_delta, filters,
           spatial, (real)batch * spatial, delta);
}

/* ---- Darknet's second names: there the plain ones have a thread per channel */

void fast_mean_gpu(const real *x, int batch, int filters, int spatial, real *mean)
{
    mean_gpu(x, batch, filters, spatial, mean);
}
void fast_variance_gpu(const real *x, const real *mean, int batch, int filters, int spatial, real *variance)
{
    variance_gpu(x, mean, batch, filters, spatial, variance);
}
void fast_mean_delta_gpu(const real *delta, const real *variance, int batch, int filters, int spatial,
                         real *mean_delta)
{
    mean_delta_gpu(delta, variance, batch, filters, spatial, mean_delta);
}
void fast_variance_delta_gpu(const real *x, const real *delta, const real *mean, const real *variance,
                             int batch, int filters, int spatial, real *variance_delta)
{
    variance_delta_gpu(x, delta, mean, variance, batch, filters, spatial, variance_delta);
}
