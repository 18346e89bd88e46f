/* Windows of a pooling or a blur: which inputs an output sees, and which outputs see an input. */
#ifndef DN_WINDOWS_CUH
#define DN_WINDOWS_CUH
#include "kernels.cuh"

static inline size_t inputs_of(const pool_shape *s) { return (size_t)s->batch * s->c * s->h * s->w; }
static inline size_t outputs_of(const pool_shape *s) { return (size_t)s->batch * s->c * s->out_h * s->out_w; }

/* Rows y0..y1 and columns x0..x1 of a plane that begins at `plane` of the array. */
struct window {
    int y0, y1, x0, x1;
    size_t plane;
};
/* The inputs that output o of all sees, within the map. */
static __device__ __forceinline__ window window_of(const pool_shape &s, size_t o)
{
    const int y = (int)(o / s.out_w % s.out_h) * s.stride_y - s.offset,
              x = (int)(o % s.out_w) * s.stride_x - s.offset;
    const int y1 = y + s.size, x1 = x + s.size;
    return {y > 0 ? y : 0, y1 < s.h ? y1 : s.h, x > 0 ? x : 0, x1 < s.w ? x1 : s.w,
            o / s.out_w / s.out_h * s.h * s.w};
}

/* The first output whose window ends behind `at`, counted from the first window's beginning. */
static __device__ __forceinline__ int first_window(int at, int size, int stride)
{
    return at < size ? 0 : (at - size) / stride + 1;
}
static __device__ __forceinline__ int end_of_windows(int at, int stride, int outputs)
{
    return at / stride + 1 < outputs ? at / stride + 1 : outputs;
}
typedef window windows;
/* The outputs that see input i of all. */
static __device__ __forceinline__ windows windows_of(const pool_shape &s, size_t i)
{
    const int y = (int)(i / s.w % s.h) + s.offset, x = (int)(i % s.w) + s.offset;
    return {first_window(y, s.size, s.stride_y), end_of_windows(y, s.stride_y, s.out_h),
            first_window(x, s.size, s.stride_x), end_of_windows(x, s.stride_x, s.out_w),
            i / s.w / s.h * s.out_h * s.out_w};
}
#endif
