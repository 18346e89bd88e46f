/* The update of every parameter by its gradient. delta is the negative gradient, so updates are added. One
 * step, with B images and rate r (the network's, times the layer's own factor):
 *
 *   SGD       u += -decay B w   w += (r / B) u   u *= momentum     (u: updates, gradient and momentum in one)
 *   clipped   g = updates * min(1, max_gradient / |updates / B|)   v = momentum v + g - decay B w
 *             w += (r / B) v
 *   Adam      g = updates / B - decay w   m, v: moments of g       w += r m_hat / (sqrt(v_hat) + eps)
 *   decay_l1  then w moves towards zero by r * decay_l1 and stops there (proximal step of lambda |w|)
 *   ema_alpha: in the second half of training a moving average of every parameter is kept beside it
 *   grad_centr: u first loses its mean over each filter; clip: w is cut off at plus and minus clip at last
 *
 * decay and decay_l1 concern weights, never biases or scales. Darknet's update_*_layer, and adam_update_gpu
 * with the gradient divided by B, as SGD has it. */
#include "layer.h"
#include <math.h>

typedef struct {
    int batch, adam, clipped;
    real rate, momentum, decay, decay_l1, clip, b1, b2, eps, t;
} optimizer_step;

/* Parameters that are updated together. */
enum { TOGETHER = 16 };
typedef struct {
    int count, decays[TOGETHER];
    parameter_arrays of[TOGETHER];
} parameter_list;

/* Takes a parameter of the layer l or of its part p. Its first four rows stand together: values, updates, m,
 * v. */
static void take_parameter(const kernels *k, const layer *l, const layer *p, int row, const optimizer_step *s,
                           parameter_list *list)
{
    array_spec rows[4];
    real *data[4];
    for (int i = 0; i < 4; ++i) {
        rows[i] = dn_array_row(p, row + i);
        data[i] = dn_array_data(p, &rows[i]);
    }
    const int n = (int)dn_array_count(p, &rows[0]), decays = (rows[0].flags & DECAYS) != 0;
    if (!n || !data[0] || !data[1] || rows[0].flags & BORROWED) return;
    if (decays && l->grad_centr) {
        const int filters = rows[0].shape(p).dim[0];
        k->center_rows(filters, n / filters, data[1]);
    }
    const real decay = s->adam ? s->decay : s->decay * (real)s->batch;
    list->of[list->count] = (parameter_arrays){n, data[0], data[1], data[2], data[3], decays ? decay : 0};
    list->decays[list->count++] = decays;
}
static void update_list(const kernels *k, const layer *l, const optimizer_step *s, parameter_list *list)
{
    const real batch = (real)s->batch;
    if (s->adam) {
        k->adam_update(list->count, list->of, s->clip / batch, s->rate, s->b1, s->b2, s->eps, s->t);
    } else if (s->clipped) {
        k->momentum_update(list->count, list->of, s->clip, s->rate / batch, s->momentum);
    } else {
        k->sgd_update(list->count, list->of, s->rate / batch, s->momentum);
    }
    for (int i = 0; i < list->count; ++i) {
        const parameter_arrays *p = &list->of[i];
        if (list->decays[i] && s->decay_l1 > 0) k->soft_threshold(p->n, s->rate * s->decay_l1, p->w);
        if (list->decays[i] && l->clip > 0) k->constrain(p->n, l->clip, p->w);
    }
    list->count = 0;
}
static void update_parameters(const kernels *k, const layer *l, const optimizer_step *s)
{
    array_spec row;
    parameter_list list = {.count = 0};
    FOR_PARTS(p, l) {
        for (int i = 0; (row = dn_array_row(p, i)).name; ++i) {
            if (row.role == ARRAY_PARAMETER) take_parameter(k, l, p, i, s, &list);
            if (list.count == TOGETHER) update_list(k, l, s, &list);
        }
    }
    if (list.count) update_list(k, l, s, &list);
}

