#include "detections.h"
#include "layer.h"
#include <stdlib.h>

typedef struct {
    real score;
    int index;
} ranked;
/* Best first; of equals the one that came first. */
static int compare(const void *a, const void *b)
{
    const ranked *x = a, *y = b;
    if (x->score != y->score) return x->score > y->score ? -1 : 1;
    return x->index - y->index;
}
static box box_of(const real *row) { return (box){row[0], row[1], row[2], row[3]}; }
static real overlap(box a, box b, int kind, real beta)
{
    return kind == NMS_GREEDY ? box_diou(a, b) : kind == NMS_DIOU ? box_diounms(a, b, beta) : box_iou(a, b);
}

/* Suppresses by the scores in one column; where all: the whole row. */
static void suppress(real *rows, int count, int size, int column, int all, real thresh, int kind, real beta,
                     ranked *order)
{
    int n = 0;
    for (int i = 0; i < count; ++i) {
        const real *row = rows + (size_t)i * size;
        if (row[4] != 0 && row[column] != 0) order[n++] = (ranked){row[column], i};
    }
    qsort(order, (size_t)n, sizeof *order, compare);
    for (int i = 0; i < n; ++i) {
        const real *best = rows + (size_t)order[i].index * size;
        for (int j = i + 1; j < n && best[column] != 0; ++j) {
            real *row = rows + (size_t)order[j].index * size;
            if (row[column] == 0 || !(overlap(box_of(best), box_of(row), kind, beta) > thresh)) continue;
            for (int k = all ? 4 : column; k < (all ? size : column + 1); ++k) row[k] = 0;
        }
    }
}
int nms_detections(real *rows, int count, int classes, real thresh, int kind, real beta)
{
    if (count < 1) return DN_OK;
    ranked *order = dn_allocate((size_t)count * sizeof *order);
    if (!order) return dn_fail(DN_ERR_MEMORY, "no memory to sort %d detections", count);
    if (kind == NMS_OBJECTNESS) suppress(rows, count, 5 + classes, 4, 1, thresh, kind, beta, order);
    for (int c = 0; c < classes && kind != NMS_OBJECTNESS; ++c) {
        suppress(rows, count, 5 + classes, 5 + c, 0, thresh, kind, beta, order);
    }
    dn_release(order);
    return DN_OK;
}
