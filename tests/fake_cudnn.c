/* libcudnn without a GPU: the functions of cuda/cudnn.def on the host's memory, by plain loops in double
 * precision. It refuses descriptors that were not set or do not fit, an algorithm that gives other bits on
 * every run, and memory that is too little. What it is asked is counted; a test sets what it answers. */
#include "libraries.h"
#include <stdlib.h>
#include <string.h>
#ifndef VERSION
#define VERSION 92800
#endif
#define EXPORT __attribute__((visibility("default")))
enum { OK = 0, NOT_INITIALIZED = 1001, BAD_PARAM = 2000, EXECUTION_FAILED = 5000 };
enum { HANDLE = 21, TENSOR, FILTER, CONVOLUTION };
enum { PASSES = 3, ALGORITHMS = 5 };

EXPORT int fake_choices, fake_passes[PASSES], fake_handles;     /* how often each was asked for */
EXPORT int fake_create_status, fake_choice_status, fake_status; /* what the next answers are */
EXPORT int fake_math = 3;                                       /* the only kind of math that it may use */
EXPORT int fake_offered = ALGORITHMS;                           /* how many algorithms it has */
EXPORT size_t fake_last_workspace, fake_room;                   /* what it was given; what 3 wants */
EXPORT void fake_reset(void)
{
    fake_choices = fake_handles = fake_create_status = fake_choice_status = fake_status = 0;
    fake_offered = ALGORITHMS;
    fake_math = 3;
    fake_room = 3000;
    memset(fake_passes, 0, sizeof fake_passes);
}

typedef struct {
    int kind, set, n, c, h, w; /* of a filter: filters, channels of a group, height, width */
    int pad_h, pad_w, stride_y, stride_x, dilation_h, dilation_w, groups, math;
    void *stream;
} object;
static object *made(int kind, void **out)
{
    object *o = calloc(1, sizeof *o);
    o->kind = kind;
    return *out = o;
}
static int is(const void *p, int kind) { return p && ((const object *)p)->kind == kind; }

EXPORT size_t cudnnGetVersion(void) { return VERSION; }
EXPORT const char *cudnnGetErrorString(int s)
{
    return s == NOT_INITIALIZED ? "CUDNN_STATUS_NOT_INITIALIZED"
           : s == BAD_PARAM     ? "CUDNN_STATUS_BAD_PARAM"
                                : "a fake failure";
}
EXPORT int cudnnCreate(void **handle)
{
    ++fake_handles;
    made(HANDLE, handle);
    return fake_create_status;
}
EXPORT int cudnnSetStream(void *handle, void *stream)
{
    if (!is(handle, HANDLE)) return BAD_PARAM;
    ((object *)handle)->stream = stream;
    ((object *)handle)->set = 1;
    return OK;
}
EXPORT int cudnnCreateTensorDescriptor(void **tensor) { return made(TENSOR, tensor), OK; }
EXPORT int cudnnCreateFilterDescriptor(void **filter) { return made(FILTER, filter), OK; }
EXPORT int cudnnCreateConvolutionDescriptor(void **convolution)
{
    return made(CONVOLUTION, convolution)->math = -1, OK;
}
static int set_shape(object *o, int kind, int format, int type, int n, int c, int h, int w)
{
    if (!is(o, kind) || format || type || n < 1 || c < 1 || h < 1 || w < 1) return BAD_PARAM;
    o->set = 1, o->n = n, o->c = c, o->h = h, o->w = w;
    return OK;
}
EXPORT int cudnnSetTensor4dDescriptor(void *tensor, int format, int type, int n, int c, int h, int w)
{
    return set_shape(tensor, TENSOR, format, type, n, c, h, w);
}
EXPORT int cudnnSetFilter4dDescriptor(void *filter, int type, int format, int k, int c, int h, int w)
{
    return set_shape(filter, FILTER, format, type, k, c, h, w);
}
EXPORT int cudnnSetConvolution2dDescriptor(void *convolution, int pad_h, int pad_w, int stride_y,
                                           int stride_x, int dilation_h, int dilation_w, int mode, int type)
{
    object *o = convolution;
    if (!is(o, CONVOLUTION) || mode != 1 || type) return BAD_PARAM;
    o->set = 1, o->pad_h = pad_h, o->pad_w = pad_w, o->stride_y = stride_y, o->stride_x = stride_x;
    o->dilation_h = dilation_h, o->dilation_w = dilation_w;
    return OK;
}
EXPORT int cudnnSetConvolutionGroupCount(void *convolution, int groups)
{
    return is(convolution, CONVOLUTION) ? (((object *)convolution)->groups = groups, OK) : BAD_PARAM;
}
EXPORT int cudnnSetConvolutionMathType(void *convolution, int math)
{
    return is(convolution, CONVOLUTION) ? (((object *)convolution)->math = math, OK) : BAD_PARAM;
}

