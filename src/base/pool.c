/* SPDX-License-Identifier: BSD-3-Clause */
#define _GNU_SOURCE /* sched_getaffinity */
#include "base/pool.h"
#include "base/stops.h"

#include <pthread.h>
#include <signal.h>
#include <sched.h>
#include <stdbool.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#if defined(__x86_64__)
#include <immintrin.h>
#define RELAX() _mm_pause()
#elif defined(__aarch64__)
#define RELAX() __asm__ volatile("yield")
#else
#define RELAX() ((void)0)
#endif

enum { SPINS = 20000, /* about 50 to 500 microseconds, by processor */
       LINE = 64,
       ASK = 4 }; /* lines of memory asked for in one turn of waiting */

/* What a thread tells the others, on a cache line of its own; and what it alone knows, on another. */
typedef struct seat {
    /* Twice the turn of the loop that it is inside of, or was inside of last; and 1 while it may be inside. */
    _Atomic uint32_t inside;
    uint8_t apart[LINE - sizeof(uint32_t)];
    anm_ahead ahead;
    uint8_t apart2[LINE - sizeof(anm_ahead)];
} seat;

struct anm_pool {
    /* One loop, and the gate, on the line that workers look at while they wait: what the caller writes comes to them in one
     * piece. The gate: how many loops there were, twice, and OPEN while the present one may be joined. The caller waits
     * for those only who sit inside: a worker that the system keeps from running, on a busy machine, is not waited for. */
    _Atomic uint32_t gate;
    uint32_t n;
    anm_pool_fn *fn;
    anm_pool_each_fn *each; /* instead of fn */
    void *ctx;
    uint8_t apart[LINE - 2 * sizeof(uint32_t) - 3 * sizeof(void *)];
    _Atomic uint32_t next; /* the next index to take */
    uint8_t apart2[LINE - sizeof(uint32_t)];
    seat *seat; /* [threads] */
    void *seat_memory;
    unsigned threads, started;
    pthread_t *thread;
    pthread_mutex_t lock;
    pthread_cond_t wake;
    _Atomic uint32_t asleep;
    _Atomic int quit;
};

#define OPEN 1u

typedef struct worker_start {
    anm_pool *pool;
    unsigned index;
} worker_start;

static void take(anm_pool *p, unsigned thread)
{
    if (p->each) {
        p->each(p->ctx, thread);
        return;
    }
    uint32_t i;
    while ((i = atomic_fetch_add_explicit(&p->next, 1, memory_order_relaxed)) < p->n) p->fn(p->ctx, i, thread);
}

/* One turn of waiting: with memory to ask for, that. */
static void idle(seat *s)
{
    anm_ahead_ask(&s->ahead, ASK);
    RELAX();
}

/* Until there is another loop than the one `seen`. */
static void wait_turn(anm_pool *p, seat *own, uint32_t seen)
{
    for (int s = 0; s < SPINS; s++) {
        if ((atomic_load_explicit(&p->gate, memory_order_acquire) & ~OPEN) != seen) return;
        idle(own);
    }
    pthread_mutex_lock(&p->lock);
    atomic_fetch_add(&p->asleep, 1);
    while ((atomic_load(&p->gate) & ~OPEN) == seen) pthread_cond_wait(&p->wake, &p->lock);
    atomic_fetch_sub(&p->asleep, 1);
    pthread_mutex_unlock(&p->lock);
}

/*
 * A worker sits down first and looks then whether the gate is still open; the caller closes the gate first and looks then
 * who sits. Both in the one order that all threads agree on, so that one of the two sees the other.
 */
static void *work(void *arg)
{
    worker_start s = *(worker_start *)arg;
    free(arg);
    seat *own = &s.pool->seat[s.index];
    uint32_t seen = 0;
    for (;;) {
        wait_turn(s.pool, own, seen);
        atomic_store(&own->inside, seen | 1);
        uint32_t gate = atomic_load(&s.pool->gate);
        if (atomic_load(&s.pool->quit)) return NULL; /* after the gate: whoever has seen its last turn must see this */
        seen = gate & ~OPEN;
        if (gate & OPEN) take(s.pool, s.index);
        atomic_store_explicit(&own->inside, seen, memory_order_release);
    }
}

/* Opens the gate for the next loop (`open`: OPEN), or only moves it on (0). Nobody is inside. */
static void next_turn(anm_pool *p, uint32_t open)
{
    uint32_t g = atomic_load_explicit(&p->gate, memory_order_relaxed);
    atomic_store(&p->gate, ((g & ~OPEN) + 2) | open);
    if (atomic_load(&p->asleep)) {
        pthread_mutex_lock(&p->lock);
        pthread_cond_broadcast(&p->wake);
        pthread_mutex_unlock(&p->lock);
    }
}

