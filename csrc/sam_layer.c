/* [sam]: the layer's input times an earlier output, element by element, then the activation (spatial
 * attention of A. Bochkovskiy et al., arXiv:2004.10934). */
#include "layer.h"

typedef struct {
    layer base;
    int_list from;
    int activation;
    real *activation_input;
} sam_layer;
#define SELF(l) const sam_layer *self = (const sam_layer *)(l)

static dn_shape shape_activation_input(const layer *l)
{
    return dn_shape_before_activation(l, ((sam_layer *)l)->activation);
}
static const array_spec sam_rows[] = {
    ARRAY(sam_layer, activation_input, "activation_input", shape_activation_input, ACTIVATION, TRAIN_ONLY),
    END_OF_ARRAYS,
};
static const option_spec sam_options[] = {
    OPTION(sam_layer, "from", from, LIST),
    OPTION(sam_layer, "activation", activation, INT),
    END_OF_OPTIONS,
};

static dn_status sam_shape(layer *l, network *net)
{
    SELF(l);
    dn_status status = dn_require_image(l);
    if (status == DN_OK) status = dn_option_in(l, "activation", self->activation, 0, ACTIVATIONS - 1);
    if (status == DN_OK) status = dn_one_link(l, net, "from", &self->from);
    if (status != DN_OK) return status;
    const layer *from = net->layers[self->from.values[0]];
    if (from->out_h != l->h || from->out_w != l->w || from->out_c != l->c) {
        return dn_fail_option("from",
                              "[sam] layer %d has an output of %dx%dx%d: wanted the input's %dx%dx%d "
                              "(width x height x channels)",
                              from->index, from->out_w, from->out_h, from->out_c, l->w, l->h, l->c);
    }
    return dn_set_output(l, l->h, l->w, l->c);
}
static dn_status sam_forward(layer *l, network *net)
{
    SELF(l);
    const layer *from = net->layers[self->from.values[0]];
    net->k->multiply(l->batch * l->outputs, net->input, from->output, 0, l->output);
    dn_activate_output(l, net->k, self->activation, self->activation_input);
    return DN_OK;
}
static dn_status sam_backward(layer *l, network *net)
{
    SELF(l);
    const layer *from = net->layers[self->from.values[0]];
    const int all = l->batch * l->outputs;
    dn_activate_delta(l, net->k, self->activation, self->activation_input);
    const delta_sink input = input_sink(net);
    if (input.to) net->k->multiply(all, l->delta, from->output, input.add, input.to);
    const delta_sink other = link_sink(net, from->index);
    if (other.to) net->k->multiply(all, l->delta, net->input, other.add, other.to);
    return DN_OK;
}
const layer_ops sam_ops = {
    .name = "sam",
    .size = sizeof(sam_layer),
    .options = sam_options,
    .arrays = sam_rows,
    .shape = sam_shape,
    .forward = sam_forward,
    .backward = sam_backward,
    .links = offsetof(sam_layer, from),
};
