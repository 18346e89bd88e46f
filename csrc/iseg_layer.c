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
 * The cost is the sum of squares of delta. */
#include "head.h"
#include "scalar.h"

enum { INSTANCES = 90 };
typedef struct {
    layer base;
    int classes, ids;
    real *loss, *means; /* means: (INSTANCES, ids) of the image at work */
} iseg_layer;
#define SELF(l) const iseg_layer *self = (const iseg_layer *)(l)

static const option_spec iseg_options[] = {OPTION(iseg_layer, "classes", classes, INT),
                                           OPTION(iseg_layer, "ids", ids, INT), END_OF_OPTIONS};
static dn_shape shape_means(const layer *l)
{
    return dn_dims(2, INSTANCES, ((const iseg_layer *)l)->ids, 0, 0);
}
static const array_spec iseg_rows[] = {ARRAY(iseg_layer, loss, "loss", shape_output, ACTIVATION, TRAIN_ONLY),
                                       ARRAY(iseg_layer, means, "means", shape_means, ACTIVATION, TRAIN_ONLY),
                                       END_OF_ARRAYS};

static int pixels(const iseg_layer *self) { return self->base.h * self->base.w; }
static const real *instance(const iseg_layer *self, const head_image *im, int i)
{
    return im->truth + (size_t)i * (pixels(self) + 1);
}
static int count_instances(const iseg_layer *self, const head_image *im)
{
    int n = 0;
    while (n < INSTANCES && instance(self, im, n)[0] >= 0) ++n;
    return n;
}
static size_t embedding_at(const iseg_layer *self, int z, int k)
{
    return (size_t)(self->classes + z) * pixels(self) + k;
}

/* Before any instance: no class, and a small embedding. */
static void pull_background(const iseg_layer *self, const head_image *im)
{
    for (size_t at = 0; at < (size_t)self->base.outputs; ++at) {
        if (at < (size_t)self->classes * pixels(self))
            dn_pull_logit(im, at, 0, 1);
        else
            dn_pull_value(im, at, 0, (real).001);
    }
}
static void find_mean(const iseg_layer *self, const head_image *im, int i)
{
    const real *mask = instance(self, im, i) + 1;
    real *mean = self->means + (size_t)i * self->ids;
    for (int z = 0; z < self->ids; ++z) {
        double sum = 0;
        int count = 0;
        for (int k = 0; k < pixels(self); ++k) {
            if (mask[k] == 0) continue;
            sum += im->p[embedding_at(self, z, k)];
            ++count;
        }
        mean[z] = count ? (real)(sum / count) : 0;
    }
}
static int is_empty(const iseg_layer *self, const head_image *im, int i)
{
    const real *mask = instance(self, im, i) + 1;
    for (int k = 0; k < pixels(self); ++k) {
        if (mask[k] != 0) return 0;
    }
    return 1;
}
static void pull_embedding(const iseg_layer *self, const head_image *im, int k, int i, int j)
{
    const real *mean = self->means + (size_t)j * self->ids, pull = i == j ? (real).001 : (real)-.001;
    for (int z = 0; z < self->ids; ++z) {
        const size_t at = embedding_at(self, z, k);
        const real d = mean[z] - im->p[at];
        im->delta[at] += d < 0 ? -pull : pull;
        im->loss[at] += pull * (d < 0 ? -d : d);
    }
}
static void train_image(const iseg_layer *self, const head_image *im)
{
    const int n = count_instances(self, im);
    pull_background(self, im);
    for (int i = 0; i < n; ++i) {
        const real *row = instance(self, im, i);
        for (int k = 0; k < pixels(self); ++k) {
            if (row[1 + k] != 0) dn_pull_logit(im, (size_t)row[0] * pixels(self) + k, row[1 + k], 1);
        }
        find_mean(self, im, i);
    }
    for (int j = 0; j < n; ++j) {
        if (is_empty(self, im, j)) continue;
        for (int i = 0; i < n; ++i) {
            const real *mask = instance(self, im, i) + 1;
            for (int k = 0; k < pixels(self); ++k) {
                if (mask[k] != 0) pull_embedding(self, im, k, i, j);
            }
        }
    }
}
static void train(layer *l, real *delta, real *loss)
{
    SELF(l);
    for (int b = 0; b < l->batch; ++b) {
        const size_t at = (size_t)b * l->outputs;
        const head_image im = {l->x + at, l->output + at, l->truth + (size_t)b * l->truths, delta + at,
                               loss + at};
        train_image(self, &im);
    }
}
static dn_status check_truth(const layer *l, const real *truth)
{
    SELF(l);
    for (int b = 0; b < l->batch; ++b) {
        const head_image im = {.truth = truth + (size_t)b * l->truths};
        for (int i = 0; i < INSTANCES; ++i) {
            const real c = instance(self, &im, i)[0];
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
    SELF(l);
    net->k->copy(l->batch * l->outputs, net->input, 1, l->output, 1);
    for (int b = 0; b < l->batch; ++b) {
        net->k->activate_array(l->output + (size_t)b * l->outputs, self->classes * pixels(self), LOGISTIC);
    }
    if (!net->truth || !l->delta) return DN_OK;
    const dn_status status = check_truth(l, net->truth);
    if (status != DN_OK) return status;
    train(l, l->delta, self->loss);
    l->cost = dn_sum_of_squares(l, net, l->delta);
    l->has_cost = 1;
    return DN_OK;
}
static dn_status iseg_backward(layer *l, network *net)
{
    SELF(l);
    const kernels *k = net->k;
    const int all = l->batch * l->outputs, others = !l->has_cost || l->delta_live;
    const delta_sink sink = input_sink(net);
    real *work, *loss;
    if (!sink.to) return DN_OK;
    for (int b = 0; b < l->batch && others; ++b) {
        const size_t at = (size_t)b * l->outputs;
        k->gradient_array(l->output + at, self->classes * pixels(self), LOGISTIC, l->delta + at);
    }
    k->pass_delta(all, 1, l->delta, sink.add, sink.to);
    if (!others || !l->has_cost) return DN_OK;
    if (dn_head_work(l, net, &work, &loss) != DN_OK) return DN_ERR_MEMORY;
    train(l, work, loss);
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
    if (__builtin_mul_overflow(INSTANCES, l->h * l->w + 1, &l->truths)) {
        return dn_fail(DN_ERR_OPTION, "[iseg] maps of %dx%d: too large for masks of %d instances", l->w, l->h,
                       INSTANCES);
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
    .on_host = 1,
};
