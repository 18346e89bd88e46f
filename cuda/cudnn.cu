/* The passes of a convolution by cuDNN. Its algorithms come by rules, not by a race, and only those count
 * that give the same bits on every run: so the choice follows from the shape. float32 goes by fused
 * multiply-adds, or with TF32; 16 bits are left to our kernels: of float32 arrays cuDNN makes nothing like
 * bfloat16, and float16 without scaling them first, so that small gradients were lost. */
#include "libraries.cuh"

namespace
{
enum { CANDIDATES = DN_CUDNN_CONVOLUTION_FWD_ALGO_COUNT, ALIGNED = 16 };
struct cudnn_user {
    static constexpr const char *NAME = "cuDNN";
    typedef dn_cudnn functions;
    struct key {
        conv_pass pass;
        conv_shape s;
        dn_precision precision;
        bool operator<(const key &other) const { return fields() < other.fields(); }
        std::array<int, 15> fields() const
        {
            return {precision, pass,       s.batch,    s.c,        s.h,   s.w,     s.n,    s.groups,
                    s.size,    s.stride_x, s.stride_y, s.dilation, s.pad, s.out_h, s.out_w};
        }
    };
    struct plan {
        int status = 0;
        size_t workspace = 0;
        void *x = NULL, *w = NULL, *y = NULL, *convolution = NULL;
        int algorithm = 0;
    };
    static constexpr int NOT_SUPPORTED = DN_CUDNN_STATUS_NOT_SUPPORTED;
    const dn_cudnn *library;
    int gpu;
    cudaStream_t recorder;
    void *handle;
    std::map<key, plan> plans;

