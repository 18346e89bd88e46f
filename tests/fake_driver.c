/* A CUDA driver without a GPU, for PyCUDA: memory is the host's, streams and events are done at once, and kernels
 * compiled for the CPU work on it. The environment says what there is: FAKE_GPUS, FAKE_MEMORY (bytes of each),
 * FAKE_INIT (the result of cuInit). test_gpu.py adds an entry that refuses for every other name that PyCUDA
 * wants. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef unsigned long long address;
enum { OK = 0, INVALID_VALUE = 1, OUT_OF_MEMORY = 2, NO_DEVICE = 100, INVALID_DEVICE = 101, INVALID_CONTEXT = 201 };
enum { MOST_GPUS = 8, MOST_CONTEXTS = 64, GUARD = 64 };

static long long told(const char *name, long long otherwise)
{
    const char *text = getenv(name);
    return text ? atoll(text) : otherwise;
}

/* ---- devices and contexts: a context is the number of its device + 1 */
int cuInit(unsigned flags) { return (void)flags, (int)told("FAKE_INIT", OK); }
int cuDriverGetVersion(int *version) { return *version = 13000, OK; }
int cuDeviceGetCount(int *n) { return *n = (int)told("FAKE_GPUS", 1), OK; }
int cuDeviceGet(int *device, int number)
{
    *device = number;
    return number >= 0 && number < told("FAKE_GPUS", 1) ? OK : INVALID_DEVICE;
}
int cuDeviceGetName(char *name, int length, int device) { return snprintf(name, length, "fake %d", device), OK; }
int cuDeviceTotalMem_v2(size_t *bytes, int device)
{
    (void)device;
    return *bytes = (size_t)told("FAKE_MEMORY", 1 << 30), OK;
}
int cuDeviceComputeCapability(int *major, int *minor, int device)
{
    (void)device;
    return *major = 9, *minor = 0, OK;
}
int cuDeviceGetAttribute(int *value, int attribute, int device)
{
    enum { CAPABILITY_MAJOR = 75 };
    (void)device;
    return *value = attribute == CAPABILITY_MAJOR ? 9 : 0, OK;
}
static uintptr_t stack[MOST_CONTEXTS];
static int depth;
int cuDevicePrimaryCtxRetain(uintptr_t *context, int device) { return *context = (uintptr_t)device + 1, OK; }
int cuDevicePrimaryCtxRelease_v2(int device) { return (void)device, OK; }
int cuCtxPushCurrent_v2(uintptr_t context)
{
    if (depth == MOST_CONTEXTS) return INVALID_CONTEXT;
    return stack[depth++] = context, OK;
}
int cuCtxPopCurrent_v2(uintptr_t *context)
{
    if (!depth) return INVALID_CONTEXT;
    --depth;
    if (context) *context = stack[depth];
    return OK;
}
int cuCtxGetCurrent(uintptr_t *context) { return *context = depth ? stack[depth - 1] : 0, OK; }
int cuCtxGetDevice(int *device)
{
    if (!depth) return INVALID_CONTEXT;
    return *device = (int)stack[depth - 1] - 1, OK;
}
int cuCtxGetApiVersion(uintptr_t context, unsigned *version) { return (void)context, *version = 13000, OK; }
int cuCtxSynchronize(void) { return OK; }
int cuCtxDetach(uintptr_t context) { return (void)context, OK; }

/* ---- memory: of the current context's device; what is written beyond a block's end ends the process */
typedef struct block {
    size_t bytes;
    int device;
    struct block *next, *before;
    char padding[256 - 2 * sizeof(void *) - 2 * sizeof(size_t)];
} block;
static block blocks = {.next = &blocks, .before = &blocks};
static size_t used[MOST_GPUS];

static block *block_of(address at)
{
    for (block *b = blocks.next; b != &blocks; b = b->next) {
        if (at >= (address)(uintptr_t)(b + 1) && at < (address)(uintptr_t)(b + 1) + b->bytes) return b;
    }
    return NULL;
}
static int lies_inside(address at, size_t bytes)
{
    const block *b = block_of(at);
    return b && at + bytes <= (address)(uintptr_t)(b + 1) + b->bytes;
}
int cuMemAlloc_v2(address *at, size_t bytes)
{
    int device;
    block *b;
    if (cuCtxGetDevice(&device)) return INVALID_CONTEXT;
    if (!bytes) return INVALID_VALUE;
    if (used[device] + bytes > (size_t)told("FAKE_MEMORY", 1 << 30)) return OUT_OF_MEMORY;
    if (posix_memalign((void **)&b, 256, sizeof *b + bytes + GUARD)) return OUT_OF_MEMORY;
    *b = (block){.bytes = bytes, .device = device, .next = blocks.next, .before = &blocks};
    blocks.next->before = b;
    blocks.next = b;
    used[device] += bytes;
    memset(b + 1, 0xAB, bytes + GUARD);
    return *at = (address)(uintptr_t)(b + 1), OK;
}
int cuMemFree_v2(address at)
{
    block *b = block_of(at);
    if (!b || at != (address)(uintptr_t)(b + 1)) return INVALID_VALUE;
    for (int i = 0; i < GUARD; ++i) {
        if (((unsigned char *)(b + 1))[b->bytes + i] != 0xAB) abort();
    }
    b->next->before = b->before;
    b->before->next = b->next;
    used[b->device] -= b->bytes;
    free(b);
    return OK;
}
int cuMemGetInfo_v2(size_t *unused, size_t *total)
{
    int device;
    if (cuCtxGetDevice(&device)) return INVALID_CONTEXT;
    *total = (size_t)told("FAKE_MEMORY", 1 << 30);
    return *unused = *total - used[device], OK;
}
int cuMemsetD8_v2(address at, unsigned char value, size_t bytes)
{
    if (!lies_inside(at, bytes)) return INVALID_VALUE;
    return memset((void *)(uintptr_t)at, value, bytes), OK;
}
int cuMemcpyHtoD_v2(address at, const void *from, size_t bytes)
{
    if (!lies_inside(at, bytes)) return INVALID_VALUE;
    return memcpy((void *)(uintptr_t)at, from, bytes), OK;
}
int cuMemcpyDtoH_v2(void *to, address at, size_t bytes)
{
    if (!lies_inside(at, bytes)) return INVALID_VALUE;
    return memcpy(to, (const void *)(uintptr_t)at, bytes), OK;
}

int cuGetErrorString(int result, const char **text)
{
    *text = result == OUT_OF_MEMORY     ? "out of memory"
            : result == NO_DEVICE       ? "no CUDA-capable device is detected"
            : result == INVALID_CONTEXT ? "invalid device context"
                                        : "refused by the fake driver";
    return OK;
}
