/* The public header of the GPU library, real or emulated: the kernels by name and as the table through which
 * layers call them, device memory, and errors. Arrays are in device memory, structs of pointers and shapes in
 * the host's. Kernels are queued on the calling thread's stream and return at once; the first that fails is
 * kept until dn_gpu_status() asks. Like darknet.h this is also the cffi cdef. */
#ifndef DARKNET_CUDA_H
#define DARKNET_CUDA_H
#include "darknet.h"
#ifndef DARKNET_CDEF
#ifdef __cplusplus
extern "C" {
#endif
#endif

#define KERNEL(member, cpu, gpu, args) void gpu args;
#include "kernels.def"
#undef KERNEL
const kernels *gpu_kernels(void);
const dn_device *dn_gpu_device(void); /* the same for a whole network: see set_network_device() */

/* Darknet's other names: mean_gpu and the rest are as fast here. */
void fast_mean_gpu(const real *x, int batch, int filters, int spatial, real *mean);
void fast_variance_gpu(const real *x, const real *mean, int batch, int filters, int spatial, real *variance);
void fast_mean_delta_gpu(const real *delta, const real *variance, int batch, int filters, int spatial,
                         real *mean_delta);
void fast_variance_delta_gpu(const real *x, const real *delta, const real *mean, const real *variance,
                             int batch, int filters, int spatial, real *variance_delta);
void im2col_gpu(const real *image, int channels, int height, int width, int ksize, int stride, int pad,
                real *col);
void col2im_gpu(const real *col, int channels, int height, int width, int ksize, int stride, int pad,
                real *image);

/* Device memory, at multiples of 256 bytes; NULL: see dn_gpu_status(). Copies wait until they are done. */
void *dn_gpu_allocate(size_t bytes);
void dn_gpu_release(void *memory);
dn_status dn_gpu_push(void *device, const void *host, size_t bytes);
dn_status dn_gpu_pull(void *host, const void *device, size_t bytes);

void dn_gpu_set_stream(void *stream); /* a cudaStream_t of the calling thread's kernels; NULL: the default */
dn_status dn_gpu_synchronize(void);   /* waits for the stream */
/* Marks between the kernels of the thread's stream, and the seconds from one to another, which this waits for; NaN:
 * see dn_gpu_status(). */
void *dn_gpu_make_mark(void);
void dn_gpu_free_mark(void *mark);
void dn_gpu_set_mark(void *mark);
double dn_gpu_seconds_between(void *from, void *to);
dn_status dn_gpu_status(void);        /* of the first failure since it was last asked for */
const char *dn_gpu_last_error(void);  /* what that was: the kernel, and why */
void dn_gpu_no_memory(const char *why); /* what the next dn_gpu_status() is to say, if nothing has failed before */
const char *dn_gpu_target(void);      /* what the kernels were compiled for: "emulated", or nvcc's version */
const char *dn_gpu_architectures(void); /* "750,800,900": compute capabilities; "": any */
/* The device of the calling thread's kernels from now on, of DN_MOST_GPUS. */
enum { DN_MOST_GPUS = 16 };
void dn_gpu_select(int number);
/* What the calling thread's products round their operands to from now on; it begins with DN_FP32. */
void dn_gpu_set_precision(dn_precision precision);
void dn_gpu_set_backwards(
    int on); /* emulated: the last block and thread first. A GPU has an order of its own */
void dn_gpu_refuse_graphs(int how); /* emulated: 1 that any is made, 2 begun, 3 renewed, 0 none */

/* From now on the kernels of the calling thread's GPU use these functions of a library, which must stay; NULL:
 * our own kernels only. One that gives no handle there is not used: the status and dn_gpu_last_error() say so. */
#include "libraries.h"
dn_status dn_gpu_use_cublas(const dn_cublas *functions);
dn_status dn_gpu_use_cudnn(const dn_cudnn *functions);

#ifndef DARKNET_CDEF
#ifdef __cplusplus
}
#endif
#endif
#endif
