/* The products of product.cuh with operands of fewer bits, which tensor cores multiply: [net] precision=. Arrays
 * stay as they are. An operand is rounded when it comes to shared memory, sums are float32's.
 *
 * Half precision has few exponents. There each operand is multiplied, before it is rounded, by the power of two
 * that takes its largest finite value to 2^14 .. 2^15, and the sum is divided by both: nothing becomes infinite,
 * and what is within 2^-28 of the largest keeps all 11 bits, gradients of 1e-9 as well as activations of 1e9.
 * The largest are found by one more kernel; the host is not asked.
 *
 * Before sm_80 there are halves only: there the operands of the other two are rounded too, and multiplied as float32. */
#ifndef DN_TENSOR_CORES_CUH
#define DN_TENSOR_CORES_CUH
#include "product.cuh"
#include <float.h>
#ifdef __CUDACC__
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <mma.h>
#else
#include "emulator_wmma.h"
#endif
namespace wmma = nvcuda::wmma;
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ < 800
constexpr bool ALL_HERE = false;
struct tf32;
static __device__ __forceinline__ real
to_tf32(real x) /* to the nearest, ties away from zero, as cvt.rna.tf32 */
{
    return isfinite(x) ? __uint_as_float((__float_as_uint(x) + 0x1000) & ~0x1FFFu) : x;
}
#else
constexpr bool ALL_HERE = true;
typedef wmma::precision::tf32 tf32;
static __device__ __forceinline__ real to_tf32(real x) { return wmma::__float_to_tf32(x); }
#endif

/* number: what stands in shared memory; operand: what fragments are made of; K: the depth of one multiplication;
 * HERE: whether tensor cores of this architecture have it. */
template <dn_precision> struct rounding;
template <> struct rounding<DN_TF32> {
    typedef float number;
    typedef tf32 operand;
    static constexpr int K = 8;
    static constexpr bool SCALED = false, HERE = ALL_HERE;
    static __device__ __forceinline__ number rounded(real x) { return to_tf32(x); }
    static __device__ __forceinline__ real value(number x) { return x; }
};
template <> struct rounding<DN_FP16> {
    typedef __half number, operand;
    static constexpr int K = 16;
    static constexpr bool SCALED = true, HERE = true;
    static __device__ __forceinline__ number rounded(real x) { return __float2half_rn(x); }
};
template <> struct rounding<DN_BF16> {
    typedef __nv_bfloat16 number, operand;
    static constexpr int K = 16;
    static constexpr bool SCALED = false, HERE = ALL_HERE;
    static __device__ __forceinline__ number rounded(real x) { return __float2bfloat16_rn(x); }
    static __device__ __forceinline__ real value(number x) { return __bfloat162float(x); }
};

/* ---- scales */

/* The values of an operand. */
struct span {
    const real *values;
    size_t rows, columns, ld;
};
constexpr int HALF_TOP = 14, MOST_SCALE = 126;

/* Blocks 0 .. parts - 1 each leave the largest finite magnitude of a part of A, the others of B. */
static __global__ void largest_kernel(span a, span b, int parts, real *largest)
{
    const span s = (int)blockIdx.x < parts ? a : b;
    const size_t n = s.rows * s.columns, step = (size_t)parts * BLOCK;
    real most = 0;
#pragma unroll 4
    for (size_t i = blockIdx.x % parts * (size_t)BLOCK + threadIdx.x; i < n; i += step) {
        const real x =
            fabsf(s.values[s.rows == 1 || s.columns == s.ld ? i : i / s.columns * s.ld + i % s.columns]);
        if (x <= FLT_MAX) most = fmaxf(most, x);
    }
    most = block_largest(most);
    if (threadIdx.x == 0) largest[blockIdx.x] = most;
}
/* An operand's scale, for all threads of a block. */
static __device__ __forceinline__ real scale_of(const real *largest, int parts)
{
    const real most = block_largest((int)threadIdx.x < parts ? largest[threadIdx.x] : 0);
    if (most == 0) return 1;
    const int exponent = HALF_TOP - ilogbf(most);
    return ldexpf(1, exponent < MOST_SCALE ? exponent : MOST_SCALE);
}

/* ---- tiles: T x T outputs to a block, a part of T / 2 x T / 4 of them to a warp */

constexpr int SIDE = 16; /* of a fragment */

/* Where the numbers of a tile's side stand: beside each other as in device memory, with 16 bytes or 8 numbers
 * between rows, so that fragments are read without bank conflicts; and which line and k the e-th of a thread's
 * values has. */
