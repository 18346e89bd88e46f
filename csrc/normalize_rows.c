/* Loops of normalization: see normalize_rows.h. GNU C's vectors become one, two or four registers of the
 * processor. What is left of a row when its vectors are done is read together with the values before it, as
 * one more vector. */
#include "normalize_rows.h"
#include "parallel.h"
#if defined(__SSE2__) && !defined(DARKNET_DOUBLE)
#include <emmintrin.h>
#endif

enum { WIDTH = 16 };
typedef real vec __attribute__((vector_size(WIDTH * sizeof(real))));
typedef real any_vec __attribute__((vector_size(WIDTH * sizeof(real)), aligned(sizeof(real)), may_alias));
#define AT(p) (*(const any_vec *)(p))
#define ROWS_INLINE static inline __attribute__((always_inline))

/* ---- sums */
#ifdef DARKNET_DOUBLE
typedef int64_t bits;
#else
typedef int32_t bits;
#endif
typedef bits any_bits __attribute__((vector_size(WIDTH * sizeof(bits)), aligned(sizeof(bits)), may_alias));
typedef double lanes
    __attribute__((vector_size(SUM_LANES * sizeof(double)), aligned(sizeof(double)), may_alias));

/* At last_lanes + k: a mask that keeps the last k lanes. */
static const bits last_lanes[2 * WIDTH] = {0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0,
                                           -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1};
#define LAST(v, k) ((vec)((any_bits)(v) & *(const any_bits *)(last_lanes + (k))))

#define LOW(v) __builtin_convertvector(__builtin_shufflevector(v, v, 0, 1, 2, 3, 4, 5, 6, 7), lanes)
#define HIGH(v) __builtin_convertvector(__builtin_shufflevector(v, v, 8, 9, 10, 11, 12, 13, 14, 15), lanes)

/* Its halves together, in double. */
#define FOLDED(v) \
    __builtin_convertvector(__builtin_shufflevector(v, v, 0, 1, 2, 3, 4, 5, 6, 7) + \
                                __builtin_shufflevector(v, v, 8, 9, 10, 11, 12, 13, 14, 15), \
                            lanes)

double total_of(const double lanes[SUM_LANES])
{
    double sum = 0;
    for (int i = 0; i < SUM_LANES; ++i) sum += lanes[i];
    return sum;
}

ROWS_INLINE double sum_lanes(lanes v)
{
    typedef double half __attribute__((vector_size(SUM_LANES / 2 * sizeof(double))));
    const half h = __builtin_shufflevector(v, v, 0, 1, 2, 3) + __builtin_shufflevector(v, v, 4, 5, 6, 7);
    return (h[0] + h[2]) + (h[1] + h[3]);
}

/* Adds the sums of d = a - a_shift and of d (x - x_shift) over one row: a few vectors in float, in two chains
 * of additions, since one would wait for itself; then on in double. */
ROWS_INLINE void add_row(const real *a, real a_shift, const real *x, real x_shift, int n, row_sums *s)
{
    enum { FEW_VECTORS = 8 };
    lanes one = {0}, two = {0};
    int i = 0;
    if (n < WIDTH) {
        double first = 0, second = 0;
        for (; i < n; ++i) first += a[i] - a_shift, second += (a[i] - a_shift) * (x[i] - x_shift);
        s->first[0] += first;
        s->second[0] += second;
        return;
    }
    while (i < n) {
        const int end = n - i < FEW_VECTORS * WIDTH ? n : i + FEW_VECTORS * WIDTH;
        vec first[2] = {{0}}, second[2] = {{0}};
        for (; i + 2 * WIDTH <= end; i += 2 * WIDTH) {
            for (int j = 0; j < 2; ++j) {
                const vec d = AT(a + i + j * WIDTH) - a_shift;
                first[j] += d;
                second[j] += d * (AT(x + i + j * WIDTH) - x_shift);
            }
        }
        if (i + WIDTH <= end) {
            const vec d = AT(a + i) - a_shift;
            first[0] += d;
            second[0] += d * (AT(x + i) - x_shift);
            i += WIDTH;
        }
        if (i < end) {
            const vec d = LAST(AT(a + n - WIDTH) - a_shift, n - i);
            first[1] += d;
            second[1] += d * (AT(x + n - WIDTH) - x_shift);
            i = n;
        }
        first[0] += first[1];
        second[0] += second[1];
        one += LOW(first[0]) + HIGH(first[0]);
        two += LOW(second[0]) + HIGH(second[0]);
    }
    *(lanes *)s->first += one;
    *(lanes *)s->second += two;
}
MULTIVERSION void add_moments(const real *x, int rows, int n, const real *shift, row_sums *sums)
{
    for (int r = 0; r < rows; ++r, x += n) add_row(x, shift[r], x, shift[r], n, sums + r);
}
MULTIVERSION void add_delta_sums(const real *x, const real *delta, int rows, int n, const real *mean,
                                 row_sums *sums)
{
    for (int r = 0; r < rows; ++r, x += n, delta += n) add_row(delta, 0, x, mean[r], n, sums + r);
}