/* One step of SGD for a layer by hand. */
dn_status update_layer(layer *l, int batch, real learning_rate, real momentum, real decay)
{
    if (batch < 1) return dn_fail(DN_ERR_ARGUMENT, "batch=%d: wanted at least 1", batch);
    if (!l->train) {
        return dn_fail(DN_ERR_ARGUMENT, "[%s] was made for inference: it has no updates", l->ops->name);
    }
    const optimizer_step s = {
        .batch = batch, .rate = learning_rate * l->learning_rate, .momentum = momentum, .decay = decay};
    update_parameters(l->device->k, l, &s);
    return dn_device_status(l->device);
}
dn_status update_batchnorm_layer(layer *l, int batch, real learning_rate, real momentum, real decay)
{
    return update_layer(l, batch, learning_rate, momentum, decay);
}

/* ---- which layers learn */

double dn_updates_before(const network *net)
{
    return net->seen ? floor((double)(net->seen - 1) / ((double)net->batch * net->subdivisions)) : 0;
}
/* The layers that no gradient reaches, the first so many: stopbackward=1 and train_only_bn=1 end the backward
 * pass for good, stopbackward=N in the first N updates. Weight decay goes on there, as in Darknet, and so do
 * moving statistics. */
int dn_layers_without_gradient(const network *net)
{
    const double before = dn_updates_before(net);
    int count = 0;
    for (int i = 0; i < net->n; ++i) {
        const layer *l = net->layers[i];
        if (l->train_only_bn || l->stopbackward == 1 || l->stopbackward > before) count = i + 1;
    }
    return count;
}
/* The layers up to the last train_only_bn=1: they are not updated at all. */
static int layers_that_stay(const network *net)
{
    int count = net->n;
    while (count && !net->layers[count - 1]->train_only_bn) --count;
    return count;
}
static int learns(const network *net, const layer *l, int staying)
{
    const double before = dn_updates_before(net);
    return l->index >= staying && l->dont_update <= before &&
           (double)l->burnin_update * net->burn_in <= before + 1;
}
/* What a layer gathers while it does not learn is dropped, and does not count in the gradient's norm. */
static void drop_updates(const kernels *k, const layer *l)
{
    array_spec row;
    FOR_PARTS(p, l) {
        for (int i = 0; (row = dn_array_row(p, i)).name; ++i) {
            real *data = dn_array_data(p, &row);
            if (row.role != ARRAY_UPDATE || !data || row.flags & BORROWED) continue;
            k->fill((int)dn_array_count(p, &row), 0, data, 1);
        }
    }
}

/* ---- the step of all layers */

/* The sum of squares of each array of updates, to sums[0] and so on; NULL: they are only counted. */
static int sum_squares_of(const network *net, const layer *l, double *sums)
{
    int n = 0;
    array_spec row;
    for (int i = 0; (row = dn_array_row(l, i)).name; ++i) {
        const real *data = dn_array_data(l, &row);
        if (row.role != ARRAY_UPDATE || !data || row.flags & BORROWED) continue;
        if (sums) net->k->sum_squares((int)dn_array_count(l, &row), data, sums + n);
        ++n;
    }
    return n;
}
static int sum_all_squares(const network *net, double *sums)
{
    int n = 0;
    for (int i = 0; i < net->n; ++i) {
        FOR_PARTS(p, net->layers[i]) n += sum_squares_of(net, p, sums ? sums + n : NULL);
    }
    return n;
}
/* Layer by layer, part by part. */
static double add_squares(const network *net, const double *sums)
{
    double total = 0;
    for (int i = 0; i < net->n; ++i) {
        FOR_PARTS(p, net->layers[i]) {
            double of_part = 0;
            for (int n = sum_squares_of(net, p, NULL); n > 0; --n) of_part += *sums++;
            total += of_part;
        }
    }
    return total;
}
/* The Euclidean norm of the gradient of all layers, averaged over the batch; the host looks once. */
static dn_status find_gradient_norm(network *net, int batch, double *norm)
{
    const int n = sum_all_squares(net, NULL), on_host = dn_is_host(net->device);
    double *sums = dn_allocate((size_t)(n + 1) * sizeof *sums), *there = NULL;
    if (sums)
        there = on_host ? sums : dn_device_sums(net, n);
    else
        dn_fail(DN_ERR_MEMORY, "no memory for %d sums", n);
    dn_status status = there ? DN_OK : DN_ERR_MEMORY;
    if (there) sum_all_squares(net, there);
    if (there && !on_host) status = dn_pull_sums(net, there, n, sums);
    dn_note_parts(net, NULL, "the norm of the gradient (max_gradient)");
    if (status == DN_OK) *norm = sqrt(add_squares(net, sums)) / batch;
    dn_release(sums);
    return status;
}

