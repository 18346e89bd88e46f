/* The values of each channel of (batch, channels, spatial), and sums over them. A channel's values are cut
 * into parts, a block each, where there are too few channels to fill a GPU; the parts' sums are added in
 * order. How many there are follows from the shape alone, and so does every bit of a result. */
#ifndef DN_CHANNELS_CUH
#define DN_CHANNELS_CUH
#include "kernels.cuh"

struct channel_shape {
    int batch, channels, spatial;
};
static inline size_t count_of(channel_shape s) { return (size_t)s.batch * s.channels * s.spatial; }

constexpr size_t ENOUGH_BLOCKS = 1024, LEAST_PART = 4096;
/* Blocks of one channel of m values. */
static inline int parts_of(size_t channels, size_t m)
{
    const size_t wanted = (ENOUGH_BLOCKS + channels - 1) / channels, most = (m + LEAST_PART - 1) / LEAST_PART;
    const size_t parts = wanted < most ? wanted : most;
    return parts > 0 ? (int)parts : 1;
}

/* What a block has of a channel: values from..to of it, counted over all images; or groups of
 * neighbours in a row, which `s.spatial` counts then. */
struct channel_part {
    size_t channel, from, to;
    int part;
};
static __device__ __forceinline__ channel_part part_of_block(channel_shape s, int parts)
{
    const size_t m = (size_t)s.batch * s.spatial;
    const int part = (int)(blockIdx.x % parts);
    return {blockIdx.x / parts, m * part / parts, m * (part + 1) / parts, part};
}
/* Goes from value to value of a channel in steps of BLOCK; divides once, at the beginning. */
struct channel_walk {
    size_t k, at;  /* which of the channel's; which of the array's */
    int i, step_i; /* within its row */
    size_t wrap, step;
    int spatial;
    __device__ channel_walk(channel_shape s, size_t channel, size_t first) : k(first), spatial(s.spatial)
    {
        const size_t row = (size_t)s.channels * s.spatial;
        i = (int)(first % s.spatial);
        at = first / s.spatial * row + channel * s.spatial + i;
        step_i = BLOCK % s.spatial;
        step = BLOCK / s.spatial * row + step_i;
        wrap = row - s.spatial; /* from the end of a row to the next image's */
    }
    __device__ void next()
    {
        k += BLOCK;
        i += step_i;
        at += step;
        if (i < spatial) return;
        i -= spatial;
        at += wrap;
    }
};

/* ---- sums of term(place in the array, channel); the result goes to finish(channel, sum) */

template <class Term>
static __global__ void channel_sums_kernel(Term term, channel_shape s, int parts, double *sums)
{
    const channel_part p = part_of_block(s, parts);
    double sum = 0;
    for (channel_walk w(s, p.channel, p.from + threadIdx.x); w.k < p.to; w.next())
        sum += term(w.at, p.channel);
    sum = block_sum(sum);
    if (threadIdx.x == 0) sums[blockIdx.x] = sum;
}
/* Without a plane (spatial = 1) neighbours in memory are channels: a block has WARP of them, and every
 * WARPS-th row of its part. */
template <class Term>
static __global__ void column_sums_kernel(Term term, channel_shape s, int parts, double *sums)
{
    SHARED_MATRIX(double, of_rows, WARPS, WARP);
    const int lane = threadIdx.x % WARP, row = threadIdx.x / WARP, part = (int)(blockIdx.x % parts);
    const size_t c = (size_t)(blockIdx.x / parts) * WARP + lane, to = (size_t)s.batch * (part + 1) / parts;
    double sum = 0;
    for (size_t b = (size_t)s.batch * part / parts + row; b < to && c < (size_t)s.channels; b += WARPS) {
        sum += term(b * s.channels + c, c);
    }
    of_rows[row][lane] = sum;
    __syncthreads();
    if (row > 0 || c >= (size_t)s.channels) return;
    for (int i = 1; i < WARPS; ++i) sum += of_rows[i][lane];
    sums[c * parts + part] = sum;
}
template <class Finish>
static __global__ void finish_sums_kernel(Finish finish, int channels, int parts, const double *sums)
{
    GRID_STRIDE(c, channels) {
        double sum = 0;
        for (int i = 0; i < parts; ++i) sum += sums[c * parts + i];
        finish(c, sum);
    }
}
static inline unsigned column_blocks(int channels) { return ((unsigned)channels + WARP - 1) / WARP; }

template <class Term, class Finish> static void sum_channels(channel_shape s, Term term, Finish finish)
{
    const bool flat = s.spatial == 1;
    const unsigned groups = flat ? column_blocks(s.channels) : (unsigned)s.channels;
    const int parts = parts_of(groups, (size_t)s.batch * s.spatial * (flat ? WARP : 1));
    double *sums = (double *)scratch(FOR_SUMS, (size_t)s.channels * parts * sizeof(double));
    if (!sums) return;
    launch("sums of channels", flat ? column_sums_kernel<Term> : channel_sums_kernel<Term>, groups * parts,
           BLOCK, 0, term, s, parts, sums);
    LAUNCH(finish_sums_kernel<Finish>, s.channels, finish, s.channels, parts, sums);
}

/* Terms and ends that several kernels have. */
struct value_of {
    const real *x;
    __device__ double operator()(size_t at, size_t) const { return x[at]; }
};
struct product_of {
    const real *a, *b;
    __device__ double operator()(size_t at, size_t) const { return (double)a[at] * b[at]; }
};
struct add_to {
    real *updates;
    __device__ void operator()(size_t c, double sum) const { updates[c] += (real)sum; }
};
struct keep_in {
    double *sums;
    __device__ void operator()(size_t c, double sum) const { sums[c] = sum; }
};
/* The sum over one array. */
template <class Term> static void sum_to(int n, Term term, double *sum)
{
    if (n > 0)
        sum_channels({1, 1, n}, term, keep_in{sum});
    else
        LAUNCH(finish_sums_kernel<keep_in>, 1, keep_in{sum}, 1, 0, (const double *)NULL);
}
#endif