/* Group normalization's sums over one row: of d = delta weight, of d (x - mean) and of x - mean; weight NULL:
 * none. The first two are given, the third is added. */
ROWS_INLINE void sum_three(const real *x, real mean, const real *delta, const real *weight, int n,
                           double *sum, double *dot, lanes *rest)
{
    enum { FEW_VECTORS = 8 };
    lanes one = {0}, two = {0};
    int i = 0;
    while (n - i >= WIDTH) {
        const int end = n - i < FEW_VECTORS * WIDTH ? n : i + FEW_VECTORS * WIDTH;
        vec few[3] = {{0}};
        for (; i + WIDTH <= end; i += WIDTH) {
            const vec v = AT(x + i) - mean;
            vec d = AT(delta + i);
            if (weight) d *= AT(weight + i);
            few[0] += d, few[1] += d * v, few[2] += v;
        }
        if (end == n && i < n) {
            const vec v = LAST(AT(x + n - WIDTH) - mean, n - i);
            vec d = LAST(AT(delta + n - WIDTH), n - i);
            if (weight) d *= AT(weight + n - WIDTH);
            few[0] += d, few[1] += d * v, few[2] += v;
            i = n;
        }
        one += FOLDED(few[0]), two += FOLDED(few[1]), *rest += FOLDED(few[2]);
    }
    *sum = sum_lanes(one), *dot = sum_lanes(two);
    for (; i < n; ++i) {
        const double v = x[i] - mean, d = weight ? delta[i] * weight[i] : delta[i];
        *sum += d, *dot += d * v, (*rest)[0] += v;
    }
}
MULTIVERSION void add_group_moments(const real *x, int n, real shift, double *sum, double *square)
{
    enum { CHAINS = 4, MANY_VECTORS = 32 };
    lanes one = {0}, two = {0};
    int i = 0;
    while (n - i >= WIDTH) {
        const int end = n - i < MANY_VECTORS * WIDTH ? n : i + MANY_VECTORS * WIDTH;
        vec first[CHAINS] = {{0}}, second[CHAINS] = {{0}};
        for (; i + CHAINS * WIDTH <= end; i += CHAINS * WIDTH) {
            for (int j = 0; j < CHAINS; ++j) {
                const vec d = AT(x + i + j * WIDTH) - shift;
                first[j] += d, second[j] += d * d;
            }
        }
        for (; i + WIDTH <= end; i += WIDTH) {
            const vec d = AT(x + i) - shift;
            first[0] += d, second[0] += d * d;
        }
        if (end == n && i < n) {
            const vec d = LAST(AT(x + n - WIDTH) - shift, n - i);
            first[1] += d, second[1] += d * d;
            i = n;
        }
        first[0] = (first[0] + first[1]) + (first[2] + first[3]);
        second[0] = (second[0] + second[1]) + (second[2] + second[3]);
        one += FOLDED(first[0]);
        two += FOLDED(second[0]);
    }
    *sum += sum_lanes(one), *square += sum_lanes(two);
    for (; i < n; ++i) {
        const double d = x[i] - shift;
        *sum += d, *square += d * d;
    }
}
MULTIVERSION double add_group_sums(const real *x, const real *delta, int rows, int n, real mean,
                                   const real *scales, double *sum, double *dot)
{
    double of_row, dot_of_row;
    lanes rest = {0};
    const int count = n > 1 ? rows : 1, length = n > 1 ? n : rows;
    for (int r = 0; r < count; ++r, x += n, delta += n) {
        if (n > 1) sum_three(x, mean, delta, NULL, length, &of_row, &dot_of_row, &rest);
        else sum_three(x, mean, delta, scales, length, &of_row, &dot_of_row, &rest);
        sum[r] += of_row, dot[r] += dot_of_row;
    }
    return sum_lanes(rest);
}

