/* DropBlock (G. Ghiasi, T.-Y. Lin, Q. V. Le, arXiv:1810.12890): squares of a map are dropped together. */
#include "parallel.h"
#include "random.h"
#include "scalar.h"
#include "sums.h"
#include <assert.h>

/* One channel: 0 in the blocks that begin (upper left) at a pixel drawn with `probability`, else 1. The draw
 * of element i of a row is a function of (seed, purpose, row of the run, i) alone. */
static void mark_blocks(int first, int h, int w, int size, real probability, uint64_t seed, uint32_t purpose,
                        uint64_t row, real *mask)
{
    dn_random4 bits = {{0}};
    for (int i = 0; i < h * w; ++i) mask[i] = 1;
    for (int i = 0; i < h * w; ++i) {
        const int element = first + i;
        if (i == 0 || element % 4 == 0) bits = dn_random(seed, purpose, row, (uint32_t)(element / 4));
        if (!(dn_uniform(bits.v[element % 4]) < probability)) continue;
        for (int y = i / w; y < min_int(i / w + size, h); ++y) {
            for (int x = i % w; x < min_int(i % w + size, w); ++x) mask[(size_t)y * w + x] = 0;
        }
    }
}
/* mask (batch, channels, h, w) = 0 where dropped, elsewhere what keeps an image's sum: values /
 * values kept. */
void dropblock_mask_cpu(int batch, int channels, int h, int w, int size, real probability, uint64_t seed,
                        uint32_t purpose, uint64_t first_row, real *mask)
{
    assert(size > 0 && probability >= 0 && probability < 1);
    const int area = h * w, values = channels * area;
    PARALLEL_FOR((size_t)batch * values)
    for (int p = 0; p < batch * channels; ++p) {
        mark_blocks(p % channels * area, h, w, size, probability, seed, purpose,
                    first_row + (uint64_t)(p / channels), mask + (size_t)p * area);
    }
    PARALLEL_FOR((size_t)batch * values)
    for (int b = 0; b < batch; ++b) {
        real *image = mask + (size_t)b * values;
        const double kept = sum_row(image, values);
        const real scale = (real)(kept > 0 ? values / kept : 0);
        for (int i = 0; i < values; ++i) image[i] *= scale;
    }
}
