/* Passes as CUDA graphs. While a pass is kept, its kernels are not begun but compared with those of the same pass
 * before: the same kernel in the same place, whose arguments, where they are others (a learning rate, a seed, an
 * address), become the graph's. At the pass's end the graph is begun as one. So nothing of a graph is ever older
 * than the pass it stands for, whatever a layer hands to its kernels.
 * A pass that is new, or goes another way than the one before, is begun kernel by kernel, and remembered. Where
 * the host needs a value in between, the kernels up to there are a graph of their own, a part. */
#include "graph.cuh"
#include <string>
#include <vector>

namespace
{
struct kept_kernel {
    kernel_launch launch;
    std::vector<size_t> sizes;
    std::vector<std::vector<unsigned char>> arguments;
    cudaGraphNode_t node;
    stream_call call; /* a library's; `arguments` are what it was told */
    cudaStream_t recorder;
    std::vector<void *> addresses()
    {
        std::vector<void *> all;
        for (auto &bytes : arguments) all.push_back(bytes.data());
        return all;
    }
};
struct pass_part {
    std::vector<kept_kernel> kernels;
    std::vector<size_t> changed; /* since its graph was made or begun */
    cudaGraph_t graph = NULL;
    cudaGraphExec_t made = NULL;
    std::string refused; /* why CUDA makes no graph of it; "": it may */
};
struct kept_pass {
    std::vector<pass_part> parts;
    dn_graph_info told = {};
};
} // namespace
struct dn_graphs {
    kept_pass passes[DN_PASSES];
};

/* The pass that the thread keeps, the part it is in, the place in that; new_part: its kernels are begun at once. */
static thread_local struct {
    kept_pass *pass;
    size_t part, place;
    bool new_part;
    std::string why;
} now;

/* ---- one kernel */

static void begin_now(const kernel_launch &k, void *const *arguments)
{
    if (gpu_failed()) return;
    note_failure(k.name, cudaLaunchKernel(k.kernel, k.grid, k.block, (void **)arguments, k.shared_bytes,
                                          own_stream()));
    cudaGetLastError(); /* keeps it, too */
}
/* A kept one, which the library has accepted before. */
static void begin_kept_one(kept_kernel *kept)
{
    if (!kept->call) return begin_now(kept->launch, kept->addresses().data());
    if (!gpu_failed() && kept->call(own_stream())) note_failure(kept->launch.name, cudaErrorLaunchFailure);
}
static bool same_size(dim3 a, dim3 b) { return a.x == b.x && a.y == b.y && a.z == b.z; }
/* Gives a kernel these arguments; whether that changes it. */
static bool renew(kept_kernel *kept, const kernel_launch &k, void *const *arguments)
{
    bool changes = !same_size(kept->launch.grid, k.grid) || !same_size(kept->launch.block, k.block) ||
                   kept->launch.shared_bytes != k.shared_bytes;
    kept->launch = k;
    for (size_t i = 0; i < kept->sizes.size(); ++i) {
        if (!memcmp(kept->arguments[i].data(), arguments[i], kept->sizes[i])) continue;
        memcpy(kept->arguments[i].data(), arguments[i], kept->sizes[i]);
        changes = true;
    }
    return changes;
}
static kept_kernel keep(const kernel_launch &k, void *const *arguments, const size_t *sizes, int count)
{
    kept_kernel kept = {k, std::vector<size_t>(sizes, sizes + count), {}, NULL, {}, NULL};
    for (int i = 0; i < count; ++i) {
        const unsigned char *bytes = (const unsigned char *)arguments[i];
        kept.arguments.emplace_back(bytes, bytes + sizes[i]);
    }
    return kept;
}

/* ---- the graph of a part */

