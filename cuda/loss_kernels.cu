/* Dropout, softmax and the losses; the twins of csrc/loss_kernels.c. */
#include "channels.cuh"
#include "random.h"
#include <float.h>

/* y = or += x / (1 - probability), or 0 where dropped; a thread has the four elements of one draw. */
static __global__ void dropout_kernel(size_t n, const real *x, int inputs, int quads, real probability,
                                      real factor, uint64_t seed, uint32_t purpose, uint64_t first_row,
                                      int add, real *y)
{
    GRID_STRIDE(q, n) {
        const size_t b = q / quads, first = q % quads * 4, row = b * inputs;
        const dn_random4 bits = dn_random(seed, purpose, first_row + b, (uint32_t)(q % quads));
        for (size_t j = 0; j < 4 && first + j < (size_t)inputs; ++j) {
            const real scale = dn_uniform(bits.v[j]) < probability ? 0 : factor;
            put(y + row + first + j, add, scale * x[row + first + j]);
        }
    }
}
void dropout_gpu(const real *x, int batch, int inputs, real probability, uint64_t seed, uint32_t purpose,
                 uint64_t first_row, int add, real *y)
{
    const int quads = (int)(((int64_t)inputs + 3) / 4);
    const size_t n = (size_t)batch * quads;
    if (probability == 0)
        pass_delta_gpu(batch * inputs, 1, x, add, y);
    else
        LAUNCH(dropout_kernel, n, n, x, inputs, quads, probability, 1 / (1 - probability), seed, purpose,
               first_row, add, y);
}

/* ---- softmax over n values `stride` apart, for each of `groups` sets of each image. The values of a set
 * that lies in a piece are a block's; sets that lie side by side, a value of each next to the other's, are a
 * thread's each. */
struct softmax_sets {
    int n, groups, batch_offset, group_offset, stride;
    size_t count;
    __host__ __device__ size_t at(size_t set) const
    {
        return set / groups * batch_offset + set % groups * group_offset;
    }
};
/* The threads of one set: all of the block's, or one. */
template <bool WHOLE> struct set_team {
    size_t set, step;
    int first, apart;
    __device__ set_team()
        : set(WHOLE ? blockIdx.x : blockIdx.x * (size_t)BLOCK + threadIdx.x),
          step(WHOLE ? gridDim.x : gridDim.x * (size_t)BLOCK), first(WHOLE ? threadIdx.x : 0),
          apart(WHOLE ? BLOCK : 1)
    {
    }
    __device__ double sum(double value) const { return WHOLE ? block_sum(value) : value; }
    __device__ real largest(real value) const { return WHOLE ? block_largest(value) : value; }
};
template <bool WHOLE>
static __global__ void softmax_kernel(softmax_sets s, const real *input, real temp, real *output)
{
    for (set_team<WHOLE> t; t.set < s.count; t.set += t.step) {
        const real *x = input + s.at(t.set);
        real *y = output + s.at(t.set), most = x[0];
        double sum = 0;
        for (int i = t.first; i < s.n; i += t.apart) most = fmax(most, x[(size_t)i * s.stride]);
        most = t.largest(most);
        for (int i = t.first; i < s.n; i += t.apart) {
            const real e = exp((x[(size_t)i * s.stride] - most) / temp);
            sum += e;
            y[(size_t)i * s.stride] = e;
        }
        const real scale = (real)(1 / t.sum(sum));
        for (int i = t.first; i < s.n; i += t.apart) y[(size_t)i * s.stride] *= scale;
    }
}
static bool lies_in_a_piece(const softmax_sets &s) { return s.stride == 1 && s.n > WARP; }
void softmax_gpu(const real *input, int n, int batch, int batch_offset, int groups, int group_offset,
                 int stride, real temp, real *output)
{
    const softmax_sets s = {n, groups, batch_offset, group_offset, stride, (size_t)batch * groups};
    if (lies_in_a_piece(s))
        LAUNCH_BLOCKS((softmax_kernel<true>), blocks_of(s.count * BLOCK), 0, s, input, temp, output);
    else
        LAUNCH((softmax_kernel<false>), s.count, s, input, temp, output);
}
/* dx = p (delta - sum p delta) / temp */
template <bool WHOLE>
static __global__ void softmax_backward_kernel(softmax_sets s, const real *output, const real *delta,
                                               real temp, real *dx)
{
    for (set_team<WHOLE> t; t.set < s.count; t.set += t.step) {
        const size_t at = s.at(t.set);
        double dot = 0;
        for (int i = t.first; i < s.n; i += t.apart) {
            dot += (double)output[at + (size_t)i * s.stride] * delta[at + (size_t)i * s.stride];
        }
        dot = t.sum(dot);
        for (int i = t.first; i < s.n; i += t.apart) {
            const size_t j = at + (size_t)i * s.stride;
            dx[j] = (real)(output[j] * (delta[j] - dot) / temp);
        }
    }
}
void softmax_backward_gpu(const real *output, const real *delta, int n, int batch, int batch_offset,
                          int groups, int group_offset, int stride, real temp, real *dx)
{
    const softmax_sets s = {n, groups, batch_offset, group_offset, stride, (size_t)batch * groups};
    if (lies_in_a_piece(s)) {
        LAUNCH_BLOCKS((softmax_backward_kernel<true>), blocks_of(s.count * BLOCK), 0, s, output, delta, temp,
                      dx);
    } else {
        LAUNCH((softmax_backward_kernel<false>), s.count, s, output, delta, temp, dx);
    }
}

