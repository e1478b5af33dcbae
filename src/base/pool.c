/* SPDX-License-Identifier: BSD-3-Clause */
#define _GNU_SOURCE /* sched_getaffinity */
#include "base/pool.h"

#include <pthread.h>
#include <signal.h>
#include <sched.h>
#include <stdbool.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <unistd.h>

#if defined(__x86_64__)
#include <immintrin.h>
#define RELAX() _mm_pause()
#elif defined(__aarch64__)
#define RELAX() __asm__ volatile("yield")
#else
#define RELAX() ((void)0)
#endif

enum { SPINS = 20000 }; /* about 50 to 500 microseconds, by processor */

struct anm_pool {
    unsigned threads, started;
    pthread_t *thread;
    pthread_mutex_t lock;
    pthread_cond_t wake;
    /* One loop: written by the caller before the gate opens. */
    anm_pool_fn *fn;
    void *ctx;
    uint32_t n;
    _Atomic uint32_t next; /* the next index to take */
    /* The gate: how many loops there were (upper half), whether the present one may be joined (OPEN), and how many
     * workers have joined it. The caller waits for these only: a worker that the system keeps from running, on a busy
     * machine, has joined nothing and is not waited for. */
    _Atomic uint64_t gate;
    _Atomic uint32_t asleep;
    _Atomic int quit;
};

typedef struct worker_start {
    anm_pool *pool;
    unsigned index;
} worker_start;

static void take(anm_pool *p, unsigned thread)
{
    uint32_t i;
    while ((i = atomic_fetch_add_explicit(&p->next, 1, memory_order_relaxed)) < p->n) p->fn(p->ctx, i, thread);
}

#define OPEN ((uint64_t)1 << 31)

static uint32_t turn_of(uint64_t gate)
{
    return (uint32_t)(gate >> 32);
}

/* Until there is another loop than the one `seen`. */
static void wait_turn(anm_pool *p, uint32_t seen)
{
    for (int s = 0; s < SPINS; s++) {
        if (turn_of(atomic_load_explicit(&p->gate, memory_order_acquire)) != seen) return;
        RELAX();
    }
    pthread_mutex_lock(&p->lock);
    atomic_fetch_add(&p->asleep, 1);
    while (turn_of(atomic_load(&p->gate)) == seen) pthread_cond_wait(&p->wake, &p->lock);
    atomic_fetch_sub(&p->asleep, 1);
    pthread_mutex_unlock(&p->lock);
}

/* Joins the present loop if it is still open; the loop is remembered as seen either way. */
static bool join(anm_pool *p, uint32_t *seen)
{
    uint64_t g = atomic_load_explicit(&p->gate, memory_order_acquire);
    do {
        *seen = turn_of(g);
        if (!(g & OPEN)) return false;
    } while (!atomic_compare_exchange_weak_explicit(&p->gate, &g, g + 1, memory_order_acquire, memory_order_acquire));
    return true;
}

static void *work(void *arg)
{
    worker_start s = *(worker_start *)arg;
    free(arg);
    uint32_t seen = 0;
    for (;;) {
        wait_turn(s.pool, seen);
        if (atomic_load(&s.pool->quit)) return NULL;
        if (!join(s.pool, &seen)) continue;
        take(s.pool, s.index);
        atomic_fetch_sub_explicit(&s.pool->gate, 1, memory_order_release);
    }
}

/* Opens the gate for the next loop (`open`: OPEN), or only moves it on (0). Nobody is inside. */
static void next_turn(anm_pool *p, uint64_t open)
{
    uint64_t g = atomic_load_explicit(&p->gate, memory_order_relaxed);
    atomic_store(&p->gate, (uint64_t)(turn_of(g) + 1) << 32 | open);
    if (atomic_load(&p->asleep)) {
        pthread_mutex_lock(&p->lock);
        pthread_cond_broadcast(&p->wake);
        pthread_mutex_unlock(&p->lock);
    }
}

void anm_pool_run(anm_pool *p, anm_pool_fn *fn, void *ctx, uint32_t n)
{
    if (!p || p->started == 0 || n <= 1) {
        for (uint32_t i = 0; i < n; i++) fn(ctx, i, 0);
        return;
    }
    p->fn = fn;
    p->ctx = ctx;
    p->n = n;
    atomic_store_explicit(&p->next, 0, memory_order_relaxed);
    next_turn(p, OPEN);
    take(p, 0);
    /* All indices are taken: nobody needs to join any more, and those who did finish theirs. */
    uint64_t g = atomic_fetch_and_explicit(&p->gate, ~(uint64_t)OPEN, memory_order_acquire);
    for (unsigned s = 0; (g & (OPEN - 1)) != 0; s++, g = atomic_load_explicit(&p->gate, memory_order_acquire)) {
        if (s < SPINS) RELAX();
        else sched_yield(); /* more threads than processors: let the others finish */
    }
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
    anm_pool *p = calloc(1, sizeof *p);
    if (!p) return anm_fail_memory(err, "thread pool");
    p->threads = threads ? threads : processors();
    pthread_mutex_init(&p->lock, NULL);
    pthread_cond_init(&p->wake, NULL);
    p->thread = calloc(p->threads, sizeof *p->thread);
    if (!p->thread) {
        anm_pool_free(p);
        return anm_fail_memory(err, "thread pool");
    }
    /* Stops are the caller's affair: the command line's handler must not run beside the thread that makes files. */
    sigset_t stops, was;
    sigemptyset(&stops);
    sigaddset(&stops, SIGINT);
    sigaddset(&stops, SIGTERM);
    sigaddset(&stops, SIGHUP);
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
    free(p);
}

unsigned anm_pool_threads(const anm_pool *p)
{
    return p ? p->threads : 1;
}
