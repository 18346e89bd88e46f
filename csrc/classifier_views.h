/* A classifier's images: from a decoder's bytes to rows of the network's input. */
#ifndef DN_CLASSIFIER_VIEWS_H
#define DN_CLASSIFIER_VIEWS_H

#ifndef DARKNET_CDEF
#include <stddef.h>
#include <stdint.h>
#endif

/* What is done to a classifier's images. */
typedef enum {
    VIEW_RANDOM,         /* training: a random window, mirrored, its colours changed */
    VIEW_CENTER_RANDOM,  /* training with [net] center=1: the same with the middle as window */
    VIEW_LETTERBOX,      /* pjreddie's classifier predict */
    VIEW_CENTER_CROP,    /* pjreddie's classifier valid */
    VIEW_RESIZE_MIN_CROP /* AlexeyAB's classifier predict and valid */
} view_kind;

/* The input wanted and, for the two random kinds, what [net] says about augmentation. */
typedef struct {
    int kind;            /* a view_kind */
    int w, h, c;         /* the network's input; c is 1 or 3 */
    int low, high;       /* the shorter side after enlarging, in pixels, is drawn from low..high */
    int flip;            /* mirror half of the images */
    int inside;          /* AlexeyAB: a window larger than the image stays in its middle */
    float aspect, angle; /* extreme factor of proportions; largest turn, in degrees */
    float hue;           /* largest shift */
    float saturation, exposure; /* extreme factors: f stands for all from f to 1/f */
} view_options;

/* The random numbers of one image, ready to use. */
typedef struct {
    float scale, rad, dx, dy, aspect; /* as rotate_crop_image takes them */
    float hue, saturation, value;     /* as distort_image takes them */
    int flip;
} random_view;

/* The view of the image at place `place` of the run; w and h are that image's size. */
void draw_view(const view_options *o, int w, int h, uint64_t seed, uint64_t place,
               random_view *view);

/* One view of one image: window (or middle), mirror, colours. scratch: 2*o->w floats. */
void augment_image(const view_options *o, const random_view *view, const float *im, int w, int h,
                   float *scratch, float *out);

/* Floats of scratch that classifier_images needs for images of w x h. */
size_t classifier_scratch(const view_options *o, int w, int h);

/*
 * The whole way from bytes to rows of a network's input, out (count, o->c * o->h * o->w). Image i
 * is bytes + index[i]*h*w*channels, all of one size, and stands at place first+i of the run. */
void classifier_images(const view_options *o, const unsigned char *bytes, const int64_t *index,
                       int count, int w, int h, int channels, uint64_t seed, uint64_t first,
                       float *scratch, float *out);

#endif
