/* Random start values of weights: a function of (seed, layer, position) alone. */
#include "layer.h"
#include "random.h"
#include <math.h>

/* Two numbers of N(0, 1) from two uniform ones (Box-Muller). */
static void normal_pair(uint32_t a, uint32_t b, double out[2])
{
    const double radius = sqrt(-2 * log(((double)a + 1) / 4294967296.0)),
                 angle = 6.283185307179586 * ((double)b / 4294967296.0);
    out[0] = radius * cos(angle);
    out[1] = radius * sin(angle);
}

void dn_fill_random(real *x, int n, real scale, int uniform, uint64_t seed, int layer_index)
{
    const uint32_t purpose = DN_RANDOM_LAYER(DN_RANDOM_WEIGHTS, layer_index);
#pragma omp parallel for num_threads(dn_num_threads())
    for (int block = 0; block < n / 4 + (n % 4 > 0); ++block) {
        const dn_random4 bits = dn_random(seed, purpose, (uint64_t)block, 0);
        double values[4];
        if (uniform) {
            for (int i = 0; i < 4; ++i) values[i] = 2 * ((double)bits.v[i] / 4294967295.0) - 1;
        } else {
            normal_pair(bits.v[0], bits.v[1], values);
            normal_pair(bits.v[2], bits.v[3], values + 2);
        }
        for (int i = 0; i < 4 && 4 * (int64_t)block + i < n; ++i) {
            x[4 * (size_t)block + i] = scale * (real)values[i];
        }
    }
}
