/* Streams, events, pinned memory and graphs of emulator.h. The default stream works at once. Another one keeps what
 * it is given and does it as late as it may: when it, or an event behind it, is waited for. So whoever forgets to
 * wait reads what was there before, and whoever overwrites the source of a copy too soon copies what comes after. */
#include "emulator.h"
#include <algorithm>
#include <chrono>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <unordered_map>
#include <vector>

using namespace emulator;

/* ---- kernels by address */

static std::mutex of_kernels;
static std::unordered_map<const void *, known_kernel> kernels_known;
void emulator::know(const void *kernel, const known_kernel &how)
{
    const std::lock_guard<std::mutex> lock(of_kernels);
    kernels_known.emplace(kernel, how);
}
static const known_kernel *find_kernel(const void *kernel)
{
    const std::lock_guard<std::mutex> lock(of_kernels);
    const auto at = kernels_known.find(kernel);
    return at == kernels_known.end() ? NULL : &at->second;
}
struct kernel_call {
    const void *kernel;
    const known_kernel *how;
    void *const *arguments;
};
cudaError_t cudaLaunchKernel(const void *kernel, dim3 grid, dim3 block, void **arguments, size_t shared_bytes,
                             cudaStream_t stream)
{
    const kernel_call call = {kernel, find_kernel(kernel), arguments};
    if (!call.how) return fail(cudaErrorInvalidDeviceFunction, "%p is no kernel", kernel);
    cudaStreamSynchronize(stream);
    launch(
        grid, block, shared_bytes,
        [](const void *c) {
            const kernel_call *k = (const kernel_call *)c;
            k->how->call(k->kernel, k->arguments);
        },
        &call);
    return failure();
}

/* ---- streams: what they have still to do, numbered from their beginning */

static std::recursive_mutex of_streams;
typedef std::lock_guard<std::recursive_mutex> streams_lock;
struct emulated_stream {
    std::deque<std::function<void()>> waiting;
    size_t done = 0;
    size_t given() const { return done + waiting.size(); }
    void finish(size_t number)
    {
        while (done < number && !waiting.empty()) {
            const auto task = waiting.front();
            waiting.pop_front();
            ++done;
            task();
        }
    }
};
static std::set<emulated_stream *> streams;
static bool is_stream(cudaStream_t stream) { return !stream || streams.count(stream); }
static cudaError_t no_stream(cudaStream_t stream)
{
    return fail(cudaErrorInvalidResourceHandle, "%p is no stream", (void *)stream);
}
void emulator::finish_streams()
{
    const streams_lock lock(of_streams);
    for (emulated_stream *stream : streams) stream->finish(stream->given());
}
cudaError_t cudaStreamCreateWithFlags(cudaStream_t *stream, unsigned flags)
{
    const streams_lock lock(of_streams);
    if (flags != cudaStreamNonBlocking)
        return fail(cudaErrorInvalidValue, "a stream that waits for the default one");
    streams.insert(*stream = new emulated_stream);
    return cudaSuccess;
}
cudaError_t cudaStreamDestroy(cudaStream_t stream)
{
    const streams_lock lock(of_streams);
    if (!stream || !is_stream(stream)) return no_stream(stream);
    stream->finish(stream->given());
    streams.erase(stream);
    delete stream;
    return cudaSuccess;
}
cudaError_t cudaStreamSynchronize(cudaStream_t stream)
{
    const streams_lock lock(of_streams);
    if (!is_stream(stream)) return no_stream(stream);
    if (stream) stream->finish(stream->given());
    return cudaSuccess;
}

/* ---- pinned memory and copies */

