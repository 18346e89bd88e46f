/* Windows of [maxpool] and [local_avgpool]. Output side: (in + padding - size) / stride + 1, and the first
 * window starts at -(padding / 2): Darknet's rule, whose padding counts both sides together and is size - 1
 * unless given. */
#include "pool.h"
#include <math.h>

const option_spec pool_options[] = {POOL_OPTIONS, END_OF_OPTIONS};

dn_status pool_shape_layer(layer *l, network *net)
{
    pool_layer *self = (pool_layer *)l;
    (void)net;
    if (self->stride_x < 1) self->stride_x = self->stride;
    if (self->stride_y < 1) self->stride_y = self->stride;
    dn_status status = dn_require_image(l);
    if (status == DN_OK) status = dn_option_in(l, "size", self->size, 1, 32767);
    if (status == DN_OK) status = dn_option_in(l, "stride_x", self->stride_x, 1, INFINITY);
    if (status == DN_OK) status = dn_option_in(l, "stride_y", self->stride_y, 1, INFINITY);
    if (status == DN_OK) status = dn_option_in(l, "padding", self->padding, 0, 65534);
    if (status != DN_OK) return status;
    if (self->padding - self->padding / 2 >= self->size) {
        return dn_fail_option(
            "padding",
            "[%s] padding=%d: wanted less than 2 * size - 1 = %d, or a window would lie outside the image",
            l->ops->name, self->padding, 2 * self->size - 1);
    }
    const int64_t h = (int64_t)l->h + self->padding, w = (int64_t)l->w + self->padding;
    if (h < self->size || w < self->size) {
        return dn_fail_option("size", "[%s] size=%d: wanted at most the image with its padding, %lldx%lld",
                              l->ops->name, self->size, (long long)h, (long long)w);
    }
    const int blurs = self->tail.antialiasing != 0; /* the stride is then the blur's */
    return tail_shape(l, &self->tail, (h - self->size) / (blurs ? 1 : self->stride_y) + 1,
                      (w - self->size) / (blurs ? 1 : self->stride_x) + 1, l->c, self->stride_x,
                      self->stride_y);
}
pool_shape pool_shape_of(const layer *l)
{
    const pool_layer *self = (const pool_layer *)l;
    const int blurs = self->tail.antialiasing != 0;
    return (pool_shape){.batch = l->batch,
                        .c = l->c,
                        .h = l->h,
                        .w = l->w,
                        .size = self->size,
                        .stride_x = blurs ? 1 : self->stride_x,
                        .stride_y = blurs ? 1 : self->stride_y,
                        .offset = self->padding / 2,
                        .out_h = self->tail.h,
                        .out_w = self->tail.w};
}
double pool_flops(const layer *l)
{
    const pool_layer *self = (const pool_layer *)l;
    return (double)self->size * self->size * l->c * self->tail.h * self->tail.w;
}
