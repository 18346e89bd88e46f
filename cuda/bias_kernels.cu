/* Biases and scales, one per filter, of arrays (batch, n, size); the twins of csrc/bias_kernels.c. */
#include "channels.cuh"

/* output[b, f, i] += biases[f] */
static __global__ void add_bias_kernel(size_t values, real *output, const real *biases, int n, int size)
{
    GRID_STRIDE(i, values) output[i] += biases[i / size % n];
}
void add_bias_gpu(real *output, const real *biases, int batch, int n, int size)
{
    const size_t values = (size_t)batch * n * size;
    LAUNCH(add_bias_kernel, values, values, output, biases, n, size);
}

/* output[b, f, i] *= scales[f] */
static __global__ void scale_bias_kernel(size_t values, real *output, const real *scales, int n, int size)
{
    GRID_STRIDE(i, values) output[i] *= scales[i / size % n];
}
void scale_bias_gpu(real *output, const real *scales, int batch, int n, int size)
{
    const size_t values = (size_t)batch * n * size;
    LAUNCH(scale_bias_kernel, values, values, output, scales, n, size);
}

/* bias_updates[f] += sum of delta[b, f, i] */
void backward_bias_gpu(real *bias_updates, const real *delta, int batch, int n, int size)
{
    sum_channels({batch, n, size}, value_of{delta}, add_to{bias_updates});
}

/* scale_updates[f] += sum of delta[b, f, i] * x_norm[b, f, i] */
void backward_scale_gpu(const real *x_norm, const real *delta, int batch, int n, int size,
                        real *scale_updates)
{
    sum_channels({batch, n, size}, product_of{x_norm, delta}, add_to{scale_updates});
}
