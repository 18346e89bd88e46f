/* Dropout, softmax and the losses. delta is the negative gradient (of half the loss for the squared ones), error the loss of each element. */
#include "layer.h"
#include "parallel.h"
#include "random.h"
#include "sums.h"
#include <assert.h>
#include <float.h>
#include <math.h>

/* y = or += x / (1 - probability), or 0 where dropped. Element i of row b is dropped by bits of (seed, purpose, first_row + b, i) alone. */
void dropout_cpu(const real *x, int batch, int inputs, real probability, uint64_t seed, uint32_t purpose, uint64_t first_row, int add, real *y)
{
    assert(probability >= 0 && probability < 1);
    const real scale = 1 / (1 - probability);
    const int pieces = (inputs + 3) / 4;
    PARALLEL_FOR2((size_t)batch *inputs)
    for (int b = 0; b < batch; ++b) {
        for (int piece = 0; piece < pieces; ++piece) {
            dn_random4 bits = {{0}};
            if (probability > 0) bits = dn_random(seed, purpose, first_row + (uint64_t)b, (uint32_t)piece);
            for (int j = 0; j < 4 && 4 * piece + j < inputs; ++j) {
                const size_t i = (size_t)b * inputs + 4 * (size_t)piece + j;
                const real kept = probability > 0 && dn_uniform(bits.v[j]) < probability ? 0 : scale * x[i];
                y[i] = (add ? y[i] : 0) + kept;
            }
        }
    }
}

/* output = softmax of input / temp over n values `stride` apart, for each of `groups` sets of each image. Darknet: softmax_cpu. */
void softmax_cpu(const real *input, int n, int batch, int batch_offset, int groups, int group_offset, int stride, real temp, real *output)
{
    PARALLEL_FOR2((size_t)batch *groups *n)
    for (int b = 0; b < batch; ++b) {
        for (int g = 0; g < groups; ++g) {
            const size_t at = (size_t)b * batch_offset + (size_t)g * group_offset;
            const real *x = input + at;
            real *y = output + at, largest = x[0];
            double sum = 0;
            for (int i = 1; i < n; ++i) largest = x[(size_t)i * stride] > largest ? x[(size_t)i * stride] : largest;
            for (int i = 0; i < n; ++i) {
                const double e = exp(((double)x[(size_t)i * stride] - largest) / temp);
                sum += e;
                y[(size_t)i * stride] = (real)e;
            }
            for (int i = 0; i < n; ++i) y[(size_t)i * stride] = (real)(y[(size_t)i * stride] / sum);
        }
    }
}
/* dx = p (delta - sum p delta) / temp: a delta at the probabilities taken back to the softmax's input. */
void softmax_backward_cpu(const real *output, const real *delta, int n, int batch, int batch_offset, int groups, int group_offset,
                          int stride, real temp, real *dx)
{
    PARALLEL_FOR2((size_t)batch *groups *n)
    for (int b = 0; b < batch; ++b) {
        for (int g = 0; g < groups; ++g) {
            const size_t at = (size_t)b * batch_offset + (size_t)g * group_offset;
            double dot = 0;
            for (int i = 0; i < n; ++i) dot += (double)output[at + (size_t)i * stride] * delta[at + (size_t)i * stride];
            for (int i = 0; i < n; ++i) {
                const size_t j = at + (size_t)i * stride;
                dx[j] = (real)(output[j] * (delta[j] - dot) / temp);
            }
        }
    }
}

/* Cross-entropy at the softmax's input: delta = t - p, error = -t log p. A probability that underflowed counts as the smallest float. */
void softmax_x_ent_cpu(int n, const real *pred, const real *truth, real *delta, real *error)
{
    PARALLEL_FOR(n)
    for (int i = 0; i < n; ++i) {
        const int counts = truth[i] != DN_SECRET_NUM;
        const double p = pred[i] > FLT_MIN ? pred[i] : FLT_MIN;
        delta[i] = counts ? truth[i] - pred[i] : 0;
        error[i] = counts && truth[i] != 0 ? (real)(-truth[i] * log(p)) : 0;
    }
}
/* Binary cross-entropy at the logistic's input: delta = t - p, error = -t log p - (1 - t) log(1 - p), logarithms as above. */
void logistic_x_ent_cpu(int n, const real *pred, const real *truth, real *delta, real *error)
{
    PARALLEL_FOR(n)
    for (int i = 0; i < n; ++i) {
        const double p = pred[i] > FLT_MIN ? pred[i] : FLT_MIN, q = 1 - (double)pred[i] > FLT_MIN ? 1 - (double)pred[i] : FLT_MIN;
        delta[i] = truth[i] - pred[i];
        error[i] = (real)(-truth[i] * log(p) - (1 - truth[i]) * log(q));
    }
}

MULTIVERSION void l2_cpu(int n, const real *pred, const real *truth, real *delta, real *error)
{
    PARALLEL_FOR(n)
    for (int i = 0; i < n; ++i) {
        const real d = truth[i] - pred[i];
        delta[i] = d;
        error[i] = d * d;
    }
}
MULTIVERSION void l1_cpu(int n, const real *pred, const real *truth, real *delta, real *error)
{
    PARALLEL_FOR(n)
    for (int i = 0; i < n; ++i) {
        const real d = truth[i] - pred[i];
        delta[i] = (real)((d > 0) - (d < 0));
        error[i] = d < 0 ? -d : d;
    }
}
MULTIVERSION void smooth_l1_cpu(int n, const real *pred, const real *truth, real *delta, real *error)
{
    PARALLEL_FOR(n)
    for (int i = 0; i < n; ++i) {
        const real d = truth[i] - pred[i], size = d < 0 ? -d : d;
        delta[i] = size < 1 ? d : d > 0 ? 1 : -1;
        error[i] = size < 1 ? d * d : 2 * size - 1;
    }
}
/* The critic's loss of a Wasserstein GAN: real samples (t > 0) are to score high. */
MULTIVERSION void wgan_cpu(int n, const real *pred, const real *truth, real *delta, real *error)
{
    PARALLEL_FOR(n)
    for (int i = 0; i < n; ++i) {
        error[i] = truth[i] != 0 ? -pred[i] : pred[i];
        delta[i] = truth[i] > 0 ? 1 : -1;
    }
}
/* Where the truth is `value`, delta and error are multiplied by factor. */
MULTIVERSION void mask_loss_cpu(int n, const real *truth, real value, real factor, real *delta, real *error)
{
    PARALLEL_FOR(n)
    for (int i = 0; i < n; ++i) {
        if (truth[i] != value) continue;
        delta[i] *= factor;
        error[i] *= factor;
    }
}

/* *sum = sum of x[i] */
void sum_cpu(int n, const real *x, double *sum) { *sum = sum_row(x, n); }
