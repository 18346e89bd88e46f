/* The tail of a map: see map_tail.h. */
#include "map_tail.h"
#include <math.h>

int has_tail(const map_tail *t) { return t->antialiasing || t->coordconv || t->assisted_excitation; }

static int blur_size(const map_tail *t) { return t->antialiasing == 2 ? 2 : 3; }
static int blur_offset(const map_tail *t) { return t->antialiasing == 2 ? 0 : 1; }
static pool_shape blur_of(const layer *l, const map_tail *t)
{
    return (pool_shape){.batch = l->batch,
                        .c = l->out_c,
                        .h = t->h,
                        .w = t->w,
                        .size = blur_size(t),
                        .stride_x = t->stride_x,
                        .stride_y = t->stride_y,
                        .offset = blur_offset(t),
                        .out_h = l->out_h,
                        .out_w = l->out_w};
}
dn_status tail_shape(layer *l, map_tail *t, int64_t h, int64_t w, int64_t c, int stride_x, int stride_y)
{
    dn_status status = dn_option_in(l, "antialiasing", t->antialiasing, 0, 2);
    if (status == DN_OK) status = dn_option_in(l, "assisted_excitation", t->assisted_excitation, 0, INFINITY);
    if (status == DN_OK) status = dn_set_output(l, h, w, c);
    if (status != DN_OK) return status;
    t->h = (int)h;
    t->w = (int)w;
    t->stride_x = stride_x;
    t->stride_y = stride_y;
    if (!t->antialiasing) return DN_OK;
    const int64_t over = 2 * blur_offset(t) - blur_size(t);
    if (h + over < 0 || w + over < 0) {
        return dn_fail_option("antialiasing",
                              "[%s] antialiasing=%d: wanted a map of at least %dx%d, got %dx%d", l->ops->name,
                              t->antialiasing, blur_size(t), blur_size(t), t->w, t->h);
    }
    return dn_set_output(l, (h + over) / stride_y + 1, (w + over) / stride_x + 1, c);
}
dn_shape shape_tail(const layer *l, const map_tail *t)
{
    return dn_dims(has_tail(t) ? 4 : 0, l->batch, l->out_c, t->h, t->w);
}
dn_shape shape_excited(const layer *l, const map_tail *t)
{
    return dn_dims(t->assisted_excitation ? 3 : 0, l->batch, t->h, t->w, 0);
}

/* ---- assisted excitation */
static real excitation(const network *net, const map_tail *t)
{
    const double updates = t->assisted_excitation > 1 ? t->assisted_excitation : net->max_batches,
                 done = dn_updates_before(net);
    return done < updates ? (real)(1 + cos(3.14159265358979323846 * done / updates)) : 0;
}
/* The first head behind the layer whose truth has boxes says how; without one nothing is excited. */
static void find_excited(const layer *l, const network *net, const map_tail *t)
{
    const real alpha = excitation(net, t);
    const layer *head = NULL;
    for (int i = l->index + 1; i < net->n && !head; ++i) {
        if (net->layers[i]->ops->box_size) head = net->layers[i];
    }
    if (!head || !net->train || !net->truth || alpha == 0) {
        net->k->fill(l->batch * t->h * t->w, 0, t->excited, 1);
        return;
    }
    net->k->mark_boxes(net->truth, l->batch, head->truths, head->ops->box_size(head), t->h, t->w, alpha,
                       t->excited);
}

/* ---- forward and backward */
void tail_forward(const layer *l, const network *net, const map_tail *t)
{
    const kernels *k = net->k;
    const pool_shape s = blur_of(l, t);
    const int all = l->batch * l->out_c * t->h * t->w;
    const real *map = t->map;
    if (t->excited) { /* the map itself stays: the activation's slope is found from it */
        find_excited(l, net, t);
        k->copy(all, map, 1, t->map_delta, 1);
        k->excite(t->map_delta, l->batch, l->out_c, t->h * t->w, t->excited);
        map = t->map_delta;
    }
    if (t->antialiasing)
        k->blur_forward(map, &s, l->output);
    else
        k->copy(all, map, 1, l->output, 1);
    if (t->coordconv) k->coordinates(l->batch, l->out_c, l->out_h, l->out_w, 0, l->output);
}
void tail_backward(const layer *l, const kernels *k, const map_tail *t)
{
    const pool_shape s = blur_of(l, t);
    if (t->coordconv) k->coordinates(l->batch, l->out_c, l->out_h, l->out_w, 1, l->delta);
    if (t->antialiasing)
        k->blur_backward(l->delta, &s, 0, t->map_delta);
    else
        k->copy(l->batch * l->outputs, l->delta, 1, t->map_delta, 1);
    if (t->excited) k->excite(t->map_delta, l->batch, l->out_c, t->h * t->w, t->excited);
}
