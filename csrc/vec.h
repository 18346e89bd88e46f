/* Vectors of VEC_BYTES bytes with GNU C's vector extension: SSE2, AVX2, AVX-512 or NEON by the target of the
 * file that includes this one. Arithmetic is written as on numbers (a scalar operand is broadcast); memory
 * need not be aligned. */
#ifndef DN_VEC_H
#define DN_VEC_H
#include "darknet.h"
#include <string.h>
#if VEC_BYTES == 64
#include <immintrin.h>
#endif

#ifndef VEC_BYTES
#define VEC_BYTES 16
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
#elif VEC_BYTES == 16
#define INTERLEAVE_LOW(a, b) SHUFFLE(a, b, 0, 4, 1, 5)
#define INTERLEAVE_HIGH(a, b) SHUFFLE(a, b, 2, 6, 3, 7)
#define EVEN_LANES(a, b) SHUFFLE(a, b, 0, 2, 4, 6)
#elif VEC_BYTES == 32
#define INTERLEAVE_LOW(a, b) SHUFFLE(a, b, 0, 8, 1, 9, 2, 10, 3, 11)
#define INTERLEAVE_HIGH(a, b) SHUFFLE(a, b, 4, 12, 5, 13, 6, 14, 7, 15)
#define EVEN_LANES(a, b) SHUFFLE(a, b, 0, 2, 4, 6, 8, 10, 12, 14)
#else
#define INTERLEAVE_LOW(a, b) SHUFFLE(a, b, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23)
#define INTERLEAVE_HIGH(a, b) SHUFFLE(a, b, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31)
#define EVEN_LANES(a, b) SHUFFLE(a, b, 0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30)
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

/* The first n lanes, of 0 to LANES; the others are zero, or stay as they are in memory. */
INLINE vec load_some(const real *p, int n)
{
#if VEC_BYTES == 64
    return (vec)_mm512_maskz_loadu_ps((__mmask16)((1u << n) - 1), p);
#else
    real line[LANES] = {0};
    if (n == LANES) return load(p);
    for (int i = 0; i < n; ++i) line[i] = p[i];
    return load(line);
#endif
}
INLINE void store_some(real *p, vec v, int n)
{
#if VEC_BYTES == 64
    _mm512_mask_storeu_ps(p, (__mmask16)((1u << n) - 1), (__m512)v);
#else
    real line[LANES];
    if (n == LANES) {
        store(p, v);
        return;
    }
    store(line, v);
    for (int i = 0; i < n; ++i) p[i] = line[i];
#endif
}
static inline int lanes_of(int n) { return n < 0 ? 0 : n < LANES ? n : LANES; }

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
