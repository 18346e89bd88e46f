/* [layernorm]: all values of every sample together get zero mean and unit variance, then every channel a
 * learned scale and bias: group normalization with one group. J. L. Ba, J. R. Kiros and G. E. Hinton,
 * arXiv:1607.06450; behind a [connected] layer, where a channel is a neuron, exactly theirs. */
#include "groupnorm.h"

static dn_status layernorm_shape(layer *l, network *net)
{
    ((groupnorm_layer *)l)->asked = 1;
    return groupnorm_shape(l, net);
}

const layer_ops layernorm_ops = {
    .name = "layernorm",
    .size = sizeof(groupnorm_layer),
    .arrays = groupnorm_rows,
    .shape = layernorm_shape,
    .forward = groupnorm_forward_pass,
    .backward = groupnorm_backward_pass,
    .workspace = groupnorm_workspace,
};
