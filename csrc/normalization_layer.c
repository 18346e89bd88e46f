/* [normalization], [lrn]: local response normalization across channels; formula and Darknet's window stand in
 * channel_norm_kernels.c. */
#include "layer.h"
#include <math.h>

typedef struct {
    layer base;
    int size;
    real alpha, beta, kappa;
    real *norms;
} normalization_layer;
#define SELF(l) const normalization_layer *self = (const normalization_layer *)(l)

static const array_spec normalization_rows[] = {
    ARRAY(normalization_layer, norms, "norms", shape_output, ACTIVATION, TRAIN_ONLY),
    END_OF_ARRAYS,
};
static const option_spec normalization_options[] = {
    OPTION(normalization_layer, "size", size, INT),
    OPTION(normalization_layer, "alpha", alpha, REAL),
    OPTION(normalization_layer, "beta", beta, REAL),
    OPTION(normalization_layer, "kappa", kappa, REAL),
    END_OF_OPTIONS,
};

static dn_status normalization_shape(layer *l, network *net)
{
    SELF(l);
    (void)net;
    dn_status status = dn_require_image(l);
    if (status == DN_OK) status = dn_option_in(l, "size", self->size, 1, 1 << 24);
    return status == DN_OK ? dn_set_output(l, l->h, l->w, l->c) : status;
}
static size_t normalization_layer_workspace(const layer *l)
{
    return l->train ? 3 * (size_t)l->batch * l->outputs : 0;
}
static dn_status normalization_layer_forward(layer *l, network *net)
{
    SELF(l);
    net->k->lrn_forward(net->input, l->batch, l->c, l->h * l->w, self->size, self->alpha, self->beta,
                        self->kappa, self->norms, l->output);
    return DN_OK;
}
static dn_status normalization_layer_backward(layer *l, network *net)
{
    SELF(l);
    const delta_sink sink = input_sink(net);
    if (!sink.to) return DN_OK;
    real *workspace = dn_workspace(net, normalization_layer_workspace(l));
    if (!workspace) return DN_ERR_MEMORY;
    net->k->lrn_backward(net->input, l->output, self->norms, l->delta, l->batch, l->c, l->h * l->w,
                         self->size, self->alpha, self->beta, sink.add, sink.to, workspace);
    return DN_OK;
}
const layer_ops normalization_ops = {
    .name = "normalization",
    .size = sizeof(normalization_layer),
    .options = normalization_options,
    .arrays = normalization_rows,
    .shape = normalization_shape,
    .forward = normalization_layer_forward,
    .backward = normalization_layer_backward,
    .workspace = normalization_layer_workspace,
};
