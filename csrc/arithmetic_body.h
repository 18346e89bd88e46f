/* Arithmetic at its fastest on the processors that the including file has chosen. */
#include "vec.h"

/* Multiply-adds that do not wait for one another: two units of a latency of four or five cycles are kept
 * busy, and with x and y they fit sixteen registers. */
enum { CHAINS = 12 };

/* In each chain s = s * x + y, `steps` times; returns the number of multiplications and additions. */
static double multiply_adds(int64_t steps, real *sum)
{
    const vec x = (vec){0} + (real)0.5, y = (vec){0} + 1;
    vec s[CHAINS];
    /* They start apart, or the compiler would make one chain of them, and all come close to 2. */
    EACH(i, CHAINS) s[i] = y * (real)i;
    for (int64_t step = 0; step < steps; ++step) {
        EACH(i, CHAINS) s[i] = s[i] * x + y;
    }
    EACH(i, CHAINS) EACH(lane, LANES) *sum += s[i][lane];
    return 2. * CHAINS * LANES * (double)steps;
}
