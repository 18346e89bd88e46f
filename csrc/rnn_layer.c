/* [rnn] and [crnn]: the state is a function of the input and of the last state, the output of the state.
 *     a_t = input_layer(x_t)    r_t = self_layer(s_{t-1})    s_t = a_t + r_t (+ s_{t-1} with shortcut=1)
 *     y_t = output_layer(s_t)
 * The three parts are [connected] layers in [rnn], [convolutional] ones in [crnn]; each has the activation
 * and the normalization of the layer. */
#include "recurrent.h"
#include <math.h>

typedef struct {
    recurrent_layer recurrent;
    layer *input_layer, *self_layer, *output_layer;
    int outputs, hidden, activation, logistic, shortcut; /* outputs and hidden: values, or channels */
    real *state;                                         /* the last one of the mini-batch before */
    real *states, *state_deltas;                         /* s_{-1}, s_0, s_1, ...; delta at s_0, s_1, ... */
} rnn_layer;
#define SELF(l) rnn_layer *self = (rnn_layer *)(l)
static const part_spec rnn_parts[] = {PART(rnn_layer, input_layer, CONNECTED),
                                      PART(rnn_layer, self_layer, CONNECTED),
                                      PART(rnn_layer, output_layer, CONNECTED), END_OF_PARTS};
static const part_spec crnn_parts[] = {PART(rnn_layer, input_layer, CONVOLUTIONAL),
                                       PART(rnn_layer, self_layer, CONVOLUTIONAL),
                                       PART(rnn_layer, output_layer, CONVOLUTIONAL), END_OF_PARTS};
static const option_spec rnn_options[] = {
    TIME_STEPS_OPTION,
    OPTION(rnn_layer, "output", outputs, INT),
    OPTION(rnn_layer, "hidden", hidden, INT),
    OPTION(rnn_layer, "activation", activation, INT),
    OPTION(rnn_layer, "logistic", logistic, INT),
    OPTION(rnn_layer, "shortcut", shortcut, INT),
    END_OF_OPTIONS,
};

/* ---- arrays */
static dn_shape shape_states(const layer *l, int steps)
{
    SELF(l);
    const layer *s = self->self_layer;
    return dn_dims(4, steps * self->recurrent.sequences, s->out_c, s->out_h, s->out_w);
}
static dn_shape shape_one(const layer *l) { return shape_states(l, 1); }
static dn_shape shape_all(const layer *l)
{
    return shape_states(l, ((const recurrent_layer *)l)->time_steps);
}
static dn_shape shape_all_and_first(const layer *l)
{
    return shape_states(l, ((const recurrent_layer *)l)->time_steps + 1);
}
static const array_spec rnn_rows[] = {
    ARRAY(rnn_layer, state, "state", shape_one, STATE, 0),
    ARRAY(rnn_layer, states, "states", shape_all_and_first, ACTIVATION, 0),
    ARRAY(rnn_layer, state_deltas, "state_deltas", shape_all, ACTIVATION, TRAIN_ONLY),
    END_OF_ARRAYS,
};

/* ---- make */
static dn_status check_options(const layer *l)
{
    SELF(l);
    dn_status status = dn_option_in(l, "output", self->outputs, 1, INFINITY);
    if (status == DN_OK) status = dn_option_in(l, "hidden", self->hidden, 1, INFINITY);
    if (status == DN_OK) status = dn_option_in(l, "activation", self->activation, 0, ACTIVATIONS - 1);
    if (status == DN_OK) status = dn_option_in(l, "logistic", self->logistic, 0, 2);
    return status;
}
static dn_status set_parts(layer *l)
{
    SELF(l);
    const ACTIVATION own = self->logistic == 2 ? LOGGY : self->logistic ? LOGISTIC : self->activation;
    dn_status status = check_options(l);
    if (status == DN_OK) status = recurrent_shape(l);
    if (status == DN_OK) status = part_options(self->input_layer, self->hidden, self->activation);
    if (status == DN_OK) status = part_options(self->self_layer, self->hidden, own);
    if (status == DN_OK) status = part_options(self->output_layer, self->outputs, self->activation);
    return status;
}
static dn_status rnn_shape(layer *l, network *net)
{
    SELF(l);
    (void)net;
    dn_status status = set_parts(l);
    if (status == DN_OK) status = shape_part(self->input_layer, l, SEES_INPUT, 0, 0, l->inputs);
    if (status == DN_OK) status = shape_part(self->self_layer, l, SEES_STATE, 0, 0, self->hidden);
    if (status == DN_OK) status = shape_part(self->output_layer, l, SEES_INPUT, 0, 0, self->hidden);
    return status == DN_OK ? dn_set_output(l, 1, 1, self->outputs) : status;
}
/* Only the input's convolution has a stride; the others must leave the state's maps as large as they are. */
static dn_status crnn_shape(layer *l, network *net)
{
    SELF(l);
    (void)net;
    const layer *in = self->input_layer, *out = self->output_layer;
    dn_status status = set_parts(l);
    if (status == DN_OK) status = dn_require_image(l);
    if (status == DN_OK) status = set_layer_option(self->self_layer, "stride", 1);
    if (status == DN_OK) status = set_layer_option(self->output_layer, "stride", 1);
    if (status == DN_OK) status = shape_part(self->input_layer, l, SEES_INPUT, l->h, l->w, l->c);
    if (status == DN_OK)
        status = shape_part(self->self_layer, l, SEES_STATE, in->out_h, in->out_w, in->out_c);
    if (status == DN_OK)
        status = shape_part(self->output_layer, l, SEES_INPUT, in->out_h, in->out_w, in->out_c);
    if (status != DN_OK) return status;
    if (self->self_layer->outputs != in->outputs) {
        return dn_fail_option("pad",
                              "[crnn] its convolutions turn maps of %dx%d into %dx%d: wanted the same size, "
                              "as with pad=1 and an odd size",
                              in->out_w, in->out_h, self->self_layer->out_w, self->self_layer->out_h);
    }
    return dn_set_output(l, out->out_h, out->out_w, out->out_c);
}

