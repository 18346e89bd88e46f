/* CUDA C++ on a CPU: what cuda_runtime.h and nvcc's language offer to the files of this folder, for g++.
 * Blocks run one after another, and so do the threads of a block, fibers that run until they wait for others;
 * a warp goes on as far as it can before the next begins (emulator.cpp). What a GPU leaves undefined is
 * looked for and reported with kernel, block and thread as the launch's error:
 *     a barrier, shuffle or vote that some threads never reach, or reach in another line
 *     a shuffle's value from a lane that takes no part
 *     an index beyond the end of an array in shared memory, which holds NaN when a block begins
 *     an address beyond the ends of what cudaMalloc gave, and a value written there
 * With the order of blocks and threads turned round (set_backwards) a kernel whose result depends on it gives
 * another one. Not seen: warps in lockstep, races that both orders hide, the cost of anything. */
#ifndef DN_EMULATOR_H
#define DN_EMULATOR_H
#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <functional>
#include <utility>

/* ---- the language */
#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __align__(bytes) __attribute__((aligned(bytes)))
#ifndef __CUDA_ARCH__
#define __CUDA_ARCH__ 900
#endif

struct dim3 {
    unsigned x, y, z;
    dim3(unsigned width = 1, unsigned height = 1, unsigned depth = 1) : x(width), y(height), z(depth) {}
};
struct __align__(8) float2 { float x, y; };
struct __align__(16) float4 { float x, y, z, w; };
struct __align__(16) double2 { double x, y; };
static inline float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }
static inline double2 make_double2(double x, double y) { return {x, y}; }

extern dim3 threadIdx, blockIdx, blockDim, gridDim;
namespace emulator
{
/* Runs body(context) once for each thread of the grid; the first fault ends the launch. */
void launch(dim3 grid, dim3 block, size_t shared_bytes, void (*body)(const void *), const void *context);
/* While it lives code of others, a library's, may touch device memory as a launch does; one at a time. */
struct work_of_others {
    work_of_others();
    ~work_of_others();
};


/* Kernels by their address, as the runtime library is given them: how one is called, and the sizes of its
 * arguments. Whoever launches one makes it known first. */
struct known_kernel {
    void (*call)(const void *kernel, void *const *arguments);
    const size_t *sizes;
    size_t count;
};
void know(const void *kernel, const known_kernel &how);
template <class... P, size_t... I>
void call_kernel(void (*kernel)(P...), void *const *arguments, std::index_sequence<I...>)
{
    kernel(*(P *)arguments[I]...);
}
template <class... P> void know(void (*kernel)(P...))
{
    static const size_t sizes[] = {sizeof(P)...};
    const auto call = [](const void *address, void *const *arguments) {
        call_kernel((void (*)(P...))address, arguments, std::index_sequence_for<P...>());
    };
    know((const void *)kernel, {call, sizes, sizeof...(P)});
}
[[noreturn]] void fault(const char *format, ...) __attribute__((format(printf, 1, 2)));
void set_backwards(int backwards); /* the last block and thread first */
void refuse_graphs(int how);       /* 1: none is made; 2: begun; 3: renewed; 0: none is refused */

void block_barrier(const char *file, int line);
void warp_barrier(unsigned mask);
uint64_t exchange(unsigned mask, uint64_t value, int from); /* the value that lane `from` hands in */
unsigned ballot(unsigned mask, bool vote);
/* The whole warp does the same: `what`, with one value. */
void agree(const char *what, uint64_t value);
void *warp_room(int i); /* two of 1 KiB for each warp */
void require_shared(const char *what, const void *first, size_t bytes); /* they belong to one array */
void *static_shared(const void *site, size_t bytes); /* of this block; the same for all its threads */
void *dynamic_shared(size_t *bytes);
int lane();
[[noreturn]] void beyond(const char *name, size_t index, size_t count);

/* An array in shared memory whose indices are checked. */
template <class T> class shared_array
{
    T *values;
    size_t count;
    const char *name;

  public:
    shared_array(T *memory, size_t n, const char *title) : values(memory), count(n), name(title) {}
    T &operator[](size_t i) const
    {
        if (i >= count) beyond(name, i, count);
        return values[i];
    }
};
template <class T> class shared_matrix
{
    shared_array<T> values;
    size_t rows, columns;
    const char *name;

  public:
    shared_matrix(T *memory, size_t r, size_t c, const char *title)
        : values(memory, r * c, title), rows(r), columns(c), name(title)
    {
    }
    shared_array<T> operator[](size_t row) const
    {
        if (row >= rows) beyond(name, row, rows);
        return shared_array<T>(&values[row * columns], columns, name);
    }
};
template <class T> static shared_array<T> whole_dynamic_shared(const char *name)
{
    size_t bytes;
    T *memory = (T *)dynamic_shared(&bytes);
    return shared_array<T>(memory, bytes / sizeof(T), name);
}

template <class T> T exchange_value(unsigned mask, T value, int from)
{
    static_assert(sizeof(T) <= sizeof(uint64_t), "a shuffle moves 8 bytes at most");
    uint64_t bits = 0;
    memcpy(&bits, &value, sizeof value);
    bits = exchange(mask, bits, from);
    memcpy(&value, &bits, sizeof value);
    return value;
}
/* The lane `wanted` of this thread's segment of `width` lanes, or its own where that lies outside. */
static inline int in_segment(int wanted, int width)
{
    const int first = lane() / width * width;
    return wanted >= first && wanted < first + width ? wanted : lane();
}
} // namespace emulator

