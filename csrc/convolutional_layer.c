/* [convolutional]: filters slide over the image; then bias, normalization and activation (normalization.h).
 * Output side: (in + 2 padding - size) / stride + 1; dilation spreads the taps without changing it
 * (AlexeyAB's rule). assisted_excitation, antialiasing, coordconv: map_tail.h.
 * share_index: parameters and statistics are those of another convolution of the same form.
 * xnor, arXiv:1603.05279: sums are taken over the signs of the input and of the weights, times each filter's
 * mean |weight|. Signs have no slope: gradients pass straight through to the weights, and to inputs in (-1,
 * 1). Outside the image stands 0, and in AlexeyAB's inference, whose bits know no zero, -1. */
#include "normalization.h"
#include <math.h>

typedef struct {
    layer base;
    int n, groups, size, stride, stride_x, stride_y, dilation, pad, padding, uniform_init;
    int xnor, xnor_outside; /* outside: what inference takes for values outside the image */
    int_list share_index;   /* none, or one layer's */
    normalization norm;
    PARAMETER_FIELDS(weights, weight_updates);
    real *binary_weights, *binary_input;
    real *kept_weights; /* in the order in which inference reads them */
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
static dn_shape shape_binary_weights(const layer *l)
{
    SELF(l);
    return self->xnor ? shape_weights(l) : (dn_shape){0};
}
/* With the padding, where that may be other than zero. */
static dn_shape shape_binary_input(const layer *l)
{
    SELF(l);
    const int border = self->xnor_outside ? 2 * self->padding * self->dilation : 0;
    return self->xnor ? dn_dims(4, l->batch, l->c, l->h + border, l->w + border) : (dn_shape){0};
}
static dn_shape shape_kept_weights(const layer *l);
static const array_spec convolutional_rows[] = {
    NORMALIZATION_BIASES(convolutional_layer, norm),
    NORMALIZATION_SCALES(convolutional_layer, norm),
    NORMALIZATION_INNER_BIASES(convolutional_layer, norm),
    PARAMETER(convolutional_layer, , weights, weight_updates, shape_weights, DECAYS),
    NORMALIZATION_WORK(convolutional_layer, norm),
    MAP_TAIL_ROWS(convolutional_layer, norm.tail, shape_map),
    ARRAY(convolutional_layer, binary_weights, "binary_weights", shape_binary_weights, ACTIVATION, 0),
    ARRAY(convolutional_layer, binary_input, "binary_input", shape_binary_input, ACTIVATION, 0),
    EXCITED_ROW(convolutional_layer, norm.tail, shape_of_excited),
    ARRAY(convolutional_layer, kept_weights, "kept_weights", shape_kept_weights, KEPT, 0),
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
    OPTION(convolutional_layer, "antialiasing", norm.tail.antialiasing, INT),
    OPTION(convolutional_layer, "assisted_excitation", norm.tail.assisted_excitation, INT),
    OPTION(convolutional_layer, "coordconv", norm.tail.coordconv, INT),
    OPTION(convolutional_layer, "xnor", xnor, INT),
    OPTION(convolutional_layer, "xnor_outside", xnor_outside, INT),
    OPTION(convolutional_layer, "share_index", share_index, LIST),
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
    if (status == DN_OK && self->xnor_outside) {
        status = dn_option_in(l, "padding", (double)self->padding * self->dilation, 0, 32767);
    }
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
/* Finds the layer whose parameters this one takes; it must have arrays of the same shapes. */
static dn_status find_lender(layer *l, const network *net)
{
    SELF(l);
    l->lender = NULL;
    if (!self->share_index.n) return DN_OK;
    const int index = self->share_index.values[0], above = l->index >= 0 ? l->index : net ? net->n : 0;
    if (index < 0 || index >= above || net->layers[index]->type != CONVOLUTIONAL) {
        return dn_fail_option("share_index", "[convolutional] layer %d is no convolution before this one",
                              index);
    }
    layer *from = net->layers[index];
    const convolutional_layer *other = (const convolutional_layer *)from;
    if (other->n != self->n || other->size != self->size || from->c != l->c ||
        other->groups != self->groups || other->norm.kind != self->norm.kind ||
        other->norm.after != self->norm.after) {
        return dn_fail_option(
            "share_index",
            "[convolutional] layer %d has %d filters of %dx%dx%d in %d groups, this one %d of "
            "%dx%dx%d in %d: wanted the same, and the same normalization",
            index, other->n, from->c, other->size, other->size, other->groups, self->n, l->c, self->size,
            self->size, self->groups);
    }
    l->lender = from->lender ? from->lender : from;
    return DN_OK;
}
static dn_status convolutional_shape(layer *l, network *net)
{
    convolutional_layer *self = (convolutional_layer *)l;
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
    if (status == DN_OK) status = normalization_check(l, &self->norm);
    return status == DN_OK ? find_lender(l, net) : status;
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
                        /* Plain sums of signs are exact. */
                        .algorithm = self->xnor ? CONVOLUTION_GEMM : dn_convolution(l)};
}
/* Weights change from pass to pass in training, and signs are taken anew. */
static dn_shape shape_kept_weights(const layer *l)
{
    SELF(l);
    const conv_shape s = shape_of(l);
    const size_t values =
        l->train || self->xnor || !l->outputs || !dn_is_host(l->device) ? 0 : convolution_kept_values(&s);
    return values && values <= INT32_MAX ? dn_dims(1, (int)values, 0, 0, 0) : (dn_shape){0};
}
/* The same convolution of an image that has its padding in it. */
static conv_shape padded(conv_shape s)
{
    s.h += 2 * s.pad;
    s.w += 2 * s.pad;
    s.pad = 0;
    return s;
}
static size_t larger(size_t a, size_t b) { return a > b ? a : b; }
static size_t convolutional_workspace(const layer *l)
{
    SELF(l);
    const conv_shape s = shape_of(l), p = padded(s);
    conv_shape kept = s;
    kept.kept = shape_kept_weights(l).dims > 0;
    const size_t normalization = normalization_workspace(l, &self->norm);
    const size_t passes = larger(dn_convolution_workspace(l, &s), dn_convolution_workspace(l, &kept));
    const size_t needed = larger(normalization, passes);
    return self->xnor_outside ? larger(needed, dn_convolution_workspace(l, &p)) : needed;
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

/* xnor: fills binary_weights and binary_input, and fits the shape to these. */
static void binarize_both(const layer *l, const network *net, conv_shape *s)
{
    SELF(l);
    const int border = self->xnor_outside && !net->train ? s->pad : 0;
    net->k->binarize_weights(self->weights, self->n, s->c / s->groups * s->size * s->size,
                             self->binary_weights);
    net->k->binarize(net->input, l->batch * l->c, l->h, l->w, border, (real)self->xnor_outside,
                     self->binary_input);
    if (border) *s = padded(*s);
}
/* The weights for a forward pass: those that are kept, where nobody else can have written to them. They are
 * for passes without statistics. */
static const real *current_weights(layer *l, const network *net, const conv_epilogue *ep, conv_shape *s)
{
    SELF(l);
    if (self->xnor) return self->binary_weights;
    if (!self->kept_weights || !shape_kept_weights(l).dims || ep->mean || net->k != cpu_kernels())
        return self->weights;
    const dn_kept kept = dn_ask_kept(l, dn_simd() * CONVOLUTION_ALGORITHMS + s->algorithm);
    if (kept == DN_MAKE) convolution_keep_weights(s, self->weights, self->kept_weights);
    s->kept = kept != DN_LEAVE;
    return s->kept ? self->kept_weights : self->weights;
}
static dn_status convolutional_forward(layer *l, network *net)
{
    SELF(l);
    conv_shape s = shape_of(l);
    const conv_epilogue epilogue = normalization_epilogue(l, net, &self->norm);
    real *sums = epilogue.pool ? l->pool->output : normalization_sums(l, &self->norm);
    const size_t values = sums ? 0 : (size_t)l->batch * l->outputs, work = convolutional_workspace(l);
    real *workspace = dn_workspace(net, work > SIZE_MAX - values ? SIZE_MAX : work + values);
    if (!workspace) return DN_ERR_MEMORY;
    if (!sums) sums = workspace + work; /* of a pool: all values for once, for their statistics */
    if (self->xnor) binarize_both(l, net, &s);
    const real *weights = current_weights(l, net, &epilogue, &s);
    net->k->convolution_forward(&s, self->xnor ? self->binary_input : net->input, weights, &epilogue, sums,
                                workspace);
    const dn_status status = normalization_forward(l, net, &self->norm, sums, &epilogue);
    if (status == DN_OK && has_tail(&self->norm.tail)) tail_forward(l, net, &self->norm.tail);
    return status;
}
/* The delta at the signs of the input, in the memory of those; then at the input, where |input| < 1. */
static void xnor_backward_data(const layer *l, network *net, const conv_shape *s, const real *delta,
                               delta_sink sink, real *workspace)
{
    SELF(l);
    const int count = l->batch * l->inputs;
    net->k->convolution_backward_data(s, delta, self->binary_weights, 0, self->binary_input, workspace);
    net->k->gradient_array(net->input, count, HARDTAN, self->binary_input);
    net->k->pass_delta(count, 1, self->binary_input, sink.add, sink.to);
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
    if (self->xnor) net->k->binarize(net->input, l->batch * l->c, l->h, l->w, 0, 0, self->binary_input);
    net->k->convolution_backward_weights(&s, self->xnor ? self->binary_input : net->input, delta,
                                         self->weight_updates, workspace);
    const delta_sink sink = input_sink(net);
    if (sink.to && self->xnor)
        xnor_backward_data(l, net, &s, delta, sink, workspace);
    else if (sink.to)
        net->k->convolution_backward_data(&s, delta, self->weights, sink.add, sink.to, workspace);
    return DN_OK;
}
static int convolutional_reads(const layer *l)
{
    return READS_INPUT | normalization_reads(l, &((const convolutional_layer *)l)->norm);
}
static int is_of_squares(const pool_shape *s)
{
    return s->size == 2 && s->stride_x == 2 && s->stride_y == 2 && !s->offset;
}
static int convolutional_takes_pool(const layer *l, const pool_shape *windows)
{
    SELF(l);
    const conv_shape s = shape_of(l);
    return normalization_takes_pool(l, &self->norm, windows) &&
           (l->train || (is_of_squares(windows) && !self->xnor && convolution_takes_pool(&s)));
}

const layer_ops convolutional_ops = {
    .name = "convolutional",
    .size = sizeof(convolutional_layer),
    .options = convolutional_options,
    .arrays = convolutional_rows,
    .shape = convolutional_shape,
    .forward = convolutional_forward,
    .backward = convolutional_backward,
    .backward_reads = convolutional_reads,
    .takes_pool = convolutional_takes_pool,
    .initialize = convolutional_initialize,
    .workspace = convolutional_workspace,
    .flops = convolutional_flops,
    .normalization = offsetof(convolutional_layer, norm),
};
