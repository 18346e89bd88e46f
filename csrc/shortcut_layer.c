/* [shortcut]: adds earlier outputs to the layer's input, then the activation. Where shapes differ the forks do:
 *   overlap (pjreddie)   one source; out = alpha input + beta source where both have an element, sources of
 *                        other map sizes being sampled or spread by the whole-number ratio of the sides;
 *                        elsewhere the input as it is
 *   prefix (AlexeyAB)    one or several sources; the first values of each row, as many as both have, are
 *                        added: alpha input + beta (sum of the sources) */
#include "layer.h"
#include "scalar.h"

typedef struct {
    layer base;
    int_list from;
    int activation, prefix;
    real alpha, beta;
    real *activation_input;
} shortcut_layer;
#define SELF(l) shortcut_layer *self = (shortcut_layer *)(l)

static dn_shape shape_activation_input(const layer *l)
{
    return activation_needs_input(((const shortcut_layer *)l)->activation) ? shape_output(l)
                                                                           : dn_dims(0, 0, 0, 0, 0);
}
static const array_spec shortcut_rows[] = {ARRAY(shortcut_layer, activation_input, "activation_input",
                                                 shape_activation_input, ACTIVATION, TRAIN_ONLY),
                                           END_OF_ARRAYS};
static const option_spec shortcut_options[] = {
    OPTION(shortcut_layer, "from", from, LIST),             OPTION(shortcut_layer, "prefix", prefix, INT),
    OPTION(shortcut_layer, "activation", activation, INT),  OPTION(shortcut_layer, "alpha", alpha, REAL),
    OPTION(shortcut_layer, "beta", beta, REAL),             END_OF_OPTIONS,
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
    return (double)l->outputs * ((const shortcut_layer *)l)->from.n;
}

static int shared_prefix(const layer *l, const layer *from)
{
    return from->outputs < l->outputs ? from->outputs : l->outputs;
}
static dn_status shortcut_forward(layer *l, network *net)
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
        else k->shortcut_overlap(&s, from->output, self->alpha, self->beta, l->output);
    }
    if (self->activation_input) k->copy(all, l->output, 1, self->activation_input, 1);
    if (activation_mixes_channels(self->activation)) {
        k->activate_channels(l->output, l->batch, l->out_c, l->out_h * l->out_w, self->activation, l->output);
    } else {
        k->activate_array(l->output, all, self->activation);
    }
    return DN_OK;
}

static void backward_activation(const layer *l, const kernels *k)
{
    SELF(l);
    const int all = l->batch * l->outputs;
    const ACTIVATION a = self->activation;
    if (activation_mixes_channels(a)) {
        k->gradient_channels(self->activation_input, l->output, l->batch, l->out_c, l->out_h * l->out_w, a,
                             l->delta);
    } else if (activation_needs_input(a)) {
        k->gradient_input_array(self->activation_input, all, a, l->delta);
    } else {
        k->gradient_array(l->output, all, a, l->delta);
    }
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
    backward_activation(l, net->k);
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
const layer_ops shortcut_ops = {
    .name = "shortcut",
    .size = sizeof(shortcut_layer),
    .options = shortcut_options,
    .arrays = shortcut_rows,
    .shape = shortcut_shape,
    .forward = shortcut_forward,
    .backward = shortcut_backward,
    .flops = shortcut_flops,
};
