/* Counter-based random numbers: Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as
 * 1, 2, 3", SC 2011). A number is a pure function of (seed, purpose, index, block): no state to
 * save, and no result depends on threads, workers or the grouping into batches. */
#ifndef DN_RANDOM_H
#define DN_RANDOM_H

#ifndef DARKNET_CDEF
#include "real.h"
#include <stddef.h>
#include <stdint.h>
#endif

/* What a number is drawn for: streams of one seed that never meet. Layers add their index:
 * DN_RANDOM_LAYER(...). */
enum {
    DN_RANDOM_ORDER = 1,   /* which image stands at a place of the run */
    DN_RANDOM_REPLACE = 2, /* which image takes the place of one that cannot be read */
    DN_RANDOM_AUGMENT = 3, /* crop, flip and colours of one image */
    DN_RANDOM_WEIGHTS = 4, /* initial weights of a layer */
    DN_RANDOM_DROPOUT = 5,
    DN_RANDOM_CROP_LAYER = 6,
    DN_RANDOM_RATE = 7, /* policy=random */
    DN_RANDOM_BOX = 8   /* [detection] random=1: the box responsible for an object */
};

/* The raw generator, for tests and for Python: out = Philox4x32-10 of a 128-bit counter under a
 * 64-bit key. */
void philox4x32(const uint32_t counter[4], const uint32_t key[2], uint32_t out[4]);

/* How the images of a data set of n follow each other in a run. */
enum {
    DN_ORDER_SHUFFLED = 0,    /* each epoch is a new permutation of all images */
    DN_ORDER_REPLACEMENT = 1, /* each draw is independent of all others, as in Darknet */
    DN_ORDER_SEQUENTIAL = 2   /* 0, 1, ..., n-1, 0, ... */
};

/* index[i] = the image, 0..n-1, at place first+i of the run; n > 0, 2^62 at most. */
void sample_order(int order, uint64_t seed, uint64_t first, int count, uint64_t n, int64_t *index);

/* The image, 0..n-1, that is tried for place `place` after `attempt` unreadable ones. */
uint64_t replacement_sample(uint64_t seed, uint64_t place, uint32_t attempt, uint64_t n);

#ifndef DARKNET_CDEF

#define DN_RANDOM_LAYER(purpose, layer) ((uint32_t)(purpose) | (uint32_t)(layer) << 8)

typedef struct {
    uint32_t v[4];
} dn_random4;

enum { DN_PHILOX_ROUNDS = 10 };
#define DN_PHILOX_MULTIPLIER0 0xD2511F53u
#define DN_PHILOX_MULTIPLIER1 0xCD9E8D57u
#define DN_PHILOX_WEYL0 0x9E3779B9u   /* the golden ratio */
#define DN_PHILOX_WEYL1 0xBB67AE85u   /* the square root of 3, less 1 */

SCALAR dn_random4 dn_philox(dn_random4 counter, uint32_t key0, uint32_t key1)
{
    uint32_t *x = counter.v;
    for (int round = 0; round < DN_PHILOX_ROUNDS; ++round) {
        const uint64_t a = (uint64_t)DN_PHILOX_MULTIPLIER0 * x[0];
        const uint64_t b = (uint64_t)DN_PHILOX_MULTIPLIER1 * x[2];
        const uint32_t x1 = x[1], x3 = x[3];
        x[0] = (uint32_t)(b >> 32) ^ x1 ^ key0;
        x[1] = (uint32_t)b;
        x[2] = (uint32_t)(a >> 32) ^ x3 ^ key1;
        x[3] = (uint32_t)a;
        key0 += DN_PHILOX_WEYL0;
        key1 += DN_PHILOX_WEYL1;
    }
    return counter;
}

/* Four independent 32-bit numbers: block `block` of the stream (seed, purpose, index). */
SCALAR dn_random4 dn_random(uint64_t seed, uint32_t purpose, uint64_t index, uint32_t block)
{
    const dn_random4 counter = {{(uint32_t)index, (uint32_t)(index >> 32), purpose, block}};
    return dn_philox(counter, (uint32_t)seed, (uint32_t)(seed >> 32));
}

/* Uniform in [0, 1): the 24 upper bits, so that every value is a float exactly and 1 is never
 * reached. */
SCALAR float dn_uniform(uint32_t bits)
{
    return (float)(bits >> 8) * 0x1p-24f;
}

/* A factor between its extreme f and 1/f: uniform from 1 to f, half of the time inverted. */
SCALAR float dn_random_factor(float extreme, uint32_t size, uint32_t side)
{
    const float factor = 1 + (extreme - 1) * dn_uniform(size);
    return side & 1 ? factor : 1 / factor;
}

/* Uniform in low..high, both included; exact to high-low+1 parts in 2^32. */
SCALAR int dn_uniform_int(uint32_t bits, int low, int high)
{
    const uint64_t values = (uint64_t)((int64_t)high - low + 1);
    return (int)(low + (int64_t)((values * bits) >> 32));
}

#endif
#endif
