/* Convolution passes on the CPU. Each is handed to the engine as a sum over taps with two axes (engine.h):
 * the forward pass as it stands; the backward pass for data as one such sum per phase of the stride; the
 * weight gradient by its forward pass. Where dilation keeps from Winograd's tiles, they are passes over the
 * images that it comes apart into (dilation.h). */
#include "dilation.h"
#include "winograd.h"
#include <assert.h>
#include <limits.h>

enum { MOMENTS_REALS = sizeof(part_moments) / sizeof(real), LINE = 64 };
/* The first cache line that begins at p or behind it. */
static void *line_from(void *p) { return (void *)(((uintptr_t)p + LINE - 1) / LINE * LINE); }

int conv_epilogue_fuses(ACTIVATION a) { return a == LINEAR || a == RELU || a == LEAKY; }

static conv_axis forward_axis(int in, int out, int size, int stride, int dilation, int pad)
{
    return (conv_axis){.in = in, .out = out, .stride = stride, .taps = size, .first = -pad, .step = dilation,
        .tap = 0, .tap_step = 1, .to = 0, .to_step = 1, .whole = out};
}

/* dx at phase + i * stride, of `whole`: dy at position o met it through tap k where
 *   o * stride = phase + i * stride + pad - k * dilation
 * The taps that divide without rest are an arithmetic series, and o falls by a constant from one to the
 * next. */
static conv_axis data_axis(int in, int whole, int size, int stride, int dilation, int pad, int phase)
{
    const int divisor = greatest_divisor(stride, dilation), tap_step = stride / divisor;
    int tap = 0;
    while (tap < size && tap < tap_step && (phase + pad - tap * dilation) % stride) ++tap;
    const int reached = tap < size && tap < tap_step;
    return (conv_axis){.in = in,
                       .out = (whole - 1 - phase) / stride + 1,
                       .stride = 1,
                       .taps = reached ? (size - 1 - tap) / tap_step + 1 : 0,
                       .first = (phase + pad - tap * dilation) / stride,
                       .step = -(dilation / divisor),
                       .tap = tap,
                       .tap_step = tap_step,
                       .to = phase,
                       .to_step = stride,
                       .whole = whole};
}

static int is_pointwise(const conv_axis *a)
{
    return a->taps == 1 && a->first == 0 && a->stride == 1 && a->in == a->out && a->to_step == 1 &&
           a->out == a->whole;
}
/* A 1x1 product that moves nothing works on planes as single rows. */
static void flatten(conv_product *p)
{
    if (!is_pointwise(&p->y) || !is_pointwise(&p->x)) return;
    p->x.in = p->x.out = p->x.whole = p->y.in * p->x.in;
    p->y.in = p->y.out = p->y.whole = 1;
}

static conv_product forward_product(const conv_shape *s)
{
    const size_t area = (size_t)s->size * s->size;
    conv_product p = {.batch = s->batch,
                      .groups = s->groups,
                      .channels = s->c / s->groups,
                      .filters = s->n / s->groups,
                      .maps_in = s->c,
                      .maps_out = s->n,
                      .size = s->size,
                      .algorithm = s->algorithm,
                      .kept = s->kept,
                      .channel_stride = area,
                      .y = forward_axis(s->h, s->out_h, s->size, s->stride_y, s->dilation, s->pad),
                      .x = forward_axis(s->w, s->out_w, s->size, s->stride_x, s->dilation, s->pad)};
    p.filter_stride = p.channels * area;
    p.group_stride = p.filters * p.filter_stride;
    flatten(&p);
    return p;
}

/* The roles of filters and channels are exchanged. */
static conv_product data_product(const conv_shape *s, int phase_y, int phase_x)
{
    const size_t area = (size_t)s->size * s->size;
    conv_product p = {.batch = s->batch,
                      .groups = s->groups,
                      .channels = s->n / s->groups,
                      .filters = s->c / s->groups,
                      .maps_in = s->n,
                      .maps_out = s->c,
                      .size = s->size,
                      .algorithm = s->algorithm,
                      .filter_stride = area,
                      .y = data_axis(s->out_h, s->h, s->size, s->stride_y, s->dilation, s->pad, phase_y),
                      .x = data_axis(s->out_w, s->w, s->size, s->stride_x, s->dilation, s->pad, phase_x)};
    p.channel_stride = p.filters * area;
    p.group_stride = p.channels * p.channel_stride;
    flatten(&p);
    return p;
}

