/* The engine for x86-64 processors with AVX-512 (x86-64-v4). The target must be set before anything is
 * included. */
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__) && !defined(DARKNET_DOUBLE)
#pragma GCC target("avx2,fma,avx512f,avx512vl,avx512bw,avx512dq,prefer-vector-width=512")
#define VEC_BYTES 64
#include "engine_body.h"

ENGINE(avx512);
#endif