/* Is it a convolution of x by w to y? */
static int outputs(int pixels, int pad, int size, int dilation, int stride)
{
    return (pixels + 2 * pad - (size - 1) * dilation - 1) / stride + 1;
}
static int fits(const object *x, const object *w, const object *y, const object *v)
{
    return is(x, TENSOR) && is(w, FILTER) && is(y, TENSOR) && is(v, CONVOLUTION) && x->set && w->set &&
           y->set && v->set && v->groups > 0 && x->n == y->n && x->c == w->c * v->groups && y->c == w->n &&
           w->n % v->groups == 0 && y->h == outputs(x->h, v->pad_h, w->h, v->dilation_h, v->stride_y) &&
           y->w == outputs(x->w, v->pad_w, w->w, v->dilation_w, v->stride_x);
}
/* The algorithms: 0 is not deterministic, 1 wants more than is allowed, 2 fails, 3 and 4 will do. */
static size_t room(int algorithm) { return algorithm == 1 ? SIZE_MAX : algorithm == 3 ? fake_room : 0; }
/* With fused multiply-adds (3) all stay with them; if TF32 (0) may be used, 3 would round to float16 (2). */
static int math_of(int algorithm) { return fake_math == 3 ? 3 : algorithm == 3 ? 2 : 0; }
static int choose(const void *handle, int fit, const object *v, int wanted, int *found, dn_cudnn_choice *list)
{
    ++fake_choices;
    if (!is(handle, HANDLE) || !fit || v->math != fake_math) return BAD_PARAM;
    if (fake_choice_status) return fake_choice_status;
    for (*found = 0; *found < wanted && *found < fake_offered; ++*found) {
        dn_cudnn_choice one = {.algorithm = *found, .workspace = room(*found), .math = math_of(*found)};
        one.determinism = *found != 0;
        one.status = *found == 2 ? 3000 : OK;
        list[*found] = one;
    }
    return OK;
}
EXPORT int cudnnGetConvolutionForwardAlgorithm_v7(void *handle, void *x, void *w, void *convolution, void *y,
                                                  int wanted, int *found, dn_cudnn_choice *list)
{
    return choose(handle, fits(x, w, y, convolution), convolution, wanted, found, list);
}
EXPORT int cudnnGetConvolutionBackwardDataAlgorithm_v7(void *handle, void *w, void *dy, void *convolution,
                                                       void *dx, int wanted, int *found,
                                                       dn_cudnn_choice *list)
{
    return choose(handle, fits(dx, w, dy, convolution), convolution, wanted, found, list);
}
EXPORT int cudnnGetConvolutionBackwardFilterAlgorithm_v7(void *handle, void *x, void *dy, void *convolution,
                                                         void *dw, int wanted, int *found,
                                                         dn_cudnn_choice *list)
{
    return choose(handle, fits(x, dw, dy, convolution), convolution, wanted, found, list);
}

