/* The passes of [yolo] and [Gaussian_yolo] over their values; csrc/yolo_rules.h has the formulas, and who
 * learns what. */
#include "heads.cuh"
#include "yolo_rules.h"

/* ---- the output: p = f(z), and delta *= df(z) / dz */
static __global__ void yolo_activate_kernel(size_t n, yolo_rules r, const real *z, real *p)
{
    GRID_STRIDE(i, n) {
        const YOLO_VALUE value = yolo_value(&r, (int)(i / yolo_area(&r) % yolo_entries(&r)));
        const real y = value == YOLO_LINEAR || r.new_coords ? z[i] : logistic_activate(z[i]);
        p[i] = value == YOLO_POSITION && r.scale_x_y != 1 ? yolo_stretched(&r, y) : y;
    }
}
void yolo_activate_gpu(const yolo_rules *r, const real *z, real *p)
{
    const size_t n = r->batch * yolo_outputs(r);
    LAUNCH(yolo_activate_kernel, n, n, *r, z, p);
}
static __global__ void yolo_gradient_kernel(size_t n, yolo_rules r, const real *p, int boxes_only,
                                            real *delta)
{
    GRID_STRIDE(i, n) {
        const int e = (int)(i / yolo_area(&r) % yolo_entries(&r));
        if (e < r.coords || !boxes_only) delta[i] *= yolo_slope(&r, yolo_value(&r, e), p[i]);
    }
}
void yolo_gradient_gpu(const yolo_rules *r, const real *p, int boxes_only, real *delta)
{
    const size_t n = r->batch * yolo_outputs(r);
    LAUNCH(yolo_gradient_kernel, n, n, *r, p, boxes_only, delta);
}

/* ---- the loss: anchors, then truths, then averages. The first and the last have a thread per anchor and
 * cell; a block of the second has an image, a thread of it the cells whose number modulo BLOCK is its own. */
static __global__ void yolo_anchors_kernel(size_t n, yolo_rules r, yolo_image first)
{
    GRID_STRIDE(i, n) {
        const int cell = (int)(i % yolo_area(&r)), slot = (int)(i / yolo_area(&r) % r.slots);
        const yolo_image im = yolo_image_of(&r, &first, i / yolo_area(&r) / r.slots);
        yolo_train_anchor(&im, yolo_truths(&im), slot, cell % r.w, cell / r.w);
    }
}
static __global__ void yolo_truths_kernel(yolo_rules r, yolo_image first)
{
    const yolo_image im = yolo_image_of(&r, &first, blockIdx.x);
    yolo_train_truths(&im, yolo_truths(&im), threadIdx.x, BLOCK, threadIdx.x == 0);
}
static __global__ void yolo_average_kernel(size_t n, yolo_rules r, yolo_image first)
{
    GRID_STRIDE(i, n) {
        const int cell = (int)(i % yolo_area(&r)), slot = (int)(i / yolo_area(&r) % r.slots);
        const yolo_image im = yolo_image_of(&r, &first, i / yolo_area(&r) / r.slots);
        yolo_average_box(&im, slot, cell % r.w, cell / r.w);
    }
}
void yolo_train_gpu(const yolo_rules *rules, const real *z, const real *p, const real *truth, real *delta,
                    real *loss, real *matches)
{
    yolo_rules r = *rules;
    const yolo_image first = {NULL, {z, p, truth, delta, loss}, matches};
    const size_t n = (size_t)r.batch * r.slots * yolo_area(&r);
    if (!lists_to_device(&r)) return;
    LAUNCH(yolo_anchors_kernel, n, n, r, first);
    LAUNCH_BLOCKS(yolo_truths_kernel, r.batch, 0, r, first);
    if (yolo_averages(&r)) LAUNCH(yolo_average_kernel, n, n, r, first);
}
