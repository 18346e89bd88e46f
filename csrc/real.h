/* The number type of every array: float in the package, double in the twin that gradient checks use. */
#ifndef DN_REAL_H
#define DN_REAL_H
#ifdef DARKNET_DOUBLE
typedef double real;
#else
typedef float real;
#endif

/* What both compilers take: gcc for the CPU, nvcc for the CPU and the GPU. */
#ifdef __CUDACC__
#define SCALAR static inline __host__ __device__
#else
#define SCALAR static inline
#endif
#endif
