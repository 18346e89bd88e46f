/* [route]: the outputs of earlier layers one after another in channels; with groups, only part group_id of
 * each. Maps of unlike sizes become one row of plain values. Where activations share memory and no row of
 * another map stands between them, the outputs lie in this one, unless they lie elsewhere already, or this one
 * in its only input's: these are not copied. */
#include "layer.h"

typedef struct {
    layer base;
    int_list layers;
    int groups, group_id;
} route_layer;
#define SELF(l) route_layer *self = (route_layer *)(l)

static const option_spec route_options[] = {
    OPTION(route_layer, "layers", layers, LIST), OPTION(route_layer, "groups", groups, INT),
    OPTION(route_layer, "group_id", group_id, INT), END_OF_OPTIONS,
};

static dn_status check_part(const route_layer *self, const layer *from)
{
    const int channels = from->out_h > 0 ? from->out_c : from->outputs;
    if (channels % self->groups) {
        return dn_fail_option("groups", "[route] groups=%d: wanted a divisor of the %d channels of layer %d",
                              self->groups, channels, from->index);
    }
    return DN_OK;
}
static dn_status route_shape(layer *l, network *net)
{
    SELF(l);
    int64_t channels = 0, values = 0;
    int alike = 1;
    const int above = l->index >= 0 ? l->index : net ? net->n : 0;
    if (self->groups == 0) self->groups = 1;
    dn_status status = dn_option_in(l, "groups", self->groups, 1, 2147483646);
    if (status == DN_OK) status = dn_option_in(l, "group_id", self->group_id, 0, self->groups - 1);
    if (status != DN_OK) return status;
    if (!self->layers.n) return dn_fail_option("layers", "[route] layers: wanted at least one");
    for (int i = 0; i < self->layers.n; ++i) {
        const int index = self->layers.values[i];
        if (index < 0 || index >= above) {
            return dn_fail_option("layers", "[route] layer %d: wanted 0 to %d", index, above - 1);
        }
        const layer *from = net->layers[index];
        const layer *first = net->layers[self->layers.values[0]];
        status = check_part(self, from);
        if (status != DN_OK) return status;
        channels += (from->out_h > 0 ? from->out_c : from->outputs) / self->groups;
        values += from->outputs / self->groups;
        alike &= from->out_h == first->out_h && from->out_w == first->out_w;
    }
    if (!alike) return dn_set_plain_output(l, values);
    const layer *first = net->layers[self->layers.values[0]];
    const int image = first->out_h > 0;
    return dn_set_output(l, image ? first->out_h : 1, image ? first->out_w : 1, channels);
}
static void route_joins(layer *l, network *net)
{
    SELF(l);
    size_t at = 0;
    layer *first = net->layers[self->layers.values[0]];
    if (self->layers.n == 1) {
        const size_t part = (size_t)(first->outputs / self->groups) * self->group_id;
        if (l->batch == 1 || self->groups == 1) dn_lie_within(l, first, part);
        return;
    }
    for (int i = 0; l->batch == 1 && self->groups == 1 && i < self->layers.n; ++i) {
        layer *from = net->layers[self->layers.values[i]];
        dn_lie_within(from, l, at);
        at += (size_t)from->outputs;
    }
}
static dn_status route_forward(layer *l, network *net)
{
    SELF(l);
    int offset = 0;
    for (int i = 0; i < self->layers.n; ++i) {
        const layer *from = net->layers[self->layers.values[i]];
        const int part = from->outputs / self->groups;
        const real *source = from->output + (size_t)part * self->group_id;
        if (source != l->output + offset)
            net->k->copy_rows(l->batch, part, 1, source, from->outputs, 0, l->output + offset, l->outputs);
        offset += part;
    }
    return DN_OK;
}
static dn_status route_backward(layer *l, network *net)
{
    SELF(l);
    int offset = 0;
    for (int i = 0; i < self->layers.n; ++i) {
        const layer *from = net->layers[self->layers.values[i]];
        const int part = from->outputs / self->groups;
        delta_sink sink = link_sink(net, self->layers.values[i]);
        if (sink.to && !sink.add && self->groups > 1) {   /* the other parts get nothing from here */
            net->k->fill(l->batch * from->outputs, 0, sink.to, 1);
            sink.add = 1;
        }
        if (sink.to) {
            net->k->copy_rows(l->batch, part, 1, l->delta + offset, l->outputs, sink.add,
                              sink.to + (size_t)part * self->group_id, from->outputs);
        }
        offset += part;
    }
    return DN_OK;
}
const layer_ops route_ops = {
    .name = "route",
    .size = sizeof(route_layer),
    .options = route_options,
    .shape = route_shape,
    .forward = route_forward,
    .backward = route_backward,
    .links = offsetof(route_layer, layers),
    .joins = route_joins,
    .backward_reads = dn_reads_nothing,
};