static std::map<const char *, size_t> pinned;
static bool is_pinned(const void *memory)
{
    auto after = pinned.upper_bound((const char *)memory);
    return after != pinned.begin() &&
           (const char *)memory < std::prev(after)->first + std::prev(after)->second;
}
cudaError_t cudaHostAlloc(void **memory, size_t bytes, unsigned)
{
    const streams_lock lock(of_streams);
    *memory = bytes < SIZE_MAX / 2 ? malloc(bytes ? bytes : 1) : NULL;
    if (!*memory) return fail(cudaErrorMemoryAllocation, "no pinned memory for %zu bytes", bytes);
    pinned[(const char *)*memory] = bytes;
    return cudaSuccess;
}
cudaError_t cudaFreeHost(void *memory)
{
    const streams_lock lock(of_streams);
    if (!memory) return cudaSuccess;
    finish_streams();
    if (!pinned.erase((const char *)memory))
        return fail(cudaErrorInvalidValue, "%p is no pinned memory", memory);
    free(memory);
    return cudaSuccess;
}
/* Only copies from pinned memory are left for later. */
cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t bytes, cudaMemcpyKind, cudaStream_t stream)
{
    const streams_lock lock(of_streams);
    if (!is_stream(stream)) return no_stream(stream);
    if (stream && is_pinned(from)) {
        stream->waiting.push_back([=] { copy_now(to, from, bytes); });
        return cudaSuccess;
    }
    if (stream) stream->finish(stream->given());
    return copy_now(to, from, bytes);
}

/* ---- events */

typedef std::chrono::steady_clock timer;
struct emulated_event {
    cudaStream_t stream = NULL;
    size_t number = 0; /* of what the stream was given before it */
    bool recorded = false;
    bool timed = true;
    std::shared_ptr<timer::time_point> reached;
    void wait() const
    {
        if (stream && streams.count(stream)) stream->finish(number);
    }
};
static std::set<emulated_event *> events;
static cudaError_t no_event(cudaEvent_t event)
{
    return fail(cudaErrorInvalidResourceHandle, "%p is no event", (void *)event);
}
cudaError_t cudaEventCreate(cudaEvent_t *event)
{
    const streams_lock lock(of_streams);
    events.insert(*event = new emulated_event);
    return cudaSuccess;
}
cudaError_t cudaEventCreateWithFlags(cudaEvent_t *event, unsigned flags)
{
    const streams_lock lock(of_streams);
    cudaEventCreate(event);
    (*event)->timed = !(flags & cudaEventDisableTiming);
    return cudaSuccess;
}
cudaError_t cudaEventDestroy(cudaEvent_t event)
{
    const streams_lock lock(of_streams);
    if (!events.erase(event)) return no_event(event);
    delete event;
    return cudaSuccess;
}
cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream)
{
    const streams_lock lock(of_streams);
    if (!events.count(event)) return no_event(event);
    if (!is_stream(stream)) return no_stream(stream);
    const auto reached = event->reached = std::make_shared<timer::time_point>();
    event->recorded = true;
    event->stream = stream;
    if (!stream) {
        *reached = timer::now();
        return cudaSuccess;
    }
    stream->waiting.push_back([reached] { *reached = timer::now(); });
    event->number = stream->given();
    return cudaSuccess;
}
cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned)
{
    const streams_lock lock(of_streams);
    if (!events.count(event)) return no_event(event);
    if (!is_stream(stream)) return no_stream(stream);
    const emulated_event then = *event; /* what is recorded later does not count */
    if (stream)
        stream->waiting.push_back([then] { then.wait(); });
    else
        then.wait();
    return cudaSuccess;
}
cudaError_t cudaEventSynchronize(cudaEvent_t event)
{
    const streams_lock lock(of_streams);
    if (!events.count(event)) return no_event(event);
    event->wait();
    return cudaSuccess;
}
cudaError_t cudaEventElapsedTime(float *milliseconds, cudaEvent_t from, cudaEvent_t to)
{
    const streams_lock lock(of_streams);
    if (!events.count(from) || !events.count(to)) return no_event(events.count(from) ? to : from);
    if (!from->recorded || !to->recorded)
        return fail(cudaErrorInvalidResourceHandle, "the time between events that were not recorded");
    if (!from->timed || !to->timed)
        return fail(cudaErrorInvalidResourceHandle, "the time between events without one");
    from->wait();
    to->wait();
    *milliseconds = std::chrono::duration<float, std::milli>(*to->reached - *from->reached).count();
    return cudaSuccess;
}

