/* Images: planar float kernels with Darknet's arithmetic (its image.c), for any size >= 1. */
#include "image_kernels.h"

#include <assert.h>
#include <math.h>
#include <string.h>

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

void bytes_to_image(const unsigned char *bytes, int w, int h, int channels, int c, float *im)
{
    assert((channels == 1 || channels == 3) && (c == 1 || c == 3));
    const size_t n = plane_size(w, h);
    for (int k = 0; k < c; ++k) {
        float *plane = im + (size_t)k * n;
        if (channels == 3 && c == 1) {
            for (size_t i = 0; i < n; ++i) plane[i] = (float)luma(bytes + 3 * i) / 255.0f;
        } else {
            const unsigned char *from = bytes + (channels == 3 ? k : 0);
            for (size_t i = 0; i < n; ++i) plane[i] = (float)from[i * (size_t)channels] / 255.0f;
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

/* Four neighbouring pixels and their weights; outside the image both are 0. */
typedef struct {
    size_t offset[4];
    float weight[4];
} bilinear_tap;

static bilinear_tap bilinear_taps(float x, float y, int w, int h)
{
    const int ix = floor_int(x), iy = floor_int(y);
    const float dx = x - (float)ix, dy = y - (float)iy;
    const size_t first = plane_size(w, iy) + (size_t)ix;
    bilinear_tap tap = {
        .offset = {first, first + 1, first + (size_t)w, first + (size_t)w + 1},
        .weight = {(1 - dx) * (1 - dy), dx * (1 - dy), (1 - dx) * dy, dx * dy},
    };
    if (ix < 0 || iy < 0 || ix + 1 >= w || iy + 1 >= h) {
        for (int i = 0; i < 4; ++i) {
            const int px = ix + (i & 1), py = iy + (i >> 1);
            if (px < 0 || px >= w || py < 0 || py >= h) {
                tap.offset[i] = 0;
                tap.weight[i] = 0;
            }
        }
    }
    return tap;
}

static float bilinear_sum(const bilinear_tap *tap, const float *plane)
{
    return tap->weight[0] * plane[tap->offset[0]] + tap->weight[1] * plane[tap->offset[1]] +
           tap->weight[2] * plane[tap->offset[2]] + tap->weight[3] * plane[tap->offset[3]];
}

void rotate_crop_image(const float *im, int w, int h, int c, float rad, float scale, int out_w,
                       int out_h, float dx, float dy, float aspect, float *out)
{
    const double cosine = cos(rad), sine = sin(rad);
    const double per_row = 1. / scale, per_column = aspect / (double)scale;
    const size_t plane = plane_size(w, h), out_plane = plane_size(out_w, out_h);
    for (int y = 0; y < out_h; ++y) {
        const double v = (y - out_h / 2. + dy) * per_row;
        for (int x = 0; x < out_w; ++x) {
            const double u = (x - out_w / 2. + dx) * per_column;
            const float from_x = (float)(cosine * u - sine * v + w / 2.);
            const float from_y = (float)(sine * u + cosine * v + h / 2.);
            float *to = out + plane_size(out_w, y) + x;
            if (!(from_x >= -1 && from_x < (float)w && from_y >= -1 && from_y < (float)h)) {
                for (int k = 0; k < c; ++k) to[(size_t)k * out_plane] = 0;
                continue;
            }
            const bilinear_tap tap = bilinear_taps(from_x, from_y, w, h);
            for (int k = 0; k < c; ++k) {
                to[(size_t)k * out_plane] = bilinear_sum(&tap, im + (size_t)k * plane);
            }
        }
    }
}

void place_image(const float *im, int w, int h, int c, int new_w, int new_h, int dx, int dy, int out_w,
                 int out_h, float *out)
{
    const int first_x = dx < 0 ? 0 : dx, last_x = clamp_int(dx + new_w, 0, out_w);
    const int first_y = dy < 0 ? 0 : dy, last_y = clamp_int(dy + new_h, 0, out_h);
    const size_t plane = plane_size(w, h), out_plane = plane_size(out_w, out_h);
    for (int y = first_y; y < last_y; ++y) {
        const float from_y = (float)(y - dy) / (float)new_h * (float)h;
        for (int x = first_x; x < last_x; ++x) {
            const bilinear_tap tap = bilinear_taps((float)(x - dx) / (float)new_w * (float)w, from_y, w, h);
            float *to = out + plane_size(out_w, y) + x;
            for (int k = 0; k < c; ++k)
                to[(size_t)k * out_plane] = bilinear_sum(&tap, im + (size_t)k * plane);
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

/* Hue counts the six sides of the colour hexagon, then is divided by 6. */
void rgb_to_hsv(float *im, int w, int h)
{
    const size_t n = plane_size(w, h);
    float *red = im, *green = im + n, *blue = im + 2 * n;
    for (size_t i = 0; i < n; ++i) {
        const float r = red[i], g = green[i], b = blue[i];
        const float value = max3(r, g, b), delta = value - min3(r, g, b);
        float hue = 0, saturation = 0;
        if (value != 0 && delta != 0) {
            saturation = delta / value;
            if (r == value) {
                hue = (g - b) / delta;
            } else {
                hue = g == value ? 2 + (b - r) / delta : 4 + (r - g) / delta;
            }
            hue = (hue < 0 ? hue + 6 : hue) / 6.0f;
        }
        red[i] = hue;
        green[i] = saturation;
        blue[i] = value;
    }
}

void hsv_to_rgb(float *im, int w, int h)
{
    const size_t n = plane_size(w, h);
    float *hue = im, *saturation = im + n, *value = im + 2 * n;
    for (size_t i = 0; i < n; ++i) {
        const float s = saturation[i], v = value[i], side = 6 * hue[i];
        const int index = floor_int(side);
        const float f = side - (float)index;
        const float p = v * (1 - s), q = v * (1 - s * f), t = v * (1 - s * (1 - f));
        float r = v, g = v, b = v;
        switch (s == 0 ? -1 : index) {
        case -1: break; /* grey */
        case 0: g = t, b = p; break;
        case 1: r = q, b = p; break;
        case 2: r = p, b = t; break;
        case 3: r = p, g = q; break;
        case 4: r = t, g = p; break;
        default: g = p, b = q; break;
        }
        hue[i] = r;
        saturation[i] = g;
        value[i] = b;
    }
}

void distort_image(float *im, int w, int h, int c, float hue, float saturation, float value)
{
    const size_t n = plane_size(w, h);
    if (c == 3) {
        rgb_to_hsv(im, w, h);
        for (size_t i = 0; i < n; ++i) {
            const float turned = im[i] + hue;
            im[i] = turned > 1 ? turned - 1 : turned < 0 ? turned + 1 : turned;
            im[n + i] *= saturation;
            im[2 * n + i] *= value;
        }
        hsv_to_rgb(im, w, h);
    } else {
        for (size_t i = 0; i < n * (size_t)c; ++i) im[i] *= value;
    }
    for (size_t i = 0; i < n * (size_t)c; ++i) im[i] = im[i] < 0 ? 0 : im[i] > 1 ? 1 : im[i];
}
