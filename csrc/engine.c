/* Which engine runs, and how work is cut: by shape alone, for all engines and numbers of threads alike. */
#include "winograd.h"
#include <math.h>

static int forced_level = -1;   /* a hook for tests */

#ifdef ENGINES_X86
static const engine *const engines[] = {&engine_baseline, &engine_avx2, &engine_avx512};
static int best_level(void)
{
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") &&
        __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq"))
        return 2;
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") ? 1 : 0;
}
#else
static const engine *const engines[] = {&engine_baseline};
static int best_level(void) { return 0; }
#endif

static int current_level(void)
{
    const int forced = __atomic_load_n(&forced_level, __ATOMIC_RELAXED), best = best_level();
    return forced >= 0 && forced < best ? forced : best;
}
const engine *current_engine(void) { return engines[current_level()]; }
int dn_simd(void) { return current_level(); }
const char *dn_simd_level(void) { return current_engine()->name; }
int dn_set_simd_level(int level)
{
    __atomic_store_n(&forced_level, level, __ATOMIC_RELAXED);
    return current_level();
}

/* A layout whose strips serve all ky of a phase, and with share_x all kx; blocks 0 where that cannot be. */
static column_layout shared_layout(const conv_product *p, int share_x)
{
    const int taps = p->y.taps * p->x.taps;
    if (p->y.taps < 2 || p->x.taps < 1 || taps > DEPTH) return (column_layout){.blocks = 0};
    const int reach_y = axis_reach(&p->y) / p->y.stride,
              reach_x = share_x ? axis_reach(&p->x) / p->x.stride : 0;
    const int width = p->x.out + reach_x,
              strips_x = share_x ? at_most(axis_phases(&p->x), p->x.taps) : p->x.taps;
    const int64_t area = (int64_t)p->y.out * width, halo = (int64_t)reach_y * width + reach_x;
    column_layout l = {.share_y = 1,
                       .share_x = share_x,
                       .width = width,
                       .unit = taps,
                       .strips = at_most(axis_phases(&p->y), p->y.taps) * strips_x,
                       .strips_x = strips_x};
    if (halo + PITCH > COLUMN_SCRATCH / l.strips || (COLUMNS + halo) / width + 2 > MOST_RUNS) return l;
    const int lines = (int)(halo + COLUMNS + 2 * FILTER_UNIT - 1) / FILTER_UNIT;
    l.halo = (int)halo;
    l.pitch = (lines + (lines % 2 == 0)) * FILTER_UNIT;
    if (l.strips * l.pitch > COLUMN_SCRATCH) return l;
    const int channels = at_most(DEPTH / taps, COLUMN_SCRATCH / (l.strips * l.pitch));
    l.steps = (int)pieces(p->channels, channels);
    l.blocks = p->batch * pieces(area, COLUMNS);
    return l;
}

/* Where columns are shallow, strips may serve as many blocks as the scratch memory holds: fewer halos are
 * made. */
static column_layout banded_layout(const conv_product *p, int share_x)
{
    column_layout l = shared_layout(p, share_x);
    if (!l.blocks || product_depth(p) > DEPTH) return (column_layout){.blocks = 0};
    const int lines = COLUMN_SCRATCH / (l.strips * p->channels) / FILTER_UNIT,
              most = ((lines - (lines % 2 == 0)) * FILTER_UNIT - l.halo - FILTER_UNIT) / COLUMNS;
    const ptrdiff_t of_image = l.blocks / p->batch, wanted = pieces(TASKS, (ptrdiff_t)p->batch * p->groups);
    if (most < 2 || wanted >= of_image) return (column_layout){.blocks = 0};
    l.bands = (int)(wanted > pieces(of_image, most) ? wanted : pieces(of_image, most));
    const int used = (int)pieces(of_image, l.bands) * COLUMNS / FILTER_UNIT + l.halo / FILTER_UNIT + 2;
    l.pitch = (used + (used % 2 == 0)) * FILTER_UNIT;
    if (l.strips * p->channels * l.pitch > COLUMN_SCRATCH) l.pitch = (lines - (lines % 2 == 0)) * FILTER_UNIT;
    l.steps = 1;
    return l;
}

