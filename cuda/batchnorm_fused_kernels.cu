/* Batch normalization as a layer runs it; the twins of csrc/batchnorm_fused_kernels.c. Values are read from
 * and written to memory:
 *     forward    once and once where a channel's values fit in a block's shared memory; else twice and once
 *     backward   x and delta once, dx once where both fit; else twice and once. y is not read: the slope of
 *                an activation follows from x, whose normalized value is worked out anew */
#include "moments.cuh"

constexpr size_t RESIDENT = 8192; /* values of a channel that a block keeps in shared memory */

/* ---- forward */

static __device__ __forceinline__ real normalized(real x, real mean, real scale, real bias)
{
    return fmaf(x - mean, scale, bias);
}
/* What becomes of a channel: normalized(x, mean, scale, bias). */
struct affine {
    real mean, scale, bias;
};
static __device__ __forceinline__ affine affine_of(const batchnorm_arrays &p, size_t f, double mean,
                                                   double variance)
{
    const real rounded = (real)mean, scale = p.scales[f] * bn_inverse_std((real)variance);
    return {rounded, scale, p.biases[f] - (real)(mean - rounded) * scale};
}
static __device__ __forceinline__ affine given_affine(const batchnorm_arrays &p, size_t f)
{
    return affine_of(p, f, p.mean[f] + (p.mean_rest ? (double)p.mean_rest[f] : 0), p.variance[f]);
}
static __device__ __forceinline__ void keep_statistics(const batchnorm_arrays &p, size_t f, const moments &m)
{
    p.mean[f] = (real)m.mean;
    p.variance[f] = (real)(m.squares / m.count);
    if (p.mean_rest) p.mean_rest[f] = (real)(m.mean - p.mean[f]);
}
static __global__ void keep_statistics_kernel(const moments *found, int parts, int filters,
                                              batchnorm_arrays p)
{
    GRID_STRIDE(f, filters) keep_statistics(p, f, merged(found + f * parts, parts));
}

/* One part of one channel; found: the moments of its parts, NULL where the statistics are given. */
template <int V>
static __global__ void forward_kernel(const real *x, channel_shape s, int parts, batchnorm_arrays p,
                                      const moments *found, ACTIVATION a, real *y)
{
    SHARED_ARRAY(affine, shared, 1);
    const channel_part own = part_of_block(s, parts);
    const size_t f = own.channel;
    if (threadIdx.x == 0) {
        if (found) {
            const moments m = merged(found + f * parts, parts);
            shared[0] = affine_of(p, f, m.mean, m.squares / m.count);
            if (own.part == 0) keep_statistics(p, f, m);
        } else {
            shared[0] = given_affine(p, f);
        }
    }
    __syncthreads();
    const affine to = shared[0];
    for_groups<V>(s, own, [&](const size_t *at, int count) {
        group<V> g[LOADS];
        EACH(j, LOADS) {
            if (j < count) g[j] = load<V>(x + at[j]);
        }
        EACH(j, LOADS) {
            if (j >= count) continue;
            for (int i = 0; i < V; ++i)
                g[j].v[i] = activate(normalized(g[j].v[i], to.mean, to.scale, to.bias), a);
            store(y + at[j], g[j]);
        }
    });
}
/* A whole channel to a block, which keeps it in shared memory from its one read to its one write: the mean,
 * then the variance from the distances to it, then the result. */
template <int V>
static __global__ void resident_forward_kernel(const real *x, channel_shape s, batchnorm_arrays p,
                                               ACTIVATION a, real *y)
{
    DYNAMIC_SHARED(real, kept);
    const channel_part own = part_of_block(s, 1);
    double sum = 0, square = 0;
    for (channel_walk w(s, own.channel, threadIdx.x); w.k < own.to; w.next()) {
        const group<V> g = load<V>(x + w.at * V);
        for (int i = 0; i < V; ++i) sum += kept[w.k * V + i] = g.v[i];
    }
    const double m = (double)own.to * V;
    const real mean = (real)(block_sum(sum) / m);
    sum = 0;
    for (size_t k = threadIdx.x; k < own.to; k += BLOCK) {
        for (int i = 0; i < V; ++i) {
            const real distance = kept[k * V + i] - mean;
            sum += distance;
            square += (double)distance * distance;
        }
    }
    sum = block_sum(sum);
    square = block_sum(square);
    const moments found = moments_of(m, mean, sum, square);
    const affine to = affine_of(p, own.channel, found.mean, found.squares / m);
    if (threadIdx.x == 0) keep_statistics(p, own.channel, found);
    for (channel_walk w(s, own.channel, threadIdx.x); w.k < own.to; w.next()) {
        group<V> g;
        for (int i = 0; i < V; ++i) {
            g.v[i] = activate(normalized(kept[w.k * V + i], to.mean, to.scale, to.bias), a);
        }
        store(y + w.at * V, g);
    }
}
/* Without a plane: neighbours are of different channels. */
static __global__ void flat_forward_kernel(size_t n, const real *x, int filters, batchnorm_arrays p,
                                           ACTIVATION a, real *y)
{
    GRID_STRIDE(i, n) {
        const affine to = given_affine(p, i % filters);
        y[i] = activate(normalized(x[i], to.mean, to.scale, to.bias), a);
    }
}

