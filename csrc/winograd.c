/* Which convolutions Winograd's algorithm computes, and how they are cut into tasks. */
#include "winograd.h"

/* A pass that moves 3x3 taps by one, into an image of its own. */
static int applies_to_axis(const conv_axis *a)
{
    return a->stride == 1 && a->taps == 3 && (a->step == 1 || a->step == -1) && a->tap == 0 &&
           a->tap_step == 1 && a->to == 0 && a->to_step == 1 && a->out == a->whole;
}
static int moves_by_one(const conv_product *p)
{
    return p->size == 3 && applies_to_axis(&p->y) && applies_to_axis(&p->x) && p->y.step == p->x.step &&
           p->algorithm != CONVOLUTION_GEMM;
}
/* Narrow layers leave lanes of the vectors empty; groups may be very narrow, and many. */
enum { NARROW = 16 };
static int is_narrow(const conv_product *p) { return p->channels < NARROW || p->filters < NARROW; }
static int has_narrow_groups(const conv_product *p) { return p->groups > 1 && is_narrow(p); }
static int applies(const conv_product *p) { return moves_by_one(p) && !has_narrow_groups(p); }

/* Multiply-adds for each channel and filter, against those of the plain sums: per tile, and with `fixed` for
 * transforming the weights or their gradient. */
static int worthwhile(const conv_product *p, double per_tile, double fixed)
{
    const double tiles = (double)p->batch * pieces(p->y.out, 4) * pieces(p->x.out, 4);
    const double plain = 9. * p->batch * p->y.out * p->x.out;
    return !is_narrow(p) && per_tile * tiles + fixed < plain;
}

/* The tiles of a task: enough that weights brought to the first-level cache serve many, few enough that
 * V and M stay in the second. Where channels are many V does not stay there anyway, and U, four times the
 * weights, is read from memory for each block: then there are twice as many. A share has at least so many
 * filters; a task of the weight gradient, at most so many filters and so many channels: each part transforms
 * the tiles for itself. */
enum { BLOCK_TILES = 32, KEPT_TILES = 64, STRIDED_BLOCK = 64, GRADIENT_TILES = 48 };
enum { DEEP = 128, SHARE = 64, PART = 64 };
static int block_tiles(const conv_product *p)
{
    if (p->kept) return KEPT_TILES;
    return p->channels >= DEEP ? 2 * BLOCK_TILES : BLOCK_TILES;
}

static void cut_tiles(winograd_cut *cut, const conv_product *p, int h, int w, int strip, int block)
{
    cut->down = (int)pieces(h, cut->m);
    cut->across = (int)pieces(w, cut->m);
    cut->strips = (int)pieces(cut->across, strip);
    const int longest = (int)pieces(cut->across, cut->strips), strips = longest < block ? block / longest : 1;
    cut->all = (ptrdiff_t)p->batch * cut->down * cut->strips;
    cut->blocks = pieces(cut->all, strips);
    cut->tiles = (int)pieces(cut->all, cut->blocks) * longest;
}
static void share_filters(winograd_cut *cut, const conv_product *p)
{
    const int most = (int)pieces(p->filters, SHARE);
    const int few = cut->blocks < TASKS && p->groups < TASKS;
    cut->shares = few ? at_most(most, (int)pieces(TASKS, cut->blocks)) : 1;
}

/* ---- stride 2 (winograd_strided_body.h) */
/* 81 products for each tile of 4 x 4, against 144, and for each channel and filter the transforms of up to
 * four phases; the weights are transformed for each block. Channels must fill vectors. In groups plain sums
 * are `slower` than in one. */
static int strided_pays(const conv_product *p, int h, int w, double blocks, double slower)
{
    enum { TRANSFORMS = 500, WEIGHTS = 200 };
    const double tiles = (double)p->batch * pieces(h, 4) * pieces(w, 4),
                 plain = (p->groups > 1 ? slower : 1) * 9 * p->batch * h * w,
                 per_tile = 81 + (double)TRANSFORMS / p->filters + (double)TRANSFORMS / p->channels;
    return !is_narrow(p) && per_tile * tiles + WEIGHTS * blocks < plain;
}
static int may_be_strided(const conv_product *p)
{
    return p->size == 3 && !has_narrow_groups(p) && p->channels % FILTER_UNIT == 0 &&
           p->algorithm != CONVOLUTION_GEMM;
}
static int strides_by_two(const conv_axis *a) { return a->stride == 2 && a->step == 1 && a->first == -1; }
static int is_strided(const conv_product *p)
{
    return may_be_strided(p) && strides_by_two(&p->y) && strides_by_two(&p->x);
}
static void cut_strided(winograd_cut *cut, const conv_product *p, int block)
{
    *cut = (winograd_cut){.m = 4, .side = STRIDED_SIDE, .phases = PHASES};
    cut_tiles(cut, p, p->y.out, p->x.out, STRIDED_TILES, block);
    if (p->algorithm == CONVOLUTION_AUTO && !strided_pays(p, p->y.out, p->x.out, cut->blocks, 3. / 2))
        cut->m = 0;
}

