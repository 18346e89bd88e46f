/* What the recurrent layers share. Their rows are time-major: row t * sequences + s of input and output is
 * sequence s at time step t. They are made of [connected] or [convolutional] layers, the parts, which keep
 * the activations of every time step, so that the backward pass goes through time exactly. What a mini-batch
 * leaves as its state is what the next one begins with (truncated backpropagation through time: no gradient
 * crosses from one mini-batch to another). */
#ifndef DN_RECURRENT_H
#define DN_RECURRENT_H
#include "layer.h"

/* Every recurrent layer's struct begins with it. */
typedef struct {
    layer base;
    int time_steps;
    int sequences; /* rows of one time step */
} recurrent_layer;
#define TIME_STEPS_OPTION OPTION(recurrent_layer, "time_steps", time_steps, INT)

/* Finds the number of sequences. */
dn_status recurrent_shape(layer *l);
/* Gives a part its input of (h, w, c). A part that does not look at the state sees all time steps at once,
 * unless the statistics of each step's mini-batch normalize it. */
typedef enum { SEES_INPUT, SEES_STATE } part_input;
dn_status shape_part(layer *part, const layer *l, part_input sees, int h, int w, int c);
/* Sets options of a part that depend on its place; the names are the part's own. */
dn_status part_options(layer *part, int outputs, ACTIVATION activation);

/* One time step of a part: x and dx are that step's; dx NULL: not wanted; add: 0 to write it. */
dn_status part_forward(layer *part, network *net, int t, const real *x);
dn_status part_backward(layer *part, network *net, int t, const real *x, real *dx, int add);
/* After part_backward of every step: what that leaves to one product over all steps, the gradient of a
 * [connected] part's weights. x: the inputs of all steps. */
void part_gradients(layer *part, network *net, const real *x);
/* All time steps, for a part whose input does not depend on its output. */
dn_status part_forward_all(layer *part, network *net, const real *x);
dn_status part_backward_all(layer *part, network *net, const real *x, real *dx, int add);
#endif