/* ---- graphs */

struct emulated_node {
    const void *kernel;
    dim3 grid, block;
    size_t shared_bytes;
    std::vector<std::vector<unsigned char>> arguments;
    std::vector<size_t> after; /* numbers of nodes */
    std::function<int()> work; /* of a child graph; then it has no kernel */
};
struct emulated_graph {
    std::vector<std::unique_ptr<emulated_node>> nodes;
    size_t number(cudaGraphNode_t node) const
    {
        size_t i = 0;
        while (i < nodes.size() && nodes[i].get() != node) ++i;
        return i;
    }
};
struct emulated_exec {
    const emulated_graph *graph; /* which must live for its nodes to be named */
    std::vector<emulated_node> nodes;
};
static std::set<emulated_graph *> graphs;
static std::set<emulated_exec *> execs;
static int refused;
void emulator::refuse_graphs(int how) { refused = how; }
static cudaError_t is_refused(int how)
{
    return refused == how ? fail(cudaErrorInvalidValue, "graphs are refused") : cudaSuccess;
}
static cudaError_t no_graph(const void *graph)
{
    return fail(cudaErrorInvalidValue, "%p is no graph", graph);
}

/* Arguments are taken over at once. */
static cudaError_t take_params(emulated_node *node, const cudaKernelNodeParams *p)
{
    const known_kernel *how = find_kernel(p->func);
    if (!how) return fail(cudaErrorInvalidDeviceFunction, "%p is no kernel", p->func);
    node->kernel = p->func;
    node->grid = p->gridDim;
    node->block = p->blockDim;
    node->shared_bytes = p->sharedMemBytes;
    node->arguments.clear();
    for (size_t i = 0; i < how->count; ++i) {
        const unsigned char *bytes = (const unsigned char *)p->kernelParams[i];
        node->arguments.emplace_back(bytes, bytes + how->sizes[i]);
    }
    return cudaSuccess;
}
cudaError_t cudaGraphCreate(cudaGraph_t *graph, unsigned flags)
{
    const streams_lock lock(of_streams);
    if (flags) return fail(cudaErrorInvalidValue, "flags %u of a graph: wanted 0", flags);
    graphs.insert(*graph = new emulated_graph);
    return cudaSuccess;
}
cudaError_t cudaGraphDestroy(cudaGraph_t graph)
{
    const streams_lock lock(of_streams);
    if (!graphs.erase(graph)) return no_graph(graph);
    delete graph;
    return cudaSuccess;
}
static cudaError_t add_node(cudaGraphNode_t *node, cudaGraph_t graph, const cudaGraphNode_t *dependencies,
                            size_t count, std::unique_ptr<emulated_node> made)
{
    for (size_t i = 0; i < count; ++i) {
        made->after.push_back(graph->number(dependencies[i]));
        if (made->after.back() == graph->nodes.size())
            return fail(cudaErrorInvalidValue, "a dependency on %p, which is no node of the graph",
                        (void *)dependencies[i]);
    }
    *node = made.get();
    graph->nodes.push_back(std::move(made));
    return cudaSuccess;
}
cudaError_t cudaGraphAddKernelNode(cudaGraphNode_t *node, cudaGraph_t graph,
                                   const cudaGraphNode_t *dependencies, size_t count,
                                   const cudaKernelNodeParams *params)
{
    const streams_lock lock(of_streams);
    if (!graphs.count(graph)) return no_graph(graph);
    std::unique_ptr<emulated_node> made(new emulated_node);
    const cudaError_t error = take_params(made.get(), params);
    if (error != cudaSuccess) return error;
    return add_node(node, graph, dependencies, count, std::move(made));
}
cudaError_t emulator::graph_of(const std::function<int()> &work, cudaGraph_t *graph)
{
    const streams_lock lock(of_streams);
    cudaGraphCreate(graph, 0);
    (*graph)->nodes.emplace_back(new emulated_node);
    (*graph)->nodes[0]->work = work;
    return cudaSuccess;
}
cudaError_t cudaGraphAddChildGraphNode(cudaGraphNode_t *node, cudaGraph_t graph,
                                       const cudaGraphNode_t *dependencies, size_t count, cudaGraph_t child)
{
    const streams_lock lock(of_streams);
    if (!graphs.count(graph) || !graphs.count(child)) return no_graph(graphs.count(graph) ? child : graph);
    std::unique_ptr<emulated_node> made(new emulated_node);
    made->work = child->nodes[0]->work;
    return add_node(node, graph, dependencies, count, std::move(made));
}
cudaError_t cudaGraphInstantiate(cudaGraphExec_t *exec, cudaGraph_t graph, unsigned long long flags)
{
    const streams_lock lock(of_streams);
    if (!graphs.count(graph) || flags) return no_graph(graph);
    if (is_refused(1) != cudaSuccess) return failure();
    execs.insert(*exec = new emulated_exec{graph, {}});
    for (const auto &node : graph->nodes) (*exec)->nodes.push_back(*node);
    return cudaSuccess;
}
cudaError_t cudaGraphExecKernelNodeSetParams(cudaGraphExec_t exec, cudaGraphNode_t node,
                                             const cudaKernelNodeParams *params)
{
    const streams_lock lock(of_streams);
    if (!execs.count(exec) || !graphs.count((cudaGraph_t)exec->graph)) return no_graph(exec);
    if (is_refused(3) != cudaSuccess) return failure();
    const size_t i = exec->graph->number(node);
    if (i == exec->nodes.size())
        return fail(cudaErrorInvalidValue, "%p is no node of the graph", (void *)node);
    return take_params(&exec->nodes[i], params);
}
cudaError_t cudaGraphExecChildGraphNodeSetParams(cudaGraphExec_t exec, cudaGraphNode_t node,
                                                 cudaGraph_t child)
{
    const streams_lock lock(of_streams);
    if (!execs.count(exec) || !graphs.count((cudaGraph_t)exec->graph) || !graphs.count(child))
        return no_graph(exec);
    if (is_refused(3) != cudaSuccess) return failure();
    const size_t i = exec->graph->number(node);
    if (i == exec->nodes.size() || !exec->nodes[i].work)
        return fail(cudaErrorInvalidValue, "%p is no child graph of the graph", (void *)node);
    exec->nodes[i].work = child->nodes[0]->work;
    return cudaSuccess;
}
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t exec)
{
    const streams_lock lock(of_streams);
    if (!execs.erase(exec)) return no_graph(exec);
    delete exec;
    return cudaSuccess;
}
static bool is_ready(const emulated_node &node, const std::vector<bool> &done)
{
    return std::all_of(node.after.begin(), node.after.end(), [&](size_t i) { return done[i]; });
}
cudaError_t cudaGraphLaunch(cudaGraphExec_t exec, cudaStream_t stream)
{
    const streams_lock lock(of_streams);
    if (!execs.count(exec)) return no_graph(exec);
    if (is_refused(2) != cudaSuccess) return failure();
    std::vector<bool> done(exec->nodes.size());
    for (size_t left = done.size(); left; --left) {
        size_t i = done.size() - 1;
        while (done[i] || !is_ready(exec->nodes[i], done)) --i;
        emulated_node &node = exec->nodes[i];
        std::vector<void *> addresses;
        if (node.work && node.work()) return fail(cudaErrorLaunchFailure, "a library's work has failed");
        done[i] = true;
        if (node.work) continue;
        for (auto &bytes : node.arguments) addresses.push_back(bytes.data());
        const cudaError_t error =
            cudaLaunchKernel(node.kernel, node.grid, node.block, addresses.data(), node.shared_bytes, stream);
        if (error != cudaSuccess) return error;
    }
    return cudaSuccess;
}
