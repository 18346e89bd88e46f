/* Class trees (YOLO9000, arXiv:1612.08242): the parent of each class, an earlier one, or -1; children stand
 * together and share a softmax. gcc and nvcc compile this file. */
#ifndef DN_CLASS_TREE_H
#define DN_CLASS_TREE_H
#include "darknet.h"

/* The classes [first, end) that share a softmax with class c, of n. */
typedef struct {
    int first, end;
} siblings;
SCALAR siblings dn_siblings_of(const int *parents, int n, int c)
{
    siblings s = {c, c + 1};
    while (s.first > 0 && parents[s.first - 1] == parents[c]) --s.first;
    while (s.end < n && parents[s.end] == parents[c]) ++s.end;
    return s;
}
dn_status dn_check_tree(const layer *l, const int *parents, int n);
void dn_walk_tree(const int *parents, int n, real *probability, real objectness, real hier);
#endif
