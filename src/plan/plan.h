/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The plan: a method's graph as a short list of steps that work row by row, for any number of rows up to the graph's.
 *
 *   MIL function -> lower: what does each value mean? -> steps -> pack weights -> run
 *
 * Lowering (lower.c) walks the ops once and gives each value a meaning ("these rows, normalised", "the scores of these
 * queries against that cache", "the linear of x by these split weights, not yet computed"). What a later op makes of a
 * meaning is decided where it is used, so split linears and their concat are one matrix, a silu times another linear
 * is one step, and nothing is computed that only a pattern needed. An op whose meaning is not known ends the attempt:
 * the caller then runs the method by the interpreter.
 *
 * Rows not in use are not computed; the cache is read in place, and only as far as it is filled; what follows the last
 * attention is computed only for rows whose logits are wanted.
 */
#ifndef ANM_PLAN_PLAN_H
#define ANM_PLAN_PLAN_H

#include "base/buf.h"
#include "base/pool.h"
#include "kernel/kernel.h"
#include "plan/method.h"
#include "plan/times.h"

typedef struct anm_plan anm_plan;           /* immutable once made */
typedef struct anm_plan_work anm_plan_work; /* one conversation's scratch memory */

/* What activations are rounded to where the weights are 4-bit integers (fp32 elsewhere). */
typedef enum anm_activations {
    ANM_ACT_INT8,  /* with a scale for every 32 inputs */
    ANM_ACT_INT8X2, /* the same, and what that leaves once more: about 16 bits */
    ANM_ACT_F32,   /* not at all; weights as the file declares them */
} anm_activations;

typedef struct anm_plan_opts {
    anm_activations activations;
    const anm_kernels *kernels;
    anm_pool *pool; /* for packing; may be NULL */
    int64_t rows;   /* that a run takes at most; less than the graph's: the graph's */
    /* Told what of the file is packed and not read again: `n` bytes from `data` on. May be NULL. */
    void (*done_with)(void *ctx, const uint8_t *data, size_t n);
    void *ctx;
} anm_plan_opts;

/* Makes the plan of `m`, weights packed. ANM_ERR_UNSUPPORTED: no plan fits this graph; the text names the op. */
int anm_plan_new(anm_plan **out, const anm_method *m, const anm_plan_opts *opts, anm_error *err);
void anm_plan_free(anm_plan *p);
/* The most rows that a run takes. */
int64_t anm_plan_most_rows(const anm_plan *p);

/* Would a plan of `m` be the same as `p`, but for the number of rows? Then `p` computes `m` too. */
bool anm_plan_fits(const anm_plan *p, const anm_method *m);

/* Prints the steps, one a line. */
void anm_plan_print(anm_buf *to, const anm_plan *p);

/* The stages in which a plan is made. */
typedef enum anm_plan_stage {
    ANM_PLAN_LOWER, /* every op has a meaning, and there are steps */
    ANM_PLAN_MERGE, /* neighbouring linears of the same rows are one step */
    ANM_PLAN_PLACE, /* buffers that are not in use at the same time share memory: this is what runs */
} anm_plan_stage;

/* Prints what there is of m's plan after a stage, weights left alone; where no plan fits, how far it came and why not. */
int anm_plan_dump(anm_buf *to, const anm_method *m, anm_plan_stage after, anm_error *err);
/* Prints what became of the ops: how many went into which steps, and each that is a step of its own although such ops are
 * fused elsewhere. Where no plan fits: which ops the interpreter then runs, and the one that is to blame. */
int anm_plan_report(anm_buf *to, const anm_method *m, anm_error *err);

int anm_plan_work_new(anm_plan_work **out, const anm_plan *p, const anm_pool *pool, anm_error *err);
void anm_plan_work_free(anm_plan_work *w);

/* The rows of a step, as many as the plan takes (see anm_step in run/engine.h) and the rotary tables, [position][table_width]. */
typedef struct anm_plan_rows {
    int32_t n;
    const int32_t *token, *pos;
    const uint8_t *see, *want;
    const float *cos, *sin;
    anm_plan_times *times; /* NULL: nothing is measured */
} anm_plan_rows;

/* Computes the rows: wanted logits to `logits`, fresh keys and values to `kv`. Cannot fail. */
void anm_plan_run(float *logits, const anm_plan *p, anm_plan_work *w, anm_kv *kv, const anm_plan_rows *rows,
                  anm_pool *pool);

#endif
