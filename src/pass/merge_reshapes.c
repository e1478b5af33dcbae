/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Makes one reshape of several in a row:
 *
 *   x -> reshape A -> reshape B -> y   =>   x -> reshape B -> y
 *
 * where A's result is used by B alone and is no output of the function.
 *
 * requires: B's shape is spelled out but for one -1 at most, never relative to A's
 * keeps:    the function's signature, every remaining value exactly
 * breaks:   nothing
 */
#include "pass/pass.h"

#include <stdlib.h>

static anm_mil_arg *arg_x(anm_mil_op *op)
{
    for (uint32_t i = 0; i < op->n_args; i++)
        if (op->args[i].param == ANM_P_X) return op->args + i;
    return NULL;
}

int anm_pass_merge_reshapes(anm_mil_function *fn, anm_error *err)
{
    uint32_t *uses = anm_pass_count_uses(fn);
    if (!uses) return anm_fail_memory(err, "a pass");
    for (anm_mil_op *op = fn->first; op; op = op->next) {
        if (op->code != ANM_OP_RESHAPE) continue;
        anm_mil_arg *x = arg_x(op);
        anm_mil_op *before = x ? x->value[0]->def : NULL;
        if (!before || before->code != ANM_OP_RESHAPE || uses[x->value[0]->id] != 1) continue;
        x->value[0] = arg_x(before)->value[0]; /* before's use of it becomes ours: the count stays */
        anm_mil_remove(fn, before);
    }
    free(uses);
    return 0;
}
