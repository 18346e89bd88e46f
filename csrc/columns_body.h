/* The column matrix (im2col), made block by block in the cache. Row d is (channel, ky, kx), a column is an output pixel. What differs
 * between kernel rows is a shift by whole rows, so where layout.share_y says so one strip of the image serves all ky; with
 * share_x also all kx, at the price of columns between the rows of outputs that belong to none. Body of an engine. */
#include "tile_body.h"

/* Columns start .. start + count of a strip: positions from x on in row y of one image. */
typedef struct {
    int start, count, image, y, x;
} run;
/* Columns start .. start + count of a block are stored from y[at] on, x.to_step apart. */
typedef struct {
    int start, count;
    size_t at;
} span;
typedef struct {
    int count, runs, spans;      /* columns */
    run run[MOST_RUNS];
    span span[MOST_RUNS];        /* outputs that follow one another in memory are one span */
} block;

/* Appends where columns start .. start + count, positions from x on of a row, are stored. */
static void add_span(const conv_product *p, const run *r, int count, block *b)
{
    const size_t plane = (size_t)p->y.whole * p->x.whole, row = (size_t)(p->y.to + r->y * p->y.to_step) * p->x.whole;
    const size_t at = plane * p->groups * p->filters * r->image + row + p->x.to + (size_t)r->x * p->x.to_step;
    span *last = b->spans ? &b->span[b->spans - 1] : NULL;
    if (count <= 0) return;
    if (last && p->x.to_step == 1 && last->at + last->count == at && last->start + last->count == r->start) last->count += count;
    else b->span[b->spans++] = (span){r->start, count, at};
}

/* Block i: columns first .. first + count of the grid (images, y.out, width); its strips go on for `halo` more columns. */
static void make_block(const conv_product *p, const column_layout *l, ptrdiff_t i, block *b)
{
    const ptrdiff_t area = (ptrdiff_t)p->y.out * l->width, columns = l->share_y ? area : area * p->batch;
    const ptrdiff_t units = pieces(columns, WIDTH), per_image = l->share_y ? l->blocks / p->batch : l->blocks;
    const ptrdiff_t first = part_of(units, i % per_image, per_image) * WIDTH;
    const ptrdiff_t end = part_of(units, i % per_image + 1, per_image) * WIDTH;
    const int count = (int)((end < columns ? end : columns) - first), pixel = (int)(first % area);
    run r = {0, 0, (int)(i / per_image + first / area), pixel / l->width, pixel % l->width};
    b->count = count;
    b->runs = b->spans = 0;
    for (; r.start < count + l->halo; r.start += r.count, r.x = 0, ++r.y) {
        if (r.y == p->y.out && !l->share_y) {
            r.y = 0;
            ++r.image;
        }
        r.count = at_most(l->width - r.x, count + l->halo - r.start);
        b->run[b->runs++] = r;
        add_span(p, &r, at_most(at_most(r.count, p->x.out - r.x), count - r.start), b);
    }
}

/* First position on an axis whose input (that of position 0 is `first`) is not below `bound`. */
static inline int first_position(int stride, int first, int bound)
{
    if (first >= bound) return 0;
    return stride == 1 ? bound - first : (bound - first + stride - 1) / stride;
}

/* One strip: position (y, x) is input (y * y.stride + fy, x * x.stride + fx), zero outside the image. `plane` is the channel in image
 * 0, `image` the distance of images. */
static void fill_strip(const conv_product *p, const block *b, const real *plane, size_t image, int fy, int fx, real *out)
{
    const int inside = first_position(p->x.stride, fx, 0), outside = first_position(p->x.stride, fx, p->x.in);
    const run *last = &b->run[b->runs - 1];
    const size_t next = 2 * (size_t)p->y.in * p->x.in;
    for (const run *r = b->run; r <= last; ++r) {
        const int y = r->y * p->y.stride + fy, end = r->x + r->count;
        const int from = inside > r->x ? inside : r->x, upto = at_most(outside, end);
        real *to = out + r->start - r->x;   /* to[x] is the column of position x */
        if (y < 0 || y >= p->y.in || from >= upto) {
            set_zero(to + r->x, r->count);
            continue;
        }
        const ptrdiff_t x = (ptrdiff_t)from * p->x.stride + fx;
        if (from > r->x) set_zero(to + r->x, from - r->x);
        const real *source = plane + image * r->image + (size_t)y * p->x.in + x;
        for (int i = 0; i < (upto - from) * p->x.stride; i += 16) __builtin_prefetch(source + next + i);
        copy_strided(to + from, source, upto - from, p->x.stride, p->x.in - x);
        if (end > upto) set_zero(to + upto, end - upto);
    }
    set_zero(out + last->start + last->count, LANES);   /* tiles read whole vectors */
}

/* Input of position 0 through tap t; at the tap that reaches lowest. */
static inline int tap_input(const conv_axis *a, int t) { return a->first + t * a->step; }
static inline int lowest_input(const conv_axis *a) { return a->step < 0 ? tap_input(a, a->taps - 1) : a->first; }

/* Strips of one channel, shared by several rows of the column matrix; the rows' places are written to row[]. Returns the strips' end. */
static real *fill_shared(const conv_product *p, const column_layout *l, const block *b, const real *plane, size_t image, real *out,
    const real *base, int *row)
{
    const int fy = lowest_input(&p->y), low = lowest_input(&p->x), strips = l->share_x ? 1 : p->x.taps;
    for (int ty = 0; ty < p->y.taps; ++ty) {
        for (int tx = 0; tx < p->x.taps; ++tx) {
            const ptrdiff_t x = l->share_x ? tap_input(&p->x, tx) - low : (ptrdiff_t)tx * l->pitch;
            *row++ = (int)(out - base + x + (ptrdiff_t)(tap_input(&p->y, ty) - fy) * l->width);
        }
    }
    for (int tx = 0; tx < strips; ++tx, out += l->pitch) {
        fill_strip(p, b, plane, image, fy, l->share_x ? low : tap_input(&p->x, tx), out);
    }
    return out;
}

/* Rows d0 .. d0 + depth of the column matrix of one group: row k begins at the returned address + row[k]. x is the group's first
 * channel in image 0; out has room for COLUMN_SCRATCH values. */
static const real *fill_columns(const conv_product *p, const column_layout *l, const block *b, const real *x, int d0, int depth,
    real *out, int *row)
{
    const size_t plane = (size_t)p->y.in * p->x.in, image = plane * p->groups * p->channels;
    const int taps = p->y.taps * p->x.taps;
    if (l->in_place && b->runs == 1 && b->count % LANES == 0) {   /* the image itself */
        for (int d = 0; d < depth; ++d) row[d] = (int)(d * plane);
        return x + image * b->run[0].image + plane * d0 + b->run[0].x;
    }
    if (l->share_y) {
        real *to = out;
        for (int d = 0; d < depth; d += taps) to = fill_shared(p, l, b, x + plane * ((d0 + d) / taps), image, to, out, row + d);
        return out;
    }
    for (int d = 0; d < depth; ++d) {
        const int tap = (d0 + d) % taps;
        row[d] = d * l->pitch;
        fill_strip(p, b, x + plane * ((d0 + d) / taps), image, tap_input(&p->y, tap / p->x.taps), tap_input(&p->x, tap % p->x.taps),
            out + row[d]);
    }
    return out;
}
