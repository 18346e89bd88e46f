/* The column matrix (im2col), made block by block in the cache. Row d is (channel, ky, kx), a column is an
 * output pixel. What differs between kernel rows is a shift by whole rows, so where layout.share_y says so
 * one strip of the image serves all ky (with stride 2, one all even ky and one all odd ones); with share_x
 * also all kx, at the price of columns between the rows of outputs that belong to none. Body of an engine. */
#ifndef DN_COLUMNS_BODY_H
#define DN_COLUMNS_BODY_H
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
    int image, pixel;            /* of the first column: pixel is its place in the grid (y.out, width) */
    run run[MOST_RUNS];
    span span[MOST_RUNS];        /* outputs that follow one another in memory are one span */
} block;

/* Appends where columns start .. start + count, positions from x on of a row, are stored. */
static void add_span(const conv_product *p, const run *r, int count, block *b)
{
    const size_t plane = (size_t)p->y.whole * p->x.whole,
                 row = (size_t)(p->y.to + r->y * p->y.to_step) * p->x.whole;
    const size_t at = plane * p->groups * p->filters * r->image + row + p->x.to + (size_t)r->x * p->x.to_step;
    span *last = b->spans ? &b->span[b->spans - 1] : NULL;
    if (count <= 0) return;
    if (last && p->x.to_step == 1 && last->at + last->count == at && last->start + last->count == r->start)
        last->count += count;
    else b->span[b->spans++] = (span){r->start, count, at};
}

/* Block i: columns first .. first + count of the grid (images, y.out, width); its strips go on for `halo`
 * more columns. */
