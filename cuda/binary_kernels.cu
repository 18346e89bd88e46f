/* Numbers of one bit for XNOR convolutions, arXiv:1603.05279; the twins of csrc/binary_kernels.c. */
#include "kernels.cuh"

/* binary[f, i] = mean_i |weights[f, i]|, with the sign of weights[f, i]; a block has a filter. */
static __global__ void binarize_weights_kernel(const real *weights, int size, real *binary)
{
    const size_t first = (size_t)blockIdx.x * size;
    double sum = 0;
    for (int i = threadIdx.x; i < size; i += BLOCK) sum += fabs(weights[first + i]);
    const real mean = (real)(block_sum(sum) / size);
    for (int i = threadIdx.x; i < size; i += BLOCK) binary[first + i] = weights[first + i] > 0 ? mean : -mean;
}
void binarize_weights_gpu(const real *weights, int n, int size, real *binary)
{
    LAUNCH_BLOCKS(binarize_weights_kernel, (unsigned)n, 0, weights, size, binary);
}

/* Signs of rows (h, w) inside rows (h + 2 pad, w + 2 pad), whose other values are `outside`. */
static __global__ void binarize_kernel(size_t n, const real *input, int h, int w, int pad, real outside,
                                       real *binary)
{
    const int rows = h + 2 * pad, columns = w + 2 * pad;
    GRID_STRIDE(i, n) {
        const int x = (int)(i % columns) - pad, y = (int)(i / columns % rows) - pad;
        const bool inside = x >= 0 && x < w && y >= 0 && y < h;
        binary[i] = !inside ? outside : input[(i / columns / rows * h + y) * w + x] > 0 ? 1 : -1;
    }
}
void binarize_gpu(const real *input, int planes, int h, int w, int pad, real outside, real *binary)
{
    const size_t n = (size_t)planes * (h + 2 * pad) * (w + 2 * pad);
    LAUNCH(binarize_kernel, n, n, input, h, w, pad, outside, binary);
}
