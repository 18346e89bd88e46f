/* The engine under convolutions and matrix products: one body of code, compiled for several generations of
 * processors (engine_baseline.c, engine_avx2.c, engine_avx512.c); engine.c picks one by what the processor
 * has. */
#ifndef DN_ENGINE_H
#define DN_ENGINE_H
#include "darknet.h"
#include "tasks.h"

/* Bounds for every processor, so that a workspace fits whatever engine runs: the columns of a block of the
 * column matrix, the rows of it that are held at once (depth), and their memory: 272 KB of floats, for
 * second-level caches of 512 KB and more. */
enum { COLUMNS = 240, DEPTH = 256 };
/* Distance of rows: an odd number of 64-byte lines, so that a column does not fall on one set of the cache. */
enum { PITCH = COLUMNS + 32, COLUMN_SCRATCH = DEPTH * PITCH };
enum { MOST_RUNS = COLUMNS + 64 };          /* rows of the image that a block touches */
enum { MOST_ROWS = 16, MOST_WIDTH = 64 };   /* of a register tile, any engine */
enum { TASKS = 8 }; /* wanted at least, so that threads finish together; never depends on their number */

/* One axis (y or x) of a convolution. Output i of `out` is the sum over taps t of
 *     input[i * stride + first + t * step] * kernel[tap + t * tap_step]
 * where input is zero outside 0..in, and is stored at place to + i * to_step of `whole`. */
typedef struct {
    int in, out, stride;
    int taps, first, step;
    int tap, tap_step;
    int to, to_step, whole;
} conv_axis;

/* Some values' number, mean, and sum of squared distances from it. */
typedef struct {
    double count, mean, squares;
} part_moments;

/* A forward pass, or one phase of a backward pass for data: output (batch, groups, filters, y.whole, x.whole)
 * from input (batch, groups, channels, y.in, x.in). Weight (group, filter, channel, ky, kx) stands at group *
 * group_stride + filter * filter_stride + channel * channel_stride + ky * size + kx. */
typedef struct {
    int batch, groups, channels, filters, size;
    int maps_in, maps_out;          /* of an image, in all groups */
    size_t group_stride, filter_stride, channel_stride;
    conv_axis y, x;
    int algorithm;                  /* a convolution_algorithm */
    int kept;                       /* the weights are as keep() wrote them */
    int add;                        /* to what the output holds */
    int pool;                       /* 1: of 2 x 2 outputs the largest is stored */
    const conv_epilogue *epilogue;  /* or NULL */
    part_moments *moments;          /* or NULL: (groups * filters, blocks), written: the output's */
} conv_product;

/* A matrix product C (M, N) = alpha * A * B + beta * C; A (M, K) has element (m, k) at m * a_row + k *
 * a_column, B alike; one of both distances is 1. */
typedef struct {
    int m, n, k;
    real alpha, beta;
    const real *a, *b;
    ptrdiff_t a_row, a_column, b_row, b_column;
    real *c;
    ptrdiff_t ldc;
} matrix_product;

typedef struct {
    const char *name;
    void (*product)(const conv_product *p, const real *x, const real *w, real *y, real *workspace,
                    int threads);
    /* The weights as this engine reads them: kept_values() of them. */
    void (*keep)(const conv_product *p, const real *w, real *kept, int threads);
    /* All phases (PHASES) of a backward pass for data with stride 2. */
    void (*data)(const conv_product *p, const real *dy, const real *w, real *dx, real *workspace,
                 int threads);
    void (*gradient)(const conv_product *p, const real *x, const real *dy, real *dw, real *workspace,
                     int threads);
    void (*matrix)(const matrix_product *p, int threads);
    double (*multiply_adds)(int64_t steps, real *sum);   /* for benchmarks: arithmetic_body.h */
} engine;

extern const engine engine_baseline;
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__) && !defined(DARKNET_DOUBLE)
#define ENGINES_X86 1
extern const engine engine_avx2, engine_avx512;
#endif
const engine *current_engine(void);

static inline int at_most(int a, int b) { return a < b ? a : b; }
static inline int round_up(int n, int unit) { return (n + unit - 1) / unit * unit; }
static inline ptrdiff_t pieces(ptrdiff_t n, ptrdiff_t most) { return (n + most - 1) / most; }
/* Bounds of piece i when n is cut evenly into `pieces`: piece i is part_of(n, i, pieces) .. part_of(n, i + 1,
 * pieces). */
