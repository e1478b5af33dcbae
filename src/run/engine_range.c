/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The range of an fp16 run: which op overflowed first, and the largest magnitude per kind of op. Minus infinity that
 * comes from the mask is no overflow; so it is known beforehand which values may hold it.
 */
#include "run/engine_internal.h"

#include <math.h>

/* Ops that hand their operand's minus infinity on as it is. */
static bool hands_on(anm_mil_opcode c)
{
    switch (c) {
    case ANM_OP_ADD: case ANM_OP_SUB: case ANM_OP_MUL: case ANM_OP_SELECT: case ANM_OP_CAST: case ANM_OP_IDENTITY:
    case ANM_OP_MAXIMUM: case ANM_OP_MINIMUM: case ANM_OP_RESHAPE: case ANM_OP_TRANSPOSE: case ANM_OP_SQUEEZE:
    case ANM_OP_EXPAND_DIMS: case ANM_OP_TILE: case ANM_OP_CONCAT: case ANM_OP_STACK: case ANM_OP_SPLIT:
    case ANM_OP_SLICE_BY_INDEX: case ANM_OP_SLICE_BY_SIZE: case ANM_OP_GATHER: case ANM_OP_REDUCE_MAX:
        return true;
    default:
        return false;
    }
}

void anm_range_mark_masked(uint8_t *out, const anm_mil_function *fn, const anm_mil_value *mask)
{
    if (!mask) return;
    out[mask->id] = 1;
    for (const anm_mil_op *op = fn->first; op; op = op->next) {
        bool from = false;
        for (uint32_t i = 0; i < op->n_args; i++)
            for (uint32_t k = 0; k < op->args[i].count; k++) from |= out[op->args[i].value[k]->id] != 0;
        if (from && hands_on(op->code))
            for (uint32_t i = 0; i < op->n_outs; i++) out[op->outs[i]->id] = 1;
    }
}

void anm_range_note(anm_range *r, const uint8_t *masked, const anm_mil_op *op, const anm_mil_array *result)
{
    int64_t n;
    if (anm_dtype_class(result->type.dtype) != 'f' || !anm_mil_type_count(&result->type, &n)) return;
    bool may = masked && masked[op->outs[0]->id];
    float largest = 0;
    for (int64_t i = 0; i < n; i++) {
        float a = fabsf(result->f[i]);
        if (may && result->f[i] == -INFINITY) continue;
        if (a > largest || a != a) largest = a != a ? INFINITY : a;
        if (largest == INFINITY) break;
    }
    if (largest > r->largest[op->code]) r->largest[op->code] = largest;
    if (largest == INFINITY && !r->overflow_name) {
        r->overflow_name = op->outs[0]->name;
        r->overflow_op = op->code;
    }
}

void anm_range_print(FILE *to, const anm_range *r)
{
    if (r->overflow_name)
        fprintf(to, "fp16 overflow: first in %s (%s)\n", r->overflow_name, anm_mil_op_name(r->overflow_op));
    else fprintf(to, "fp16: nothing overflowed\n");
    fprintf(to, "largest magnitude by op:");
    for (int c = 1; c < ANM_OP_COUNT; c++)
        if (r->largest[c] > 0) fprintf(to, " %s %.5g", anm_mil_op_name((anm_mil_opcode)c), (double)r->largest[c]);
    fprintf(to, "\n");
}
