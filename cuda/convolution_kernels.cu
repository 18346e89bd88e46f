/* Convolution passes as products of matrices (product.cuh); the twins of csrc/convolution_kernels.c. What is
 * not in memory as a matrix is read where it stands:
 *     forward    y  (filters, places of all images)  = weights (filters, window) x windows
 *     data       dx (channels, pixels of all images) = weights (channels, filters x window) x the dy they met
 *     weights    dw (filters, window)                = dy (filters, places of all images) x windows
 * for each group; or by cuDNN, where it is used. The workspace is not. */
#include "activations.cuh"
#include "libraries.cuh"
#include "tensor_cores.cuh"

struct conv_sizes {
    conv_shape s;
    int filters, channels, area, places, pixels; /* of a group; of a filter; of an output and an input map */
    divider by_area, by_size, by_places, by_out_w, by_pixels, by_w, by_stride_y, by_stride_x;
    conv_sizes() = default;
    conv_sizes(const conv_shape *shape)
        : s(*shape), filters(s.n / s.groups), channels(s.c / s.groups), area(s.size * s.size),
          places(s.out_h * s.out_w), pixels(s.h * s.w), by_area(area), by_size(s.size), by_places(places),
          by_out_w(s.out_w), by_pixels(pixels), by_w(s.w), by_stride_y(s.stride_y), by_stride_x(s.stride_x)
    {
    }
    span weights(const real *w) const { return {w, 1, (size_t)s.n * channels * area, 0}; }
    span inputs(const real *x) const { return {x, 1, (size_t)s.batch * s.c * pixels, 0}; }
    span outputs(const real *y) const { return {y, 1, (size_t)s.batch * s.n * places, 0}; }
    /* Where tap r of a window whose first tap stands at (y, x) of a map stands in it; -1: outside. */
    __device__ int tap_at(int r, int y, int x) const
    {
        const divided tap = divide(r, by_size);
        const int row = y + tap.quotient * s.dilation, column = x + tap.rest * s.dilation;
        return row >= 0 && row < s.h && column >= 0 && column < s.w ? row * s.w + column : -1;
    }
};
/* A place among those of all images: its window's first tap. */
struct conv_place {
    int image, place, y, x;
};
static __device__ __forceinline__ conv_place place_of(const conv_sizes &z, int j)
{
    const divided image = divide(j, z.by_places), at = divide(image.rest, z.by_out_w);
    return {image.quotient, image.rest, at.quotient * z.s.stride_y - z.s.pad,
            at.rest * z.s.stride_x - z.s.pad};
}

/* ---- forward */

static __device__ __forceinline__ real finished(const conv_epilogue &ep, int f, real sum)
{
    if (ep.scale) sum *= ep.scale[f];
    if (ep.shift) sum += ep.shift[f];
    return activate(sum, ep.activation);
}
/* What a library has left out. */
static __global__ void epilogue_kernel(size_t values, conv_epilogue ep, int filters, int places, real *y)
{
    GRID_STRIDE(i, values) y[i] = finished(ep, (int)(i / places % filters), y[i]);
}
static void finish(const conv_shape *s, const conv_epilogue &ep, int places, real *y)
{
    const size_t values = (size_t)s->batch * s->n * places;
    if (ep.scale || ep.shift || ep.activation != LINEAR)
        LAUNCH(epilogue_kernel, values, values, ep, s->n, places, y);
}

struct forward_problem {
    static constexpr bool A_ALONG_K = true, B_ALONG_K = false;
    int m, n, k, count;
    conv_sizes z;
    const real *x, *w;
    conv_epilogue ep;
    real *y;
    span span_a() const { return z.weights(w); }
    span span_b() const { return z.inputs(x); }
    struct row {
        const real *weights; /* NULL: beyond the filters */
    };
    struct column {
        const real *map; /* the group's first channel of the image; NULL: beyond the images */
        int y, x;
    };
    __device__ row row_of(int g, int i) const { return {i < m ? w + ((size_t)g * m + i) * k : NULL}; }
    __device__ real a(const row &r, int at) const { return r.weights ? r.weights[at] : 0; }
    __device__ column column_of(int g, int j) const
    {
        if (j >= n) return {NULL, 0, 0};
        const conv_place p = place_of(z, j);
        return {x + ((size_t)p.image * z.s.c + (size_t)g * z.channels) * z.pixels, p.y, p.x};
    }
    __device__ real b(const column &c, int at) const
    {
        const divided channel = divide(at, z.by_area);
        const int tap = c.map ? z.tap_at(channel.rest, c.y, c.x) : -1;
        return tap < 0 ? 0 : c.map[(size_t)channel.quotient * z.pixels + tap];
    }
    __device__ void put(int g, int i, int j, real sum) const
    {
        const divided image = divide(j, z.by_places);
        const int f = g * m + i;
        y[((size_t)image.quotient * z.s.n + f) * z.places + image.rest] = finished(ep, f, sum);
    }
};
/* Places are counted with ints. */
static bool too_large(const conv_shape *s)
{
    const size_t most = ((size_t)1 << 31) - LARGE;
    const bool large =
        (size_t)s->batch * s->out_h * s->out_w >= most || (size_t)s->batch * s->h * s->w >= most;
    if (large) refuse("convolution: a mini-batch of more than 2^31 places");
    return large;
}
void convolution_forward_gpu(const conv_shape *s, const real *x, const real *w, const conv_epilogue *ep,
                             real *y, real *)
{
    const conv_sizes z(s);
    if (too_large(s)) return;
    const conv_epilogue all = ep ? *ep : conv_epilogue{};
    if (cudnn_computes(CONV_FORWARD, s, x, w, 0, y))
        finish(s, all, z.places, y);
    else
        compute_in_precision(
            "convolution_forward",
            forward_problem{z.filters, s->batch * z.places, z.channels * z.area, s->groups, z, x, w, all, y});
    if (ep && ep->mean) {
        batchnorm_arrays statistics = {};
        statistics.mean = ep->mean, statistics.mean_rest = ep->mean_rest, statistics.variance = ep->variance;
        batchnorm_statistics_gpu(y, s->batch, s->n, z.places, &statistics);
    }
}

