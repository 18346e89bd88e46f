/* The passes of [yolo] and [Gaussian_yolo] over their values; yolo_rules.h has the formulas. z and p, the
 * head's input and output, and deltas are (batch, slots, values, h, w). */
#include "darknet.h"
#include "parallel.h"
#include "yolo_rules.h"

/* The values of a slot from e on that are computed alike. */
static int alike(const yolo_rules *r, int e)
{
    int end = e + 1;
    while (end < yolo_entries(r) && yolo_value(r, end) == yolo_value(r, e)) ++end;
    return end - e;
}

/* p = f(z) */
void yolo_activate_cpu(const yolo_rules *r, const real *z, real *p)
{
    const int area = yolo_area(r), entries = yolo_entries(r);
    copy_cpu((int)(r->batch * yolo_outputs(r)), z, 1, p, 1);
    for (int slot = 0; slot < r->batch * r->slots; ++slot) {
        for (int e = 0, n; e < entries; e += n) {
            const YOLO_VALUE value = yolo_value(r, e);
            real *run = p + ((size_t)slot * entries + e) * area;
            n = alike(r, e);
            if (value != YOLO_LINEAR && !r->new_coords) activate_array(run, n * area, LOGISTIC);
            if (value != YOLO_POSITION || r->scale_x_y == 1) continue;
            for (int i = 0; i < n * area; ++i) run[i] = yolo_stretched(r, run[i]);
        }
    }
}

/* delta *= df(z) / dz; boxes_only: of the values of boxes. */
void yolo_gradient_cpu(const yolo_rules *r, const real *p, int boxes_only, real *delta)
{
    const int area = yolo_area(r), entries = yolo_entries(r), end = boxes_only ? r->coords : entries;
    PARALLEL_FOR(r->batch * yolo_outputs(r))
    for (int slot = 0; slot < r->batch * r->slots; ++slot) {
        for (int e = 0; e < end; ++e) {
            const YOLO_VALUE value = yolo_value(r, e);
            const size_t at = ((size_t)slot * entries + e) * area;
            if (value == YOLO_LINEAR) continue;
            for (int i = 0; i < area; ++i) delta[at + i] *= yolo_slope(r, value, p[at + i]);
        }
    }
}

/* Adds the losses of one image, their deltas at z (boxes of [Gaussian_yolo]: at p), and the matches. */
static void train_image(const yolo_image *im)
{
    const yolo_rules *r = im->r;
    const int truths = yolo_truths(im),
              places = r->slots * yolo_area(r);
    for (int n = 0; n < places; ++n) {
        yolo_train_anchor(im, truths, n / yolo_area(r), n % r->w, n / r->w % r->h);
    }
    yolo_train_truths(im, truths, 0, 1, 1);
    for (int n = 0; n < places && yolo_averages(r); ++n) {
        yolo_average_box(im, n / yolo_area(r), n % r->w, n / r->w % r->h);
    }
}
/* truth (batch, max, 5 or 6); delta, loss and matches (batch, YOLO_MATCHES) begin as zeros. */
void yolo_train_cpu(const yolo_rules *r, const real *z, const real *p, const real *truth, real *delta,
                    real *loss, real *matches)
{
    const yolo_image first = {r, {z, p, truth, delta, loss}, matches};
    PARALLEL_FOR(r->batch * yolo_outputs(r))
    for (int b = 0; b < r->batch; ++b) {
        const yolo_image im = yolo_image_of(r, &first, b);
        train_image(&im);
    }
}
