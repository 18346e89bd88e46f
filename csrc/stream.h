/* Stores that go past the cache, for results larger than it: the processor then need not read each line
 * before it is overwritten, so that a pass that reads and writes costs two transfers and not three. */
#ifndef DN_STREAM_H
#define DN_STREAM_H
#include "real.h"
#include <stddef.h>
#include <stdint.h>
#if defined(__SSE2__) && !defined(DARKNET_DOUBLE)
#include <emmintrin.h>
#endif

enum { STREAM_VALUES = 1 << 22, STREAM_ROW = 512 };
/* Does it pay? Rows must be long, since a line written in parts, or in two ways, is slow. */
static inline int stream_pays(size_t values, int row) { return values > STREAM_VALUES && row >= STREAM_ROW; }

/* to[i] = from[i]; meanwhile the memory reads n values at `soon` ahead of their use, whether they exist or not.
 * The caller ends with stream_end() before another thread may read `to`. */
static inline void stream_row(const real *from, int n, real *to, const real *soon)
{
    int i = 0;
    (void)soon;
#if defined(__SSE2__) && !defined(DARKNET_DOUBLE)
    for (; i < n && (uintptr_t)(to + i) % 16; ++i) to[i] = from[i];
    for (; i + 16 <= n; i += 16) {
        __builtin_prefetch(soon + i, 0, 2);
        for (int j = i; j < i + 16; j += 4) _mm_stream_ps(to + j, _mm_loadu_ps(from + j));
    }
#endif
    for (; i < n; ++i) to[i] = from[i];
}
static inline void stream_end(void)
{
#if defined(__SSE2__) && !defined(DARKNET_DOUBLE)
    _mm_sfence();
#endif
}
#endif
