/* Mean and variance of each channel in one read, and what batch and group normalization make of them. */
#ifndef DN_MOMENTS_CUH
#define DN_MOMENTS_CUH
#include "activations.cuh"
#include "channels.cuh"

/* ---- values in groups: four of 16 bytes where rows and arrays allow it, else one */
template <int V> struct group {
    real v[V];
};
template <int V> __device__ __forceinline__ group<V> load(const real *from);
template <> __device__ __forceinline__ group<1> load<1>(const real *from) { return {{*from}}; }
template <> __device__ __forceinline__ group<4> load<4>(const real *from)
{
    const float4 all = *(const float4 *)from;
    return {{all.x, all.y, all.z, all.w}};
}
static __device__ __forceinline__ void store(real *to, const group<1> &g) { *to = g.v[0]; }
static __device__ __forceinline__ void store(real *to, const group<4> &g)
{
    *(float4 *)to = make_float4(g.v[0], g.v[1], g.v[2], g.v[3]);
}
static inline bool at_16_bytes(const void *p) { return (uintptr_t)p % 16 == 0; }
static inline channel_shape in_groups(channel_shape s, int v) { return {s.batch, s.channels, s.spatial / v}; }

/* A thread asks for LOADS groups before it works on the first, so that memory has enough to do; and what it
 * sums of them goes to double precision at once, so that no sum of floats is long. */
constexpr int LOADS = 4;
template <int V, class Body>
static __device__ __forceinline__ void for_groups(channel_shape s, const channel_part &p, Body body)
{
    channel_walk w(s, p.channel, p.from + threadIdx.x);
    while (w.k < p.to) {
        size_t at[LOADS];
        int n = 0;
        EACH(j, LOADS) {
            if (w.k < p.to) at[j] = w.at * V, n = j + 1, w.next();
        }
        body(at, n);
    }
}

/* ---- moments: count, mean, and the sum of squared distances from it */
struct moments {
    double count, mean, squares;
};
/* Of all parts in their order: T. F. Chan, G. H. Golub and R. J. LeVeque, 1979. */
static __device__ __forceinline__ moments merged(const moments *part, int parts)
{
    moments all = part[0];
    for (int i = 1; i < parts; ++i) {
        const double count = all.count + part[i].count, distance = part[i].mean - all.mean;
        all.squares += part[i].squares + distance * distance * (all.count * part[i].count / count);
        all.mean += distance * (part[i].count / count);
        all.count = count;
    }
    return all;
}
/* From the sums of x - shift and its square; no digits are lost where the shift is near the mean. */
static __device__ __forceinline__ moments moments_of(double n, double shift, double sum, double square)
{
    const double squares = square - sum * sum / n;
    return {n, shift + sum / n, squares > 0 ? squares : 0};
}

/* One part of one channel to a block; the shift is the mean of its first values. */
template <int V>
static __global__ void moments_kernel(const real *x, channel_shape s, int parts, moments *found)
{
    const channel_part p = part_of_block(s, parts);
    const size_t n = p.to - p.from, first = n < BLOCK ? n : BLOCK;
    double sum = 0, square = 0;
    if (threadIdx.x < first) {
        const group<V> g = load<V>(x + channel_walk(s, p.channel, p.from + threadIdx.x).at * V);
        for (int j = 0; j < V; ++j) sum += g.v[j];
    }
    const real shift = (real)(block_sum(sum) / (double)(first * V));
    sum = 0;
    for_groups<V>(s, p, [&](const size_t *at, int count) {
        group<V> g[LOADS];
        real d = 0, q = 0;
        EACH(j, LOADS) {
            if (j < count) g[j] = load<V>(x + at[j]);
        }
        EACH(j, LOADS) {
            for (int i = 0; i < V && j < count; ++i) {
                const real distance = g[j].v[i] - shift;
                d += distance;
                q += distance * distance;
            }
        }
        sum += d;
        square += q;
    });
    sum = block_sum(sum);
    square = block_sum(square);
    if (threadIdx.x == 0) found[blockIdx.x] = moments_of((double)n * V, shift, sum, square);
}
/* Without a plane: WARP channels and some rows to a block; the shift is the first row. */
static __global__ void column_moments_kernel(const real *x, channel_shape s, int parts, moments *found)
{
    SHARED_MATRIX(double, sums, WARPS, WARP);
    SHARED_MATRIX(double, squares, WARPS, WARP);
    const int lane = threadIdx.x % WARP, row = threadIdx.x / WARP, part = (int)(blockIdx.x % parts);
    const size_t c = (size_t)(blockIdx.x / parts) * WARP + lane, channels = s.channels;
    const size_t from = (size_t)s.batch * part / parts, to = (size_t)s.batch * (part + 1) / parts;
    const double shift = c < channels ? x[from * channels + c] : 0;
    double sum = 0, square = 0;
    for (size_t b = from + row; b < to && c < channels; b += WARPS) {
        const double d = x[b * channels + c] - shift;
        sum += d;
        square += d * d;
    }
    sums[row][lane] = sum;
    squares[row][lane] = square;
    __syncthreads();
    if (row > 0 || c >= channels) return;
    for (int i = 1; i < WARPS; ++i) sum += sums[i][lane], square += squares[i][lane];
    found[c * parts + part] = moments_of((double)(to - from), shift, sum, square);
}

/* How the channels of a shape are cut. */
struct channel_cut {
    int parts, v; /* blocks of a channel; values of a group */
    unsigned blocks;
    bool flat;
};
static inline channel_cut cut_channels(channel_shape s, bool aligned)
{
    const bool flat = s.spatial == 1;
    const unsigned groups = flat ? column_blocks(s.channels) : (unsigned)s.channels;
    const int most = parts_of(groups, (size_t)s.batch * s.spatial * (flat ? WARP : 1));
    const int parts = flat && most > s.batch ? s.batch : most;
    return {parts, aligned && s.spatial % 4 == 0 ? 4 : 1, groups * parts, flat};
}
/* The moments of each channel's parts, in scratch memory; NULL: none was to be had. */
static inline moments *find_moments(const real *x, channel_shape s, const channel_cut &cut)
{
    moments *found = (moments *)scratch(FOR_SUMS, (size_t)s.channels * cut.parts * sizeof(moments));
    if (!found) return NULL;
    launch("moments of channels",
           cut.flat     ? column_moments_kernel
           : cut.v == 4 ? moments_kernel<4>
                        : moments_kernel<1>,
           cut.blocks, BLOCK, 0, x, in_groups(s, cut.v), cut.parts, found);
    return found;
}
#endif
