/* Images: planar float kernels with Darknet's arithmetic (its image.c), for any size >= 1. */
#include "image_kernels.h"

#include <assert.h>
#include <math.h>
#include <string.h>

#include "parallel.h"

static size_t plane_size(int w, int h)
{
    return (size_t)w * (size_t)h;
}

static int clamp_int(int x, int low, int high)
{
    return x < low ? low : x > high ? high : x;
}

/* ITU-R 601 luma in 16-bit fixed point, rounded: the byte that Pillow's convert("L") gives. */
static unsigned char luma(const unsigned char *rgb)
{
    return (unsigned char)((rgb[0] * 19595u + rgb[1] * 38470u + rgb[2] * 7471u + 0x8000u) >> 16);
}

SAME_BITS_VERSIONS
void bytes_to_image(const unsigned char *bytes, int w, int h, int channels, int c, float *im)
{
    assert((channels == 1 || channels == 3) && (c == 1 || c == 3));
    const size_t n = plane_size(w, h);
    if (channels == 1) {
        for (int k = 0; k < c; ++k) {
            for (size_t i = 0; i < n; ++i) im[(size_t)k * n + i] = (float)bytes[i] / 255.0f;
        }
    } else if (c == 1) {
        for (size_t i = 0; i < n; ++i) im[i] = (float)luma(bytes + 3 * i) / 255.0f;
    } else {
        float *red = im, *green = im + n, *blue = im + 2 * n;
        #pragma GCC ivdep
        for (size_t i = 0; i < n; ++i) {
            red[i] = (float)bytes[3 * i] / 255.0f;
            green[i] = (float)bytes[3 * i + 1] / 255.0f;
            blue[i] = (float)bytes[3 * i + 2] / 255.0f;
        }
    }
}

/* ---- resize ---- */

/* A rectangle of pixels inside a larger array. */
typedef struct {
    const float *data;
    int w, h, c;
    size_t row, plane; /* steps to the next row and plane */
} image_view;

static image_view whole(const float *im, int w, int h, int c)
{
    return (image_view){
        .data = im, .w = w, .h = h, .c = c, .row = (size_t)w, .plane = plane_size(w, h)};
}

static float corner_scale(int in, int out)
{
    return out > 1 ? (float)(in - 1) / (float)(out - 1) : 0.0f;
}

/* Columns x0..x0+n-1 of `row` (w pixels) resized to out_w; the border is repeated outside. */
static void resize_row(const float *row, int w, int out_w, int x0, int n, float *out)
{
    const float scale = corner_scale(w, out_w);
    for (int i = 0; i < n; ++i) {
        const int x = clamp_int(x0 + i, 0, out_w - 1);
        if (x == out_w - 1 || w == 1) {
            out[i] = row[w - 1];
            continue;
        }
        const float sx = (float)x * scale;
        const int ix = clamp_int((int)sx, 0, w - 2);
        const float dx = sx - (float)ix;
        out[i] = (1 - dx) * row[ix] + dx * row[ix + 1];
    }
}

/* Two rows that lie under each other, resized; held: which ones, -1 for none. */
typedef struct {
    float *row[2];
    int held[2];
} row_pair;

/* Make the pair hold row y, and y+1 if `both`. Going down, the lower row becomes the upper one. */
static void hold_rows(row_pair *pair, const image_view *im, const float *plane, int y, int both,
                      int full_w, int x0, int n)
{
    if (pair->held[1] == y) {
        float *lower = pair->row[1];
        pair->row[1] = pair->row[0];
        pair->row[0] = lower;
        pair->held[1] = pair->held[0];
        pair->held[0] = y;
    }
    for (int i = 0; i <= both; ++i) {
        if (pair->held[i] != y + i) {
            resize_row(plane + (size_t)(y + i) * im->row, im->w, full_w, x0, n, pair->row[i]);
            pair->held[i] = y + i;
        }
    }
}

/*
 * The window of n_w x n_h pixels from (x0, y0) on of `im` resized to full_w x full_h, to `out` with
 * its own steps; pixels beyond the resized image repeat its border. The last row is the input's
 * last one: computed, as in Darknet, it comes out almost black in one of forty pairs of heights,
 * where (full_h - 1) * scale is rounded to less than im.h - 1. */
