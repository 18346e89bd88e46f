/* Where a network's activations lie: outputs, deltas and whatever else a layer keeps from one pass to the next.
 * With keep_activations=1 every array has memory of its own and can be read at any time. With 0 arrays whose
 * lives do not meet share one arena. Time is counted in passes of single layers: of n layers, layer i runs
 * forward at time i and backward at time 2n - 1 - i. Each array lives from its first write to its last read:
 *     output    from its layer's forward pass to the last of its readers; in training to the backward passes
 *               of those that then read it again (backward_reads)
 *     delta     from the backward pass of its first reader to arrive, the last in the network, to its layer's
 *     others    during its layer's forward pass; in training until its backward pass
 * An output that is nothing but parts of others lies where they are, or they lie in it (joins): one array,
 * that lives from the first of their writes to the last of their reads.
 * A pool that is the only reader of an output can be left to the layer before, which then writes the pooled
 * map at once: its own output and the pool's indexes need no place, and its delta none before its own
 * backward pass.
 * The largest array is placed first, each at the lowest address that is free for its whole life: Greedy by
 * Size for Offset Calculation, Y. Pisarchyk and J. Lee, arXiv:2001.03288. The plan depends on shapes alone. */
#include "layer.h"
#include <stdlib.h>

/* ---- who shares */
static const layer *output_layer(const network *net)
{
    int i = net->n - 1;
    while (i > 0 && net->layers[i]->ops->ends) --i;
    return net->layers[i];
}
/* What is looked at after a pass stays: losses, heads, the network's output, truths. So do recurrent layers,
 * whose parts step through their activations, and what has memory of its own already. */
static int shares(const network *net, const layer *l)
{
    const layer_ops *ops = l->ops;
    const int looked_at = ops->is_loss || ops->detections || l->truth_source || l == output_layer(net);
    return !net->keep_activations && !looked_at && !ops->parts && (l->shared || !l->output);
}

static int reads_output_of(const layer *l, int index)
{
    if (l->index == index + 1) return 1;
    const int_list *links = l->ops->links ? (const int_list *)((const char *)l + l->ops->links) : NULL;
    for (int i = 0; links && i < links->n; ++i) {
        if (links->values[i] == index) return 1;
    }
    return 0;
}
/* The pool behind layer `index` if it may be left to that layer, else NULL. */
static layer *pool_of(const network *net, int index)
{
    layer *l = net->layers[index], *pool = index + 1 < net->n ? net->layers[index + 1] : NULL;
    if (!pool || !pool->ops->windows || !l->ops->takes_pool || !l->shared || !pool->shared) return NULL;
    for (int i = index + 2; i < net->n; ++i) {
        if (reads_output_of(net->layers[i], index)) return NULL;
    }
    const pool_shape windows = pool->ops->windows(pool);
    return net->k == cpu_kernels() && l->ops->takes_pool(l, &windows) ? pool : NULL;
}
static int needs_no_place(const layer *l, const void *field, const array_spec *row)
{
    return ((l->pool || l->home) && field == &l->output) || (l->pooled && row->flags & IS_INT);
}

/* The output of `inner` lies in that of `outer`, from value `at` on, if both share memory; the first to ask
 * gets it. */
void dn_lie_within(layer *inner, layer *outer, size_t at)
{
    if (!inner->shared || !outer->shared || inner->home || inner->pool || outer->pool) return;
    inner->home = outer;
    inner->home_at = at;
}
static const layer *last_home(const layer *l)
{
    while (l->home) l = l->home;
    return l;
}

/* ---- lives */
typedef struct {
    int first, last;
} life;
static int reads_again(const layer *l, int what)
{
    const int reads = l->ops->backward_reads ? l->ops->backward_reads(l) : READS_INPUT | READS_OUTPUT;
    return l->train && reads & what;
}
static int backward_time(const network *net, int index) { return 2 * net->n - 1 - index; }
static life life_of_output(const network *net, int index)
{
    life t = {index - net->layers[index]->pooled,
              reads_again(net->layers[index], READS_OUTPUT) ? backward_time(net, index) : index};
    for (int i = index + 1; i < net->n; ++i) {
        if (!reads_output_of(net->layers[i], index)) continue;
        const int read = reads_again(net->layers[i], READS_INPUT) ? backward_time(net, i) : i;
        if (read > t.last) t.last = read;
    }
    return t;
}
static life life_of_home(const network *net, const layer *home)
{
    life all = life_of_output(net, home->index);
    for (int i = 0; i < net->n; ++i) {
        if (!net->layers[i]->home || last_home(net->layers[i]) != home) continue;
        const life t = life_of_output(net, i);
        if (t.first < all.first) all.first = t.first;
        if (t.last > all.last) all.last = t.last;
    }
    return all;
}
static life life_of_delta(const network *net, int index)
{
    const layer *l = net->layers[index];
    int reader = l->pool ? index : net->n - 1;
    while (reader > index && !reads_output_of(net->layers[reader], index)) --reader;
    return (life){backward_time(net, reader), backward_time(net, index - l->pooled)};
}
static life life_of(const network *net, const layer *l, const void *field)
{
    if (field == &l->output) return life_of_home(net, l);
    if (field == &l->delta) return life_of_delta(net, l->index);
    return (life){l->index, l->train ? backward_time(net, l->index) : l->index};
}