static void make_block(const conv_product *p, const column_layout *l, ptrdiff_t i, block *b)
{
    const ptrdiff_t area = (ptrdiff_t)p->y.out * l->width, columns = l->share_y ? area : area * p->batch,
                    per_image = l->share_y ? l->blocks / p->batch : l->blocks;
    const ptrdiff_t first = unit_of(columns, WIDTH, i % per_image, per_image),
                    end = unit_of(columns, WIDTH, i % per_image + 1, per_image);
    const int count = (int)(end - first), pixel = (int)(first % area);
    run r = {0, 0, (int)(i / per_image + first / area), pixel / l->width, pixel % l->width};
    b->count = count;
    b->image = r.image;
    b->pixel = pixel;
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

/* One run of a strip: position (y, x) is input (y * y.stride + fy, x * x.stride + fx), zero outside the
 * image. `plane` is the channel in the run's image; `next`: how far ahead what is read next is asked for. */
INLINE void fill_run(const conv_product *p, const run *r, const real *plane, int fy, int fx, size_t next,
                     real *out)
{
    const int inside = first_position(p->x.stride, fx, 0), outside = first_position(p->x.stride, fx, p->x.in);
    const int y = r->y * p->y.stride + fy, end = r->x + r->count;
    const int from = inside > r->x ? inside : r->x, upto = at_most(outside, end);
    real *to = out + r->start - r->x; /* to[x] is the column of position x */
    if (y < 0 || y >= p->y.in || from >= upto) {
        set_zero(to + r->x, r->count);
        return;
    }
    const ptrdiff_t x = (ptrdiff_t)from * p->x.stride + fx;
    if (from > r->x) set_zero(to + r->x, from - r->x);
    const real *source = plane + (size_t)y * p->x.in + x;
    for (int i = 0; i < (upto - from) * p->x.stride; i += 16) __builtin_prefetch(source + next + i);
    copy_strided(to + from, source, upto - from, p->x.stride);
    if (end > upto) set_zero(to + upto, end - upto);
}

/* The strip of a block. `plane` is the channel in image 0, `image` the distance of images. */
static void fill_strip(const conv_product *p, const block *b, const real *plane, size_t image, int fy, int fx,
                       real *out)
{
    const run *last = &b->run[b->runs - 1];
    /* What is read two channels later; where all channels are one step, what the next block reads. */
    const size_t next = product_depth(p) > DEPTH ? 2 * (size_t)p->y.in * p->x.in : COLUMNS;
    for (const run *r = b->run; r <= last; ++r) fill_run(p, r, plane + image * r->image, fy, fx, next, out);
    set_zero(out + last->start + last->count, LANES);   /* tiles read whole vectors */
}

/* Input of position 0 through tap t; at the tap that reaches lowest. */
static inline int tap_input(const conv_axis *a, int t) { return a->first + t * a->step; }
static inline int lowest_input(const conv_axis *a)
{
    return a->step < 0 ? tap_input(a, a->taps - 1) : a->first;
}

/* Number of a tap, counted from that which reaches lowest. */
static inline int tap_order(const conv_axis *a, int t) { return a->step < 0 ? a->taps - 1 - t : t; }

/* row[k] = place of row k of the column matrix relative to row 0 of the same step, as fill_columns lays them
 * out. */
static void place_rows(const conv_product *p, const column_layout *l, int depth, int *row)
{
    const int taps = p->y.taps * p->x.taps;
    for (int d = 0; d < depth; ++d) {
        const int tx = d % p->x.taps, y = tap_order(&p->y, d % taps / p->x.taps), x = tap_order(&p->x, tx);
        row[d] = d * l->pitch;
        if (!l->share_y) continue;
        const int strip_y = y % (l->strips / l->strips_x), strip_x = l->share_x ? x % l->strips_x : tx;
        const int shift_x = l->share_x ? tap_offset(&p->x, x) / p->x.stride : 0;
        row[d] = (d / taps * l->strips + strip_y * l->strips_x + strip_x) * l->pitch +
                 tap_offset(&p->y, y) / p->y.stride * l->width + shift_x;
    }
}

/* Input of position 0 in strip i of a channel: the first of its phase. */
static inline int strip_y(const conv_product *p, const column_layout *l, int i)
{
    return lowest_input(&p->y) + tap_offset(&p->y, i / l->strips_x) % p->y.stride;
}
static inline int strip_x(const conv_product *p, const column_layout *l, int i)
{
    const int x = i % l->strips_x;
    return l->share_x ? lowest_input(&p->x) + tap_offset(&p->x, x) % p->x.stride : tap_input(&p->x, x);
}

/* out (COLUMN_SCRATCH values) = rows d0 .. d0 + depth of the column matrix of one group; x is its first
 * channel in image 0. */
static void fill_columns(const conv_product *p, const column_layout *l, const block *b, const real *x, int d0,
                         int depth, real *out)
{
    const size_t plane = (size_t)p->y.in * p->x.in, image = plane * p->groups * p->channels;
    const int taps = p->y.taps * p->x.taps, rows = l->share_y ? depth / taps * l->strips : depth;
    for (int i = 0; i < rows; ++i, out += l->pitch) {
        if (l->share_y) {
            const int strip = i % l->strips, channel = d0 / taps + i / l->strips;
            fill_strip(p, b, x + plane * channel, image, strip_y(p, l, strip), strip_x(p, l, strip), out);
        } else {
            const int tap = (d0 + i) % taps, channel = (d0 + i) / taps;
            fill_strip(p, b, x + plane * channel, image, tap_input(&p->y, tap / p->x.taps),
                       tap_input(&p->x, tap % p->x.taps), out);
        }
    }
}

/* Columns first .. first + count of the grid of one image, as a strip. */
static void fill_piece(const conv_product *p, int width, int first, int count, const real *plane, int fy,
                       int fx, real *out)
{
    run r = {0, 0, 0, first / width, first % width};
    for (; r.start < count; r.start += r.count, r.x = 0, ++r.y) {
        r.count = at_most(width - r.x, count - r.start);
        fill_run(p, &r, plane, fy, fx, 0, out);
    }
    set_zero(out + count, LANES); /* tiles read whole vectors */
}

/* The strips of blocks from .. upto, which lie in one image: out (channels, strips, pitch). Returns the place
 * of their first column in the grid. */
static int fill_band_strips(const conv_product *p, const column_layout *l, const real *x, ptrdiff_t from,
                            ptrdiff_t upto, real *out)
{
    const ptrdiff_t area = (ptrdiff_t)p->y.out * l->width, blocks = l->blocks / p->batch,
                    image = from / blocks;
    const int first = (int)unit_of(area, WIDTH, from % blocks, blocks),
              count = (int)unit_of(area, WIDTH, upto - image * blocks, blocks) - first + l->halo;
    x += image * p->groups * p->channels * p->y.in * p->x.in;
    for (int i = 0; i < p->channels * l->strips; ++i, out += l->pitch) {
        const real *plane = x + (size_t)(i / l->strips) * p->y.in * p->x.in;
        const int strip = i % l->strips;
        fill_piece(p, l->width, first, count, plane, strip_y(p, l, strip), strip_x(p, l, strip), out);
    }
    return first;
}

/* A 1x1 kernel that moves nothing may read the image itself, where a block lies in one image and fills whole
 * vectors: then its first value at row d0, else NULL. */
static const real *columns_in_place(const conv_product *p, const column_layout *l, const block *b,
                                    const real *x, int d0)
{
    const size_t plane = (size_t)p->y.in * p->x.in, image = plane * p->groups * p->channels;
    if (!l->in_place || b->runs > 1 || b->count % LANES) return NULL;
    return x + image * b->run[0].image + plane * d0 + b->run[0].x;
}

/* Where the columns of a block stand, and the places of their rows. */
typedef struct {
    const real *columns;
    const int *row;
} column_rows;
typedef struct {
    int made[DEPTH], in_place[DEPTH];
} row_places;

static void place_all_rows(const conv_product *p, const column_layout *l, row_places *places)
{
    const int depth = product_depth(p), most = at_most(depth, DEPTH);
    place_rows(p, l, most, places->made);
    for (int d = 0; d < most; ++d) places->in_place[d] = l->in_place ? d * p->x.in : 0;
}

/* Rows d0 .. d0 + depth for a block of a group: those of the image, or of the band that stands in scratch
 * from column `first` on, or what was made ahead for this block and step, or what is made in scratch. x is
 * the group's, in image 0. */
static column_rows find_columns(const conv_product *p, const column_layout *l, const row_places *places,
                                const block *b, const real *x, int d0, int depth, int first,
                                const real *ahead, real *scratch)
{
    const real *there = columns_in_place(p, l, b, x, d0);
    if (there) return (column_rows){there, places->in_place};
    if (l->bands) return (column_rows){scratch + b->pixel - first, places->made};
    if (ahead) return (column_rows){ahead, places->made};
    fill_columns(p, l, b, x, d0, depth, scratch);
    return (column_rows){scratch, places->made};
}
#endif