void batchnorm_statistics_gpu(const real *x, int batch, int filters, int spatial, const batchnorm_arrays *p)
{
    const channel_shape s = {batch, filters, spatial};
    const channel_cut cut = cut_channels(s, at_16_bytes(x));
    const moments *found = find_moments(x, s, cut);
    if (found) LAUNCH(keep_statistics_kernel, filters, found, cut.parts, filters, *p);
}

static void forward_pass(const real *x, channel_shape s, const channel_cut &cut, const batchnorm_arrays *p,
                         const moments *found, ACTIVATION a, real *y)
{
    const size_t n = count_of(s);
    if (cut.flat) {
        LAUNCH(flat_forward_kernel, n, n, x, s.channels, *p, a, y);
        return;
    }
    launch("batchnorm_forward", cut.v == 4 ? forward_kernel<4> : forward_kernel<1>, cut.blocks, BLOCK, 0, x,
           in_groups(s, cut.v), cut.parts, *p, found, a, y);
}
void batchnorm_forward_gpu(const real *x, int batch, int filters, int spatial, const batchnorm_arrays *p,
                           ACTIVATION a, real *y)
{
    const channel_shape s = {batch, filters, spatial};
    forward_pass(x, s, cut_channels(s, at_16_bytes(x) && at_16_bytes(y)), p, NULL, a, y);
}
void batchnorm_forward_train_gpu(const real *x, int batch, int filters, int spatial,
                                 const batchnorm_arrays *p, ACTIVATION a, real *y)
{
    const channel_shape s = {batch, filters, spatial};
    const channel_cut cut = cut_channels(s, at_16_bytes(x) && at_16_bytes(y));
    const size_t m = (size_t)batch * spatial;
    if (!cut.flat && m <= RESIDENT) {
        launch("batchnorm_forward_train",
               cut.v == 4 ? resident_forward_kernel<4> : resident_forward_kernel<1>, (unsigned)filters, BLOCK,
               m * sizeof(real), x, in_groups(s, cut.v), *p, a, y);
        return;
    }
    const moments *found = find_moments(x, s, cut);
    if (!found) return;
    if (cut.flat) LAUNCH(keep_statistics_kernel, filters, found, cut.parts, filters, *p);
    forward_pass(x, s, cut, p, found, a, y);
}

/* ---- backward */

struct backward_pass {
    const real *x, *delta;
    channel_shape s; /* in groups */
    double m;        /* values of a channel */
    batchnorm_arrays p;
    ACTIVATION a;
    int frozen, add;
    real *dx;
};
/* delta at y -> delta at the normalized, scaled value */
static __device__ __forceinline__ real before_activation(real x, real delta, const affine &to, ACTIVATION a)
{
    return a == LINEAR ? delta : delta * slope(normalized(x, to.mean, to.scale, to.bias), a);
}
/* What becomes of a channel: dx (+)= delta_factor delta + x_factor (x - mean) + constant. */
struct delta_map {
    real delta_factor, x_factor, constant;
};
static __device__ __forceinline__ real mapped(real x, real delta, real mean, const delta_map &map)
{
    return map.delta_factor * delta + (map.x_factor * (x - mean) + map.constant);
}
/* From sum = the sum of delta and dot = the sum of delta (x - p.mean): csrc's finish_backward. keep: the
 * gradients of the channel's parameters and statistics are written. */
static __device__ __forceinline__ delta_map finish(const backward_pass &w, size_t f, double sum, double dot,
                                                   bool keep)
{
    const double inverse = bn_inverse_std(w.p.variance[f]), scale = w.p.scales[f];
    const double rest = w.p.mean_rest ? w.p.mean_rest[f] : 0, centered = dot - rest * sum;
    const double through = w.frozen ? 0 : scale * inverse;
    const double x_factor = -centered * through * inverse * inverse / w.m;
    if (keep) {
        w.p.bias_updates[f] += (real)sum;
        w.p.scale_updates[f] += (real)(centered * inverse);
        w.p.mean_delta[f] = (real)(-sum * through);
        w.p.variance_delta[f] = (real)(-.5 * centered * through * inverse * inverse);
    }
    return {(real)(scale * inverse), (real)x_factor, (real)(-sum * through / w.m - x_factor * rest)};
}
static __device__ __forceinline__ double2 merged(const double2 *part, int parts)
{
    double2 all = part[0];
    for (int i = 1; i < parts; ++i) all.x += part[i].x, all.y += part[i].y;
    return all;
}