#define __syncthreads() emulator::block_barrier(__FILE__, __LINE__)
static inline void __syncwarp(unsigned mask = ~0u) { emulator::warp_barrier(mask); }
template <class T> T __shfl_sync(unsigned mask, T value, int from, int width = 32)
{
    return emulator::exchange_value(mask, value, emulator::lane() / width * width + from % width);
}
template <class T> T __shfl_down_sync(unsigned mask, T value, int distance, int width = 32)
{
    return emulator::exchange_value(mask, value, emulator::in_segment(emulator::lane() + distance, width));
}
template <class T> T __shfl_up_sync(unsigned mask, T value, int distance, int width = 32)
{
    return emulator::exchange_value(mask, value, emulator::in_segment(emulator::lane() - distance, width));
}
template <class T> T __shfl_xor_sync(unsigned mask, T value, int bits, int width = 32)
{
    return emulator::exchange_value(mask, value, emulator::in_segment(emulator::lane() ^ bits, width));
}
static inline unsigned __ballot_sync(unsigned mask, int vote) { return emulator::ballot(mask, vote != 0); }
static inline int __any_sync(unsigned mask, int vote) { return __ballot_sync(mask, vote) != 0; }
static inline int __all_sync(unsigned mask, int vote) { return __ballot_sync(mask, !vote) == 0; }
/* ---- the part of the runtime library that device.cu, graph.cu and staging.cu call: the default stream works at once,
 * another as late as it may, when somebody waits for it */
typedef enum {
    cudaSuccess = 0,
    cudaErrorInvalidValue = 1,
    cudaErrorMemoryAllocation = 2,
    cudaErrorInvalidConfiguration = 9,
    cudaErrorInvalidDeviceFunction = 98,
    cudaErrorInvalidResourceHandle = 400,
    cudaErrorLaunchFailure = 719
} cudaError_t;
typedef enum { cudaMemcpyDefault = 4 } cudaMemcpyKind;
enum { cudaStreamNonBlocking = 1, cudaHostAllocDefault = 0 };
enum { cudaEventBlockingSync = 1, cudaEventDisableTiming = 2 };
typedef struct emulated_stream *cudaStream_t;
typedef struct emulated_event *cudaEvent_t;
cudaError_t cudaMalloc(void **memory, size_t bytes);
cudaError_t cudaFree(void *memory);
cudaError_t cudaHostAlloc(void **memory, size_t bytes, unsigned flags);
cudaError_t cudaFreeHost(void *memory);
cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t bytes, cudaMemcpyKind kind,
                            cudaStream_t stream);
cudaError_t cudaMemsetAsync(void *to, int value, size_t bytes, cudaStream_t stream); /* the default stream */
cudaError_t cudaSetDevice(int number); /* all are this processor */
cudaError_t cudaStreamCreateWithFlags(cudaStream_t *stream, unsigned flags);
cudaError_t cudaStreamDestroy(cudaStream_t stream);
cudaError_t cudaStreamSynchronize(cudaStream_t stream);
cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned flags = 0);
cudaError_t cudaEventCreate(cudaEvent_t *event);
cudaError_t cudaEventCreateWithFlags(cudaEvent_t *event, unsigned flags);
cudaError_t cudaEventDestroy(cudaEvent_t event);
cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream);
cudaError_t cudaEventSynchronize(cudaEvent_t event);
cudaError_t cudaEventElapsedTime(float *milliseconds, cudaEvent_t from, cudaEvent_t to);
cudaError_t cudaGetLastError(void);
const char *cudaGetErrorString(cudaError_t error); /* of the last one: what was found, and where */
cudaError_t cudaLaunchKernel(const void *kernel, dim3 grid, dim3 block, void **arguments, size_t shared_bytes,
                             cudaStream_t stream);

/* Graphs of kernels. Of the nodes whose dependencies are done the last one runs first: a dependency that is
 * missing shows. */
typedef struct emulated_graph *cudaGraph_t;
typedef struct emulated_node *cudaGraphNode_t;
typedef struct emulated_exec *cudaGraphExec_t;
struct cudaKernelNodeParams {
    void *func;
    dim3 gridDim, blockDim;
    unsigned sharedMemBytes;
    void **kernelParams, **extra;
};
cudaError_t cudaGraphCreate(cudaGraph_t *graph, unsigned flags);
cudaError_t cudaGraphDestroy(cudaGraph_t graph);
cudaError_t cudaGraphAddKernelNode(cudaGraphNode_t *node, cudaGraph_t graph,
                                   const cudaGraphNode_t *dependencies, size_t count,
                                   const cudaKernelNodeParams *params);
cudaError_t cudaGraphAddChildGraphNode(cudaGraphNode_t *node, cudaGraph_t graph,
                                       const cudaGraphNode_t *dependencies, size_t count, cudaGraph_t child);
cudaError_t cudaGraphExecChildGraphNodeSetParams(cudaGraphExec_t exec, cudaGraphNode_t node,
                                                 cudaGraph_t child);
cudaError_t cudaGraphInstantiate(cudaGraphExec_t *exec, cudaGraph_t graph, unsigned long long flags);
cudaError_t cudaGraphExecKernelNodeSetParams(cudaGraphExec_t exec, cudaGraphNode_t node,
                                             const cudaKernelNodeParams *params);
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t exec);
cudaError_t cudaGraphLaunch(cudaGraphExec_t exec, cudaStream_t stream);

namespace emulator
{
/* What emulator.cpp has for emulated_runtime.cpp: errors, and copies that are done at once. */
cudaError_t fail(cudaError_t error, const char *format, ...) __attribute__((format(printf, 2, 3)));
cudaError_t failure(); /* the last error, which stays */
cudaError_t copy_now(void *to, const void *from, size_t bytes);
void finish_streams(); /* before memory goes */
/* A graph of what code of others does at once: a library that works on the host cannot be captured. */
cudaError_t graph_of(const std::function<int()> &work, cudaGraph_t *graph);
} // namespace emulator
#endif
