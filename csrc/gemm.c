/* C = alpha * op(A) * op(B) + beta * C, row-major, under Darknet's name and order of arguments. A BLAS given
 * by set_sgemm works on one slice of C per task and thread; small products, and all without a BLAS, go to our
 * own engine. */
#include "engine.h"

typedef void (*sgemm_function)(int order, int ta, int tb, int m, int n, int k, float alpha, const float *a,
                               int lda, const float *b, int ldb, float beta, float *c, int ldc);
enum { ROW_MAJOR = 101, PLAIN = 111, TRANSPOSED = 112 };   /* of the CBLAS interface */
/* Rows or columns: for thinner slices a BLAS spends its time on copying the other factor. */
enum { SLICE = 64 };

#ifdef DARKNET_DOUBLE
void set_sgemm(void *cblas_sgemm) { (void)cblas_sgemm; }   /* the twin has our own product only */
#else
static sgemm_function sgemm;
void set_sgemm(void *cblas_sgemm) { __atomic_store_n(&sgemm, (sgemm_function)cblas_sgemm, __ATOMIC_RELEASE); }

/* Slices of the longer side of C, each a call: a number that depends on the shape only, so that threads
 * change no bit. */
static void blas_product(sgemm_function f, int TA, int TB, int M, int N, int K, float alpha, const float *A,
                         int lda, const float *B, int ldb, float beta, float *C, int ldc)
{
    const int wide = N >= M, units = (int)pieces(wide ? N : M, SLICE), slices = at_most(units, TASKS);
    task_list tasks;
    list_tasks(&tasks, slices, dn_num_threads());
#pragma omp parallel num_threads(dn_num_threads())
    EACH_TASK(i, &tasks) {
        const ptrdiff_t from = part_of(units, i, slices) * SLICE,
                        upto = part_of(units, i + 1, slices) * SLICE;
        const int side = wide ? N : M, size = (int)((upto < side ? upto : side) - from);
        const float *a = wide ? A : A + from * (TA ? 1 : lda), *b = wide ? B + from * (TB ? ldb : 1) : B;
        float *c = C + (wide ? from : from * ldc);
        f(ROW_MAJOR, TA ? TRANSPOSED : PLAIN, TB ? TRANSPOSED : PLAIN, wide ? M : size, wide ? size : N, K,
          alpha, a, lda, b, ldb, beta, c, ldc);
    }
}
#endif

void gemm(int TA, int TB, int M, int N, int K, real ALPHA, const real *A, int lda, const real *B, int ldb,
          real BETA, real *C, int ldc)
{
#ifndef DARKNET_DOUBLE
    const sgemm_function f = __atomic_load_n(&sgemm, __ATOMIC_ACQUIRE);
    if (f && (double)M * N * K > 1 << 21) { /* below, OpenBLAS called from two threads at once was seen to
                                               stall for milliseconds */
        blas_product(f, TA, TB, M, N, K, ALPHA, A, lda, B, ldb, BETA, C, ldc);
        return;
    }
#endif
    const matrix_product p = {.m = M,
                              .n = N,
                              .k = K,
                              .alpha = ALPHA,
                              .beta = BETA,
                              .a = A,
                              .a_row = TA ? 1 : lda,
                              .a_column = TA ? lda : 1,
                              .b = B,
                              .b_row = TB ? 1 : ldb,
                              .b_column = TB ? ldb : 1,
                              .c = C,
                              .ldc = ldc};
    current_engine()->matrix(&p, dn_num_threads());
}