static int refused(int pass, const object *handle, int fit, const object *v, const void *alpha, int algorithm,
                   void *workspace, size_t bytes)
{
    ++fake_passes[pass];
    if (!is(handle, HANDLE) || !handle->set || !fit || *(const float *)alpha != 1) return BAD_PARAM;
    if (v->math != math_of(algorithm)) return BAD_PARAM;
    if (algorithm < 3 || algorithm >= ALGORITHMS || bytes < room(algorithm)) return EXECUTION_FAILED;
    if (fake_status) return fake_status;
    if (bytes) memset(workspace, 0xFF, bytes);
    fake_last_workspace = bytes;
    return OK;
}
/* Adds up, for each value of the result of a pass, what meets there: the result's place, and those of the two
 * factors, follow from the output (b, f, i, j), the channel k of its group and the tap (u, v). */
static void convolve(int pass, const object *x, const object *w, const object *y, const object *v,
                     const float *one, const float *other, float beta, float *result, size_t values)
{
    double *sums = calloc(values, sizeof *sums);
    const int per_group = w->n / v->groups;
    for (int b = 0; b < x->n; ++b)
        for (int f = 0; f < w->n; ++f)
            for (int i = 0; i < y->h; ++i)
                for (int j = 0; j < y->w; ++j)
                    for (int k = 0; k < w->c; ++k)
                        for (int u = 0; u < w->h; ++u)
                            for (int t = 0; t < w->w; ++t) {
                                const int row = i * v->stride_y - v->pad_h + u * v->dilation_h,
                                          column = j * v->stride_x - v->pad_w + t * v->dilation_w;
                                if (row < 0 || row >= x->h || column < 0 || column >= x->w) continue;
                                const size_t at_x =
                                    (((size_t)b * x->c + f / per_group * w->c + k) * x->h + row) * x->w +
                                    column;
                                const size_t at_w = (((size_t)f * w->c + k) * w->h + u) * w->w + t;
                                const size_t at_y = (((size_t)b * y->c + f) * y->h + i) * y->w + j;
                                if (pass == 0) sums[at_y] += (double)one[at_x] * other[at_w];
                                if (pass == 1) sums[at_x] += (double)one[at_w] * other[at_y];
                                if (pass == 2) sums[at_w] += (double)one[at_x] * other[at_y];
                            }
    for (size_t i = 0; i < values; ++i)
        result[i] = (float)(sums[i] + (beta == 0 ? 0 : beta * (double)result[i]));
    free(sums);
}
static size_t size_of(const object *o) { return (size_t)o->n * o->c * o->h * o->w; }
EXPORT int cudnnConvolutionForward(void *handle, const void *alpha, void *x, const void *X, void *w,
                                   const void *W, void *convolution, int algorithm, void *workspace,
                                   size_t bytes, const void *beta, void *y, void *Y)
{
    const int failed =
        refused(0, handle, fits(x, w, y, convolution), convolution, alpha, algorithm, workspace, bytes);
    if (!failed) convolve(0, x, w, y, convolution, X, W, *(const float *)beta, Y, size_of(y));
    return failed;
}
EXPORT int cudnnConvolutionBackwardData(void *handle, const void *alpha, void *w, const void *W, void *dy,
                                        const void *DY, void *convolution, int algorithm, void *workspace,
                                        size_t bytes, const void *beta, void *dx, void *DX)
{
    const int failed =
        refused(1, handle, fits(dx, w, dy, convolution), convolution, alpha, algorithm, workspace, bytes);
    if (!failed) convolve(1, dx, w, dy, convolution, W, DY, *(const float *)beta, DX, size_of(dx));
    return failed;
}
EXPORT int cudnnConvolutionBackwardFilter(void *handle, const void *alpha, void *x, const void *X, void *dy,
                                          const void *DY, void *convolution, int algorithm, void *workspace,
                                          size_t bytes, const void *beta, void *dw, void *DW)
{
    const int failed =
        refused(2, handle, fits(x, dw, dy, convolution), convolution, alpha, algorithm, workspace, bytes);
    if (!failed) convolve(2, x, dw, dy, convolution, X, DY, *(const float *)beta, DW, size_of(dw));
    return failed;
}