/* What a dilated convolution becomes, and its maps in the workspace, before what that needs itself. */
typedef struct {
    conv_shape shape;
    size_t x, y;
} parted_shape;
static parted_shape part_shape(const conv_shape *s)
{
    const int d = s->dilation;
    parted_shape t = {.shape = *s};
    t.shape.batch *= d * d;
    t.shape.h /= d, t.shape.w /= d, t.shape.out_h /= d, t.shape.out_w /= d, t.shape.pad /= d;
    t.shape.dilation = 1;
    t.x = pieces((ptrdiff_t)s->batch * s->c * s->h * s->w, FILTER_UNIT) * FILTER_UNIT;
    t.y = pieces((ptrdiff_t)s->batch * s->n * s->out_h * s->out_w, FILTER_UNIT) * FILTER_UNIT;
    return t;
}
/* All passes come apart, or none. */
static int comes_apart(const conv_shape *s)
{
    const int d = s->dilation;
    if (d < 2 || s->stride_x != 1 || s->stride_y != 1 || s->pad % d || s->h % d || s->w % d ||
        s->out_h % d || s->out_w % d)
        return 0;
    const parted_shape t = part_shape(s);
    const conv_product p = forward_product(&t.shape);
    return cut_winograd(&p).m != 0;
}

/* Mean and variance of each filter from those of its parts, in their order: T. F. Chan, G. H. Golub and R. J.
 * LeVeque, Updating formulae and a pairwise algorithm for computing sample variances, 1979. */
static void merge_moments(const part_moments *part, int filters, ptrdiff_t parts, const conv_epilogue *ep)
{
    for (int f = 0; f < filters; ++f, part += parts) {
        part_moments all = part[0];
        for (ptrdiff_t i = 1; i < parts; ++i) {
            const double count = all.count + part[i].count, distance = part[i].mean - all.mean;
            all.squares += part[i].squares + distance * distance * (all.count * part[i].count / count);
            all.mean += distance * (part[i].count / count);
            all.count = count;
        }
        ep->mean[f] = (real)all.mean;
        ep->mean_rest[f] = (real)(all.mean - ep->mean[f]);
        ep->variance[f] = (real)(all.squares / all.count);
    }
}

int convolution_takes_pool(const conv_shape *s)
{
    const conv_product p = forward_product(s);
    return s->out_h % 2 == 0 && s->out_w % 2 == 0 && (cut_winograd(&p).m || cut_row_winograd(&p).blocks);
}

static void forward_apart(const conv_shape *s, const real *x, const real *w, const conv_epilogue *ep, real *y,
                          real *workspace)
{
    const parted_shape t = part_shape(s);
    dn_take_apart(x, s->batch, s->c, s->h, s->w, s->dilation, workspace);
    convolution_forward_cpu(&t.shape, workspace, w, ep, workspace + t.x, workspace + t.x + t.y);
    dn_put_together(workspace + t.x, s->batch, s->n, s->out_h, s->out_w, s->dilation, 0, y);
}
/* Statistics are taken block by block while outputs are in the cache, or where that does not pay, after. */
void convolution_forward_cpu(const conv_shape *s, const real *x, const real *w, const conv_epilogue *ep,
                             real *y, real *workspace)
{
    if (comes_apart(s)) {
        forward_apart(s, x, w, ep, y, workspace);
        return;
    }
    conv_product p = forward_product(s);
    const int statistics = ep && ep->mean, on_the_way = statistics && product_takes_moments(&p);
    const ptrdiff_t parts = product_blocks(&p);
    p.epilogue = ep;
    p.pool = ep && ep->pool;
    assert(!p.pool || (!statistics && convolution_takes_pool(s)));
    if (on_the_way) {
        p.moments = line_from(workspace);
        workspace = line_from(p.moments + parts * s->n);
    }
    current_engine()->product(&p, x, w, y, workspace, dn_num_threads());
    if (on_the_way) {
        merge_moments(p.moments, s->n, parts, ep);
    } else if (statistics) {
        const batchnorm_arrays a = {.mean = ep->mean, .mean_rest = ep->mean_rest, .variance = ep->variance};
        batchnorm_statistics_cpu(y, s->batch, s->n, s->out_h * s->out_w, &a);
    }
}

