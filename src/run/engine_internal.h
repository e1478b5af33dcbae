/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What the engine's files share: a loaded program (engine_load.c, engine_join.c, engine_roles.c), the ways to run a step
 * (engine_interp.c, the plan), the range of an fp16 run (engine_range.c). Not for others.
 *
 * A file holds one or two methods; each is a chain of delegate calls (pieces). Loading joins a method's pieces into one
 * MIL function and finds out what its inputs and outputs stand for.
 */
#ifndef ANM_RUN_ENGINE_INTERNAL_H
#define ANM_RUN_ENGINE_INTERNAL_H

#include "base/bytes.h"
#include "base/map.h"
#include "coreml/coreml.h"
#include "plan/method.h"
#include "pte/pte.h"
#include "run/engine.h"

enum { ANM_METHOD_DECODE, ANM_METHOD_WIDE, ANM_METHOD_COUNT }; /* in a single-method file both are the same one */

/* A package of the file. */
typedef struct anm_opened {
    const uint8_t *data; /* the directory blob that it was read from */
    const anm_dir_file *metadata; /* metadata.json, or NULL */
    anm_package package;
    struct anm_opened *next;
} anm_opened;

/* A file, opened. Immutable. Values of its functions point into the map. */
typedef struct anm_loaded {
    anm_map map;
    anm_pte pte;
    anm_mil_program program;
    anm_arena graph_arena; /* of a program that was made of a model: small weights */
    anm_arena arena; /* the packages' lists, the tables, the methods' roles */
    anm_opened *packages;
    anm_engine_info info;
    anm_method method[ANM_METHOD_COUNT];
    int32_t n_methods;   /* 1 or 2 distinct ones */
    const float *cos, *sin; /* [max_context][table_width] */
    int64_t table_width;
} anm_loaded;

/* Opens the file; on failure nothing stays open. Errors begin with the path. */
int anm_loaded_open(anm_loaded *out, const char *path, anm_error *err);
void anm_loaded_close(anm_loaded *l);
/* engine_model.c: the same of a checkpoint, without a file. */
int anm_loaded_of_model(anm_loaded *out, const anm_model *model, const anm_model_form *form, anm_error *err);

/* engine_roles.c: fills info, method and tables from the constant methods and the signatures. */
int anm_loaded_find_roles(anm_loaded *l, anm_error *err);

/* engine_roles.c: what follows for the methods from info, and the other way round. Sizes out of range are refused, and what
 * the engine fills or reads as floats and is of another type: here, for programs of every form. */
int anm_loaded_share(anm_loaded *l, anm_error *err);

/* engine_legacy.c: the same for a program of the deprecated form, whose graph is rewritten on the way. */
bool anm_loaded_is_deprecated(const anm_loaded *l);
int anm_loaded_find_deprecated(anm_loaded *l, anm_error *err);

/* engine_join.c: the joined function of a method. */
int anm_loaded_join(anm_mil_function **out, anm_loaded *l, const anm_pte_method *m, anm_error *err);

/* engine_keys.c: how the method's cached keys are turned. */
anm_key_pairs anm_method_pairs(const anm_method *m);

/* ---- the range of an fp16 run (engine_range.c) ---- */

typedef struct anm_range {
    float largest[ANM_OP_COUNT];
    float (*by_layer)[ANM_OP_COUNT]; /* [n_layers + 2]: before the layers, each layer, behind them */
    const char *overflow_name; /* of the first value that overflowed, and its op */
    anm_mil_opcode overflow_op;
} anm_range;

/* Which values of `fn` may hold the mask's minus infinity: 1 in out[value id] (fn->n_values bytes, zeroed). */
void anm_range_mark_masked(uint8_t *out, const anm_mil_function *fn, const anm_mil_value *mask);
/* Which layer each value of the method's function is made in: out[value id] is 0 before the layers, then 1 for the first
 * one, and so on, n_layers + 1 behind the last. */
int anm_range_mark_layers(int32_t *out, const anm_method *m, anm_error *err);
/* Takes note of one op's result. */
void anm_range_note(anm_range *r, const uint8_t *masked, const int32_t *layer, const anm_mil_op *op, const anm_mil_array *result);
void anm_range_print(FILE *to, const anm_range *r);

/* ---- the interpreter's way (engine_interp.c) ---- */

typedef struct anm_interp_how {
    bool round_fp16;       /* every op */
    anm_rounding linear;   /* what linears take */
    anm_range *range;      /* may be NULL */
    const uint8_t *masked; /* for the range, as is … */
    const int32_t *layer;  /* … this */
    anm_pool *pool;        /* may be NULL */
} anm_interp_how;

/* A step through `m` by the interpreter. */
int anm_interp_step(float *logits, anm_kv *kv, const anm_loaded *l, const anm_method *m, const anm_step *step,
                    const anm_interp_how *how, anm_error *err);

#endif
