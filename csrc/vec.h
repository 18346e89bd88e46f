/* Vectors of VEC_BYTES bytes with GNU C's vector extension: SSE2, AVX2, AVX-512 or NEON by the target of the
 * file that includes this one. Arithmetic is written as on numbers (a scalar operand is broadcast); memory
 * need not be aligned. */
#ifndef DN_VEC_H
#define DN_VEC_H
#include "darknet.h"
#include <string.h>

#ifndef VEC_BYTES
#define VEC_BYTES 16
#endif
#if VEC_BYTES > 16
#include <immintrin.h>
#endif
#define INLINE static inline __attribute__((always_inline))
/* n is a constant after inlining: the loop is unrolled, so that arrays of vectors become registers. */
#define EACH(i, n) _Pragma("GCC unroll 64") for (int i = 0; i < (n); ++i)

enum { LANES = VEC_BYTES / sizeof(real) };
typedef real vec __attribute__((vector_size(VEC_BYTES)));
typedef real vec_any __attribute__((vector_size(VEC_BYTES), aligned(sizeof(real)), may_alias));
#ifdef DARKNET_DOUBLE
typedef int64_t vec_bits __attribute__((vector_size(VEC_BYTES)));
#else
typedef int32_t vec_bits __attribute__((vector_size(VEC_BYTES)));
#endif

INLINE vec load(const real *p) { return *(const vec_any *)p; }
INLINE void store(real *p, vec v) { *(vec_any *)p = v; }

/* Of each lane, a where x > 0, else b. */
INLINE vec where_positive(vec x, vec a, vec b)
{
    const vec_bits positive = x > 0;
    return (vec)((positive & (vec_bits)a) | (~positive & (vec_bits)b));
}
/* NaN is larger than everything. */
INLINE vec larger(vec a, vec b)
{
#if VEC_BYTES == 64
    const __m512 most = _mm512_max_ps((__m512)a, (__m512)b); /* b where one is NaN */
    return (vec)_mm512_mask_mov_ps(most, _mm512_cmp_ps_mask((__m512)a, (__m512)a, _CMP_UNORD_Q), (__m512)a);
#else
    const vec_bits first = (a > b) | (a != a);
    return (vec)((first & (vec_bits)a) | (~first & (vec_bits)b));
#endif
}

/* a0 b0 a1 b1 ... of the first and of the second halves, and a0 a2 a4 ... b0 b2 ...: every other lane of two
 * vectors. */
#ifdef __clang__
#define SHUFFLE(a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#else
#define SHUFFLE(a, b, ...) __builtin_shuffle(a, b, (vec_bits){__VA_ARGS__})
#endif
#if VEC_BYTES == 16 && defined(DARKNET_DOUBLE)
#define INTERLEAVE_LOW(a, b) SHUFFLE(a, b, 0, 2)
#define INTERLEAVE_HIGH(a, b) SHUFFLE(a, b, 1, 3)
#define EVEN_LANES(a, b) SHUFFLE(a, b, 0, 2)
#define ODD_LANES(a, b) SHUFFLE(a, b, 1, 3)
#elif VEC_BYTES == 16
#define INTERLEAVE_LOW(a, b) SHUFFLE(a, b, 0, 4, 1, 5)
#define INTERLEAVE_HIGH(a, b) SHUFFLE(a, b, 2, 6, 3, 7)
#define EVEN_LANES(a, b) SHUFFLE(a, b, 0, 2, 4, 6)
#define ODD_LANES(a, b) SHUFFLE(a, b, 1, 3, 5, 7)
#elif VEC_BYTES == 32
#define INTERLEAVE_LOW(a, b) SHUFFLE(a, b, 0, 8, 1, 9, 2, 10, 3, 11)
#define INTERLEAVE_HIGH(a, b) SHUFFLE(a, b, 4, 12, 5, 13, 6, 14, 7, 15)
#define EVEN_LANES(a, b) SHUFFLE(a, b, 0, 2, 4, 6, 8, 10, 12, 14)
#define ODD_LANES(a, b) SHUFFLE(a, b, 1, 3, 5, 7, 9, 11, 13, 15)
#else
#define INTERLEAVE_LOW(a, b) SHUFFLE(a, b, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23)
#define INTERLEAVE_HIGH(a, b) SHUFFLE(a, b, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31)
#define EVEN_LANES(a, b) SHUFFLE(a, b, 0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30)
#define ODD_LANES(a, b) SHUFFLE(a, b, 1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31)
#endif

