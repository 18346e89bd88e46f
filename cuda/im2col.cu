/* Darknet's two names for the column matrix in memory, to call and to read; the twins of csrc/im2col.c. The
 * convolutions have none. */
#include "kernels.cuh"

struct columns_shape {
    int height, width, ksize, stride, pad, out_h, out_w;
};
static columns_shape columns_of(int height, int width, int ksize, int stride, int pad)
{
    return {height,
            width,
            ksize,
            stride,
            pad,
            (height + 2 * pad - ksize) / stride + 1,
            (width + 2 * pad - ksize) / stride + 1};
}

/* col[channel, ky, kx, y, x] = image[channel, y * stride + ky - pad, x * stride + kx - pad], zero outside. */
static __global__ void im2col_kernel(size_t n, const real *image, columns_shape s, real *col)
{
    GRID_STRIDE(at, n) {
        const size_t row = at / s.out_w / s.out_h, channel = row / s.ksize / s.ksize;
        const int y = (int)(at / s.out_w % s.out_h) * s.stride + (int)(row / s.ksize % s.ksize) - s.pad;
        const int x = (int)(at % s.out_w) * s.stride + (int)(row % s.ksize) - s.pad;
        const bool inside = y >= 0 && y < s.height && x >= 0 && x < s.width;
        col[at] = inside ? image[(channel * s.height + y) * s.width + x] : 0;
    }
}
void im2col_gpu(const real *image, int channels, int height, int width, int ksize, int stride, int pad,
                real *col)
{
    const columns_shape s = columns_of(height, width, ksize, stride, pad);
    const size_t n = (size_t)channels * ksize * ksize * s.out_h * s.out_w;
    LAUNCH(im2col_kernel, n, n, image, s, col);
}

/* The reverse: each pixel collects the values of col that im2col_gpu takes from it, and adds them to what it
 * has. */
static __global__ void col2im_kernel(size_t n, const real *col, columns_shape s, real *image)
{
    GRID_STRIDE(at, n) {
        const size_t channel = at / s.width / s.height;
        const int y = (int)(at / s.width % s.height) + s.pad, x = (int)(at % s.width) + s.pad;
        real sum = image[at];
        for (int tap = 0; tap < s.ksize * s.ksize; ++tap) {
            const int row = y - tap / s.ksize, column = x - tap % s.ksize;
            if (row < 0 || column < 0 || row % s.stride || column % s.stride) continue;
            if (row / s.stride >= s.out_h || column / s.stride >= s.out_w) continue;
            sum += col[((channel * s.ksize * s.ksize + tap) * s.out_h + row / s.stride) * s.out_w +
                       column / s.stride];
        }
        image[at] = sum;
    }
}
void col2im_gpu(const real *col, int channels, int height, int width, int ksize, int stride, int pad,
                real *image)
{
    const size_t n = (size_t)channels * height * width;
    LAUNCH(col2im_kernel, n, n, col, columns_of(height, width, ksize, stride, pad), image);
}
