#include "class_tree.h"
#include "layer.h"

static int first_child(const int *parents, int n, int c)
{
    int i = c + 1;
    while (i < n && parents[i] != c) ++i;
    return i < n ? i : -1;
}
dn_status dn_check_tree(const layer *l, const int *parents, int n)
{
    for (int c = 0; c < n; ++c) {
        if (parents[c] >= -1 && parents[c] < c) continue;
        return dn_fail_option("tree", "[%s] tree: the parent of class %d is %d: wanted an earlier one, or -1",
                              l->ops->name, c, parents[c]);
    }
    return DN_OK;
}

/* From the conditional probabilities of one box to its class, by Darknet's walk: from the roots to the most
 * probable child as long as the product of the probabilities on the way, each of which is a product already,
 * exceeds hier. That class gets the objectness, all others 0. */
void dn_walk_tree(const int *parents, int n, real *probability, real objectness, real hier)
{
    real product = 1;
    int class_id = -1;
    for (int c = 0; c < n; ++c) {
        if (parents[c] >= 0) probability[c] *= probability[parents[c]];
    }
    for (int first = 0; first >= 0;) {
        const siblings s = dn_siblings_of(parents, n, first);
        int best = s.first;
        for (int c = s.first; c < s.end; ++c) best = probability[c] > probability[best] ? c : best;
        if (product * probability[best] <= hier) {
            if (class_id < 0) class_id = best;
            break;
        }
        product *= probability[best];
        class_id = best;
        first = first_child(parents, n, best);
    }
    for (int c = 0; c < n; ++c) probability[c] = c == class_id ? objectness : 0;
}
