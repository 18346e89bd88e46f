/* Darknet's two names for the column matrix in memory, to call and to read. The convolutions make theirs in
 * the cache. */
#include "darknet.h"

/* Places between an image (channels, height, width) and col (channels, ksize, ksize, out_h, out_w), where
 * out = (in + 2 * pad - ksize) / stride + 1. Exactly one of the two is written. */
static void move_columns(const real *image, real *sum, int channels, int height, int width, int ksize,
                         int stride, int pad, const real *from, real *col)
{
    const int out_h = (height + 2 * pad - ksize) / stride + 1, out_w = (width + 2 * pad - ksize) / stride + 1;
    for (int row = 0; row < channels * ksize * ksize; ++row) {
        const int kx = row % ksize, ky = row / ksize % ksize;
        const size_t plane = (size_t)(row / ksize / ksize) * height * width;
        for (int i = 0; i < out_h * out_w; ++i) {
            const int y = i / out_w * stride + ky - pad, x = i % out_w * stride + kx - pad;
            const int inside = y >= 0 && y < height && x >= 0 && x < width;
            const size_t at = plane + (size_t)y * width + x, column = (size_t)row * out_h * out_w + i;
            if (col) col[column] = inside ? image[at] : 0;
            else if (inside) sum[at] += from[column];
        }
    }
}

/* col[channel, ky, kx, y, x] = image[channel, y * stride + ky - pad, x * stride + kx - pad], zero outside. */
void im2col_cpu(const real *image, int channels, int height, int width, int ksize, int stride, int pad,
                real *col)
{
    move_columns(image, NULL, channels, height, width, ksize, stride, pad, NULL, col);
}

/* The reverse: adds every value of col to the pixel that im2col_cpu takes it from. */
void col2im_cpu(const real *col, int channels, int height, int width, int ksize, int stride, int pad,
                real *image)
{
    move_columns(NULL, image, channels, height, width, ksize, stride, pad, col, NULL);
}
