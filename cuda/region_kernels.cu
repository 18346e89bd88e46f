/* The passes of [region] over its values; csrc/region_rules.h has the formulas, and who learns what. */
#include "heads.cuh"
#include "region_rules.h"

/* ---- the output: p = f(z), delta *= df(z) / dz, and another order */
static __global__ void region_activate_kernel(size_t n, region_rules r, const real *z, real *p)
{
    GRID_STRIDE(i, n) {
        const int e = (int)(i / region_cells(&r) % region_entries(&r));
        p[i] = region_is_logistic(&r, e) ? logistic_activate(z[i]) : z[i];
    }
}
void region_activate_gpu(const region_rules *r, const real *z, real *p)
{
    const size_t n = r->batch * region_outputs(r);
    LAUNCH(region_activate_kernel, n, n, *r, z, p);
}
static __global__ void region_gradient_kernel(size_t n, region_rules r, const real *p, int loss, real *delta)
{
    GRID_STRIDE(i, n) {
        const int e = (int)(i / region_cells(&r) % region_entries(&r));
        if (region_has_slope(&r, e, loss)) delta[i] *= logistic_gradient(p[i]);
    }
}
void region_gradient_gpu(const region_rules *r, const real *p, int loss, real *delta)
{
    const size_t n = r->batch * region_outputs(r);
    LAUNCH(region_gradient_kernel, n, n, *r, p, loss, delta);
}
static __global__ void region_reorder_kernel(size_t n, region_rules r, const real *x, const real *positions,
                                             int back, real *y)
{
    GRID_STRIDE(i, n) {
        const int cell = (int)(i % region_cells(&r)), e = (int)(i / region_cells(&r) % region_entries(&r)),
                  anchor = (int)(i / region_cells(&r) / region_entries(&r) % r.num);
        const size_t first = i / region_outputs(&r) * region_outputs(&r),
                     out = first + region_entry_in_output(&r, anchor, cell, e);
        const real *from = positions && e < 2 ? positions : x;
        if (back)
            y[i] = from[out];
        else
            y[out] = from[i];
    }
}
void region_reorder_gpu(const region_rules *r, const real *x, const real *positions, int back, real *y)
{
    const size_t n = r->batch * region_outputs(r);
    LAUNCH(region_reorder_kernel, n, n, *r, x, positions, back, y);
}

/* ---- the loss: anchors, then truths. The first have a thread per anchor and cell; a block of the second has
 * an image, a thread of it the cells whose number modulo BLOCK is its own. */
static __global__ void region_anchors_kernel(size_t n, region_rules r, region_image first)
{
    GRID_STRIDE(i, n) {
        const int place = (int)(i % region_places(&r));
        const region_image im = region_image_of(&r, &first, i / region_places(&r));
        const int truths = region_truths(&im);
        if (region_class_only(&im, truths) >= 0)
            region_deny(&im, place);
        else
            region_train_anchor(&im, truths, place / region_cells(&r), place % region_cells(&r));
    }
}
/* Each thread has found the best of its places; the first finds the best of them. */
static __device__ void train_class(const region_image *im, int class_id)
{
    SHARED_ARRAY(real, probabilities, BLOCK);
    SHARED_ARRAY(int, places, BLOCK);
    const region_likeliest own = region_find_class(im, class_id, threadIdx.x, BLOCK);
    probabilities[threadIdx.x] = own.probability;
    places[threadIdx.x] = own.place;
    __syncthreads();
    if (threadIdx.x) return;
    region_likeliest best = own;
    for (int i = 1; i < BLOCK; ++i) {
        const region_likeliest other = {probabilities[i], places[i]};
        if (region_is_likelier(other, best)) best = other;
    }
    region_train_class(im, class_id, best.place);
}
static __global__ void region_truths_kernel(region_rules r, region_image first)
{
    const region_image im = region_image_of(&r, &first, blockIdx.x);
    const int truths = region_truths(&im), class_id = region_class_only(&im, truths);
    if (class_id >= 0)
        train_class(&im, class_id);
    else
        region_train_truths(&im, truths, threadIdx.x, BLOCK, threadIdx.x == 0);
}
void region_train_gpu(const region_rules *rules, const real *z, const real *p, const real *truth, real *delta,
                      real *loss, real *matches)
{
    region_rules r = *rules;
    const region_image first = {NULL, {z, p, truth, delta, loss}, matches};
    const size_t n = (size_t)r.batch * region_places(&r);
    if (!lists_to_device(&r)) return;
    LAUNCH(region_anchors_kernel, n, n, r, first);
    LAUNCH_BLOCKS(region_truths_kernel, r.batch, 0, r, first);
}