/* ---- forward and backward */
static dn_status rnn_forward(layer *l, network *net)
{
    SELF(l);
    const kernels *k = net->k;
    const int steps = self->recurrent.time_steps, n = self->recurrent.sequences * self->self_layer->outputs;
    const real *a = self->input_layer->output, *r = self->self_layer->output;
    real *last = self->states + (size_t)steps * n;
    k->copy(n, self->state, 1, self->states, 1);
    dn_status status = part_forward_all(self->input_layer, net, net->input);
    for (int t = 0; t < steps && status == DN_OK; ++t) {
        real *before = self->states + (size_t)t * n, *s = before + n;
        status = part_forward(self->self_layer, net, t, before);
        k->copy(n, a + (size_t)t * n, 1, s, 1);
        k->axpy(n, 1, r + (size_t)t * n, 1, s, 1);
        if (self->shortcut) k->axpy(n, 1, before, 1, s, 1);
    }
    if (status == DN_OK) status = part_forward_all(self->output_layer, net, self->states + n);
    if (status != DN_OK) return status;
    k->copy(l->batch * l->outputs, self->output_layer->output, 1, l->output, 1);
    k->copy(n, last, 1, self->state, 1);
    return DN_OK;
}
/* The delta at s_t is complete once the output of this step and the state of the next have sent theirs. */
static dn_status rnn_backward(layer *l, network *net)
{
    SELF(l);
    const kernels *k = net->k;
    const int steps = self->recurrent.time_steps, n = self->recurrent.sequences * self->self_layer->outputs;
    const delta_sink sink = input_sink(net);
    k->copy(l->batch * l->outputs, l->delta, 1, self->output_layer->delta, 1);
    dn_status status = part_backward_all(self->output_layer, net, self->states + n, self->state_deltas, 0);
    for (int t = steps - 1; t >= 0 && status == DN_OK; --t) {
        real *delta = self->state_deltas + (size_t)t * n, *before = t ? delta - n : NULL;
        k->copy(n, delta, 1, self->input_layer->delta + (size_t)t * n, 1);
        k->copy(n, delta, 1, self->self_layer->delta + (size_t)t * n, 1);
        if (self->shortcut && before) k->axpy(n, 1, delta, 1, before, 1);
        status = part_backward(self->self_layer, net, t, self->states + (size_t)t * n, before, 1);
    }
    part_gradients(self->self_layer, net, self->states);
    return status == DN_OK ? part_backward_all(self->input_layer, net, net->input, sink.to, sink.add)
                           : status;
}

const layer_ops rnn_ops = {
    .name = "rnn",
    .size = sizeof(rnn_layer),
    .options = rnn_options,
    .arrays = rnn_rows,
    .parts = rnn_parts,
    .shape = rnn_shape,
    .forward = rnn_forward,
    .backward = rnn_backward,
};
const layer_ops crnn_ops = {
    .name = "crnn",
    .size = sizeof(rnn_layer),
    .options = rnn_options,
    .arrays = rnn_rows,
    .parts = crnn_parts,
    .shape = crnn_shape,
    .forward = rnn_forward,
    .backward = rnn_backward,
};
