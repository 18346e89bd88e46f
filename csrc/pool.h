/* The window options that [maxpool] and [local_avgpool] share. */
#ifndef DN_POOL_H
#define DN_POOL_H
#include "map_tail.h"

typedef struct {
    layer base;
    int size, stride, stride_x, stride_y, padding, depth, out_channels; /* the last two: [maxpool] */
    int *indexes;
    map_tail tail;
} pool_layer;

#define POOL_OPTIONS \
    OPTION(pool_layer, "size", size, INT), OPTION(pool_layer, "stride", stride, INT), \
        OPTION(pool_layer, "stride_x", stride_x, INT), OPTION(pool_layer, "stride_y", stride_y, INT), \
        OPTION(pool_layer, "padding", padding, INT)
extern const option_spec pool_options[];
dn_status pool_shape_layer(layer *l, network *net);
pool_shape pool_shape_of(const layer *l);
double pool_flops(const layer *l);
#endif
