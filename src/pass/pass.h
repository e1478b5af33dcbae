/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Rewrites of a MIL function, one a file. Each opens with a picture of before and after, and says what it requires,
 * keeps and breaks. Those of the exporter do what coremltools' passes of the same purpose do to the reference's graph
 * (converters/mil/mil/passes/defs), so that the same program comes out whatever the shapes.
 */
#ifndef ANM_PASS_PASS_H
#define ANM_PASS_PASS_H

#include "mil/mil.h"

typedef int anm_pass_fn(anm_mil_function *fn, anm_error *err);

anm_pass_fn anm_pass_remove_noops;    /* noop_elimination */
anm_pass_fn anm_pass_merge_reshapes;  /* merge_consecutive_reshapes */
anm_pass_fn anm_pass_remove_repeated; /* const_deduplication of constexpr ops, remove_redundant_ops */
anm_pass_fn anm_pass_remove_unused;   /* dead_code_elimination */

/* Of a whole program, since its functions share the weight file; before the others: const_deduplication of what comes from
 * different tensors but is equal in bytes. Weights' sources are anm_weights. */
int anm_pass_share_weights(anm_mil_program *p, anm_error *err);

/* ---- what passes ask (use.c) ---- */

/* How often each value is used, by value id: as an argument, and as an output of the function, which counts as a use.
 * NULL when memory is out; free() it. */
uint32_t *anm_pass_count_uses(const anm_mil_function *fn);

/* What a pass that replaces values in one walk keeps of each, by value id. */
typedef struct anm_pass_values {
    anm_mil_value **to; /* what stands for it from here on (anm_mil_replace_args), or NULL */
    bool *is_output;    /* of the function: its op stays, so that nothing ever stands for it */
} anm_pass_values;

int anm_pass_values_open(anm_pass_values *v, const anm_mil_function *fn, anm_error *err);
void anm_pass_values_close(anm_pass_values *v);

#endif
