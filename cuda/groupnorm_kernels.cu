/* Group normalization, arXiv:1803.08494; the twins of csrc/groupnorm_kernels.c. A slice, the channels of one
 * group of one sample, lies in a piece: its moments are found like those of a channel of one image. Then
 * passes over all values look up what becomes of their slice and their channel. */
#include "moments.cuh"

struct slice_shape {
    int batch, channels, spatial, groups, rows; /* rows: channels of a slice */
    size_t slices, length, values;              /* length: values of a slice */
};
static slice_shape slice_up(int batch, int channels, int spatial, int groups)
{
    const size_t slices = (size_t)batch * groups, length = (size_t)(channels / groups) * spatial;
    return {batch, channels, spatial, groups, channels / groups, slices, length, slices * length};
}
/* Of each slice; rest is the part of the mean that its float does not hold. The last two: of dx. */
struct slice_map {
    real mean, rest, inverse, x_factor, constant;
};

/* The maps from the moments of the slices' parts. In a forward pass mean and variance are written, in a
 * backward pass they are the forward's. */
static __global__ void slice_maps_kernel(size_t slices, const moments *found, int parts, bool keep,
                                         real *mean, real *variance, slice_map *maps)
{
    GRID_STRIDE(i, slices) {
        const moments m = merged(found + i * parts, parts);
        if (keep) {
            mean[i] = (real)m.mean;
            variance[i] = (real)(m.squares / m.count);
        }
        maps[i] = {mean[i], (real)(m.mean - mean[i]), bn_inverse_std(variance[i]), 0, 0};
    }
}
static slice_map *find_maps(const real *x, const slice_shape &s, bool keep, real *mean, real *variance)
{
    const channel_shape whole = {1, (int)s.slices, (int)s.length};
    const channel_cut cut = cut_channels(whole, at_16_bytes(x));
    slice_map *maps = (slice_map *)scratch(FOR_KERNEL, s.slices * sizeof(slice_map));
    const moments *found = maps ? find_moments(x, whole, cut) : NULL;
    if (!found) return NULL;
    LAUNCH(slice_maps_kernel, s.slices, s.slices, found, cut.parts, keep, mean, variance, maps);
    return maps;
}

/* ---- forward */

static __device__ __forceinline__ real normalized(real x, const slice_map &m, real scale, real bias)
{
    return fmaf(x - m.mean - m.rest, m.inverse * scale, bias);
}
/* V values of one channel to a thread. */
template <int V>
static __global__ void groupnorm_kernel(size_t n, const real *x, slice_shape s, const slice_map *maps,
                                        const real *scales, const real *biases, ACTIVATION a, real *y)
{
    GRID_STRIDE(i, n) {
        const size_t at = i * V, c = at / s.spatial % s.channels;
        const slice_map m = maps[at / s.length];
        group<V> g = load<V>(x + at);
        for (int j = 0; j < V; ++j) g.v[j] = activate(normalized(g.v[j], m, scales[c], biases[c]), a);
        store(y + at, g);
    }
}
void groupnorm_forward_gpu(const real *x, int batch, int channels, int spatial, int groups,
                           const real *scales, const real *biases, ACTIVATION a, real *mean, real *variance,
                           real *y)
{
    const slice_shape s = slice_up(batch, channels, spatial, groups);
    const slice_map *maps = find_maps(x, s, true, mean, variance);
    if (!maps) return;
    if (spatial % 4 == 0 && at_16_bytes(x) && at_16_bytes(y)) {
        LAUNCH(groupnorm_kernel<4>, s.values / 4, s.values / 4, x, s, maps, scales, biases, a, y);
    } else {
        LAUNCH(groupnorm_kernel<1>, s.values, s.values, x, s, maps, scales, biases, a, y);
    }
}

/* ---- backward: with d the delta at the scaled value and x^ the normalized one, M values in a slice,
 *     dx = inverse (scale d - (sum of scale d) / M - x^ (sum of scale d x^) / M) */

struct group_backward {
    const real *x, *delta, *scales, *biases;
    slice_shape s;
    ACTIVATION a;
    const slice_map *maps;
    __device__ real delta_at(size_t at, size_t c, const slice_map &m) const
    {
        return a == LINEAR ? delta[at] : delta[at] * slope(normalized(x[at], m, scales[c], biases[c]), a);
    }
};
/* Of each channel of each sample: the sums of d and d x^. LANES threads have a row: one, a warp or
 * the block. */
