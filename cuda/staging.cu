/* Copies of the host's values to the device beside the kernels: through pinned memory, on a stream of their own. */
#include "graph.cuh"
#include "staging.cuh"

namespace
{
struct pinned_memory {
    void *memory = NULL;
    size_t bytes = 0;
    bool refused = false;
};
struct lane {
    pinned_memory pinned[DN_STAGED];
    cudaEvent_t copied = NULL, read = NULL; /* by the stream of copies; by the kernels */
};
} // namespace
/* Nobody asks when; a host that waits for one leaves its core to others. */
static constexpr unsigned EVENT = cudaEventDisableTiming | cudaEventBlockingSync;
struct dn_staging {
    cudaStream_t stream = NULL;
    lane lanes[DN_LANES];
};
static void note(const char *what, cudaError_t error)
{
    note_failure(what, error);
    cudaGetLastError();
}

dn_staging *new_staging()
{
    dn_staging *s = new dn_staging;
    note("stream of copies", cudaStreamCreateWithFlags(&s->stream, cudaStreamNonBlocking));
    for (lane &l : s->lanes) {
        note("event", cudaEventCreateWithFlags(&l.copied, EVENT));
        note("event", cudaEventCreateWithFlags(&l.read, EVENT));
    }
    return s;
}
void free_staging(dn_staging *s)
{
    cudaStreamSynchronize(s->stream);
    for (lane &l : s->lanes) {
        cudaEventDestroy(l.copied);
        cudaEventDestroy(l.read);
        for (pinned_memory &p : l.pinned) cudaFreeHost(p.memory);
    }
    cudaStreamDestroy(s->stream);
    cudaGetLastError();
    delete s;
}
/* NULL: there is none, and the copy goes from the host's array itself, which the runtime waits for. */
static void *pinned(pinned_memory *p, size_t bytes)
{
    if (bytes <= p->bytes || p->refused) return p->memory;
    cudaFreeHost(p->memory);
    *p = pinned_memory();
    if (cudaHostAlloc(&p->memory, bytes, cudaHostAllocDefault) == cudaSuccess) {
        p->bytes = bytes;
    } else {
        p->memory = NULL;
        p->refused = true;
        cudaGetLastError();
    }
    return p->memory;
}
void begin_staged(dn_staging *s, int number)
{
    lane &l = s->lanes[number];
    note("wait for a copy", cudaEventSynchronize(l.copied));
    note("wait for kernels", cudaStreamWaitEvent(s->stream, l.read, 0));
}
void stage(dn_staging *s, int number, int what, void *to, const void *host, size_t bytes)
{
    lane &l = s->lanes[number];
    void *from = pinned(&l.pinned[what], bytes);
    if (from) memcpy(from, host, bytes);
    note("copy to the device", cudaMemcpyAsync(to, from ? from : host, bytes, cudaMemcpyDefault, s->stream));
    note("event behind a copy", cudaEventRecord(l.copied, s->stream));
}
void wait_staged(dn_staging *s, int number)
{
    note("wait for a copy", cudaStreamWaitEvent(own_stream(), s->lanes[number].copied, 0));
}
void end_staged(dn_staging *s, int number)
{
    note("event behind kernels", cudaEventRecord(s->lanes[number].read, own_stream()));
}