template <class Number, int T, bool ALONG_K> struct rounded_side {
    static constexpr int DEPTH = 32 / (int)sizeof(Number); /* values of k in shared memory */
    static constexpr int ROWS = ALONG_K ? T : DEPTH;
    static constexpr int STRIDE = ALONG_K ? DEPTH + 16 / (int)sizeof(Number) : T + 8;
    static constexpr int VALUES = T * DEPTH / BLOCK;
    static constexpr int TOGETHER = 4, LINES = ALONG_K ? VALUES * TOGETHER / DEPTH : 1;
    static __device__ __forceinline__ int line(int e)
    {
        return ALONG_K ? (int)threadIdx.x / TOGETHER + e % LINES * (BLOCK / TOGETHER) : (int)threadIdx.x % T;
    }
    static __device__ __forceinline__ int k(int e)
    {
        return ALONG_K ? (int)threadIdx.x % TOGETHER + e / LINES * TOGETHER
                       : (int)threadIdx.x / T + e * (BLOCK / T);
    }
    static __device__ __forceinline__ int row(int line, int k) { return ALONG_K ? line : k; }
    static __device__ __forceinline__ int column(int line, int k) { return ALONG_K ? k : line; }
};

template <bool ALONG_K> struct layout {
    typedef wmma::row_major of_a;
    typedef wmma::col_major of_b;
};
template <> struct layout<false> {
    typedef wmma::col_major of_a;
    typedef wmma::row_major of_b;
};
template <class Problem, int T, dn_precision PRECISION>
static __device__ __forceinline__ void compute_rounded_tile(const Problem &p, int down, int across, int parts,
                                                            real *sums, real scale_a, real scale_b)
{
    typedef rounding<PRECISION> by;
    typedef typename by::number number;
    typedef rounded_side<number, T, Problem::A_ALONG_K> side_a;
    typedef rounded_side<number, T, Problem::B_ALONG_K> side_b;
    constexpr int DEPTH = side_a::DEPTH, DOWN = T / 2 / SIDE, ACROSS = T / 4 / SIDE, VALUES = side_a::VALUES,
                  GAP = 4;
    SHARED_MATRIX(number, a, side_a::ROWS, side_a::STRIDE);
    SHARED_MATRIX(number, b, side_b::ROWS, side_b::STRIDE);
    SHARED_MATRIX(real, results, WARPS * SIDE, SIDE + GAP); /* of a fragment for each warp */
    SHARED_ARRAY(real, scales, 2);                          /* where they take no registers */
    if (by::SCALED && threadIdx.x == 0) scales[0] = scale_a, scales[1] = scale_b;
    if (by::SCALED) __syncthreads();
    const tile_work w = work_of(p, T, DEPTH, down, across, parts);
    const int warp = threadIdx.x / WARP, lane = threadIdx.x % WARP;
    const int top = warp / 4 * (T / 2), left = warp % 4 * (T / 4); /* of the warp's part */
    typename Problem::row rows[side_a::LINES];
    typename Problem::column columns[side_b::LINES];
    real next_a[VALUES], next_b[VALUES];
    EACH(e, side_a::LINES) rows[e] = p.row_of(w.z, w.top + side_a::line(e));
    EACH(e, side_b::LINES) columns[e] = p.column_of(w.z, w.left + side_b::line(e));
    const auto fetch = [&](int k0) {
        EACH(e, VALUES) {
            const int k = k0 + side_a::k(e);
            next_a[e] = k < w.to ? p.a(rows[e % side_a::LINES], k) : 0;
        }
        EACH(e, VALUES) {
            const int k = k0 + side_b::k(e);
            next_b[e] = k < w.to ? p.b(columns[e % side_b::LINES], k) : 0;
        }
    };
    wmma::fragment<wmma::accumulator, SIDE, SIDE, by::K, float> sum[DOWN][ACROSS];
    EACH(i, DOWN) {
        EACH(j, ACROSS) wmma::fill_fragment(sum[i][j], 0.0f);
    }
    fetch(w.from);
    for (int k0 = w.from; k0 < w.to; k0 += DEPTH) {
        EACH(e, VALUES) {
            const int la = side_a::line(e), ka = side_a::k(e), lb = side_b::line(e), kb = side_b::k(e);
            a[side_a::row(la, ka)][side_a::column(la, ka)] =
                by::rounded(by::SCALED ? next_a[e] * scales[0] : next_a[e]);
            b[side_b::row(lb, kb)][side_b::column(lb, kb)] =
                by::rounded(by::SCALED ? next_b[e] * scales[1] : next_b[e]);
        }
        __syncthreads();
        fetch(k0 + DEPTH);
        EACH(step, DEPTH / by::K) {
            const int k = step * by::K;
            wmma::fragment<wmma::matrix_b, SIDE, SIDE, by::K, typename by::operand,
                           typename layout<Problem::B_ALONG_K>::of_b>
                of_b[ACROSS];
            EACH(j, ACROSS) {
                const int line = left + j * SIDE;
                wmma::load_matrix_sync(of_b[j], &b[side_b::row(line, k)][side_b::column(line, k)],
                                       side_b::STRIDE);
            }
            EACH(i, DOWN) {
                const int line = top + i * SIDE;
                wmma::fragment<wmma::matrix_a, SIDE, SIDE, by::K, typename by::operand,
                               typename layout<Problem::A_ALONG_K>::of_a>
                    of_a;
                wmma::load_matrix_sync(of_a, &a[side_a::row(line, k)][side_a::column(line, k)],
                                       side_a::STRIDE);
                EACH(j, ACROSS) wmma::mma_sync(sum[i][j], of_a, of_b[j], sum[i][j]);
            }
        }
        __syncthreads();
    }
    const int back = by::SCALED ? -ilogbf(scales[0]) - ilogbf(scales[1]) : 0;
    EACH(i, DOWN) {
        EACH(j, ACROSS) {
            /* Which thread has which values of a fragment is the hardware's own affair. */
            wmma::store_matrix_sync(&results[warp * SIDE][0], sum[i][j], SIDE + GAP, wmma::mem_row_major);
            __syncwarp();
            EACH(e, SIDE * SIDE / WARP) {
                const int row = e * (WARP / SIDE) + lane / SIDE, column = lane % SIDE;
                const real found = results[warp * SIDE + row][column];
                hand_on(p, w, parts, sums, w.top + top + i * SIDE + row, w.left + left + j * SIDE + column,
                        by::SCALED ? ldexpf(found, back) : found);
            }
            __syncwarp(); /* all have read before the next fragment overwrites it */
        }
    }
}
/* Without tensor cores: a problem with rounded operands. */
template <class Problem, dn_precision PRECISION> struct rounded_problem : Problem {
    typedef rounding<PRECISION> by;
    __device__ real a(const typename Problem::row &r, int k) const
    {
        return by::value(by::rounded(Problem::a(r, k)));
    }
    __device__ real b(const typename Problem::column &c, int k) const
    {
        return by::value(by::rounded(Problem::b(c, k)));
    }
};
template <class Problem, int T, dn_precision PRECISION>
static __global__ void __launch_bounds__(BLOCK, 2)
    rounded_tiles_kernel(Problem p, int down, int across, int parts, real *sums, const real *largest,
                         int largest_parts)
{
    if constexpr (rounding<PRECISION>::HERE) {
        real scale_a = 1, scale_b = 1;
        if constexpr (rounding<PRECISION>::SCALED) {
            scale_a = scale_of(largest, largest_parts);
            scale_b = scale_of(largest + largest_parts, largest_parts);
        }
        compute_rounded_tile<Problem, T, PRECISION>(p, down, across, parts, sums, scale_a, scale_b);
    } else {
        compute_tile<rounded_problem<Problem, PRECISION>, T>({p}, down, across, parts, sums);
    }
}