/* Makes the moments that a layer lacks: it was made for another optimizer, or max_gradient was set since. */
static dn_status require_moments(const network *net)
{
    for (int i = 0; i < net->n; ++i) {
        layer *l = net->layers[i];
        if (!l->train) {
            return dn_fail(DN_ERR_ARGUMENT, "layer %d [%s] was made for inference: it has no updates", i,
                           l->ops->name);
        }
        if (net->adam) l->adam = 1;
        else if (net->max_gradient > 0) l->velocity = 1;
        if (net->ema_alpha > 0) l->averaged = 1;
        const dn_status status = allocate_layer(l, 1);
        if (status != DN_OK) return status;
    }
    return DN_OK;
}

static void average_layer(const kernels *k, const layer *l, real alpha)
{
    array_spec row;
    for (int i = 0; (row = dn_array_row(l, i)).name; ++i) {
        if (row.role != ARRAY_PARAMETER || row.flags & BORROWED) continue;
        const array_spec average = dn_array_row(l, i + 4);
        const int n = (int)dn_array_count(l, &row);
        if (!n) continue;
        k->scal(n, alpha, dn_array_data(l, &average), 1);
        k->axpy(n, 1 - alpha, dn_array_data(l, &row), 1, dn_array_data(l, &average), 1);
    }
}
/* average = alpha average + (1 - alpha) w; a copy at first. Darknet: ema_update. */
static void average_parameters(network *net)
{
    const real alpha = net->averages ? net->ema_alpha : 0;
    for (int i = 0; i < net->n; ++i) {
        FOR_PARTS(p, net->layers[i]) average_layer(net->k, p, alpha);
    }
    ++net->averages;
}

/* All layers or, where memory is lacking, none. */
dn_status dn_update_network_layers(network *net, real rate)
{
    dn_status status = require_moments(net);
    if (status != DN_OK) return status;
    optimizer_step s = {.batch = net->batch * net->subdivisions,
                        .adam = net->adam,
                        .clipped = net->max_gradient > 0,
                        .momentum = net->momentum,
                        .decay = net->decay,
                        .decay_l1 = net->decay_l1,
                        .clip = 1,
                        .b1 = net->b1,
                        .b2 = net->b2,
                        .eps = net->eps,
                        .t = (real)(net->updates + 1)};
    const int staying = layers_that_stay(net);
    for (int i = 0; i < net->n; ++i) {
        if (!learns(net, net->layers[i], staying)) drop_updates(net->k, net->layers[i]);
    }
    if (s.clipped) {
        double norm;
        status = find_gradient_norm(net, s.batch, &norm);
        if (status != DN_OK) return status;
        if (norm > net->max_gradient) s.clip = (real)(net->max_gradient / norm);
    }
    for (int i = 0; i < net->n; ++i) {
        const layer *l = net->layers[i];
        s.rate = rate * l->learning_rate;
        if (learns(net, l, staying)) update_parameters(net->k, l, &s);
    }
    if (net->ema_alpha > 0 && dn_updates_before(net) + 1 >= net->max_batches / 2.0) average_parameters(net);
    return DN_OK;
}
