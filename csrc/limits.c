/* What the machine can do at most: reads, writes and copies of memory that bypass the caches where the
 * processor lets them, arithmetic in registers, a word's way between two cores. `darknetpy bench` measures
 * others against it; no layer calls it. */
#include "engine.h"
#include "parallel.h"
#include <assert.h>
#include <math.h>
#include <omp.h>
#include <string.h>
#if defined(__SSE2__)
#include <emmintrin.h>
#endif

#if defined(__SSE2__)
/* y = x, or zeros without x, past the caches: a plain store would first read the line that it overwrites. */
static void stream_write(const char *x, char *y, size_t bytes)
{
    __m128i v[4] = {_mm_setzero_si128(), _mm_setzero_si128(), _mm_setzero_si128(), _mm_setzero_si128()};
    for (size_t i = 0; i < bytes; i += 64) {
        for (int j = 0; x && j < 4; ++j) v[j] = _mm_loadu_si128((const __m128i *)(x + i + 16 * j));
        for (int j = 0; j < 4; ++j) _mm_stream_si128((__m128i *)(y + i + 16 * j), v[j]);
    }
    _mm_sfence();
}
#else
static void stream_write(const char *x, char *y, size_t bytes)
{
    if (x) memcpy(y, x, bytes);
    else memset(y, 0, bytes);
}
#endif

/* The words' exclusive or, which needs every byte and next to no arithmetic. */
MULTIVERSION static uint64_t stream_read(const char *x, size_t bytes)
{
    uint64_t lanes[32] = {0}, all = 0;
    for (size_t i = 0; i + sizeof lanes <= bytes; i += sizeof lanes) {
        uint64_t words[32];
        memcpy(words, x + i, sizeof words);
        for (int j = 0; j < 32; ++j) lanes[j] ^= words[j];
    }
    for (int j = 0; j < 32; ++j) all ^= lanes[j];
    return all;
}

uint64_t dn_stream(const void *x, void *y, size_t bytes)
{
    assert((x || y) && (uintptr_t)y % 16 == 0 && bytes % DN_STREAM_PART == 0);
    const int parts = (int)(bytes / DN_STREAM_PART);
    uint64_t seen = 0;
    DN_PRAGMA(omp parallel for num_threads(dn_num_threads()) schedule(static) reduction(^ : seen))
    for (int p = 0; p < parts; ++p) {
        const size_t at = (size_t)p * DN_STREAM_PART;
        const char *from = x ? (const char *)x + at : NULL;
        if (y) stream_write(from, (char *)y + at, DN_STREAM_PART);
        else seen ^= stream_read(from, DN_STREAM_PART);
    }
    return seen;
}

double dn_multiply_adds(int64_t steps)
{
    const engine *e = current_engine();
    const int threads = dn_num_threads();
    double made = 0;
    real sum = 0;
    DN_PRAGMA(omp parallel for num_threads(threads) schedule(static) reduction(+ : made, sum))
    for (int t = 0; t < threads; ++t) made += e->multiply_adds(steps, &sum);
    /* They are finite; asking keeps the compiler from leaving them out. */
    return isfinite(sum) ? made : 0;
}

/* Atomic operations order what they touch; between them nothing else is shared. */
static void wait_for(const int *word, int value)
{
    while (__atomic_load_n(word, __ATOMIC_ACQUIRE) != value) continue;
}
int dn_round_trips(int trips)
{
    int word = 0, made = 0;
    DN_PRAGMA(omp parallel num_threads(2) shared(word, made))
    if (omp_get_num_threads() == 2) {
        const int first = omp_get_thread_num() == 0;
        for (int i = 0; i < trips; ++i) {
            if (!first) wait_for(&word, 2 * i + 1);
            __atomic_store_n(&word, 2 * i + (first ? 1 : 2), __ATOMIC_RELEASE);
            if (first) wait_for(&word, 2 * i + 2);
        }
        if (first) made = trips;
    }
    return made;
}
