/* [convolutional]: filters slide over the image; then bias, normalization and activation (normalization.h).
 * Output side: (in + 2 padding - size) / stride + 1; dilation spreads the taps without changing it
 * (AlexeyAB's rule). assisted_excitation, antialiasing, coordconv:
 * map_tail.h. */
#include "normalization.h"
#include <math.h>

typedef struct {
    layer base;
    int n, groups, size, stride, stride_x, stride_y, dilation, pad, padding, uniform_init,
        algorithm;
    normalization norm;
    PARAMETER_FIELDS(weights, weight_updates);
} convolutional_layer;
#define SELF(l) const convolutional_layer *self = (const convolutional_layer *)(l)

/* ---- arrays, in .weights order: biases, scales, rolling mean, rolling variance, inner biases, weights */
static dn_shape shape_weights(const layer *l)
{
    SELF(l);
    return dn_dims(4, self->n, l->c / self->groups, self->size, self->size);
}
static dn_shape shape_map(const layer *l)
{
    return shape_tail(l, &((const convolutional_layer *)l)->norm.tail);
}
static dn_shape shape_of_excited(const layer *l)
{
    return shape_excited(l, &((const convolutional_layer *)l)->norm.tail);
}
static const array_spec convolutional_rows[] = {
    NORMALIZATION_BIASES(convolutional_layer, norm),
    NORMALIZATION_SCALES(convolutional_layer, norm),
    NORMALIZATION_INNER_BIASES(convolutional_layer, norm),
    PARAMETER(convolutional_layer, , weights, weight_updates, shape_weights, DECAYS),
    NORMALIZATION_WORK(convolutional_layer, norm),
    MAP_TAIL_ROWS(convolutional_layer, norm.tail, shape_map),
    EXCITED_ROW(convolutional_layer, norm.tail, shape_of_excited),
    END_OF_ARRAYS,
};
static const option_spec convolutional_options[] = {
    OPTION(convolutional_layer, "filters", n, INT),
    OPTION(convolutional_layer, "groups", groups, INT),
    OPTION(convolutional_layer, "size", size, INT),
    OPTION(convolutional_layer, "stride", stride, INT),
    OPTION(convolutional_layer, "stride_x", stride_x, INT),
    OPTION(convolutional_layer, "stride_y", stride_y, INT),
    OPTION(convolutional_layer, "dilation", dilation, INT),
    OPTION(convolutional_layer, "pad", pad, INT),
    OPTION(convolutional_layer, "padding", padding, INT),
    OPTION(convolutional_layer, "uniform_init", uniform_init, INT),
    OPTION(convolutional_layer, "convolution", algorithm, INT),
    OPTION(convolutional_layer, "antialiasing", norm.tail.antialiasing, INT),
    OPTION(convolutional_layer, "assisted_excitation", norm.tail.assisted_excitation, INT),
    OPTION(convolutional_layer, "coordconv", norm.tail.coordconv, INT),
    NORMALIZATION_OPTIONS(convolutional_layer, norm),
    END_OF_OPTIONS,
};

