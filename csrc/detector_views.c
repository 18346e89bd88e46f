/* Training images of detectors, and their boxes: Darknet's load_data_detection (both forks), load_data_region
 * and fill_truth_*. Where Darknet rounds the pixels' place and not the boxes', both are rounded here: boxes
 * stay exact. */
#include "detector_views.h"

#include <assert.h>

#include "image_kernels.h"
#include "parallel.h"
#include "random.h"

#define ONLY_CLASS 999999.f  /* x, y, w, h of a truth that is a class without a box */
enum { SHUFFLE_BLOCK = 16 }; /* blocks of random numbers: 0-2 the view, from here on the order of boxes */

/* ---- the view */
static float between(float low, float high, uint32_t bits) { return low + (high - low) * dn_uniform(bits); }
static int clamp(int x, int low, int high) { return x < low ? low : x > high ? high : x; }

/* The image at proportions changed by jitter, as large as fits in. */
static void draw_place(const detector_view_options *o, int w, int h, const uint32_t bits[4], detector_view *v)
{
    const float j = o->jitter;
    const float ratio = ((float)w + between(-j, j, bits[0]) * w) / ((float)h + between(-j, j, bits[1]) * h);
    const int tall = ratio * o->h < o->w;
    v->w = clamp(tall ? (int)(o->h * ratio) : o->w, 1, o->w);
    v->h = clamp(tall ? o->h : (int)(o->w / ratio), 1, o->h);
    v->left = dn_uniform_int(bits[2], 0, o->w - v->w);
    v->top = dn_uniform_int(bits[3], 0, o->h - v->h);
    v->sx = (float)v->w / o->w, v->sy = (float)v->h / o->h;
    v->dx = (float)v->left / o->w, v->dy = (float)v->top / o->h;
}

/* How far two opposite edges of a window move inwards, in pixels: each by jitter, and by resizing. */
static void draw_edges(const detector_view_options *o, int side, uint32_t jitter1, uint32_t jitter2,
                       uint32_t resize1, uint32_t resize2, int edges[2])
{
    const float up = o->resize < 1 ? 1 / o->resize : o->resize, reach = side * o->jitter;
    const float out = side * (1 - up) / 2, in = o->resize < 1 ? 0 : side * (1 - 1 / up) / 2;
    edges[0] = (int)(between(-reach, reach, jitter1) + between(out, in, resize1));
    edges[1] = (int)(between(-reach, reach, jitter2) + between(out, in, resize2));
}
static void draw_crop(const detector_view_options *o, int w, int h, const uint32_t bits[4],
                      const uint32_t more[4], detector_view *v)
{
    int x[2], y[2];
    draw_edges(o, w, bits[0], bits[1], more[0], more[1], x);
    draw_edges(o, h, bits[2], bits[3], more[0], more[1], y);
    if (o->letterbox) { /* the shorter side, in the network's proportions, grows to both sides */
        const int wide = (int64_t)w * o->h > (int64_t)h * o->w;
        const double more = wide ? (double)w * o->h / o->w - h : (double)h * o->w / o->h - w;
        int *edges = wide ? y : x;
        const int pixels = (int)(more / 2 > DN_IMAGE_SIDE ? DN_IMAGE_SIDE : more / 2);
        edges[0] -= pixels, edges[1] -= pixels;
    }
    v->left = x[0], v->top = y[0];
    v->w = w - x[0] - x[1] < 1 ? 1 : w - x[0] - x[1];
    v->h = h - y[0] - y[1] < 1 ? 1 : h - y[0] - y[1];
    v->sx = (float)w / v->w, v->sy = (float)h / v->h;
    v->dx = -(float)v->left / v->w, v->dy = -(float)v->top / v->h;
}

void draw_detector_view(const detector_view_options *o, int w, int h, uint64_t seed, uint64_t place,
                        detector_view *view)
{
    const dn_random4 shape = dn_random(seed, DN_RANDOM_AUGMENT, place, 0);
    const dn_random4 more = dn_random(seed, DN_RANDOM_AUGMENT, place, 1);
    const dn_random4 colour = dn_random(seed, DN_RANDOM_AUGMENT, place, 2);
    *view = (detector_view){
        .flip = o->flip && (more.v[2] & 1),
        .hue = between(-o->hue, o->hue, more.v[3]),
        .saturation = dn_random_factor(o->saturation, colour.v[0], colour.v[1]),
        .value = dn_random_factor(o->exposure, colour.v[2], colour.v[3]),
    };
    if (o->kind == DETECTOR_PLACE) {
        draw_place(o, w, h, shape.v, view);
    } else {
        draw_crop(o, w, h, shape.v, more.v, view);
    }
}