static void resize_window(image_view im, int full_w, int full_h, int x0, int y0, int n_w, int n_h,
                          float *scratch, float *out, size_t out_row, size_t out_plane)
{
    const float scale = corner_scale(im.h, full_h);
    for (int k = 0; k < im.c; ++k) {
        const float *plane = im.data + (size_t)k * im.plane;
        row_pair pair = {.row = {scratch, scratch + n_w}, .held = {-1, -1}};
        for (int i = 0; i < n_h; ++i) {
            float *to = out + (size_t)k * out_plane + (size_t)i * out_row;
            const int y = clamp_int(y0 + i, 0, full_h - 1);
            if (y == full_h - 1 || im.h == 1) {
                hold_rows(&pair, &im, plane, im.h - 1, 0, full_w, x0, n_w);
                memcpy(to, pair.row[0], (size_t)n_w * sizeof(float));
                continue;
            }
            const float sy = (float)y * scale;
            const int iy = clamp_int((int)sy, 0, im.h - 2);
            const float dy = sy - (float)iy;
            hold_rows(&pair, &im, plane, iy, 1, full_w, x0, n_w);
            for (int x = 0; x < n_w; ++x) to[x] = (1 - dy) * pair.row[0][x] + dy * pair.row[1][x];
        }
    }
}

void resize_image(const float *im, int w, int h, int c, int out_w, int out_h, float *scratch,
                  float *out)
{
    resize_window(whole(im, w, h, c), out_w, out_h, 0, 0, out_w, out_h, scratch, out, (size_t)out_w,
                  plane_size(out_w, out_h));
}

/* a*b/c in whole pixels, at least one (Darknet's int overflows, and may give none). */
static int scaled_side(int a, int b, int c)
{
    const int64_t side = (int64_t)a * b / c;
    return side < 1 ? 1 : side > INT32_MAX ? INT32_MAX : (int)side;
}

void letterbox_image(const float *im, int w, int h, int c, int out_w, int out_h, float *scratch,
                     float *out)
{
    int new_w = out_w, new_h = out_h;
    if ((float)out_w / (float)w < (float)out_h / (float)h) {
        new_h = clamp_int(scaled_side(h, out_w, w), 1, out_h);
    } else {
        new_w = clamp_int(scaled_side(w, out_h, h), 1, out_w);
    }
    const size_t plane = plane_size(out_w, out_h);
    for (size_t i = 0; i < plane * (size_t)c; ++i) out[i] = 0.5f;
    float *corner = out + plane_size(out_w, (out_h - new_h) / 2) + (out_w - new_w) / 2;
    resize_window(whole(im, w, h, c), new_w, new_h, 0, 0, new_w, new_h, scratch, corner,
                  (size_t)out_w, plane);
}

void center_crop_image(const float *im, int w, int h, int c, int out_w, int out_h, float *scratch,
                       float *out)
{
    const int side = w < h ? w : h;
    image_view middle = whole(im, w, h, c);
    middle.data += plane_size(w, (h - side) / 2) + (size_t)(w - side) / 2;
    middle.w = middle.h = side;
    resize_window(middle, out_w, out_h, 0, 0, out_w, out_h, scratch, out, (size_t)out_w,
                  plane_size(out_w, out_h));
}

void resize_min_size(int w, int h, int side, int *out_w, int *out_h)
{
    *out_w = w < h ? side : scaled_side(w, side, h);
    *out_h = w < h ? scaled_side(h, side, w) : side;
}

void resize_max_size(int w, int h, int side, int *out_w, int *out_h)
{
    *out_w = w > h ? side : scaled_side(w, side, h);
    *out_h = w > h ? scaled_side(h, side, w) : side;
}

void resize_min_crop_image(const float *im, int w, int h, int c, int out_w, int out_h,
                           float *scratch, float *out)
{
    int full_w, full_h;
    resize_min_size(w, h, out_w, &full_w, &full_h);
    resize_window(whole(im, w, h, c), full_w, full_h, (full_w - out_w) / 2, (full_h - out_h) / 2,
                  out_w, out_h, scratch, out, (size_t)out_w, plane_size(out_w, out_h));
}

/* ---- crop, mirror, turn ---- */

void crop_image(const float *im, int w, int h, int c, int dx, int dy, int out_w, int out_h,
                float *out)
{
    for (int k = 0; k < c; ++k) {
        for (int y = 0; y < out_h; ++y) {
            const float *row =
                im + (size_t)k * plane_size(w, h) + plane_size(w, clamp_int(y + dy, 0, h - 1));
            for (int x = 0; x < out_w; ++x) *out++ = row[clamp_int(x + dx, 0, w - 1)];
        }
    }
}

void flip_image(float *im, int w, int h, int c)
{
    const size_t rows = plane_size(h, c);
    for (size_t r = 0; r < rows; ++r) {
        float *left = im + r * (size_t)w, *right = left + w - 1;
        while (left < right) {
            const float swap = *left;
            *left++ = *right;
            *right-- = swap;
        }
    }
}

