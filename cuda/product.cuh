/* Products of matrices, C(i, j) = sum over k of A(i, k) B(k, j), where A and B are whatever a problem says:
 * matrices in memory, or the windows of a convolution, which are never there as a matrix. A problem has
 *     m, n, k, count             the sizes, and how many products of them there are
 *     A_ALONG_K, B_ALONG_K       whether neighbours in memory differ in k (else in i, in j)
 *     row row_of(z, i)           what of product z is known from i alone; and
 *     real a(row, k)             the value
 *     column column_of(z, j), real b(column, k)
 *     void put(z, i, j, sum)     what becomes of a result
 * and three ways to be computed: tiles of C to blocks; an output to a thread, where there are few rows; an
 * output to a block, where sums are long as well. Long sums of few tiles are cut, and their parts added in
 * order. */
#ifndef DN_PRODUCT_CUH
#define DN_PRODUCT_CUH
#include "kernels.cuh"

/* n / d and n % d for n < 2^31 without a division: T. Granlund and P. L. Montgomery, 1994. */
struct divider {
    unsigned d, factor;
    int shift;
    divider() = default;
    divider(int by) : d((unsigned)by), shift(31)
    {
        while (1u << (shift - 31) < d) ++shift;
        factor = (unsigned)((((uint64_t)1 << shift) + d - 1) / d);
    }
    __device__ unsigned quotient(unsigned n) const { return (unsigned)((uint64_t)n * factor >> shift); }
};
struct divided {
    int quotient, rest;
};
static __device__ __forceinline__ divided divide(int n, const divider &by)
{
    const unsigned q = by.quotient((unsigned)n);
    return {(int)q, (int)((unsigned)n - q * by.d)};
}

/* ---- tiles: T x T outputs to a block, P x P of them to a thread. DEPTH values of k of both sides lie in
 * shared memory while the next are on their way. */
constexpr int TILE_VALUES = 4 * BLOCK, PAD = 4; /* each thread fetches four of a side */

/* Which line (i or j) and which k the e-th of a thread's four values has: consecutive threads go along
 * memory. */
template <int T, bool ALONG_K> struct tile_place {
    static constexpr int DEPTH = TILE_VALUES / T, LINES = ALONG_K ? 4 : 1;
    static __device__ __forceinline__ int line(int e)
    {
        return ALONG_K ? (int)threadIdx.x / DEPTH + e * (BLOCK / DEPTH) : (int)threadIdx.x % T;
    }
    static __device__ __forceinline__ int k(int e)
    {
        return ALONG_K ? (int)threadIdx.x % DEPTH : (int)threadIdx.x / T + e * (BLOCK / T);
    }
};
/* The j-th of a thread's P lines of a tile: in fours, so that 16 threads read a row of shared memory in
 * order. */
static __device__ __forceinline__ int own_line(int thread, int j) { return j / 4 * 64 + thread * 4 + j % 4; }

/* Which tile a block has: its first row and column, the product, the part of the sum and its k. */
struct tile_work {
    int top, left, part, z, from, to;
};
template <class Problem>
static __device__ __forceinline__ tile_work work_of(const Problem &p, int t, int depth, int down, int across,
                                                    int parts)
{
    const int part = (int)(blockIdx.x / down / across % parts), steps = (p.k + depth - 1) / depth;
    const int end = (int)((int64_t)steps * (part + 1) / parts) * depth;
    return {(int)(blockIdx.x % down) * t,
            (int)(blockIdx.x / down % across) * t,
            part,
            (int)(blockIdx.x / down / across / parts),
            (int)((int64_t)steps * part / parts) * depth,
            end < p.k ? end : p.k};
}
/* A sum has come out: it is the result, or a part of it. */
template <class Problem>
static __device__ __forceinline__ void hand_on(const Problem &p, const tile_work &w, int parts, real *sums,
                                               int row, int column, real sum)
{
    if (row >= p.m || column >= p.n) return;
    if (parts == 1)
        p.put(w.z, row, column, sum);
    else
        sums[(((size_t)w.part * p.count + w.z) * p.m + row) * p.n + column] = sum;
}
template <class Problem, int T>
static __device__ __forceinline__ void compute_tile(const Problem &p, int down, int across, int parts,
                                                    real *sums)
{
    typedef tile_place<T, Problem::A_ALONG_K> place_a;
    typedef tile_place<T, Problem::B_ALONG_K> place_b;
    constexpr int P = T / 16, DEPTH = place_a::DEPTH;
    /* Values of k that are unrolled; with more of them 128 registers are not enough. */
    [[maybe_unused]] constexpr int TOGETHER = P > 4 ? 1 : 4;
    SHARED_MATRIX(real, a, DEPTH, T + PAD);
    SHARED_MATRIX(real, b, DEPTH, T + PAD);
    const tile_work w = work_of(p, T, DEPTH, down, across, parts);
    const int ty = threadIdx.x / 16, tx = threadIdx.x % 16;
    typename Problem::row rows[place_a::LINES];
    typename Problem::column columns[place_b::LINES];
    real next_a[4], next_b[4], sum[P][P] = {{0}};
    EACH(e, place_a::LINES) rows[e] = p.row_of(w.z, w.top + place_a::line(e));
    EACH(e, place_b::LINES) columns[e] = p.column_of(w.z, w.left + place_b::line(e));
    const auto fetch = [&](int k0) {
        EACH(e, 4) {
            const int ka = k0 + place_a::k(e), kb = k0 + place_b::k(e);
            next_a[e] = ka < w.to ? p.a(rows[e % place_a::LINES], ka) : 0;
            next_b[e] = kb < w.to ? p.b(columns[e % place_b::LINES], kb) : 0;
        }
    };
    fetch(w.from);
    for (int k0 = w.from; k0 < w.to; k0 += DEPTH) {
        EACH(e, 4) {
            a[place_a::k(e)][place_a::line(e)] = next_a[e];
            b[place_b::k(e)][place_b::line(e)] = next_b[e];
        }
        __syncthreads();
        fetch(k0 + DEPTH);
#pragma unroll(TOGETHER)
        for (int k = 0; k < DEPTH; ++k) {
            real of_a[P], of_b[P];
            EACH(j, P) of_a[j] = a[k][own_line(ty, j)], of_b[j] = b[k][own_line(tx, j)];
            EACH(i, P) {
                EACH(j, P) sum[i][j] = fmaf(of_a[i], of_b[j], sum[i][j]);
            }
        }
        __syncthreads();
    }
    EACH(i, P) {
        EACH(j, P) {
            hand_on(p, w, parts, sums, w.top + own_line(ty, i), w.left + own_line(tx, j), sum[i][j]);
        }
    }
}
template <class Problem, int T>
static __global__ void __launch_bounds__(BLOCK, 2)
    tiles_kernel(Problem p, int down, int across, int parts, real *sums)
{
    compute_tile<Problem, T>(p, down, across, parts, sums);
}
template <class Problem>
static __global__ void add_parts_kernel(size_t values, Problem p, int parts, const real *sums)
{
    GRID_STRIDE(at, values) {
        real sum = 0;
        for (int i = 0; i < parts; ++i) sum += sums[i * values + at];
        p.put((int)(at / p.n / p.m), (int)(at / p.n % p.m), (int)(at % p.n), sum);
    }
}

