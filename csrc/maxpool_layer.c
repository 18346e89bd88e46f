/* [maxpool]: the largest value of each window; with maxpool_depth=1 the largest over channels instead: output
 * channel g is the largest of the input's channels g, g + out_channels, g + 2 out_channels, ... (AlexeyAB).
 * antialiasing: map_tail.h. A layer whose only reader it is may do its work: it is `pooled` (memory_plan.c).
 */
#include "pool.h"
#include <math.h>

static dn_shape shape_map(const layer *l) { return shape_tail(l, &((const pool_layer *)l)->tail); }
static dn_shape shape_indexes(const layer *l)
{
    const map_tail *t = &((const pool_layer *)l)->tail;
    return dn_dims(4, l->batch, l->out_c, t->h, t->w);
}
static const array_spec maxpool_rows[] = {
    ARRAY(pool_layer, indexes, "indexes", shape_indexes, ACTIVATION,
          TRAIN_ONLY | IS_INT), /* where in the input each maximum stood */
    MAP_TAIL_ROWS(pool_layer, tail, shape_map),
    END_OF_ARRAYS,
};
static const option_spec maxpool_options[] = {
    POOL_OPTIONS,
    OPTION(pool_layer, "maxpool_depth", depth, INT),
    OPTION(pool_layer, "out_channels", out_channels, INT),
    OPTION(pool_layer, "antialiasing", tail.antialiasing, INT),
    END_OF_OPTIONS,
};
static dn_status maxpool_shape(layer *l, network *net)
{
    pool_layer *self = (pool_layer *)l;
    if (!self->depth) return pool_shape_layer(l, net);
    dn_status status = dn_require_image(l);
    if (status == DN_OK) status = dn_option_in(l, "out_channels", self->out_channels, 1, l->c);
    if (status == DN_OK) status = dn_option_in(l, "size", self->size, 1, 32767);
    if (status == DN_OK) status = dn_option_in(l, "stride", self->stride, 1, INFINITY);
    if (status != DN_OK) return status;
    const int stride_x = self->stride_x < 1 ? self->stride : self->stride_x,
              stride_y = self->stride_y < 1 ? self->stride : self->stride_y;
    return tail_shape(l, &self->tail, l->h, l->w, self->out_channels, stride_x, stride_y);
}
static pool_shape maxpool_windows(const layer *l)
{
    const pool_layer *self = (const pool_layer *)l;
    return self->depth || has_tail(&self->tail) ? (pool_shape){0} : pool_shape_of(l);
}
static dn_status maxpool_forward(layer *l, network *net)
{
    const pool_layer *self = (pool_layer *)l;
    if (l->pooled) {
        l->x = l->output; /* it has run, on an input that nobody has written */
        return DN_OK;
    }
    const pool_shape s = pool_shape_of(l);
    real *map = self->tail.map ? self->tail.map : l->output;
    if (self->depth) {
        net->k->maxpool_depth(net->input, l->batch, l->c, l->h * l->w, l->out_c, map, self->indexes);
    } else {
        net->k->maxpool_forward(net->input, &s, map, self->indexes);
    }
    if (self->tail.map) tail_forward(l, net, &self->tail);
    return DN_OK;
}
static dn_status maxpool_backward(layer *l, network *net)
{
    const pool_layer *self = (pool_layer *)l;
    const kernels *k = net->k;
    const pool_shape s = pool_shape_of(l);
    if (self->tail.map) tail_backward(l, net->k, &self->tail);
    const delta_sink sink = input_sink(net);
    if (l->pooled) return DN_OK;
    const real *delta = self->tail.map ? self->tail.map_delta : l->delta;
    if (sink.to && self->depth) {
        k->maxpool_depth_backward(delta, self->indexes, l->batch, l->c, l->h * l->w, l->out_c, sink.add,
                                  sink.to);
    } else if (sink.to) {
        k->maxpool_backward(delta, self->indexes, &s, sink.add, sink.to);
    }
    return DN_OK;
}
const layer_ops maxpool_ops = {
    .name = "maxpool",
    .size = sizeof(pool_layer),
    .options = maxpool_options,
    .arrays = maxpool_rows,
    .shape = maxpool_shape,
    .forward = maxpool_forward,
    .backward = maxpool_backward,
    .backward_reads = dn_reads_nothing,
    .windows = maxpool_windows,
    .flops = pool_flops,
};
