/* The tail of a map: see map_tail.h. */
#include "map_tail.h"

int has_tail(const map_tail *t) { return t->antialiasing || t->coordconv; }

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
    if (status == DN_OK) status = dn_set_output(l, h, w, c);
    if (status != DN_OK) return status;
    *t = (map_tail){t->antialiasing, t->coordconv, (int)h, (int)w, stride_x, stride_y, t->map, t->map_delta};
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
void tail_forward(const layer *l, const kernels *k, const map_tail *t)
{
    const pool_shape s = blur_of(l, t);
    if (t->antialiasing)
        k->blur_forward(t->map, &s, l->output);
    else
        k->copy(l->batch * l->outputs, t->map, 1, l->output, 1);
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
}