/* ---- places */
typedef struct {
    void **field;
    size_t bytes, offset;
    life life;
} shared_array;
static size_t end_of(const shared_array *a) { return a->offset + a->bytes; }
static int meet(const shared_array *a, const shared_array *b)
{
    return a->life.first <= b->life.last && b->life.first <= a->life.last && a->offset < end_of(b) &&
           b->offset < end_of(a);
}
static int larger_first(const void *a, const void *b)
{
    const shared_array *x = a, *y = b;
    if (x->bytes != y->bytes) return x->bytes < y->bytes ? 1 : -1;
    return x->life.first - y->life.first;
}
/* Gives each its offset; returns where the last one ends. Those that have a place stand first, by offset. */
static size_t place(shared_array *arrays, int n)
{
    size_t end = 0;
    qsort(arrays, (size_t)n, sizeof *arrays, larger_first);
    for (int i = 0; i < n; ++i) {
        shared_array a = arrays[i];
        int at = i;
        for (int j = 0; j < i; ++j) {
            if (meet(&arrays[j], &a)) a.offset = end_of(&arrays[j]);
        }
        for (; at > 0 && arrays[at - 1].offset > a.offset; --at) arrays[at] = arrays[at - 1];
        arrays[at] = a;
        if (end_of(&a) > end) end = end_of(&a);
    }
    return end;
}

/* ---- the plan */
enum { LINE = 64 };
/* Lists the shared arrays (NULL: only counts them); *total: their bytes, SIZE_MAX beyond counting. */
static int list_arrays(const network *net, shared_array *list, size_t *total)
{
    int n = 0;
    *total = 0;
    for (int i = 0; i < net->n; ++i) {
        const layer *l = net->layers[i];
        array_spec row;
        for (int j = 0; (row = dn_array_row(l, j)).name; ++j) {
            const size_t bytes = row.flags & SHARED ? dn_array_bytes(l, &row) : 0;
            size_t whole;
            if (!bytes || needs_no_place(l, dn_array_field(l, &row), &row)) continue;
            if (__builtin_add_overflow(bytes, LINE - 1, &whole) ||
                __builtin_add_overflow(*total, whole / LINE * LINE, total)) {
                *total = SIZE_MAX;
                return 0;
            }
            void **field = dn_array_field(l, &row);
            if (list) list[n] = (shared_array){field, whole / LINE * LINE, 0, life_of(net, l, field)};
            ++n;
        }
    }
    return n;
}
/* The plan: *list of *n arrays, for the caller to release. */
static dn_status plan(network *net, shared_array **list, int *n)
{
    for (int i = 0; i < net->n; ++i) {
        layer *l = net->layers[i];
        dn_tell_parts(l, l->train);
        l->shared = shares(net, l);
        l->input_shared = i > 0 && net->layers[i - 1]->shared;
        l->home = NULL;
    }
    for (int i = 0; i < net->n; ++i) {
        net->layers[i]->pool = pool_of(net, i);
        net->layers[i]->pooled = i > 0 && net->layers[i - 1]->pool;
    }
    for (int i = 0; i < net->n; ++i) {
        if (net->layers[i]->ops->joins) net->layers[i]->ops->joins(net->layers[i], net);
    }
    *n = list_arrays(net, NULL, &net->arena_bytes);
    *list = NULL;
    if (!*n) return DN_OK;
    *list = dn_allocate((size_t)*n * sizeof **list);
    if (!*list) return dn_fail(DN_ERR_MEMORY, "no memory for a plan of %d arrays", *n);
    list_arrays(net, *list, &net->arena_bytes);
    net->arena_bytes = place(*list, *n);
    return DN_OK;
}
dn_status plan_network(network *net)
{
    shared_array *list;
    int n;
    const dn_status status = plan(net, &list, &n);
    dn_release(list);
    return status;
}

void dn_forget_activations(layer *l)
{
    array_spec row;
    for (int i = 0; (row = dn_array_row(l, i)).name; ++i) {
        if (row.flags & SHARED) *dn_array_field(l, &row) = NULL;
    }
    if (l->shared) l->complete = l->shared = l->pooled = 0;
    l->pool = l->home = NULL;
}
/* The outputs that lie in others' get their address. */
static void enter_homes(const network *net)
{
    for (int i = 0; i < net->n; ++i) {
        layer *l = net->layers[i];
        size_t at = 0;
        for (const layer *in = l; in->home; in = in->home) at += in->home_at;
        if (l->home) l->output = last_home(l)->output + at;
    }
}
/* A layer without its place stays incomplete, and refuses to run. */
dn_status dn_place_activations(network *net)
{
    shared_array *list;
    int n;
    for (int i = 0; i < net->n; ++i) dn_forget_activations(net->layers[i]);
    if (net->arena) net->device->release(net->arena);
    net->arena = NULL;
    dn_status status = plan(net, &list, &n);
    if (status == DN_OK && n) net->arena = net->device->allocate(net->arena_bytes);
    if (status == DN_OK && n && !net->arena) {
        dn_fail(DN_ERR_MEMORY, "no memory for activations (%zu bytes)", net->arena_bytes);
        status = dn_add_reason(net->device, DN_ERR_MEMORY);
    }
    for (int i = 0; status == DN_OK && i < n; ++i) *list[i].field = (char *)net->arena + list[i].offset;
    if (status == DN_OK) enter_homes(net);
    for (int i = 0; status == DN_OK && i < net->n; ++i) {
        status = allocate_layer(net->layers[i], net->layers[i]->train);
    }
    dn_release(list);
    return status;
}
