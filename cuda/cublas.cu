/* Products of matrices by cuBLASLt, which rounds the operands itself: to TF32 or bfloat16. To float16 it would
 * too, but without scaling them first, so that small gradients were lost. It knows matrices by columns: to it
 * ours are transposed, so it is asked for the transpose of C, op(B)' op(A)'. */
#include "libraries.cuh"

namespace
{
enum { CANDIDATES = 8, ALIGNED = 16 };
struct cublas_user {
    static constexpr const char *NAME = "cuBLASLt";
    typedef dn_cublas functions;
    typedef std::array<int, 10> key; /* TA, TB, M, N, K, lda, ldb, ldc, alignment, precision */
    struct plan {
        int status = 0;
        size_t workspace = 0;
        void *product = NULL, *a = NULL, *b = NULL, *c = NULL;
        dn_cublas_algorithm algorithm = {};
    };
    static constexpr int NOT_SUPPORTED = DN_CUBLAS_STATUS_NOT_SUPPORTED;
    const dn_cublas *library;
    int gpu;
    cudaStream_t recorder;
    void *handle, *preference;
    std::map<key, plan> plans;

    int open()
    {
        const size_t most = library->most_workspace;
        TRY(library->cublasLtCreate(&handle));
        TRY(library->cublasLtMatmulPreferenceCreate(&preference));
        return library->cublasLtMatmulPreferenceSetAttribute(
            preference, DN_CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &most, sizeof most);
    }
    int describe(const key &of, plan *p) const;
    int choose(const key &of, plan *p) const;
    static bool unsupported(int status)
    {
        return status == DN_CUBLAS_STATUS_NOT_SUPPORTED || status == DN_CUBLAS_STATUS_ARCH_MISMATCH;
    }
    static const char *text(const dn_cublas *from, int status)
    {
        return from->cublasLtGetStatusString(status);
    }
};

int cublas_user::describe(const key &of, plan *p) const
{
    const int TA = of[0], TB = of[1], M = of[2], N = of[3], K = of[4];
    const int compute_type = of[9] == DN_TF32   ? DN_CUBLAS_COMPUTE_32F_FAST_TF32
                             : of[9] == DN_BF16 ? DN_CUBLAS_COMPUTE_32F_FAST_16BF
                                                : DN_CUBLAS_COMPUTE_32F;
    const int first = TB ? DN_CUBLAS_OP_T : DN_CUBLAS_OP_N, second = TA ? DN_CUBLAS_OP_T : DN_CUBLAS_OP_N;
    TRY(library->cublasLtMatmulDescCreate(&p->product, compute_type, DN_CUDA_R_32F));
    TRY(library->cublasLtMatmulDescSetAttribute(p->product, DN_CUBLASLT_MATMUL_DESC_TRANSA, &first,
                                                sizeof first));
    TRY(library->cublasLtMatmulDescSetAttribute(p->product, DN_CUBLASLT_MATMUL_DESC_TRANSB, &second,
                                                sizeof second));
    TRY(library->cublasLtMatrixLayoutCreate(&p->a, DN_CUDA_R_32F, TB ? K : N, TB ? N : K, of[6]));
    TRY(library->cublasLtMatrixLayoutCreate(&p->b, DN_CUDA_R_32F, TA ? M : K, TA ? K : M, of[5]));
    return library->cublasLtMatrixLayoutCreate(&p->c, DN_CUDA_R_32F, N, M, of[7]);
}
/* The first of the library's proposals, the fastest as it thinks, that keeps to the workspace. */
int cublas_user::choose(const key &of, plan *p) const
{
    const uint32_t alignment = (uint32_t)of[8];
    dn_cublas_choice found[CANDIDATES] = {};
    int count = 0;
    TRY(describe(of, p));
    for (int i = DN_CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES;
         i <= DN_CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES; ++i) {
        TRY(library->cublasLtMatmulPreferenceSetAttribute(preference, i, &alignment, sizeof alignment));
    }
    TRY(library->cublasLtMatmulAlgoGetHeuristic(handle, p->product, p->a, p->b, p->c, p->c, preference,
                                                CANDIDATES, found, &count));
    for (int i = 0; i < count; ++i) {
        if (found[i].status || found[i].workspace > library->most_workspace) continue;
        p->algorithm = found[i].algorithm;
        p->workspace = found[i].workspace;
        return DN_CUBLAS_STATUS_SUCCESS;
    }
    return DN_CUBLAS_STATUS_NOT_SUPPORTED;
}
} // namespace

bool cublas_computes(int TA, int TB, int M, int N, int K, real ALPHA, const real *A, int lda, const real *B,
                     int ldb, real BETA, real *C, int ldc)
{
    cublas_user *user = gpu_failed() ? NULL : library_users<cublas_user>::own();
    const dn_precision precision = precision_of(M);
    if (!user || precision == DN_FP16 || M < 1 || N < 1 || K < 1 ||
        (double)M * N * K < user->library->least_work)
        return false;
    /* Not the exact one: where an array lies must not decide about bits, and all begin at 16 bytes. */
    const bool aligned = ((uintptr_t)A | (uintptr_t)B | (uintptr_t)C) % ALIGNED == 0;
    const cublas_user::key key = {
        !!TA, !!TB, M, N, K, lda, ldb, ldc, aligned ? ALIGNED : (int)sizeof(real), precision};
    return library_computes(
        user, "gemm", key, {A, B, NULL, C, ALPHA, BETA},
        [user](const cublas_user::plan &p, cudaStream_t stream, const library_arguments &a) {
            return user->library->cublasLtMatmul(user->handle, p.product, &a.alpha, a.second, p.a, a.first,
                                                 p.b, &a.beta, a.result, p.c, a.result, p.c, &p.algorithm,
                                                 (void *)a.workspace, p.workspace, stream);
        });
}
dn_status dn_gpu_use_cublas(const dn_cublas *functions) { return library_users<cublas_user>::use(functions); }
