/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The engine: a program's methods, loaded from the file, run row by row. It knows tokens, positions and the cache;
 * it does not know text, sampling or the order in which tokens are drawn (run/session does).
 *
 * One answer whatever the way: a row's result does not depend on the rows beside it, the chunk, or the threads.
 */
#ifndef ANM_RUN_ENGINE_H
#define ANM_RUN_ENGINE_H

#include "base/error.h"
#include "base/pool.h"
#include "plan/plan.h"
#include "mil/mil.h"
#include "model/model.h"

#include <stdbool.h>
#include <stdio.h>

/* What the file says of itself (its constant methods and its signatures). */
typedef struct anm_engine_info {
    int64_t vocab_size, head_dim, n_kv_heads, n_layers;
    int64_t max_context;    /* rows of the rotary table */
    int64_t cache_len;      /* entries of the cache that a method takes */
    int64_t input_len;      /* rows of the widest method */
    int64_t step_len;       /* rows that a step takes at most: as many, or more where the engine can */
    int64_t decode_len;     /* rows of `forward`: 1 in a multifunction file, input_len in a single-method one */
    bool multifunction;
    bool all_logits;        /* the widest method gives logits at every row, not only at the last valid one */
    bool deprecated;        /* a file of the older form (export.py) */
    bool evicts;            /* a full cache takes new entries in the places of the oldest, as that form's runner does */
    bool fp16_cache;        /* the type of the cache that the file declares; false: fp32 */
} anm_engine_info;

typedef struct anm_engine_opts {
    anm_precision precision; /* anemone.h; FP16: the interpreter, every op rounded to its declared type */
    anm_pool *pool; /* may be NULL: one thread */
    bool ranges;    /* by the interpreter, keeping the largest magnitudes (anm_state_largest), as FP16 always does */
    bool interpret; /* use the plain interpreter where a plan would fit, too: slow; to compare with (in exact precision) */
    anm_rounding linear; /* what linears take is rounded to this, by the interpreter: slow; to hold the kernels' against */
} anm_engine_opts;

typedef struct anm_engine anm_engine; /* loaded: immutable, shared by sessions */
typedef struct anm_state anm_state;   /* one conversation: cache and scratch; one thread at a time */

int anm_engine_open(anm_engine **out, const char *path, const anm_engine_opts *opts, anm_error *err);

/* The checkpoint itself: its weights as floats, in memory, no file in between. A full cache evicts. */
typedef struct anm_model_form {
    int64_t input_len, cache_len; /* rows of a step, cached entries; positions as params->table_rows says */
    bool fp16;                    /* the type of weights, tables and cache; else fp32 */
} anm_model_form;
int anm_engine_of_model(anm_engine **out, const anm_model *model, const anm_model_form *form, const anm_engine_opts *opts,
                        anm_error *err);
void anm_engine_free(anm_engine *e);
const anm_engine_info *anm_engine_get_info(const anm_engine *e);

/* Why the plain interpreter runs this program ("OP NAME: reason"; slow), or NULL when a plan does. */
const char *anm_engine_unplanned(const anm_engine *e);
/* The plan of many rows, or that of one: often the same; NULL where the interpreter runs it. */
const anm_plan *anm_engine_plan(const anm_engine *e, bool wide);
/* The kernels that plans run by. */
const anm_kernels *anm_engine_kernels(const anm_engine *e);
/* Prints a file's methods as they are after a stage of loading: "join" (one graph of all pieces, as MIL text), "lower" (each
 * op's meaning), "merge" and "place" (the steps; plan/plan.h), or the "report" of what became of the ops. */
int anm_engine_dump(anm_buf *to, const char *path, const char *stage, anm_error *err);
bool anm_engine_has_stage(const char *name);

int anm_state_new(anm_state **out, anm_engine *e, anm_error *err);
void anm_state_free(anm_state *s);
void anm_state_reset(anm_state *s); /* an empty cache */
int64_t anm_state_cached(const anm_state *s);

/* One pass over up to step_len rows. */
typedef struct anm_step {
    int32_t n;            /* rows, 1 … step_len */
    const int32_t *token; /* [n], each in [0, vocab_size) */
    const int32_t *pos;   /* [n] rows of the rotary table, each in [0, max_context) */
    const uint8_t *see;   /* [n * n]: row i attends to row j of this pass where see[i * n + j]; NULL: causal (j <= i) */
    const uint8_t *want;  /* [n]: rows whose logits are wanted; NULL: the last one */
} anm_step;

/* Runs the rows against the cache (all cached entries are visible to every row). logits[] receives, for each wanted
 * row in order, vocab_size fp32 values. New keys and values stay with the state until the next step: */
int anm_state_step(float *logits, anm_state *s, const anm_step *step, anm_error *err);

/* … and commit puts rows [row, row + n) of the last step at the end of the cache (as the reference's _update_states).
 * Fails with ANM_ERR_LIMIT when they do not fit; where the engine evicts, they take the oldest entries' places. */
int anm_state_commit(anm_state *s, int32_t row, int32_t n, anm_error *err);

/* Forgets cached entries from `keep` on (cheap: they are only marked free). */
void anm_state_truncate(anm_state *s, int64_t keep);

/* From now on measures where steps' time goes, until a reset from zero; `now` is a clock in seconds. */
void anm_state_measure(anm_state *s, double (*now)(void));
/* The same, and what each of the plan's stages took (plan/report.h): added to wide[], of the plan of many rows, and to
 * narrow[], of the one that a single row takes (one array where both are one plan). NULL, NULL: no more. */
void anm_state_measure_stages(anm_state *s, double (*now)(void), double *wide, double *narrow);
/* What was measured; NULL where nothing is: it was not asked for, or the interpreter runs the program. */
const anm_plan_times *anm_state_times(const anm_state *s);

/* Drops cached entries [first, first + n): those behind take their places and, as to their positions, their part: keys
 * are cached rotated, so they are turned back by n positions (in fp32; each time rounds them to the cache's type once). */
int anm_state_evict(anm_state *s, int64_t first, int64_t n, anm_error *err);

/* After ANM_PRECISION_FP16 steps: the first op whose result overflowed, if any, and the largest magnitude per kind of
 * op, as lines of text. */
void anm_state_print_range(FILE *to, const anm_state *s);
/* The largest magnitude that ops of kind `code` gave in a layer of all steps so far: -1 is what comes before the layers,
 * n_layers what comes behind them. 0 where there was none, or ranges are not kept. Minus infinity of the mask is left out. */
float anm_state_largest(const anm_state *s, int64_t layer, anm_mil_opcode code);

#endif
