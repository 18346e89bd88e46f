/* Kernels that give values other places: squares of pixels to channels, and channels to the end. */
#include "parallel.h"
#include <assert.h>
#include <string.h>

/* Between a deep map (c, h, w) and a wide one (c / stride^2, h * stride, w * stride): channel k of the deep
 * map is the pixel (k / C / stride, k / C % stride) of each square of channel k % C, C = c / stride^2.
 * forward: x is the deep one, out the wide one; else the other way round. out = or += x in new places.
 * Name and rule as in Darknet. */
void reorg_cpu(const real *x, int w, int h, int c, int batch, int stride, int forward, int add, real *out)
{
    const int wide_c = c / (stride * stride);
    assert(c % (stride * stride) == 0);
    PARALLEL_FOR((size_t)batch * c * h * w)
    for (int r = 0; r < batch * c; ++r) {
        const int b = r / c, k = r % c, square = k / wide_c, dy = square / stride, dx = square % stride;
        const size_t plane = ((size_t)b * wide_c + k % wide_c) * h * stride;
        for (int j = 0; j < h; ++j) {
            const size_t deep = ((size_t)r * h + j) * w;
            const size_t wide = (plane + (size_t)j * stride + dy) * w * stride + dx;
            for (int i = 0; i < w; ++i) {
                const size_t from = forward ? deep + i : wide + (size_t)i * stride;
                const size_t to = forward ? wide + (size_t)i * stride : deep + i;
                out[to] = (add ? out[to] : 0) + x[from];
            }
        }
    }
}

/* y[b, j, i] = or += x[b, i, j]; x is (batch, rows, columns). Tiles, so that both sides stay in the cache. */
void transpose_cpu(const real *x, int batch, int rows, int columns, int add, real *y)
{
    enum { TILE = 32 };
    PARALLEL_FOR2((size_t)batch * rows * columns)
    for (int b = 0; b < batch; ++b) {
        for (int top = 0; top < rows; top += TILE) {
            const size_t image = (size_t)b * rows * columns;
            const int bottom = rows - top < TILE ? rows : top + TILE;
            for (int j = 0; j < columns; ++j) {
                for (int i = top; i < bottom; ++i) {
                    real *to = y + image + (size_t)j * rows + i;
                    *to = (add ? *to : 0) + x[image + (size_t)i * columns + j];
                }
            }
        }
    }
}
