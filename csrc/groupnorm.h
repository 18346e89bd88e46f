/* [groupnorm] and [layernorm], which is the former with one group. */
#ifndef DN_GROUPNORM_H
#define DN_GROUPNORM_H
#include "layer.h"

typedef struct {
    layer base;
    int asked, groups;               /* as asked for, 0: see group_count(); in effect */
    PARAMETER_FIELDS(biases, bias_updates);
    PARAMETER_FIELDS(scales, scale_updates);
    real *mean, *variance;
} groupnorm_layer;

extern const array_spec groupnorm_rows[];
dn_status groupnorm_shape(layer *l, network *net);
size_t groupnorm_workspace(const layer *l);
dn_status groupnorm_forward_pass(layer *l, network *net);
dn_status groupnorm_backward_pass(layer *l, network *net);
#endif
