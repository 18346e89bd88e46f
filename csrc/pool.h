/* The window options that [maxpool] and [local_avgpool] share. */
#ifndef DN_POOL_H
#define DN_POOL_H
#include "layer.h"

typedef struct {
    layer base;
    int size, stride, stride_x, stride_y, padding;
    int *indexes;
} pool_layer;

extern const option_spec pool_options[];
dn_status pool_shape_layer(layer *l, network *net);
pool_shape pool_shape_of(const layer *l);
double pool_flops(const layer *l);
#endif