static void forget_graph(pass_part *part)
{
    if (part->made) cudaGraphExecDestroy(part->made);
    if (part->graph) cudaGraphDestroy(part->graph);
    part->made = NULL;
    part->graph = NULL;
    part->changed.clear();
}
static cudaKernelNodeParams node_of(const kept_kernel &kept, void **addresses)
{
    cudaKernelNodeParams p = {};
    p.func = (void *)kept.launch.kernel;
    p.gridDim = kept.launch.grid;
    p.blockDim = kept.launch.block;
    p.sharedMemBytes = (unsigned)kept.launch.shared_bytes;
    p.kernelParams = addresses;
    return p;
}
/* What a library begins on a stream that only remembers it. It may allocate meanwhile: relaxed. */
static cudaError_t graph_of_call(const kept_kernel &kept, cudaGraph_t *graph)
{
#ifdef __CUDACC__
    const cudaError_t error = cudaStreamBeginCapture(kept.recorder, cudaStreamCaptureModeRelaxed);
    if (error != cudaSuccess) return error;
    const int status = kept.call(kept.recorder);
    const cudaError_t ended = cudaStreamEndCapture(kept.recorder, graph);
    return ended == cudaSuccess && status ? cudaErrorLaunchFailure : ended;
#else
    const stream_call call = kept.call;
    return emulator::graph_of([call] { return call(NULL); }, graph);
#endif
}
static cudaError_t add_node(cudaGraph_t graph, kept_kernel *kept, const cudaGraphNode_t *before)
{
    if (!kept->call) {
        auto addresses = kept->addresses();
        const cudaKernelNodeParams p = node_of(*kept, addresses.data());
        return cudaGraphAddKernelNode(&kept->node, graph, before, before != NULL, &p);
    }
    cudaGraph_t child = NULL;
    cudaError_t error = graph_of_call(*kept, &child);
    if (error == cudaSuccess) {
        error = cudaGraphAddChildGraphNode(&kept->node, graph, before, before != NULL, child);
    }
    if (child) cudaGraphDestroy(child);
    return error;
}
static cudaError_t renew_node(cudaGraphExec_t made, kept_kernel *kept)
{
    if (!kept->call) {
        auto addresses = kept->addresses();
        const cudaKernelNodeParams p = node_of(*kept, addresses.data());
        return cudaGraphExecKernelNodeSetParams(made, kept->node, &p);
    }
    cudaGraph_t child = NULL;
    cudaError_t error = graph_of_call(*kept, &child);
    if (error == cudaSuccess) error = cudaGraphExecChildGraphNodeSetParams(made, kept->node, child);
    if (child) cudaGraphDestroy(child);
    return error;
}
/* One kernel after the other, as on a stream. */
static cudaError_t make_graph(pass_part *part)
{
    cudaError_t error = cudaGraphCreate(&part->graph, 0);
    const cudaGraphNode_t *before = NULL;
    for (kept_kernel &kept : part->kernels) {
        if (error != cudaSuccess) return error;
        error = add_node(part->graph, &kept, before);
        before = &kept.node;
    }
    return error == cudaSuccess ? cudaGraphInstantiate(&part->made, part->graph, 0) : error;
}
static cudaError_t renew_graph(pass_part *part)
{
    cudaError_t error = cudaSuccess;
    for (size_t i : part->changed) {
        if (error == cudaSuccess) error = renew_node(part->made, &part->kernels[i]);
    }
    return error;
}
/* Begins the part as a graph with the arguments of this pass; one that does not take them is made anew. What
 * CUDA refuses then is said once, and the part goes on without one: nothing has begun. */
static bool begin_as_graph(pass_part *part)
{
    if (!part->refused.empty()) now.why = part->refused;
    if (!part->refused.empty() || part->kernels.size() < 2) return false;
    dn_graph_info *told = &now.pass->told;
    const bool renews = part->made != NULL;
    told->renewed += (int)part->changed.size();
    cudaError_t error = part->made ? renew_graph(part) : make_graph(part);
    if (error != cudaSuccess && renews) {
        cudaGetLastError();
        forget_graph(part);
        error = make_graph(part);
    }
    if (error == cudaSuccess) error = cudaGraphLaunch(part->made, own_stream());
    if (error == cudaSuccess) return true;
    part->refused = std::string("CUDA makes no graph of it: ") + cudaGetErrorString(error);
    now.why = part->refused;
    cudaGetLastError();
    forget_graph(part);
    return false;
}

/* ---- a part */

