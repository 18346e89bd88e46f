/* A detector's training images: from a decoder's bytes and a label file's boxes to a row of the network's
 * input and its truth. */
#ifndef DN_DETECTOR_VIEWS_H
#define DN_DETECTOR_VIEWS_H

#ifndef DARKNET_CDEF
#include <stddef.h>
#include <stdint.h>
#endif

/* How an image comes to the network's size. */
typedef enum {
    DETECTOR_PLACE, /* pjreddie: fitted in at changed proportions, at a random place on grey */
    DETECTOR_CROP   /* AlexeyAB, and everybody for [detection]: a random window, resized */
} detector_kind;

/* How boxes become truth. */
typedef enum {
    TRUTH_BOXES, /* [region], [yolo], [Gaussian_yolo]: rows of x, y, w, h, class; x = 0 ends them */
    TRUTH_GRID   /* [detection]: per cell 1, one-hot classes, x and y in the cell, w, h */
} truth_layout;

/* The input and truth wanted, and what cfg says about augmentation. */
typedef struct {
    int kind;      /* a detector_kind */
    int w, h, c;   /* the network's input; c is 1 or 3 */
    int letterbox; /* DETECTOR_CROP: the window has the network's proportions, grey beyond the image */
    int flip;      /* mirror half of the images */
    float jitter;  /* how far a side of the window moves, in shares of the image; < 1, DETECTOR_CROP < 1/2 */
    float resize;  /* DETECTOR_CROP: the window's sides also change by up to this factor; > 0 */
    float hue;     /* largest shift */
    float saturation, exposure; /* extreme factors: f stands for all from f to 1/f */
    int layout;                 /* a truth_layout */
    int most, size;             /* TRUTH_BOXES: rows there are, values of each (at least 5) */
    int side, classes;          /* TRUTH_GRID: cells along each axis, classes */
    float least_w, least_h;     /* narrower or lower boxes are left out; shares of the view */
} detector_view_options;

/* The random numbers of one image, ready to use. */
typedef struct {
    int left, top, w, h;          /* PLACE: where the image goes on the view; CROP: the window on the image */
    float sx, sy, dx, dy;         /* x and y in shares of the image are x*sx + dx and y*sy + dy of the view */
    float hue, saturation, value; /* as distort_image takes them */
    int flip;
} detector_view;

/* The view of the image at place `place` of the run; w and h are that image's size. */
void draw_detector_view(const detector_view_options *o, int w, int h, uint64_t seed, uint64_t place,
                        detector_view *view);

/* The view's pixels, out (c, h, w), from the image im of w x h. */
void detector_image(const detector_view_options *o, const detector_view *view, const float *im, int w, int h,
                    float *out);

/* The view's truth, all of it, from `count` rows x, y, w, h, class in shares of the image (x = y = 0: no box
 * is known, only a class, which becomes 999999), which are changed: shuffled, moved, cut to the view. Returns
 * how many boxes the view shows; beyond o->most they are left out. */
int detector_truth(const detector_view_options *o, const detector_view *view, float *boxes, int count,
                   uint64_t seed, uint64_t place, float *truth);

/* Values of a row of truth. */
size_t detector_truths(const detector_view_options *o);

/* The whole way: bytes are (h, w, channels); scratch: o->c * w * h floats. Returns what
 * detector_truth does. */
int detector_row(const detector_view_options *o, const unsigned char *bytes, int w, int h, int channels,
                 float *boxes, int count, uint64_t seed, uint64_t place, float *scratch, float *out,
                 float *truth);

#endif
