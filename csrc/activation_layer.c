/* [activation]: one function of every value (or, normalize_channels*, of every pixel's channels). Formulas:
 * scalar.h, activations.c. */
#include "layer.h"
#include "scalar.h"

typedef struct {
    layer base;
    int activation;
} activation_layer;

static const option_spec activation_options[] = {OPTION(activation_layer, "activation", activation, INT),
                                                 END_OF_OPTIONS};

static dn_status activation_shape(layer *l, network *net)
{
    (void)net;
    const int a = ((activation_layer *)l)->activation;
    const dn_status status = dn_option_in(l, "activation", a, 0, ACTIVATIONS - 1);
    if (status != DN_OK) return status;
    return l->h > 0 ? dn_set_output(l, l->h, l->w, l->c) : dn_set_output(l, 1, 1, l->inputs);
}
static dn_status activation_forward(layer *l, network *net)
{
    const ACTIVATION a = ((activation_layer *)l)->activation;
    if (activation_mixes_channels(a)) {
        net->k->activate_channels(net->input, l->batch, l->out_c, l->out_h * l->out_w, a, l->output);
        return DN_OK;
    }
    net->k->copy(l->batch * l->outputs, net->input, 1, l->output, 1);
    net->k->activate_array(l->output, l->batch * l->outputs, a);
    return DN_OK;
}
/* In place: delta at the output -> delta at the input, and on to the layer before. */
static dn_status activation_backward(layer *l, network *net)
{
    const ACTIVATION a = ((activation_layer *)l)->activation;
    dn_activate_delta(l, net->k, a, l->x);
    const delta_sink sink = input_sink(net);
    if (sink.to) net->k->pass_delta(l->batch * l->outputs, 1, l->delta, sink.add, sink.to);
    return DN_OK;
}
const layer_ops activation_ops = {
    .name = "activation",
    .size = sizeof(activation_layer),
    .options = activation_options,
    .shape = activation_shape,
    .forward = activation_forward,
    .backward = activation_backward,
};
