/* [shortcut]: adds earlier outputs to the layer's input, then the activation. Where shapes differ:
 *   overlap (pjreddie)   one source; out = alpha input + beta source where both have an element, sources of
 *                        other map sizes being sampled or spread by the whole-number ratio of the sides;
 *                        elsewhere the input as it is
 *   prefix (AlexeyAB)    one or several sources; the first values of each row, as many as both have, are
 *                        added: alpha input + beta (sum of the sources)
 * With weights_type (AlexeyAB) the sum has learned weights in place of alpha and beta, one per summed layer
 * (per_feature) or one per summed layer and channel: weights (1 + sources, 1 or channels), the input's first,
 * as weights_normalization makes them add up (mix_weights_cpu). */
#include "layer.h"

typedef struct {
    layer base;
    int_list from;
    int activation, prefix, weights_type, weights_normalization;
    real alpha, beta;
    real *activation_input, *mixed, *mixed_delta; /* the weights as normalized */
    PARAMETER_FIELDS(weights, weight_updates);
} shortcut_layer;
#define SELF(l) shortcut_layer *self = (shortcut_layer *)(l)
enum { UNWEIGHTED, PER_FEATURE, PER_CHANNEL };

static dn_shape shape_activation_input(const layer *l)
{
    return dn_shape_before_activation(l, ((const shortcut_layer *)l)->activation);
}
/* Weights of one summed layer. */
static int weights_each(const layer *l)
{
    const int type = ((const shortcut_layer *)l)->weights_type;
    return type == PER_CHANNEL ? l->out_c : type == PER_FEATURE;
}
static dn_shape shape_weights(const layer *l)
{
    const int each = weights_each(l);
    return dn_dims(each ? 2 : 0, 1 + ((const shortcut_layer *)l)->from.n, each, 0, 0);
}
static const array_spec shortcut_rows[] = {
    PARAMETER(shortcut_layer, , weights, weight_updates, shape_weights, DECAYS),
    ARRAY(shortcut_layer, mixed, "mixed", shape_weights, ACTIVATION, 0),
    ARRAY(shortcut_layer, mixed_delta, "mixed_delta", shape_weights, ACTIVATION, TRAIN_ONLY),
    ARRAY(shortcut_layer, activation_input, "activation_input", shape_activation_input, ACTIVATION,
          TRAIN_ONLY),
    END_OF_ARRAYS,
};
static const option_spec shortcut_options[] = {
    OPTION(shortcut_layer, "from", from, LIST),
    OPTION(shortcut_layer, "prefix", prefix, INT),
    OPTION(shortcut_layer, "activation", activation, INT),
    OPTION(shortcut_layer, "alpha", alpha, REAL),
    OPTION(shortcut_layer, "beta", beta, REAL),
    OPTION(shortcut_layer, "weights_type", weights_type, INT),
    OPTION(shortcut_layer, "weights_normalization", weights_normalization, INT),
    END_OF_OPTIONS,
};

