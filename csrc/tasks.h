/* How the tasks of a parallel loop are shared out. Each thread has a share of its own, which it works off in
 * the order of memory: so what a core wrote in one layer it mostly reads in the next, and the cores' caches
 * exchange little. A thread that is done goes on with the others' shares. No result depends on who does
 * what. */
#ifndef DN_TASKS_H
#define DN_TASKS_H
#include <omp.h>
#include <stddef.h>

enum { MOST_SHARES = 64, CACHE_LINE = 64 };
typedef struct {
    int shares;
    struct {
        _Alignas(CACHE_LINE) ptrdiff_t next;
        ptrdiff_t end;
    } share[MOST_SHARES];
} task_list;

/* Lists tasks 0 .. n, before the threads begin. */
static inline void list_tasks(task_list *l, ptrdiff_t n, int threads)
{
    l->shares = threads < MOST_SHARES ? threads : MOST_SHARES;
    for (int i = 0; i < l->shares; ++i) {
        l->share[i].next = n * i / l->shares;
        l->share[i].end = n * (i + 1) / l->shares;
    }
}
/* The next task of the calling thread; -1: all are taken, though others may still be at theirs. */
static inline ptrdiff_t take_task(task_list *l)
{
    const int own = omp_get_thread_num();
    for (int i = 0; i < l->shares; ++i) {
        const int s = (own + i) % l->shares;
        if (__atomic_load_n(&l->share[s].next, __ATOMIC_RELAXED) >= l->share[s].end) continue;
        const ptrdiff_t task = __atomic_fetch_add(&l->share[s].next, 1, __ATOMIC_RELAXED);
        if (task < l->share[s].end) return task;
    }
    return -1;
}
/* for each task i that is left: the body. */
#define EACH_TASK(i, list) for (ptrdiff_t i; (i = take_task(list)) >= 0;)
#endif
