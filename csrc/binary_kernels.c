/* Numbers of one bit for XNOR convolutions, arXiv:1603.05279: signs, and one magnitude per filter. Darknet:
 * binarize_weights, binarize_cpu. */
#include "sums.h"
#include <assert.h>
#include <math.h>

/* binary[f, i] = mean_i |weights[f, i]|, with the sign of weights[f, i]; zero counts as negative. weights and
 * binary are (n, size). */
void binarize_weights(const real *weights, int n, int size, real *binary)
{
    assert(weights && binary && n > 0 && size > 0);
    PARALLEL_FOR((size_t)n * size)
    for (int f = 0; f < n; ++f) {
        const real *from = weights + (size_t)f * size;
        real *to = binary + (size_t)f * size;
        double sum = 0;
        for (int i = 0; i < size; ++i) sum += fabs((double)from[i]);
        const real mean = (real)(sum / size);
        for (int i = 0; i < size; ++i) to[i] = from[i] > 0 ? mean : -mean;
    }
}

/* Signs of rows (h, w) inside rows (h + 2 pad, w + 2 pad), whose other values are `outside`; zero counts as
 * negative. */
void binarize_cpu(const real *input, int planes, int h, int w, int pad, real outside, real *binary)
{
    const int rows = h + 2 * pad, columns = w + 2 * pad;
    PARALLEL_FOR((size_t)planes * rows * columns)
    for (int p = 0; p < planes; ++p) {
        real *plane = binary + (size_t)p * rows * columns;
        for (int y = 0; y < rows; ++y) {
            const real *from = input + ((size_t)p * h + (y - pad)) * w;
            real *to = plane + (size_t)y * columns;
            const int inside = y >= pad && y < h + pad;
            for (int x = 0; x < columns; ++x) {
                const int here = inside && x >= pad && x < w + pad;
                to[x] = here ? (from[x - pad] > 0 ? 1 : -1) : outside;
            }
        }
    }
}