/* The sums of add_row of `vectors` times WIDTH columns; a_shift NULL: none. */
ROWS_INLINE void add_columns(const real *a, const real *a_shift, const real *x, const real *x_shift,
                             int batch, int ld, int vectors, double *first, double *second)
{
    enum { FEW_ROWS = 16, MOST = 2 };
    vec shift[MOST] = {{0}}, mean[MOST];
    lanes one[2 * MOST], two[2 * MOST];
    for (int j = 0; j < vectors; ++j) {
        if (a_shift) shift[j] = AT(a_shift + j * WIDTH);
        mean[j] = AT(x_shift + j * WIDTH);
        one[2 * j] = one[2 * j + 1] = two[2 * j] = two[2 * j + 1] = (lanes){0};
    }
    for (int b = 0; b < batch;) {
        vec few[MOST] = {{0}};
        for (const int end = batch - b < FEW_ROWS ? batch : b + FEW_ROWS; b < end; ++b) {
            for (int j = 0; j < vectors; ++j) {
                const vec d = AT(a + (size_t)b * ld + j * WIDTH) - shift[j];
                one[2 * j] += LOW(d), one[2 * j + 1] += HIGH(d);
                few[j] += d * (AT(x + (size_t)b * ld + j * WIDTH) - mean[j]);
            }
        }
        for (int j = 0; j < vectors; ++j) {
            two[2 * j] += LOW(few[j]), two[2 * j + 1] += HIGH(few[j]);
        }
    }
    for (int j = 0; j < 2 * vectors; ++j) {
        *(lanes *)(first + j * SUM_LANES) = one[j];
        *(lanes *)(second + j * SUM_LANES) = two[j];
    }
}
/* All columns, the last vector of them together with some before it. */
ROWS_INLINE void add_all_columns(const real *a, const real *a_shift, const real *x, const real *x_shift,
                                 int batch, int ld, int count, double *first, double *second)
{
    int j = 0;
    for (; j + 2 * WIDTH <= count; j += 2 * WIDTH) {
        add_columns(a + j, a_shift ? a_shift + j : NULL, x + j, x_shift + j, batch, ld, 2, first + j,
                    second + j);
    }
    for (; j < count && count >= WIDTH; j += WIDTH) {
        const int at = count - j < WIDTH ? count - WIDTH : j;
        add_columns(a + at, a_shift ? a_shift + at : NULL, x + at, x_shift + at, batch, ld, 1, first + at,
                    second + at);
    }
    for (; j < count; ++j) {
        first[j] = second[j] = 0;
        for (int b = 0; b < batch; ++b) {
            const double d = a[(size_t)b * ld + j] - (a_shift ? a_shift[j] : 0);
            first[j] += d;
            second[j] += d * (x[(size_t)b * ld + j] - x_shift[j]);
        }
    }
}
MULTIVERSION void column_moments(const real *x, int batch, int ld, int count, double *sum, double *square)
{
    add_all_columns(x, x, x, x, batch, ld, count, sum, square);
}
MULTIVERSION void column_delta_sums(const real *x, const real *delta, int batch, int ld, int count,
                                    const real *mean, double *sum, double *dot)
{
    add_all_columns(delta, NULL, x, mean, batch, ld, count, sum, dot);
}

/* ---- writing */
#define STORE(to, value) *(any_vec *)(to) = (value)
/* Past the caches, QUARTER values that begin at a multiple of 16 bytes. Rows of such go to memory a cache
 * line at a time, also where a row ends within one: a line that is written in two ways is slow. */
enum { QUARTER = 4 };
typedef real quarter
    __attribute__((vector_size(QUARTER * sizeof(real)), aligned(sizeof(real)), may_alias));
