/* Convolution as an implicit matrix product: filters (filters, depth) times columns (depth, pixels), in blocks. Body of an engine. */
#include "columns_body.h"

static inline int panels(const conv_product *p) { return (p->filters + ROWS - 1) / ROWS; }

/* packed (depth, ROWS) = weights of filters first .. first + rows at rows d0 .. d0 + depth of the column matrix; missing filters 0. */
static void pack_panel(const conv_product *p, const real *w, int first, int rows, int d0, int depth, real *packed)
{
    const int taps = p->y.taps * p->x.taps;
    w += first * p->filter_stride;
    for (int d = d0; d < d0 + depth; ++d, packed += ROWS) {
        const int tap = d % taps, ky = p->y.tap + tap / p->x.taps * p->y.tap_step, kx = p->x.tap + tap % p->x.taps * p->x.tap_step;
        const real *from = w + d / taps * p->channel_stride + (size_t)ky * p->size + kx;
        for (int i = 0; i < ROWS; ++i) packed[i] = i < rows ? from[i * p->filter_stride] : 0;
    }
}

/* All weights, each step's together: packed (groups, steps, panels, depth of the step, ROWS). */
static void pack_weights(const conv_product *p, const column_layout *l, const real *w, real *packed)
{
    const int n = panels(p), all = product_depth(p), units = all / l->unit;
    #pragma omp for schedule(static)
    for (int i = 0; i < p->groups * n; ++i) {
        const int group = i / n, panel = i % n, first = part_of(p->filters, panel, n), end = part_of(p->filters, panel + 1, n);
        for (int step = 0; step < l->steps; ++step) {
            const int d0 = part_of(units, step, l->steps) * l->unit, d1 = part_of(units, step + 1, l->steps) * l->unit;
            real *to = packed + ((size_t)group * n * all + (size_t)d0 * n + (size_t)panel * (d1 - d0)) * ROWS;
            pack_panel(p, w + group * p->group_stride, first, end - first, d0, d1 - d0, to);
        }
    }
}

/* What one task works on: filters of panels first .. end of one group, columns of one block. */
typedef struct {
    const conv_product *p;
    const column_layout *layout;
    const block *columns;
    const real *packed;     /* of the group: (steps, panels, depth of the step, ROWS) */
    real *y;                /* of the group, image 0 */
    real *apart;            /* (filters, PITCH): sums of tiles that do not lie in one piece in y */
    int group, first, end;
} product_task;

/* Moves columns j .. j + width of `rows` filters between y and `apart`, piece by piece. */
static void move_apart(const product_task *t, int filter, int rows, int j, int width, real *apart, int to_y)
{
    const int step = t->p->x.to_step;
    const size_t plane = (size_t)t->p->y.whole * t->p->x.whole;
    for (int s = 0; s < t->columns->spans; ++s) {
        const span *part = &t->columns->span[s];
        const int from = part->start > j ? part->start : j, upto = at_most(part->start + part->count, j + width);
        if (part->start >= j + width) break;
        if (from >= upto) continue;
        real *y = t->y + filter * plane + part->at + (size_t)(from - part->start) * step, *e = apart + from - j;
        for (int i = 0; i < rows; ++i, y += plane, e += PITCH) {
            if (!to_y) copy_strided(e, y, upto - from, step, 0);
            else if (step == 1) copy(y, e, upto - from);
            else for (int k = 0; k < upto - from; ++k) y[(size_t)k * step] = e[k];
        }
    }
}

/* The tiles in columns j .. j + WIDTH, summed over rows d0 .. d0 + depth of the column matrix, which begin at b + row[]. */
static void product_tiles(const product_task *t, int d0, int depth, int j, const real *b, const int *row)
{
    const conv_product *p = t->p;
    const int all = product_depth(p), n = panels(p), first = part_of(p->filters, t->first, n), add = p->add || d0 > 0;
    const int width = at_most(WIDTH, t->columns->count - j), vecs = (width + LANES - 1) / LANES;
    const size_t plane = (size_t)p->y.whole * p->x.whole;
    const conv_epilogue *ep = d0 + depth == all ? p->epilogue : NULL;
    const span *s = t->columns->span, *last = s + t->columns->spans - 1;
    while (s < last && s->start + s->count <= j) ++s;
    const int direct = p->x.to_step == 1 && s->start <= j && s->start + s->count >= j + vecs * LANES;
    for (int i = t->first; i < t->end; ++i) {
        const int filter = part_of(p->filters, i, n), rows = part_of(p->filters, i + 1, n) - filter;
        const real *a = t->packed + ((size_t)d0 * n + (size_t)i * depth) * ROWS;
        real *c = direct ? t->y + filter * plane + s->at + j - s->start : t->apart + (size_t)(filter - first) * PITCH + j;
        if (!direct && p->add && d0 == 0) move_apart(t, filter, rows, j, width, c, 0);
        packed_tiles[rows - 1][vecs - 1](depth, a, b, row, c, direct ? plane : PITCH, add, ep, t->group * p->filters + filter);
        if (!direct && d0 + depth == all) move_apart(t, filter, rows, j, width, c, 1);
    }
}

static void run_product_task(const product_task *t, const real *x, real *scratch)
{
    const int depth = product_depth(t->p), steps = t->layout->steps, units = depth / t->layout->unit;
    int row[DEPTH];
    for (int i = 0; i < steps; ++i) {   /* once also where no tap reaches: the outputs are then zero */
        const int d0 = part_of(units, i, steps) * t->layout->unit, rows = part_of(units, i + 1, steps) * t->layout->unit - d0;
        const real *b = rows ? fill_columns(t->p, t->layout, t->columns, x, d0, rows, scratch, row) : scratch;
        for (int j = 0; j < t->columns->count; j += WIDTH) product_tiles(t, d0, rows, j, b + j, row);
    }
}

/* Blocks of columns, and shares of the filters where there are few blocks; each share makes its columns anew. */
static void product(const conv_product *p, const real *x, const real *w, real *y, real *workspace, int threads)
{
    const column_layout layout = lay_columns(p);
    const int depth = product_depth(p), n = panels(p);
    const ptrdiff_t blocks = layout.blocks;
    const int most = at_most(n, p->filters / 48 + 1);
    const int shares = (int)(p->groups * blocks >= TASKS ? 1 : at_most(most, (int)pieces(TASKS, p->groups * blocks)));
    const size_t plane = (size_t)p->y.whole * p->x.whole, panel = (size_t)depth * ROWS;
    real *const packed = workspace, *const scratch = packed + pieces(p->groups * n * panel, LANES) * LANES;
    #pragma omp parallel num_threads(threads)
    {
        pack_weights(p, &layout, w, packed);
        #pragma omp for schedule(dynamic, 1)
        for (ptrdiff_t task = 0; task < p->groups * blocks * shares; ++task) {
            const int share = task % shares, group = task / shares / blocks;
            block columns;
            make_block(p, &layout, task / shares % blocks, &columns);
            real *const mine = scratch + omp_get_thread_num() * (COLUMN_SCRATCH + (size_t)p->filters * PITCH);
            const product_task t = {p, &layout, &columns, packed + group * n * panel, y + group * p->filters * plane,
                mine + COLUMN_SCRATCH, group, part_of(n, share, shares), part_of(n, share + 1, shares)};
            run_product_task(&t, x + (size_t)group * p->channels * p->y.in * p->x.in, mine);
        }
    }
}
