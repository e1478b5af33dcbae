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

int anm_pass_values_open(anm_pass_values *v, const anm_mil_function *fn, anm_error *err)
{
    const size_t n = (size_t)fn->n_values + 1;
    *v = (anm_pass_values){.to = calloc(n, sizeof *v->to), .is_output = calloc(n, sizeof *v->is_output)};
    if (!v->to || !v->is_output) {
        anm_pass_values_close(v);
        return anm_fail_memory(err, "a pass");
    }
    for (uint32_t i = 0; i < fn->n_outputs; i++) v->is_output[fn->outputs[i]->id] = true;
    return 0;
}

void anm_pass_values_close(anm_pass_values *v)
{
    free(v->to);
    free(v->is_output);
    *v = (anm_pass_values){0};
}
