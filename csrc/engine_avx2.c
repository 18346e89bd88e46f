/* The engine for x86-64 processors with AVX2 and FMA (x86-64-v3). The target must be set before anything is
 * included. */
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__) && !defined(DARKNET_DOUBLE)
#pragma GCC target("avx2,fma")
#define VEC_BYTES 32
#include "engine_body.h"

ENGINE(avx2);
#endif
