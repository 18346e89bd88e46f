/* The table of GPU kernels, device memory, the stream of each thread, and errors. */
#include "graph.cuh"
#include "staging.cuh"
#include <stdio.h>

static const kernels gpu = {
#define KERNEL(member, cpu, gpu, args) gpu,
#include "kernels.def"
#undef KERNEL
};
const kernels *gpu_kernels(void) { return &gpu; }

#ifdef __CUDACC__
#define TEXT_OF(number) #number
#define TEXT(number) TEXT_OF(number)
const char *dn_gpu_target(void) { return "CUDA " TEXT(__CUDACC_VER_MAJOR__) "." TEXT(__CUDACC_VER_MINOR__); }
#define LIST_OF(...) #__VA_ARGS__
#define LIST(...) LIST_OF(__VA_ARGS__)
const char *dn_gpu_architectures(void) { return LIST(__CUDA_ARCH_LIST__); }
void dn_gpu_set_backwards(int) {}
void dn_gpu_refuse_graphs(int) {}
#else
const char *dn_gpu_target(void) { return "emulated"; }
const char *dn_gpu_architectures(void) { return ""; }
void dn_gpu_set_backwards(int on) { emulator::set_backwards(on); }
void dn_gpu_refuse_graphs(int how) { emulator::refuse_graphs(how); }
#endif

/* ---- errors: the first of a thread is kept */

static thread_local dn_status status = DN_OK;
static thread_local char message[768];

bool gpu_failed() { return status != DN_OK; }
void note_failure(const char *what, cudaError_t error)
{
    if (error == cudaSuccess || gpu_failed()) return;
    status = error == cudaErrorMemoryAllocation ? DN_ERR_MEMORY : DN_ERR_DEVICE;
    snprintf(message, sizeof message, "%s: %s", what, cudaGetErrorString(error));
}
void library_failed(const char *library, const char *what, const char *why)
{
    if (gpu_failed()) return;
    status = DN_ERR_DEVICE;
    snprintf(message, sizeof message, "%s: %s: %s", library, what, why);
}
void refuse(const char *why)
{
    if (gpu_failed()) return;
    status = DN_ERR_ARGUMENT;
    snprintf(message, sizeof message, "%s", why);
}
void dn_gpu_no_memory(const char *why)
{
    if (gpu_failed()) return;
    status = DN_ERR_MEMORY;
    snprintf(message, sizeof message, "%s", why);
}
/* The runtime keeps a launch's error until it is asked, as this file does: it is taken over here. */
static dn_status noted(const char *what, cudaError_t error)
{
    note_failure(what, error);
    cudaGetLastError();
    return status;
}
dn_status dn_gpu_status(void)
{
    const dn_status found = status;
    status = DN_OK;
    return found;
}
const char *dn_gpu_last_error(void) { return message; }

/* ---- memory */

void *dn_gpu_allocate(size_t bytes)
{
    void *memory = NULL;
    char what[64];
    snprintf(what, sizeof what, "%zu bytes of device memory", bytes);
    noted(what, cudaMalloc(&memory, bytes));
    return memory;
}
void dn_gpu_release(void *memory)
{
    begin_kept();
    noted("release of device memory", cudaFree(memory));
}
static dn_status copy_bytes(const char *what, void *to, const void *from, size_t bytes)
{
    noted(what, cudaMemcpyAsync(to, from, bytes, cudaMemcpyDefault, own_stream()));
    return dn_gpu_synchronize();
}
dn_status dn_gpu_push(void *device, const void *host, size_t bytes)
{
    part_graph("the host writes to the device");
    return copy_bytes("copy to the device", device, host, bytes);
}
dn_status dn_gpu_pull(void *host, const void *device, size_t bytes)
{
    part_graph("the host looks at values of the device");
    return copy_bytes("copy from the device", host, device, bytes);
}

/* As arguments of a kernel, which a graph takes as it does those of others. */
constexpr int UPLOADED = 480;
struct uploaded_values {
    int values[UPLOADED];
};
static __global__ void upload_kernel(int n, uploaded_values from, int *to)
{
    GRID_STRIDE(i, n) to[i] = from.values[i];
}
void upload(int *device, const int *host, size_t count)
{
    for (size_t at = 0; at < count; at += UPLOADED) {
        const int n = (int)(count - at < UPLOADED ? count - at : UPLOADED);
        uploaded_values part = {};
        memcpy(part.values, host + at, n * sizeof(int));
        LAUNCH(upload_kernel, n, n, part, device + at);
    }
}

