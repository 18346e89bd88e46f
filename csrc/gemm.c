/* C = alpha * op(A) * op(B) + beta * C, row-major, under Darknet's name and order of arguments. */
#include "engine.h"

void gemm(int TA, int TB, int M, int N, int K, real ALPHA, const real *A, int lda, const real *B, int ldb,
          real BETA, real *C, int ldc)
{
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
