/* NVIDIA's cuBLASLt and cuDNN as the kernels see them: the functions that they call, handed over by whoever
 * has opened the library, and our own declarations of what these take, so that neither is needed to build. A
 * constant DN_<X> is NVIDIA's <X>; tests/test_nvidia_libraries.py holds all of them, the structs and the
 * functions against NVIDIA's headers. Handles and descriptors are pointers that only the library follows. */
#ifndef DN_LIBRARIES_H
#define DN_LIBRARIES_H
#ifndef DARKNET_CDEF
#include <stddef.h>
#include <stdint.h>
#endif

enum {
    DN_CUBLAS_STATUS_SUCCESS = 0,
    DN_CUBLAS_STATUS_ARCH_MISMATCH = 8,
    DN_CUBLAS_STATUS_NOT_SUPPORTED = 15,
    DN_CUBLAS_OP_N = 0,
    DN_CUBLAS_OP_T = 1,
    DN_CUBLAS_COMPUTE_32F = 68,
    DN_CUBLAS_COMPUTE_32F_FAST_16BF = 75,
    DN_CUBLAS_COMPUTE_32F_FAST_TF32 = 77,
    DN_CUDA_R_32F = 0,
    DN_CUBLASLT_MATMUL_DESC_TRANSA = 3,
    DN_CUBLASLT_MATMUL_DESC_TRANSB = 4,
    DN_CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES = 1,
    DN_CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES = 5,
    DN_CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES = 6,
    DN_CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES = 7,
    DN_CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES = 8
};
typedef struct {
    uint64_t data[8];
} dn_cublas_algorithm; /* cublasLtMatmulAlgo_t */
typedef struct {
    dn_cublas_algorithm algorithm;
    size_t workspace;
    int status;
    float waves;
    int reserved[4];
} dn_cublas_choice; /* cublasLtMatmulHeuristicResult_t */
typedef struct {
    double least_work;     /* products of fewer multiplications than this are left to our own kernel */
    size_t most_workspace; /* bytes; algorithms that want more are not taken */
#define FUNCTION(result, name, arguments) result(*name) arguments;
#include "cublas.def"
#undef FUNCTION
} dn_cublas;

enum {
    DN_CUDNN_STATUS_SUCCESS = 0,
    DN_CUDNN_STATUS_NOT_SUPPORTED = 3000, /* the first of a thousand reasons why */
    DN_CUDNN_STATUS_INTERNAL_ERROR = 4000,
    DN_CUDNN_DATA_FLOAT = 0,
    DN_CUDNN_TENSOR_NCHW = 0,
    DN_CUDNN_CROSS_CORRELATION = 1,
    DN_CUDNN_DETERMINISTIC = 1,
    DN_CUDNN_DEFAULT_MATH = 0, /* may be TF32 */
    DN_CUDNN_TENSOR_OP_MATH_ALLOW_CONVERSION = 2, /* to float16 */
    DN_CUDNN_FMA_MATH = 3,
    DN_CUDNN_CONVOLUTION_FWD_ALGO_COUNT = 8 /* the most that any pass has */
};
typedef struct {
    int algorithm, status;
    float time;
    size_t workspace;
    int determinism, math, reserved[3];
} dn_cudnn_choice; /* cudnnConvolutionFwdAlgoPerf_t and those of the other passes */
typedef struct {
    size_t most_workspace;
#define FUNCTION(result, name, arguments) result(*name) arguments;
#include "cudnn.def"
#undef FUNCTION
} dn_cudnn;
#endif