/* Are the phases of a backward pass for data PHASES that go together? */
static int is_paired(const conv_shape *s)
{
    return s->stride_y == 2 && s->stride_x == 2 && s->h > 1 && s->w > 1;
}

static void backward_data_apart(const conv_shape *s, const real *dy, const real *w, int add, real *dx,
                                real *workspace)
{
    const parted_shape t = part_shape(s);
    real *dy_parts = workspace + t.x;
    dn_take_apart(dy, s->batch, s->n, s->out_h, s->out_w, s->dilation, dy_parts);
    convolution_backward_data_cpu(&t.shape, dy_parts, w, 0, workspace, dy_parts + t.y);
    dn_put_together(workspace, s->batch, s->c, s->h, s->w, s->dilation, add, dx);
}
void convolution_backward_data_cpu(const conv_shape *s, const real *dy, const real *w, int add, real *dx,
                                   real *workspace)
{
    if (comes_apart(s)) {
        backward_data_apart(s, dy, w, add, dx, workspace);
        return;
    }
    const int paired = is_paired(s);
    conv_product phases[PHASES];
    for (int phase_y = 0; phase_y < at_most(s->stride_y, s->h); ++phase_y) {
        for (int phase_x = 0; phase_x < at_most(s->stride_x, s->w); ++phase_x) {
            conv_product *p = &phases[paired ? 2 * phase_y + phase_x : 0];
            *p = data_product(s, phase_y, phase_x);
            p->add = add;
            if (paired || (add && product_depth(p) == 0)) continue;
            current_engine()->product(p, dy, w, dx, workspace, dn_num_threads());
        }
    }
    if (paired) current_engine()->data(phases, dy, w, dx, workspace, dn_num_threads());
}

static conv_product kept_product(const conv_shape *s)
{
    const conv_shape t = comes_apart(s) ? part_shape(s).shape : *s;
    return forward_product(&t);
}
size_t convolution_kept_values(const conv_shape *s)
{
    const conv_product p = kept_product(s);
    return kept_values(&p);
}
void convolution_keep_weights(const conv_shape *s, const real *w, real *kept)
{
    const conv_product p = kept_product(s);
    current_engine()->keep(&p, w, kept, dn_num_threads());
}

static void backward_weights_apart(const conv_shape *s, const real *x, const real *dy, real *dw,
                                   real *workspace)
{
    const parted_shape t = part_shape(s);
    real *dy_parts = workspace + t.x;
    dn_take_apart(x, s->batch, s->c, s->h, s->w, s->dilation, workspace);
    dn_take_apart(dy, s->batch, s->n, s->out_h, s->out_w, s->dilation, dy_parts);
    convolution_backward_weights_cpu(&t.shape, workspace, dy_parts, dw, dy_parts + t.y);
}
void convolution_backward_weights_cpu(const conv_shape *s, const real *x, const real *dy, real *dw,
                                      real *workspace)
{
    if (comes_apart(s)) {
        backward_weights_apart(s, x, dy, dw, workspace);
        return;
    }
    const conv_product p = forward_product(s);
    current_engine()->gradient(&p, x, dy, dw, workspace, dn_num_threads());
}

/* total += a * b * c; 0 when that does not fit. */
static int add_size(size_t *total, size_t a, size_t b, size_t c)
{
    size_t product;
    return !__builtin_mul_overflow(a, b, &product) && !__builtin_mul_overflow(product, c, &product)
        && !__builtin_add_overflow(*total, product, total);
}

/* Positions and rows of the column matrix are ints inside the engine. */
static int fits_engine(const conv_shape *s)
{
    const int64_t reach = (int64_t)(s->size - 1) * s->dilation + 2 * (int64_t)s->pad;
    const int64_t y = reach + (int64_t)s->out_h * s->stride_y + s->h,
                  x = reach + (int64_t)s->out_w * s->stride_x + s->w;
    size_t rows = 0, columns = 0;
    return y < INT_MAX && x < INT_MAX && add_size(&rows, s->size, s->size, (size_t)s->c + s->n + s->groups) &&
           rows < INT_MAX / MOST_ROWS && add_size(&columns, s->out_h, s->out_w, 1) && columns < INT_MAX &&
           (int64_t)s->h * s->w < INT_MAX;
}

