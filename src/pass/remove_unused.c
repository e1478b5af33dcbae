/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Takes out ops whose results nothing uses, last first, so that what only fed them goes too.
 *
 * requires: nothing
 * keeps:    the function's signature, every remaining value exactly
 * breaks:   nothing (ops of MIL have no side effects here)
 */
#include "pass/pass.h"

#include <stdlib.h>

static bool is_used(const anm_mil_op *op, const uint32_t *uses)
{
    for (uint32_t i = 0; i < op->n_outs; i++)
        if (uses[op->outs[i]->id]) return true;
    return false;
}

int anm_pass_remove_unused(anm_mil_function *fn, anm_error *err)
{
    uint32_t *uses = anm_pass_count_uses(fn);
    if (!uses) return anm_fail_memory(err, "a pass");
    for (anm_mil_op *op = fn->last, *prev; op; op = prev) {
        prev = op->prev;
        if (is_used(op, uses)) continue;
        for (uint32_t a = 0; a < op->n_args; a++)
            for (uint32_t i = 0; i < op->args[a].count; i++) uses[op->args[a].value[i]->id]--;
        anm_mil_remove(fn, op);
    }
    free(uses);
    return 0;
}