#define QUARTER_AT(p) (*(const quarter *)(p))
#if defined(__SSE2__) && !defined(DARKNET_DOUBLE)
#define STREAM_QUARTER(to, value) _mm_stream_ps(to, (__m128)(value))
#else
#define STREAM_QUARTER(to, value) *(quarter *)(to) = (value)
#endif
#define STREAM(to, value) \
    do { \
        const vec v = value; \
        STREAM_QUARTER(to, __builtin_shufflevector(v, v, 0, 1, 2, 3)); \
        STREAM_QUARTER((to) + 4, __builtin_shufflevector(v, v, 4, 5, 6, 7)); \
        STREAM_QUARTER((to) + 8, __builtin_shufflevector(v, v, 8, 9, 10, 11)); \
        STREAM_QUARTER((to) + 12, __builtin_shufflevector(v, v, 12, 13, 14, 15)); \
    } while (0)

/* Values before the first multiple of 16 bytes of `to`, at most n. */
static int values_to_quarter(const real *to, int n)
{
    const int values = (int)((16 - (uintptr_t)to % 16) % 16 / sizeof(real));
    return values < n ? values : n;
}
/* to[i] = VALUE(*, i) for a row, VALUE(AT, i) being a vector of them. The last vector is worked out first:
 * `to` may be what it reads, unless it is streamed. */
#define WRITE_ROW(to, VALUE, stream) \
    do { \
        int i = 0; \
        if (stream) { \
            for (const int head = values_to_quarter(to, n); i < head; ++i) to[i] = VALUE(*, i); \
            for (; i + WIDTH <= n; i += WIDTH) STREAM(to + i, VALUE(AT, i)); \
            for (; i + QUARTER <= n; i += QUARTER) STREAM_QUARTER(to + i, VALUE(QUARTER_AT, i)); \
        } \
        if (stream || n < WIDTH) { \
            for (; i < n; ++i) to[i] = VALUE(*, i); \
            break; \
        } \
        const vec last = VALUE(AT, n - WIDTH); \
        for (; i + WIDTH <= n; i += WIDTH) STORE(to + i, VALUE(AT, i)); \
        if (i < n) STORE(to + n - WIDTH, last); \
    } while (0)

MULTIVERSION void normalize_rows(const real *x, int rows, int n, const real *mean, const real *scale,
                                 const real *bias, int stream, real *y)
{
#define NORMALIZED(READ, i) ((READ(x + (i)) - m) * s + b)
    for (int r = 0; r < rows; ++r, x += n, y += n) {
        const real m = mean[r], s = scale[r], b = bias[r];
        WRITE_ROW(y, NORMALIZED, stream);
    }
}
MULTIVERSION void stream_row(const real *from, int n, real *to)
{
#define COPIED(READ, i) (READ(from + (i)))
    WRITE_ROW(to, COPIED, 1);
}
MULTIVERSION void map_delta_rows(const real *x, const real *delta, int rows, int n, const delta_map *map,
                                 int add, int stream, real *dx)
{
#define MAPPED(READ, i) \
    (READ(delta + (i)) * m.delta_factor + ((READ(x + (i)) - m.mean) * m.x_factor + m.constant))
#define ADDED(READ, i) (READ(dx + (i)) + MAPPED(READ, i))
    for (int r = 0; r < rows; ++r, x += n, delta += n, dx += n) {
        const delta_map m = map[r];
        if (add)
            WRITE_ROW(dx, ADDED, 0);
        else
            WRITE_ROW(dx, MAPPED, stream);
    }
}

MULTIVERSION void normalize_group(const real *x, int rows, int n, const group_map *g, const real *scales,
                                  const real *biases, int stream, real *y)
{
    const real m = g->mean, rest = g->rest, inverse = g->inverse;
    if (n == 1) {
        _Pragma("omp simd") for (int j = 0; j < rows; ++j) {
            y[j] = (x[j] - m - rest) * (scales[j] * inverse) + biases[j];
        }
        return;
    }
    for (int r = 0; r < rows; ++r, x += n, y += n) {
        const real s = scales[r] * inverse, b = biases[r] - rest * s;
        WRITE_ROW(y, NORMALIZED, stream);
    }
}
MULTIVERSION void map_group_deltas(const real *x, const real *delta, int rows, int n, const group_map *g,
                                   const real *scales, int add, int stream, real *dx)
{
    delta_map m = {g->mean, 0, g->x_factor, g->constant};
    for (int r = 0; r < rows; ++r, x += n, delta += n, dx += n) {
        m.delta_factor = scales[r] * g->inverse;
        if (add)
            WRITE_ROW(dx, ADDED, 0);
        else
            WRITE_ROW(dx, MAPPED, stream);
    }
}