/* ---- make */
static dn_status check_options(const layer *l, const convolutional_layer *self)
{
    dn_status status = dn_require_image(l);
    if (status == DN_OK) status = dn_option_in(l, "filters", self->n, 1, INFINITY);
    if (status == DN_OK) status = dn_option_in(l, "size", self->size, 1, 32767);
    if (status == DN_OK) status = dn_option_in(l, "stride_x", self->stride_x, 1, INFINITY);
    if (status == DN_OK) status = dn_option_in(l, "stride_y", self->stride_y, 1, INFINITY);
    if (status == DN_OK) status = dn_option_in(l, "dilation", self->dilation, 1, 32767);
    if (status == DN_OK) status = dn_option_in(l, "padding", self->padding, 0, 32767);
    if (status == DN_OK) status = dn_option_in(l, "groups", self->groups, 1, INFINITY);
    if (status == DN_OK)
        status = dn_option_in(l, "convolution", self->algorithm, 0, CONVOLUTION_ALGORITHMS - 1);
    if (status != DN_OK) return status;
    if (l->c % self->groups || self->n % self->groups) {
        return dn_fail_option(
            "groups",
            "[convolutional] groups=%d: wanted a divisor of the %d input channels and of filters=%d",
            self->groups, l->c, self->n);
    }
    return DN_OK;
}
/* The blur takes over the stride. */
static int step(const convolutional_layer *self, int stride)
{
    return self->norm.tail.antialiasing ? 1 : stride;
}
static dn_status convolutional_shape(layer *l, network *net)
{
    convolutional_layer *self = (convolutional_layer *)l;
    (void)net;
    if (self->stride_x < 1) self->stride_x = self->stride;
    if (self->stride_y < 1) self->stride_y = self->stride;
    if (self->size == 1 || self->dilation == 0) self->dilation = 1;
    if (self->groups == 0) self->groups = 1;
    if (self->pad) self->padding = self->size / 2;
    dn_status status = check_options(l, self);
    if (status != DN_OK) return status;
    const int64_t h = (int64_t)l->h + 2 * self->padding, w = (int64_t)l->w + 2 * self->padding;
    if (h < self->size || w < self->size) {
        return dn_fail_option("size",
                              "[convolutional] size=%d: wanted at most the image with its padding, %lldx%lld",
                              self->size, (long long)h, (long long)w);
    }
    const int64_t weights = (int64_t)self->n * (l->c / self->groups);
    if (weights > INT32_MAX / ((int64_t)self->size * self->size)) {
        return dn_fail_option("filters",
                              "[convolutional] filters=%d of %dx%dx%d: more than 2147483647 weights", self->n,
                              l->c / self->groups, self->size, self->size);
    }
    status = tail_shape(l, &self->norm.tail, (h - self->size) / step(self, self->stride_y) + 1,
                        (w - self->size) / step(self, self->stride_x) + 1, self->n, self->stride_x,
                        self->stride_y);
    return status == DN_OK ? normalization_check(l, &self->norm) : status;
}
/* The errors of 6x6 tiles are for inference only. */
static convolution_algorithm algorithm_of(const layer *l)
{
    SELF(l);
    return l->train && self->algorithm == CONVOLUTION_WINOGRAD6 ? CONVOLUTION_WINOGRAD4 : self->algorithm;
}
static conv_shape shape_of(const layer *l)
{
    SELF(l);
    return (conv_shape){.batch = l->batch,
                        .c = l->c,
                        .h = l->h,
                        .w = l->w,
                        .n = self->n,
                        .groups = self->groups,
                        .size = self->size,
                        .stride_x = step(self, self->stride_x),
                        .stride_y = step(self, self->stride_y),
                        .dilation = self->dilation,
                        .pad = self->padding * self->dilation,
                        .out_h = self->norm.tail.h,
                        .out_w = self->norm.tail.w,
                        .algorithm = algorithm_of(l)};
}
static size_t convolutional_workspace(const layer *l)
{
    SELF(l);
    const conv_shape s = shape_of(l);
    const size_t convolution = convolution_workspace(&s, dn_num_threads()),
                 normalization = normalization_workspace(l, &self->norm);
    return normalization > convolution ? normalization : convolution;
}
static double convolutional_flops(const layer *l)
{
    SELF(l);
    return 2.0 * self->n * self->size * self->size * (l->c / self->groups) * self->norm.tail.h *
           self->norm.tail.w;
}
/* He's scale, sqrt(2 / fan-in): times N(0, 1) in pjreddie's dialect, U(-1, 1) in AlexeyAB's. */
static void convolutional_initialize(layer *l, uint64_t seed)
{
    SELF(l);
    const int fan_in = self->size * self->size * (l->c / self->groups);
    dn_fill_random(self->weights, self->n * fan_in, (real)sqrt(2.0 / fan_in), self->uniform_init, seed,
                   l->index);
}

/* ---- forward and backward */
static dn_status convolutional_forward(layer *l, network *net)
{
    SELF(l);
    const conv_shape s = shape_of(l);
    real *workspace = dn_workspace(net, convolutional_workspace(l));
    if (!workspace) return DN_ERR_MEMORY;
    const conv_epilogue epilogue = normalization_epilogue(l, net, &self->norm);
    net->k->convolution_forward(&s, net->input, self->weights, &epilogue, normalization_sums(l, &self->norm),
                                workspace);
    const dn_status status = normalization_forward(l, net, &self->norm, &epilogue);
    if (status == DN_OK && has_tail(&self->norm.tail)) tail_forward(l, net, &self->norm.tail);
    return status;
}
static dn_status convolutional_backward(layer *l, network *net)
{
    SELF(l);
    const conv_shape s = shape_of(l);
    real *workspace = dn_workspace(net, convolutional_workspace(l));
    if (!workspace) return DN_ERR_MEMORY;
    const map_tail *tail = &self->norm.tail;
    const real *delta = has_tail(tail) ? tail->map_delta : l->delta; /* at the sums */
    if (has_tail(tail)) tail_backward(l, net->k, tail);
    const dn_status status = normalization_backward(l, net, &self->norm);
    if (status != DN_OK) return status;
    net->k->convolution_backward_weights(&s, net->input, delta, self->weight_updates, workspace);
    const delta_sink sink = input_sink(net);
    if (sink.to) net->k->convolution_backward_data(&s, delta, self->weights, sink.add, sink.to, workspace);
    return DN_OK;
}

const layer_ops convolutional_ops = {
    .name = "convolutional",
    .size = sizeof(convolutional_layer),
    .options = convolutional_options,
    .arrays = convolutional_rows,
    .shape = convolutional_shape,
    .forward = convolutional_forward,
    .backward = convolutional_backward,
    .initialize = convolutional_initialize,
    .workspace = convolutional_workspace,
    .flops = convolutional_flops,
    .normalization = offsetof(convolutional_layer, norm),
};
