/* Biases and scales, one per filter, of arrays (batch, n, size). Names and argument order as in Darknet. */
#include "parallel.h"
#include "sums.h"
#include <assert.h>

/* output[b, f, i] += biases[f] */
MULTIVERSION void add_bias(real *output, const real *biases, int batch, int n, int size)
{
    assert(output && biases && batch > 0 && n > 0 && size > 0);
    if (size == 1) { /* neurons: a row is all filters of an image */
        PARALLEL_FOR((size_t)batch * n)
        for (int b = 0; b < batch; ++b) {
            real *row = output + (size_t)b * n;
            for (int f = 0; f < n; ++f) row[f] += biases[f];
        }
        return;
    }
    PARALLEL_FOR((size_t)batch * n * size)
    for (int r = 0; r < batch * n; ++r) {
        real *row = output + (size_t)r * size;
        for (int i = 0; i < size; ++i) row[i] += biases[r % n];
    }
}

/* output[b, f, i] *= scales[f] */
MULTIVERSION void scale_bias(real *output, const real *scales, int batch, int n, int size)
{
    assert(output && scales && batch > 0 && n > 0 && size > 0);
    PARALLEL_FOR((size_t)batch * n * size)
    for (int r = 0; r < batch * n; ++r) {
        real *row = output + (size_t)r * size;
        for (int i = 0; i < size; ++i) row[i] *= scales[r % n];
    }
}

/* backward_bias where a filter is one value: filters are neighbours in memory, `count` are summed at once. */
enum { BLOCK = 64 };
MULTIVERSION static void add_columns(const real *delta, int batch, int n, int count, real *bias_updates)
{
    double sum[BLOCK] = {0};
    for (int b = 0; b < batch; ++b) {
        for (int j = 0; j < count; ++j) sum[j] += delta[(size_t)b * n + j];
    }
    for (int j = 0; j < count; ++j) bias_updates[j] += (real)sum[j];
}
/* bias_updates[f] += sum of delta[b, f, i] */
void backward_bias(real *bias_updates, const real *delta, int batch, int n, int size)
{
    assert(bias_updates && delta && batch > 0 && n > 0 && size > 0);
    if (size == 1) {
        PARALLEL_FOR((size_t)batch * n)
        for (int64_t f = 0; f < n; f += BLOCK) {
            add_columns(delta + f, batch, n, n - f < BLOCK ? (int)(n - f) : BLOCK, bias_updates + f);
        }
        return;
    }
    PARALLEL_FOR((size_t)batch * n * size)
    for (int f = 0; f < n; ++f) {
        double sum = 0;
        for (int b = 0; b < batch; ++b) sum += sum_row(delta + ((size_t)b * n + f) * size, size);
        bias_updates[f] += (real)sum;
    }
}

/* scale_updates[f] += sum of delta[b, f, i] * x_norm[b, f, i] */
void backward_scale_cpu(const real *x_norm, const real *delta, int batch, int n, int size,
                        real *scale_updates)
{
    assert(x_norm && delta && scale_updates && batch > 0 && n > 0 && size > 0);
    PARALLEL_FOR((size_t)batch * n * size)
    for (int f = 0; f < n; ++f) {
        double sum = 0;
        for (int b = 0; b < batch; ++b) {
            const size_t row = ((size_t)b * n + f) * size;
            sum += dot_row(delta + row, x_norm + row, 0, size);
        }
        scale_updates[f] += (real)sum;
    }
}
