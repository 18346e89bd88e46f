/* [groupnorm]: every group of channels of every sample gets zero mean and unit variance, then every channel a
 * learned scale and bias; the same in training and inference. Y. Wu and K. He, arXiv:1803.08494. The
 * formulas: groupnorm_kernels.c. */
#include "groupnorm.h"
#include "normalization.h"

/* ---- arrays, in .weights order: biases, scales */
static dn_shape shape_channels(const layer *l) { return dn_dims(1, l->out_c, 0, 0, 0); }
static dn_shape shape_statistics(const layer *l)
{
    return dn_dims(2, l->batch, ((const groupnorm_layer *)l)->groups, 0, 0);
}
const array_spec groupnorm_rows[] = {
    PARAMETER(groupnorm_layer, , biases, bias_updates, shape_channels, 0),
    PARAMETER(groupnorm_layer, , scales, scale_updates, shape_channels, 0),
    ARRAY(groupnorm_layer, mean, "mean", shape_statistics, ACTIVATION, 0),
    ARRAY(groupnorm_layer, variance, "variance", shape_statistics, ACTIVATION, 0),
    ARRAY(groupnorm_layer, base.x, "x", shape_input, ACTIVATION, BORROWED),
    END_OF_ARRAYS,
};
static const option_spec groupnorm_options[] = {OPTION(groupnorm_layer, "groups", asked, INT),
                                                END_OF_OPTIONS};

/* ---- make */
dn_status groupnorm_shape(layer *base, network *net)
{
    groupnorm_layer *l = (groupnorm_layer *)base;
    const int spatial = base->h > 0 ? base->h * base->w : 1;
    (void)net;
    dn_status status = dn_option_in(base, "groups", l->asked, 0, INT32_MAX);
    l->groups = group_count(l->asked, base->c, spatial);
    if (status == DN_OK) status = group_check(base, "groups", l->groups, base->c, spatial);
    if (status != DN_OK) return status;
    return base->h > 0 ? dn_set_output(base, base->h, base->w, base->c)
                       : dn_set_output(base, 1, 1, base->inputs);
}
size_t groupnorm_workspace(const layer *l) { return l->train ? 2 * (size_t)l->batch * l->out_c : 0; }

/* ---- forward and backward */
dn_status groupnorm_forward_pass(layer *base, network *net)
{
    const groupnorm_layer *l = (const groupnorm_layer *)base;
    net->k->groupnorm_forward(net->input, base->batch, base->out_c, base->out_h * base->out_w, l->groups,
                              l->scales, l->biases, LINEAR, l->mean, l->variance, base->output);
    return DN_OK;
}
dn_status groupnorm_backward_pass(layer *base, network *net)
{
    const groupnorm_layer *l = (const groupnorm_layer *)base;
    real *workspace = dn_workspace(net, groupnorm_workspace(base));
    if (!workspace) return DN_ERR_MEMORY;
    const delta_sink sink = input_sink(net);
    net->k->groupnorm_backward(base->x, base->output, base->delta, base->batch, base->out_c,
                               base->out_h * base->out_w, l->groups, l->scales, l->biases, LINEAR, l->mean,
                               l->variance, l->scale_updates, l->bias_updates, sink.add, sink.to, workspace);
    return DN_OK;
}

const layer_ops groupnorm_ops = {
    .name = "groupnorm",
    .size = sizeof(groupnorm_layer),
    .options = groupnorm_options,
    .arrays = groupnorm_rows,
    .shape = groupnorm_shape,
    .forward = groupnorm_forward_pass,
    .backward = groupnorm_backward_pass,
    .workspace = groupnorm_workspace,
};
