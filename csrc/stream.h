/* Stores that go past the cache, for results larger than it: the processor then need not read each line
 * before it is overwritten, so that a pass that reads and writes costs two transfers and not three. */
#ifndef DN_STREAM_H
#define DN_STREAM_H
#include "real.h"
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#if defined(__SSE2__) && !defined(DARKNET_DOUBLE)
#include <emmintrin.h>
#endif

enum { STREAM_VALUES = 1 << 22, STREAM_ROW = 512 };
/* Does it pay? Rows must be long, since a line written in parts, or in two ways, is slow. */
static inline int stream_pays(size_t values, int row) { return values > STREAM_VALUES && row >= STREAM_ROW; }

/* to[i] = from[i]; the caller ends with stream_end() before another thread may read. */
static inline void stream_row(const real *from, int n, real *to)
{
#if defined(__SSE2__) && !defined(DARKNET_DOUBLE)
    int i = 0;
    for (; i < n && (uintptr_t)(to + i) % 16; ++i) to[i] = from[i];
    for (; i + 4 <= n; i += 4) _mm_stream_ps(to + i, _mm_loadu_ps(from + i));
    for (; i < n; ++i) to[i] = from[i];
#else
    memcpy(to, from, sizeof(real) * (size_t)n);
#endif
}
static inline void stream_end(void)
{
#if defined(__SSE2__) && !defined(DARKNET_DOUBLE)
    _mm_sfence();
#endif
}
#endif
