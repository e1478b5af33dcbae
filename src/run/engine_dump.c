/* SPDX-License-Identifier: BSD-3-Clause */
/* What a program looks like on its way to be run: after each stage, as text. Nothing is packed or computed for it. */
#include "run/engine_internal.h"
#include "plan/plan.h"

#include <string.h>

static const char *const stage_name[] = {"join", "lower", "merge", "place", "report"};
enum { JOIN, FIRST_OF_PLAN, REPORT = 4, STAGES };

static int stage_named(const char *name)
{
    int i = 0;
    while (i < STAGES && strcmp(stage_name[i], name)) i++;
    return i;
}

bool anm_engine_has_stage(const char *name)
{
    return stage_named(name) < STAGES;
}

/* The graph, and as comments what its inputs and outputs stand for. */
static int dump_joined(anm_buf *to, const anm_method *m, anm_error *err)
{
    const anm_mil_function *fn = m->fn;
    const struct {
        const char *what;
        int32_t at;
    } in[] = {{"tokens", m->tokens}, {"mask", m->mask}, {"cos", m->cos}, {"sin", m->sin}, {"last position", m->last_pos}};
    for (size_t i = 0; i < sizeof in / sizeof *in; i++)
        if (in[i].at >= 0) anm_buf_printf(to, "# %s: %%%s\n", in[i].what, fn->inputs[in[i].at]->name);
    for (int64_t i = 0; i < m->n_layers; i++)
        anm_buf_printf(to, "# layer %lld: keys %%%s -> %%%s, values %%%s -> %%%s\n", (long long)i, fn->inputs[m->kv[i].k_in]->name,
                       fn->outputs[m->kv[i].k_out]->name, fn->inputs[m->kv[i].v_in]->name, fn->outputs[m->kv[i].v_out]->name);
    anm_buf_printf(to, "# logits: %%%s\n", fn->outputs[m->logits]->name);
    return anm_mil_print_function(to, fn, false, err);
}

int anm_engine_dump(anm_buf *to, const char *path, const char *stage, anm_error *err)
{
    anm_loaded l;
    int which = stage_named(stage), rc = anm_loaded_open(&l, path, err);
    if (rc) return rc;
    for (int32_t i = ANM_METHOD_COUNT; i-- > ANM_METHOD_COUNT - l.n_methods && !rc;) { /* the wide one first */
        const anm_method *m = &l.method[i];
        anm_buf_printf(to, "# method %s, %lld rows\n", m->fn->name, (long long)m->rows);
        rc = which == JOIN     ? dump_joined(to, m, err)
             : which == REPORT ? anm_plan_report(to, m, err)
                               : anm_plan_dump(to, m, (anm_plan_stage)(which - FIRST_OF_PLAN), err);
    }
    if (!rc && to->bad) rc = anm_fail_memory(err, "a program's text");
    if (rc && !strstr(err->text, path)) anm_error_prefix(err, path);
    anm_loaded_close(&l);
    return rc;
}