/* Rows become columns. Interleaving the upper half with the lower log2(LANES) times is the transposition. */
INLINE void transpose(vec r[LANES])
{
    EACH(stage, LANES) {
        vec t[LANES];
        if (1 << stage >= LANES) break;
        EACH(i, LANES / 2) {
            t[2 * i] = INTERLEAVE_LOW(r[i], r[i + LANES / 2]);
            t[2 * i + 1] = INTERLEAVE_HIGH(r[i], r[i + LANES / 2]);
        }
        EACH(i, LANES) r[i] = t[i];
    }
}

/* Lane i is the sum of all lanes of r[i]: the transposition, with additions on the way. */
INLINE vec totals(vec r[LANES])
{
    EACH(stage, LANES) {
        const int n = LANES >> (stage + 1);
        EACH(i, n) r[i] = INTERLEAVE_LOW(r[i], r[i + n]) + INTERLEAVE_HIGH(r[i], r[i + n]);
    }
    return r[0];
}

/* The last n lanes of a and then those of b; n is a constant, 0 to 4 or LANES - 1. */
INLINE vec shift_in(vec a, vec b, int n)
{
#if VEC_BYTES == 64
    switch (n) {   /* its last argument must be a literal */
    case 0: return b;
    case 1: return (vec)_mm512_alignr_epi32((__m512i)b, (__m512i)a, 15);
    case 2: return (vec)_mm512_alignr_epi32((__m512i)b, (__m512i)a, 14);
    case 3: return (vec)_mm512_alignr_epi32((__m512i)b, (__m512i)a, 13);
    case 4: return (vec)_mm512_alignr_epi32((__m512i)b, (__m512i)a, 12);
    default: return (vec)_mm512_alignr_epi32((__m512i)b, (__m512i)a, 1);
    }
#elif defined(__clang__)
    vec v;
    EACH(i, LANES) v[i] = i < n ? a[LANES - n + i] : b[i - n];
    return v;
#else
    vec_bits from;
    EACH(i, LANES) from[i] = LANES - n + i;
    return __builtin_shuffle(a, b, from);
#endif
}

/* The even and the odd lanes of v, half a vector each. */
INLINE void store_parted(real *even, real *odd, vec v)
{
#if VEC_BYTES == 64
    const __m512i from = _mm512_set_epi32(15, 13, 11, 9, 7, 5, 3, 1, 14, 12, 10, 8, 6, 4, 2, 0);
    const __m512 parted = _mm512_permutexvar_ps(from, (__m512)v);
    _mm256_storeu_ps(even, _mm512_castps512_ps256(parted));
    _mm256_storeu_ps(odd, _mm512_extractf32x8_ps(parted, 1));
#else
    real line[LANES];
    store(line, v);
    for (int i = 0; i < LANES / 2; ++i) {
        even[i] = line[2 * i];
        odd[i] = line[2 * i + 1];
    }
#endif
}

INLINE void set_zero(real *to, int n)
{
    int i = 0;
    for (; i + LANES <= n; i += LANES) store(to + i, (vec){0});
#if VEC_BYTES == 64
    _mm512_mask_storeu_ps(to + i, (__mmask16)((1u << (n - i)) - 1), _mm512_setzero_ps());
#else
    for (; i < n; ++i) to[i] = 0;
#endif
}

/* to[i] = from[i]. Rows are often shorter than a call of memcpy is worth. */
INLINE void copy(real *to, const real *from, int n)
{
    int i = 0;
    for (; i + LANES <= n; i += LANES) store(to + i, load(from + i));
#if VEC_BYTES == 64
    const __mmask16 rest = (__mmask16)((1u << (n - i)) - 1);
    _mm512_mask_storeu_ps(to + i, rest, _mm512_maskz_loadu_ps(rest, from + i));
#else
    for (; i < n; ++i) to[i] = from[i];
#endif
}

