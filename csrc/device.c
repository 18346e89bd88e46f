/* The table of CPU kernels, the list of layer types, memory, and the number of threads. */
#include "layer.h"
#include <omp.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <string.h>

static const kernels cpu = {
#define KERNEL(member, cpu, gpu, args) .member = cpu,
#include "kernels.def"
#undef KERNEL
};
const kernels *cpu_kernels(void) { return &cpu; }

#define LAYER(name, ID) extern const layer_ops name##_ops;
#include "layers.def"
#undef LAYER
const layer_ops *const layer_table[LAYER_TYPES] = {
#define LAYER(name, ID) [ID] = &name##_ops,
#include "layers.def"
#undef LAYER
};
const char *get_layer_string(LAYER_TYPE t) { return t >= 0 && t < LAYER_TYPES ? layer_table[t]->name : ""; }

static const char *const activation_names[ACTIVATIONS] = {
#define ACTIVATION(name, ID) [ID] = #name,
#include "activations.def"
#undef ACTIVATION
};
const char *get_activation_string(ACTIVATION a)
{
    return a >= 0 && a < ACTIVATIONS ? activation_names[a] : "";
}
int get_activation(const char *name)
{
    for (int a = 0; a < ACTIVATIONS; ++a) {
        if (!strcmp(name, activation_names[a])) return a;
    }
    return -1;
}

/* The one setting of the whole process: OpenMP's own belongs to the thread that sets it, and passes are
 * called from several. */
static int threads;
static _Thread_local int held; /* the number during a pass of this thread; 0: none is under way */
void dn_set_num_threads(int n)
{
    const int least = n < 1 ? 1 : n;
    __atomic_store_n(&threads, least < DN_MOST_THREADS ? least : DN_MOST_THREADS, __ATOMIC_RELAXED);
}
void dn_hold_threads(int hold)
{
    held = 0;
    if (hold) held = dn_num_threads();
}
int dn_num_threads(void)
{
    if (held) return held;
    const int n = __atomic_load_n(&threads, __ATOMIC_RELAXED);
    return n > 0 ? n : omp_get_max_threads();
}

/* Large arrays lie on large pages where the system has them: a pass over many channels touches as many pages
 * as rows, more than the processor remembers of small ones. */
enum { LINE = 64, LARGE_PAGE = 2 << 20 };
void *dn_allocate(size_t bytes)
{
    const size_t whole = (bytes + LINE - 1) / LINE * LINE;
    const int large = whole >= 2 * LARGE_PAGE;
    void *memory = NULL;
    if (whole < bytes || posix_memalign(&memory, large ? LARGE_PAGE : LINE, whole ? whole : LINE))
        return NULL;
#ifdef MADV_HUGEPAGE
    if (large) madvise(memory, whole, MADV_HUGEPAGE); /* a wish: its refusal is no error */
#endif
    return memset(memory, 0, whole);
}
void dn_release(void *memory) { free(memory); }

static dn_status copy_bytes(void *to, const void *from, size_t bytes)
{
    memcpy(to, from, bytes);
    return DN_OK;
}
const dn_device *dn_host(void)
{
    static const dn_device host = {.name = "cpu",
                                   .k = &cpu,
                                   .allocate = dn_allocate,
                                   .release = dn_release,
                                   .push = copy_bytes,
                                   .pull = copy_bytes};
    return &host;
}
int dn_is_host(const dn_device *device) { return device == dn_host(); }
void dn_select(const dn_device *device)
{
    if (device->select) device->select(device->number);
}
void dn_set_precision(const dn_device *device, dn_precision precision)
{
    if (device->precision) device->precision(precision);
}
dn_status dn_device_status(const dn_device *device)
{
    const dn_status status = device->status ? device->status() : DN_OK;
    return status == DN_OK ? status : dn_fail(status, "%s", device->last_error());
}
dn_status dn_add_reason(const dn_device *device, dn_status failed)
{
    char said[256];
    if (!device->status || device->status() == DN_OK) return failed;
    snprintf(said, sizeof said, "%s", dn_last_error());
    return dn_fail(failed, "%s; %s", said, device->last_error());
}
void *dn_buffer_of(const dn_device *device, dn_buffer *buffer, size_t bytes, const char *what)
{
    if (buffer->memory && bytes <= buffer->bytes) return buffer->memory;
    if (buffer->memory && device->begin_kept) device->begin_kept();
    dn_release_buffer(device, buffer); /* first: nothing in it is wanted, and both may not fit */
    buffer->memory = bytes == SIZE_MAX ? NULL : device->allocate(bytes ? bytes : 1);
    if (buffer->memory) {
        buffer->bytes = bytes;
        return buffer->memory;
    }
    dn_fail(DN_ERR_MEMORY, "no memory for %s of %zu bytes", what, bytes);
    dn_add_reason(device, DN_ERR_MEMORY);
    return NULL;
}
void dn_release_buffer(const dn_device *device, dn_buffer *buffer)
{
    if (buffer->memory) device->release(buffer->memory);
    *buffer = (dn_buffer){NULL, 0};
}

int dn_overflows(size_t a, size_t b, size_t *product) { return __builtin_mul_overflow(a, b, product); }
