/* What follows the sums of [convolutional] and [connected], in one place: a bias, a normalization, and an
 * activation before or after it.
 *     normalize=none                  y = f(sums + biases)
 *     normalize=KIND                  y = f(normalization(sums))
 *     normalize_after_activation=1    y = normalization(f(sums + inner_biases))
 * The normalization has scales and biases of its own, one per channel, of whatever kind it is. */
#ifndef DN_NORMALIZATION_H
#define DN_NORMALIZATION_H
#include "batchnorm.h"
#include "map_tail.h"

typedef struct {
    int kind, groups, after;         /* normalization_kind; groups as asked for, 0: see group_count() */
    int activation;
    batch_normalization batch;       /* its parameters and statistics serve every kind */
    PARAMETER_FIELDS(inner_biases, inner_bias_updates);
    real *x;                         /* what is normalized */
    real *activation_input;          /* before an activation whose output does not tell the slope */
    real *folded;                    /* batch normalization of inference as scale and shift */
    map_tail tail;                   /* of [convolutional]; what follows is about its map, if it has one */
} normalization;

/* Options, and rows: the parameters and statistics stand where the layer's .weights order has them. */
#define NORMALIZATION_OPTIONS(type, norm) \
    OPTION(type, "normalize", norm.kind, INT), OPTION(type, "norm_groups", norm.groups, INT), \
        OPTION(type, "normalize_after_activation", norm.after, INT), \
        OPTION(type, "activation", norm.activation, INT), BATCHNORM_OPTIONS(type, norm.batch)
#define NORMALIZATION_BIASES(type, norm) \
    PARAMETER(type, norm.batch., biases, bias_updates, shape_norm_biases, 0)
#define NORMALIZATION_SCALES(type, norm) \
    PARAMETER(type, norm.batch., scales, scale_updates, shape_norm_scales, 0), \
        BATCHNORM_STATISTICS(type, norm.batch, shape_norm_rolling, shape_norm_count)
#define NORMALIZATION_INNER_BIASES(type, norm) \
    PARAMETER(type, norm., inner_biases, inner_bias_updates, shape_norm_inner_biases, 0)
#define NORMALIZATION_WORK(type, norm) \
    BATCHNORM_WORK(type, norm.batch, shape_norm_statistics, shape_norm_rolling, shape_norm_x_norm), \
        ARRAY(type, norm.x, "x", shape_norm_x, ACTIVATION, TRAIN_ONLY), \
        ARRAY(type, norm.activation_input, "activation_input", shape_norm_activation_input, ACTIVATION, \
              TRAIN_ONLY), \
        ARRAY(type, norm.folded, "folded", shape_norm_folded, ACTIVATION, 0)
dn_shape shape_norm_biases(const layer *l);
dn_shape shape_norm_scales(const layer *l);
dn_shape shape_norm_rolling(const layer *l);
dn_shape shape_norm_count(const layer *l);
dn_shape shape_norm_inner_biases(const layer *l);
dn_shape shape_norm_statistics(const layer *l);
dn_shape shape_norm_x_norm(const layer *l);
dn_shape shape_norm_x(const layer *l);
dn_shape shape_norm_activation_input(const layer *l);
dn_shape shape_norm_folded(const layer *l);

/* Groups in effect for so many channels of so many values: as asked, or the most of at most 32 (Wu and He's
 * number) that divide the channels and leave each group more than one value; 0 where there are none. */
int group_count(int asked, int channels, int spatial);
/* Refuses groups that do not divide the channels, and groups of one value, whose output is the bias. */
dn_status group_check(const layer *l, const char *key, int groups, int channels, int spatial);

dn_status normalization_check(const layer *l, const normalization *n); /* once the output's shape is known */
size_t normalization_workspace(const layer *l, const normalization *n);
/* Where the layer writes its sums. What of the rest it can do on the way, while a tile of them is in the
 * cache, is the epilogue. */
real *normalization_sums(const layer *l, const normalization *n);
conv_epilogue normalization_epilogue(const layer *l, const network *net, const normalization *n);
/* Sums -> l->output; done: the epilogue, where the layer has applied it, else NULL. */
dn_status normalization_forward(const layer *l, network *net, const normalization *n, real *sums,
                                const conv_epilogue *done);
/* Can it take these windows of its output on the way? In training, not behind activations whose slope the
 * values that were not kept would tell no more cheaply; in inference as part of the epilogue, or where that
 * takes statistics (recompute), as in training. */
int normalization_takes_pool(const layer *l, const normalization *n, const pool_shape *windows);
/* What the backward pass reads of the layer's input and output: of the output alone, see READS_*. */
int normalization_reads(const layer *l, const normalization *n);
/* In place: l->delta at the output -> delta at the sums; and the updates. */
dn_status normalization_backward(const layer *l, network *net, const normalization *n);
#endif
