/* The whole engine, for the processors that the including file has chosen. */
#include "arithmetic_body.h"
#include "matrix_body.h"
#include "narrow_body.h"
#include "phases_body.h"
#include "winograd_groups_body.h"
#include "winograd_rows_body.h"

static void run_product(const conv_product *p, const real *x, const real *w, real *y, real *workspace,
                        int threads)
{
    const winograd_cut cut = cut_winograd(p);
    const row_winograd_cut rows = cut_row_winograd(p);
    band_layout bands;
    flat_plan flat;
    narrow_plan narrow;
    if (cut.m) groups_forward(p, &cut, x, w, y, workspace, threads);
    else if (rows.blocks) row_winograd(p, &rows, x, w, y, workspace, threads);
    else if (plan_narrow(p, 0, &narrow)) narrow_forward(&narrow, x, w, y, threads);
    else if (plan_flat(p, 0, &flat, workspace)) run_flat(&flat, flat_forward, x, w, y, threads);
    else if (lay_bands(p, &bands)) depthwise(p, &bands, x, w, y, workspace, threads);
    else product(p, x, w, y, workspace, threads);
}

static void keep_weights(const conv_product *p, const real *w, real *kept, int threads)
{
    const winograd_cut cut = cut_winograd(p);
    if (cut.m) groups_keep(p, &cut, w, kept, threads);
    else keep_product(p, w, kept, threads);
}

static void run_data(const conv_product p[PHASES], const real *dy, const real *w, real *dx, real *workspace,
                     int threads)
{
    const phase_cut cut = cut_phases(p);
    const winograd_cut tiles = cut_strided_data(p);
    band_layout bands;
    flat_plan flat;
    narrow_plan narrow;
    if (tiles.m) groups_strided_data(p, &tiles, dy, w, dx, workspace, threads);
    else if (plan_narrow_phases(p, &narrow))
        narrow_data(&narrow, dy, w, dx, threads);
    else if (plan_flat_phases(p, &flat, workspace))
        run_flat(&flat, flat_data, dy, w, dx, threads);
    else if (lay_phases(p, &bands))
        depthwise_data(p, &bands, dy, w, dx, workspace, threads);
    else if (cut.blocks)
        all_phases(p, &cut, dy, w, dx, workspace, threads);
    else
        for (int i = 0; i < PHASES; ++i) {
            if (!p[i].add || product_depth(&p[i])) run_product(&p[i], dy, w, dx, workspace, threads);
        }
}

static void run_gradient(const conv_product *p, const real *x, const real *dy, real *dw, real *workspace,
                         int threads)
{
    const winograd_cut cut = cut_winograd_gradient(p);
    const row_winograd_cut rows = cut_row_gradient(p);
    band_layout bands;
    flat_plan flat;
    narrow_plan narrow;
    if (cut.m) groups_gradient(p, &cut, x, dy, dw, workspace, threads);
    else if (rows.blocks) row_gradient(p, &rows, x, dy, dw, workspace, threads);
    else if (plan_narrow(p, 1, &narrow)) narrow_gradient(&narrow, x, dy, dw, threads);
    else if (plan_flat(p, 1, &flat, workspace)) flat_gradient(&flat, x, dy, dw, threads);
    else if (lay_bands(p, &bands)) depthwise_gradient(p, &bands, x, dy, dw, workspace, threads);
    else gradient(p, x, dy, dw, workspace, threads);
}

#define ENGINE(level) \
    const engine engine_##level = {.name = #level, \
                                   .product = run_product, \
                                   .keep = keep_weights, \
                                   .data = run_data, \
                                   .gradient = run_gradient, \
                                   .matrix = matrix, \
                                   .multiply_adds = multiply_adds}