/* Even places of dx meet tap 1, odd ones taps 0 and 2. */
static int meets_by_two(const conv_axis *even, const conv_axis *odd)
{
    return even->taps == 1 && even->tap == 1 && even->first == 0 && odd->taps == 2 && odd->first == 1 &&
           odd->step == -1;
}
winograd_cut cut_strided_data(const conv_product *p)
{
    winograd_cut cut = {.m = 8, .side = STRIDED_SIDE, .phases = 1};
    if (!may_be_strided(p) || !meets_by_two(&p[0].y, &p[3].y) || !meets_by_two(&p[0].x, &p[3].x))
        return (winograd_cut){.m = 0};
    cut_tiles(&cut, p, p->y.whole, p->x.whole, STRIDED_TILES, STRIDED_BLOCK);
    share_filters(&cut, p);
    if (p->algorithm == CONVOLUTION_AUTO && !strided_pays(p, p->y.in, p->x.in, cut.blocks, 4. / 3)) cut.m = 0;
    return cut;
}
size_t strided_data_workspace(const conv_product *p, const winograd_cut *cut, size_t threads)
{
    const size_t channels = at_most(STRIDED_CHANNELS, p->channels), vectors = PHASES * STRIDED_VECTORS,
                 width = vectors * FILTER_UNIT;
    return threads * STRIDED_POINTS *
           (winograd_plane(cut, points_row(cut, p->channels)) + width * channels + vectors * SKEW +
            winograd_plane(cut, width));
}

/* ---- tiles */
winograd_cut cut_winograd(const conv_product *p)
{
    const int m = p->algorithm == CONVOLUTION_WINOGRAD6 ? 6 : 4;
    winograd_cut cut = {.m = m, .side = m + 2, .phases = 1};
    if (is_strided(p))
        cut_strided(&cut, p, STRIDED_BLOCK);
    else if (applies(p) && (p->algorithm != CONVOLUTION_AUTO || worthwhile(p, 36, 250)))
        cut_tiles(&cut, p, p->y.out, p->x.out, STRIP_TILES, block_tiles(p));
    else
        cut.m = 0;
    if (cut.m) share_filters(&cut, p);
    return cut;
}

/* Bands of few channels of a group; many of one group go faster in two dimensions. The points of a block's
 * input are at most so many, unless those of a single band are more. */
static row_winograd_cut cut_bands(const conv_product *p, int values)
{
    enum { FEW = 16, LEAST_FILTERS = 4 };
    const int first = p->x.first + (p->x.step < 0 ? 2 * p->x.step : 0),
              left = first < 0 ? round_up(-first, FILTER_UNIT) : 0,
              widest = p->x.in > p->x.out + 2 ? p->x.in : p->x.out + 2,
              pitch = round_up(left + widest, FILTER_UNIT) + FILTER_UNIT;
    if (p->algorithm != CONVOLUTION_AUTO || !moves_by_one(p) || (p->channels >= FEW && p->groups == 1) ||
        p->filters < LEAST_FILTERS)
        return (row_winograd_cut){.blocks = 0};
    const int down = (int)pieces(p->y.out, BAND_ROWS),
              fit = (int)(values / ((int64_t)ROW_POINTS * p->channels * pitch)),
              least = (int)pieces(down, fit > 1 ? fit : 1),
              wanted = at_most((int)pieces(TASKS, (ptrdiff_t)p->batch * p->groups), down),
              blocks = least > wanted ? least : wanted;
    return (row_winograd_cut){.blocks = blocks,
                              .most = (int)pieces(down, blocks),
                              .left = left,
                              .pitch = pitch,
                              .width = round_up(p->x.out, FILTER_UNIT)};
}

/* Vector instructions for 4 x 16 outputs of all filters, and `more`, against those of the plain sums, which
 * reach two thirds of the speed. The lanes behind a row's end and the rows beneath the last count too. */
