/* [maxpool]: the largest value of each window. */
#include "pool.h"

static dn_shape shape_indexes(const layer *l) { return shape_output(l); }
static const array_spec maxpool_rows[] = {
    ARRAY(pool_layer, indexes, "indexes", shape_indexes, ACTIVATION,
          TRAIN_ONLY | IS_INT), /* where in the input each maximum stood */
    END_OF_ARRAYS,
};
static dn_status maxpool_forward(layer *l, network *net)
{
    const pool_shape s = pool_shape_of(l);
    net->k->maxpool_forward(net->input, &s, l->output, ((pool_layer *)l)->indexes);
    return DN_OK;
}
static dn_status maxpool_backward(layer *l, network *net)
{
    const pool_shape s = pool_shape_of(l);
    const delta_sink sink = input_sink(net);
    if (sink.to) net->k->maxpool_backward(l->delta, ((pool_layer *)l)->indexes, &s, sink.add, sink.to);
    return DN_OK;
}
const layer_ops maxpool_ops = {
    .name = "maxpool",
    .size = sizeof(pool_layer),
    .options = pool_options,
    .arrays = maxpool_rows,
    .shape = pool_shape_layer,
    .forward = maxpool_forward,
    .backward = maxpool_backward,
    .flops = pool_flops,
};
