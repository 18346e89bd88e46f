/* Convolution whose filters differ from place to place, a product for each; the twins of
 * csrc/local_kernels.c. Weights are (places, n, c * size * size). The workspace is not used. */
#include "product.cuh"

/* Where tap t of the window of a place stands in the input (batch, c, h, w); NULL: outside. */
static __device__ __forceinline__ const real *tap_of(const conv_shape &s, const real *x, int image, int place,
                                                     int t)
{
    const int area = s.size * s.size, channel = t / area;
    const int row = place / s.out_w * s.stride_y - s.pad + t % area / s.size;
    const int column = place % s.out_w * s.stride_x - s.pad + t % s.size;
    const bool inside = row >= 0 && row < s.h && column >= 0 && column < s.w;
    return inside ? x + (((size_t)image * s.c + channel) * s.h + row) * s.w + column : NULL;
}
static __device__ __forceinline__ real value_at(const real *from) { return from ? *from : 0; }

/* y[b, filter, place] = weights[place] times the window. */
struct local_forward_problem {
    static constexpr bool A_ALONG_K = true, B_ALONG_K = true;
    int m, n, k, count;
    conv_shape s;
    const real *x, *w;
    real *y;
    struct row {
        const real *weights;
    };
    struct column {
        int place, image; /* image -1: beyond the batch */
    };
    __device__ row row_of(int place, int i) const { return {i < m ? w + ((size_t)place * m + i) * k : NULL}; }
    __device__ real a(const row &r, int at) const { return r.weights ? r.weights[at] : 0; }
    __device__ column column_of(int place, int j) const { return {place, j < n ? j : -1}; }
    __device__ real b(const column &c, int at) const
    {
        return c.image < 0 ? 0 : value_at(tap_of(s, x, c.image, c.place, at));
    }
    __device__ void put(int place, int i, int j, real sum) const
    {
        y[((size_t)j * m + i) * count + place] = sum;
    }
};
void local_forward_gpu(const conv_shape *s, const real *x, const real *w, real *y, real *)
{
    compute_product("local_forward", local_forward_problem{s->n, s->batch, s->c * s->size * s->size,
                                                           s->out_h * s->out_w, *s, x, w, y});
}

/* dw += the derivative at the weights: k counts images. */
struct local_weights_problem {
    static constexpr bool A_ALONG_K = false, B_ALONG_K = false;
    int m, n, k, count;
    conv_shape s;
    const real *x, *dy;
    real *dw;
    struct row {
        const real *first; /* dy of the first image */
    };
    struct column {
        int place, tap; /* tap -1: beyond the window */
    };
    __device__ row row_of(int place, int i) const { return {i < m ? dy + (size_t)i * count + place : NULL}; }
    __device__ real a(const row &r, int image) const
    {
        return r.first ? r.first[(size_t)image * m * count] : 0;
    }
    __device__ column column_of(int place, int j) const { return {place, j < n ? j : -1}; }
    __device__ real b(const column &c, int image) const
    {
        return c.tap < 0 ? 0 : value_at(tap_of(s, x, image, c.place, c.tap));
    }
    __device__ void put(int place, int i, int j, real sum) const
    {
        dw[((size_t)place * m + i) * n + j] += sum;
    }
};
void local_backward_weights_gpu(const conv_shape *s, const real *x, const real *dy, real *dw, real *)
{
    compute_product("local_backward_weights", local_weights_problem{s->n, s->c * s->size * s->size, s->batch,
                                                                    s->out_h * s->out_w, *s, x, dy, dw});
}

/* dx = or += the derivative at the input: each pixel collects from the places whose windows hold it. */
static __global__ void local_data_kernel(size_t n, conv_shape s, const real *dy, const real *w, int add,
                                         real *dx)
{
    const int area = s.size * s.size, places = s.out_h * s.out_w;
    GRID_STRIDE(at, n) {
        const int x = (int)(at % s.w) + s.pad, y = (int)(at / s.w % s.h) + s.pad,
                  c = (int)(at / s.w / s.h % s.c);
        const real *of_image = dy + at / s.w / s.h / s.c * s.n * places;
        real sum = add ? dx[at] : 0;
        for (int t = 0; t < area; ++t) {
            const int row = y - t / s.size, column = x - t % s.size;
            if (row < 0 || column < 0 || row % s.stride_y || column % s.stride_x) continue;
            if (row / s.stride_y >= s.out_h || column / s.stride_x >= s.out_w) continue;
            const size_t place = (size_t)(row / s.stride_y) * s.out_w + column / s.stride_x;
            const real *weights = w + (place * s.n * s.c + c) * area + t;
            for (int f = 0; f < s.n; ++f)
                sum += weights[(size_t)f * s.c * area] * of_image[(size_t)f * places + place];
        }
        dx[at] = sum;
    }
}
void local_backward_data_gpu(const conv_shape *s, const real *dy, const real *w, int add, real *dx, real *)
{
    const size_t n = (size_t)s->batch * s->c * s->h * s->w;
    LAUNCH(local_data_kernel, n, n, *s, dy, w, add, dx);
}