static int bands_pay(const conv_product *p, double more)
{
    const double c = p->channels, f = p->filters;
    const double tiles = (double)pieces(p->y.out, BAND_ROWS) * pieces(p->x.out, FILTER_UNIT);
    const double plain = 9 * 1.5 * c * f * p->y.out * p->x.out / FILTER_UNIT;
    return ((18 * c + 30) * f + 60 * c) * tiles + more <= plain;
}

/* The points of a block's input stay in the second-level cache; for the weight gradient, one point at a time
 * and beside dy's, in the first. */
enum { BLOCK_POINTS = 32768, GRADIENT_POINTS = 16384 };
row_winograd_cut cut_row_winograd(const conv_product *p)
{
    const row_winograd_cut cut = cut_bands(p, BLOCK_POINTS);
    return cut.blocks && bands_pay(p, 0) ? cut : (row_winograd_cut){.blocks = 0};
}

/* For each block the lanes of the gradient's sums are added up. One channel has too few of them for dy's
 * points to pay. */
row_winograd_cut cut_row_gradient(const conv_product *p)
{
    row_winograd_cut cut = cut_bands(p, GRADIENT_POINTS);
    const ptrdiff_t all = (ptrdiff_t)p->batch * cut.blocks, wanted = pieces(TASKS, p->groups);
    cut.chunks = (int)(wanted < all ? wanted : all);
    const int pays = p->channels > 1 && bands_pay(p, 70. * p->channels * p->filters * cut.blocks);
    return cut.blocks && pays ? cut : (row_winograd_cut){.blocks = 0};
}

winograd_cut cut_winograd_gradient(const conv_product *p)
{
    winograd_cut cut = {.m = 4, .side = 6, .phases = 1};
    if (is_strided(p))
        cut_strided(&cut, p, GRADIENT_TILES);
    else if (applies(p) && (p->algorithm != CONVOLUTION_AUTO || worthwhile(p, 48, 800)))
        cut_tiles(&cut, p, p->y.out, p->x.out, STRIP_TILES, GRADIENT_TILES);
    else
        cut.m = 0;
    if (!cut.m) return cut;
    cut.filter_parts = (int)pieces(p->filters, PART);
    cut.channel_parts = (int)pieces(p->channels, cut.phases == 1 ? PART : PART / 2);
    const int tasks = cut.filter_parts * cut.channel_parts;
    const ptrdiff_t chunks = tasks >= TASKS || p->groups >= TASKS ? 1 : pieces(TASKS, tasks);
    cut.chunks = (int)(chunks < cut.blocks ? chunks : cut.blocks);
    const int filters = (int)pieces(pieces(p->filters, FILTER_UNIT), cut.filter_parts),
              channels = (int)pieces(pieces(p->channels, FILTER_UNIT), cut.channel_parts);
    cut.rows = filters * FILTER_UNIT;
    cut.line =
        (int)winograd_row((filters > channels * cut.phases ? filters : channels * cut.phases) * FILTER_UNIT);
    return cut;
}

/* Where threads take whole groups each has all of it. */
size_t winograd_workspace(const conv_product *p, const winograd_cut *cut, size_t threads)
{
    if (p->groups >= TASKS && threads > 1) return threads * winograd_workspace(p, cut, 1);
    if (p->kept)
        return threads * (pieces(p->channels, kept_channels(cut)) * kept_v_chunk(cut) +
                          kept_panel(cut, KEPT_CHANNELS) + kept_panel(cut, cut->tiles));
    const size_t vectors = round_up(p->filters, FILTER_UNIT), points = winograd_points(cut);
    /* For vectors of two to sixteen values. */
    const size_t u = points * (vectors * p->channels + vectors / 2 * SKEW);
    const size_t v = points * winograd_plane(cut, points_row(cut, p->channels)),
                 m = points * winograd_plane(cut, MOST_WIDTH);
    const size_t rows = (size_t)at_most(panel_channels(cut), p->channels) * cut->phases,
                 panel = points * MOST_WIDTH * (rows + SKEW);
    return (winograd_ahead(cut) ? u : threads * panel) + threads * (v + m);
}
size_t winograd_gradient_workspace(const conv_product *p, const winograd_cut *cut, size_t threads)
{
    if (p->groups >= TASKS && threads > 1) return threads * winograd_gradient_workspace(p, cut, 1);
    const size_t tasks = (size_t)cut->filter_parts * cut->channel_parts, points = winograd_points(cut),
                 sums = (size_t)cut->rows * cut->line + SKEW;
    return points * ((cut->chunks > 1 ? tasks * cut->chunks : threads) * sums +
                     threads * 2 * winograd_plane(cut, cut->line));
}
