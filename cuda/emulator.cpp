/* Fibers, barriers, shared and device memory of emulator.h. A thread of a block is a fiber while it runs: it
 * is left where it waits and gone on with when all whom it waits for have come. A fiber whose thread has
 * ended takes the next one, so that kernels without barriers need one fiber only. */
#include "emulator.h"
#include <mutex>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>
#include <ucontext.h>
/* Other processors, and this one with EMULATE_PORTABLY, switch by swapcontext, which asks the system each
 * time. */
#if defined(__x86_64__) && !defined(EMULATE_PORTABLY)
#define OWN_SWITCH
#endif

dim3 threadIdx, blockIdx, blockDim, gridDim;
namespace emulator
{

enum { WARP = 32, MOST_THREADS = 1024, STACK = 128 << 10, STATIC_SHARED = 48 << 10, MOST_ARRAYS = 64 };
enum { STAGGER = 7 * 64 }; /* stacks that all begin at one place of a page share few lines of a cache */

/* ---- contexts: where a fiber goes on */

#ifdef OWN_SWITCH
/* Saves the registers that a function keeps, and goes on with those of another stack. */
extern "C" void emulator_switch(void **from, void *to);
asm(".text\n.hidden emulator_switch\nemulator_switch:\n"
    "push %rbp\n push %rbx\n push %r12\n push %r13\n push %r14\n push %r15\n"
    "mov %rsp, (%rdi)\n mov %rsi, %rsp\n"
    "pop %r15\n pop %r14\n pop %r13\n pop %r12\n pop %rbx\n pop %rbp\n ret\n");
typedef void *context;
static void switch_context(context *from, context *to) { emulator_switch(from, *to); }
static void make_context(context *c, char *stack, size_t bytes, void (*start)(void))
{
    void **top = (void **)(stack + bytes) - 1;
    *top = NULL; /* where start() would return to; keeps the stack aligned for it */
    *--top = (void *)start;
    for (int i = 0; i < 6; ++i) *--top = NULL;
    *c = top;
}
#else
typedef ucontext_t context;
static void switch_context(context *from, context *to) { swapcontext(from, to); }
static void make_context(context *c, char *stack, size_t bytes, void (*start)(void))
{
    getcontext(c);
    c->uc_stack.ss_sp = stack;
    c->uc_stack.ss_size = bytes;
    c->uc_link = NULL;
    makecontext(c, start, 0);
}
#endif

/* ---- the block that runs */

enum thread_state { NEW, READY, AT_BLOCK_BARRIER, AT_WARP_BARRIER, ENDED };
struct fiber {
    context at;
    char *stack;
    bool made;   /* its context is one to go on with */
    fiber *next; /* in the list of those without a thread */
};
struct thread {
    thread_state state;
    fiber *on;
    dim3 index;
    const char *file; /* of the block's barrier */
    int line, from;
    unsigned mask, votes;
    uint64_t value, received;
};
struct shared_block {
    const void *site;
    char *memory;
    size_t bytes;
};

static std::mutex one_launch;
static thread threads[MOST_THREADS];
static fiber fibers[MOST_THREADS], *idle, *running;
static int count, current, started, startable, ended, failed, backwards;
static context scheduler;
static void (*body)(const void *);
static const void *arguments;
static shared_block arrays[MOST_ARRAYS];
static int arrays_made;
alignas(32) static char static_memory[STATIC_SHARED];
static size_t static_used, dynamic_bytes;
static char *dynamic_memory;

static cudaError_t last_error;
static char last_message[512];
static void set_error(cudaError_t error, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void set_error(cudaError_t error, const char *format, ...)
{
    if (last_error != cudaSuccess) return;
    va_list list;
    va_start(list, format);
    vsnprintf(last_message, sizeof last_message, format, list);
    va_end(list);
    last_error = error;
}
cudaError_t fail(cudaError_t error, const char *format, ...)
{
    char text[256];
    va_list list;
    va_start(list, format);
    vsnprintf(text, sizeof text, format, list);
    va_end(list);
    set_error(error, "%s", text);
    return error;
}
cudaError_t failure() { return last_error; }

void set_backwards(int on) { backwards = on; }
int lane() { return current % WARP; }
static int nth(int i, int n) { return backwards ? n - 1 - i : i; }
static void enter(int i)
{
    current = i;
    threadIdx = threads[i].index;
}

/* The launch ends here: nobody goes on with the fibers as they are. */
void fault(const char *format, ...)
{
    char text[320];
    va_list list;
    va_start(list, format);
    vsnprintf(text, sizeof text, format, list);
    va_end(list);
    set_error(cudaErrorLaunchFailure, "block (%u, %u, %u), thread (%u, %u, %u): %s", blockIdx.x, blockIdx.y,
              blockIdx.z, threadIdx.x, threadIdx.y, threadIdx.z, text);
    failed = 1;
    switch_context(&running->at, &scheduler);
    __builtin_unreachable();
}
void beyond(const char *name, size_t index, size_t n)
{
    fault("index %zd of the %zu values of `%s` in shared memory", (ptrdiff_t)index, n, name);
}

/* What every fiber does: threads of the warp that have not begun, one after another. */
static void fiber_body()
{
    for (;;) {
        fiber *self = running;
        while (started < startable) {
            const int i = nth(started++, count);
            threads[i].on = self;
            threads[i].state = READY;
            enter(i);
            body(arguments);
            threads[i].state = ENDED;
            ++ended;
        }
        self->next = idle;
        idle = self;
        switch_context(&self->at, &scheduler);
    }
}
static void resume(fiber *f)
{
    running = f;
    switch_context(&scheduler, &f->at);
}
static fiber *idle_fiber()
{
    fiber *f = idle;
    if (f) {
        idle = f->next;
        return f;
    }
    for (f = fibers; f->made; ++f) {}
    const size_t shift = (f - fibers) * STAGGER % (STACK / 4);
    if (!f->stack) {
        f->stack = (char *)mmap(NULL, STACK, PROT_READ | PROT_WRITE,
                                MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (f->stack == MAP_FAILED) {
            f->stack = NULL;
            return NULL;
        }
    }
    make_context(&f->at, f->stack, STACK - shift, fiber_body);
    f->made = true;
    return f;
}
static void forget_fibers()
{
    for (int i = 0; i < MOST_THREADS; ++i) fibers[i].made = false;
    idle = NULL;
}

/* ---- waiting for others */

static void wait(thread_state state)
{
    const int i = current;
    threads[i].state = state;
    switch_context(&running->at, &scheduler);
    enter(i);
}
void block_barrier(const char *file, int line)
{
    threads[current].file = file;
    threads[current].line = line;
    wait(AT_BLOCK_BARRIER);
}
static thread &meet(unsigned mask, uint64_t value, int from)
{
    thread &t = threads[current];
    if (!(mask >> lane() & 1)) fault("lane %d is not in the mask 0x%08x that it waits with", lane(), mask);
    t.mask = mask;
    t.value = value;
    t.from = from;
    wait(AT_WARP_BARRIER);
    return t;
}
void warp_barrier(unsigned mask) { meet(mask, 0, lane()); }
uint64_t exchange(unsigned mask, uint64_t value, int from) { return meet(mask, value, from).received; }
unsigned ballot(unsigned mask, bool vote) { return meet(mask, vote, lane()).votes; }

void agree(const char *what, uint64_t value)
{
    if (count - current / WARP * WARP < WARP) fault("%s: the warp has only %d threads", what, count % WARP);
    uint64_t own = value;
    for (const char *c = what; *c; ++c) own = own * 31 + (unsigned char)*c;
    if (meet(~0u, own, 0).received != own) fault("%s: lane 0 does another thing, or at another place", what);
}
void *warp_room(int i)
{
    static float room[MOST_THREADS / WARP][2][256];
    return room[current / WARP][i];
}

/* All lanes of the mask have come: each gets its value. */
static void deliver(int first, unsigned mask)
{
    unsigned votes = 0;
    for (int l = 0; l < WARP; ++l) {
        if (mask >> l & 1 && threads[first + l].value) votes |= 1u << l;
    }
    for (int l = 0; l < WARP && !failed; ++l) {
        if (!(mask >> l & 1)) continue;
        thread &t = threads[first + l];
        if (!(mask >> t.from & 1)) {
            threadIdx = t.index;
            set_error(cudaErrorLaunchFailure,
                      "block (%u, %u, %u), thread (%u, %u, %u): a shuffle from lane %d, which takes no part",
                      blockIdx.x, blockIdx.y, blockIdx.z, t.index.x, t.index.y, t.index.z, t.from);
            failed = 1;
        }
        t.received = threads[first + t.from].value;
        t.votes = votes;
        t.state = READY;
    }
}
static bool release_warp(int first)
{
    bool released = false;
    const int size = count - first < WARP ? count - first : WARP;
    const unsigned exist = size < WARP ? (1u << size) - 1 : ~0u;
    for (int l = 0; l < size; ++l) {
        const thread &t = threads[first + l];
        unsigned there = 0;
        for (int k = 0; k < size && t.state == AT_WARP_BARRIER; ++k) {
            const thread &other = threads[first + k];
            if (other.state == AT_WARP_BARRIER && other.mask == t.mask) there |= 1u << k;
        }
        if (!there || (there & t.mask) != (t.mask & exist)) continue;
        deliver(first, t.mask & exist);
        released = true;
    }
    return released;
}
/* The block's barrier opens when every thread stands in the same line. */
static bool release_block()
{
    for (int i = 0; i < count; ++i) {
        const thread &t = threads[i], &first = threads[0];
        if (t.state != AT_BLOCK_BARRIER || t.line != first.line || strcmp(t.file, first.file)) return false;
    }
    for (int i = 0; i < count; ++i) threads[i].state = READY;
    return true;
}
/* Nobody can go on: who waits for whom is said of the first that waits and the first that does not wait
 * there. */
static void report_divergence()
{
    int waits = 0, other = 0;
    while (threads[waits].state != AT_BLOCK_BARRIER && threads[waits].state != AT_WARP_BARRIER) ++waits;
    const thread &t = threads[waits];
    const bool of_block = t.state == AT_BLOCK_BARRIER;
    const int first = waits / WARP * WARP;
    for (other = of_block ? 0 : first; other < count; ++other) {
        const thread &o = threads[other];
        if (of_block ? o.state != t.state || o.line != t.line || strcmp(o.file, t.file)
                     : t.mask >> (other - first) & 1 && (o.state != t.state || o.mask != t.mask)) {
            break;
        }
    }
    static const char *const names[] = {"has not begun", "runs", "waits at another barrier",
                                        "waits in its warp", "has ended"};
    char place[200] = "its warp";
    if (of_block) snprintf(place, sizeof place, "the barrier of %s:%d", t.file, t.line);
    set_error(cudaErrorLaunchFailure,
              "block (%u, %u, %u), thread (%u, %u, %u): waits at %s for thread (%u, %u, %u), which %s",
              blockIdx.x, blockIdx.y, blockIdx.z, t.index.x, t.index.y, t.index.z, place,
              threads[other].index.x, threads[other].index.y, threads[other].index.z,
              names[threads[other].state]);
    failed = 1;
}

/* One warp goes on until all its threads wait for others or have ended. Then comes the next: what a warp may
 * do while others have not even begun, it does. */
static void run_warp(int first, int size)
{
    startable = started + (threads[first].state == NEW ? size : 0);
    do {
        while (started < startable && !failed) {
            fiber *f = idle_fiber();
            if (!f) {
                set_error(cudaErrorMemoryAllocation, "no memory for the stack of a thread");
                failed = 1;
                return;
            }
            resume(f);
        }
        for (int l = 0; l < size && !failed; ++l) {
            const int i = first + nth(l, size);
            if (threads[i].state != READY) continue;
            enter(i);
            resume(threads[i].on);
        }
    } while (!failed && release_warp(first));
}
static void run_block()
{
    const int warps = (count + WARP - 1) / WARP;
    started = ended = arrays_made = 0;
    static_used = 0;
    memset(dynamic_memory, 0xFF, dynamic_bytes);
    for (int i = 0; i < count; ++i) threads[i].state = NEW;
    while (!failed) {
        for (int k = 0; k < warps && !failed; ++k) {
            const int first = nth(k, warps) * WARP;
            run_warp(first, count - first < WARP ? count - first : WARP);
        }
        if (failed || ended == count) return;
        if (!release_block()) report_divergence();
    }
}

/* ---- shared memory: all bits set, NaN, until it is written */

void *static_shared(const void *site, size_t bytes)
{
    for (int i = 0; i < arrays_made; ++i) {
        if (arrays[i].site == site) return arrays[i].memory;
    }
    const size_t whole = (bytes + 31) / 32 * 32;
    if (arrays_made == MOST_ARRAYS || static_used + whole + dynamic_bytes > STATIC_SHARED) {
        fault("more than %d bytes of shared memory", STATIC_SHARED);
    }
    char *memory = static_memory + static_used;
    static_used += whole;
    arrays[arrays_made].site = site;
    arrays[arrays_made].bytes = bytes;
    arrays[arrays_made++].memory = memory;
    return memset(memory, 0xFF, whole);
}
void require_shared(const char *what, const void *first, size_t bytes)
{
    for (int i = 0; i < arrays_made; ++i) {
        const ptrdiff_t at = (const char *)first - arrays[i].memory;
        if (at < 0 || at >= (ptrdiff_t)arrays[i].bytes) continue;
        if (at + bytes <= arrays[i].bytes) return;
        fault("%s: %zu bytes from byte %td of an array of %zu in shared memory", what, bytes, at,
              arrays[i].bytes);
    }
    fault("%s: address %p is not in shared memory", what, first);
}
void *dynamic_shared(size_t *bytes)
{
    *bytes = dynamic_bytes;
    return dynamic_memory;
}

/* ---- device memory: whole pages between two that nobody may touch. What lies between the end of an array
 * and that of its last page holds NaN as well; it is looked at after each launch as far as a line. Only
 * kernels and copies may touch it: other code that does ends the process, as with a GPU's memory. */

enum { LOOKED_AT = 64 };
static size_t page() { return (size_t)sysconf(_SC_PAGESIZE); }
struct allocation {
    char *memory;
    size_t bytes, pages;
    allocation *next;
    void open(bool on) const { mprotect(memory, pages * page(), on ? PROT_READ | PROT_WRITE : PROT_NONE); }
};
static allocation *allocations;
static void open_memory(bool on)
{
    for (const allocation *a = allocations; a; a = a->next) a->open(on);
}
struct opened_memory {
    opened_memory() { open_memory(true); }
    ~opened_memory() { open_memory(false); }
};
static size_t slack_of(const allocation *a)
{
    const size_t all = a->pages * page() - a->bytes;
    return all < (size_t)LOOKED_AT ? all : (size_t)LOOKED_AT;
}
static bool was_written_beyond(allocation *a)
{
    bool written = false;
    char *end = a->memory + a->bytes;
    for (size_t i = 0; i < slack_of(a); ++i) written |= end[i] != (char)0xFF;
    memset(end, 0xFF, slack_of(a));
    return written;
}
static void look_at_ends()
{
    for (allocation *a = allocations; a; a = a->next) {
        if (was_written_beyond(a)) {
            set_error(cudaErrorLaunchFailure,
                      "values were written beyond the end of a device array of %zu bytes", a->bytes);
        }
    }
}

static void *touched;
static void touched_nothing() { fault("address %p is not in device memory", touched); }
/* Goes on in touched_nothing() on the same stack, beyond what the interrupted function may use of it. */
static void on_wrong_address(int, siginfo_t *info, void *interrupted)
{
    touched = info->si_addr;
#ifdef OWN_SWITCH
    greg_t *registers = ((ucontext_t *)interrupted)->uc_mcontext.gregs;
    registers[REG_RSP] = ((registers[REG_RSP] - 256) & ~(greg_t)15) - 8;
    registers[REG_RIP] = (greg_t)touched_nothing;
#else
    (void)interrupted;
    touched_nothing();
#endif
}

/* ---- launches */

static bool fits(dim3 grid, dim3 block, size_t bytes)
{
    const uint64_t size = (uint64_t)block.x * block.y * block.z;
    return grid.x && grid.y && grid.z && grid.x < 1u << 31 && grid.y < 1 << 16 && grid.z < 1 << 16 && size &&
           size <= MOST_THREADS && block.z <= 64 && bytes <= STATIC_SHARED;
}
static void run_blocks(uint64_t blocks)
{
    for (uint64_t k = 0; k < blocks && !failed; ++k) {
        const uint64_t i = backwards ? blocks - 1 - k : k;
        blockIdx = dim3((unsigned)(i % gridDim.x), (unsigned)(i / gridDim.x % gridDim.y),
                        (unsigned)(i / gridDim.x / gridDim.y));
        run_block();
    }
}
void launch(dim3 grid, dim3 block, size_t shared_bytes, void (*function)(const void *), const void *context)
{
    const std::lock_guard<std::mutex> lock(one_launch);
    if (!fits(grid, block, shared_bytes)) {
        set_error(cudaErrorInvalidConfiguration,
                  "invalid configuration: grid (%u, %u, %u), block (%u, %u, %u), %zu bytes of shared memory",
                  grid.x, grid.y, grid.z, block.x, block.y, block.z, shared_bytes);
        return;
    }
    alignas(16) static char memory[STATIC_SHARED];
    struct sigaction ours = {}, bus, segment;
    ours.sa_sigaction = on_wrong_address;
    ours.sa_flags = SA_SIGINFO | SA_NODEFER;
    body = function;
    arguments = context;
    gridDim = grid;
    blockDim = block;
    count = (int)(block.x * block.y * block.z);
    dynamic_memory = memory;
    dynamic_bytes = shared_bytes;
    failed = 0;
    for (int i = 0; i < count; ++i) {
        threads[i].index = dim3(i % block.x, i / block.x % block.y, i / block.x / block.y);
    }
    sigaction(SIGSEGV, &ours, &segment);
    sigaction(SIGBUS, &ours, &bus);
    const opened_memory opened;
    run_blocks((uint64_t)grid.x * grid.y * grid.z);
    sigaction(SIGSEGV, &segment, NULL);
    sigaction(SIGBUS, &bus, NULL);
    if (failed) forget_fibers();
    look_at_ends();
}
work_of_others::work_of_others()
{
    one_launch.lock();
    open_memory(true);
}
work_of_others::~work_of_others()
{
    look_at_ends();
    open_memory(false);
    one_launch.unlock();
}
} // namespace emulator

using namespace emulator;

cudaError_t cudaMalloc(void **memory, size_t bytes)
{
    const std::lock_guard<std::mutex> lock(one_launch);
    const size_t pages = (bytes + page() - 1) / page() + (bytes == 0);
    allocation *a = (allocation *)malloc(sizeof *a);
    char *whole = (char *)MAP_FAILED;
    if (bytes < SIZE_MAX / 2)
        whole = (char *)mmap(NULL, (pages + 2) * page(), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
                             -1, 0);
    *memory = NULL;
    if (!a || whole == MAP_FAILED) {
        free(a);
        set_error(cudaErrorMemoryAllocation, "no memory for %zu bytes", bytes);
        return cudaErrorMemoryAllocation;
    }
    mprotect(whole, page(), PROT_NONE);
    mprotect(whole + (pages + 1) * page(), page(), PROT_NONE);
    *a = {whole + page(), bytes, pages, allocations};
    memset(a->memory, 0xFF, pages * page());
    a->open(false);
    allocations = a;
    *memory = a->memory;
    return cudaSuccess;
}
cudaError_t cudaFree(void *memory)
{
    finish_streams();
    const std::lock_guard<std::mutex> lock(one_launch);
    for (allocation **at = &allocations; *at; at = &(*at)->next) {
        allocation *a = *at;
        if (a->memory != memory) continue;
        *at = a->next;
        munmap(a->memory - page(), (a->pages + 2) * page());
        free(a);
        return cudaSuccess;
    }
    if (!memory) return cudaSuccess;
    set_error(cudaErrorInvalidValue, "cudaFree of %p, which is no array of the device", memory);
    return cudaErrorInvalidValue;
}
/* Whether bytes from `first` on begin in a device array and go beyond it. */
static bool goes_beyond(const void *first, size_t bytes)
{
    const std::lock_guard<std::mutex> lock(one_launch);
    for (const allocation *a = allocations; a; a = a->next) {
        const ptrdiff_t at = (const char *)first - a->memory;
        if (at < 0 || at >= (ptrdiff_t)(a->pages * page()) || at + bytes <= a->bytes) continue;
        set_error(cudaErrorInvalidValue, "%zu bytes from byte %td of a device array of %zu", bytes, at,
                  a->bytes);
        return true;
    }
    return false;
}
cudaError_t emulator::copy_now(void *to, const void *from, size_t bytes)
{
    if (goes_beyond(to, bytes) || goes_beyond(from, bytes)) return cudaErrorInvalidValue;
    const std::lock_guard<std::mutex> lock(one_launch);
    const opened_memory opened;
    memcpy(to, from, bytes);
    return cudaSuccess;
}
cudaError_t cudaMemsetAsync(void *to, int value, size_t bytes, cudaStream_t)
{
    if (goes_beyond(to, bytes)) return cudaErrorInvalidValue;
    const std::lock_guard<std::mutex> lock(one_launch);
    const opened_memory opened;
    memset(to, value, bytes);
    return cudaSuccess;
}
cudaError_t cudaSetDevice(int) { return cudaSuccess; }
cudaError_t cudaGetLastError(void)
{
    const cudaError_t error = last_error;
    last_error = cudaSuccess;
    return error;
}
const char *cudaGetErrorString(cudaError_t) { return last_message; }
