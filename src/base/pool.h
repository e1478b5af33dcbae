/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A pool of threads for short parallel loops: workers spin for some microseconds before they sleep, so that the
 * hundreds of loops of one decoding step cost little more than their work. The caller's thread takes part.
 */
#ifndef ANM_BASE_POOL_H
#define ANM_BASE_POOL_H

#include "base/ahead.h"
#include "base/error.h"

typedef struct anm_pool anm_pool;

enum { ANM_THREADS_MAX = 1024 }; /* of a pool */

/* A pool of `threads` in all, the caller counted; 0: one per processor that this process may use, as far
 * as ANM_THREADS_MAX. More are ANM_ERR_USAGE. */
int anm_pool_new(anm_pool **out, unsigned threads, anm_error *err);
void anm_pool_free(anm_pool *p); /* NULL is fine */
unsigned anm_pool_threads(const anm_pool *p);

/* Calls fn(ctx, i, thread) once for every i in [0, n), on all threads, and returns when all are done. `thread` is in
 * [0, threads). Which thread takes which i is not defined; a result must not depend on it. A NULL pool runs the loop
 * on the caller. Not to be called from inside fn, nor from two threads at once on one pool. */
typedef void anm_pool_fn(void *ctx, uint32_t i, unsigned thread);
void anm_pool_run(anm_pool *p, anm_pool_fn *fn, void *ctx, uint32_t n);

/* Calls fn(ctx, thread) on the caller, and on every other thread that comes in time, once each; returns when all who came
 * are done. fn shares out its work by itself: when the caller's fn returns, nothing must be left that nobody took. For
 * loops that are too short for more. */
typedef void anm_pool_each_fn(void *ctx, unsigned thread);
void anm_pool_each(anm_pool *p, anm_pool_each_fn *fn, void *ctx);

/* What a thread asks memory for while it waits for the others or for the next loop. Set by the thread itself, inside fn. */
anm_ahead *anm_pool_ahead(anm_pool *p, unsigned thread);

#endif
