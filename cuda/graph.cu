/* Passes as CUDA graphs. While a pass is kept, its kernels are not begun but compared with those of the same pass
 * before: the same kernel in the same place, whose arguments, where they are others (a learning rate, a seed, an
 * address), become the graph's. At the pass's end the graph is begun as one. So nothing of a graph is ever older
 * than the pass it stands for, whatever a layer hands to its kernels.
 * A pass that is new, or goes another way than the one before, is begun kernel by kernel, and remembered. Where
 * the host needs a value in between, the kernels up to there are a graph of their own, a part. */
#include "graph.cuh"
#include <stdio.h>
#include <vector>

namespace
{
struct kept_kernel {
    kernel_launch launch;
    std::vector<size_t> sizes;
    std::vector<std::vector<unsigned char>> arguments;
    cudaGraphNode_t node;
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
    bool refused = false;
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
    const char *why;
} now;

/* ---- one kernel */

static void begin_now(const kernel_launch &k, void *const *arguments)
{
    if (gpu_failed()) return;
    note_failure(k.name, cudaLaunchKernel(k.kernel, k.grid, k.block, (void **)arguments, k.shared_bytes,
                                          own_stream()));
    cudaGetLastError(); /* keeps it, too */
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
    kept_kernel kept = {k, std::vector<size_t>(sizes, sizes + count), {}, NULL};
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
/* One kernel after the other, as on a stream. */
static cudaError_t make_graph(pass_part *part)
{
    cudaError_t error = cudaGraphCreate(&part->graph, 0);
    const cudaGraphNode_t *before = NULL;
    for (kept_kernel &kept : part->kernels) {
        auto addresses = kept.addresses();
        const cudaKernelNodeParams p = node_of(kept, addresses.data());
        if (error != cudaSuccess) return error;
        error = cudaGraphAddKernelNode(&kept.node, part->graph, before, before != NULL, &p);
        before = &kept.node;
    }
    return error == cudaSuccess ? cudaGraphInstantiate(&part->made, part->graph, 0) : error;
}
static cudaError_t renew_graph(pass_part *part)
{
    cudaError_t error = cudaSuccess;
    for (size_t i : part->changed) {
        auto addresses = part->kernels[i].addresses();
        const cudaKernelNodeParams p = node_of(part->kernels[i], addresses.data());
        if (error == cudaSuccess) {
            error = cudaGraphExecKernelNodeSetParams(part->made, part->kernels[i].node, &p);
        }
    }
    return error;
}
/* Whether the part has a graph with the arguments of this pass. What CUDA refuses is said once, and the part goes
 * on without one. */
static bool has_graph(pass_part *part)
{
    if (part->refused || part->kernels.size() < 2) return false;
    dn_graph_info *told = &now.pass->told;
    told->renewed += (int)part->changed.size();
    cudaError_t error = part->made ? renew_graph(part) : make_graph(part);
    if (error == cudaSuccess) return true;
    static thread_local char said[160];
    snprintf(said, sizeof said, "CUDA makes no graph of it: %s", cudaGetErrorString(error));
    cudaGetLastError();
    now.why = said;
    forget_graph(part);
    part->refused = true;
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
    for (size_t i = 0; i < now.place; ++i) {
        begin_now(part->kernels[i].launch, part->kernels[i].addresses().data());
    }
    forget_graph(part);
    part->kernels.resize(now.place);
    part->refused = false;
    now.new_part = true;
}
static void end_part()
{
    pass_part *part = &now.pass->parts[now.part];
    if (now.new_part) return;
    if (gpu_failed() || now.place < part->kernels.size() || !has_graph(part)) {
        const bool refused = part->refused;
        leave_known_way(part);
        part->refused = refused;
        return;
    }
    note_failure("graph of a pass", cudaGraphLaunch(part->made, own_stream()));
    cudaGetLastError();
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
void begin_kernel(const kernel_launch &k, void *const *arguments, const size_t *sizes, int count)
{
    if (gpu_failed()) return;
    if (!now.pass) return begin_now(k, arguments);
    pass_part *part = &now.pass->parts[now.part];
    const bool known = !now.new_part && now.place < part->kernels.size() &&
                       part->kernels[now.place].launch.kernel == k.kernel;
    if (known) {
        if (renew(&part->kernels[now.place], k, arguments)) part->changed.push_back(now.place);
    } else {
        if (!now.new_part) leave_known_way(part);
        part->kernels.push_back(keep(k, arguments, sizes, count));
        begin_now(k, arguments);
    }
    ++now.place;
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
    const char *why = now.why;
    now.why = NULL;
    return why;
}
dn_graph_info graph_info(const dn_graphs *graphs, int pass) { return graphs->passes[pass].told; }