template <int LANES>
static __global__ void row_sums_kernel(group_backward w, size_t rows, real *sums, real *dots)
{
    for (size_t r = blockIdx.x * (size_t)(BLOCK / LANES) + threadIdx.x / LANES; r < rows;
         r += (size_t)gridDim.x * (BLOCK / LANES)) {
        const slice_map m = w.maps[r / w.s.rows];
        const size_t c = r % w.s.channels;
        double sum = 0, dot = 0;
        for (size_t at = r * w.s.spatial + threadIdx.x % LANES; at < (r + 1) * w.s.spatial; at += LANES) {
            const real d = w.delta_at(at, c, m);
            sum += d;
            dot += (double)d * ((w.x[at] - m.mean - m.rest) * m.inverse);
        }
        if (LANES == WARP) sum = warp_sum(sum), dot = warp_sum(dot);
        if (LANES == BLOCK) sum = block_sum(sum), dot = block_sum(dot);
        if (threadIdx.x % LANES == 0) sums[r] = (real)sum, dots[r] = (real)dot;
    }
}
/* The factors of dx; a block has a slice. */
static __global__ void slice_factors_kernel(slice_shape s, const real *sums, const real *dots,
                                            const real *scales, slice_map *maps)
{
    const size_t first = (size_t)blockIdx.x * s.rows, c = first % s.channels;
    slice_map &m = maps[blockIdx.x];
    double sum = 0, dot = 0;
    for (int j = threadIdx.x; j < s.rows; j += BLOCK) {
        sum += (double)scales[c + j] * sums[first + j];
        dot += (double)scales[c + j] * dots[first + j];
    }
    sum = block_sum(sum);
    dot = block_sum(dot);
    if (threadIdx.x > 0) return;
    const double inverse = m.inverse, x_factor = -dot * inverse * inverse / (double)s.length;
    m.x_factor = (real)x_factor;
    m.constant = (real)(-sum * inverse / (double)s.length - x_factor * m.rest);
}
static __global__ void group_delta_kernel(size_t n, group_backward w, int add, real *dx)
{
    GRID_STRIDE(at, n) {
        const size_t c = at / w.s.spatial % w.s.channels;
        const slice_map m = w.maps[at / w.s.length];
        put(dx + at, add,
            w.scales[c] * m.inverse * w.delta_at(at, c, m) + (m.x_factor * (w.x[at] - m.mean) + m.constant));
    }
}
/* y is not read: an activation's slope follows from x. workspace: 2 batch channels. */
void groupnorm_backward_gpu(const real *x, const real *, const real *delta, int batch, int channels,
                            int spatial, int groups, const real *scales, const real *biases, ACTIVATION a,
                            const real *mean, const real *variance, real *scale_updates, real *bias_updates,
                            int add, real *dx, real *workspace)
{
    const slice_shape s = slice_up(batch, channels, spatial, groups);
    slice_map *maps = find_maps(x, s, false, (real *)mean, (real *)variance);
    const size_t rows = (size_t)batch * channels;
    real *sums = workspace, *dots = workspace + rows;
    const group_backward w = {x, delta, scales, biases, s, a, maps};
    if (!maps) return;
    if (spatial < 8)
        LAUNCH(row_sums_kernel<1>, rows, w, rows, sums, dots);
    else if (spatial < 1024)
        LAUNCH(row_sums_kernel<WARP>, rows * WARP, w, rows, sums, dots);
    else
        LAUNCH(row_sums_kernel<BLOCK>, rows * BLOCK, w, rows, sums, dots);
    sum_channels({batch, channels, 1}, value_of{sums}, add_to{bias_updates});
    sum_channels({batch, channels, 1}, value_of{dots}, add_to{scale_updates});
    if (!dx) return;
    LAUNCH_BLOCKS(slice_factors_kernel, (unsigned)s.slices, 0, s, sums, dots, scales, maps);
    LAUNCH(group_delta_kernel, s.values, s.values, w, add, dx);
}
