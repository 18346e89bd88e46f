/* [history]: the last frames of a sequence side by side in the channels, the newest first (AlexeyAB).
 *     y_t = (x_t, x_{t-1}, ..., x_{t-history_size+1})
 * Frames from before the mini-batch are the state. */
#include "recurrent.h"
#include <math.h>

typedef struct {
    recurrent_layer recurrent;
    int history_size;
    real *state; /* the newest frames of the mini-batch before, one less than history_size */
} history_layer;
#define SELF(l) history_layer *self = (history_layer *)(l)

static dn_shape shape_state(const layer *l)
{
    SELF(l);
    const int frames = self->history_size - 1;
    return dn_dims(frames ? 4 : 0, self->recurrent.sequences, frames * l->c, l->h, l->w);
}
static const array_spec history_rows[] = {ARRAY(history_layer, state, "state", shape_state, STATE, 0),
                                          END_OF_ARRAYS};
static const option_spec history_options[] = {
    TIME_STEPS_OPTION,
    OPTION(history_layer, "history_size", history_size, INT),
    END_OF_OPTIONS,
};

static dn_status history_shape(layer *l, network *net)
{
    SELF(l);
    (void)net;
    dn_status status = dn_require_image(l);
    if (status == DN_OK) status = dn_option_in(l, "history_size", self->history_size, 1, INFINITY);
    if (status == DN_OK) status = recurrent_shape(l);
    return status == DN_OK ? dn_set_output(l, l->h, l->w, (int64_t)l->c * self->history_size) : status;
}
static dn_status history_forward(layer *l, network *net)
{
    SELF(l);
    const kernels *k = net->k;
    const int rows = self->recurrent.sequences, frame = l->inputs, rest = l->outputs - frame;
    const real *x = net->input, *before = self->state;
    real *y = l->output;
    int apart = rest; /* values from row to row of what came before */
    for (int t = 0; t < self->recurrent.time_steps; ++t) {
        k->copy_rows(rows, frame, 1, x, frame, 0, y, l->outputs);
        if (rest) k->copy_rows(rows, rest, 1, before, apart, 0, y + frame, l->outputs);
        before = y;
        apart = l->outputs;
        x += (size_t)rows * frame;
        y += (size_t)rows * l->outputs;
    }
    if (rest) k->copy_rows(rows, rest, 1, before, l->outputs, 0, self->state, rest);
    return DN_OK;
}
/* x_t is frame j of y_{t+j}. */
static dn_status history_backward(layer *l, network *net)
{
    SELF(l);
    const int rows = self->recurrent.sequences, frame = l->inputs, steps = self->recurrent.time_steps;
    const delta_sink sink = input_sink(net);
    if (!sink.to) return DN_OK;
    for (int t = 0; t < steps; ++t) {
        for (int j = 0; j < self->history_size && t + j < steps; ++j) {
            net->k->copy_rows(rows, frame, 1,
                              l->delta + (size_t)(t + j) * rows * l->outputs + (size_t)j * frame, l->outputs,
                              j > 0 || sink.add, sink.to + (size_t)t * rows * frame, frame);
        }
    }
    return DN_OK;
}

const layer_ops history_ops = {
    .name = "history",
    .size = sizeof(history_layer),
    .options = history_options,
    .arrays = history_rows,
    .shape = history_shape,
    .forward = history_forward,
    .backward = history_backward,
};
