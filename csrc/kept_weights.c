/* Weights on loan, and what a layer keeps of them. Whoever may write to a layer's weights without its knowing
 * has them on loan; each loan moves a counter on. What was worked out of the weights holds as long as the
 * counter stands where it stood then and nobody has a loan. A numpy view of them is one, which may end on any
 * thread. */
#include "layer.h"

static layer *owner_of(layer *l) { return l->lender ? l->lender : l; }
void lend_layer_weights(layer *l)
{
    __atomic_fetch_add(&owner_of(l)->lent, 1, __ATOMIC_SEQ_CST);
    __atomic_fetch_add(&owner_of(l)->written, 1, __ATOMIC_SEQ_CST);
}
void return_layer_weights(layer *l) { __atomic_fetch_sub(&owner_of(l)->lent, 1, __ATOMIC_SEQ_CST); }
dn_kept dn_ask_kept(layer *l, int64_t as)
{
    layer *owner = owner_of(l);
    const int64_t written = __atomic_load_n(&owner->written, __ATOMIC_SEQ_CST);
    if (__atomic_load_n(&owner->lent, __ATOMIC_SEQ_CST)) return DN_LEAVE;
    if (l->kept_from == written && l->kept_as == as) return DN_RELY;
    l->kept_from = written;
    l->kept_as = as;
    return DN_MAKE;
}