/* Of one forward pass or phase of a backward pass: packed weights, columns made ahead, and columns and sums
 * of each thread. */
static int add_product(const conv_product *p, size_t threads, size_t *total)
{
    const winograd_cut tiles = cut_winograd(p);
    if (tiles.m) return add_size(total, winograd_workspace(p, &tiles, threads), 1, 1);
    const row_winograd_cut rows = cut_row_winograd(p);
    if (rows.blocks)
        return add_size(total, (size_t)p->groups * (p->filters + FILTER_UNIT), p->channels, 3 * ROW_POINTS) &&
               add_size(total, threads, (size_t)rows.most * rows.pitch, (size_t)p->channels * ROW_POINTS);
    const product_cut cut = cut_product(p);
    return add_size(total, (size_t)p->groups * (p->filters + MOST_ROWS), product_depth(p), 1) &&
           add_size(total, cut.ahead, 1, 1) &&
           add_size(total, threads, COLUMN_SCRATCH + (size_t)p->filters * PITCH, 1);
}

/* Of the weight gradient: sums of tasks or threads, and what each thread works on. */
static int add_gradient(const conv_product *p, size_t threads, size_t *total)
{
    const winograd_cut tiles = cut_winograd_gradient(p);
    if (tiles.m) return add_size(total, winograd_gradient_workspace(p, &tiles, threads), 1, 1);
    const row_winograd_cut rows = cut_row_gradient(p);
    if (rows.blocks)
        return add_size(total, (size_t)p->groups * rows.chunks * (p->filters + GRADIENT_FILTERS), p->channels,
                        3 * ROW_POINTS) &&
               add_size(total, threads, (size_t)rows.most * ROW_POINTS,
                        (size_t)p->channels * rows.pitch + (size_t)GRADIENT_FILTERS * rows.width);
    const gradient_cut cut = cut_gradient(p);
    const size_t tasks = (size_t)p->groups * cut.parts * cut.shares;
    return add_size(total, cut.chunks > 1 ? tasks * cut.chunks : threads, cut.rows, cut.ld) &&
           add_size(total, threads, GRADIENT_SCRATCH, 1);
}

/* Of all phases of a backward pass for data at once: packed weights, and each thread's strips. */
static int add_phases(const conv_shape *s, size_t threads, size_t *total)
{
    conv_product p[PHASES];
    size_t depth = 0;
    if (!is_paired(s)) return 1;
    for (int i = 0; i < PHASES; ++i) {
        p[i] = data_product(s, i / 2, i % 2);
        depth += product_depth(&p[i]);
    }
    const phase_cut cut = cut_phases(p);
    const winograd_cut tiles = cut_strided_data(p);
    if (tiles.m) return add_size(total, strided_data_workspace(p, &tiles, threads), 1, 1);
    return !cut.blocks || (add_size(total, (size_t)p->groups * (p->filters + MOST_ROWS), depth, 1) &&
                           add_size(total, threads, p->channels, cut.pitch));
}

size_t convolution_workspace(const conv_shape *s, int threads)
{
    if (!fits_engine(s)) return SIZE_MAX;
    if (comes_apart(s)) {
        const parted_shape t = part_shape(s);
        size_t all = convolution_workspace(&t.shape, threads);
        return add_size(&all, t.x, 1, 1) && add_size(&all, t.y, 1, 1) ? all : SIZE_MAX;
    }
    const conv_product p = forward_product(s);
    size_t forward = FILTER_UNIT, gradient = FILTER_UNIT, most;
    int fit = add_product(&p, threads, &forward)
        && add_size(&forward, MOMENTS_REALS, (size_t)s->n, (size_t)product_blocks(&p))
        && add_size(&forward, 2 * LINE / sizeof(real), 1, 1) && add_gradient(&p, threads, &gradient);
    size_t phases = FILTER_UNIT;
    fit = fit && add_phases(s, threads, &phases);
    most = forward > gradient ? forward : gradient;
    if (phases > most) most = phases;
    for (int y = 0; y < at_most(s->stride_y, s->h) && fit; ++y) {
        for (int x = 0; x < at_most(s->stride_x, s->w) && fit; ++x) {
            const conv_product phase = data_product(s, y, x);
            size_t data = FILTER_UNIT;
            fit = add_product(&phase, threads, &data);
            if (data > most) most = data;
        }
    }
    return fit ? most : SIZE_MAX;
}
