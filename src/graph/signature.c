/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The order of a piece's inputs and outputs.
 *
 * With graph breaks the reference's partitioner makes each piece by a breadth-first walk of its part of the graph, and
 * an input stands where that walk first needs it. A layer's new values are ready a few steps before its keys, which are
 * rotated first, and before the scores, which are masked; so a piece of layers takes
 *
 *   hidden, v_cache, cos, sin, k_cache, mask, then v_cache, k_cache of every further layer;
 *   with use_hf_rope cos and sin go first: they are given a batch dimension, which needs nothing else.
 *
 * Without breaks the graph is one piece as it stands, in plain order of use:
 *
 *   tokens, cos, sin, k_cache, v_cache, mask, then k_cache, v_cache of every further layer, last_valid_token_pos
 *
 * Outputs: new_v, new_k of every layer, then the hidden state or the logits.
 */
#include "graph/parts.h"

static void add(anm_graph_io *list, int32_t *n, anm_role role, int64_t index)
{
    list[(*n)++] = (anm_graph_io){role, index};
}

static void add_inputs(anm_graph_signature *s, const anm_graph *g, int32_t at, const anm_graph_method *m)
{
    const anm_graph_piece *p = g->pieces + at;
    bool cached = g->recipe.cache_len > 0, in_order = p->embeds && p->end > p->first, turned_first = g->model->params.use_hf_rope;
    anm_role first = in_order ? ANM_ROLE_K_CACHE : ANM_ROLE_V_CACHE, second = in_order ? ANM_ROLE_V_CACHE : ANM_ROLE_K_CACHE;
    anm_graph_io *in = s->inputs;
    int32_t *n = &s->n_inputs;
    if (p->embeds) add(in, n, ANM_ROLE_TOKENS, 0);
    for (int64_t l = p->first; l < p->end; l++) {
        if (l > p->first) {
            if (cached) add(in, n, first, l), add(in, n, second, l);
            continue;
        }
        if (!in_order && !turned_first) {
            add(in, n, ANM_ROLE_HIDDEN, at - 1);
            if (cached) add(in, n, first, l);
        }
        add(in, n, ANM_ROLE_COS, 0);
        add(in, n, ANM_ROLE_SIN, 0);
        if (!in_order && turned_first) add(in, n, ANM_ROLE_HIDDEN, at - 1);
        if (cached && (in_order || turned_first)) add(in, n, first, l);
        if (cached) add(in, n, second, l);
        add(in, n, ANM_ROLE_MASK, 0);
    }
    if (p->gives_logits && p->end == p->first) add(in, n, ANM_ROLE_HIDDEN, at - 1);
    if (p->gives_logits && m->last_only) add(in, n, ANM_ROLE_LAST, 0);
}

int anm_graph_sign(anm_graph_signature *out, anm_graph *g, int32_t piece, int32_t method, anm_error *err)
{
    const anm_graph_piece *p = g->pieces + piece;
    size_t most = 8 + 2 * (size_t)(p->end - p->first);
    *out = (anm_graph_signature){.inputs = anm_arena_array(&g->arena, most, sizeof *out->inputs),
                                 .outputs = anm_arena_array(&g->arena, most, sizeof *out->outputs)};
    if (!out->inputs || !out->outputs) return anm_fail_memory(err, "a signature");
    if (g->recipe.form == ANM_FORM_DEPRECATED) {
        anm_legacy_sign(out, g);
        return 0;
    }
    add_inputs(out, g, piece, g->method + method);
    for (int64_t l = p->first; l < p->end && g->recipe.cache_len; l++) {
        add(out->outputs, &out->n_outputs, ANM_ROLE_NEW_V, l);
        add(out->outputs, &out->n_outputs, ANM_ROLE_NEW_K, l);
    }
    if (p->gives_logits) add(out->outputs, &out->n_outputs, ANM_ROLE_LOGITS, 0);
    else add(out->outputs, &out->n_outputs, ANM_ROLE_HIDDEN, piece);
    return 0;
}

anm_mil_type anm_graph_type(const anm_graph *g, int32_t method, anm_graph_io io)
{
    const anm_params *p = &g->model->params;
    const anm_graph_method *m = g->method + method;
    const int64_t rows = m->rows, angles = p->use_hf_rope ? p->head_dim : p->head_dim / 2, cached = g->recipe.cache_len;
    anm_dtype t = g->recipe.type;
    if (g->recipe.form == ANM_FORM_DEPRECATED) return anm_legacy_type(g, io);
    switch (io.role) {
    case ANM_ROLE_TOKENS: return anm_mil_tensor(ANM_DT_I32, 2, (const int64_t[]){1, rows});
    case ANM_ROLE_MASK: return anm_mil_tensor(t, 3, (const int64_t[]){1, rows, rows + cached});
    case ANM_ROLE_COS:
    case ANM_ROLE_SIN: return anm_mil_tensor(t, 2, (const int64_t[]){rows, angles});
    case ANM_ROLE_K_CACHE:
    case ANM_ROLE_V_CACHE: return anm_mil_tensor(t, 4, (const int64_t[]){1, p->n_kv_heads, cached, p->head_dim});
    case ANM_ROLE_NEW_K:
    case ANM_ROLE_NEW_V: return anm_mil_tensor(t, 4, (const int64_t[]){1, p->n_kv_heads, rows, p->head_dim});
    case ANM_ROLE_POSITION:
    case ANM_ROLE_LENGTH:
    case ANM_ROLE_LAST: return anm_mil_tensor(ANM_DT_I32, 1, (const int64_t[]){1});
    case ANM_ROLE_HIDDEN: return anm_mil_tensor(t, 3, (const int64_t[]){1, rows, p->dim});
    case ANM_ROLE_LOGITS: return anm_mil_tensor(t, 3, (const int64_t[]){1, m->last_only ? 1 : rows, p->vocab_size});
    }
    return anm_mil_scalar(t);
}
