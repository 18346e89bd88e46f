/* [scale_channels]: an earlier output times the layer's input, which has one value per channel (squeeze and
 * excitation, J. Hu et al., arXiv:1709.01507) or, with scale_wh=1, one per pixel; then the activation. */
#include "layer.h"

typedef struct {
    layer base;
    int_list from;
    int scale_wh, activation;
    real *activation_input;
} scale_channels_layer;
#define SELF(l) const scale_channels_layer *self = (const scale_channels_layer *)(l)

static dn_shape shape_activation_input(const layer *l)
{
    return dn_shape_before_activation(l, ((scale_channels_layer *)l)->activation);
}
static const array_spec scale_channels_rows[] = {
    ARRAY(scale_channels_layer, activation_input, "activation_input", shape_activation_input, ACTIVATION,
          TRAIN_ONLY),
    END_OF_ARRAYS,
};
static const option_spec scale_channels_options[] = {
    OPTION(scale_channels_layer, "from", from, LIST),
    OPTION(scale_channels_layer, "scale_wh", scale_wh, INT),
    OPTION(scale_channels_layer, "activation", activation, INT),
    END_OF_OPTIONS,
};

static dn_status scale_channels_shape(layer *l, network *net)
{
    SELF(l);
    dn_status status = dn_option_in(l, "activation", self->activation, 0, ACTIVATIONS - 1);
    if (status == DN_OK) status = dn_one_link(l, net, "from", &self->from);
    if (status != DN_OK) return status;
    const layer *from = net->layers[self->from.values[0]];
    if (from->out_h < 1) return dn_fail_option("from", "[scale_channels] layer %d has no image", from->index);
    if (self->scale_wh && (l->c != 1 || l->h != from->out_h || l->w != from->out_w)) {
        return dn_fail_option("scale_wh",
                              "[scale_channels] layer %d has maps of %dx%d: wanted an input of one "
                              "such map, got %dx%dx%d",
                              from->index, from->out_w, from->out_h, l->w, l->h, l->c);
    }
    if (!self->scale_wh && l->inputs != from->out_c) {
        return dn_fail_option("from",
                              "[scale_channels] layer %d has %d channels: wanted as many inputs, got %d",
                              from->index, from->out_c, l->inputs);
    }
    return dn_set_output(l, from->out_h, from->out_w, from->out_c);
}
static dn_status scale_channels_forward(layer *l, network *net)
{
    SELF(l);
    const layer *from = net->layers[self->from.values[0]];
    net->k->scale_maps(from->output, net->input, l->batch, l->out_c, l->out_h * l->out_w, self->scale_wh, 0,
                       l->output);
    dn_activate_output(l, net->k, self->activation, self->activation_input);
    return DN_OK;
}
static dn_status scale_channels_backward(layer *l, network *net)
{
    SELF(l);
    const layer *from = net->layers[self->from.values[0]];
    const int spatial = l->out_h * l->out_w;
    dn_activate_delta(l, net->k, self->activation, self->activation_input);
    const delta_sink input = input_sink(net);
    if (input.to) {
        net->k->scale_maps_backward(from->output, l->delta, l->batch, l->out_c, spatial, self->scale_wh,
                                    input.add, input.to);
    }
    const delta_sink other = link_sink(net, from->index);
    if (other.to) {
        net->k->scale_maps(l->delta, net->input, l->batch, l->out_c, spatial, self->scale_wh, other.add,
                           other.to);
    }
    return DN_OK;
}
const layer_ops scale_channels_ops = {
    .name = "scale_channels",
    .size = sizeof(scale_channels_layer),
    .options = scale_channels_options,
    .arrays = scale_channels_rows,
    .shape = scale_channels_shape,
    .forward = scale_channels_forward,
    .backward = scale_channels_backward,
    .links = offsetof(scale_channels_layer, from),
};
