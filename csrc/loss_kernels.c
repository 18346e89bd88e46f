/* Dropout, softmax and the losses. delta is the negative gradient (of half the loss for the squared ones),
 * error the loss of each element. */
#include "elementary.h"
#include "layer.h"
#include "parallel.h"
#include "random.h"
#include "sums.h"
#include <assert.h>
#include <float.h>
#include <math.h>

/* Philox4x32-10 of PIECES consecutive blocks side by side: word j of block b goes to out[j][b]; the same
 * numbers as dn_random's. */
enum { PIECES = 16 };
MULTIVERSION static void random_pieces(uint64_t seed, uint32_t purpose, uint64_t index, uint32_t first,
                                       uint32_t out[4][PIECES])
{
    uint32_t key0 = (uint32_t)seed, key1 = (uint32_t)(seed >> 32);
    for (int b = 0; b < PIECES; ++b) {
        out[0][b] = (uint32_t)index;
        out[1][b] = (uint32_t)(index >> 32);
        out[2][b] = purpose;
        out[3][b] = first + (uint32_t)b;
    }
    for (int round = 0; round < DN_PHILOX_ROUNDS; ++round, key0 += DN_PHILOX_WEYL0, key1 += DN_PHILOX_WEYL1) {
        for (int b = 0; b < PIECES; ++b) {
            const uint64_t p = (uint64_t)DN_PHILOX_MULTIPLIER0 * out[0][b],
                           q = (uint64_t)DN_PHILOX_MULTIPLIER1 * out[2][b];
            out[0][b] = (uint32_t)(q >> 32) ^ out[1][b] ^ key0;
            out[1][b] = (uint32_t)q;
            out[2][b] = (uint32_t)(p >> 32) ^ out[3][b] ^ key1;
            out[3][b] = (uint32_t)p;
        }
    }
}
/* scale[i] = factor, or 0 where element i of the row is dropped; n at most 4 * PIECES. */
MULTIVERSION static void dropout_scales(uint32_t bits[4][PIECES], int n, real probability, real factor,
                                        real *scale)
{
    for (int b = 0; 4 * b < n; ++b) {
        for (int j = 0; j < 4; ++j) scale[4 * b + j] = dn_uniform(bits[j][b]) < probability ? 0 : factor;
    }
}
MULTIVERSION static void scale_values(const real *x, const real *scale, int n, int add, real *y)
{
    for (int i = 0; i < n; ++i) y[i] = (add ? y[i] : 0) + scale[i] * x[i];
}
/* y = or += x / (1 - probability), or 0 where dropped. Element i of row b is dropped by bits of (seed,
 * purpose, first_row + b, i) alone, so that the backward pass draws the mask again and none is stored. */
void dropout_cpu(const real *x, int batch, int inputs, real probability, uint64_t seed, uint32_t purpose,
                 uint64_t first_row, int add, real *y)
{
    assert(probability >= 0 && probability < 1);
    if (probability == 0) {
        pass_delta_cpu(batch * inputs, 1, x, add, y);
        return;
    }
    PARALLEL_FOR2((size_t)batch *inputs)
    for (int b = 0; b < batch; ++b) {
        for (int64_t i = 0; i < inputs; i += 4 * PIECES) {
            uint32_t bits[4][PIECES];
            real scale[4 * PIECES];
            const int n = inputs - i < 4 * PIECES ? (int)(inputs - i) : 4 * PIECES;
            const size_t at = (size_t)b * inputs + i;
            random_pieces(seed, purpose, first_row + (uint64_t)b, (uint32_t)(i / 4), bits);
            dropout_scales(bits, n, probability, 1 / (1 - probability), scale);
            scale_values(x + at, scale, n, add, y + at);
        }
    }
}