/* First read: the sums of delta and delta (x - mean), one part of one channel to a block. */
template <int V> static __global__ void delta_sums_kernel(backward_pass w, int parts, double2 *found)
{
    const channel_part own = part_of_block(w.s, parts);
    const affine to = given_affine(w.p, own.channel);
    double sum = 0, dot = 0;
    for_groups<V>(w.s, own, [&](const size_t *at, int count) {
        group<V> x[LOADS], d[LOADS];
        real s = 0, q = 0;
        EACH(j, LOADS) {
            if (j < count) x[j] = load<V>(w.x + at[j]), d[j] = load<V>(w.delta + at[j]);
        }
        EACH(j, LOADS) {
            for (int i = 0; i < V && j < count; ++i) {
                const real delta = before_activation(x[j].v[i], d[j].v[i], to, w.a);
                s += delta;
                q += delta * (x[j].v[i] - to.mean);
            }
        }
        sum += s;
        dot += q;
    });
    sum = block_sum(sum);
    dot = block_sum(dot);
    if (threadIdx.x == 0) found[blockIdx.x] = make_double2(sum, dot);
}
/* Second read: dx. */
template <int V> static __global__ void delta_map_kernel(backward_pass w, int parts, const double2 *found)
{
    SHARED_ARRAY(delta_map, shared, 1);
    const channel_part own = part_of_block(w.s, parts);
    const size_t f = own.channel;
    const affine to = given_affine(w.p, f);
    if (threadIdx.x == 0) {
        const double2 sums = merged(found + f * parts, parts);
        shared[0] = finish(w, f, sums.x, sums.y, own.part == 0);
    }
    __syncthreads();
    const delta_map map = shared[0];
    for_groups<V>(w.s, own, [&](const size_t *at, int count) {
        group<V> x[LOADS], d[LOADS];
        EACH(j, LOADS) {
            if (j < count) x[j] = load<V>(w.x + at[j]), d[j] = load<V>(w.delta + at[j]);
        }
        EACH(j, LOADS) {
            if (j >= count) continue;
            for (int i = 0; i < V; ++i) {
                const real delta = before_activation(x[j].v[i], d[j].v[i], to, w.a);
                d[j].v[i] = mapped(x[j].v[i], delta, to.mean, map);
            }
            if (w.add) {
                const group<V> old = load<V>(w.dx + at[j]);
                for (int i = 0; i < V; ++i) d[j].v[i] += old.v[i];
            }
            store(w.dx + at[j], d[j]);
        }
    });
}
/* A whole channel to a block, x and delta in shared memory between one read and one write. */
template <int V> static __global__ void resident_backward_kernel(backward_pass w)
{
    DYNAMIC_SHARED(real, kept);
    const channel_part own = part_of_block(w.s, 1);
    const affine to = given_affine(w.p, own.channel);
    const size_t half = own.to * V; /* x, then delta */
    double sum = 0, dot = 0;
    for (channel_walk at(w.s, own.channel, threadIdx.x); at.k < own.to; at.next()) {
        const group<V> x = load<V>(w.x + at.at * V), d = load<V>(w.delta + at.at * V);
        for (int i = 0; i < V; ++i) {
            const real delta = before_activation(x.v[i], d.v[i], to, w.a);
            kept[at.k * V + i] = x.v[i];
            kept[half + at.k * V + i] = delta;
            sum += delta;
            dot += (double)delta * (x.v[i] - to.mean);
        }
    }
    sum = block_sum(sum);
    dot = block_sum(dot);
    const delta_map map = finish(w, own.channel, sum, dot, threadIdx.x == 0);
    for (channel_walk at(w.s, own.channel, threadIdx.x); at.k < own.to && w.dx; at.next()) {
        group<V> g;
        for (int i = 0; i < V; ++i) {
            const real value = mapped(kept[at.k * V + i], kept[half + at.k * V + i], to.mean, map);
            g.v[i] = w.add ? w.dx[at.at * V + i] + value : value;
        }
        store(w.dx + at.at * V, g);
    }
}

