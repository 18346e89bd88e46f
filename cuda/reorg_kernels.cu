/* Kernels that give values other places; the twins of csrc/reorg_kernels.c. */
#include "kernels.cuh"

/* Between a deep map (c, h, w), whose values are counted here, and a wide one (c / stride^2, h * stride, w *
 * stride). */
static __global__ void reorg_kernel(size_t n, const real *x, int w, int h, int c, int stride, int forward,
                                    int add, real *out)
{
    GRID_STRIDE(deep, n) {
        const int i = (int)(deep % w), j = (int)(deep / w % h), k = (int)(deep / w / h % c);
        const int wide_c = c / (stride * stride), square = k / wide_c, dy = square / stride,
                  dx = square % stride;
        const size_t plane = (deep / w / h / c * wide_c + k % wide_c) * h * stride;
        const size_t wide = (plane + (size_t)j * stride + dy) * w * stride + (size_t)i * stride + dx;
        put(out + (forward ? wide : deep), add, x[forward ? deep : wide]);
    }
}
void reorg_gpu(const real *x, int w, int h, int c, int batch, int stride, int forward, int add, real *out)
{
    const size_t n = (size_t)batch * c * h * w;
    LAUNCH(reorg_kernel, n, n, x, w, h, c, stride, forward, add, out);
}

/* y[b, j, i] = or += x[b, i, j]; x is (batch, rows, columns). A tile goes through shared memory, so that both
 * sides are read and written along their rows; its own rows are a value longer, and a column then lies in all
 * banks. */
constexpr int TILE = WARP;
static __global__ void transpose_kernel(const real *x, int rows, int columns, unsigned tiles_down,
                                        unsigned tiles_across, int add, real *y)
{
    SHARED_MATRIX(real, tile, TILE, TILE + 1);
    const size_t image = (size_t)(blockIdx.x / tiles_across / tiles_down) * rows * columns;
    const int top = (int)(blockIdx.x / tiles_across % tiles_down) * TILE,
              left = (int)(blockIdx.x % tiles_across) * TILE;
    const int lane = threadIdx.x % WARP, first = threadIdx.x / WARP;
    for (int r = first; r < TILE; r += WARPS) {
        if (top + r < rows && left + lane < columns)
            tile[r][lane] = x[image + (size_t)(top + r) * columns + left + lane];
    }
    __syncthreads();
    for (int r = first; r < TILE; r += WARPS) {
        if (left + r < columns && top + lane < rows) {
            put(y + image + (size_t)(left + r) * rows + top + lane, add, tile[lane][r]);
        }
    }
}
void transpose_gpu(const real *x, int batch, int rows, int columns, int add, real *y)
{
    const unsigned down = ((unsigned)rows + TILE - 1) / TILE, across = ((unsigned)columns + TILE - 1) / TILE;
    LAUNCH_BLOCKS(transpose_kernel, (unsigned)batch * down * across, 0, x, rows, columns, down, across, add,
                  y);
}