/* ---- pixels */
/* Columns of the view: between which two of the image's they lie, whose border is repeated, and how far. */
enum { STRIP = 64 };
typedef struct {
    int left[STRIP], right[STRIP], outside[STRIP];
    float dx[STRIP];
} columns;

static inline void find_columns(const detector_view_options *o, const detector_view *v, int w, int first,
                                int n, columns *found)
{
    const float step = o->w > 1 ? (float)(v->w - 1) / (float)(o->w - 1) : 0;
    for (int i = 0; i < n; ++i) {
        const int x = first + i, last = x == o->w - 1, column = last ? v->w - 1 : (int)(x * step);
        const int left = v->left + column;
        found->left[i] = clamp(left, 0, w - 1);
        found->right[i] = clamp(left + !last, 0, w - 1);
        found->outside[i] = left < 0 || left >= w;
        found->dx[i] = last ? 0 : x * step - column;
    }
}

/* A strip of two rows of the image resized along x; `held` says which. */
typedef struct {
    float row[2][STRIP];
    int held[2];
} strip_rows;

/* The strip of row y, resized unless one of the two is that already; the other one is kept. */
static inline int hold_row(strip_rows *strip, const float *plane, int w, int y, int kept, const columns *at,
                           int n)
{
    for (int i = 0; i < 2; ++i) {
        if (strip->held[i] == y) return i;
    }
    const int i = !kept;
    const float *row = plane + (size_t)y * w;
    for (int x = 0; x < n; ++x) {
        strip->row[i][x] = (1 - at->dx[x]) * row[at->left[x]] + at->dx[x] * row[at->right[x]];
    }
    strip->held[i] = y;
    return i;
}

/* Columns first..first+n-1 of one plane of the view. */
static inline void resize_strip(const detector_view_options *o, const detector_view *v, const float *plane,
                                int w, int h, const columns *at, int n, float *out)
{
    const float step = o->h > 1 ? (float)(v->h - 1) / (float)(o->h - 1) : 0;
    strip_rows strip = {.held = {-1, -1}};
    int lower = 0;
    for (int y = 0; y < o->h; ++y, out += o->w) {
        const int last = y == o->h - 1, row = last ? v->h - 1 : (int)(y * step), top = v->top + row;
        const float dy = last ? 0 : y * step - row;
        const int upper = hold_row(&strip, plane, w, clamp(top, 0, h - 1), lower, at, n);
        lower = hold_row(&strip, plane, w, clamp(top + !last, 0, h - 1), upper, at, n);
        const float *a = strip.row[upper], *b = strip.row[lower];
        for (int x = 0; x < n; ++x) out[x] = (1 - dy) * a[x] + dy * b[x];
        if (!o->letterbox) continue;
        for (int x = 0; x < n; ++x) out[x] = at->outside[x] || top < 0 || top >= h ? 0.5f : out[x];
    }
}

/* The window of the image resized to the view, corners on corners; beyond the image its border is repeated,
 * or grey with letterbox. Strip by strip, along x first: each row of the image is resized once. */
SAME_BITS_VERSIONS
static void crop_resize(const detector_view_options *o, const detector_view *v, const float *im, int w, int h,
                        float *out)
{
    columns at;
    for (int x = 0; x < o->w; x += STRIP) {
        const int n = o->w - x < STRIP ? o->w - x : STRIP;
        find_columns(o, v, w, x, n, &at);
        for (int k = 0; k < o->c; ++k) {
            resize_strip(o, v, im + (size_t)k * w * h, w, h, &at, n, out + (size_t)k * o->w * o->h + x);
        }
    }
}