/* A strip for every row of the column matrix. */
static column_layout plain_layout(const conv_product *p)
{
    const int depth = product_depth(p), in_place = p->y.in == 1 && p->x.taps == 1 && p->y.taps == 1 &&
                                                   p->y.out == 1 && p->x.first == 0 && p->y.first == 0 &&
                                                   p->x.stride == 1 && p->x.out <= p->x.in &&
                                                   p->x.in < INT32_MAX / DEPTH;
    return (column_layout){.in_place = in_place, .width = p->x.out, .pitch = PITCH, .unit = 1,
        .steps = depth > DEPTH ? (int)pieces(depth, DEPTH) : 1,
        .blocks = pieces((ptrdiff_t)p->batch * p->y.out * p->x.out, COLUMNS)};
}

/* An estimate of the work per channel, in multiply-adds: making one value of the column matrix takes about
 * sixteen, as measured on layers of 16 to 64 filters; columns that belong to no output cost as others do, and
 * where rows of tiles and of outputs (or of dy) differ, moving pieces takes about eight per output. */
enum { COPY_COST = 16, PIECES_COST = 8 };
static double work(const conv_product *p, const column_layout *l)
{
    const double taps = p->y.taps * p->x.taps, strips = l->share_y ? l->strips : taps;
    const double outputs = (double)p->y.out * p->x.out * p->batch, area = (double)p->y.out * l->width;
    const double columns = l->share_y ? ceil(area / FILTER_UNIT) * FILTER_UNIT * p->batch : area * p->batch;
    const double halos = (double)l->halo * column_bands(p, l) * (l->share_y != 0);
    return strips * (columns + halos) * COPY_COST + columns * taps * p->filters +
           (l->share_x ? outputs * p->filters * PIECES_COST / p->channels : 0);
}

/* The layout of least work. */
static column_layout lay_columns(const conv_product *p)
{
    column_layout best = plain_layout(p);
    for (int share_x = 0; share_x <= 1; ++share_x) {
        const column_layout layouts[] = {shared_layout(p, share_x), banded_layout(p, share_x)};
        for (int i = 0; i < 2; ++i) {
            if (layouts[i].blocks && work(p, &layouts[i]) < work(p, &best)) best = layouts[i];
        }
    }
    return best;
}

/* A share has at least 48 filters. Where there are four and more, making the columns for each would cost too
 * much. */
product_cut cut_product(const conv_product *p)
{
    product_cut cut = {.layout = lay_columns(p), .shares = 1};
    const ptrdiff_t blocks = p->groups * column_bands(p, &cut.layout);
    if (blocks < TASKS) cut.shares = at_most(p->filters / 48 + 1, (int)pieces(TASKS, blocks));
    if (cut.shares >= 4 && !cut.layout.bands) cut.ahead = (size_t)blocks * cut.layout.steps * COLUMN_SCRATCH;
    return cut;
}

/* Copying a weight costs about as much as sixteen multiply-adds; many outputs share it. Any vector's and any
 * panel's length is at most FILTER_UNIT. */
size_t kept_values(const conv_product *p)
{
    enum { WORTHWHILE = 4096 };
    const size_t filters = (size_t)p->groups * (p->filters + FILTER_UNIT);
    if (cut_row_winograd(p).blocks) return 0;
    if (cut_winograd(p).m) return filters * p->channels * 9;
    if ((p->channels == 1 && p->filters == 1) || (int64_t)p->batch * p->y.out * p->x.out > WORTHWHILE)
        return 0;
    return filters * product_depth(p);
}

ptrdiff_t product_blocks(const conv_product *p)
{
    const winograd_cut cut = cut_winograd(p);
    const row_winograd_cut rows = cut_row_winograd(p);
    if (cut.m) return cut.blocks;
    return rows.blocks ? (ptrdiff_t)p->batch * rows.blocks : cut_product(p).layout.blocks;
}

