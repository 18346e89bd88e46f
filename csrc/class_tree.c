#include "class_tree.h"

siblings dn_siblings_of(const int_list *parents, int c)
{
    siblings s = {c, c + 1};
    while (s.first > 0 && parents->values[s.first - 1] == parents->values[c]) --s.first;
    while (s.end < parents->n && parents->values[s.end] == parents->values[c]) ++s.end;
    return s;
}
static int first_child(const int_list *parents, int c)
{
    int i = c + 1;
    while (i < parents->n && parents->values[i] != c) ++i;
    return i < parents->n ? i : -1;
}
dn_status dn_check_tree(const layer *l, const int_list *parents)
{
    for (int c = 0; c < parents->n; ++c) {
        if (parents->values[c] >= -1 && parents->values[c] < c) continue;
        return dn_fail_option("tree", "[%s] tree: the parent of class %d is %d: wanted an earlier one, or -1",
                              l->ops->name, c, parents->values[c]);
    }
    return DN_OK;
}

/* From the conditional probabilities of one box to its class, by Darknet's walk: from the roots to the most
 * probable child as long as the product of the probabilities on the way, each of which is a product already,
 * exceeds hier. That class gets the objectness, all others 0. */
void dn_walk_tree(const int_list *parents, real *probability, real objectness, real hier)
{
    real product = 1;
    int class_id = -1;
    for (int c = 0; c < parents->n; ++c) {
        if (parents->values[c] >= 0) probability[c] *= probability[parents->values[c]];
    }
    for (int first = 0; first >= 0;) {
        const siblings s = dn_siblings_of(parents, first);
        int best = s.first;
        for (int c = s.first; c < s.end; ++c) best = probability[c] > probability[best] ? c : best;
        if (product * probability[best] <= hier) {
            if (class_id < 0) class_id = best;
            break;
        }
        product *= probability[best];
        class_id = best;
        first = first_child(parents, best);
    }
    for (int c = 0; c < parents->n; ++c) probability[c] = c == class_id ? objectness : 0;
}
