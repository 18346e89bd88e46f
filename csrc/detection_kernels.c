/* The loss of [detection]; detection_rules.h has the formulas. */
#include "detection_rules.h"
#include "parallel.h"

/* p is the output (batch, values), truth (batch, cells, values of a row); delta and loss begin as zeros. */
void detection_train_cpu(const detection_rules *r, const real *p, const real *truth, real *delta, real *loss)
{
    PARALLEL_FOR(r->batch * detection_outputs(r))
    for (int b = 0; b < r->batch; ++b) {
        const head_image im = detection_image(r, p, truth, delta, loss, b);
        for (int cell = 0; cell < detection_cells(r); ++cell) detection_train_cell(r, &im, b, cell);
    }
}
