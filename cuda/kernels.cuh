/* What the kernels of this folder share: launches, loops over arrays, and sums of a warp and of a block. One
 * source for two compilers: nvcc, and g++ with emulator.h. */
#ifndef DN_KERNELS_CUH
#define DN_KERNELS_CUH
#ifdef __CUDACC__
#include <cuda_runtime.h>
#define SHARED_ARRAY(type, name, count) __shared__ __align__(16) type name[count]
#define SHARED_MATRIX(type, name, rows, columns) __shared__ __align__(32) type name[rows][columns]
#define DYNAMIC_SHARED(type, name) \
    extern __shared__ __align__(16) unsigned char dynamic_shared_memory[]; \
    type *const name = (type *)dynamic_shared_memory
#else
#include "emulator.h"
#define SHARED_ARRAY(type, name, count) \
    static const char name##_site = 0; \
    const emulator::shared_array<type> name( \
        (type *)emulator::static_shared(&name##_site, sizeof(type) * (count)), count, #name)
#define SHARED_MATRIX(type, name, rows, columns) \
    static const char name##_site = 0; \
    const emulator::shared_matrix<type> name( \
        (type *)emulator::static_shared(&name##_site, sizeof(type) * (rows) * (columns)), rows, columns, \
        #name)
#define DYNAMIC_SHARED(type, name) const auto name = emulator::whole_dynamic_shared<type>(#name)
#endif
#include "darknet_cuda.h"
#include "scalar.h"
#include <functional>

static_assert(sizeof(real) == sizeof(float), "the CUDA kernels work on float");
constexpr int BLOCK = 256, WARP = 32, WARPS = BLOCK / WARP;

/* ---- launches, on the calling thread's stream */

dn_precision current_precision(); /* of the calling thread's products */
/* Products of fewer rows have no tiles, and are float32's whatever the precision. */
constexpr int FEW_ROWS = 8;
static inline dn_precision precision_of(int rows) { return rows < FEW_ROWS ? DN_FP32 : current_precision(); }
int current_gpu();
bool gpu_failed(); /* something has, and nobody has asked yet: what follows is not begun */
void note_failure(const char *what, cudaError_t error);
void library_failed(const char *library, const char *what, const char *why);
void refuse(const char *why); /* an argument that a kernel cannot work with */
/* Device memory for what one kernel leaves to the next: the calling thread's, until it asks for that place
 * again. NULL: no memory, which is noted. */
enum scratch_place { FOR_SUMS, FOR_KERNEL, FOR_SCALES, FOR_LIBRARY, SCRATCH_PLACES };
void *scratch(scratch_place place, size_t bytes);
void *optional_scratch(scratch_place place, size_t bytes); /* no memory is no failure */
/* Copies a few values of the host's for the kernels that follow; they may change once it returns. */
void upload(int *device, const int *host, size_t count);

/* A launch without its kernel's arguments. */
struct kernel_launch {
    const char *name;
    const void *kernel;
    dim3 grid, block;
    size_t shared_bytes;
};
/* Begins it, or keeps it for the pass's graph (graph.cu). `sizes` are those of the arguments, and last. */
void begin_kernel(const kernel_launch &k, void *const *arguments, const size_t *sizes, int count);

/* The same of a library's work, which `call` begins on a stream; what it does follows from `who` does it and
 * the bytes of `told`. On `recorder` its graphs are recorded; it stays as long as `who`. Returns what `call`
 * does, 0 where it is kept. */
typedef std::function<int(cudaStream_t stream)> stream_call;
int begin_call(const char *name, const void *who, const void *told, size_t bytes, cudaStream_t recorder,
               const stream_call &call);

template <class T> struct same {
    typedef T type;
};
template <class... Parameters>
void launch(const char *name, void (*kernel)(Parameters...), dim3 grid, dim3 block, size_t shared_bytes,
            typename same<Parameters>::type... arguments)
{
    static const size_t sizes[] = {sizeof(Parameters)...};
    void *const values[] = {(void *)&arguments...};
#ifndef __CUDACC__
    emulator::know(kernel);
#endif
    begin_kernel({name, (const void *)kernel, grid, block, shared_bytes}, values, sizes,
                 sizeof...(Parameters));
}
/* A kernel of n independent values, and one of so many blocks. A template's name stands in parentheses. */
static inline unsigned blocks_of(size_t n)
{
    return (unsigned)(n > 4096 * BLOCK ? 4096 : (n + BLOCK - 1) / BLOCK);
}
#define LAUNCH(kernel, n, ...) \
    do { \
        if ((n) > 0) launch(#kernel, kernel, blocks_of(n), BLOCK, 0, __VA_ARGS__); \
    } while (0)
#define LAUNCH_BLOCKS(kernel, grid, shared_bytes, ...) \
    launch(#kernel, kernel, grid, BLOCK, shared_bytes, __VA_ARGS__)

#define GRID_STRIDE(i, n) \
    for (size_t i = blockIdx.x * (size_t)blockDim.x + threadIdx.x; i < (size_t)(n); \
         i += (size_t)gridDim.x * blockDim.x)

/* n is a constant: the loop is unrolled, so that arrays of its values become registers. */
#ifdef __CUDACC__
#define EACH(i, n) _Pragma("unroll") for (int i = 0; i < (n); ++i)
#else
#define EACH(i, n) for (int i = 0; i < (n); ++i)
#endif

/* to = value or += value */
static __device__ __forceinline__ void put(real *to, int add, real value) { *to = add ? *to + value : value; }

/* ---- sums, in an order that the block's size alone fixes */

template <class T> __device__ __forceinline__ T warp_sum(T value)
{
    for (int distance = WARP / 2; distance; distance /= 2) {
        value += __shfl_xor_sync(0xFFFFFFFFu, value, distance);
    }
    return value;
}
/* The sum over the block's BLOCK threads, for each of them. */
template <class T> __device__ __forceinline__ T block_sum(T value)
{
    SHARED_ARRAY(T, sums, WARPS);
    value = warp_sum(value);
    __syncthreads(); /* the sums of the call before may still be read */
    if (threadIdx.x % WARP == 0) sums[threadIdx.x / WARP] = value;
    __syncthreads();
    T total = 0;
    for (int i = 0; i < WARPS; ++i) total += sums[i];
    return total;
}
/* The largest value of the block's threads, for each of them. */
static __device__ __forceinline__ real block_largest(real value)
{
    SHARED_ARRAY(real, values, WARPS);
    for (int distance = WARP / 2; distance; distance /= 2) {
        value = fmax(value, __shfl_xor_sync(0xFFFFFFFFu, value, distance));
    }
    __syncthreads();
    if (threadIdx.x % WARP == 0) values[threadIdx.x / WARP] = value;
    __syncthreads();
    for (int i = 0; i < WARPS; ++i) value = fmax(value, values[i]);
    return value;
}
#endif
