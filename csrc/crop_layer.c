/* [crop]: a part of the image. In training its place, and whether it is mirrored, are drawn once per
 * mini-batch; in inference it is the middle. Values in [0, 1] become [-1, 1] unless noadjust. After a resize
 * the part keeps its share of the image. */
#include "layer.h"
#include "random.h"

typedef struct {
    layer base;
    int crop_height, crop_width, flip, noadjust;
    int first_h, first_w;            /* the image that crop_height and crop_width were given for */
    int top, left, mirrored;         /* of the last forward pass */
} crop_layer;
#define SELF(l) crop_layer *self = (crop_layer *)(l)

static const option_spec crop_options[] = {
    OPTION(crop_layer, "crop_height", crop_height, INT), OPTION(crop_layer, "crop_width", crop_width, INT),
    OPTION(crop_layer, "flip", flip, INT),               OPTION(crop_layer, "noadjust", noadjust, INT),
    END_OF_OPTIONS,
};

static dn_status crop_shape(layer *l, network *net)
{
    SELF(l);
    (void)net;
    dn_status status = dn_require_image(l);
    if (status != DN_OK) return status;
    if (!self->first_h) {
        status = dn_option_in(l, "crop_height", self->crop_height, 1, l->h);
        if (status == DN_OK) status = dn_option_in(l, "crop_width", self->crop_width, 1, l->w);
        if (status != DN_OK) return status;
        self->first_h = l->h;
        self->first_w = l->w;
    }
    return dn_set_output(l, (int64_t)self->crop_height * l->h / self->first_h,
                         (int64_t)self->crop_width * l->w / self->first_w, l->c);
}
static void place_crop(const layer *l, crop_layer *self, const network *net)
{
    const int spare_h = l->h - l->out_h, spare_w = l->w - l->out_w;
    self->mirrored = 0;
    self->top = spare_h / 2;
    self->left = spare_w / 2;
    if (!net->train) return;
    const dn_random4 bits =
        dn_random(net->seed, DN_RANDOM_LAYER(DN_RANDOM_CROP_LAYER, l->index), net->seen, 0);
    self->mirrored = self->flip && bits.v[0] >> 31;
    self->top = dn_uniform_int(bits.v[1], 0, spare_h);
    self->left = dn_uniform_int(bits.v[2], 0, spare_w);
}
static dn_status crop_forward(layer *l, network *net)
{
    SELF(l);
    const real scale = self->noadjust ? 1 : 2, shift = self->noadjust ? 0 : -1;
    place_crop(l, self, net);
    net->k->crop_forward(net->input, l->batch * l->c, l->h, l->w, l->out_h, l->out_w, self->top, self->left,
                         self->mirrored, scale, shift, l->output);
    return DN_OK;
}
static dn_status crop_backward(layer *l, network *net)
{
    SELF(l);
    const delta_sink sink = input_sink(net);
    if (!sink.to) return DN_OK;
    net->k->crop_backward(l->delta, l->batch * l->c, l->h, l->w, l->out_h, l->out_w, self->top, self->left,
                          self->mirrored, self->noadjust ? 1 : 2, sink.add, sink.to);
    return DN_OK;
}
const layer_ops crop_ops = {
    .name = "crop",
    .size = sizeof(crop_layer),
    .options = crop_options,
    .shape = crop_shape,
    .forward = crop_forward,
    .backward = crop_backward,
    .backward_reads = dn_reads_nothing,
};
