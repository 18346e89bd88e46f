/* [gru], the gated recurrent unit (arXiv:1406.1078) as Darknet has it: z is the share of the OLD state, and
 * the candidate c is logistic unless tanh=1.
 *     z = logistic(uz(x_t) + wz(h_{t-1}))      c = logistic or tanh(uh(x_t) + wh(r h_{t-1}))
 *     r = logistic(ur(x_t) + wr(h_{t-1}))      h_t = z h_{t-1} + (1 - z) c     y_t = h_t
 * The six parts are linear [connected] layers, u on the input and w on the state, each with a bias and the
 * normalization of the layer. */
#include "recurrent.h"
#include <math.h>

typedef struct {
    recurrent_layer recurrent;
    layer *wz, *wr, *wh, *uz, *ur, *uh;
    int outputs, tanh;
    real *state;                 /* the last one of the mini-batch before */
    real *states, *state_deltas; /* h_{-1}, h_0, h_1, ...; delta at h_0, h_1, ... */
    real *z, *r, *c, *reset;     /* of every time step; reset = r h_{t-1} */
    real *reset_delta;           /* of one time step */
} gru_layer;
#define SELF(l) gru_layer *self = (gru_layer *)(l)
static const part_spec gru_parts[] = {
    PART(gru_layer, wz, CONNECTED),
    PART(gru_layer, wr, CONNECTED),
    PART(gru_layer, wh, CONNECTED),
    PART(gru_layer, uz, CONNECTED),
    PART(gru_layer, ur, CONNECTED),
    PART(gru_layer, uh, CONNECTED),
    END_OF_PARTS,
};
static const option_spec gru_options[] = {
    TIME_STEPS_OPTION,
    OPTION(gru_layer, "output", outputs, INT),
    OPTION(gru_layer, "tanh", tanh, INT),
    END_OF_OPTIONS,
};

/* ---- arrays */
static dn_shape shape_steps(const layer *l, int steps)
{
    return dn_dims(4, steps * ((const recurrent_layer *)l)->sequences, l->outputs, 1, 1);
}
static dn_shape shape_one(const layer *l) { return shape_steps(l, 1); }
static dn_shape shape_all(const layer *l) { return shape_steps(l, ((const recurrent_layer *)l)->time_steps); }
static dn_shape shape_all_and_first(const layer *l)
{
    return shape_steps(l, ((const recurrent_layer *)l)->time_steps + 1);
}
static const array_spec gru_rows[] = {
    ARRAY(gru_layer, state, "state", shape_one, STATE, 0),
    ARRAY(gru_layer, states, "states", shape_all_and_first, ACTIVATION, 0),
    ARRAY(gru_layer, z, "update_gate", shape_all, ACTIVATION, 0),
    ARRAY(gru_layer, r, "reset_gate", shape_all, ACTIVATION, 0),
    ARRAY(gru_layer, c, "candidate", shape_all, ACTIVATION, 0),
    ARRAY(gru_layer, reset, "reset_state", shape_all, ACTIVATION, 0),
    ARRAY(gru_layer, state_deltas, "state_deltas", shape_all, ACTIVATION, TRAIN_ONLY),
    ARRAY(gru_layer, reset_delta, "reset_delta", shape_one, ACTIVATION, TRAIN_ONLY),
    END_OF_ARRAYS,
};

/* ---- make */
static dn_status gru_shape(layer *l, network *net)
{
    SELF(l);
    (void)net;
    layer *const on_state[] = {self->wz, self->wr, self->wh}, *const on_input[] = {self->uz, self->ur,
                                                                                   self->uh};
    dn_status status = dn_option_in(l, "output", self->outputs, 1, INFINITY);
    if (status == DN_OK) status = recurrent_shape(l);
    for (int i = 0; i < 3 && status == DN_OK; ++i) {
        status = part_options(on_state[i], self->outputs, LINEAR);
        if (status == DN_OK) status = part_options(on_input[i], self->outputs, LINEAR);
        if (status == DN_OK) status = shape_part(on_state[i], l, SEES_STATE, 0, 0, self->outputs);
        if (status == DN_OK) status = shape_part(on_input[i], l, SEES_INPUT, 0, 0, l->inputs);
    }
    return status == DN_OK ? dn_set_output(l, 1, 1, self->outputs) : status;
}