static inline ptrdiff_t part_of(ptrdiff_t n, ptrdiff_t i, ptrdiff_t pieces) { return n * i / pieces; }
/* The same where pieces are whole units, but for the last value. */
static inline ptrdiff_t unit_of(ptrdiff_t n, int unit, ptrdiff_t i, ptrdiff_t count)
{
    const ptrdiff_t first = part_of(pieces(n, unit), i, count) * unit;
    return first < n ? first : n;
}
/* Of an image and a filter: the outputs stored in a row, and in all. */
static inline int stored_width(const conv_product *p) { return p->x.out >> p->pool; }
static inline size_t stored_area(const conv_product *p)
{
    return (size_t)(p->y.out >> p->pool) * stored_width(p);
}
/* Rows of the column matrix: (channel, ky, kx). */
static inline int product_depth(const conv_product *p) { return p->channels * p->y.taps * p->x.taps; }

/* Inputs between the lowest and the highest tap of an axis, and of tap u, counted from the lowest. */
static inline int tap_offset(const conv_axis *a, int u) { return u * (a->step < 0 ? -a->step : a->step); }
static inline int axis_reach(const conv_axis *a) { return tap_offset(a, a->taps - 1); }

static inline int greatest_divisor(int a, int b) { return b ? greatest_divisor(b, a % b) : a; }
/* Taps u and u + axis_phases() are whole strides apart: they read the same inputs, some outputs later. A
 * kernel of 3 with stride 2 meets even inputs with taps 0 and 2 and odd ones with tap 1. */
static inline int axis_phases(const conv_axis *a)
{
    return a->stride / greatest_divisor(a->stride, tap_offset(a, 1));
}

/* How the column matrix is held (columns_body.h): a grid (images, y.out, width) of columns, cut in blocks. */
typedef struct {
    int in_place;          /* a 1x1 kernel that moves nothing: rows are those of the image */
    int share_y, share_x;  /* one strip of the image serves all ky of a phase, or all ky and kx; blocks then
                              stay within an image */
    int width;             /* columns for each row of outputs: x.out; with share_x also those between rows */
    int strips, strips_x;  /* of a channel, where shared: one per phase, or kx, of x, by those of y */
    int halo, pitch;       /* further columns at the end of a strip; distance of strips */
    int bands;             /* of an image: strips are made for so many parts of it, of several blocks each;
                              0: for each block */
    int unit, steps;       /* rows are made in so many steps, multiples of unit: rows, or whole channels */
    ptrdiff_t blocks;
} column_layout;

/* Bands of all images, and their bounds in blocks: band i has blocks band_start(i) .. band_start(i + 1).
 * Without bands each block is one. */
static inline ptrdiff_t column_bands(const conv_product *p, const column_layout *l)
{
    return l->bands ? (ptrdiff_t)p->batch * l->bands : l->blocks;
}
static inline ptrdiff_t band_start(const conv_product *p, const column_layout *l, ptrdiff_t i)
{
    return part_of(l->blocks, i, column_bands(p, l));
}

/* How a product is cut into tasks: bands of columns x shares of the filters. */
typedef struct {
    column_layout layout;
    int shares;
    size_t ahead; /* values of the columns made ahead, for all shares; 0: each task makes its own */
} product_cut;
product_cut cut_product(const conv_product *p);
ptrdiff_t product_blocks(const conv_product *p);   /* each has moments of its own */
/* Can the product take moments on its way? Its blocks must be stored in pieces worth a vector's while. */
int product_takes_moments(const conv_product *p);

/* Values of a forward pass's weights in the form in which they are kept; 0: not worth it. */
size_t kept_values(const conv_product *p);

/* The phases of a backward pass for data with stride 2: 2 * y + x. */
enum { PHASES = 4 };
/* Inputs that position 0 reads through the taps of any phase, on one axis; low > high: there are none. */
typedef struct {
    int low, high;
} tap_range;
tap_range phase_inputs(const conv_product p[PHASES], int of_x);

/* How all phases are made from one strip of dy for each channel (phases_body.h): a grid (y.out, width) of
 * positions with an output of each phase, cut into blocks of at most `columns` of them. */
typedef struct {
    int first_y, first_x; /* what position 0 reads lowest */
    int width, halo, pitch;
    int columns, shares;
    ptrdiff_t blocks; /* of an image; 0: each phase is a product of its own */
} phase_cut;
phase_cut cut_phases(const conv_product p[PHASES]);

/* How the weight gradient is cut into tasks: parts of the depth x shares of the filters x chunks of the
 * bands of columns. A task's sums are an area (rows, ld) of the workspace. */
typedef struct {
    column_layout layout;
    int parts, shares, chunks, rows, ld;
} gradient_cut;
gradient_cut cut_gradient(const conv_product *p);
enum { FILTER_UNIT = 16, GRADIENT_SCRATCH = COLUMN_SCRATCH + COLUMNS * MOST_WIDTH };
#endif
