/* Tensor cores on a CPU: what tensor_cores.cuh uses of mma.h, cuda_fp16.h and cuda_bf16.h, for g++. Each thread of
 * a warp holds its share of a fragment, and all must take part in what is done with one. Reported beside what
 * emulator.h lists:
 *     threads of a warp that do another thing with a fragment, or with one at another place
 *     fragments in shared memory that are misaligned, or go beyond the end of their array
 *     TF32 numbers that nobody has rounded
 * A fragment that was never filled holds NaN. Sums are float32's, in the order of k; a tensor core's order and its
 * last bits are its own. */
#ifndef DN_EMULATOR_WMMA_H
#define DN_EMULATOR_WMMA_H
#include "emulator.h"

/* ---- numbers of 16 bits: conversions to the nearest, ties to even */

struct __half {
    uint16_t bits;
};
struct __nv_bfloat16 {
    uint16_t bits;
};
static inline uint32_t __float_as_uint(float x)
{
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}
static inline float __uint_as_float(uint32_t bits)
{
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}
static inline __half __float2half_rn(float x)
{
    const uint32_t sign = __float_as_uint(x) >> 16 & 0x8000, u = __float_as_uint(x) & 0x7FFFFFFF;
    if (u > 0x7F800000) return {0x7FFF};
    if (u >= 0x477FF000) return {(uint16_t)(sign | 0x7C00)}; /* 65520 and more */
    if (u < 0x38800000) /* below 2^-14 halves are multiples of 2^-24, which the addition rounds to */
        return {(uint16_t)(sign | (__float_as_uint(__uint_as_float(u) + .5f) - __float_as_uint(.5f)))};
    return {(uint16_t)(sign | (u + 0xFFF + (u >> 13 & 1) - (112u << 23)) >> 13)};
}
static inline float __half2float(__half h)
{
    const uint32_t sign = (uint32_t)(h.bits & 0x8000) << 16, u = h.bits & 0x7FFF;
    if (u >= 0x7C00) return __uint_as_float(sign | 0x7F800000 | u << 13);
    if (u >= 0x0400) return __uint_as_float(sign | ((u << 13) + (112u << 23)));
    return __uint_as_float(sign | __float_as_uint((float)u / (1 << 24)));
}
static inline __nv_bfloat16 __float2bfloat16_rn(float x)
{
    const uint32_t u = __float_as_uint(x);
    if ((u & 0x7FFFFFFF) > 0x7F800000) return {0x7FFF};
    return {(uint16_t)((u + 0x7FFF + (u >> 16 & 1)) >> 16)};
}
static inline float __bfloat162float(__nv_bfloat16 b) { return __uint_as_float((uint32_t)b.bits << 16); }