static void begin_part()
{
    std::vector<pass_part> &parts = now.pass->parts;
    if (now.part == parts.size()) parts.emplace_back();
    now.place = 0;
    now.new_part = parts[now.part].kernels.empty();
}
/* Begins the kernels up to here one by one: what follows is new. */
static void leave_known_way(pass_part *part)
{
    for (size_t i = 0; i < now.place; ++i) begin_kept_one(&part->kernels[i]);
    forget_graph(part);
    part->kernels.resize(now.place);
    now.new_part = true;
}
static void end_part()
{
    pass_part *part = &now.pass->parts[now.part];
    if (now.new_part) return;
    if (gpu_failed() || now.place < part->kernels.size() || !begin_as_graph(part)) {
        leave_known_way(part);
        return;
    }
    part->changed.clear();
    ++now.pass->told.begun;
}
void part_graph(const char *why)
{
    if (!now.pass || !now.place) return;
    end_part();
    now.why = why;
    ++now.part;
    begin_part();
}
void begin_kept()
{
    if (now.pass && !now.new_part) part_graph("memory is released");
}
/* The kept one that this is once more, with these arguments; NULL: this is new, and what is kept is begun. */
static kept_kernel *find_kept(const kernel_launch &k, void *const *arguments)
{
    pass_part *part = &now.pass->parts[now.part];
    const bool known = !now.new_part && now.place < part->kernels.size() &&
                       part->kernels[now.place].launch.kernel == k.kernel;
    if (!known) {
        if (!now.new_part) leave_known_way(part);
        part->refused.clear();
        return NULL;
    }
    if (renew(&part->kernels[now.place], k, arguments)) part->changed.push_back(now.place);
    return &part->kernels[now.place++];
}
static kept_kernel *add_kept(const kernel_launch &k, void *const *arguments, const size_t *sizes, int count)
{
    std::vector<kept_kernel> &kernels = now.pass->parts[now.part].kernels;
    kernels.push_back(keep(k, arguments, sizes, count));
    ++now.place;
    return &kernels.back();
}
void begin_kernel(const kernel_launch &k, void *const *arguments, const size_t *sizes, int count)
{
    if (gpu_failed()) return;
    if (now.pass && find_kept(k, arguments)) return;
    if (now.pass) add_kept(k, arguments, sizes, count);
    begin_now(k, arguments);
}
/* One that the library has not accepted is not remembered: another kernel does it. */
int begin_call(const char *name, const void *who, const void *told, size_t bytes, cudaStream_t recorder,
               const stream_call &call)
{
    const kernel_launch k = {name, who, dim3(), dim3(), 0};
    void *const arguments[] = {(void *)told};
    if (gpu_failed()) return 0;
    if (now.pass) {
        if (kept_kernel *kept = find_kept(k, arguments)) {
            kept->call = call;
            return 0;
        }
    }
    const int status = call(own_stream());
    if (now.pass && !status) {
        kept_kernel *kept = add_kept(k, arguments, &bytes, 1);
        kept->call = call;
        kept->recorder = recorder;
    }
    return status;
}

/* ---- a pass */

dn_graphs *new_graphs() { return new dn_graphs; }
void free_graphs(dn_graphs *graphs)
{
    for (kept_pass &pass : graphs->passes) {
        for (pass_part &part : pass.parts) forget_graph(&part);
    }
    delete graphs;
}
void begin_graph(dn_graphs *graphs, int pass)
{
    now.pass = &graphs->passes[pass];
    now.part = 0;
    begin_part();
}
void end_graph()
{
    std::vector<pass_part> &parts = now.pass->parts;
    end_part();
    dn_graph_info told = {0, 0, 0, now.pass->told.begun, now.pass->told.renewed};
    for (size_t i = now.part + 1; i < parts.size(); ++i) forget_graph(&parts[i]);
    parts.resize(now.part + 1);
    for (const pass_part &part : parts) {
        told.kernels += (int)part.kernels.size();
        told.parts += !part.kernels.empty();
        told.graphs += part.made != NULL;
    }
    now.pass->told = told;
    now.pass = NULL;
}
const char *graph_parted()
{
    static thread_local std::string said;
    said = now.why;
    now.why.clear();
    return said.empty() ? NULL : said.c_str();
}
dn_graph_info graph_info(const dn_graphs *graphs, int pass) { return graphs->passes[pass].told; }
