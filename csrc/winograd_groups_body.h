/* Winograd's algorithm in groups: each is a convolution of its own, of some maps of every image. Where there
 * are TASKS and more, threads take whole groups; fewer are made one after the other, each by all threads, and
 * from no parallel region, not even of one thread: one within it would start its threads anew. Body of an
 * engine. */
#ifndef DN_WINOGRAD_GROUPS_BODY_H
#define DN_WINOGRAD_GROUPS_BODY_H
#include "winograd_kept_body.h"
#include "winograd_strided_data_body.h"

/* A pass of one group, and what it takes of the whole. */
typedef struct {
    conv_product p;
    conv_epilogue epilogue;
    size_t x, y; /* where its maps begin in an image */
} group_pass;
static void of_group(const conv_product *p, const winograd_cut *cut, int group, group_pass *g)
{
    const size_t filter = (size_t)group * p->filters;
    *g = (group_pass){.p = *p,
                      .x = (size_t)group * p->channels * p->y.in * p->x.in,
                      .y = filter * p->y.whole * p->x.whole >> 2 * p->pool};
    g->p.groups = 1;
    if (p->moments) g->p.moments += filter * cut->blocks;
    if (!p->epilogue) return;
    g->epilogue = *p->epilogue;
    if (g->epilogue.scale) g->epilogue.scale += filter;
    if (g->epilogue.shift) g->epilogue.shift += filter;
    g->p.epilogue = &g->epilogue;
}
static size_t kept_of_group(const conv_product *p) { return kept_values(p) / p->groups; }

static void groups_keep(const conv_product *p, const winograd_cut *cut, const real *w, real *kept,
                        int threads)
{
    for (int i = 0; i < p->groups; ++i) {
        group_pass g;
        of_group(p, cut, i, &g);
        keep_winograd(&g.p, w + i * p->group_stride, kept + i * kept_of_group(p), threads);
    }
}

/* winograd_product() and its like: of x and w comes y; of dy and w, dx; of x and dy, the gradient of w. */
typedef void (*group_run)(const conv_product *p, const winograd_cut *cut, const real *maps, const real *other,
                          real *result, real *workspace, int threads);
typedef struct {
    group_run run;
    int gradient;   /* the result is the weights', `other` maps; else the other way round */
    size_t weights; /* of a group */
    size_t space;   /* of the workspace, for a thread that takes a group */
} group_job;

static void run_group(const conv_product *p, const winograd_cut *cut, const group_job *job, int i,
                      const real *maps, const real *other, real *result, real *workspace, int threads)
{
    const size_t weights = i * job->weights;
    group_pass g;
    of_group(p, cut, i, &g);
    job->run(&g.p, cut, maps + g.x, other + (job->gradient ? g.y : weights),
             result + (job->gradient ? weights : g.y), workspace, threads);
}
static void run_groups(const conv_product *p, const winograd_cut *cut, const group_job *job, const real *maps,
                       const real *other, real *result, real *workspace, int threads)
{
    if (p->groups < TASKS) {
        for (int i = 0; i < p->groups; ++i)
            run_group(p, cut, job, i, maps, other, result, workspace, threads);
        return;
    }
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int i = 0; i < p->groups; ++i)
        run_group(p, cut, job, i, maps, other, result, workspace + omp_get_thread_num() * job->space, 1);
}

static void groups_forward(const conv_product *p, const winograd_cut *cut, const real *x, const real *w,
                           real *y, real *workspace, int threads)
{
    const group_job job = {.run = p->kept ? kept_winograd : winograd_product,
                           .weights = p->kept ? kept_of_group(p) : p->group_stride,
                           .space = winograd_workspace(p, cut, 1)};
    run_groups(p, cut, &job, x, w, y, workspace, threads);
}
static void groups_gradient(const conv_product *p, const winograd_cut *cut, const real *x, const real *dy,
                            real *dw, real *workspace, int threads)
{
    const group_job job = {.run = winograd_gradient,
                           .gradient = 1,
                           .weights = p->group_stride,
                           .space = winograd_gradient_workspace(p, cut, 1)};
    run_groups(p, cut, &job, x, dy, dw, workspace, threads);
}
static void groups_strided_data(const conv_product *p, const winograd_cut *cut, const real *dy, const real *w,
                                real *dx, real *workspace, int threads)
{
    const group_job job = {
        .run = strided_data, .weights = p->group_stride, .space = strided_data_workspace(p, cut, 1)};
    run_groups(p, cut, &job, dy, w, dx, workspace, threads);
}
#endif
