/* Products and convolutions by NVIDIA's libraries, where somebody has handed them over (libraries.h): each
 * function below says whether that is done, or has failed, which is noted. If not, our own kernel does it. */
#ifndef DN_LIBRARIES_CUH
#define DN_LIBRARIES_CUH
#include "kernels.cuh"
#include <array>
#include <atomic>
#include <map>
#include <mutex>
#include <vector>

bool cublas_computes(int TA, int TB, int M, int N, int K, real ALPHA, const real *A, int lda, const real *B,
                     int ldb, real BETA, real *C, int ldc);
/* result = first x second + beta result: y of x and w, dx of w and dy, or dw of x and dy. */
enum conv_pass { CONV_FORWARD, CONV_DATA, CONV_WEIGHTS };
bool cudnn_computes(conv_pass pass, const conv_shape *s, const real *first, const real *second, real beta,
                    real *result);

/* What a thread has of a library on one GPU: a handle, which no two threads may use at once, and a plan for
 * each shape. A thread that ends leaves it to the next. It is never destroyed: when the process ends the
 * driver may be gone before. A User has
 *     functions, library             the library's functions; NAME what it is called
 *     int open()                     makes the handle
 *     recorder                       a stream for graphs of it; as old as the handle, which may remember it
 *     key, plan                      what a shape is; what was found for it: `status`, `workspace` and more
 *     int choose(key, plan *)        finds it
 *     bool unsupported(int status)   is this no failure, but nothing that the library does?
 *     NOT_SUPPORTED                  such a status
 *     const char *text(library, status)
 * where each int is a status of the library's, 0 its success. */
template <class User> class library_users
{
    typedef typename User::functions functions;
    struct shelf {
        std::mutex lock;
        std::vector<User *> idle;
        std::atomic<const functions *> used[DN_MOST_GPUS];
    };
    struct loans {
        User *of[DN_MOST_GPUS] = {};
        ~loans()
        {
            for (User *user : of) give_back(user);
        }
    };
    static shelf &all()
    {
        static shelf *const kept = new shelf();
        return *kept;
    }
    static void give_back(User *user)
    {
        if (!user) return;
        const std::lock_guard<std::mutex> hold(all().lock);
        all().idle.push_back(user);
    }
    static User *take(const functions *library, int gpu)
    {
        const std::lock_guard<std::mutex> hold(all().lock);
        std::vector<User *> &idle = all().idle;
        for (size_t i = 0; i < idle.size(); ++i) {
            User *user = idle[i];
            if (user->library != library || user->gpu != gpu) continue;
            idle.erase(idle.begin() + (ptrdiff_t)i);
            return user;
        }
        return NULL;
    }
    static User *make(const functions *library, int gpu)
    {
        User *user = new User();
        user->library = library;
        user->gpu = gpu;
        const int status = user->open();
        if (status) library_failed(User::NAME, "no handle", User::text(library, status));
        if (!status) {
            note_failure("stream that records",
                         cudaStreamCreateWithFlags(&user->recorder, cudaStreamNonBlocking));
        }
        if (!gpu_failed()) return user;
        cudaGetLastError();
        delete user;
        return NULL;
    }

  public:
    /* The calling thread's on its GPU; NULL: the library is not used there, or has failed. */
    static User *own()
    {
        static thread_local loans mine;
        const int gpu = current_gpu();
        const functions *library = all().used[gpu];
        User *&user = mine.of[gpu];
        if (user && user->library == library) return user;
        give_back(user);
        user = library ? take(library, gpu) : NULL;
        if (library && !user) user = make(library, gpu);
        return user;
    }
    static dn_status use(const functions *library)
    {
        all().used[current_gpu()] = library;
        own();
        if (gpu_failed()) all().used[current_gpu()] = NULL;
        return dn_gpu_status();
    }
};

/* While it lives a library works on device memory, which the emulator else opens to our own kernels only. */
struct library_work {
#ifndef __CUDACC__
    const emulator::work_of_others opened;
#endif
    library_work() {}
};
/* What a call is told beside its plan, without a gap: a graph compares it. */
struct library_arguments {
    const void *first, *second, *workspace;
    void *result;
    real alpha, beta;
};
/* Has the library done what `run(plan, stream, arguments)` asks of it, or failed, or is that kept for a graph? It
 * is asked how for each shape once. */
template <class User, class Run>
static bool library_computes(User *user, const char *what, const typename User::key &key,
                             library_arguments told, Run run)
{
    auto at = user->plans.find(key);
    if (at == user->plans.end()) {
        at = user->plans.emplace(key, typename User::plan()).first;
        at->second.status = user->choose(key, &at->second);
    }
    auto &plan = at->second;
    int status = plan.status;
    if (!status) {
        told.workspace = plan.workspace ? optional_scratch(FOR_LIBRARY, plan.workspace) : NULL;
        if (gpu_failed()) return true;
        if (plan.workspace && !told.workspace) status = User::NOT_SUPPORTED;
    }
    if (!status) {
        const auto *known = &plan;
        status = begin_call(what, known, &told, sizeof told, user->recorder,
                            [known, told, run](cudaStream_t stream) {
                                const library_work work;
                                return run(*known, stream, told);
                            });
        note_failure(what, cudaGetLastError());
    }
    if (User::unsupported(status)) {
        plan.status = status;
        return false;
    }
    if (status) library_failed(User::NAME, what, User::text(user->library, status));
    return true;
}

#define TRY(call) \
    do { \
        if (const int failed = (call)) return failed; \
    } while (0)
#endif
