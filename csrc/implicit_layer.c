/* [implicit]: a learned vector, (filters, atoms, 1), the same for every image; its input is not looked at
 * (implicit knowledge of C.-Y. Wang et al., arXiv:2105.04206). [scale_channels] multiplies by it, [shortcut]
 * and [route] add and append it. */
#include "layer.h"
#include <math.h>

typedef struct {
    layer base;
    int filters, atoms;
    real mean, std;
    PARAMETER_FIELDS(weights, weight_updates);
} implicit_layer;
#define SELF(l) const implicit_layer *self = (const implicit_layer *)(l)

static dn_shape shape_weights(const layer *l)
{
    SELF(l);
    return dn_dims(2, self->filters, self->atoms, 0, 0);
}
static const array_spec implicit_rows[] = {
    PARAMETER(implicit_layer, , weights, weight_updates, shape_weights, DECAYS),
    END_OF_ARRAYS,
};
static const option_spec implicit_options[] = {
    OPTION(implicit_layer, "filters", filters, INT),
    OPTION(implicit_layer, "atoms", atoms, INT),
    OPTION(implicit_layer, "mean", mean, REAL),
    OPTION(implicit_layer, "std", std, REAL),
    END_OF_OPTIONS,
};

static dn_status implicit_shape(layer *l, network *net)
{
    SELF(l);
    (void)net;
    dn_status status = dn_option_in(l, "filters", self->filters, 1, INFINITY);
    if (status == DN_OK) status = dn_option_in(l, "atoms", self->atoms, 1, INFINITY);
    return status == DN_OK ? dn_set_output(l, self->atoms, 1, self->filters) : status;
}
/* mean + std U(-1, 1) */
static void implicit_initialize(layer *l, uint64_t seed)
{
    SELF(l);
    dn_fill_random(self->weights, l->outputs, self->std, 1, seed, l->index);
    for (int i = 0; i < l->outputs; ++i) self->weights[i] += self->mean;
}
static dn_status implicit_forward(layer *l, network *net)
{
    SELF(l);
    net->k->copy_rows(l->batch, l->outputs, 1, self->weights, 0, 0, l->output, l->outputs);
    return DN_OK;
}
static dn_status implicit_backward(layer *l, network *net)
{
    SELF(l);
    net->k->backward_bias(self->weight_updates, l->delta, l->batch, l->outputs, 1);
    return DN_OK;
}
const layer_ops implicit_ops = {
    .name = "implicit",
    .size = sizeof(implicit_layer),
    .options = implicit_options,
    .arrays = implicit_rows,
    .shape = implicit_shape,
    .forward = implicit_forward,
    .backward = implicit_backward,
    .initialize = implicit_initialize,
};
