/* The passes of [region] over its values; region_rules.h has the formulas. z and p, the head's input and what
 * becomes of it, and deltas are (batch, num, values, h, w). */
#include "darknet.h"
#include "parallel.h"
#include "region_rules.h"

/* p = f(z), but z where a softmax belongs. */
void region_activate_cpu(const region_rules *r, const real *z, real *p)
{
    const int cells = region_cells(r), entries = region_entries(r), classes = r->coords + 1;
    copy_cpu((int)(r->batch * region_outputs(r)), z, 1, p, 1);
    for (int n = 0; n < r->batch * r->num; ++n) {
        real *a = p + (size_t)n * entries * cells;
        activate_array(a, 2 * cells, LOGISTIC);
        if (region_is_logistic(r, r->coords)) activate_array(a + (size_t)r->coords * cells, cells, LOGISTIC);
        if (region_is_logistic(r, classes))
            activate_array(a + (size_t)classes * cells, r->classes * cells, LOGISTIC);
    }
}

/* delta *= df(z) / dz: of the output, or of the loss, where this counts less; see region_has_slope(). */
void region_gradient_cpu(const region_rules *r, const real *p, int loss, real *delta)
{
    const int cells = region_cells(r), entries = region_entries(r);
    PARALLEL_FOR(r->batch * region_outputs(r))
    for (int n = 0; n < r->batch * r->num; ++n) {
        for (int e = 0; e < entries; ++e) {
            const size_t at = ((size_t)n * entries + e) * cells;
            if (!region_has_slope(r, e, loss)) continue;
            for (int i = 0; i < cells; ++i) delta[at + i] *= logistic_gradient(p[at + i]);
        }
    }
}

/* y = x in the other order, the output's or (back) from it; positions: that of the values has x and y; NULL:
 * x has. */
void region_reorder_cpu(const region_rules *r, const real *x, const real *positions, int back, real *y)
{
    PARALLEL_FOR(r->batch * region_outputs(r))
    for (int b = 0; b < r->batch; ++b) {
        const size_t first = b * region_outputs(r);
        for (int n = 0; n < r->num; ++n) {
            for (int e = 0; e < region_entries(r); ++e) {
                const real *from = first + (positions && e < 2 ? positions : x);
                for (int cell = 0; cell < region_cells(r); ++cell) {
                    const size_t own = region_entry(r, n, cell, e),
                                 out = region_entry_in_output(r, n, cell, e);
                    y[first + (back ? own : out)] = from[back ? out : own];
                }
            }
        }
    }
}

/* Adds the losses of one image, their deltas and the matches. */
static void train_image(const region_image *im)
{
    const region_rules *r = im->r;
    const int truths = region_truths(im),
              class_id = region_class_only(im, truths);
    if (class_id >= 0) {
        for (int place = 0; place < region_places(r); ++place) region_deny(im, place);
        region_train_class(im, class_id, region_find_class(im, class_id, 0, 1).place);
        return;
    }
    for (int anchor = 0; anchor < r->num; ++anchor) {
        for (int cell = 0; cell < region_cells(r); ++cell) region_train_anchor(im, truths, anchor, cell);
    }
    region_train_truths(im, truths, 0, 1, 1);
}
/* truth (batch, max, values of a row); delta, loss and matches (batch, REGION_MATCHES) begin as zeros. */
void region_train_cpu(const region_rules *r, const real *z, const real *p, const real *truth, real *delta,
                      real *loss, real *matches)
{
    const region_image first = {r, {z, p, truth, delta, loss}, matches};
    PARALLEL_FOR(r->batch * region_outputs(r))
    for (int b = 0; b < r->batch; ++b) {
        const region_image im = region_image_of(r, &first, b);
        train_image(&im);
    }
}