void detector_image(const detector_view_options *o, const detector_view *v, const float *im, int w, int h,
                    float *out)
{
    if (o->kind == DETECTOR_PLACE) {
        for (size_t i = 0; i < (size_t)o->c * o->w * o->h; ++i) out[i] = 0.5f;
        place_image(im, w, h, o->c, v->w, v->h, v->left, v->top, o->w, o->h, out);
    } else {
        crop_resize(o, v, im, w, h, out);
    }
    if (v->flip) flip_image(out, o->w, o->h, o->c);
    /* Left out where it would change nothing: hue and back is not exact, and takes as long as the rest. */
    if (v->hue != 0 || v->saturation != 1 || v->value != 1) {
        distort_image(out, o->w, o->h, o->c, v->hue, v->saturation, v->value);
    }
}

/* ---- boxes */
static void shuffle_boxes(float *boxes, int count, uint64_t seed, uint64_t place)
{
    for (int i = count - 1; i > 0; --i) {
        const dn_random4 bits = dn_random(seed, DN_RANDOM_AUGMENT, place, (uint32_t)(SHUFFLE_BLOCK + i / 4));
        float *a = boxes + (size_t)i * 5, *b = boxes + (size_t)dn_uniform_int(bits.v[i % 4], 0, i) * 5;
        for (int k = 0; k < 5; ++k) {
            const float swap = a[k];
            a[k] = b[k];
            b[k] = swap;
        }
    }
}

/* An interval, centre and length, carried over to the view and cut to it. */
static void move_interval(float *centre, float *length, float scale, float shift, int mirror)
{
    float low = (*centre - *length / 2) * scale + shift, high = (*centre + *length / 2) * scale + shift;
    if (mirror) {
        const float swap = low;
        low = 1 - high;
        high = 1 - swap;
    }
    low = low < 0 ? 0 : low > 1 ? 1 : low;
    high = high < 0 ? 0 : high > 1 ? 1 : high;
    *centre = (low + high) / 2;
    *length = high - low;
}
static void move_box(const detector_view *v, float *box)
{
    if (box[0] == 0 && box[1] == 0) {
        box[0] = box[1] = box[2] = box[3] = ONLY_CLASS;
        return;
    }
    move_interval(box, box + 2, v->sx, v->dx, v->flip);
    move_interval(box + 1, box + 3, v->sy, v->dy, 0);
}

/* The box in its cell, unless an earlier one has that. */
static void fill_cell(const detector_view_options *o, const float *box, float *truth)
{
    const int column = clamp((int)(box[0] * o->side), 0, o->side - 1);
    const int row = clamp((int)(box[1] * o->side), 0, o->side - 1);
    float *cell = truth + ((size_t)row * o->side + column) * (5 + o->classes);
    if (cell[0] != 0) return;
    cell[0] = 1;
    cell[1 + (int)box[4]] = 1;
    float *place = cell + 1 + o->classes;
    place[0] = box[0] * o->side - column;
    place[1] = box[1] * o->side - row;
    place[2] = box[2];
    place[3] = box[3];
}

size_t detector_truths(const detector_view_options *o)
{
    return o->layout == TRUTH_GRID ? (size_t)o->side * o->side * (5 + o->classes) : (size_t)o->most * o->size;
}

int detector_truth(const detector_view_options *o, const detector_view *view, float *boxes, int count,
                   uint64_t seed, uint64_t place, float *truth)
{
    int shown = 0;
    for (size_t i = 0; i < detector_truths(o); ++i) truth[i] = 0;
    shuffle_boxes(boxes, count, seed, place);
    for (int i = 0; i < count; ++i) {
        float *box = boxes + (size_t)i * 5;
        move_box(view, box);
        if (box[2] < o->least_w || box[3] < o->least_h) continue;
        if (o->layout == TRUTH_GRID) {
            fill_cell(o, box, truth);
        } else if (shown < o->most) {
            for (int k = 0; k < 5; ++k) truth[(size_t)shown * o->size + k] = box[k];
        }
        ++shown;
    }
    return shown;
}

int detector_row(const detector_view_options *o, const unsigned char *bytes, int w, int h, int channels,
                 float *boxes, int count, uint64_t seed, uint64_t place, float *scratch, float *out,
                 float *truth)
{
    assert(w > 0 && h > 0 && w <= DN_IMAGE_SIDE && h <= DN_IMAGE_SIDE && o->w > 0 && o->h > 0 && count >= 0);
    detector_view view;
    bytes_to_image(bytes, w, h, channels, o->c, scratch);
    draw_detector_view(o, w, h, seed, place, &view);
    detector_image(o, &view, scratch, w, h, out);
    return detector_truth(o, &view, boxes, count, seed, place, truth);
}