/* ---- the gradient at the input: of pixel (y, x) through tap (ky, kx) by the output at ((y + pad - ky
 * dilation) / stride_y, ...), where both divide without rest */

struct data_problem {
    static constexpr bool A_ALONG_K = true, B_ALONG_K = false;
    int m, n, k, count;
    conv_sizes z;
    const real *dy, *w;
    int add;
    real *dx;
    span span_a() const { return z.weights(w); }
    span span_b() const { return z.outputs(dy); }
    struct row {
        const real *weights; /* the group's first filter, channel i */
    };
    struct column {
        const real *map; /* the group's first filter of the image */
        int y, x;
    };
    __device__ row row_of(int g, int i) const
    {
        return {i < m ? w + ((size_t)g * z.filters * m + i) * z.area : NULL};
    }
    __device__ real a(const row &r, int at) const
    {
        const divided filter = divide(at, z.by_area);
        return r.weights ? r.weights[(size_t)filter.quotient * m * z.area + filter.rest] : 0;
    }
    __device__ column column_of(int g, int j) const
    {
        if (j >= n) return {NULL, 0, 0};
        const divided image = divide(j, z.by_pixels), at = divide(image.rest, z.by_w);
        return {dy + ((size_t)image.quotient * z.s.n + (size_t)g * z.filters) * z.places,
                at.quotient + z.s.pad, at.rest + z.s.pad};
    }
    __device__ real b(const column &c, int at) const
    {
        const divided filter = divide(at, z.by_area), tap = divide(filter.rest, z.by_size);
        const int y = c.y - tap.quotient * z.s.dilation, x = c.x - tap.rest * z.s.dilation;
        if (!c.map || y < 0 || x < 0) return 0;
        const divided row = divide(y, z.by_stride_y), column = divide(x, z.by_stride_x);
        const bool met = !row.rest && !column.rest && row.quotient < z.s.out_h && column.quotient < z.s.out_w;
        return met ? c.map[(size_t)filter.quotient * z.places + row.quotient * z.s.out_w + column.quotient]
                   : 0;
    }
    __device__ void put(int g, int i, int j, real sum) const
    {
        const divided image = divide(j, z.by_pixels);
        ::put(dx + ((size_t)image.quotient * z.s.c + g * m + i) * z.pixels + image.rest, add, sum);
    }
};
void convolution_backward_data_gpu(const conv_shape *s, const real *dy, const real *w, int add, real *dx,
                                   real *)
{
    const conv_sizes z(s);
    if (too_large(s) || cudnn_computes(CONV_DATA, s, w, dy, add ? 1 : 0, dx)) return;
    compute_in_precision(
        "convolution_backward_data",
        data_problem{z.channels, s->batch * z.pixels, z.filters * z.area, s->groups, z, dy, w, add, dx});
}

/* ---- the gradient at the weights, which is added */

struct weights_problem {
    static constexpr bool A_ALONG_K = true, B_ALONG_K = true;
    int m, n, k, count;
    conv_sizes z;
    const real *x, *dy;
    real *dw;
    span span_a() const { return z.outputs(dy); }
    span span_b() const { return z.inputs(x); }
    struct row {
        const real *map; /* dy of filter i of the first image */
    };
    struct column {
        const real *map; /* x of the channel of the first image */
        int y, x;        /* the tap's distance from the window's first */
    };
    __device__ row row_of(int g, int i) const { return {i < m ? dy + ((size_t)g * m + i) * z.places : NULL}; }
    __device__ real a(const row &r, int at) const
    {
        const divided image = divide(at, z.by_places);
        return r.map ? r.map[(size_t)image.quotient * z.s.n * z.places + image.rest] : 0;
    }
    __device__ column column_of(int g, int j) const
    {
        if (j >= n) return {NULL, 0, 0};
        const divided channel = divide(j, z.by_area), tap = divide(channel.rest, z.by_size);
        return {x + ((size_t)g * z.channels + channel.quotient) * z.pixels, tap.quotient * z.s.dilation,
                tap.rest * z.s.dilation};
    }
    __device__ real b(const column &c, int at) const
    {
        const conv_place p = place_of(z, at);
        const int row = p.y + c.y, column = p.x + c.x;
        const bool inside = c.map && row >= 0 && row < z.s.h && column >= 0 && column < z.s.w;
        return inside ? c.map[(size_t)p.image * z.s.c * z.pixels + row * z.s.w + column] : 0;
    }
    __device__ void put(int g, int i, int j, real sum) const { dw[((size_t)g * m + i) * n + j] += sum; }
};
void convolution_backward_weights_gpu(const conv_shape *s, const real *x, const real *dy, real *dw, real *)
{
    const conv_sizes z(s);
    if (too_large(s) || cudnn_computes(CONV_WEIGHTS, s, x, dy, 1, dw)) return;
    compute_in_precision(
        "convolution_backward_weights",
        weights_problem{z.filters, z.channels * z.area, s->batch * z.places, s->groups, z, x, dy, dw});
}
