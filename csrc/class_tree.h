/* Class trees (YOLO9000, arXiv:1612.08242): the parent of each class, an earlier one, or -1; children stand
 * together and share a softmax. */
#ifndef DN_CLASS_TREE_H
#define DN_CLASS_TREE_H
#include "layer.h"

/* The classes [first, end) that share a softmax with class c. */
typedef struct {
    int first, end;
} siblings;
siblings dn_siblings_of(const int_list *parents, int c);
dn_status dn_check_tree(const layer *l, const int_list *parents);
void dn_walk_tree(const int_list *parents, real *probability, real objectness, real hier);
#endif
