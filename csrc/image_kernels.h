/* Images on their way to a network: resize, crop, turn, mirror, change of colours; Darknet's
 * arithmetic.
 *
 * An image is planar: c planes of h rows of w floats in [0, 1], im[(k*h + y)*w + x]. It is float in
 * the float64 twin too: pixels have 8 bits. Every function is pure and runs in its caller's thread,
 * so that loader threads can call it while a network trains. Sizes are at least 1; out never
 * overlaps im. */
#ifndef DN_IMAGE_KERNELS_H
#define DN_IMAGE_KERNELS_H

#ifndef DARKNET_CDEF
#include <stddef.h>
#include <stdint.h>
#endif

enum { DN_IMAGE_SIDE = 1048576 }; /* the largest width or height that any function takes */

/* Bytes as decoders deliver them, (h, w, channels) with channels 1 or 3, to c planes of value/255.
 * One channel to three is a copy to each; three to one is ITU-R 601 luma, rounded to a byte first,
 * as Pillow's "L". */
void bytes_to_image(const unsigned char *bytes, int w, int h, int channels, int c, float *im);

/* Bilinear, corners on corners: first along rows, then along columns. scratch: 2*out_w floats. An
 * output of a single column or row holds the input's last one (Darknet's choice for columns; for
 * rows it divides by zero). */
void resize_image(const float *im, int w, int h, int c, int out_w, int out_h, float *scratch,
                  float *out);

/* Resized to fit inside out_w x out_h at its own proportions, in the middle of grey (0.5). scratch:
 * 2*out_w floats. */
void letterbox_image(const float *im, int w, int h, int c, int out_w, int out_h, float *scratch,
                     float *out);

/* The largest square in the middle, resized to out_w x out_h. scratch: 2*out_w floats. */
void center_crop_image(const float *im, int w, int h, int c, int out_w, int out_h, float *scratch,
                       float *out);

/* The size of an image whose shorter (resize_min) or longer (resize_max) side is made `side`. */
void resize_min_size(int w, int h, int side, int *out_w, int *out_h);
void resize_max_size(int w, int h, int side, int *out_w, int *out_h);

/* Shorter side resized to `out_w`, then out_w x out_h cut from the middle. scratch: 2*out_w floats. */
void resize_min_crop_image(const float *im, int w, int h, int c, int out_w, int out_h,
                           float *scratch, float *out);

/* out_w x out_h pixels from column dx and row dy on; beyond the image its border is repeated. */
void crop_image(const float *im, int w, int h, int c, int dx, int dy, int out_w, int out_h,
                float *out);

/* In place: left and right change sides. */
void flip_image(float *im, int w, int h, int c);

/* The image seen through a window of out_w x out_h, turned by rad, enlarged by scale, its width
 * divided by aspect, the window's middle (dx, dy) enlarged pixels from the image's; bilinear, 0
 * beyond the image. */
void rotate_crop_image(const float *im, int w, int h, int c, float rad, float scale, int out_w,
                       int out_h, float dx, float dy, float aspect, float *out);

/* The image resized to new_w x new_h, bilinear, upper left corners on each other, at column dx and row dy of
 * out, whose other pixels stay; past the image's last row and column it fades to 0, as in Darknet. */
void place_image(const float *im, int w, int h, int c, int new_w, int new_h, int dx, int dy, int out_w,
                 int out_h, float *out);

/* In place, three planes each: hue in [0, 1), saturation, value <-> red, green, blue. */
void rgb_to_hsv(float *im, int w, int h);
void hsv_to_rgb(float *im, int w, int h);

/* In place: hue is added (it wraps), saturation and value are multiplied; the result is cut to [0,
 * 1]. An image that does not have three planes has no hue and no saturation: only value acts on it
 * (AlexeyAB; pjreddie refuses it). */
void distort_image(float *im, int w, int h, int c, float hue, float saturation, float value);

#endif
