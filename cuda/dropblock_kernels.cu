/* DropBlock (arXiv:1810.12890); the twin of csrc/dropblock_kernels.c, with the same draws. */
#include "channels.cuh"
#include "random.h"

/* Blocks may overlap: several threads then write the same zero. */
static __global__ void drop_blocks_kernel(size_t n, int channels, int h, int w, int size, real probability,
                                          uint64_t seed, uint32_t purpose, uint64_t first_row, real *mask)
{
    GRID_STRIDE(i, n) {
        const size_t values = (size_t)channels * h * w, plane = i - i % ((size_t)h * w);
        const uint32_t element = (uint32_t)(i % values);
        const dn_random4 bits = dn_random(seed, purpose, first_row + i / values, element / 4);
        if (!(dn_uniform(bits.v[element % 4]) < probability)) continue;
        const int top = (int)(i / w % h), left = (int)(i % w);
        for (int y = top; y < h && y < top + size; ++y) {
            for (int x = left; x < w && x < left + size; ++x) mask[plane + (size_t)y * w + x] = 0;
        }
    }
}
/* What is kept of an image grows to the sum of all of it. */
struct scale_of_kept {
    double values;
    real *scales;
    __device__ void operator()(size_t b, double kept) const
    {
        scales[b] = (real)(kept > 0 ? values / kept : 0);
    }
};
static __global__ void scale_images_kernel(size_t n, size_t values, const real *scales, real *mask)
{
    GRID_STRIDE(i, n) mask[i] *= scales[i / values];
}
void dropblock_mask_gpu(int batch, int channels, int h, int w, int size, real probability, uint64_t seed,
                        uint32_t purpose, uint64_t first_row, real *mask)
{
    const int values = channels * h * w;
    const size_t n = (size_t)batch * values;
    real *scales = (real *)scratch(FOR_KERNEL, batch * sizeof(real));
    if (!scales) return;
    fill_gpu((int)n, 1, mask, 1);
    LAUNCH(drop_blocks_kernel, n, n, channels, h, w, size, probability, seed, purpose, first_row, mask);
    sum_channels({1, batch, values}, value_of{mask}, scale_of_kept{(double)values, scales});
    LAUNCH(scale_images_kernel, n, n, values, scales, mask);
}