/* A depthwise convolution is not made block by block. */
int product_takes_moments(const conv_product *p)
{
    enum { WORTHWHILE = 16 };
    if (cut_winograd(p).m || cut_row_winograd(p).blocks) return 1;
    const column_layout l = lay_columns(p);
    return (p->channels > 1 || p->filters > 1) && (!l.share_x || p->x.out >= WORTHWHILE);
}

tap_range phase_inputs(const conv_product p[PHASES], int of_x)
{
    tap_range r = {INT32_MAX, INT32_MIN};
    for (int i = 0; i < PHASES; ++i) {
        const conv_axis *a = of_x ? &p[i].x : &p[i].y;
        for (int t = 0; t < a->taps; ++t) {
            const int input = a->first + t * a->step;
            if (input < r.low) r.low = input;
            if (input > r.high) r.high = input;
        }
    }
    return r;
}

/* Strips of all channels are held at once: 270 to 800 KB of floats. Where that is not enough for two rows of
 * tiles and the halo, the phases go their own ways. */
enum { LEAST_COLUMNS = 96, MOST_COLUMNS = 960, TILE_UNIT = 48 };
phase_cut cut_phases(const conv_product p[PHASES])
{
    const tap_range y = phase_inputs(p, 0), x = phase_inputs(p, 1);
    phase_cut cut = {.blocks = 0, .first_y = y.low, .first_x = x.low};
    if (y.low > y.high || x.low > x.high || (p->channels == 1 && p->filters == 1)) return cut;
    for (int i = 0; i < PHASES; ++i) {
        if ((int64_t)p[i].y.taps * p[i].x.taps > DEPTH) return cut;
    }
    const int64_t width = (int64_t)p->x.out + x.high - x.low,
                  halo = (y.high - y.low) * width + x.high - x.low, area = p->y.out * width;
    int64_t columns = 2 * COLUMN_SCRATCH / p->channels - halo;
    if (columns > MOST_COLUMNS) columns = MOST_COLUMNS;
    if (columns < LEAST_COLUMNS) columns = LEAST_COLUMNS;
    if (columns > area + TILE_UNIT - 1) columns = area + TILE_UNIT - 1;
    columns -= columns % TILE_UNIT;
    const int64_t lines = (halo + columns) / FILTER_UNIT + 2,
                  pitch = (lines + (lines % 2 == 0)) * FILTER_UNIT;
    if (pitch > 3 * COLUMN_SCRATCH / p->channels) return cut;
    cut.width = (int)width;
    cut.halo = (int)halo;
    cut.pitch = (int)pitch;
    cut.columns = (int)columns;
    cut.blocks = pieces(area, columns);
    const ptrdiff_t tasks = p->batch * p->groups * cut.blocks;
    cut.shares = tasks < TASKS ? at_most(p->filters / 48 + 1, (int)pieces(TASKS, tasks)) : 1;
    return cut;
}

/* Parts of at most DEPTH rows, then shares of at least 256 filters, then chunks of pixels until there are
 * TASKS tasks. */
gradient_cut cut_gradient(const conv_product *p)
{
    gradient_cut cut = {.layout = lay_columns(p)};
    const int units = product_depth(p) / cut.layout.unit, lines = (int)pieces(p->filters, FILTER_UNIT);
    cut.parts = cut.layout.steps;
    const ptrdiff_t owned = (ptrdiff_t)p->groups * cut.parts, bands = column_bands(p, &cut.layout);
    cut.shares = owned >= TASKS ? 1 : at_most((int)pieces(p->filters, 256), (int)pieces(TASKS, owned));
    const ptrdiff_t chunks = owned * cut.shares >= TASKS ? 1 : pieces(TASKS, owned * cut.shares);
    cut.chunks = (int)(chunks < bands ? chunks : bands);
    cut.rows = round_up((int)pieces(units, cut.parts) * cut.layout.unit, FILTER_UNIT);
    const int filters = (int)pieces(lines, cut.shares);
    cut.ld = (filters + (filters % 2 == 0)) * FILTER_UNIT;   /* an odd number of cache lines, as PITCH */
    return cut;
}
