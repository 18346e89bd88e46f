/* The runtime library's part of the emulator, called as no caller should, for test_cuda_emulator.py. */
#include "kernels.cuh"
#define EXPORT extern "C" __attribute__((visibility("default")))

static __global__ void add(real *x, real value) { x[0] += value; }
static __global__ void multiply(real *x, real value) { x[0] *= value; }
static __global__ void out_of_bounds(real *x, real) { *(x - 1) = 1; }

struct one_graph {
    cudaGraph_t graph = NULL;
    cudaGraphExec_t made = NULL;
    cudaGraphNode_t first = NULL, last = NULL;
    real *x, value = 3;
    void *arguments[2];
    explicit one_graph(real *to) : x(to)
    {
        arguments[0] = &x;
        arguments[1] = &value;
        emulator::know(add);
        emulator::know(multiply);
        emulator::know(out_of_bounds);
        cudaGraphCreate(&graph, 0);
    }
    cudaKernelNodeParams node(void (*kernel)(real *, real))
    {
        cudaKernelNodeParams p = {};
        p.func = (void *)kernel;
        p.gridDim = p.blockDim = 1;
        p.kernelParams = arguments;
        return p;
    }
    cudaError_t append(cudaGraphNode_t *to, void (*kernel)(real *, real), const cudaGraphNode_t *after)
    {
        const cudaKernelNodeParams p = node(kernel);
        return cudaGraphAddKernelNode(to, graph, after, after != NULL, &p);
    }
    void launch()
    {
        if (!made) note_failure("instantiation", cudaGraphInstantiate(&made, graph, 0));
        note_failure("graph", cudaGraphLaunch(made, NULL));
    }
};

/* x + 3 = 4, times 3 */
EXPORT void run_in_order(real *x)
{
    one_graph g(x);
    g.append(&g.first, add, NULL);
    g.append(&g.last, multiply, &g.first);
    g.value = 1000; /* they were taken when the nodes were added */
    g.launch();
}
/* Without the dependency the last node is the first: x * 3 + 3. */
EXPORT void run_without_dependency(real *x)
{
    one_graph g(x);
    g.append(&g.first, add, NULL);
    g.append(&g.last, multiply, NULL);
    g.launch();
}
/* Twice, the second time with another value: (1 + 3) + 5 */
EXPORT void run_renewed(real *x)
{
    one_graph g(x);
    g.append(&g.first, add, NULL);
    g.launch();
    g.value = 5;
    const cudaKernelNodeParams p = g.node(add);
    note_failure("renewal", cudaGraphExecKernelNodeSetParams(g.made, g.first, &p));
    g.launch();
}
EXPORT void run_other_graphs_node(real *x)
{
    one_graph g(x), other(x);
    other.append(&other.first, add, NULL);
    note_failure("node", g.append(&g.last, add, &other.first));
}
EXPORT void run_renewed_other_graphs_node(real *x)
{
    one_graph g(x), other(x);
    g.append(&g.first, add, NULL);
    other.append(&other.first, add, NULL);
    g.launch();
    const cudaKernelNodeParams p = g.node(add);
    note_failure("renewal", cudaGraphExecKernelNodeSetParams(g.made, other.first, &p));
}
EXPORT void run_destroyed(real *x)
{
    one_graph g(x);
    g.append(&g.first, add, NULL);
    g.launch();
    cudaGraphExecDestroy(g.made);
    g.launch();
}
EXPORT void run_no_kernel(real *x)
{
    one_graph g(x);
    cudaKernelNodeParams p = g.node(add);
    p.func = x;
    note_failure("node", cudaGraphAddKernelNode(&g.first, g.graph, NULL, 0, &p));
}
EXPORT void run_fault_in_graph(real *x)
{
    one_graph g(x);
    g.append(&g.first, add, NULL);
    g.append(&g.last, out_of_bounds, &g.first);
    g.launch();
}

/* ---- streams: another than the default works as late as it may */
struct late_copy {
    cudaStream_t stream = NULL;
    cudaEvent_t done = NULL;
    real *from = NULL, *x;
    explicit late_copy(real *to) : x(to)
    {
        cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking);
        cudaEventCreate(&done);
        cudaHostAlloc((void **)&from, sizeof(real), cudaHostAllocDefault);
        *from = 5;
        cudaMemcpyAsync(x, from, sizeof(real), cudaMemcpyDefault, stream);
        cudaEventRecord(done, stream);
    }
    ~late_copy()
    {
        cudaStreamDestroy(stream);
        cudaEventDestroy(done);
        cudaFreeHost(from);
    }
};
static void double_it(real *x) { launch("multiply", multiply, 1, 1, 0, x, 2); }

EXPORT void run_not_waited_for(real *x)
{
    late_copy copy(x);
    double_it(x);
}
EXPORT void run_waited_for(real *x)
{
    late_copy copy(x);
    cudaStreamWaitEvent(NULL, copy.done);
    double_it(x);
}
EXPORT void run_source_changed_too_soon(real *x)
{
    late_copy copy(x);
    *copy.from = 7;
    cudaEventSynchronize(copy.done);
}
EXPORT void run_waited_by_another_stream(real *x)
{
    late_copy copy(x), other(x + 1);
    cudaStreamWaitEvent(other.stream, copy.done);
    cudaStreamSynchronize(other.stream);
    double_it(x);
}
EXPORT void run_time_between(real *x)
{
    late_copy copy(x);
    cudaEvent_t before, after;
    float milliseconds = -1;
    cudaEventCreate(&before);
    cudaEventCreate(&after);
    cudaEventRecord(before, NULL);
    double_it(x);
    cudaEventRecord(after, NULL);
    note_failure("time", cudaEventElapsedTime(&milliseconds, before, after));
    cudaEventDestroy(before);
    cudaEventDestroy(after);
    x = x + 1;
    upload((int *)x, (const int *)&milliseconds, 1);
}
EXPORT void run_time_of_no_event(real *)
{
    cudaEvent_t before, after;
    float milliseconds;
    cudaEventCreate(&before);
    cudaEventCreate(&after);
    cudaEventRecord(before, NULL);
    note_failure("time", cudaEventElapsedTime(&milliseconds, before, after));
    cudaEventDestroy(before);
    cudaEventDestroy(after);
}
EXPORT void run_time_of_untimed_event(real *)
{
    cudaEvent_t before, after;
    float milliseconds;
    cudaEventCreate(&before);
    cudaEventCreateWithFlags(&after, cudaEventDisableTiming | cudaEventBlockingSync);
    cudaEventRecord(before, NULL);
    cudaEventRecord(after, NULL);
    note_failure("time", cudaEventElapsedTime(&milliseconds, before, after));
    cudaEventDestroy(before);
    cudaEventDestroy(after);
}
EXPORT void run_destroyed_stream(real *x)
{
    cudaStream_t stream;
    cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking);
    cudaStreamDestroy(stream);
    note_failure("copy", cudaMemcpyAsync(x, x, 4, cudaMemcpyDefault, stream));
}
EXPORT void run_freed_no_pinned_memory(real *x) { note_failure("release", cudaFreeHost(x)); }
