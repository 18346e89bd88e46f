/* [iseg]: instance segmentation of a map of h x w pixels (pjreddie).
 *
 * The input has `classes` channels, which go through the logistic, and `ids` more, each pixel's embedding e,
 * which stay as they are. A truth has 90 rows: a class (below 0: no more rows) and a mask of h x w values,
 * not 0 where the instance is.
 *
 * Losses:
 *   classes             the cross-entropy towards the mask where an instance of the class is, else 0;
 *                       delta t - p
 *   embedding           0.01 (0.05 e^2 + 0.1 |mean - e| - 0.1 sum over other instances of |their mean - e|),
 *                       the last two in pixels of an instance: towards its mean, away from the others';
 *                       the means are constants; delta 0.01 (-0.1 e + 0.1 sign(mean - e) - ...)
 * The cost is the sum of squares of delta. The formulas in C: iseg_rules.h. */
#include "head.h"
#include "iseg_rules.h"

typedef struct {
    layer base;
    int classes, ids;
    real *loss, *means; /* means of the instances: (batch, ISEG_INSTANCES, ids) */
    int *sizes;         /* their pixels, -1 behind the last instance: (batch, ISEG_INSTANCES) */
} iseg_layer;
#define SELF(l) const iseg_layer *self = (const iseg_layer *)(l)

static const option_spec iseg_options[] = {OPTION(iseg_layer, "classes", classes, INT),
                                           OPTION(iseg_layer, "ids", ids, INT), END_OF_OPTIONS};
static dn_shape shape_means(const layer *l)
{
    return dn_dims(3, l->batch, ISEG_INSTANCES, ((const iseg_layer *)l)->ids, 0);
}
static dn_shape shape_sizes(const layer *l) { return dn_dims(2, l->batch, ISEG_INSTANCES, 0, 0); }
static const array_spec iseg_rows[] = {
    ARRAY(iseg_layer, loss, "loss", shape_output, ACTIVATION, TRAIN_ONLY),
    ARRAY(iseg_layer, means, "means", shape_means, ACTIVATION, TRAIN_ONLY),
    ARRAY(iseg_layer, sizes, "sizes", shape_sizes, ACTIVATION, TRAIN_ONLY | IS_INT),
    END_OF_ARRAYS,
};

/* What the kernel is told. */
static iseg_rules rules_of(const iseg_layer *self)
{
    const layer *l = &self->base;
    return (iseg_rules){l->batch, l->h, l->w, self->classes, self->ids};
}
static void train(layer *l, network *net, real *delta, real *loss)
{
    SELF(l);
    const iseg_rules r = rules_of(self);
    net->k->iseg_train(&r, l->x, l->output, l->truth, self->means, self->sizes, delta, loss);
}
static dn_status check_truth(const layer *l, const real *truth)
{
    SELF(l);
    const iseg_rules r = rules_of(self);
    for (int b = 0; b < l->batch; ++b) {
        for (int i = 0; i < ISEG_INSTANCES; ++i) {
            const real c = iseg_row(&r, truth + (size_t)b * l->truths, i)[0];
            if (c < 0) break;
            if (c < self->classes) continue;
            return dn_fail(DN_ERR_ARGUMENT,
                           "[iseg] truth of image %d, instance %d: class %g: wanted 0 to %d, or "
                           "below 0 for the end",
                           b, i, (double)c, self->classes - 1);
        }
    }
    return DN_OK;
}

/* ---- the passes */
static dn_status iseg_forward(layer *l, network *net)
{
    const iseg_rules r = rules_of((const iseg_layer *)l);
    net->k->copy(l->batch * l->outputs, net->input, 1, l->output, 1);
    for (int b = 0; b < l->batch; ++b) {
        net->k->activate_array(l->output + (size_t)b * l->outputs, (int)iseg_classes(&r), LOGISTIC);
    }
    if (!net->truth || !l->delta) return DN_OK;
    const dn_status status = dn_check_truth(l, net, check_truth);
    if (status != DN_OK) return status;
    train(l, net, l->delta, ((const iseg_layer *)l)->loss);
    dn_find_cost(l, net, net->k->sum_squares, l->delta);
    l->has_cost = 1;
    return DN_OK;
}
static dn_status iseg_backward(layer *l, network *net)
{
    const iseg_rules r = rules_of((const iseg_layer *)l);
    const kernels *k = net->k;
    const int all = l->batch * l->outputs, others = !l->has_cost || l->delta_live;
    const delta_sink sink = input_sink(net);
    real *work, *loss;
    if (!sink.to) return DN_OK;
    for (int b = 0; b < l->batch && others; ++b) {
        const size_t at = (size_t)b * l->outputs;
        k->gradient_array(l->output + at, (int)iseg_classes(&r), LOGISTIC, l->delta + at);
    }
    k->pass_delta(all, 1, l->delta, sink.add, sink.to);
    if (!others || !l->has_cost) return DN_OK;
    if (dn_head_work(l, net, &work, &loss) != DN_OK) return DN_ERR_MEMORY;
    train(l, net, work, loss);
    k->pass_delta(all, 1, work, 1, sink.to);
    return DN_OK;
}

static dn_status iseg_shape(layer *l, network *net)
{
    SELF(l);
    (void)net;
    dn_status status = dn_require_image(l);
    if (status == DN_OK) status = dn_option_in(l, "classes", self->classes, 1, 1 << 20);
    if (status == DN_OK) status = dn_option_in(l, "ids", self->ids, 1, 1 << 20);
    if (status != DN_OK) return status;
    if (l->c != self->classes + self->ids) {
        return dn_fail_option("classes",
                              "[iseg] has an input of %d channels: wanted %d = %d classes + %d ids", l->c,
                              self->classes + self->ids, self->classes, self->ids);
    }
    if (__builtin_mul_overflow(ISEG_INSTANCES, l->h * l->w + 1, &l->truths)) {
        return dn_fail(DN_ERR_OPTION, "[iseg] maps of %dx%d: too large for masks of %d instances", l->w, l->h,
                       ISEG_INSTANCES);
    }
    return dn_set_output(l, l->h, l->w, l->c);
}

const layer_ops iseg_ops = {
    .name = "iseg",
    .size = sizeof(iseg_layer),
    .options = iseg_options,
    .arrays = iseg_rows,
    .shape = iseg_shape,
    .forward = iseg_forward,
    .backward = iseg_backward,
    .workspace = dn_head_workspace,
    .is_loss = 1,
};
