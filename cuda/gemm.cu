/* C = alpha * op(A) * op(B) + beta * C, row-major, under Darknet's name and order of arguments; the twin of
 * csrc/gemm.c. */
#include "libraries.cuh"
#include "tensor_cores.cuh"

template <bool TA, bool TB> struct matrix_problem {
    static constexpr bool A_ALONG_K = !TA, B_ALONG_K = TB;
    int m, n, k, count;
    const real *A, *B;
    int lda, ldb, ldc;
    real alpha, beta, *C;
    span span_a() const { return {A, (size_t)(TA ? k : m), (size_t)(TA ? m : k), (size_t)lda}; }
    span span_b() const { return {B, (size_t)(TB ? n : k), (size_t)(TB ? k : n), (size_t)ldb}; }
    struct row {
        const real *values; /* NULL: beyond the matrix */
    };
    typedef row column;
    __device__ row row_of(int, int i) const { return {i < m ? A + (TA ? i : (size_t)i * lda) : NULL}; }
    __device__ column column_of(int, int j) const { return {j < n ? B + (TB ? (size_t)j * ldb : j) : NULL}; }
    __device__ real a(const row &r, int at) const
    {
        return r.values ? r.values[TA ? (size_t)at * lda : at] : 0;
    }
    __device__ real b(const column &c, int at) const
    {
        return c.values ? c.values[TB ? at : (size_t)at * ldb] : 0;
    }
    __device__ void put(int, int i, int j, real sum) const
    {
        real *to = C + (size_t)i * ldc + j;
        *to = alpha * sum + (beta == 0 ? 0 : beta * *to); /* what stands there is not read: it may be NaN */
    }
};
void gemm_gpu(int TA, int TB, int M, int N, int K, real ALPHA, const real *A, int lda, const real *B, int ldb,
              real BETA, real *C, int ldc)
{
    if (cublas_computes(TA, TB, M, N, K, ALPHA, A, lda, B, ldb, BETA, C, ldc)) return;
#define PROBLEM(ta, tb) \
    compute_in_precision("gemm", matrix_problem<ta, tb>{M, N, K, 1, A, B, lda, ldb, ldc, ALPHA, BETA, C})
    if (TA && TB)
        PROBLEM(true, true);
    else if (TA)
        PROBLEM(true, false);
    else if (TB)
        PROBLEM(false, true);
    else
        PROBLEM(false, false);
#undef PROBLEM
}
