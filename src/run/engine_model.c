/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A checkpoint as a program without a file: the exporter's graph of the model, its weights as floats in memory, run as
 * a loaded program is. No rounding to integers and no Core ML in between.
 *
 *   model -> graph (one method, one piece) -> weights made -> roles, from the graph's own signature
 */
#include "base/half.h"
#include "graph/graph.h"
#include "run/engine_internal.h"

#include <stdlib.h>
#include <string.h>

/* Gives every constant of `fn` that a weight stands for its bytes. */
static int make_weights(anm_mil_function *fn, anm_arena *a, anm_error *err)
{
    for (anm_mil_op *op = fn->first; op; op = op->next)
        for (uint32_t i = 0; i < op->n_args; i++)
            for (uint32_t k = 0; k < op->args[i].count; k++) {
                anm_mil_value *v = op->args[i].value[k];
                if (!v->constant || v->constant->data || !v->constant->source) continue;
                const anm_weight *w = v->constant->source;
                anm_blob *made = anm_arena_alloc(a, sizeof *made);
                uint8_t *data = anm_arena_alloc(a, v->constant->size);
                if (!made || !data) return anm_fail_memory(err, "the checkpoint's weights");
                int rc = anm_weight_make(data, NULL, w, 0, w->rows, err);
                if (rc) return rc;
                *made = (anm_blob){.size = v->constant->size, .data = data, .in_file = true};
                v->constant = made;
            }
    return 0;
}

static int make_tables(anm_loaded *l, const anm_model *m, bool fp16, anm_error *err)
{
    const anm_params *p = &m->params;
    l->info.max_context = p->table_rows;
    l->table_width = p->use_hf_rope ? p->head_dim : p->head_dim / 2;
    size_t n = (size_t)(l->info.max_context * l->table_width);
    float *x = anm_arena_array(&l->arena, n, 2 * sizeof *x);
    if (!x) return anm_fail_memory(err, "the rotary tables");
    int rc = anm_rope_tables(x, x + n, m, l->info.max_context, err);
    for (size_t i = 0; i < 2 * n && fp16; i++) x[i] = anm_f16_to_f32(anm_f32_to_f16(x[i]));
    l->cos = x;
    l->sin = x + n;
    return rc;
}

static int find_roles(anm_loaded *l, anm_graph *g, anm_error *err)
{
    anm_method *m = &l->method[ANM_METHOD_DECODE];
    const anm_params *p = &g->model->params;
    anm_graph_signature s;
    int rc = anm_graph_sign(&s, g, 0, 0, err);
    if (rc) return rc;
    m->fn = l->program.functions;
    m->rows = m->logits_rows = g->recipe.input_len;
    m->last_pos = -1;
    m->kv = anm_arena_array(&l->arena, (size_t)p->n_layers, sizeof *m->kv);
    if (!m->kv) return anm_fail_memory(err, "program");
    for (int32_t i = 0; i < s.n_inputs; i++) switch (s.inputs[i].role) {
        case ANM_ROLE_TOKENS: m->tokens = i; break;
        case ANM_ROLE_MASK: m->mask = i; break;
        case ANM_ROLE_COS: m->cos = i; break;
        case ANM_ROLE_SIN: m->sin = i; break;
        case ANM_ROLE_K_CACHE: m->kv[s.inputs[i].index].k_in = i; break;
        case ANM_ROLE_V_CACHE: m->kv[s.inputs[i].index].v_in = i; break;
        default: break;
        }
    for (int32_t i = 0; i < s.n_outputs; i++) switch (s.outputs[i].role) {
        case ANM_ROLE_NEW_K: m->kv[s.outputs[i].index].k_out = i; break;
        case ANM_ROLE_NEW_V: m->kv[s.outputs[i].index].v_out = i; break;
        default: m->logits = i; break;
        }
    anm_engine_info *info = &l->info;
    info->vocab_size = p->vocab_size;
    info->head_dim = p->head_dim;
    info->n_kv_heads = p->n_kv_heads;
    info->n_layers = p->n_layers;
    info->cache_len = g->recipe.cache_len;
    info->fp16_cache = g->recipe.type == ANM_DT_F16;
    info->evicts = true;
    return anm_loaded_share(l, err);
}

int anm_loaded_of_model(anm_loaded *out, const anm_model *model, const anm_model_form *form, anm_error *err)
{
    memset(out, 0, sizeof *out);
    anm_arena_init(&out->arena);
    anm_mil_program_init(&out->program);
    anm_recipe recipe = anm_recipe_default();
    recipe.type = form->fp16 ? ANM_DT_F16 : ANM_DT_F32;
    recipe.input_len = form->input_len;
    recipe.cache_len = form->cache_len;
    recipe.max_context_len = form->input_len + form->cache_len;
    recipe.graph_breaks = false;
    recipe.lean = true;
    recipe.split_size = INT64_MAX;
    recipe.linear_bits = recipe.embedding_bits = 0;
    anm_graph g;
    int rc = anm_graph_plan(&g, model, &recipe, err);
    if (!rc) rc = anm_graph_build(&out->program, &g, 0, err);
    if (!rc) rc = anm_mil_verify(&out->program, true, err);
    if (!rc) rc = make_weights(out->program.functions, &out->program.arena, err);
    if (!rc) rc = make_tables(out, model, form->fp16, err);
    if (!rc) rc = find_roles(out, &g, err);
    /* Small weights (norms, biases) lie in the graph's arena. */
    out->graph_arena = g.arena;
    if (rc) anm_loaded_close(out);
    return rc;
}
