/* Data order from the counter-based generator: place in the run -> image, with nothing to remember
 * in between. */
#include "random.h"

#include <assert.h>

void philox4x32(const uint32_t counter[4], const uint32_t key[2], uint32_t out[4])
{
    const dn_random4 start = {{counter[0], counter[1], counter[2], counter[3]}};
    const dn_random4 result = dn_philox(start, key[0], key[1]);
    for (int i = 0; i < 4; ++i) {
        out[i] = result.v[i];
    }
}

/* A number 0..n-1 from 64 random bits; the bias, n / 2^64, is beyond measuring. */
static uint64_t below(dn_random4 bits, uint64_t n)
{
    return ((uint64_t)bits.v[0] << 32 | bits.v[1]) % n;
}

/* Half the bits, rounded up, that number the values 0..n-1. */
static int half_bits(uint64_t n)
{
    int bits = 1;
    while (bits < 31 && (uint64_t)1 << (2 * bits) < n) {
        ++bits;
    }
    return bits;
}

/*
 * A pseudo-random permutation of 0..4^half-1, keyed by (seed, epoch): a Feistel network, whose
 * rounds swap two halves of the number and mix one with a random function of the other. It is one
 * to one whatever that function is. */
static uint64_t feistel(uint64_t value, int half, uint64_t seed, uint64_t epoch)
{
    const uint64_t mask = ((uint64_t)1 << half) - 1;
    uint64_t left = value >> half, right = value & mask;
    for (uint32_t round = 0; round < 6; ++round) {
        const dn_random4 mix =
            dn_random(seed, DN_RANDOM_LAYER(DN_RANDOM_ORDER, round), epoch, (uint32_t)right);
        const uint64_t next = left ^ (mix.v[0] & mask);
        left = right;
        right = next;
    }
    return left << half | right;
}

/* The image at `position` of an epoch. Values past n-1 are permuted again until one fits (fewer
 * than 4 times on average). */
static uint64_t shuffled(uint64_t position, uint64_t n, uint64_t seed, uint64_t epoch)
{
    const int half = half_bits(n);
    do {
        position = feistel(position, half, seed, epoch);
    } while (position >= n);
    return position;
}

void sample_order(int order, uint64_t seed, uint64_t first, int count, uint64_t n, int64_t *index)
{
    assert(n > 0 && n <= (uint64_t)1 << 62 && count >= 0);
    for (int i = 0; i < count; ++i) {
        const uint64_t place = first + (uint64_t)i;
        uint64_t image = place % n;
        if (order == DN_ORDER_SHUFFLED) {
            image = shuffled(place % n, n, seed, place / n);
        } else if (order == DN_ORDER_REPLACEMENT) {
            image = below(dn_random(seed, DN_RANDOM_ORDER, place, 0), n);
        }
        index[i] = (int64_t)image;
    }
}

uint64_t replacement_sample(uint64_t seed, uint64_t place, uint32_t attempt, uint64_t n)
{
    assert(n > 0);
    return below(dn_random(seed, DN_RANDOM_REPLACE, place, attempt), n);
}
