/* [dropout]: in training each value is dropped with the given probability and the others grow by 1 / (1 -
 * probability); in inference nothing happens. N. Srivastava et al., JMLR 15, 2014. Which values: a function
 * of (seed, layer, row of the run). */
#include "layer.h"
#include "random.h"

typedef struct {
    layer base;
    real probability;
    uint64_t first_row;              /* of the last training pass, in rows since the run began */
} dropout_layer;

static const option_spec dropout_options[] = {OPTION(dropout_layer, "probability", probability, REAL),
                                              END_OF_OPTIONS};

static dn_status dropout_shape(layer *l, network *net)
{
    (void)net;
    const real p = ((dropout_layer *)l)->probability;
    if (!(p >= 0 && p < 1)) {
        return dn_fail_option("probability", "[dropout] probability=%g: wanted 0 or more, and less than 1",
                              (double)p);
    }
    return l->h > 0 ? dn_set_output(l, l->h, l->w, l->c) : dn_set_output(l, 1, 1, l->inputs);
}
static dn_status dropout_forward(layer *l, network *net)
{
    dropout_layer *self = (dropout_layer *)l;
    const real p = net->train ? self->probability : 0;
    self->first_row = net->seen;
    net->k->dropout(net->input, l->batch, l->inputs, p, net->seed,
                    DN_RANDOM_LAYER(DN_RANDOM_DROPOUT, l->index), self->first_row, 0, l->output);
    return DN_OK;
}
static dn_status dropout_backward(layer *l, network *net)
{
    const dropout_layer *self = (dropout_layer *)l;
    const real p = net->train ? self->probability : 0;
    const delta_sink sink = input_sink(net);
    if (!sink.to) return DN_OK;
    net->k->dropout(l->delta, l->batch, l->inputs, p, net->seed, DN_RANDOM_LAYER(DN_RANDOM_DROPOUT, l->index),
                    self->first_row, sink.add, sink.to);
    return DN_OK;
}
const layer_ops dropout_ops = {
    .name = "dropout", .size = sizeof(dropout_layer), .options = dropout_options, .shape = dropout_shape,
    .forward = dropout_forward, .backward = dropout_backward,
};