/* floorf without a call: baseline x86-64 has no instruction for it. */
static int floor_int(float x)
{
    const int i = (int)x;
    return i - (x < (float)i);
}

/* Two neighbours along one axis of `side` pixels and their weights; one outside weighs nothing. */
typedef struct {
    int first, second;
    float weight_first, weight_second;
} pair_of_pixels;

static inline pair_of_pixels neighbours(float at, int side)
{
    /* A point further out, or no number, has no neighbour inside, as those at -1 and `side`. */
    at = at > -1 ? at : -1;
    at = at < (float)side ? at : (float)side;
    const int first = floor_int(at);
    const float beyond = at - (float)first;
    return (pair_of_pixels){
        .first = clamp_int(first, 0, side - 1),
        .second = clamp_int(first + 1, 0, side - 1),
        .weight_first = (unsigned)first < (unsigned)side ? 1 - beyond : 0,
        .weight_second = first + 1 < side ? beyond : 0,
    };
}

/* The four neighbours of each of a run of points: upper left, upper right, lower left, lower right. */
enum { RUN = 64 };
typedef struct {
    int64_t offset[4][RUN];
    float weight[4][RUN];
} bilinear_taps;

static inline void find_taps(const float *x, const float *y, int n, int w, int h, bilinear_taps *taps)
{
    for (int i = 0; i < n; ++i) {
        const pair_of_pixels across = neighbours(x[i], w), down = neighbours(y[i], h);
        const int64_t upper = (int64_t)down.first * w, lower = (int64_t)down.second * w;
        taps->offset[0][i] = upper + across.first;
        taps->offset[1][i] = upper + across.second;
        taps->offset[2][i] = lower + across.first;
        taps->offset[3][i] = lower + across.second;
        taps->weight[0][i] = across.weight_first * down.weight_first;
        taps->weight[1][i] = across.weight_second * down.weight_first;
        taps->weight[2][i] = across.weight_first * down.weight_second;
        taps->weight[3][i] = across.weight_second * down.weight_second;
    }
}

/* out[k*out_plane + i] = the image at (x[i], y[i]), bilinear, 0 outside; n is at most RUN. */
SAME_BITS_VERSIONS
static void sample_points(const float *im, int w, int h, int c, const float *x, const float *y, int n,
                          float *out, size_t out_plane)
{
    bilinear_taps taps;
    find_taps(x, y, n, w, h, &taps);
    for (int k = 0; k < c; ++k) {
        const float *plane = im + (size_t)k * plane_size(w, h);
        float *to = out + (size_t)k * out_plane;
        for (int i = 0; i < n; ++i) {
            to[i] = taps.weight[0][i] * plane[taps.offset[0][i]] +
                    taps.weight[1][i] * plane[taps.offset[1][i]] +
                    taps.weight[2][i] * plane[taps.offset[2][i]] +
                    taps.weight[3][i] * plane[taps.offset[3][i]];
        }
    }
}

void rotate_crop_image(const float *im, int w, int h, int c, float rad, float scale, int out_w,
                       int out_h, float dx, float dy, float aspect, float *out)
{
    const double cosine = cos(rad), sine = sin(rad);
    const double per_row = 1. / scale, per_column = aspect / (double)scale;
    float from_x[RUN], from_y[RUN];
    for (int y = 0; y < out_h; ++y) {
        const double v = (y - out_h / 2. + dy) * per_row;
        for (int x = 0; x < out_w; x += RUN) {
            const int n = out_w - x < RUN ? out_w - x : RUN;
            for (int i = 0; i < n; ++i) {
                const double u = (x + i - out_w / 2. + dx) * per_column;
                from_x[i] = (float)(cosine * u - sine * v + w / 2.);
                from_y[i] = (float)(sine * u + cosine * v + h / 2.);
            }
            sample_points(im, w, h, c, from_x, from_y, n, out + plane_size(out_w, y) + x,
                          plane_size(out_w, out_h));
        }
    }
}

void place_image(const float *im, int w, int h, int c, int new_w, int new_h, int dx, int dy, int out_w,
                 int out_h, float *out)
{
    const int first_x = dx < 0 ? 0 : dx, last_x = clamp_int(dx + new_w, 0, out_w);
    const int first_y = dy < 0 ? 0 : dy, last_y = clamp_int(dy + new_h, 0, out_h);
    float from_x[RUN], from_y[RUN];
    for (int y = first_y; y < last_y; ++y) {
        for (int x = first_x; x < last_x; x += RUN) {
            const int n = last_x - x < RUN ? last_x - x : RUN;
            for (int i = 0; i < n; ++i) {
                from_x[i] = (float)(x + i - dx) / (float)new_w * (float)w;
                from_y[i] = (float)(y - dy) / (float)new_h * (float)h;
            }
            sample_points(im, w, h, c, from_x, from_y, n, out + plane_size(out_w, y) + x,
                          plane_size(out_w, out_h));
        }
    }
}