/* ---- losses: delta is the negative gradient, error the loss of each element */

/* delta = t - p, error = -t log p. A probability that underflowed counts as the smallest float; a NaN stays
 * one. */
static __global__ void softmax_x_ent_kernel(size_t n, const real *pred, const real *truth, real *delta,
                                            real *error)
{
    GRID_STRIDE(i, n) {
        const bool counts = truth[i] != DN_SECRET_NUM;
        const real p = pred[i] < FLT_MIN ? FLT_MIN : pred[i];
        delta[i] = counts ? truth[i] - pred[i] : 0;
        error[i] = counts && truth[i] != 0 ? -truth[i] * log(p) : 0;
    }
}
void softmax_x_ent_gpu(int n, const real *pred, const real *truth, real *delta, real *error)
{
    LAUNCH(softmax_x_ent_kernel, n, n, pred, truth, delta, error);
}
/* delta = t - p, error = -t log p - (1 - t) log(1 - p) */
static __global__ void logistic_x_ent_kernel(size_t n, const real *pred, const real *truth, real *delta,
                                             real *error)
{
    GRID_STRIDE(i, n) {
        const real p = pred[i] > FLT_MIN ? pred[i] : FLT_MIN;
        const real log_q = 1 - pred[i] > FLT_MIN ? log1p(-pred[i]) : log(FLT_MIN);
        delta[i] = truth[i] - pred[i];
        error[i] = -truth[i] * log(p) - (1 - truth[i]) * log_q;
    }
}
void logistic_x_ent_gpu(int n, const real *pred, const real *truth, real *delta, real *error)
{
    LAUNCH(logistic_x_ent_kernel, n, n, pred, truth, delta, error);
}
/* The same error from the logistic's input: max(x, 0) - t x + log(1 + exp(-|x|)). */
static __global__ void logistic_loss_kernel(size_t n, const real *x, const real *truth, real *error)
{
    GRID_STRIDE(i, n) error[i] = fmax(x[i], (real)0) - truth[i] * x[i] + log1p(exp(-fabs(x[i])));
}
void logistic_loss_gpu(int n, const real *x, const real *truth, real *error)
{
    LAUNCH(logistic_loss_kernel, n, n, x, truth, error);
}

static __global__ void l2_kernel(size_t n, const real *pred, const real *truth, real *delta, real *error)
{
    GRID_STRIDE(i, n) {
        const real d = truth[i] - pred[i];
        delta[i] = d;
        error[i] = d * d;
    }
}
void l2_gpu(int n, const real *pred, const real *truth, real *delta, real *error)
{
    LAUNCH(l2_kernel, n, n, pred, truth, delta, error);
}
static __global__ void l1_kernel(size_t n, const real *pred, const real *truth, real *delta, real *error)
{
    GRID_STRIDE(i, n) {
        const real d = truth[i] - pred[i];
        delta[i] = (real)((d > 0) - (d < 0));
        error[i] = d < 0 ? -d : d;
    }
}
void l1_gpu(int n, const real *pred, const real *truth, real *delta, real *error)
{
    LAUNCH(l1_kernel, n, n, pred, truth, delta, error);
}
static __global__ void smooth_l1_kernel(size_t n, const real *pred, const real *truth, real *delta,
                                        real *error)
{
    GRID_STRIDE(i, n) {
        const real d = truth[i] - pred[i], size = d < 0 ? -d : d;
        delta[i] = size < 1 ? d : d > 0 ? 1 : -1;
        error[i] = size < 1 ? d * d : 2 * size - 1;
    }
}
void smooth_l1_gpu(int n, const real *pred, const real *truth, real *delta, real *error)
{
    LAUNCH(smooth_l1_kernel, n, n, pred, truth, delta, error);
}
/* The critic's loss of a Wasserstein GAN: real samples (t > 0) are to score high. */
static __global__ void wgan_kernel(size_t n, const real *pred, const real *truth, real *delta, real *error)
{
    GRID_STRIDE(i, n) {
        error[i] = truth[i] != 0 ? -pred[i] : pred[i];
        delta[i] = truth[i] > 0 ? 1 : -1;
    }
}
void wgan_gpu(int n, const real *pred, const real *truth, real *delta, real *error)
{
    LAUNCH(wgan_kernel, n, n, pred, truth, delta, error);
}
/* Where the truth is `value`, delta and error are multiplied by factor. */
static __global__ void mask_loss_kernel(size_t n, const real *truth, real value, real factor, real *delta,
                                        real *error)
{
    GRID_STRIDE(i, n) {
        if (truth[i] != value) continue;
        delta[i] *= factor;
        error[i] *= factor;
    }
}
void mask_loss_gpu(int n, const real *truth, real value, real factor, real *delta, real *error)
{
    LAUNCH(mask_loss_kernel, n, n, truth, value, factor, delta, error);
}

/* *sum = sum of x[i] */
void sum_gpu(int n, const real *x, double *sum) { sum_to(n, value_of{x}, sum); }
