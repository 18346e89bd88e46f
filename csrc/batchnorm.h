/* Batch normalization as a part: [batchnorm] is one, [convolutional] and [connected] contain one in their
 * normalization (normalization.h). */
#ifndef DN_BATCHNORM_H
#define DN_BATCHNORM_H
#include "layer.h"

typedef struct {
    int mode;                        /* batchnorm_mode */
    int keep_x_norm;                 /* store the normalized values; else they are not kept */
    int statistics;                  /* statistics_kind */
    real rolling_momentum;           /* share of the old in the moving averages */
    PARAMETER_FIELDS(biases, bias_updates);
    PARAMETER_FIELDS(scales, scale_updates);
    real *rolling_mean, *rolling_variance;
    int *statistics_count;           /* mini-batches that went into them since they were reset */
    real *mean, *mean_rest, *variance, *mean_delta, *variance_delta, *x_norm;
} batch_normalization;

#define BATCHNORM_OPTIONS(type, norm) \
    OPTION(type, "batchnorm_mode", norm.mode, INT), OPTION(type, "keep_x_norm", norm.keep_x_norm, INT), \
        OPTION(type, "rolling_momentum", norm.rolling_momentum, REAL), \
        OPTION(type, "statistics", norm.statistics, INT)
/* Moving statistics and work arrays; the parameters stand where the layer's .weights order has them. */
#define BATCHNORM_STATISTICS(type, norm, channels, one) \
    ARRAY(type, norm.rolling_mean, "rolling_mean", channels, STATISTIC, 0), \
        ARRAY(type, norm.rolling_variance, "rolling_variance", channels, STATISTIC, 0), \
        ARRAY(type, norm.statistics_count, "statistics_count", one, COUNTER, IS_INT)
#define BATCHNORM_WORK(type, norm, statistics, channels, x_norm_shape) \
    ARRAY(type, norm.mean, "mean", statistics, ACTIVATION, 0), \
        ARRAY(type, norm.mean_rest, "mean_rest", channels, ACTIVATION, 0), \
        ARRAY(type, norm.variance, "variance", statistics, ACTIVATION, 0), \
        ARRAY(type, norm.mean_delta, "mean_delta", channels, ACTIVATION, TRAIN_ONLY), \
        ARRAY(type, norm.variance_delta, "variance_delta", channels, ACTIVATION, TRAIN_ONLY), \
        ARRAY(type, norm.x_norm, "x_norm", x_norm_shape, ACTIVATION, TRAIN_ONLY)

/* Does the layer run composed of the named kernels, x_norm stored? Otherwise fused. */
int batchnorm_composed(const layer *l, const batch_normalization *n);
int batchnorm_keeps_x_norm(const layer *l, const batch_normalization *n);
/* Does a pass normalize with the mini-batch's own statistics? Otherwise the moving ones are constants. */
int batchnorm_uses_batch(const network *net, const batch_normalization *n);

/* y = activation(scales * normalized x + biases), x (batch, channels, spatial); updates the moving
 * statistics where it normalizes with the mini-batch's. has_statistics: a convolution has taken these. With
 * l->pool the output and its delta are the pool's. */
dn_status batchnorm_forward(const layer *l, network *net, const batch_normalization *n, const real *x,
                            int channels, int spatial, ACTIVATION a, int has_statistics, real *y);
/* delta at y -> dx (written, or added to; NULL: not wanted) and the updates. With an activation dx must be
 * delta. */
dn_status batchnorm_backward(const layer *l, network *net, const batch_normalization *n, const real *x,
                             const real *y, const real *delta, int channels, int spatial, ACTIVATION a,
                             int add, real *dx);
/* Can these windows of its output be taken on the way? */
int batchnorm_takes_pool(const pool_shape *s);
/* What inference does to x, as y = scale * x + shift; arrays of (channels,). */
void batchnorm_fold(const kernels *k, const batch_normalization *n, int channels, real *scale, real *shift);
#endif
