/* SPDX-License-Identifier: BSD-3-Clause */
/* A piece of the model as MIL: its inputs, its parts in order, its outputs. */
#include "graph/parts.h"

#include <stdio.h>

static bool is_legacy(const anm_hand *h)
{
    return h->graph->recipe.form == ANM_FORM_DEPRECATED;
}

/* Where a role's value is kept while the piece is built. NULL for the roles that are no inputs of their own. */
static anm_mil_value **place_of(anm_hand *h, anm_graph_io io, anm_mil_value **hidden)
{
    switch (io.role) {
    case ANM_ROLE_TOKENS: return &h->tokens;
    case ANM_ROLE_MASK: return &h->mask;
    case ANM_ROLE_COS: return &h->cos;
    case ANM_ROLE_SIN: return &h->sin;
    case ANM_ROLE_LAST:
    case ANM_ROLE_LENGTH: return &h->last;
    case ANM_ROLE_POSITION: return &h->position;
    case ANM_ROLE_K_CACHE: return h->k_cache + io.index;
    case ANM_ROLE_V_CACHE: return h->v_cache + io.index;
    default: return hidden;
    }
}

static const char *name_of(anm_hand *h, anm_graph_io io)
{
    bool all = is_legacy(h) && !h->graph->recipe.cache_list; /* layers in one tensor */
    switch (io.role) {
    case ANM_ROLE_TOKENS: return "tokens";
    case ANM_ROLE_MASK: return "mask";
    case ANM_ROLE_COS: return "cos";
    case ANM_ROLE_SIN: return "sin";
    case ANM_ROLE_LAST: return "last_valid_token_pos";
    case ANM_ROLE_POSITION: return "input_pos";
    case ANM_ROLE_LENGTH: return "input_length";
    case ANM_ROLE_K_CACHE: return all ? "k_caches" : anm_name(h, "k_cache_%d", (int)io.index);
    case ANM_ROLE_V_CACHE: return all ? "v_caches" : anm_name(h, "v_cache_%d", (int)io.index);
    case ANM_ROLE_NEW_K: return all ? "new_k" : anm_name(h, "new_k_%d", (int)io.index);
    case ANM_ROLE_NEW_V: return all ? "new_v" : anm_name(h, "new_v_%d", (int)io.index);
    case ANM_ROLE_HIDDEN: return anm_name(h, "hidden_%d", (int)io.index);
    case ANM_ROLE_LOGITS: return "logits";
    }
    return "";
}

/* Halves rotate with tables that have a batch dimension: made once, for all layers. */
static void widen_tables(anm_hand *h)
{
    const int64_t first = 0;
    h->cos = anm_mil_emit(&h->b, ANM_OP_EXPAND_DIMS, "cos_all", ANM_P_X, h->cos, ANM_P_AXES,
                          anm_mil_const_i32s(&h->b, 1, &first), ANM_P_END);
    h->sin = anm_mil_emit(&h->b, ANM_OP_EXPAND_DIMS, "sin_all", ANM_P_X, h->sin, ANM_P_AXES,
                          anm_mil_const_i32s(&h->b, 1, &first), ANM_P_END);
}

static anm_mil_value *build_layer(anm_hand *h, anm_mil_value *x, int64_t i, anm_mil_value **new_k, anm_mil_value **new_v)
{
    const anm_graph_layer *l = h->graph->layers + i;
    snprintf(h->prefix, sizeof h->prefix, "layers_%d_", (int)i);
    anm_mil_value *y = anm_norm(h, "attention_norm", x, l->attention_norm);
    y = is_legacy(h) ? anm_legacy_attend(h, y, i, new_k, new_v) : anm_attend(h, y, i, new_k, new_v);
    x = anm_mil_emit(&h->b, ANM_OP_ADD, anm_name(h, "after_attention"), ANM_P_X, x, ANM_P_Y, y, ANM_P_END);
    y = anm_norm(h, "ffn_norm", x, l->ffn_norm);
    y = anm_feed_forward(h, y, l);
    x = anm_mil_emit(&h->b, ANM_OP_ADD, anm_name(h, "output"), ANM_P_X, x, ANM_P_Y, y, ANM_P_END);
    h->prefix[0] = 0;
    return x;
}

static int build_function(anm_mil_program *program, anm_graph *g, int32_t piece, int32_t method, anm_error *err)
{
    const anm_graph_piece *p = g->pieces + piece;
    size_t layers = (size_t)g->model->params.n_layers;
    anm_graph_signature s;
    int rc = anm_graph_sign(&s, g, piece, method, err);
    if (rc) return rc;
    anm_mil_function *fn = anm_mil_function_new(program, g->method[method].function, "CoreML8");
    anm_mil_value **cache = anm_arena_array(&g->arena, layers, 4 * sizeof *cache);
    if (!fn || !cache) return anm_fail_memory(err, "a graph");
    anm_mil_value **new_k = cache + 2 * layers, **new_v = cache + 3 * layers, *x = NULL;
    anm_hand h = {.graph = g, .method = g->method + method, .b = anm_mil_build(fn), .k_cache = cache, .v_cache = cache + layers};

    for (int32_t i = 0; i < s.n_inputs; i++)
        *place_of(&h, s.inputs[i], &x) = anm_mil_input(&h.b, name_of(&h, s.inputs[i]), anm_graph_type(g, method, s.inputs[i]));
    if (is_legacy(&h)) anm_legacy_open(&h);
    else if (p->end > p->first && g->model->params.use_hf_rope) widen_tables(&h);
    if (p->embeds) x = anm_embed(&h);
    for (int64_t l = p->first; l < p->end; l++) x = build_layer(&h, x, l, new_k + l, new_v + l);
    if (p->gives_logits) x = is_legacy(&h) ? anm_legacy_logits(&h, x) : anm_logits(&h, x);
    if (is_legacy(&h)) anm_legacy_close(&h, new_k, new_v);

    for (int32_t i = 0; i < s.n_outputs; i++) {
        anm_graph_io io = s.outputs[i];
        anm_mil_value *v = io.role == ANM_ROLE_NEW_K ? new_k[io.index] : io.role == ANM_ROLE_NEW_V ? new_v[io.index] : x;
        v->name = anm_arena_strdup(&program->arena, name_of(&h, io)); /* what it is to the caller, not how it was made */
        if (!v->name) return anm_fail_memory(err, "a graph");
        anm_mil_output(&h.b, v);
    }
    if (!h.b.err.code) return 0;
    if (err) *err = h.b.err;
    return h.b.err.code;
}

int anm_graph_build(anm_mil_program *program, anm_graph *g, int32_t piece, anm_error *err)
{
    int rc = 0;
    anm_mil_program_init(program);
    for (int32_t m = 0; m < g->n_methods && !rc; m++) rc = build_function(program, g, piece, m, err);
    return rc;
}
