/* Views of images for classifiers: Darknet's random_augment_image, random_distort_image and
 * test-time transforms. */
#include "classifier_views.h"

#include <assert.h>

#include "image_kernels.h"
#include "random.h"

#define RADIANS_PER_DEGREE 0.017453292519943295

/* Uniform between -reach and reach, whatever the sign of reach. */
static float random_reach(float reach, uint32_t bits)
{
    return reach * (2 * dn_uniform(bits) - 1);
}

void draw_view(const view_options *o, int w, int h, uint64_t seed, uint64_t place,
               random_view *view)
{
    const dn_random4 shape = dn_random(seed, DN_RANDOM_AUGMENT, place, 0);
    const dn_random4 position = dn_random(seed, DN_RANDOM_AUGMENT, place, 1);
    const dn_random4 colour = dn_random(seed, DN_RANDOM_AUGMENT, place, 2);
    const float aspect = dn_random_factor(o->aspect, shape.v[0], shape.v[1]);
    const int shorter = (int)((float)h < (float)w * aspect ? (float)h : (float)w * aspect);
    const float scale =
        (float)dn_uniform_int(shape.v[2], o->low, o->high) / (float)(shorter < 1 ? 1 : shorter);
    float reach_x = ((float)w * scale / aspect - (float)o->w) / 2;
    float reach_y = ((float)h * scale - (float)o->h) / 2;
    if (o->inside) {
        reach_x = reach_x < 0 ? 0 : reach_x;
        reach_y = reach_y < 0 ? 0 : reach_y;
    }
    *view = (random_view){
        .scale = scale,
        .aspect = aspect,
        .rad = (float)(random_reach(o->angle, shape.v[3]) * RADIANS_PER_DEGREE),
        .dx = random_reach(reach_x, position.v[0]),
        .dy = random_reach(reach_y, position.v[1]),
        .flip = o->flip && (position.v[2] & 1),
        .hue = random_reach(o->hue, position.v[3]),
        .saturation = dn_random_factor(o->saturation, colour.v[0], colour.v[1]),
        .value = dn_random_factor(o->exposure, colour.v[2], colour.v[3]),
    };
}

void augment_image(const view_options *o, const random_view *view, const float *im, int w, int h,
                   float *scratch, float *out)
{
    if (o->kind == VIEW_CENTER_RANDOM) {
        center_crop_image(im, w, h, o->c, o->w, o->h, scratch, out);
    } else {
        rotate_crop_image(im, w, h, o->c, view->rad, view->scale, o->w, o->h, view->dx, view->dy,
                          view->aspect, out);
    }
    if (view->flip) {
        flip_image(out, o->w, o->h, o->c);
    }
    /* Left out where it would change nothing: hue and back is not exact, and takes as long as the
     * rest. */
    if (view->hue != 0 || view->saturation != 1 || view->value != 1) {
        distort_image(out, o->w, o->h, o->c, view->hue, view->saturation, view->value);
    }
}

/* The views that draw no random numbers. */
static void test_image(const view_options *o, const float *im, int w, int h, float *scratch,
                       float *out)
{
    switch (o->kind) {
    case VIEW_LETTERBOX: letterbox_image(im, w, h, o->c, o->w, o->h, scratch, out); break;
    case VIEW_CENTER_CROP: center_crop_image(im, w, h, o->c, o->w, o->h, scratch, out); break;
    default: resize_min_crop_image(im, w, h, o->c, o->w, o->h, scratch, out); break;
    }
}

size_t classifier_scratch(const view_options *o, int w, int h)
{
    return (size_t)o->c * (size_t)w * (size_t)h + 2 * (size_t)o->w;
}

void classifier_images(const view_options *o, const unsigned char *bytes, const int64_t *index,
                       int count, int w, int h, int channels, uint64_t seed, uint64_t first,
                       float *scratch, float *out)
{
    assert(w > 0 && h > 0 && w <= DN_IMAGE_SIDE && h <= DN_IMAGE_SIDE && o->w > 0 && o->h > 0);
    const size_t image_bytes = (size_t)w * (size_t)h * (size_t)channels;
    const size_t row = (size_t)o->c * (size_t)o->w * (size_t)o->h;
    float *rows = scratch, *im = scratch + 2 * (size_t)o->w;
    for (int i = 0; i < count; ++i) {
        bytes_to_image(bytes + (size_t)index[i] * image_bytes, w, h, channels, o->c, im);
        if (o->kind == VIEW_RANDOM || o->kind == VIEW_CENTER_RANDOM) {
            random_view view;
            draw_view(o, w, h, seed, first + (uint64_t)i, &view);
            augment_image(o, &view, im, w, h, rows, out + (size_t)i * row);
        } else {
            test_image(o, im, w, h, rows, out + (size_t)i * row);
        }
    }
}