static void run(anm_pool *p)
{
    next_turn(p, OPEN);
    take(p, 0);
    /* All is taken: nobody needs to join any more, and those who did finish theirs. */
    uint32_t turn = atomic_load_explicit(&p->gate, memory_order_relaxed) & ~OPEN;
    bool closed = false;
    for (unsigned t = 1; t <= p->started; t++) {
        seat *at = &p->seat[t];
        if (atomic_load_explicit(&at->inside, memory_order_acquire) == turn) continue; /* was here, and is through */
        if (!closed) atomic_store(&p->gate, turn);
        closed = true;
        for (unsigned s = 0; atomic_load(&at->inside) & 1; s++) {
            if (s < SPINS) idle(&p->seat[0]);
            else sched_yield(); /* more threads than processors: let the others finish */
        }
    }
}

void anm_pool_run(anm_pool *p, anm_pool_fn *fn, void *ctx, uint32_t n)
{
    if (!p || p->started == 0 || n <= 1) {
        for (uint32_t i = 0; i < n; i++) fn(ctx, i, 0);
        return;
    }
    p->each = NULL;
    p->fn = fn;
    p->ctx = ctx;
    p->n = n;
    atomic_store_explicit(&p->next, 0, memory_order_relaxed);
    run(p);
}

void anm_pool_each(anm_pool *p, anm_pool_each_fn *fn, void *ctx)
{
    if (!p || p->started == 0) {
        fn(ctx, 0);
        return;
    }
    p->each = fn;
    p->ctx = ctx;
    run(p);
}

anm_ahead *anm_pool_ahead(anm_pool *p, unsigned thread)
{
    return &p->seat[thread].ahead;
}

static unsigned processors(void)
{
#if defined(__linux__)
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set) == 0) {
        int n = CPU_COUNT(&set);
        if (n > 0) return (unsigned)n;
    }
#endif
    long n = sysconf(_SC_NPROCESSORS_ONLN);
    return n > 0 ? (unsigned)n : 1;
}

int anm_pool_new(anm_pool **out, unsigned threads, anm_error *err)
{
    *out = NULL;
    if (threads > ANM_THREADS_MAX) return anm_fail(err, ANM_ERR_USAGE, "%u threads are more than a pool can have, %d", threads, ANM_THREADS_MAX);
    anm_pool *p = aligned_alloc(LINE, (sizeof *p + LINE - 1) / LINE * LINE);
    if (!p) return anm_fail_memory(err, "thread pool");
    memset(p, 0, sizeof *p);
    p->threads = threads ? threads : processors();
    if (p->threads > ANM_THREADS_MAX) p->threads = ANM_THREADS_MAX;
    pthread_mutex_init(&p->lock, NULL);
    pthread_cond_init(&p->wake, NULL);
    p->thread = calloc(p->threads, sizeof *p->thread);
    p->seat_memory = calloc((size_t)p->threads + 1, sizeof *p->seat);
    if (!p->thread || !p->seat_memory) {
        anm_pool_free(p);
        return anm_fail_memory(err, "thread pool");
    }
    p->seat = (seat *)(void *)((uint8_t *)p->seat_memory + (LINE - (uintptr_t)p->seat_memory % LINE));
    /* Stops are the caller's affair: the command line's handler must not run beside the thread that makes files. */
    sigset_t stops, was;
    sigemptyset(&stops);
    for (int i = 0; i < ANM_N_STOPS; i++) sigaddset(&stops, anm_stops[i]);
    pthread_sigmask(SIG_BLOCK, &stops, &was);
    for (unsigned i = 1; i < p->threads; i++) {
        worker_start *s = malloc(sizeof *s);
        if (!s) {
            pthread_sigmask(SIG_SETMASK, &was, NULL);
            anm_pool_free(p);
            return anm_fail_memory(err, "thread pool");
        }
        *s = (worker_start){p, i};
        if (pthread_create(&p->thread[p->started], NULL, work, s)) { /* fewer threads than asked: slower, not wrong */
            free(s);
            break;
        }
        p->started++;
    }
    pthread_sigmask(SIG_SETMASK, &was, NULL);
    *out = p;
    return 0;
}

void anm_pool_free(anm_pool *p)
{
    if (!p) return;
    atomic_store(&p->quit, 1);
    next_turn(p, 0);
    for (unsigned i = 0; i < p->started; i++) pthread_join(p->thread[i], NULL);
    pthread_mutex_destroy(&p->lock);
    pthread_cond_destroy(&p->wake);
    free(p->thread);
    free(p->seat_memory);
    free(p);
}

unsigned anm_pool_threads(const anm_pool *p)
{
    return p ? p->threads : 1;
}