namespace nvcuda
{
namespace wmma
{
namespace precision
{
struct tf32 {
};
} // namespace precision
struct matrix_a {
};
struct matrix_b {
};
struct accumulator {
};
struct row_major {
};
struct col_major {
};
enum layout_t { mem_row_major };

/* To the nearest with 10 bits behind the first, ties away from zero, as cvt.rna.tf32 has it. */
static inline float __float_to_tf32(float x)
{
    const uint32_t u = __float_as_uint(x);
    return (u & 0x7F800000) == 0x7F800000 ? x : __uint_as_float((u + 0x1000) & ~(uint32_t)0x1FFF);
}

template <class T> struct number_of {
    typedef T type;
};
template <> struct number_of<precision::tf32> {
    typedef float type;
};
template <class Operand> float value_of(__half x) { return __half2float(x); }
template <class Operand> float value_of(__nv_bfloat16 x) { return __bfloat162float(x); }
template <class Operand> float value_of(float x)
{
    if (__float_as_uint(x) & 0x1FFF && x == x) emulator::fault("%.9g is no TF32 number", x);
    return x;
}

template <class Use, int M, int N, int K> struct shape_of;
template <int M, int N, int K> struct shape_of<matrix_a, M, N, K> {
    enum { ROWS = M, COLUMNS = K };
};
template <int M, int N, int K> struct shape_of<matrix_b, M, N, K> {
    enum { ROWS = K, COLUMNS = N };
};
template <int M, int N, int K> struct shape_of<accumulator, M, N, K> {
    enum { ROWS = M, COLUMNS = N };
};
/* Thread 0 has the first num_elements values of the matrix, counted along its rows, thread 1 the next. */
template <class Use, int M, int N, int K, class Operand, class Layout = void>
struct fragment : shape_of<Use, M, N, K> {
    enum { num_elements = fragment::ROWS * fragment::COLUMNS / 32 };
    float held[num_elements];
    fragment()
    {
        for (float &value : held) value = NAN;
    }
};

/* Where a thread's values of a fragment are in memory; complains of a place that none can be at. */
template <class Fragment, bool BY_ROWS, class Number> struct fragment_place {
    Number *first;
    unsigned ld;
    fragment_place(const char *what, Number *at, unsigned distance) : first(at), ld(distance)
    {
        enum { LINES = BY_ROWS ? Fragment::ROWS : Fragment::COLUMNS };
        enum { LENGTH = BY_ROWS ? Fragment::COLUMNS : Fragment::ROWS };
        emulator::agree(what, (uint64_t)(uintptr_t)at << 16 ^ ld);
        if ((uintptr_t)at % 32 || ld * sizeof(Number) % 16)
            emulator::fault("%s: place %p is no multiple of 32 bytes, or distance %u none of 16", what,
                            (const void *)at, ld);
        emulator::require_shared(what, at, ((LINES - 1) * (size_t)ld + LENGTH) * sizeof(Number));
    }
    Number &operator[](int e) const
    {
        const int i = emulator::lane() * Fragment::num_elements + e, row = i / Fragment::COLUMNS,
                  column = i % Fragment::COLUMNS;
        return first[BY_ROWS ? row * ld + column : column * ld + row];
    }
};
template <class A, class B> struct is_same {
    enum { value = 0 };
};
template <class A> struct is_same<A, A> {
    enum { value = 1 };
};

template <class Use, int M, int N, int K, class Operand, class Layout>
void fill_fragment(fragment<Use, M, N, K, Operand, Layout> &f, float value)
{
    for (float &held : f.held) held = value;
}
template <class Use, int M, int N, int K, class Operand, class Layout>
void load_matrix_sync(fragment<Use, M, N, K, Operand, Layout> &f,
                      const typename number_of<Operand>::type *from, unsigned ld)
{
    const fragment_place<fragment<Use, M, N, K, Operand, Layout>, is_same<Layout, row_major>::value,
                         const typename number_of<Operand>::type>
        place("load_matrix_sync", from, ld);
    for (int e = 0; e < f.num_elements; ++e) f.held[e] = value_of<Operand>(place[e]);
}
template <int M, int N, int K>
void store_matrix_sync(float *to, const fragment<accumulator, M, N, K, float> &f, unsigned ld, layout_t)
{
    const fragment_place<fragment<accumulator, M, N, K, float>, true, float> place("store_matrix_sync", to,
                                                                                   ld);
    for (int e = 0; e < f.num_elements; ++e) place[e] = f.held[e];
}
template <int M, int N, int K, class Operand, class OfA, class OfB>
void mma_sync(fragment<accumulator, M, N, K, float> &d, const fragment<matrix_a, M, N, K, Operand, OfA> &a,
              const fragment<matrix_b, M, N, K, Operand, OfB> &b,
              const fragment<accumulator, M, N, K, float> &c)
{
    static_assert(M == 16 && N == 16 && K == (is_same<Operand, precision::tf32>::value ? 8 : 16),
                  "tensor cores have no such product");
    float(&rows)[M][K] = *(float(*)[M][K])emulator::warp_room(0),
    (&columns)[K][N] = *(float(*)[K][N])emulator::warp_room(1);
    const int lane = emulator::lane();
    for (int e = 0; e < a.num_elements; ++e) (&rows[0][0])[lane * a.num_elements + e] = a.held[e];
    for (int e = 0; e < b.num_elements; ++e) (&columns[0][0])[lane * b.num_elements + e] = b.held[e];
    emulator::agree("mma_sync", 0);
    for (int e = 0; e < d.num_elements; ++e) {
        const int i = (lane * d.num_elements + e) / N, j = (lane * d.num_elements + e) % N;
        float sum = c.held[e];
        for (int k = 0; k < K; ++k) sum = fmaf(rows[i][k], columns[k][j], sum);
        d.held[e] = sum;
    }
    emulator::agree("mma_sync", 1); /* all have read before the next one writes */
}
} // namespace wmma
} // namespace nvcuda
#endif