/* ---- forward and backward */
static ACTIVATION candidate_activation(const gru_layer *self) { return self->tanh ? TANH : LOGISTIC; }
/* gate = activation(u(x_t) + w(h)), where u has run */
static dn_status gate_forward(const layer *u, layer *w, network *net, int t, int n, const real *h,
                              ACTIVATION a, real *gate)
{
    const size_t at = (size_t)t * n;
    const dn_status status = part_forward(w, net, t, h);
    net->k->copy(n, u->output + at, 1, gate + at, 1);
    net->k->axpy(n, 1, w->output + at, 1, gate + at, 1);
    net->k->activate_array(gate + at, n, a);
    return status;
}
static dn_status gru_forward(layer *l, network *net)
{
    SELF(l);
    const kernels *k = net->k;
    const int steps = self->recurrent.time_steps, n = self->recurrent.sequences * l->outputs;
    k->copy(n, self->state, 1, self->states, 1);
    dn_status status = part_forward_all(self->uz, net, net->input);
    if (status == DN_OK) status = part_forward_all(self->ur, net, net->input);
    if (status == DN_OK) status = part_forward_all(self->uh, net, net->input);
    for (int t = 0; t < steps && status == DN_OK; ++t) {
        const size_t at = (size_t)t * n;
        real *before = self->states + at, *reset = self->reset + at;
        status = gate_forward(self->uz, self->wz, net, t, n, before, LOGISTIC, self->z);
        if (status == DN_OK) status = gate_forward(self->ur, self->wr, net, t, n, before, LOGISTIC, self->r);
        if (status != DN_OK) return status;
        k->multiply(n, self->r + at, before, 0, reset);
        status = gate_forward(self->uh, self->wh, net, t, n, reset, candidate_activation(self), self->c);
        k->weighted_sum(before, self->c + at, self->z + at, n, before + n);
    }
    if (status != DN_OK) return status;
    k->copy(l->batch * l->outputs, self->states + n, 1, l->output, 1);
    k->copy(n, l->output + (size_t)(steps - 1) * n, 1, self->state, 1);
    return DN_OK;
}
/* The delta at a gate, which stands in w's, -> before its activation, in u's and w's; and from there to w's
 * input h. */
static dn_status gate_backward(layer *u, layer *w, network *net, int t, int n, const real *h, ACTIVATION a,
                               const real *gate, real *dh, int add)
{
    const size_t at = (size_t)t * n;
    net->k->gradient_array(gate + at, n, a, w->delta + at);
    net->k->copy(n, w->delta + at, 1, u->delta + at, 1);
    return part_backward(w, net, t, h, dh, add);
}
static dn_status step_backward(layer *l, network *net, int t)
{
    SELF(l);
    const kernels *k = net->k;
    const int n = self->recurrent.sequences * l->outputs;
    const size_t at = (size_t)t * n;
    const real *before = self->states + at, *r = self->r + at;
    real *delta = self->state_deltas + at, *delta_before = t ? delta - n : NULL;
    k->fill(n, 0, self->wh->delta + at, 1);
    k->fill(n, 0, self->wz->delta + at, 1);
    k->weighted_delta(before, self->c + at, self->z + at, delta_before, self->wh->delta + at,
                      self->wz->delta + at, n, delta);
    dn_status status = gate_backward(self->uh, self->wh, net, t, n, self->reset + at,
                                     candidate_activation(self), self->c, self->reset_delta, 0);
    if (status != DN_OK) return status;
    k->multiply(n, self->reset_delta, before, 0, self->wr->delta + at);
    if (delta_before) k->multiply(n, self->reset_delta, r, 1, delta_before);
    status = gate_backward(self->ur, self->wr, net, t, n, before, LOGISTIC, self->r, delta_before, 1);
    if (status != DN_OK) return status;
    return gate_backward(self->uz, self->wz, net, t, n, before, LOGISTIC, self->z, delta_before, 1);
}
static dn_status gru_backward(layer *l, network *net)
{
    SELF(l);
    const delta_sink sink = input_sink(net);
    net->k->copy(l->batch * l->outputs, l->delta, 1, self->state_deltas, 1);
    dn_status status = DN_OK;
    for (int t = self->recurrent.time_steps - 1; t >= 0 && status == DN_OK; --t)
        status = step_backward(l, net, t);
    part_gradients(self->wz, net, self->states);
    part_gradients(self->wr, net, self->states);
    part_gradients(self->wh, net, self->reset);
    if (status == DN_OK) status = part_backward_all(self->uz, net, net->input, sink.to, sink.add);
    if (status == DN_OK) status = part_backward_all(self->ur, net, net->input, sink.to, 1);
    return status == DN_OK ? part_backward_all(self->uh, net, net->input, sink.to, 1) : status;
}

const layer_ops gru_ops = {
    .name = "gru",
    .size = sizeof(gru_layer),
    .options = gru_options,
    .arrays = gru_rows,
    .parts = gru_parts,
    .shape = gru_shape,
    .forward = gru_forward,
    .backward = gru_backward,
};