static overlap_shape overlap_of(const layer *l, const layer *from)
{
    return (overlap_shape){.batch = l->batch, .w1 = from->out_w, .h1 = from->out_h, .c1 = from->out_c,
                           .w2 = l->out_w, .h2 = l->out_h, .c2 = l->out_c};
}
static int whole_ratio(int a, int b) { return a / b > 0 ? a / b : 1; }
static dn_status check_overlap(const layer *l, const layer *from)
{
    if (from->out_h < 1) return dn_fail_option("from", "[shortcut] layer %d has no image", from->index);
    if (whole_ratio(from->out_w, l->w) == whole_ratio(from->out_h, l->h) &&
        whole_ratio(l->w, from->out_w) == whole_ratio(l->h, from->out_h)) {
        return DN_OK;
    }
    return dn_fail_option(
        "from", "[shortcut] maps of %dx%d (layer %d) and %dx%d: wanted the same ratio of widths and heights",
        from->out_w, from->out_h, from->index, l->w, l->h);
}
static dn_status shortcut_shape(layer *l, network *net)
{
    SELF(l);
    const int above = l->index >= 0 ? l->index : net ? net->n : 0;
    dn_status status = dn_require_image(l);
    if (status == DN_OK) status = dn_option_in(l, "activation", self->activation, 0, ACTIVATIONS - 1);
    if (status != DN_OK) return status;
    status = dn_option_in(l, "weights_type", self->weights_type, UNWEIGHTED, PER_CHANNEL);
    const int kind = self->weights_normalization;
    if (status == DN_OK) status = dn_option_in(l, "weights_normalization", kind, 0, MIX_NORMALIZATIONS - 1);
    if (status != DN_OK) return status;
    if (self->weights_type && !self->prefix) {
        return dn_fail_option("weights_type", "[shortcut] weights_type: wanted the rule of dialect=alexeyab");
    }
    if (self->from.n < 1 || (self->from.n > 1 && !self->prefix)) {
        return dn_fail_option("from", "[shortcut] from: %d layers, wanted %s", self->from.n,
                              self->prefix ? "at least one" : "one");
    }
    for (int i = 0; i < self->from.n; ++i) {
        const int index = self->from.values[i];
        if (index < 0 || index >= above) {
            return dn_fail_option("from", "[shortcut] layer %d: wanted 0 to %d", index, above - 1);
        }
        const layer *from = net->layers[index];
        if (!self->prefix) status = check_overlap(l, from);
        else if (self->from.n > 1 && (from->out_w != l->w || from->out_h != l->h)) {
            status = dn_fail_option(
                "from", "[shortcut] layer %d has maps of %dx%d: wanted %dx%d, since several are added", index,
                from->out_w, from->out_h, l->w, l->h);
        }
        if (status != DN_OK) return status;
    }
    return dn_set_output(l, l->h, l->w, l->c);
}
static double shortcut_flops(const layer *l)
{
    const shortcut_layer *self = (const shortcut_layer *)l;
    return (double)l->outputs * self->from.n * (self->weights_type ? 2 : 1);
}
static void shortcut_initialize(layer *l, uint64_t seed)
{
    SELF(l);
    (void)seed;
    for (int i = 0; self->weights && i < (1 + self->from.n) * weights_each(l); ++i) self->weights[i] = 1;
}

static int shared_prefix(const layer *l, const layer *from)
{
    return from->outputs < l->outputs ? from->outputs : l->outputs;
}
static int same_shape(const layer *l, const layer *from)
{
    return from->out_c == l->c && from->out_h == l->h && from->out_w == l->w;
}
static void weighted_forward(const layer *l, network *net)
{
    SELF(l);
    const kernels *k = net->k;
    const int each = weights_each(l), step = l->outputs / each;
    k->mix_weights(self->weights, 1 + self->from.n, each, self->weights_normalization, self->mixed);
    k->mix_rows(net->input, l->batch, l->outputs, l->outputs, self->mixed, step, 0, l->output, l->outputs);
    for (int i = 0; i < self->from.n; ++i) {
        const layer *from = net->layers[self->from.values[i]];
        k->mix_rows(from->output, l->batch, shared_prefix(l, from), from->outputs,
                    self->mixed + (size_t)(i + 1) * each, step, 1, l->output, l->outputs);
    }
}
static void plain_forward(const layer *l, network *net)
{
    SELF(l);
    const kernels *k = net->k;
    const int all = l->batch * l->outputs;
    k->pass_delta(all, self->prefix ? self->alpha : 1, net->input, 0, l->output);
    for (int i = 0; i < self->from.n; ++i) {
        const layer *from = net->layers[self->from.values[i]];
        const overlap_shape s = overlap_of(l, from);
        if (self->prefix)
            k->copy_rows(l->batch, shared_prefix(l, from), self->beta, from->output, from->outputs, 1,
                         l->output, l->outputs);
        else if (same_shape(l, from) && self->alpha == 1 && self->beta == 1)
            k->copy_rows(1, all, 1, from->output, all, 1, l->output, all);
        else k->shortcut_overlap(&s, from->output, self->alpha, self->beta, l->output);
    }
}
static dn_status shortcut_forward(layer *l, network *net)
{
    SELF(l);
    if (self->weights_type)
        weighted_forward(l, net);
    else
        plain_forward(l, net);
    dn_activate_output(l, net->k, self->activation, self->activation_input);
    return DN_OK;
}