static inline int lanes_of(int n) { return n < 0 ? 0 : n < LANES ? n : LANES; }

/* A set of lanes, a bit for each. Memory is read and written in these alone; the others read as zeros. */
typedef uint16_t lane_set;
enum { ALL_LANES = (1 << LANES) - 1 };

/* Lanes i with 0 <= from + i < n. */
INLINE lane_set lanes_within(int from, int n)
{
    const unsigned below = (1u << lanes_of(n - from)) - 1, before = (1u << lanes_of(-from)) - 1;
    return (lane_set)(below & ~before);
}
#if VEC_BYTES < 64
/* All bits of the lanes. */
INLINE vec_bits lane_mask(lane_set s)
{
    vec_bits bit;
    EACH(i, LANES) bit[i] = 1 << i;
    return (bit & s) == bit;
}
#endif
/* a + b in the lanes, else a. */
INLINE vec add_lanes(vec a, vec b, lane_set s)
{
#if VEC_BYTES == 64
    return (vec)_mm512_mask_add_ps((__m512)a, s, (__m512)a, (__m512)b);
#else
    return a + (vec)((vec_bits)b & lane_mask(s));
#endif
}
INLINE vec load_lanes(const real *p, lane_set s)
{
#if VEC_BYTES == 64
    return (vec)_mm512_maskz_loadu_ps(s, p);
#elif VEC_BYTES == 32
    return (vec)_mm256_maskload_ps(p, (__m256i)lane_mask(s));
#else
    real line[LANES] = {0};
    if (s == ALL_LANES) return load(p);
    for (int i = 0; i < LANES; ++i)
        if (s >> i & 1) line[i] = p[i];
    return load(line);
#endif
}
INLINE void store_lanes(real *p, vec v, lane_set s)
{
#if VEC_BYTES == 64
    _mm512_mask_storeu_ps(p, s, (__m512)v);
#elif VEC_BYTES == 32
    _mm256_maskstore_ps(p, (__m256i)lane_mask(s), (__m256)v);
#else
    real line[LANES];
    store(line, v);
    if (s == ALL_LANES) store(p, v);
    else for (int i = 0; i < LANES; ++i)
        if (s >> i & 1) p[i] = line[i];
#endif
}

/* The first n lanes, of 0 to LANES. */
INLINE vec load_some(const real *p, int n) { return load_lanes(p, (lane_set)((1u << n) - 1)); }
INLINE void store_some(real *p, vec v, int n) { store_lanes(p, v, (lane_set)((1u << n) - 1)); }

/* to[i] = from[i * stride]; nothing behind the last is read. */
INLINE void copy_strided(real *to, const real *from, int n, int stride)
{
    if (stride == 1) {
        copy(to, from, n);
    } else if (stride == 2) {
        for (; n > LANES; n -= LANES, to += LANES, from += 2 * LANES)
            store(to, EVEN_LANES(load(from), load(from + LANES)));
        const vec low = load_some(from, lanes_of(2 * n - 1)),
                  high = load_some(from + LANES, lanes_of(2 * n - 1 - LANES));
        store_some(to, EVEN_LANES(low, high), lanes_of(n));
    } else {
        for (int i = 0; i < n; ++i) to[i] = from[(ptrdiff_t)i * stride];
    }
}
/* to[i * stride] = from[i]; nothing else is written. */
INLINE void spread(real *to, const real *from, int n, int stride)
{
    int i = 0;
    if (stride == 1) {
        copy(to, from, n);
        return;
    }
#if VEC_BYTES == 64
    for (; stride == 2 && i + LANES <= n; i += LANES) {
        const vec v = load(from + i);
        _mm512_mask_storeu_ps(to + 2 * i, 0x5555, (__m512)INTERLEAVE_LOW(v, v));
        _mm512_mask_storeu_ps(to + 2 * i + LANES, 0x5555, (__m512)INTERLEAVE_HIGH(v, v));
    }
#endif
    for (; i < n; ++i) to[(ptrdiff_t)i * stride] = from[i];
}
#endif
