/* [dropout]: in training each value is dropped with the given probability and the others grow by 1 / (1 -
 * probability); in inference nothing happens. N. Srivastava et al., JMLR 15, 2014. Which values: a function
 * of (seed, layer, row of the run). With dropblock=1 squares of a map are dropped together (AlexeyAB;
 * dropblock_kernels.c), few and small ones at first: both grow over .85 max_batches updates. */
#include "layer.h"
#include "random.h"

typedef struct {
    layer base;
    int dropblock;
    real probability, size_rel, size_abs; /* side of a block in image widths or heights, or in pixels */
    real *mask;
    uint64_t first_row;              /* of the last training pass, in rows since the run began */
} dropout_layer;

static dn_shape shape_mask(const layer *l)
{
    return ((const dropout_layer *)l)->dropblock ? shape_output(l) : dn_dims(0, 0, 0, 0, 0);
}
static const array_spec dropout_rows[] = {
    ARRAY(dropout_layer, mask, "mask", shape_mask, ACTIVATION, TRAIN_ONLY),
    END_OF_ARRAYS,
};
static const option_spec dropout_options[] = {
    OPTION(dropout_layer, "probability", probability, REAL),
    OPTION(dropout_layer, "dropblock", dropblock, INT),
    OPTION(dropout_layer, "dropblock_size_rel", size_rel, REAL),
    OPTION(dropout_layer, "dropblock_size_abs", size_abs, REAL),
    END_OF_OPTIONS,
};

static dn_status dropout_shape(layer *l, network *net)
{
    (void)net;
    const dropout_layer *self = (dropout_layer *)l;
    const real p = self->probability;
    if (!(p >= 0 && p < 1)) {
        return dn_fail_option("probability", "[dropout] probability=%g: wanted 0 or more, and less than 1",
                              (double)p);
    }
    if (self->dropblock) {
        dn_status status = dn_require_image(l);
        if (status == DN_OK) status = dn_option_in(l, "dropblock_size_rel", self->size_rel, 0, 1);
        if (status == DN_OK) status = dn_option_in(l, "dropblock_size_abs", self->size_abs, 0, 1 << 24);
        if (status != DN_OK) return status;
    }
    return l->h > 0 ? dn_set_output(l, l->h, l->w, l->c) : dn_set_output(l, 1, 1, l->inputs);
}
/* Side of a block: the smaller of width and height, at least one pixel; 7 pixels unless given. */
static int block_side(const layer *l, real grown)
{
    const dropout_layer *self = (const dropout_layer *)l;
    const int shorter = l->w < l->h ? l->w : l->h;
    const real full = self->size_rel > 0   ? self->size_rel * (real)shorter
                      : self->size_abs > 0 ? self->size_abs
                                           : 7;
    const int side = (int)(full * grown);
    return side < 1 ? 1 : side > shorter ? shorter : side;
}
static void draw_mask(const layer *l, const network *net)
{
    const dropout_layer *self = (const dropout_layer *)l;
    const real whole = (real).85 * (real)net->max_batches, done = (real)net->updates;
    const real grown = done < whole ? done / whole : 1;
    const int side = block_side(l, grown);
    net->k->dropblock_mask(l->batch, l->c, l->h, l->w, side, self->probability * grown / (real)(side * side),
                           net->seed, DN_RANDOM_LAYER(DN_RANDOM_DROPOUT, l->index), self->first_row,
                           self->mask);
}
static dn_status dropout_forward(layer *l, network *net)
{
    dropout_layer *self = (dropout_layer *)l;
    const real p = net->train ? self->probability : 0;
    self->first_row = net->seen;
    if (self->dropblock && p > 0) {
        if (!self->mask) return dn_fail(DN_ERR_ARGUMENT, "[dropout] was made for inference: it has no mask");
        draw_mask(l, net);
        net->k->multiply(l->batch * l->outputs, net->input, self->mask, 0, l->output);
        return DN_OK;
    }
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
    if (self->dropblock && p > 0) {
        net->k->multiply(l->batch * l->outputs, l->delta, self->mask, sink.add, sink.to);
        return DN_OK;
    }
    net->k->dropout(l->delta, l->batch, l->inputs, p, net->seed, DN_RANDOM_LAYER(DN_RANDOM_DROPOUT, l->index),
                    self->first_row, sink.add, sink.to);
    return DN_OK;
}
const layer_ops dropout_ops = {
    .name = "dropout",
    .size = sizeof(dropout_layer),
    .options = dropout_options,
    .arrays = dropout_rows,
    .shape = dropout_shape,
    .forward = dropout_forward,
    .backward = dropout_backward,
    .backward_reads = dn_reads_nothing,
};