/* ---- without tiles */

template <class Problem> static __global__ void threads_kernel(size_t values, Problem p)
{
    GRID_STRIDE(at, values) {
        const int z = (int)(at / p.n / p.m), i = (int)(at / p.n % p.m), j = (int)(at % p.n);
        const typename Problem::row row = p.row_of(z, i);
        const typename Problem::column column = p.column_of(z, j);
        real sum = 0;
        for (int k = 0; k < p.k; ++k) sum = fmaf(p.a(row, k), p.b(column, k), sum);
        p.put(z, i, j, sum);
    }
}
template <class Problem> static __global__ void blocks_kernel(Problem p)
{
    const size_t at = blockIdx.x;
    const int z = (int)(at / p.n / p.m), i = (int)(at / p.n % p.m), j = (int)(at % p.n);
    const typename Problem::row row = p.row_of(z, i);
    const typename Problem::column column = p.column_of(z, j);
    double sum = 0;
    for (int k = threadIdx.x; k < p.k; k += BLOCK) sum += (double)p.a(row, k) * p.b(column, k);
    sum = block_sum(sum);
    if (threadIdx.x == 0) p.put(z, i, j, (real)sum);
}

/* ---- the choice, by shape alone */

constexpr int LONG = 2048, LARGE = 128, SMALL = 64, LEAST_CUT = 256;
constexpr size_t ENOUGH_TILES = 256;
template <int T, class Problem, class... More>
static void compute_tiles(const char *name, const Problem &p,
                          void (*kernel)(Problem, int, int, int, real *, More...), More... more)
{
    const int down = (p.m + T - 1) / T, across = (p.n + T - 1) / T;
    const size_t tiles = (size_t)down * across * p.count, values = (size_t)p.m * p.n * p.count;
    const size_t wanted = ENOUGH_TILES / tiles, most = (size_t)p.k / LEAST_CUT;
    const int parts = (int)(wanted < 2 || most < 2 ? 1 : wanted < most ? wanted : most);
    real *sums = NULL;
    if (parts > 1) {
        sums = (real *)scratch(FOR_SUMS, values * parts * sizeof(real));
        if (!sums) return;
    }
    launch(name, kernel, (unsigned)(tiles * parts), BLOCK, 0, p, down, across, parts, sums, more...);
    if (parts > 1)
        launch(name, add_parts_kernel<Problem>, blocks_of(values), BLOCK, 0, values, p, parts, sums);
}
template <class Problem> static bool takes_large_tiles(const Problem &p)
{
    const size_t large = (size_t)((p.m + LARGE - 1) / LARGE) * ((p.n + LARGE - 1) / LARGE) * p.count;
    return p.m > SMALL && large >= ENOUGH_TILES;
}
template <class Problem> static void compute_product(const char *name, const Problem &p)
{
    const size_t values = (size_t)p.m * p.n * p.count;
    if (values == 0) return;
    if (p.m < FEW_ROWS && p.k >= LONG)
        launch(name, blocks_kernel<Problem>, (unsigned)values, BLOCK, 0, p);
    else if (p.m < FEW_ROWS)
        launch(name, threads_kernel<Problem>, blocks_of(values), BLOCK, 0, values, p);
    else if (takes_large_tiles(p))
        compute_tiles<LARGE>(name, p, tiles_kernel<Problem, LARGE>);
    else
        compute_tiles<SMALL>(name, p, tiles_kernel<Problem, SMALL>);
}
#endif