/* ---- colour ---- */

static float max3(float a, float b, float c)
{
    return a > b ? (a > c ? a : c) : (b > c ? b : c);
}

static float min3(float a, float b, float c)
{
    return a < b ? (a < c ? a : c) : (b < c ? b : c);
}

/* The three numbers of a pixel: red, green, blue or hue, saturation, value. */
typedef struct {
    float v[3];
} colour;

/* Hue counts the six sides of the colour hexagon, then is divided by 6. Choices instead of branches: the
 * loops over pixels become vector code. */
static inline colour hsv_of_rgb(colour rgb)
{
    const float r = rgb.v[0], g = rgb.v[1], b = rgb.v[2];
    const float value = max3(r, g, b), delta = value - min3(r, g, b);
    const float along = r == value ? g - b : g == value ? b - r : r - g;
    const float side = along / delta + (r == value ? 0.f : g == value ? 2.f : 4.f);
    const float hue = (side < 0 ? side + 6 : side) / 6.0f, saturation = delta / value;
    const int coloured = value != 0 && delta != 0;
    return (colour){{coloured ? hue : 0, coloured ? saturation : 0, value}};
}

static inline float either(int condition, float a, float b)
{
    return condition ? a : b;
}

static inline colour rgb_of_hsv(colour hsv)
{
    const float s = hsv.v[1], v = hsv.v[2], side = 6 * hsv.v[0];
    const float whole = (float)floor_int(side), f = side - whole;
    const float p = v * (1 - s), q = v * (1 - s * f), t = v * (1 - s * (1 - f));
    float r = v, g = p, b = q;
    g = either(whole == 0, t, g), b = either(whole == 0, p, b);
    r = either(whole == 1, q, r), g = either(whole == 1, v, g), b = either(whole == 1, p, b);
    r = either(whole == 2, p, r), g = either(whole == 2, v, g), b = either(whole == 2, t, b);
    r = either(whole == 3, p, r), g = either(whole == 3, q, g), b = either(whole == 3, v, b);
    r = either(whole == 4, t, r), b = either(whole == 4, v, b);
    return (colour){{r, g, b}};
}

static inline colour colour_at(const float *im, size_t n, size_t i)
{
    return (colour){{im[i], im[n + i], im[2 * n + i]}};
}

static inline void set_colour(float *im, size_t n, size_t i, colour c)
{
    im[i] = c.v[0];
    im[n + i] = c.v[1];
    im[2 * n + i] = c.v[2];
}

static inline float cut(float x)
{
    return x < 0 ? 0 : x > 1 ? 1 : x;
}

SAME_BITS_VERSIONS
void rgb_to_hsv(float *im, int w, int h)
{
    const size_t n = plane_size(w, h);
    #pragma GCC ivdep
    for (size_t i = 0; i < n; ++i) set_colour(im, n, i, hsv_of_rgb(colour_at(im, n, i)));
}

SAME_BITS_VERSIONS
void hsv_to_rgb(float *im, int w, int h)
{
    const size_t n = plane_size(w, h);
    #pragma GCC ivdep
    for (size_t i = 0; i < n; ++i) set_colour(im, n, i, rgb_of_hsv(colour_at(im, n, i)));
}

SAME_BITS_VERSIONS
static void distort_colours(float *im, size_t n, float hue, float saturation, float value)
{
    #pragma GCC ivdep
    for (size_t i = 0; i < n; ++i) {
        const colour hsv = hsv_of_rgb(colour_at(im, n, i));
        const float turned = hsv.v[0] + hue;
        const float side = turned > 1 ? turned - 1 : turned < 0 ? turned + 1 : turned;
        const colour rgb = rgb_of_hsv((colour){{side, hsv.v[1] * saturation, hsv.v[2] * value}});
        set_colour(im, n, i, (colour){{cut(rgb.v[0]), cut(rgb.v[1]), cut(rgb.v[2])}});
    }
}

void distort_image(float *im, int w, int h, int c, float hue, float saturation, float value)
{
    const size_t n = plane_size(w, h);
    if (c == 3) {
        distort_colours(im, n, hue, saturation, value);
    } else {
        for (size_t i = 0; i < n * (size_t)c; ++i) im[i] = cut(im[i] * value);
    }
}
