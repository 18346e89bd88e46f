/* Threads and processors. Work is cut by shape alone, never by the number of threads: no result depends on
 * it. */
#ifndef DN_PARALLEL_H
#define DN_PARALLEL_H
#include "darknet.h"

#define DN_PRAGMA(text) _Pragma(#text)
/* for (...) over independent outputs; below `work` values the loop is not worth waking threads for. */
#define PARALLEL_FOR(work) \
    DN_PRAGMA(omp parallel for num_threads(dn_num_threads()) schedule(static) if ((work) > 16384))
#define PARALLEL_FOR2(work) \
    DN_PRAGMA(omp parallel for collapse(2) num_threads(dn_num_threads()) schedule(static) if ((work) > 16384))

/* One function, compiled for three generations of processors; the loader picks. The sanitizers cannot run
 * before it does, and a count of the lines that ran would count each three times (ONE_VERSION). The second
 * form never fuses a*b + c into one rounding: pixels are as without vector code. */
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__) && __GNUC__ >= 12 && \
    !defined(__SANITIZE_ADDRESS__) && !defined(DARKNET_DOUBLE) && !defined(ONE_VERSION)
#define MULTIVERSION __attribute__((target_clones("default", "arch=x86-64-v3", "arch=x86-64-v4")))
#define SAME_BITS_VERSIONS __attribute__((target_clones("default", "avx2")))
#else
#define MULTIVERSION
#define SAME_BITS_VERSIONS
#endif
#endif