    int open() { return library->cudnnCreate(&handle); }
    int describe(const conv_shape &s, plan *p) const;
    int propose(conv_pass pass, const plan &p, dn_cudnn_choice *found, int *count) const;
    int choose(const key &of, plan *p) const;
    int run(conv_pass pass, const plan &p, const library_arguments &a, cudaStream_t stream) const;
    static bool unsupported(int status)
    {
        return status >= DN_CUDNN_STATUS_NOT_SUPPORTED && status < DN_CUDNN_STATUS_INTERNAL_ERROR;
    }
    static const char *text(const dn_cudnn *from, int status) { return from->cudnnGetErrorString(status); }
};

int cudnn_user::describe(const conv_shape &s, plan *p) const
{
    const int type = DN_CUDNN_DATA_FLOAT, order = DN_CUDNN_TENSOR_NCHW;
    TRY(library->cudnnCreateTensorDescriptor(&p->x));
    TRY(library->cudnnSetTensor4dDescriptor(p->x, order, type, s.batch, s.c, s.h, s.w));
    TRY(library->cudnnCreateTensorDescriptor(&p->y));
    TRY(library->cudnnSetTensor4dDescriptor(p->y, order, type, s.batch, s.n, s.out_h, s.out_w));
    TRY(library->cudnnCreateFilterDescriptor(&p->w));
    TRY(library->cudnnSetFilter4dDescriptor(p->w, type, order, s.n, s.c / s.groups, s.size, s.size));
    TRY(library->cudnnCreateConvolutionDescriptor(&p->convolution));
    TRY(library->cudnnSetConvolution2dDescriptor(p->convolution, s.pad, s.pad, s.stride_y, s.stride_x,
                                                 s.dilation, s.dilation, DN_CUDNN_CROSS_CORRELATION, type));
    return library->cudnnSetConvolutionGroupCount(p->convolution, s.groups);
}
int cudnn_user::propose(conv_pass pass, const plan &p, dn_cudnn_choice *found, int *count) const
{
    if (pass == CONV_FORWARD)
        return library->cudnnGetConvolutionForwardAlgorithm_v7(handle, p.x, p.w, p.convolution, p.y,
                                                               CANDIDATES, count, found);
    if (pass == CONV_DATA)
        return library->cudnnGetConvolutionBackwardDataAlgorithm_v7(handle, p.w, p.y, p.convolution, p.x,
                                                                    CANDIDATES, count, found);
    return library->cudnnGetConvolutionBackwardFilterAlgorithm_v7(handle, p.x, p.y, p.convolution, p.w,
                                                                  CANDIDATES, count, found);
}
/* The first of the library's proposals, the fastest as it thinks, that may be taken. */
int cudnn_user::choose(const key &of, plan *p) const
{
    dn_cudnn_choice found[CANDIDATES] = {};
    int count = 0;
    TRY(describe(of.s, p));
    TRY(library->cudnnSetConvolutionMathType(p->convolution, of.precision == DN_TF32 ? DN_CUDNN_DEFAULT_MATH
                                                                                     : DN_CUDNN_FMA_MATH));
    TRY(propose(of.pass, *p, found, &count));
    for (int i = 0; i < count; ++i) {
        if (found[i].status || found[i].determinism != DN_CUDNN_DETERMINISTIC) continue;
        if (found[i].workspace > library->most_workspace) continue;
        if (of.precision == DN_TF32) { /* an algorithm goes with its own kind of math */
            if (found[i].math == DN_CUDNN_TENSOR_OP_MATH_ALLOW_CONVERSION) continue;
            TRY(library->cudnnSetConvolutionMathType(p->convolution, found[i].math));
        }
        p->algorithm = found[i].algorithm;
        p->workspace = found[i].workspace;
        return DN_CUDNN_STATUS_SUCCESS;
    }
    return DN_CUDNN_STATUS_NOT_SUPPORTED;
}
int cudnn_user::run(conv_pass pass, const plan &p, const library_arguments &a, cudaStream_t stream) const
{
    void *const workspace = (void *)a.workspace;
    TRY(library->cudnnSetStream(handle, stream));
    if (pass == CONV_FORWARD)
        return library->cudnnConvolutionForward(handle, &a.alpha, p.x, a.first, p.w, a.second, p.convolution,
                                                p.algorithm, workspace, p.workspace, &a.beta, p.y, a.result);
    if (pass == CONV_DATA)
        return library->cudnnConvolutionBackwardData(handle, &a.alpha, p.w, a.first, p.y, a.second,
                                                     p.convolution, p.algorithm, workspace, p.workspace,
                                                     &a.beta, p.x, a.result);
    return library->cudnnConvolutionBackwardFilter(handle, &a.alpha, p.x, a.first, p.y, a.second,
                                                   p.convolution, p.algorithm, workspace, p.workspace,
                                                   &a.beta, p.w, a.result);
}

/* Left to our kernels: outputs that the library would count otherwise, and depthwise convolutions, for which
 * PyTorch too has kernels of its own in float32. */
int outputs_of(int pixels, int pad, int size, int dilation, int stride)
{
    const int room = pixels + 2 * pad - (size - 1) * dilation - 1;
    return room < 0 ? 0 : room / stride + 1;
}
bool suits(const conv_shape &s)
{
    return s.out_h == outputs_of(s.h, s.pad, s.size, s.dilation, s.stride_y) &&
           s.out_w == outputs_of(s.w, s.pad, s.size, s.dilation, s.stride_x) &&
           (s.groups == 1 || s.c > s.groups);
}
} // namespace

bool cudnn_computes(conv_pass pass, const conv_shape *s, const real *first, const real *second, real beta,
                    real *result)
{
    static const char *const names[] = {"convolution_forward", "convolution_backward_data",
                                        "convolution_backward_weights"};
    cudnn_user *user = gpu_failed() ? NULL : library_users<cudnn_user>::own();
    /* Arrays begin at multiples of 16 bytes, parts of them need not; what the library wants is not said. */
    const bool aligned = ((uintptr_t)first | (uintptr_t)second | (uintptr_t)result) % ALIGNED == 0;
    const int rows = (pass == CONV_DATA ? s->c : s->n) / s->groups; /* of the product that it is */
    const dn_precision precision = precision_of(rows);
    const bool in_32_bits = precision == DN_FP32 || precision == DN_TF32;
    if (!user || !in_32_bits || !aligned || !suits(*s)) return false;
    return library_computes(
        user, names[pass], cudnn_user::key{pass, *s, precision}, {first, second, NULL, result, 1, beta},
        [user, pass](const cudnn_user::plan &p, cudaStream_t stream, const library_arguments &a) {
            return user->run(pass, p, a, stream);
        });
}
dn_status dn_gpu_use_cudnn(const dn_cudnn *functions) { return library_users<cudnn_user>::use(functions); }