/* One summed layer, whose output is x, and what weights it: the delta there, and that of the weights. */
static void backward_weighted(const layer *l, const kernels *k, const real *x, int outputs, int row,
                              delta_sink sink)
{
    SELF(l);
    const int each = weights_each(l), step = l->outputs / each;
    const int shared = outputs < l->outputs ? outputs : l->outputs;
    k->mix_rows_backward(x, outputs, l->delta, l->outputs, l->batch, shared, step,
                         self->mixed_delta + (size_t)row * each);
    if (!sink.to) return;
    if (!sink.add && outputs > shared) {
        k->fill(l->batch * outputs, 0, sink.to, 1);
        sink.add = 1;
    }
    k->mix_rows(l->delta, l->batch, shared, l->outputs, self->mixed + (size_t)row * each, step, sink.add,
                sink.to, outputs);
}
static void weighted_backward(const layer *l, network *net)
{
    SELF(l);
    const int n = 1 + self->from.n, each = weights_each(l);
    net->k->fill(n * each, 0, self->mixed_delta, 1);
    backward_weighted(l, net->k, net->input, l->outputs, 0, input_sink(net));
    for (int i = 1; i < n; ++i) {
        const layer *from = net->layers[self->from.values[i - 1]];
        backward_weighted(l, net->k, from->output, from->outputs, i, link_sink(net, from->index));
    }
    net->k->mix_weights_backward(self->weights, self->mixed, self->mixed_delta, n, each,
                                 self->weights_normalization, self->weight_updates);
}
static void backward_source(const layer *l, network *net, int index)
{
    SELF(l);
    const layer *from = net->layers[index];
    const overlap_shape s = overlap_of(l, from);
    delta_sink sink = link_sink(net, index);
    if (!sink.to) return;
    if (!sink.add &&
        (!self->prefix || from->outputs > l->outputs)) { /* what lies outside gets nothing from here */
        net->k->fill(l->batch * from->outputs, 0, sink.to, 1);
        sink.add = 1;
    }
    if (self->prefix)
        net->k->copy_rows(l->batch, shared_prefix(l, from), self->beta, l->delta, l->outputs, sink.add,
                          sink.to, from->outputs);
    else net->k->shortcut_overlap_from(&s, l->delta, self->beta, sink.to);
}
static dn_status shortcut_backward(layer *l, network *net)
{
    SELF(l);
    dn_activate_delta(l, net->k, self->activation, self->activation_input);
    if (self->weights_type) {
        weighted_backward(l, net);
        return DN_OK;
    }
    const delta_sink sink = input_sink(net);
    if (sink.to) {
        net->k->pass_delta(l->batch * l->outputs, self->prefix ? self->alpha : 1, l->delta, sink.add,
                           sink.to);
        const overlap_shape s = overlap_of(l, net->layers[self->from.values[0]]);
        if (!self->prefix && self->alpha != 1) {
            net->k->shortcut_overlap_input(&s, l->delta, self->alpha, sink.to);
        }
    }
    for (int i = 0; i < self->from.n; ++i) backward_source(l, net, self->from.values[i]);
    return DN_OK;
}
static int shortcut_reads(const layer *l)
{
    SELF(l);
    return (self->weights_type ? READS_INPUT : 0) | dn_activation_reads(self->activation);
}
const layer_ops shortcut_ops = {
    .name = "shortcut",
    .size = sizeof(shortcut_layer),
    .options = shortcut_options,
    .arrays = shortcut_rows,
    .shape = shortcut_shape,
    .forward = shortcut_forward,
    .backward = shortcut_backward,
    .backward_reads = shortcut_reads,
    .links = offsetof(shortcut_layer, from),
    .initialize = shortcut_initialize,
    .flops = shortcut_flops,
};