MULTIVERSION static void exponentials(const real *x, int n, int stride, real largest, real temp, real *y)
{
    for (int i = 0; i < n; ++i) y[(size_t)i * stride] = exp_of((x[(size_t)i * stride] - largest) / temp);
}
/* output = softmax of input / temp over n values `stride` apart, for each of `groups` sets of each image.
 * Darknet: softmax_cpu. */
void softmax_cpu(const real *input, int n, int batch, int batch_offset, int groups, int group_offset,
                 int stride, real temp, real *output)
{
    PARALLEL_FOR2((size_t)batch *groups *n)
    for (int b = 0; b < batch; ++b) {
        for (int g = 0; g < groups; ++g) {
            const size_t at = (size_t)b * batch_offset + (size_t)g * group_offset;
            const real *x = input + at;
            real *y = output + at, largest = x[0];
            for (int i = 1; i < n; ++i) {
                largest = x[(size_t)i * stride] > largest ? x[(size_t)i * stride] : largest;
            }
            double sum = 0;
            exponentials(x, n, stride, largest, temp, y);
            for (int i = 0; i < n; ++i) sum += y[(size_t)i * stride];
            for (int i = 0; i < n; ++i) y[(size_t)i * stride] = (real)(y[(size_t)i * stride] / sum);
        }
    }
}
/* dx = p (delta - sum p delta) / temp: a delta at the probabilities taken back to the softmax's input. */
void softmax_backward_cpu(const real *output, const real *delta, int n, int batch, int batch_offset,
                          int groups, int group_offset, int stride, real temp, real *dx)
{
    PARALLEL_FOR2((size_t)batch *groups *n)
    for (int b = 0; b < batch; ++b) {
        for (int g = 0; g < groups; ++g) {
            const size_t at = (size_t)b * batch_offset + (size_t)g * group_offset;
            double dot = 0;
            for (int i = 0; i < n; ++i) {
                dot += (double)output[at + (size_t)i * stride] * delta[at + (size_t)i * stride];
            }
            for (int i = 0; i < n; ++i) {
                const size_t j = at + (size_t)i * stride;
                dx[j] = (real)(output[j] * (delta[j] - dot) / temp);
            }
        }
    }
}

/* Cross-entropy at the softmax's input: delta = t - p, error = -t log p. A probability that underflowed
 * counts as the smallest float. */
void softmax_x_ent_cpu(int n, const real *pred, const real *truth, real *delta, real *error)
{
    PARALLEL_FOR(n)
    for (int i = 0; i < n; ++i) {
        const int counts = truth[i] != DN_SECRET_NUM;
        const double p = pred[i] < FLT_MIN ? FLT_MIN : pred[i];   /* a NaN stays one */
        delta[i] = counts ? truth[i] - pred[i] : 0;
        error[i] = counts && truth[i] != 0 ? (real)(-truth[i] * log(p)) : 0;
    }
}
/* Binary cross-entropy at the logistic's input: delta = t - p, error = -t log p - (1 - t) log(1 - p),
 * logarithms as above. */
void logistic_x_ent_cpu(int n, const real *pred, const real *truth, real *delta, real *error)
{
    PARALLEL_FOR(n)
    for (int i = 0; i < n; ++i) {
        const double p = pred[i] > FLT_MIN ? pred[i] : FLT_MIN,
                     q = 1 - (double)pred[i] > FLT_MIN ? 1 - (double)pred[i] : FLT_MIN;
        delta[i] = truth[i] - pred[i];
        error[i] = (real)(-truth[i] * log(p) - (1 - truth[i]) * log(q));
    }
}

/* The same error from the logistic's input x, exact where p has become 0 or 1: max(x, 0) - t x + log(1 +
 * exp(-|x|)). */
void logistic_loss_cpu(int n, const real *x, const real *truth, real *error)
{
    PARALLEL_FOR(n)
    for (int i = 0; i < n; ++i) {
        error[i] = (real)(fmax(x[i], 0) - (double)truth[i] * x[i] + log1p(exp(-fabs(x[i]))));
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