static void *allocate_zeros(size_t bytes)
{
    void *memory = dn_gpu_allocate(bytes);
    if (memory) noted("zeros for device memory", cudaMemsetAsync(memory, 0, bytes, own_stream()));
    return memory;
}
const dn_device *dn_gpu_device(void)
{
#ifdef __CUDACC__
    static const char name[] = "gpu";
#else
    static const char name[] = "emulated";
#endif
    static const dn_device device = {name,
                                     &gpu,
                                     allocate_zeros,
                                     dn_gpu_release,
                                     dn_gpu_push,
                                     dn_gpu_pull,
                                     dn_gpu_status,
                                     dn_gpu_last_error,
                                     dn_gpu_select,
                                     dn_gpu_set_precision,
                                     0,
                                     new_graphs,
                                     free_graphs,
                                     begin_graph,
                                     end_graph,
                                     begin_kept,
                                     graph_parted,
                                     graph_info,
                                     new_staging,
                                     free_staging,
                                     begin_staged,
                                     stage,
                                     wait_staged,
                                     end_staged};
    return &device;
}

/* ---- the stream, and the scratch memory of those who use it one after another */

static thread_local cudaStream_t stream;
static thread_local struct scratch_memory {
    void *memory = NULL;
    size_t bytes = 0;
    ~scratch_memory() { if (memory) cudaFree(memory); } /* the device may be gone already: no matter */
} work[DN_MOST_GPUS][SCRATCH_PLACES];
static thread_local int selected; /* the GPU of this thread; the runtime begins with the first */

cudaStream_t own_stream() { return stream; }
int current_gpu() { return selected; }
dn_status dn_gpu_synchronize(void)
{
    part_graph("the host waits for the device");
    return noted("wait for the stream", cudaStreamSynchronize(stream));
}
void *dn_gpu_make_mark(void)
{
    cudaEvent_t mark = NULL;
    noted("mark", cudaEventCreate(&mark));
    return mark;
}
void dn_gpu_free_mark(void *mark) { noted("mark", cudaEventDestroy((cudaEvent_t)mark)); }
void dn_gpu_set_mark(void *mark)
{
    begin_kept();
    noted("mark", cudaEventRecord((cudaEvent_t)mark, stream));
}
double dn_gpu_seconds_between(void *from, void *to)
{
    float milliseconds = 0;
    noted("wait for a mark", cudaEventSynchronize((cudaEvent_t)to));
    noted("time between marks", cudaEventElapsedTime(&milliseconds, (cudaEvent_t)from, (cudaEvent_t)to));
    return gpu_failed() ? NAN : milliseconds / 1000.0;
}
/* Another stream would take over the scratch memory at once, so it waits for the old one. */
void dn_gpu_set_stream(void *next)
{
    if ((cudaStream_t)next == stream) return;
    bool shared = false;
    for (const scratch_memory &own : work[selected]) shared |= own.memory != NULL;
    if (shared) dn_gpu_synchronize();
    stream = (cudaStream_t)next;
}
/* A stream belongs to its device. */
void dn_gpu_select(int number)
{
    if (number < 0 || number >= DN_MOST_GPUS) return refuse("no such GPU");
    const cudaError_t error = cudaSetDevice(number);
    note_failure("choice of the GPU", error);
    if (error != cudaSuccess || number == selected) return;
    selected = number;
    stream = NULL;
}
static thread_local dn_precision precision;
dn_precision current_precision() { return precision; }
void dn_gpu_set_precision(dn_precision next)
{
    if ((unsigned)next >= DN_PRECISIONS) return refuse("no such precision");
    precision = next;
}
void *scratch(scratch_place place, size_t bytes)
{
    scratch_memory &own = work[selected][place];
    if (gpu_failed()) return NULL;
    if (bytes > own.bytes) {
        if (own.memory) dn_gpu_release(own.memory); /* waits for the kernels that use it */
        own.memory = dn_gpu_allocate(bytes);
        own.bytes = own.memory ? bytes : 0;
    }
    return own.memory;
}
void *optional_scratch(scratch_place place, size_t bytes)
{
    if (gpu_failed()) return NULL;
    void *memory = scratch(place, bytes);
    if (status == DN_ERR_MEMORY) status = DN_OK;
    return memory;
}
