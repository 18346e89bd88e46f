/* Copies between the host's memory and a device's. What gives weights their start values, and what reads
 * boxes from an output, works on copies in the host's memory. */
#include "layer.h"
#include <assert.h>
#include <stdlib.h>
#include <string.h>

dn_status dn_check_device(const layer *l, const network *net)
{
    if (l->device == net->device) return DN_OK;
    return dn_fail(DN_ERR_DEVICE, "[%s] lies on device %s, its network on %s", l->ops->name, l->device->name,
                   net->device->name);
}

/* ---- one array, for Python */
static size_t bytes_of(const layer_array *a) { return a->count * (a->is_int ? sizeof(int) : sizeof(real)); }
static dn_status copied(const layer *l, const layer_array *a, dn_status status)
{
    if (status == DN_OK) return DN_OK;
    l->device->status();
    return dn_fail(status, "[%s] %s: %s", l->ops->name, a->name, l->device->last_error());
}
dn_status pull_layer_array(const layer *l, int i, void *to)
{
    const layer_array a = get_layer_array(l, i);
    dn_select(l->device);
    return copied(l, &a, (a.on_device ? l->device : dn_host())->pull(to, a.data, bytes_of(&a)));
}
dn_status push_layer_array(layer *l, int i, const void *from)
{
    const layer_array a = get_layer_array(l, i);
    dn_select(l->device);
    lend_layer_weights(l);
    return_layer_weights(l);
    return copied(l, &a, (a.on_device ? l->device : dn_host())->push(a.data, from, bytes_of(&a)));
}

dn_status dn_host_copy(const dn_device *device, const real *from, size_t values, real **copy)
{
    *copy = malloc(values * sizeof(real));
    if (!*copy) return dn_fail(DN_ERR_MEMORY, "no memory for a copy of %zu values from the device", values);
    if (device->pull(*copy, from, values * sizeof(real)) == DN_OK) return DN_OK;
    free(*copy);
    *copy = NULL;
    return dn_device_status(device);
}

/* ---- what the host works on */
enum { MOST_COPIES = 64 };
typedef struct {
    void **field, *device, *host;
    size_t bytes;
} host_copy;
typedef struct {
    const dn_device *device;
    host_copy copies[MOST_COPIES];
    int n;
} host_copies;

/* *field points to a copy in the host's memory until give_back(). */
static dn_status lend(host_copies *h, void **field, size_t bytes)
{
    if (!*field || !bytes) return DN_OK;
    host_copy c = {field, *field, malloc(bytes), bytes};
    if (!c.host) return dn_fail(DN_ERR_MEMORY, "no memory for a copy of %zu bytes from the device", bytes);
    assert(h->n < MOST_COPIES);
    h->copies[h->n++] = c;
    *field = c.host;
    if (h->device->pull(c.host, c.device, bytes) == DN_OK) return DN_OK;
    return dn_device_status(h->device);
}
static dn_status give_back(host_copies *h, dn_status status, int push)
{
    for (int i = 0; i < h->n; ++i) {
        const host_copy c = h->copies[i];
        *c.field = c.device;
        if (push && status == DN_OK && h->device->push(c.device, c.host, c.bytes) != DN_OK) {
            status = dn_device_status(h->device);
        }
        free(c.host);
    }
    return status;
}
static dn_status lend_parameters(host_copies *h, layer *l)
{
    dn_status status = DN_OK;
    array_spec row;
    for (int i = 0; (row = dn_array_row(l, i)).name && status == DN_OK; ++i) {
        if (row.role != ARRAY_PARAMETER || row.flags & BORROWED) continue;
        status = lend(h, dn_array_field(l, &row), dn_array_bytes(l, &row));
    }
    return status;
}
dn_status dn_initialize_on_host(layer *l, uint64_t seed)
{
    host_copies parameters = {.device = l->device};
    if (dn_is_host(l->device)) {
        l->ops->initialize(l, seed);
        return DN_OK;
    }
    dn_select(l->device);
    const dn_status status = lend_parameters(&parameters, l);
    if (status == DN_OK) l->ops->initialize(l, seed);
    return give_back(&parameters, status, 1);
}
int dn_detections_on_host(const layer *l, int image, real thresh, real hier, real *rows)
{
    host_copies output = {.device = l->device};
    layer *copy = malloc(l->ops->size);
    if (!copy) return -1;
    memcpy(copy, l, l->ops->size);
    dn_select(l->device);
    const dn_status status =
        lend(&output, (void **)&copy->output, (size_t)l->batch * l->outputs * sizeof(real));
    const int n = status == DN_OK ? l->ops->detections(copy, image, thresh, hier, rows) : -1;
    give_back(&output, status, 0);
    free(copy);
    return n;
}