/* ---- the choice. A problem also says where its operands are: span span_a(), span_b(). */

template <dn_precision PRECISION, class Problem>
static void compute_rounded_tiles(const char *name, const Problem &p)
{
    real *largest = NULL;
    int parts = 0;
    if (rounding<PRECISION>::SCALED) {
        const span a = p.span_a(), b = p.span_b();
        const unsigned wanted = blocks_of(a.rows * a.columns + b.rows * b.columns);
        parts = wanted < 1 ? 1 : wanted < BLOCK ? (int)wanted : BLOCK;
        largest = (real *)scratch(FOR_SCALES, 2 * parts * sizeof(real));
        if (!largest) return;
        launch(name, largest_kernel, 2 * parts, BLOCK, 0, a, b, parts, largest);
    }
    if (takes_large_tiles(p))
        compute_tiles<LARGE>(name, p, rounded_tiles_kernel<Problem, LARGE, PRECISION>, (const real *)largest,
                             parts);
    else
        compute_tiles<SMALL>(name, p, rounded_tiles_kernel<Problem, SMALL, PRECISION>, (const real *)largest,
                             parts);
}
/* What is too small for tiles is float32's, whatever the precision. */
template <class Problem> static void compute_in_precision(const char *name, const Problem &p)
{
    const dn_precision precision = (size_t)p.n * p.count == 0 ? DN_FP32 : precision_of(p.m);
    if (precision == DN_TF32)
        compute_rounded_tiles<DN_TF32>(name, p);
    else if (precision == DN_FP16)
        compute_rounded_tiles<DN_FP16>(name, p);
    else if (precision == DN_BF16)
        compute_rounded_tiles<DN_BF16>(name, p);
    else
        compute_product(name, p);
}
#endif
