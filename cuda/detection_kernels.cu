/* The loss of [detection]; csrc/detection_rules.h has the formulas. A thread has a cell. */
#include "detection_rules.h"
#include "kernels.cuh"

static __global__ void detection_train_kernel(size_t n, detection_rules r, const real *p, const real *truth,
                                              real *delta, real *loss)
{
    GRID_STRIDE(i, n) {
        const int image = (int)(i / detection_cells(&r)), cell = (int)(i % detection_cells(&r));
        const head_image im = detection_image(&r, p, truth, delta, loss, image);
        detection_train_cell(&r, &im, image, cell);
    }
}
void detection_train_gpu(const detection_rules *r, const real *p, const real *truth, real *delta, real *loss)
{
    const size_t n = (size_t)r->batch * detection_cells(r);
    LAUNCH(detection_train_kernel, n, n, *r, p, truth, delta, loss);
}
