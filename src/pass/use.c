/* SPDX-License-Identifier: BSD-3-Clause */
#include "pass/pass.h"

#include <stdlib.h>

uint32_t *anm_pass_count_uses(const anm_mil_function *fn)
{
    uint32_t *uses = calloc((size_t)fn->n_values + 1, sizeof *uses);
    if (!uses) return NULL;
    for (const anm_mil_op *op = fn->first; op; op = op->next)
        for (uint32_t a = 0; a < op->n_args; a++)
            for (uint32_t i = 0; i < op->args[a].count; i++) uses[op->args[a].value[i]->id]++;
    for (uint32_t i = 0; i < fn->n_outputs; i++) uses[fn->outputs[i]->id]++;
    return uses;
}

bool anm_pass_is_output(const anm_mil_function *fn, const anm_mil_value *v)
{
    for (uint32_t i = 0; i < fn->n_outputs; i++)
        if (fn->outputs[i] == v) return true;
    return false;
}