/* Without a plane. The factors follow from the gradients at mean and variance, as in normalize_delta_gpu. */
static __global__ void column_delta_sums_kernel(backward_pass w, int parts, double2 *found)
{
    SHARED_MATRIX(double, sums, WARPS, WARP);
    SHARED_MATRIX(double, dots, WARPS, WARP);
    const int lane = threadIdx.x % WARP, row = threadIdx.x / WARP, part = (int)(blockIdx.x % parts);
    const size_t f = (size_t)(blockIdx.x / parts) * WARP + lane, filters = w.s.channels;
    const size_t from = (size_t)w.s.batch * part / parts, to = (size_t)w.s.batch * (part + 1) / parts;
    double sum = 0, dot = 0;
    if (f < filters) {
        const affine map = given_affine(w.p, f);
        for (size_t at = (from + row) * filters + f; at < to * filters; at += WARPS * filters) {
            const real delta = before_activation(w.x[at], w.delta[at], map, w.a);
            sum += delta;
            dot += (double)delta * (w.x[at] - map.mean);
        }
    }
    sums[row][lane] = sum;
    dots[row][lane] = dot;
    __syncthreads();
    if (row > 0 || f >= filters) return;
    for (int i = 1; i < WARPS; ++i) sum += sums[i][lane], dot += dots[i][lane];
    found[f * parts + part] = make_double2(sum, dot);
}
static __global__ void finish_kernel(backward_pass w, int parts, const double2 *found)
{
    GRID_STRIDE(f, w.s.channels) {
        const double2 sums = merged(found + f * parts, parts);
        finish(w, f, sums.x, sums.y, true);
    }
}
static __global__ void flat_delta_map_kernel(size_t n, backward_pass w)
{
    GRID_STRIDE(i, n) {
        const size_t f = i % w.s.channels;
        const affine to = given_affine(w.p, f);
        const real x_factor = 2 * w.p.variance_delta[f] / (real)w.m,
                   rest = w.p.mean_rest ? w.p.mean_rest[f] : 0;
        const delta_map map = {to.scale, x_factor, w.p.mean_delta[f] / (real)w.m - x_factor * rest};
        put(w.dx + i, w.add, mapped(w.x[i], before_activation(w.x[i], w.delta[i], to, w.a), to.mean, map));
    }
}

void batchnorm_backward_gpu(const real *x, const real *, const real *delta, int batch, int filters,
                            int spatial, const batchnorm_arrays *p, ACTIVATION a, int frozen, int add,
                            real *dx)
{
    const channel_shape s = {batch, filters, spatial};
    const channel_cut cut = cut_channels(s, at_16_bytes(x) && at_16_bytes(delta) && at_16_bytes(dx));
    const size_t n = count_of(s), m = (size_t)batch * spatial;
    const backward_pass w = {x, delta, in_groups(s, cut.v), (double)m, *p, a, frozen, add, dx};
    const bool four = cut.v == 4;
    if (!cut.flat && 2 * m <= RESIDENT) {
        launch("batchnorm_backward", four ? resident_backward_kernel<4> : resident_backward_kernel<1>,
               (unsigned)filters, BLOCK, 2 * m * sizeof(real), w);
        return;
    }
    double2 *found = (double2 *)scratch(FOR_SUMS, (size_t)filters * cut.parts * sizeof(double2));
    if (!found) return;
    launch("batchnorm_backward: sums",
           cut.flat ? column_delta_sums_kernel
           : four   ? delta_sums_kernel<4>
                    : delta_sums_kernel<1>,
           cut.blocks, BLOCK, 0, w, cut.parts, found);
    if (cut.flat || !dx) LAUNCH(finish_kernel, filters, w, cut.parts, found);
    if (!dx) return;
    if (cut.flat)
        LAUNCH(flat_delta_map_kernel, n, n, w);
    else
        launch("batchnorm_backward", four ? delta_map_kernel<4> : delta_map_kernel<1>, cut.blocks, BLOCK, 0,
               w, cut.parts, found);
}

/* What inference does to x as y = scale x + shift. */
static __global__ void batchnorm_fold_kernel(size_t filters, const real *scales, const real *biases,
                                             const real *mean, const real *variance, real *scale, real *shift)
{
    GRID_STRIDE(f, filters) {
        scale[f] = scales[f] * bn_inverse_std(variance[f]);
        shift[f] = biases[f] - mean[f] * scale[f];
    }
}
void batchnorm_fold_gpu(const batchnorm_arrays *p, int filters, real *scale, real *shift)
{
    LAUNCH(batchnorm_fold_kernel, filters, filters, p->scales, p->biases, p->mean, p->variance, scale, shift);
}
