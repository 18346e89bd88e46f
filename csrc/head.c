#include "head.h"
#include <stdlib.h>

/* ---- truth */
static const char *fault(const truth_rows *r, const real *row)
{
    const real c = row[r->class_at];
    if (!(c >= 0 && c < r->classes)) return "class";
    if (r->class_only && dn_class_only(row)) return NULL;
    if (!(row[0] >= 0 && row[0] <= 1)) return "x";
    if (!(row[1] >= 0 && row[1] <= 1)) return "y";
    if (!(row[2] > 0 && row[2] <= 1e6)) return "w";
    return row[3] > 0 && row[3] <= 1e6 ? NULL : "h";
}
dn_status dn_check_boxes(const layer *l, const truth_rows *r, const real *truth)
{
    for (int b = 0; b < l->batch; ++b) {
        const real *rows = truth + (size_t)b * r->most * r->size;
        const int n = dn_count_rows(rows, r->most, r->size);
        for (int t = 0; t < n; ++t) {
            const real *row = rows + (size_t)t * r->size;
            const char *wrong = fault(r, row);
            if (!wrong) continue;
            return dn_fail(
                DN_ERR_ARGUMENT,
                "[%s] truth of image %d, box %d: x=%g y=%g w=%g h=%g class=%g: wrong %s; wanted x and y "
                "in 0..1, w and h above 0, a class of 0 to %d",
                l->ops->name, b, t, (double)row[0], (double)row[1], (double)row[2], (double)row[3],
                (double)row[r->class_at], wrong, r->classes - 1);
        }
    }
    return DN_OK;
}
/* The network's truth is the host's, too; one that a layer has made is copied. */
dn_status dn_check_truth(const layer *l, const network *net,
                         dn_status (*check)(const layer *l, const real *truth))
{
    if (dn_is_host(net->device)) return check(l, net->truth);
    if (dn_truth_is_staged(net)) return check(l, net->net_truth);
    real *copy;
    dn_status status = dn_host_copy(net->device, net->truth, (size_t)l->batch * l->truths, &copy);
    if (status == DN_OK) status = check(l, copy);
    free(copy);
    return status;
}

/* ---- classes */
dn_status dn_check_classes(const layer *l, const int_list *map, int classes, int names)
{
    dn_status status = dn_option_in(l, "classes", classes, 1, 1 << 24);
    for (int i = 0; i < map->n && status == DN_OK; ++i) {
        if (map->values[i] < 0 || map->values[i] >= classes) {
            status = dn_fail_option("map", "[%s] map: class %d becomes %d: wanted 0 to %d", l->ops->name, i,
                                    map->values[i], classes - 1);
        }
    }
    if (status == DN_OK && names && names != classes) {
        status = dn_fail_option("tree", "[%s] tree: its %d nodes are not the %d classes", l->ops->name, names,
                                classes);
    }
    return status;
}

dn_status dn_head_work(layer *l, network *net, real **delta, real **loss)
{
    const size_t all = (size_t)l->batch * l->outputs;
    *delta = dn_workspace(net, 2 * all);
    if (!*delta) return DN_ERR_MEMORY;
    *loss = *delta + all;
    return DN_OK;
}
size_t dn_head_workspace(const layer *l) { return l->train ? 2 * (size_t)l->batch * l->outputs : 0; }
