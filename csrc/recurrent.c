/* Parts of a recurrent layer, and how they run through time: recurrent.h. */
#include "recurrent.h"
#include <limits.h>
#include <math.h>
#include <string.h>

dn_status recurrent_shape(layer *l)
{
    recurrent_layer *self = (recurrent_layer *)l;
    const dn_status status = dn_option_in(l, "time_steps", self->time_steps, 1, INFINITY);
    if (status != DN_OK) return status;
    if (l->batch % self->time_steps) {
        return dn_fail_option("time_steps", "[%s] a batch of %d rows: wanted a multiple of time_steps=%d",
                              l->ops->name, l->batch, self->time_steps);
    }
    self->sequences = l->batch / self->time_steps;
    return DN_OK;
}
dn_status part_options(layer *part, int outputs, ACTIVATION activation)
{
    const char *key = part->type == CONNECTED ? "output" : "filters";
    const dn_status status = set_layer_option(part, key, outputs);
    return status == DN_OK ? set_layer_option(part, "activation", activation) : status;
}
dn_status shape_part(layer *part, const layer *l, part_input sees, int h, int w, int c)
{
    const int steps = ((const recurrent_layer *)l)->time_steps;
    part->steps = sees == SEES_STATE || get_layer_option(part, "normalize") == NORMALIZE_BATCH ? steps : 1;
    part->convolution = l->convolution;
    const dn_status status = shape_layer(part, NULL, l->batch / part->steps, h, w, c);
    if (status == DN_OK && (int64_t)l->batch * part->outputs > INT_MAX) {
        return dn_fail(DN_ERR_OPTION, "[%s] would keep %d rows of %d values: more than 2147483647",
                       l->ops->name, l->batch, part->outputs);
    }
    return status;
}

dn_status part_forward(layer *part, network *net, int t, const real *x)
{
    const real *input = net->input;
    net->input = x;
    dn_move_activations(part, t);
    const dn_status status = part->ops->forward(part, net);
    dn_move_activations(part, -t);
    net->input = input;
    return status;
}
dn_status part_backward(layer *part, network *net, int t, const real *x, real *dx, int add)
{
    const real *input = net->input;
    real *delta = net->delta;
    int *delta_live = net->delta_live;
    net->input = x;
    net->delta = dx;
    net->delta_live = &add;
    dn_move_activations(part, t);
    const dn_status status = part->ops->backward(part, net);
    dn_move_activations(part, -t);
    net->input = input;
    net->delta = delta;
    net->delta_live = delta_live;
    return status;
}
dn_status part_forward_all(layer *part, network *net, const real *x)
{
    dn_status status = DN_OK;
    const size_t inputs = (size_t)part->batch * part->inputs;
    for (int t = 0; t < part->steps && status == DN_OK; ++t)
        status = part_forward(part, net, t, x + t * inputs);
    return status;
}
dn_status part_backward_all(layer *part, network *net, const real *x, real *dx, int add)
{
    dn_status status = DN_OK;
    const size_t inputs = (size_t)part->batch * part->inputs;
    for (int t = 0; t < part->steps && status == DN_OK; ++t) {
        status = part_backward(part, net, t, x + t * inputs, dx ? dx + t * inputs : NULL, add);
    }
    if (status == DN_OK) part_gradients(part, net, x);
    return status;
}
void part_gradients(layer *part, network *net, const real *x)
{
    const real *input = net->input;
    if (part->steps == 1 || !part->ops->gradients) return;
    net->input = x;
    part->ops->gradients(part, net, part->steps * part->batch);
    net->input = input;
}
