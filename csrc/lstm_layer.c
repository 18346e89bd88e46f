/* [lstm] and [conv_lstm], long short-term memory: gates decide what the cell forgets, takes in and shows.
 *     f = logistic(uf(x_t) + wf(h_{t-1}) + vf(c_{t-1}))    i = logistic(ui(x_t) + wi(h_{t-1}) + vi(c_{t-1}))
 *     g =        a(ug(x_t) + wg(h_{t-1}))                  c_t = f c_{t-1} + i g
 *     o = logistic(uo(x_t) + wo(h_{t-1}) + vo(c_t))        h_t = o a(c_t)     y_t = h_t
 * The parts are [connected] layers in [lstm], [convolutional] ones in [conv_lstm], each with a bias and the
 * normalization of the layer. a is tanh, or lstm_activation. AlexeyAB's options: peephole=1 brings the v;
 * state_constrain=L: the next step sees c_t within +-L; bottleneck=1: all gates look at one convolution of
 * state and input instead, b = a(wf(h_{t-1}, x_t)), through their u; shortcut=1 then adds the first half of
 * b's channels to the output. */
#include "recurrent.h"
#include "scalar.h"
#include <math.h>

enum { FORGET, INPUT, CANDIDATE, OUTPUT, GATES };
typedef struct {
    recurrent_layer recurrent;
    layer *u[GATES], *w[GATES], *v[GATES];
    int outputs, activation, lstm_activation, peephole, bottleneck, shortcut, state_constrain;
    real *state, *cell_state; /* h and c after the mini-batch before */
    real *states, *cells;     /* h_{-1}, h_0, h_1, ... and c, as the next step sees it */
    real *sums, *shown;       /* c_t without the limit, where there is one; a(c_t) */
    real *gates[GATES];
    real *joined, *narrow;                                         /* bottleneck: (h_{t-1}, x_t) and b */
    real *state_deltas, *cell_delta, *joined_delta, *narrow_delta; /* the last three of one time step */
} lstm_layer;
#define SELF(l) lstm_layer *self = (lstm_layer *)(l)
#define GATE_PART(letter, gate, name, TYPE) {name, offsetof(lstm_layer, letter[gate]), TYPE}
#define GATE_PARTS(letter, TYPE) \
    GATE_PART(letter, FORGET, #letter "f", TYPE), GATE_PART(letter, INPUT, #letter "i", TYPE), \
        GATE_PART(letter, CANDIDATE, #letter "g", TYPE), GATE_PART(letter, OUTPUT, #letter "o", TYPE)
static const part_spec lstm_parts[] = {GATE_PARTS(w, CONNECTED), GATE_PARTS(u, CONNECTED), END_OF_PARTS};
static const part_spec conv_lstm_parts[] = {
    GATE_PART(v, FORGET, "vf", CONVOLUTIONAL),
    GATE_PART(v, INPUT, "vi", CONVOLUTIONAL),
    GATE_PART(v, OUTPUT, "vo", CONVOLUTIONAL),
    GATE_PARTS(w, CONVOLUTIONAL),
    GATE_PARTS(u, CONVOLUTIONAL),
    END_OF_PARTS,
};
static const option_spec lstm_options[] = {
    TIME_STEPS_OPTION,
    OPTION(lstm_layer, "output", outputs, INT),
    OPTION(lstm_layer, "activation", activation, INT),
    OPTION(lstm_layer, "lstm_activation", lstm_activation, INT),
    OPTION(lstm_layer, "peephole", peephole, INT),
    OPTION(lstm_layer, "bottleneck", bottleneck, INT),
    OPTION(lstm_layer, "shortcut", shortcut, INT),
    OPTION(lstm_layer, "state_constrain", state_constrain, INT),
    END_OF_OPTIONS,
};

/* ---- arrays */
static int steps_of(const layer *l) { return ((const recurrent_layer *)l)->time_steps; }
static dn_shape shape_steps(const layer *l, int steps, int channels)
{
    return dn_dims(channels ? 4 : 0, steps * ((const recurrent_layer *)l)->sequences, channels, l->out_h,
                   l->out_w);
}
static dn_shape shape_one(const layer *l) { return shape_steps(l, 1, l->out_c); }
static dn_shape shape_all(const layer *l) { return shape_steps(l, steps_of(l), l->out_c); }
static dn_shape shape_all_and_first(const layer *l) { return shape_steps(l, steps_of(l) + 1, l->out_c); }
static dn_shape shape_sums(const layer *l)
{
    SELF(l);
    return shape_steps(l, steps_of(l), self->state_constrain ? l->out_c : 0);
}
static int narrow_channels(const layer *l) { return ((const lstm_layer *)l)->bottleneck ? l->out_c : 0; }
static dn_shape shape_narrow(const layer *l) { return shape_steps(l, steps_of(l), narrow_channels(l)); }
static dn_shape shape_joined(const layer *l) { return shape_steps(l, steps_of(l), 2 * narrow_channels(l)); }
static dn_shape shape_one_narrow(const layer *l) { return shape_steps(l, 1, narrow_channels(l)); }
static dn_shape shape_one_joined(const layer *l) { return shape_steps(l, 1, 2 * narrow_channels(l)); }
static const array_spec lstm_rows[] = {
    ARRAY(lstm_layer, state, "state", shape_one, STATE, 0),
    ARRAY(lstm_layer, cell_state, "cell_state", shape_one, STATE, 0),
    ARRAY(lstm_layer, states, "states", shape_all_and_first, ACTIVATION, 0),
    ARRAY(lstm_layer, cells, "cells", shape_all_and_first, ACTIVATION, 0),
    ARRAY(lstm_layer, sums, "cell_sums", shape_sums, ACTIVATION, 0),
    ARRAY(lstm_layer, shown, "shown_cells", shape_all, ACTIVATION, 0),
    ARRAY(lstm_layer, gates[FORGET], "forget_gate", shape_all, ACTIVATION, 0),
    ARRAY(lstm_layer, gates[INPUT], "input_gate", shape_all, ACTIVATION, 0),
    ARRAY(lstm_layer, gates[CANDIDATE], "candidate", shape_all, ACTIVATION, 0),
    ARRAY(lstm_layer, gates[OUTPUT], "output_gate", shape_all, ACTIVATION, 0),
    ARRAY(lstm_layer, joined, "joined", shape_joined, ACTIVATION, 0),
    ARRAY(lstm_layer, narrow, "narrow", shape_narrow, ACTIVATION, 0),
    ARRAY(lstm_layer, state_deltas, "state_deltas", shape_all, ACTIVATION, TRAIN_ONLY),
    ARRAY(lstm_layer, cell_delta, "cell_delta", shape_one, ACTIVATION, TRAIN_ONLY),
    ARRAY(lstm_layer, joined_delta, "joined_delta", shape_one_joined, ACTIVATION, TRAIN_ONLY),
    ARRAY(lstm_layer, narrow_delta, "narrow_delta", shape_one_narrow, ACTIVATION, TRAIN_ONLY),
    END_OF_ARRAYS,
};

/* ---- make */
static int has_w(const lstm_layer *self, int gate) { return !self->bottleneck || gate == FORGET; }
static int has_v(const lstm_layer *self, int gate) { return self->peephole && self->v[gate]; }
static dn_status shape_on_state(layer *part, layer *l, int h, int w, int c)
{
    SELF(l);
    dn_status status = part_options(part, self->outputs, self->activation);
    if (status == DN_OK && part->type == CONVOLUTIONAL) status = set_layer_option(part, "stride", 1);
    return status == DN_OK ? shape_part(part, l, SEES_STATE, h, w, c) : status;
}
static dn_status shape_u(layer *l)
{
    SELF(l);
    dn_status status = DN_OK;
    for (int gate = 0; gate < GATES && status == DN_OK; ++gate) {
        layer *u = self->u[gate];
        status = part_options(u, self->outputs, self->activation);
        if (status == DN_OK && u->type == CONNECTED)
            status = shape_part(u, l, SEES_INPUT, 0, 0, l->inputs);
        else if (status == DN_OK)
            status = shape_part(u, l, self->bottleneck ? SEES_STATE : SEES_INPUT, l->h, l->w, l->c);
    }
    return status;
}
static dn_status shape_w_and_v(layer *l)
{
    SELF(l);
    const layer *u = self->u[FORGET];
    const int image = u->type == CONVOLUTIONAL, h = image ? u->out_h : 0, w = image ? u->out_w : 0,
              c = u->out_c;
    dn_status status = DN_OK;
    for (int gate = 0; gate < GATES && status == DN_OK; ++gate) {
        if (has_w(self, gate)) status = shape_on_state(self->w[gate], l, h, w, self->bottleneck ? 2 * c : c);
        if (status == DN_OK && has_v(self, gate)) status = shape_on_state(self->v[gate], l, h, w, c);
    }
    return status;
}
static dn_status check_maps(const layer *l)
{
    SELF(l);
    const layer *u = self->u[FORGET], *w = self->w[FORGET];
    if (self->bottleneck && (u->out_h != l->h || u->out_w != l->w || u->out_c != l->c)) {
        return dn_fail_option("bottleneck",
                              "[%s] bottleneck=1 with an input of %dx%dx%d and an output of %dx%dx%d: "
                              "wanted the same shape (height x width x channels)",
                              l->ops->name, l->h, l->w, l->c, u->out_h, u->out_w, u->out_c);
    }
    if (w->outputs == u->outputs) return DN_OK;
    return dn_fail_option(
        "pad",
        "[%s] its convolutions turn maps of %dx%d into %dx%d: wanted the same size, as with "
        "pad=1 and an odd size",
        l->ops->name, u->out_w, u->out_h, w->out_w, w->out_h);
}
static dn_status lstm_shape(layer *l, network *net)
{
    SELF(l);
    (void)net;
    if (l->type == LSTM) self->lstm_activation = TANH;
    dn_status status = dn_option_in(l, "output", self->outputs, 1, INFINITY);
    if (status == DN_OK) status = dn_option_in(l, "activation", self->activation, 0, ACTIVATIONS - 1);
    if (status == DN_OK)
        status = dn_option_in(l, "lstm_activation", self->lstm_activation, 0, ACTIVATIONS - 1);
    if (status == DN_OK) status = dn_option_in(l, "state_constrain", self->state_constrain, 0, INFINITY);
    if (status != DN_OK) return status;
    if (activation_needs_input(self->lstm_activation)) {
        return dn_fail_option("lstm_activation",
                              "[%s] lstm_activation=%s: wanted one whose output tells its slope",
                              l->ops->name, get_activation_string(self->lstm_activation));
    }
    status = recurrent_shape(l);
    if (status == DN_OK) status = shape_u(l);
    if (status == DN_OK) status = shape_w_and_v(l);
    if (status == DN_OK) status = check_maps(l);
    return status == DN_OK ? dn_set_output(l, self->u[0]->out_h, self->u[0]->out_w, self->u[0]->out_c)
                           : status;
}
static dn_status conv_lstm_shape(layer *l, network *net)
{
    const dn_status status = dn_require_image(l);
    return status == DN_OK ? lstm_shape(l, net) : status;
}
/* What the gates themselves take, as AlexeyAB counts it. */
static double conv_lstm_flops(const layer *l)
{
    return (((const lstm_layer *)l)->peephole ? 12.0 : 9.0) * l->outputs;
}

/* ---- forward */
static ACTIVATION gate_activation(const lstm_layer *self, int gate)
{
    return gate == CANDIDATE ? (ACTIVATION)self->lstm_activation : LOGISTIC;
}
/* u has run; h and cell are what w and v look at. */
static dn_status gate_forward(layer *l, network *net, int t, int gate, const real *h, const real *cell)
{
    SELF(l);
    const int n = self->recurrent.sequences * l->outputs;
    const size_t at = (size_t)t * n;
    real *to = self->gates[gate] + at;
    dn_status status = DN_OK;
    net->k->copy(n, self->u[gate]->output + at, 1, to, 1);
    if (!self->bottleneck) {
        status = part_forward(self->w[gate], net, t, h);
        net->k->axpy(n, 1, self->w[gate]->output + at, 1, to, 1);
    }
    if (status == DN_OK && has_v(self, gate)) {
        status = part_forward(self->v[gate], net, t, cell);
        net->k->axpy(n, 1, self->v[gate]->output + at, 1, to, 1);
    }
    net->k->activate_array(to, n, gate_activation(self, gate));
    return status;
}
static dn_status bottleneck_forward(layer *l, network *net, int t, const real *h)
{
    SELF(l);
    const kernels *k = net->k;
    const int rows = self->recurrent.sequences, m = l->outputs, n = rows * m;
    real *joined = self->joined + (size_t)t * 2 * n, *narrow = self->narrow + (size_t)t * n;
    k->copy_rows(rows, m, 1, h, m, 0, joined, 2 * m);
    k->copy_rows(rows, m, 1, net->input + (size_t)t * n, m, 0, joined + m, 2 * m);
    dn_status status = part_forward(self->w[FORGET], net, t, joined);
    k->copy(n, self->w[FORGET]->output + (size_t)t * n, 1, narrow, 1);
    k->activate_array(narrow, n, self->lstm_activation);
    for (int gate = 0; gate < GATES && status == DN_OK; ++gate) {
        status = part_forward(self->u[gate], net, t, narrow);
    }
    if (self->shortcut) k->copy_rows(rows, m / 2, 1, narrow, m, 1, l->output + (size_t)t * n, m);
    return status;
}
static dn_status step_forward(layer *l, network *net, int t)
{
    SELF(l);
    const kernels *k = net->k;
    const int n = self->recurrent.sequences * l->outputs;
    const size_t at = (size_t)t * n;
    const real *f = self->gates[FORGET] + at, *i = self->gates[INPUT] + at, *g = self->gates[CANDIDATE] + at;
    const real *h = self->states + at, *before = self->cells + at;
    real *h_after = self->states + at + n, *after = self->cells + at + n,
         *sum = self->sums ? self->sums + at : after;
    real *shown = self->shown + at;
    dn_status status = self->bottleneck ? bottleneck_forward(l, net, t, h) : DN_OK;
    if (status == DN_OK) status = gate_forward(l, net, t, FORGET, h, before);
    if (status == DN_OK) status = gate_forward(l, net, t, INPUT, h, before);
    if (status == DN_OK) status = gate_forward(l, net, t, CANDIDATE, h, NULL);
    k->multiply(n, f, before, 0, sum);
    k->multiply(n, i, g, 1, sum);
    if (status == DN_OK) status = gate_forward(l, net, t, OUTPUT, h, sum);
    k->copy(n, sum, 1, shown, 1);
    k->activate_array(shown, n, self->lstm_activation);
    k->multiply(n, self->gates[OUTPUT] + at, shown, 0, h_after);
    if (self->sums) {
        k->copy(n, sum, 1, after, 1);
        k->constrain(n, (real)self->state_constrain, after);
    }
    return status;
}
static dn_status lstm_forward(layer *l, network *net)
{
    SELF(l);
    const kernels *k = net->k;
    const int steps = self->recurrent.time_steps, n = self->recurrent.sequences * l->outputs;
    dn_status status = DN_OK;
    k->copy(n, self->state, 1, self->states, 1);
    k->copy(n, self->cell_state, 1, self->cells, 1);
    k->fill(l->batch * l->outputs, 0, l->output, 1);
    for (int gate = 0; gate < GATES && status == DN_OK && !self->bottleneck; ++gate) {
        status = part_forward_all(self->u[gate], net, net->input);
    }
    for (int t = 0; t < steps && status == DN_OK; ++t) status = step_forward(l, net, t);
    if (status != DN_OK) return status;
    k->axpy(l->batch * l->outputs, 1, self->states + n, 1, l->output, 1);
    k->copy(n, self->states + (size_t)steps * n, 1, self->state, 1);
    k->copy(n, self->cells + (size_t)steps * n, 1, self->cell_state, 1);
    return DN_OK;
}

/* ---- backward */

/* The delta at a gate, which stands in u's, -> before its activation, in u's, w's and v's; and from there to
 * the state dh (NULL: it is the mini-batch before's) and the cell dc. */
static dn_status gate_backward(layer *l, network *net, int t, int gate, const real *cell, real *dh, real *dc)
{
    SELF(l);
    const kernels *k = net->k;
    const int n = self->recurrent.sequences * l->outputs;
    const size_t at = (size_t)t * n;
    const real *delta = self->u[gate]->delta + at;
    dn_status status = DN_OK;
    k->gradient_array(self->gates[gate] + at, n, gate_activation(self, gate), self->u[gate]->delta + at);
    if (!self->bottleneck) {
        k->copy(n, delta, 1, self->w[gate]->delta + at, 1);
        status = part_backward(self->w[gate], net, t, self->states + at, dh, 1);
    }
    if (status == DN_OK && has_v(self, gate)) {
        k->copy(n, delta, 1, self->v[gate]->delta + at, 1);
        status = part_backward(self->v[gate], net, t, cell, dc, 1);
    }
    return status;
}
static dn_status bottleneck_backward(layer *l, network *net, int t, real *dh, const delta_sink *sink)
{
    SELF(l);
    const kernels *k = net->k;
    const int rows = self->recurrent.sequences, m = l->outputs, n = rows * m;
    const real *narrow = self->narrow + (size_t)t * n;
    real *delta = self->narrow_delta;
    dn_status status = DN_OK;
    k->fill(n, 0, delta, 1);
    if (self->shortcut) k->copy_rows(rows, m / 2, 1, l->delta + (size_t)t * n, m, 1, delta, m);
    for (int gate = 0; gate < GATES && status == DN_OK; ++gate) {
        status = part_backward(self->u[gate], net, t, narrow, delta, 1);
    }
    k->gradient_array(narrow, n, self->lstm_activation, delta);
    k->copy(n, delta, 1, self->w[FORGET]->delta + (size_t)t * n, 1);
    if (status != DN_OK) return status;
    status = part_backward(self->w[FORGET], net, t, self->joined + (size_t)t * 2 * n, self->joined_delta, 0);
    if (dh) k->copy_rows(rows, m, 1, self->joined_delta, 2 * m, 1, dh, m);
    if (sink->to)
        k->copy_rows(rows, m, 1, self->joined_delta + m, 2 * m, sink->add, sink->to + (size_t)t * n, m);
    return status;
}
static dn_status step_backward(layer *l, network *net, int t, const delta_sink *sink)
{
    SELF(l);
    const kernels *k = net->k;
    const int n = self->recurrent.sequences * l->outputs;
    const size_t at = (size_t)t * n;
    const real *f = self->gates[FORGET] + at, *i = self->gates[INPUT] + at, *g = self->gates[CANDIDATE] + at;
    const real *o = self->gates[OUTPUT] + at, *shown = self->shown + at, *before = self->cells + at;
    const real *sum = self->sums ? self->sums + at : before + n, *delta = self->state_deltas + at;
    real *dh = t ? self->state_deltas + at - n : NULL, *dc = self->cell_delta,
         *work = self->u[CANDIDATE]->delta + at;
    if (self->sums) k->constrain_delta(n, (real)self->state_constrain, sum, dc);
    k->multiply(n, delta, o, 0, work);
    k->gradient_array(shown, n, self->lstm_activation, work);
    k->axpy(n, 1, work, 1, dc, 1);
    k->multiply(n, delta, shown, 0, self->u[OUTPUT]->delta + at);
    dn_status status = gate_backward(l, net, t, OUTPUT, sum, dh, dc);
    k->multiply(n, dc, before, 0, self->u[FORGET]->delta + at);
    k->multiply(n, dc, g, 0, self->u[INPUT]->delta + at);
    k->multiply(n, dc, i, 0, self->u[CANDIDATE]->delta + at);
    k->multiply(n, dc, f, 0, dc); /* now at c_{t-1} */
    for (int gate = 0; gate < OUTPUT && status == DN_OK; ++gate)
        status = gate_backward(l, net, t, gate, before, dh, dc);
    return status == DN_OK && self->bottleneck ? bottleneck_backward(l, net, t, dh, sink) : status;
}
static dn_status lstm_backward(layer *l, network *net)
{
    SELF(l);
    const delta_sink sink = input_sink(net);
    dn_status status = DN_OK;
    net->k->copy(l->batch * l->outputs, l->delta, 1, self->state_deltas, 1);
    net->k->fill(self->recurrent.sequences * l->outputs, 0, self->cell_delta, 1);
    for (int t = steps_of(l) - 1; t >= 0 && status == DN_OK; --t) status = step_backward(l, net, t, &sink);
    for (int gate = 0; gate < GATES && status == DN_OK && !self->bottleneck; ++gate) {
        part_gradients(self->w[gate], net, self->states);
        status = part_backward_all(self->u[gate], net, net->input, sink.to, gate > 0 || sink.add);
    }
    return status;
}

const layer_ops lstm_ops = {
    .name = "lstm",
    .size = sizeof(lstm_layer),
    .options = lstm_options,
    .arrays = lstm_rows,
    .parts = lstm_parts,
    .shape = lstm_shape,
    .forward = lstm_forward,
    .backward = lstm_backward,
};
const layer_ops conv_lstm_ops = {
    .name = "conv_lstm",
    .size = sizeof(lstm_layer),
    .options = lstm_options,
    .arrays = lstm_rows,
    .parts = conv_lstm_parts,
    .shape = conv_lstm_shape,
    .forward = lstm_forward,
    .backward = lstm_backward,
    .flops = conv_lstm_flops,
};
