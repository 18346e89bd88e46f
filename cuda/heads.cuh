/* What the kernels of heads are told lies in the host's memory; its lists are copied to the device before
 * each pass: a few hundred bytes, or with a class tree some for each class. */
#ifndef DN_HEADS_CUH
#define DN_HEADS_CUH
#include "kernels.cuh"
#include <initializer_list>
#include <vector>

/* A list, NULL or so many values, and where to write its address on the device. */
struct host_list {
    const void *host;
    size_t count;
    const void **device;
};
static_assert(sizeof(real) == sizeof(int), "both kinds of lists lie side by side");
/* false: no memory, which is noted. */
static inline bool lists_to_device(std::initializer_list<host_list> lists)
{
    std::vector<int> all;
    for (const host_list &l : lists) {
        if (l.host) all.insert(all.end(), (const int *)l.host, (const int *)l.host + l.count);
    }
    int *memory = (int *)scratch(FOR_KERNEL, all.size() * sizeof(int));
    if (!memory) return false;
    upload(memory, all.data(), all.size());
    for (const host_list &l : lists) {
        *l.device = l.host ? memory : NULL;
        if (l.host) memory += l.count;
    }
    return true;
}
static inline bool lists_to_device(yolo_rules *r)
{
    const void **const counters = (const void **)&r->counters_per_class;
    return lists_to_device({{r->anchors, 2 * (size_t)r->num, (const void **)&r->anchors},
                            {r->counters_per_class, (size_t)r->classes, counters},
                            {r->mask, (size_t)r->slots, (const void **)&r->mask},
                            {r->map, (size_t)r->names, (const void **)&r->map}});
}
static inline bool lists_to_device(region_rules *r)
{
    return lists_to_device({{r->anchors, 2 * (size_t)r->num, (const void **)&r->anchors},
                            {r->map, (size_t)r->names, (const void **)&r->map},
                            {r->parents, (size_t)r->classes, (const void **)&r->parents}});
}
#endif
